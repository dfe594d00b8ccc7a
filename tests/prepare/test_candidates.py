"""Candidates from a file or a retrieval: nothing is added silently, nothing gives order away."""

from pathlib import Path
from typing import Any

import pytest

from tests.prepare.helpers import collection, prepare, question, settings, write_jsonl
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import encode_all, read_examples
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Example
from trec_cli.prepare.build import Prepared
from trec_cli.prepare.settings import parse_sizes

IDS = "abcdefgh"
ALL_TEST = parse_sizes("0", "0", "1.0")


def named(
    path: Path, lines: list[dict[str, Any]], users: list[str], **changes: Any
) -> tuple[dict[str, Example], Prepared]:
    """Prepare users u0, u1, … of the given timelines with a file of candidates."""
    questions = [question(f"u{n}", items) for n, items in enumerate(users)]
    chosen = {"population": "auto", "sizes": ALL_TEST, **changes}
    file = write_jsonl(path / "candidates.jsonl", lines)
    examples, prepared = prepare(collection(questions, IDS), candidates=str(file), **chosen)
    return {example.example_id: example for example in examples}, prepared


def test_a_right_answer_that_is_not_among_them_is_missed_in_test(tmp_path: Path) -> None:
    lines = [{"user_id": "u0", "candidates": ["c", "d"]}, {"user_id": "u1", "candidates": ["d"]}]
    examples, prepared = named(tmp_path, lines, ["abc", "abc"])
    assert (sorted(examples["u0"].candidates), examples["u0"].positives) == (["c", "d"], ["c"])
    assert examples["u0"].missed is None
    assert (examples["u1"].candidates, examples["u1"].positives) == (["d"], [])
    assert examples["u1"].missed == ["c"]
    counts = prepared.report.splits["test"].as_dict()
    assert (counts["positives_missed"], counts["recall_of_candidates"]) == (1, 0.5)
    file = tmp_path / "examples.jsonl"
    write_lines(file, encode_all(examples.values()))
    assert read_examples(file) == list(examples.values())


@pytest.mark.parametrize("sizes", [("1.0", "0", "0"), ("0", "1.0", "0")])
def test_nothing_is_learnt_from_a_question_whose_answer_is_not_there(
    tmp_path: Path, sizes: tuple[str, str, str]
) -> None:
    lines = [{"user_id": "u0", "candidates": ["d"]}, {"user_id": "u1", "candidates": ["c", "d"]}]
    examples, prepared = named(tmp_path, lines, ["abc", "abc"], sizes=parse_sizes(*sizes))
    assert set(examples) == {"u1"}
    assert examples["u1"].missed is None
    assert prepared.report.dropped == {"no wrong candidate, or (train, valid) no right one": 1}
    (counts,) = (c for c in prepared.report.splits.values() if c.examples)
    assert (counts.missed, counts.positives) == (1, 1)


def test_an_example_goes_before_its_user_and_one_without_any_is_dropped(tmp_path: Path) -> None:
    lines = [
        {"user_id": "u0", "candidates": ["c", "d"]},
        {"example_id": "u0-predict", "candidates": ["e", "f"]},
    ]
    examples, prepared = named(tmp_path, lines, ["abc", "abd"], predict=True)
    assert {name: sorted(e.candidates) for name, e in examples.items()} == {
        "u0": ["c", "d"],
        "u0-predict": ["e", "f"],
    }
    assert prepared.report.dropped == {"no candidates in the file": 2}


def test_candidates_twice_or_without_text_are_left_out(tmp_path: Path) -> None:
    lines = [{"user_id": "u0", "candidates": ["c", "d", "d", "X"]}]
    examples, prepared = named(tmp_path, lines, ["abc"])
    assert sorted(examples["u0"].candidates) == ["c", "d"]
    assert prepared.report.splits["test"].candidates_unknown == 1


def test_the_order_of_the_file_tells_nothing(tmp_path: Path) -> None:
    def order(listed: str) -> list[str]:
        lines = [{"user_id": "u0", "candidates": list(listed)}]
        return named(tmp_path, lines, ["abc"])[0]["u0"].candidates

    assert order("cdefgh") == order("hgfedc")
    assert order("cdefgh") != list("cdefgh")


def test_only_wrong_or_only_right_candidates(tmp_path: Path) -> None:
    lines = [{"user_id": "u0", "candidates": ["c"]}, {"user_id": "u1", "candidates": ["e"]}]
    examples, prepared = named(tmp_path, lines, ["abc", "abd"])
    assert set(examples) == {"u1"}
    assert prepared.report.dropped == {"no wrong candidate, or (train, valid) no right one": 1}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"candidates": ["c"]}], "line 1: names neither example_id nor user_id"),
        ([{"user_id": "u0", "candidates": ["c"]}] * 2, "line 2: user 'u0' stands twice"),
        ([{"user_id": "u0", "candidates": [7]}], "entry 1 of `candidates` must be a text"),
        ([{"user_id": "u0"}], "the field `candidates` is missing"),
        ([{"user_id": "nobody", "candidates": ["c"]}], "has candidates of no example"),
    ],
)
def test_a_wrong_file_is_explained(
    tmp_path: Path, lines: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        named(tmp_path, lines, ["abc"])


def test_candidates_take_the_place_of_negatives() -> None:
    for changes in ({"negatives": "uniform"}, {"number": 3}, {"population": "seen"}):
        with pytest.raises(UsageError, match="takes the place of --negatives"):
            settings(**{"population": "auto", "candidates": "x.jsonl", **changes})
    with pytest.raises(UsageError, match="retrieve:N"):
        assert settings(population="auto", candidates="retrieve:0").retrieved


def test_retrieved_candidates_are_as_many_as_asked_and_never_the_history() -> None:
    questions = [question(f"u{n}", [IDS[(n + k) % 8] for k in range(4)]) for n in range(40)]
    examples, prepared = prepare(
        collection(questions, IDS), population="auto", candidates="retrieve:3", predict=True
    )
    assert sum(e.split == "predict" for e in examples) == 40
    for example in examples:
        assert len(example.candidates) == 3
        assert not set(example.candidates) & set(example.history)
        assert bool(example.positives or example.missed) == (example.split != "predict")
    assert prepared.report.choices["candidates"] == "retrieve:3"
