import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.conftest import ROOT
from tests.prepare.helpers import write_jsonl
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.manifest import read_manifest
from trec_cli.core.outputs import locked

ITEMS = [{"item_id": f"i{n}", "title": f"Title {n}"} for n in range(40)]
SEQUENCES: list[dict[str, Any]] = [
    {"user_id": f"u{u}", "items": [f"i{(u * 7 + n * 3) % 40}" for n in range(8)]} for u in range(60)
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "source" / "items.jsonl", ITEMS)
    write_jsonl(tmp_path / "source" / "sequences.jsonl", SEQUENCES)
    return tmp_path / "source"


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


def files(run: Path) -> list[str]:
    return sorted(p.name for p in run.iterdir() if not p.name.endswith(".lock"))


def test_a_run_folder_holds_items_examples_and_their_manifests(
    source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = trec(source, "--out", run, "--json")
    assert result.exit_code == 0, result.output
    assert files(run) == [
        "examples.jsonl",
        "examples.jsonl.manifest.json",
        "items.jsonl",
        "items.jsonl.manifest.json",
    ]
    items = read_items(run / "items.jsonl")
    examples = read_examples(run / "examples.jsonl", items)
    assert len(examples) == 60
    assert len(items) == 40
    last = json.loads(result.stdout.splitlines()[-1])
    manifest = read_manifest(run / "examples.jsonl")
    assert manifest is not None
    assert last["counts"] == manifest["counts"]
    assert last["counts"]["splits"]["train"]["mean_history"] == 7
    assert manifest["settings"]["format"] == "jsonl"
    assert len(manifest["inputs"]) == 2


def test_the_tables_and_what_was_found_go_to_stderr(source: Path, tmp_path: Path) -> None:
    result = trec(source, "--out", tmp_path / "run")
    assert result.stdout == ""
    for said in ("found jsonl", "examples kept", "mean history, items", "next: trec summarize"):
        assert said in result.stderr
    # With so few to test there is no audit; that of this ring of items would warn.
    sizes = ("--train-users", "0.8", "--valid-users", "0.1", "--test-users", "0.1")
    quiet = trec(source, "--out", tmp_path / "other", "--quiet", *sizes)
    assert quiet.stderr == ""


def test_the_same_command_again_does_nothing(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trec(source, "--out", run)
    before = (run / "examples.jsonl").stat().st_mtime_ns
    again = trec(source, "--out", run, "--json")
    assert again.exit_code == 0
    assert "finished already" in again.stderr
    assert json.loads(again.stdout)["done_before"] is True
    assert (run / "examples.jsonl").stat().st_mtime_ns == before


def test_other_settings_or_inputs_are_refused_without_overwrite(
    source: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trec(source, "--out", run)
    refused = trec(source, "--out", run, "--seed", 1)
    assert refused.exit_code == 2
    assert "--seed 0 before, 1 now" in refused.stderr
    assert trec(source, "--out", run, "--seed", 1, "--overwrite").exit_code == 0
    write_jsonl(source / "sequences.jsonl", SEQUENCES[:50])
    assert trec(source, "--out", run, "--seed", 1).exit_code == 2


def test_a_log_that_has_grown_is_continued_without_overwrite(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = ["--predict", "--train-users", "0.9", "--valid-users", "0.1", "--test-users", "0"]
    trec(source, "--out", run, *arguments, "--negatives", "uniform", "--population", "catalogue")
    grown = [{**SEQUENCES[0], "items": [*SEQUENCES[0]["items"], "i1"]}, *SEQUENCES[1:]]
    write_jsonl(source / "sequences.jsonl", [*grown, {"user_id": "new", "items": ["i1", "i2"]}])
    arguments += ["--negatives", "uniform", "--population", "catalogue"]
    result = trec(source, "--out", run, *arguments, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["growth"] == {
        "users": 61,
        "kept": 118,
        "changed": 2,
        "added": 2,
        "gone": 0,
    }
    assert "118 examples are as before, 2 have changed, 2 are new" in result.stderr
    trec(source, "--out", tmp_path / "fresh", *arguments)
    for name in ("items.jsonl", "examples.jsonl"):
        assert (run / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    before = (run / "examples.jsonl").read_bytes()
    write_jsonl(source / "sequences.jsonl", grown[1:])
    shrunk = trec(source, "--out", run, *arguments)
    assert shrunk.exit_code == 2
    assert "has 61 users, of whom 2 are gone from the inputs: new, u0." in shrunk.stderr
    assert (run / "examples.jsonl").read_bytes() == before
    assert not any(name.endswith(".tmp") for name in files(run))


def test_the_bytes_are_the_same_whatever_the_order_of_the_files(
    source: Path, tmp_path: Path
) -> None:
    trec(source, "--out", tmp_path / "one")
    write_jsonl(source / "items.jsonl", ITEMS[::-1])
    write_jsonl(source / "sequences.jsonl", SEQUENCES[::-1])
    trec(source, "--out", tmp_path / "two")
    for name in ("items.jsonl", "examples.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_dry_run_shows_one_example_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = trec(source, "--out", run, "--dry-run")
    assert result.exit_code == 0
    assert not run.exists()
    for said in ("found jsonl", "the first example", "title: Title", "dry run: nothing"):
        assert said in result.stderr


def test_two_runs_never_write_one_folder(source: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "run" / "examples.jsonl"):
        result = trec(source, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "is being written by another trec run" in result.stderr


def test_a_full_disk_leaves_nothing_half_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = trec(source, "--out", tmp_path / "run")
    assert result.exit_code == 5
    assert "No space left on device" in result.stderr
    assert files(tmp_path / "run") == []


_KILLED = """
import os, signal, sys
from trec_cli.commands.app import main
from trec_cli.prepare import build

name, last = sys.argv[-2], int(sys.argv[-1])
sys.argv = ["trec", *sys.argv[1:-2]]

def until(records, write=build.encode_all):
    for number, line in enumerate(write(records)):
        if number == last:
            os.kill(os.getpid(), getattr(signal, name))
        yield line

build.encode_all = until
main()
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
@pytest.mark.parametrize("line", [0, 30, 59])
def test_a_killed_run_leaves_nothing_once_the_same_command_has_run(
    source: Path, tmp_path: Path, name: str, line: int
) -> None:
    run = tmp_path / "run"
    command = ["prepare", str(source), "--out", str(run), "--quiet"]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, *command, name, str(line)], check=False, cwd=ROOT
    )
    assert killed.returncode == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 143}[name]
    left = [file.name for file in run.iterdir() if file.name.endswith(".tmp")]
    assert bool(left) == (name == "SIGKILL")
    assert not (run / "examples.jsonl").exists()
    assert trec(source, "--out", run).exit_code == 0
    trec(source, "--out", tmp_path / "other")
    assert files(run) == files(tmp_path / "other")
    for file in ("items.jsonl", "examples.jsonl"):
        assert (run / file).read_bytes() == (tmp_path / "other" / file).read_bytes()


def test_items_without_text_are_said_in_red_above_half(source: Path, tmp_path: Path) -> None:
    write_jsonl(source / "items.jsonl", ITEMS[:10])
    result = trec(source, "--out", tmp_path / "run", "--unknown", "keep", "--quiet")
    assert result.exit_code == 0
    assert "of the history items have no text" in result.stderr
    failed = trec(source, "--out", tmp_path / "other", "--unknown", "fail")
    assert failed.exit_code == 3
    assert "sequences.jsonl, line 1: user 'u0':" in failed.stderr
    assert "stopped after 20 faults" in failed.stderr


def test_97_percent_unknown_candidates_do_not_pass_in_silence(source: Path, tmp_path: Path) -> None:
    sequences = [
        {**record, "random_candidates": ["i1", "i2", "i3", *(f"x{n}" for n in range(97))]}
        for record in SEQUENCES
    ]
    write_jsonl(source / "sequences.jsonl", sequences)
    result = trec(source, "--out", tmp_path / "run", "--quiet")
    assert "97.0% of the candidates of the source have no text (5,820 of 6,000)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "impression"], "--target: not an option of the format jsonl"),
        (["--per-impression"], "--per-impression: not an option of the format jsonl"),
        (["--locale", "UK"], "--locale: not an option of the format jsonl"),
        (["--train-users", "10"], "together"),
        (["--min-history", "60"], "--min-history 60 is more than --max-history 50"),
        (["--attributes", "titel"], "no attribute titel in this collection; there are title"),
        (["--negatives", "some"], "not one of"),
        (["--split", "time"], "needs the time of every target"),
    ],
)
def test_wrong_usage_is_explained(
    source: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = trec(source, "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("format_", ["auto", "mind"])
def test_a_source_of_no_format_is_explained(tmp_path: Path, format_: str) -> None:
    (tmp_path / "empty").mkdir()
    result = trec(tmp_path / "empty", "--out", tmp_path / "run", "--format", format_)
    assert result.exit_code == 3
    assert "mind: news.tsv and behaviors.tsv" in result.stderr
    assert trec(tmp_path / "nothing", "--out", tmp_path / "run").exit_code == 3


def test_all_options_can_stand_in_a_file(source: Path, tmp_path: Path) -> None:
    config = tmp_path / "prepare.toml"
    config.write_text('[prepare]\nsplit = "leave-last-out"\nnum-negatives = 5\nmin-history = 2\n')
    result = trec(source, "--out", tmp_path / "run", "--config", config, "--num-negatives", 6)
    assert result.exit_code == 0, result.output
    examples = read_examples(tmp_path / "run" / "examples.jsonl")
    assert len(examples) == 180
    assert {len(e.candidates) for e in examples} == {7}


def test_help_shows_commands_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = trec("--help").stdout
    assert "trec prepare samples/shop --out runs/shop" in text
    for arguments in (["samples/shop"], ["samples/news", "--target", "impression"]):
        result = trec(ROOT / arguments[0], "--out", tmp_path / arguments[0], *arguments[1:])
        assert result.exit_code == 0, result.output


def test_the_real_slice_of_mind_splits_by_user_but_not_by_time(
    real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    sizes = ["--train-users", 700, "--valid-users", 50, "--test-users", 100]
    result = trec(real_data("mind"), "--out", tmp_path / "run", *sizes, "--json")
    counts = json.loads(result.stdout)["counts"]
    assert {s: c["examples"] for s, c in counts["splits"].items()} == {
        "train": 700,
        "valid": 50,
        "test": 100,
    }
    assert counts["dropped"] == {
        "history shorter than 10": 1464,
        "history longer than 25": 341,
        "user not picked": 19,
    }
    for target in ("history", "impression"):
        arguments = ["--split", "time", "--target", target]
        refused = trec(real_data("mind"), "--out", tmp_path / "time", *arguments)
        assert refused.exit_code == 2
        assert "needs the time of every target" in refused.stderr


def test_the_source_is_never_written_over(source: Path) -> None:
    before = (source / "items.jsonl").read_bytes()
    result = trec(source, "--out", source, "--overwrite")
    assert result.exit_code == 2
    assert "is a file of the source" in result.stderr
    assert (source / "items.jsonl").read_bytes() == before


def test_two_files_do_not_go_to_standard_output(source: Path) -> None:
    result = trec(source, "--out", "-")
    assert result.exit_code == 2
    assert "name a folder" in result.stderr
