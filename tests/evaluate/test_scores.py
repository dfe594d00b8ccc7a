"""Reading scores files, and refusing to compare what cannot be compared."""

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluate.folder import Line, line, write
from trec_cli.core.errors import InputError
from trec_cli.evaluate.metrics import Ranks, evaluate, recall
from trec_cli.evaluate.scores import ScoresFile, System, align, at_hand, in_common, read_system


def read(path: Path, split: Any = "test") -> System:
    return read_system(ScoresFile(path.stem, path), split)


def test_a_file_becomes_arrays(tmp_path: Path) -> None:
    lines = [line("a", [1, 2, 3], [2, 0], user="x"), line("b", [5], [0])]
    system = read(write(tmp_path / "s.jsonl", lines))
    assert list(system.examples) == ["a", "b"]
    assert list(system.users) == ["x", "b"]
    assert system.widths.tolist() == [3, 1]
    assert system.ranks.example.tolist() == [0, 0, 1]
    assert system.ranks.expected.tolist() == [1, 3, 1]
    assert system.ranks.positives.tolist() == [2, 1]


def test_example_id_may_be_left_out_for_the_user_id(tmp_path: Path) -> None:
    entry = line("a", [1, 2])
    del entry["example_id"]
    assert list(read(write(tmp_path / "s.jsonl", [entry])).examples) == ["a"]


def test_unicode_ids_and_carriage_returns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    text = json.dumps(line("Zoë\u2028", [1, 2], prefix="é\n"), ensure_ascii=False)
    path.write_bytes((text + "\r\n").encode())
    assert list(read(path).examples) == ["Zoë\u2028"]


def test_only_the_chosen_split_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [line("a", [1, 2], split="valid"), line("b", [1, 2])])
    assert list(read(path).examples) == ["b"]
    assert list(read(path, "valid").examples) == ["a"]
    with pytest.raises(InputError, match=r"no example of split train.*it has test, valid"):
        read(path, "train")


def faulty(**changes: Any) -> Line:
    return line("a", [1.0, 2.0]) | changes


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (faulty(scores=[1.0]), "2 candidates but 1 score"),
        (faulty(scores=[1.0, None]), "scores"),
        (faulty(scores=["1", "2"]), "scores"),
        (faulty(candidates=["i0", "i0"]), "candidate twice"),
        (faulty(candidates=[], scores=[]), "no candidates"),
        (faulty(positives=[]), "no positive"),
        (faulty(positives=["i7"]), "'i7' is not among its candidates"),
        (faulty(positives=["i0", "i0"]), "positive twice"),
        (faulty(split="dev"), "split"),
        (faulty(user_id=""), "user_id"),
        (faulty(scores=[float("nan"), 1.0]), "NaN"),
        (faulty(scores=[float("inf"), 1.0]), "Infinity"),
    ],
)
def test_a_faulty_line_is_named_with_file_and_line(
    tmp_path: Path, entry: Line, message: str
) -> None:
    path = write(tmp_path / "scores-x.jsonl", [line("ok", [1, 2]), entry])
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert caught.value.faults[0].line == 2
    assert str(path) in str(caught.value)


def test_a_number_too_large_for_a_float_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [line("a", [1, 2])])
    path.write_text(path.read_text().replace("[1, 2]", "[1e999, 2]"))
    with pytest.raises(InputError, match="line 1"):
        read(path)


def test_scores_that_are_finite_but_whose_sum_is_not_are_fine(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [line("a", [1.7e308, 1.7e308, -1])])
    assert recall(read(path).ranks, 1).tolist() == [0.5]


