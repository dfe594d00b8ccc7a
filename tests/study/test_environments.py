"""Each of several commands has its share of the cores, and a GPU."""

from pathlib import Path

import pytest

from trec_cli.study.launch import environments, gpus


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six cores, no GPU, nothing set."""
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("trec_cli.study.launch._cores", lambda: 6)
    monkeypatch.setattr("trec_cli.study.launch.shutil.which", lambda _: None)


def test_one_command_has_the_machine_as_it_is() -> None:
    (only,) = environments(1)
    assert "OMP_NUM_THREADS" not in only
    assert "CUDA_VISIBLE_DEVICES" not in only


@pytest.mark.parametrize(("number", "threads"), [(2, "3"), (4, "1"), (9, "1")])
def test_cores_are_shared_and_each_has_one_at_least(number: int, threads: str) -> None:
    assert [each["OMP_NUM_THREADS"] for each in environments(number)] == [threads] * number


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert {each["OMP_NUM_THREADS"] for each in environments(2)} == {"5"}


def test_gpus_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-5f")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in environments(3)] == ["2", "GPU-5f", "2"]


def test_hidden_gpus_stay_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    assert {each["CUDA_VISIBLE_DEVICES"] for each in environments(2)} == {""}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('echo "GPU 0: NVIDIA H100 (UUID: a)"; echo "GPU 1: NVIDIA H100 (UUID: b)"', ["0", "1"]),
        ("echo no devices; exit 9", []),
    ],
)
def test_the_driver_s_tool_counts_gpus(
    text: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{text}\n")
    tool.chmod(0o755)
    monkeypatch.setattr("trec_cli.study.launch.shutil.which", lambda _: str(tool))
    assert gpus() == found
