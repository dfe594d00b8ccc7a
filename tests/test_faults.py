"""Faults from outside, stage by stage: a full disk, a second run beside the first, odd clocks."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import ROOT
from tests.score.small_run import make_run
from trec_cli.commands.app import app
from trec_cli.core.manifest import Provenance, read_manifest
from trec_cli.core.outputs import locked


@dataclass(frozen=True)
class Stage:
    """A command on a small run folder, and the output that it writes last."""

    words: tuple[str, ...]
    output: str


SHORT = ("--item-tokens", "16", "--max-new-tokens", "4")
STAGES = {
    "prepare": Stage(
        ("prepare", "SHOP", "--out", "RUN", "--config", str(ROOT / "samples" / "smoke.toml")),
        "examples.jsonl",
    ),
    "summarize": Stage(
        ("summarize", "RUN", "--mode", "recurrent", "--model", "MODEL", *SHORT),
        "summaries-recurrent.jsonl",
    ),
    "train": Stage(
        ("train", "RUN", "--mode", "none", "--model", "MODEL", "--epochs", "1"), "model-none"
    ),
    "score": Stage(("score", "RUN", "--scorer", "popularity"), "scores-popularity.jsonl"),
    "recommend": Stage(
        ("recommend", "RUN", "--split", "test"), "recommendations-catalogue-test.jsonl"
    ),
    "eval": Stage(("eval", "RUN", "--no-report"), "metrics.json"),
}
Run = Callable[[str], Result]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Give the run folder of all stages; that of prepare is empty."""
    return tmp_path / "run"


@pytest.fixture
def trec(run: Path, tiny_model: Callable[..., Path]) -> Run:
    """Give ``trec(stage)``: the command of a stage, its inputs made at the first call."""

    def start(name: str) -> Result:
        if name != "prepare" and not run.exists():
            make_run(run)
        if name == "eval" and not (run / "scores-bm25.jsonl").exists():
            CliRunner().invoke(app, ["score", str(run), "--scorer", "bm25"])
        places = {"RUN": run, "MODEL": tiny_model(), "SHOP": ROOT / "samples" / "shop"}
        words = [str(places.get(word, word)) for word in STAGES[name].words]
        return CliRunner().invoke(app, [*words, "--quiet"])

    return start


def outputs(run: Path) -> set[str]:
    """Return the names of everything in the folder that is no run's own business."""
    return {path.name for path in run.glob("[!.]*") if not path.name.endswith(".sqlite")}


@pytest.mark.parametrize("stage", STAGES)
def test_on_a_full_disk_a_stage_leaves_nothing_and_ends_well_once_there_is_room(
    stage: str, run: Path, trec: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if stage != "prepare":
        make_run(run)
        if stage == "eval":
            CliRunner().invoke(app, ["score", str(run), "--scorer", "bm25"])
    before = outputs(run)
    with monkeypatch.context() as patched:
        patched.setattr("trec_cli.core.outputs.os.fsync", full)
        failed = trec(stage)
    assert failed.exit_code == 5, failed.output
    assert "No space left on device" in failed.stderr
    assert outputs(run) == before
    assert not list(run.rglob("*.tmp"))
    assert trec(stage).exit_code == 0
    assert (run / STAGES[stage].output).exists()
    assert read_manifest(run / STAGES[stage].output)


@pytest.mark.parametrize("stage", STAGES)
def test_a_second_run_on_the_same_output_is_refused(stage: str, run: Path, trec: Run) -> None:
    with ExitStack() as stack:
        make_run(run)
        stack.enter_context(locked(run / STAGES[stage].output))
        result = trec(stage)
    assert result.exit_code == 2, result.output
    assert "is being written by another trec run" in result.stderr


def test_of_two_runs_at_the_same_moment_one_writes_and_the_file_is_whole(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"test": 300})
    words = ["score", str(run), "--scorer", "bm25", "--quiet"]
    command = [sys.executable, "-m", "trec_cli", *words]
    both = [
        subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 2]), said
    lines = (run / "scores-bm25.jsonl").read_text(encoding="utf-8").splitlines()
    assert len({json.loads(line)["example_id"] for line in lines}) == len(lines) == 300
    assert CliRunner().invoke(app, words).exit_code == 0
    assert not list(run.glob(".*.partial"))


def test_a_clock_that_is_set_back_gives_no_negative_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.write_bytes(b"x")
    provenance = Provenance("score", {}, [])
    monkeypatch.setattr(time, "time", lambda: 0.0)
    provenance.earlier_seconds = 40.0
    provenance.write(out)
    manifest = read_manifest(out) or {}
    assert 40.0 <= manifest["seconds"] < 100.0


@pytest.mark.parametrize("moment", [0, 4_000_000_000])
def test_files_from_the_past_or_the_future_are_what_they_hold(
    moment: int, run: Path, trec: Run
) -> None:
    for stage in ("score", "eval"):
        assert trec(stage).exit_code == 0
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    for path in before:
        os.utime(path, (moment, moment))
    for stage in ("score", "eval"):
        assert trec(stage).exit_code == 0
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
