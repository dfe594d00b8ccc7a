"""Summaries made elsewhere: checked in one go, and used by train and score under any mode."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.commands.test_summarize import make_run, write_lines
from trec_cli.commands.app import app


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def trec(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def own(run: Path, name: str = "mine.jsonl") -> Path:
    """Write summaries with the fields that are needed, and no other."""
    lines = [{"example_id": f"e{n}", "summary": f"likes tea\nnumber {n}"} for n in range(6)]
    lines[0]["user_id"] = ""  # as a tool writes what it does not know
    write_lines(run / name, lines)
    return run / name


def test_own_summaries_are_trained_on_and_scored_with(
    run: Path, tiny_model: Callable[..., Path]
) -> None:
    mine = ["--mode", "mine", "--summaries", own(run)]
    learn = ["--model", tiny_model(), "--epochs", "1", "--valid-users", "0"]
    trec("train", run, *mine, *learn)
    trec("score", run, *mine)
    manifest = json.loads((run / "scores-mine.jsonl.manifest.json").read_bytes())
    assert (run / "model-mine" / "adapter_model.safetensors").is_file()
    assert str(run / "mine.jsonl") in manifest["inputs"]


def test_a_file_named_by_its_mode_is_found_in_run(
    run: Path, tiny_model: Callable[..., Path]
) -> None:
    zero_shot = ["--mode", "mine", "--zero-shot", "--model", tiny_model()]
    refused = trec("score", run, *zero_shot, code=2)
    assert "--mode mine: choose one of hier" in refused.stderr
    own(run, "summaries-mine.jsonl")
    trec("score", run, *zero_shot)
    assert (run / "scores-mine-zeroshot.jsonl").is_file()
    trec("eval", run)
    assert "number 5" in (run / "report.html").read_text()


def test_all_targets_need_summaries_that_leave_items_out(
    run: Path, tiny_model: Callable[..., Path]
) -> None:
    learn = ["--mode", "mine", "--targets", "all", "--model", tiny_model(), "--valid-users", "0"]
    refused = trec("train", run, *learn, "--summaries", own(run), code=2)
    assert "speaks of the whole history" in refused.stderr
    assert "trec summarize --skip-recent N" in refused.stderr
    lines = [
        {
            "example_id": f"e{n}",
            "summary": "likes tea" if n > 1 else "",
            "blocks": [{"level": 0, "start": 0, "end": end, "summary": "likes tea"}] if end else [],
        }
        for n in range(6)
        for end in [max(0, min(3 * n, 13) - 3)]
    ]
    write_lines(run / "summaries-mine.jsonl", lines)
    shown = trec("train", run, *learn, "--dry-run", "--json")
    # Of split train: no history, 1 target; 9 items of which 6 are told: the 8th, 9th and the last.
    assert json.loads(shown.stdout.splitlines()[-1])["targets per epoch"] == 4
    trec("train", run, *learn)


@pytest.mark.parametrize("command", ["train", "score"])
def test_mode_none_with_summaries_is_wrong_usage(run: Path, command: str) -> None:
    refused = trec(command, run, "--mode", "none", "--summaries", own(run), code=2)
    assert "--mode none takes no summaries" in refused.stderr


def test_all_faults_of_own_summaries_are_told_at_once(
    run: Path, tiny_model: Callable[..., Path]
) -> None:
    wrong = {"level": 0, "start": 4, "end": 2, "summary": ""}
    write_lines(
        run / "mine.jsonl",
        [
            {"example_id": "e0"},
            {"example_id": "e1", "summary": "tea", "blocks": [wrong]},
            {"example_id": "e2", "summary": 3},
            {"example_id": "e1", "summary": "twice"},
        ],
    )
    mine = ["--mode", "mine", "--summaries", run / "mine.jsonl", "--zero-shot"]
    refused = trec("score", run, *mine, "--model", tiny_model(), code=3)
    said = " ".join(refused.stderr.split())
    assert "line 1: the field `summary` is missing" in said
    assert "line 2: example 'e1': block 1 ends at item 2, but starts at item 4" in said
    assert "line 3: `summary` must be a text, not a whole number" in said
    assert "line 4: example_id 'e1' stands twice" in said


def test_an_example_without_own_summary_is_named(
    run: Path, tiny_model: Callable[..., Path]
) -> None:
    write_lines(run / "mine.jsonl", [{"example_id": "e0", "summary": "tea"}])
    mine = ["--mode", "mine", "--summaries", run / "mine.jsonl", "--zero-shot"]
    refused = trec("score", run, *mine, "--model", tiny_model(), code=3)
    assert "have no summary (e2, e5)" in refused.stderr
