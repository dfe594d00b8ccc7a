"""Scores with the user less those without."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.evaluate.folder import write
from tests.score.small_run import make_run
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.evaluate.scores import read_scores


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def _lines(run: Path, offset: float, *, backwards: bool = False) -> list[dict[str, Any]]:
    examples = read_examples(run / "examples.jsonl", read_items(run / "items.jsonl"))
    lines = []
    for example in (e for e in examples if e.split == "test"):
        order = example.candidates[::-1] if backwards else example.candidates
        lines.append(
            {
                "example_id": example.example_id,
                "user_id": example.user_id,
                "split": "test",
                "candidates": order,
                "scores": [int(item[1:]) * offset for item in order],
                "positives": example.positives,
            }
        )
    return lines


def test_scores_are_subtracted_by_item_whatever_their_order(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write(run / "scores-hier.jsonl", _lines(run, 1.0))
    write(run / "scores-hier-no-user.jsonl", _lines(run, 0.25, backwards=True))
    result = trec(run, "--scorer", "lift")
    assert result.exit_code == 0, result.output
    for _, line in read_scores(run / "scores-hier-lift.jsonl"):
        assert line.scores == [pytest.approx(0.75 * int(item[1:])) for item in line.candidates]
    manifest = json.loads((run / "scores-hier-lift.jsonl.manifest.json").read_text())
    assert {Path(path).name for path in manifest["inputs"]} == {
        "items.jsonl", "examples.jsonl", "scores-hier.jsonl", "scores-hier-no-user.jsonl"
    }  # fmt: skip


def test_other_files_may_be_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    write(tmp_path / "scores-mine.jsonl", _lines(run, 2.0))
    write(tmp_path / "alone.jsonl", _lines(run, 2.0))
    files = ("--of", tmp_path / "scores-mine.jsonl", "--minus", tmp_path / "alone.jsonl")
    result = trec(run, "--scorer", "lift", *files)
    assert result.exit_code == 0, result.output
    scores = [line.scores for _, line in read_scores(run / "scores-mine-lift.jsonl")]
    assert {value for row in scores for value in row} == {0.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda lines: lines[1:], "has no example 'test-0'", id="example"),
        pytest.param(
            lambda lines: [{**line, "candidates": ["i0"], "scores": [1]} for line in lines],
            "has other candidates for example 'test-0'",
            id="candidates",
        ),
        pytest.param(
            lambda lines: [{**line, "scores": line["scores"][1:]} for line in lines],
            "has other candidates for example 'test-0'",
            id="fewer scores",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    run = make_run(tmp_path / "run")
    write(run / "scores-hier.jsonl", _lines(run, 1.0))
    write(run / "scores-hier-no-user.jsonl", change(_lines(run, 1.0)))
    result = trec(run, "--scorer", "lift")
    assert result.exit_code == 3
    assert message in result.stderr


def test_a_missing_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    result = trec(run, "--scorer", "lift")
    assert result.exit_code == 3
    assert "with and without --no-user" in result.stderr
