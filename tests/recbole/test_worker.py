"""How the worker keeps a model, and finds it again, with stand-ins for those of RecBole."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from trec_cli.recbole import worker


class _Counting(torch.nn.Module):
    """A model that has learnt something beside its state, as Pop has."""

    def __init__(self, value: float, size: int = 2) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((size,), value))
        self.counts: Any = None

    def other_parameter(self) -> dict[str, Any]:
        return {"counts": self.counts, "made when built": [1]}


def _trial(value: float, size: int = 2) -> Any:
    return SimpleNamespace(model=_Counting(value, size), device="cpu")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Keep a model of ones that has counted 3."""
    trial = _trial(1.0)
    trial.model.counts = torch.tensor([3])
    file = tmp_path / "learnt" / "model.npz"
    worker.keep(trial, 0.25, 7, file, tmp_path / "trial-0.model")
    return file


def test_a_kept_model_is_found_again_with_what_stands_beside_its_state(kept: Path) -> None:
    trial = _trial(0.0)
    assert worker.load(trial, kept) == (0.25, 7)
    assert trial.model.weight.tolist() == [1.0, 1.0]
    assert trial.model.counts.tolist() == [3]
    assert [file.name for file in kept.parent.iterdir()] == ["model.npz"]
    assert not (kept.parent.parent / "trial-0.model").exists()


def test_a_file_that_does_not_fit_leaves_the_model_as_it_is(kept: Path, tmp_path: Path) -> None:
    content = kept.read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.npz").touch()
    np.savez(tmp_path / "object.npz", valid_mrr=0.25, epoch=7, other=np.array([{}]))
    one = content.index(np.ones(2, np.float32).tobytes())
    (tmp_path / "garbled.npz").write_bytes(content[:one] + b"!" + content[one + 1 :])
    for name in ("cut", "empty", "object", "garbled", "missing"):
        trial = _trial(0.0)
        assert worker.load(trial, tmp_path / f"{name}.npz") is None, name
        assert trial.model.weight.tolist() == [0.0, 0.0], name
    larger = _trial(0.0, size=3)
    assert worker.load(larger, kept) is None
    assert larger.model.weight.tolist() == [0.0] * 3
