"""Device and dtype are chosen with a reason, and refused in words."""

import pytest
import torch

from trec_cli.core.errors import UsageError
from trec_cli.models.device import choose_device


def _without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def _with_cuda(monkeypatch: pytest.MonkeyPatch, *, bfloat16: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat16)


def test_without_a_gpu_it_is_the_cpu_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_gpu(monkeypatch)
    placement = choose_device()
    assert (placement.device.type, placement.dtype) == ("cpu", torch.float32)
    assert "no GPU found" in placement.reason
    assert "float32" in placement.reason


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_with_cuda_it_is_half_precision_that_the_card_has(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool, dtype: torch.dtype
) -> None:
    _with_cuda(monkeypatch, bfloat16=bfloat16)
    placement = choose_device()
    assert (placement.device.type, placement.dtype) == ("cuda", dtype)
    assert "Some GPU" in placement.reason


def test_apples_gpu_is_taken_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    _without_gpu(monkeypatch)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    placement = choose_device()
    assert (placement.device.type, placement.dtype) == ("mps", torch.float32)


def test_what_is_asked_for_is_taken_and_said() -> None:
    placement = choose_device("cpu", "bfloat16")
    assert (placement.device.type, placement.dtype) == ("cpu", torch.bfloat16)
    assert placement.reason == "cpu (as asked), bfloat16 as asked"


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "", "cuda:99", "nonsense device"])
def test_a_device_that_is_not_there_is_wrong_usage(device: str) -> None:
    with pytest.raises(UsageError, match=f"--device {device} cannot be used here"):
        choose_device(device)


@pytest.mark.parametrize("dtype", ["float8", "int4", "", "torch.float32"])
def test_an_unknown_dtype_is_wrong_usage(dtype: str) -> None:
    with pytest.raises(UsageError, match="choose one of auto, float32, bfloat16, float16"):
        choose_device("cpu", dtype)
