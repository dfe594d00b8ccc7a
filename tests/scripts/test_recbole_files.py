"""Examples go out to RecBole and its scores come back, in the order of the examples."""

import json
from pathlib import Path

import pytest

from scripts.recbole_files import bring_back, export
from tests.scores_file import scores_in
from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import encode_all
from trec_cli.core.manifest import read_manifest
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example, Item, Split
from trec_cli.core.runs import RunFolder


def example(name: str, split: Split, history: list[str], candidates: list[str]) -> Example:
    return Example(
        example_id=name,
        user_id=f"{name}\tü",
        split=split,
        history=history,
        candidates=candidates,
        positives=candidates[:1],
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Give a run whose ids hold tabs, newlines and quotes, and whose item ``new`` is cold."""
    run = RunFolder(tmp_path / "run")
    items = [Item(item, {"title": "T"}) for item in ("a\tb", '"c"\n', "NA", "new")]
    examples = [
        example("t", "train", ["a\tb", '"c"\n'], ["NA"]),
        example("v", "valid", ["a\tb"], ["NA", '"c"\n']),
        example("2", "test", ["NA"], ["new", '"c"\n', "a\tb"]),
        example("1", "test", [], ["NA", "new"]),
    ]
    write_lines(run.items, encode_all(items))
    write_lines(run.examples, encode_all(examples))
    return run


def answer(path: Path, *answers: dict[str, object]) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in answers))
    return path


def test_scores_come_back_in_our_order_with_cold_items_last(run: RunFolder, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    export(run, folder, "test", "histories")
    asked = list(map(json.loads, (folder / "questions.jsonl").read_text().splitlines()))
    assert [question["example_id"] for question in asked] == ["v", "2", "1"]
    assert asked[1]["candidates"] == ["i_%22c%22%0A", "i_a%09b"]
    lines = (folder / "sequential" / "sequential.train.inter").read_text().splitlines()
    assert lines[1:] == [
        "u_t%09%C3%BC\ti_a%09b\ti_%22c%22%0A",
        "u_t%09%C3%BC\ti_a%09b i_%22c%22%0A\ti_NA",
    ]
    answers = answer(
        tmp_path / "answers.jsonl",
        {"example_id": "1", "scores": None},
        {"example_id": "2", "scores": [0.5, 2.0]},
    )
    out = bring_back(run, answers, "Mine", "test", "histories")
    assert out.name == "scores-Mine.jsonl"
    assert [(r.example_id, r.scores) for r in scores_in(out)] == [
        ("2", [-0.5, 0.5, 2.0]),
        ("1", [0.0, 0.0]),
    ]
    assert (read_manifest(out) or {})["settings"]["scorer"] == "Mine"


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0], "has 1 scores for the 2 candidates of example '2'"), (None, "no line of example '1'")],
)
def test_missing_and_short_answers_are_named(
    scores: list[float] | None, message: str, run: RunFolder, tmp_path: Path
) -> None:
    answers = answer(tmp_path / "answers.jsonl", {"example_id": "2", "scores": scores})
    with pytest.raises(InputError, match=message):
        bring_back(run, answers, "Mine", "test", "histories")
    assert not run.scores("Mine").exists()


def test_unknown_and_doubled_answers_are_named_with_their_line(
    run: RunFolder, tmp_path: Path
) -> None:
    answers = answer(
        tmp_path / "answers.jsonl",
        {"example_id": "v", "scores": [1.0]},
        {"example_id": "1", "scores": None},
        {"example_id": "2", "scores": [0.5, None]},
        {"example_id": "1", "scores": None},
        {"example_id": "3", "scores": None},
    )
    with pytest.raises(InputError) as error:
        bring_back(run, answers, "Mine", "test", "histories")
    assert [(fault.line, fault.problem) for fault in error.value.faults] == [
        (4, "example '1' stands twice"),
        (5, "no example '3' was asked"),
    ]


def test_what_a_program_cannot_score_ties_below_the_rest(run: RunFolder, tmp_path: Path) -> None:
    answers = answer(
        tmp_path / "answers.jsonl",
        {"example_id": "1", "scores": None},
        {"example_id": "2", "scores": [0.5, None]},
    )
    first, _ = scores_in(bring_back(run, answers, "Mine", "test", "histories"))
    assert first.scores == [-0.5, 0.5, -0.5]
