"""Scores made of other systems' scores: lift and stack."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import minimize
from typer.testing import CliRunner, Result

from tests.evaluate.folder import write
from tests.score.small_run import make_run
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.records import Example
from trec_cli.evaluate.scores import read_scores


def trec(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)])


def _lines(run: Path, offset: float, *, backwards: bool = False) -> list[dict[str, Any]]:
    return _scored(run, "test", lambda _, item: int(item[1:]) * offset, backwards=backwards)


def _scored(
    run: Path, split: str, score: Callable[[Example, str], float], *, backwards: bool = False
) -> list[dict[str, Any]]:
    examples = read_examples(run / "examples.jsonl", read_items(run / "items.jsonl"))
    lines = []
    for example in (e for e in examples if e.split == split):
        order = example.candidates[::-1] if backwards else example.candidates
        lines.append(
            {
                "example_id": example.example_id,
                "user_id": example.user_id,
                "split": split,
                "candidates": order,
                "scores": [score(example, item) for item in order],
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


def _noise(example: Example, item: str) -> float:
    """Return a number of [0, 1) that says nothing."""
    return zlib.crc32(f"{example.example_id} {item}".encode()) / 2**32


def _telling(example: Example, item: str) -> float:
    """Return a number that is larger, on average, where the item is right."""
    return _noise(example, f"telling {item}") + 0.3 * (item in example.positives)


def _two_systems(run: Path, splits: tuple[str, ...] = ("valid", "test")) -> Path:
    make_run(run, {"train": 4, "valid": 200, "test": 150})
    for split in splits:
        behind = "" if split == "test" else f"-{split}"
        write(run / f"scores-good{behind}.jsonl", _scored(run, split, _telling))
        write(run / f"scores-bad{behind}.jsonl", _scored(run, split, _noise, backwards=True))
    return run


def test_a_stack_weighs_systems_by_what_they_say_on_valid(tmp_path: Path) -> None:
    run = _two_systems(tmp_path / "run")
    result = trec(run, "--scorer", "stack", "--stack", "good,bad", "--json")
    assert result.exit_code == 0, result.output
    weights = json.loads(result.stdout.splitlines()[-1])["weights"]

    # The same likelihood written out, unpenalised: the penalty of trec is at most 1e-1 a question.
    examples = read_examples(run / "examples.jsonl", read_items(run / "items.jsonl"))
    valid = [e for e in examples if e.split == "valid"]

    def loss(w: Any) -> float:
        total = 0.0
        for e in valid:
            logits = {i: w[0] * _telling(e, i) + w[1] * _noise(e, i) for i in e.candidates}
            total += math.log(sum(map(math.exp, logits.values()))) - logits[e.positives[0]]
        return total

    best = minimize(loss, [0.0, 0.0]).x
    assert weights["good"] == pytest.approx(best[0], rel=0.1)
    assert abs(weights["bad"]) < 0.2 * weights["good"]
    for _, line in read_scores(run / "scores-good+bad.jsonl"):
        example = next(e for e in examples if e.example_id == line.example)
        sums = [
            weights["good"] * _telling(example, i) + weights["bad"] * _noise(example, i)
            for i in line.candidates
        ]
        gaps = [s - sums[0] for s in sums]
        assert [s - line.scores[0] for s in line.scores] == pytest.approx(gaps, abs=1e-4)


def test_a_stack_takes_files_and_fits_on_what_all_have_scored(tmp_path: Path) -> None:
    run = _two_systems(tmp_path / "run")
    few = tmp_path / "few"
    write(few / "scores-llm.jsonl", _scored(run, "test", _telling))
    write(few / "scores-llm-valid.jsonl", _scored(run, "valid", _telling)[:30])
    stack = f"bad,{few / 'scores-llm.jsonl'}"
    result = trec(run, "--scorer", "stack", "--stack", stack)
    assert result.exit_code == 0, result.output
    assert "weights from 30 questions of split valid" in result.stderr
    assert (run / "scores-bad+llm.jsonl").exists()


@pytest.mark.parametrize(
    ("stack", "code", "message"),
    [
        pytest.param("good", 2, "two or more systems", id="one"),
        pytest.param("good,good", 2, "two or more systems", id="twice"),
        pytest.param("good,gone", 3, "scores-gone.jsonl: no such file", id="missing"),
        pytest.param("good,short", 3, "only 19 questions of split valid", id="few"),
    ],
)
def test_a_stack_that_cannot_be_made(tmp_path: Path, stack: str, code: int, message: str) -> None:
    run = _two_systems(tmp_path / "run")
    write(run / "scores-short.jsonl", _scored(run, "test", _telling))
    write(run / "scores-short-valid.jsonl", _scored(run, "valid", _telling)[:19])
    result = trec(run, "--scorer", "stack", "--stack", stack)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.stderr.split())
    assert not list(run.glob("scores-*+*"))


def test_split_valid_cannot_be_stacked(tmp_path: Path) -> None:
    run = _two_systems(tmp_path / "run")
    result = trec(run, "--scorer", "stack", "--stack", "good,bad", "--split", "valid")
    assert result.exit_code == 2
    assert "fits its weights on split valid" in result.stderr
