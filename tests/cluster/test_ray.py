"""``--engine ray``: a local cluster of two workers, of which one is killed."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.test_merge import NAME, command, copied, score, trec
from tests.commands.test_summarize import make_run as summary_run
from tests.conftest import ROOT
from tests.score.small_run import make_run
from trec_cli.core.shards import BLOCK

TinyModel = Callable[..., Path]
WORKERS = ("--engine", "ray", "--workers", 2)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install ray"
)


def test_without_ray_the_command_says_what_to_install(
    tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    run = make_run(tmp_path / "run")
    result = trec(*command(run, tiny_model("llama"), *WORKERS))
    assert (result.exit_code, "pip install 'trec-cli[ray]'" in result.stderr) == (2, True)


def test_options_of_the_cluster_are_for_its_engine(tmp_path: Path, tiny_model: TinyModel) -> None:
    run = make_run(tmp_path / "run")
    for stage in ("score", "summarize"):
        result = trec(stage, run, "--workers", 2, "--model", tiny_model("llama"))
        assert (result.exit_code, "--workers is for --engine ray" in result.stderr) == (2, True)


def started(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "trec_cli", *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # Ray's workers are nice to all others, and on a busy machine would never end.
        env={**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
    )


def worker_of(driver: int) -> int | None:
    """Return a process that makes a shard, below the driver's own Ray."""
    parents: dict[int, tuple[int, bytes]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
            name = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        told = next(line for line in status.splitlines() if line.startswith("PPid:"))
        parents[int(folder.name)] = (int(told.split()[1]), name)
    for pid, (parent, name) in parents.items():
        if not name.startswith(b"ray::_work"):
            continue
        while parent > 1 and parent != driver:
            parent = parents.get(parent, (0, b""))[0]
        if parent == driver:
            return pid
    return None


@needs_ray
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the worker in /proc")
def test_a_killed_worker_is_started_again_and_the_bytes_are_the_same(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    run = make_run(tmp_path / "run", {"test": 6 * BLOCK}, candidates=12)
    alone, model = copied(run, "alone"), tiny_model("llama")
    score(alone, model)
    driver = started(*command(run, model, *WORKERS))
    journals = [run / f"{NAME}.shards" / f".{n}-of-2.jsonl.partial" for n in (1, 2)]
    killed = None
    while driver.poll() is None and killed is None:
        if any(path.exists() and path.read_bytes().count(b"\n") > 3 for path in journals):
            killed = worker_of(driver.pid)
            if killed:
                os.kill(killed, signal.SIGKILL)
        time.sleep(0.01)
    _, told = driver.communicate(timeout=900)
    assert driver.returncode == 0, told
    assert killed is not None
    assert (run / NAME).read_bytes() == (alone / NAME).read_bytes()


@needs_ray
@pytest.mark.slow
def test_summaries_of_a_cluster_are_those_of_a_local_run(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    run = summary_run(tmp_path / "run", users=BLOCK + 5, longest=6)
    given = ("--max-new-tokens", 8, "--device", "cpu", "--model", tiny_model("llama"))
    assert trec("summarize", run, *given, "--out", tmp_path / "alone.jsonl").exit_code == 0
    driver = started("summarize", run, *given, *WORKERS)
    _, told = driver.communicate(timeout=900)
    assert driver.returncode == 0, told
    assert (run / "summaries-hier.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


@needs_ray
@pytest.mark.slow
def test_the_error_of_a_worker_is_told_with_its_exit_code(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    run = make_run(tmp_path / "run", {"test": 3}, candidates=3)
    driver = started(*command(run, tiny_model("llama"), "--split", "valid", *WORKERS))
    _, told = driver.communicate(timeout=900)
    assert driver.returncode == 3
    assert "shard 1/2" in told
    assert "holds no example of split valid" in told