def test_an_example_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", [line("a", [1, 2]), line("a", [1, 2])])
    with pytest.raises(InputError, match=r"line 2.*'a'.*stands twice"):
        read(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty"):
        read(write(tmp_path / "s.jsonl", []))


def test_systems_are_put_in_the_order_of_the_first(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = [
        line(f"u{n}", random.normal(size=3 + n % 4).tolist(), [n % 3, 1 + n % 3 - (n % 3 == 2)])
        for n in range(12)
    ]
    lines = [entry for entry in lines if len(set(entry["positives"])) == len(entry["positives"])]
    shuffled = [lines[place] for place in random.permutation(len(lines))]
    first = read(write(tmp_path / "a.jsonl", lines))
    second = read(write(tmp_path / "b.jsonl", shuffled))
    one, two = align([first, second])
    assert list(two.examples) == list(one.examples)
    assert [two.examples.get(name) for name in one.examples] == list(range(len(lines)))
    assert two.widths.tolist() == one.widths.tolist()
    for field in fields(Ranks):
        assert getattr(two.ranks, field.name).tolist() == getattr(one.ranks, field.name).tolist()
    assert list(two.users) == list(one.users)


def test_another_order_of_candidates_is_the_same_question(tmp_path: Path) -> None:
    entry = line("a", [1, 2, 3])
    turned = entry | {"candidates": entry["candidates"][::-1], "scores": [3, 2, 1]}
    systems = [
        read(write(tmp_path / f"{name}.jsonl", [content]))
        for name, content in (("a", entry), ("b", turned))
    ]
    values = [recall(system.ranks, 2).tolist() for system in align(systems)]
    assert values[0] == values[1] == evaluate([[1, 2, 3]], [[1, 0, 0]], (2,))["recall@2"].tolist()


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([line("a", [1, 2])], r"1 example of .*a\.jsonl missing, for example 'b'.*line 2"),
        ([line("a", [1, 2]), line("b", [1, 2]), line("c", [1, 2])], r"'c' \(.*line 3\)"),
        ([line("a", [1, 2], user="z"), line("b", [1, 2])], "another user"),
        ([line("a", [1, 2, 3]), line("b", [1, 2])], "other candidates"),
        ([line("a", [1, 2], [1]), line("b", [1, 2])], "other positives"),
    ],
)
def test_systems_that_answer_other_questions_are_not_compared(
    tmp_path: Path, others: list[Line], message: str
) -> None:
    first = read(write(tmp_path / "a.jsonl", [line("a", [1, 2]), line("b", [1, 2])]))
    second = read(write(tmp_path / "b.jsonl", others))
    with pytest.raises(InputError, match=message) as caught:
        align([first, second])
    assert "b.jsonl" in caught.value.faults[0].file


class _Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_standard_input_can_be_read_twice_and_is_called_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", _Stdin(b'{"user_id": 3}\n'))
    with at_hand([ScoresFile("stdin", Path("-"))]) as (file,):
        for _ in range(2):
            with pytest.raises(InputError, match="standard input, line 1"):
                read_system(file, "test")


def test_on_common_examples_ranks_are_those_of_a_file_that_has_no_others(tmp_path: Path) -> None:
    """Lists of several lengths, several positives and a missed one; other orders of lines."""
    lines = [
        line("a", [3, 1, 2], [1, 0]),
        line("b", [5, 6], [0]),
        line("c", [1, 4, 2, 3], [3]) | {"positives": ["i3", "i9"]},
        line("d", [2, 2], [1]),
    ]
    few = [lines[2], lines[0]]

    def missing(path: Path) -> System:
        return read_system(ScoresFile(path.stem, path), "test", count_missed=True)

    whole = missing(write(tmp_path / "whole.jsonl", lines))
    other = missing(write(tmp_path / "few.jsonl", few))
    one, two = align(in_common([whole, other]))
    assert list(one.examples) == ["a", "c"] == list(two.examples)
    for system in (one, two):
        assert list(system.users) == ["a", "c"]
        assert system.widths.tolist() == [3, 4]
        assert system.ranks.example.tolist() == [0, 0, 1, 1]
        assert system.ranks.expected.tolist() == [3, 1, 2, np.inf]
    assert one.lines.tolist() == [1, 3]


def test_nothing_in_common_is_an_input_error(tmp_path: Path) -> None:
    systems = [read(write(tmp_path / f"{n}.jsonl", [line(n, [1, 2])])) for n in "ab"]
    with pytest.raises(InputError, match="no example in common"):
        in_common(systems)
