"""Slices of the examples, by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluate.folder import line, write
from trec_cli.core.records import Item
from trec_cli.evaluate.background import Background, read_background
from trec_cli.evaluate.results import evaluate_systems, summarise
from trec_cli.evaluate.scores import ScoresFile, read_system
from trec_cli.evaluate.settings import Options
from trec_cli.evaluate.slices import (
    LENGTH,
    POPULARITY,
    Slice,
    attribute_slices,
    find_slices,
    length_bins,
    popularity_limits,
    popularity_slices,
    slice_entries,
)
from trec_cli.evaluate.tables import slices_table


def members(slices: Any) -> dict[str, list[int]]:
    return {part.label: np.flatnonzero(part.chosen).tolist() for part in slices}


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([4, 4, 4], [(4, 4)]),
        ([1, 2], [(1, 1), (2, 2)]),
        (list(range(1, 13)), [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12)]),
    ],
)
def test_history_lengths_are_cut_without_gap_or_overlap(
    lengths: list[int], expected: list[tuple[int, int]]
) -> None:
    assert length_bins(np.array(lengths)) == expected


def test_head_mid_and_tail_hold_a_third_of_the_interactions_each() -> None:
    """Of 12 interactions, 4 are with the first item, 4 with the next two, 4 with the rest."""
    assert popularity_limits([4, 2, 2, 1, 1, 1, 1, 0]) == (4, 2)


def test_items_of_equal_popularity_stay_together() -> None:
    assert popularity_limits([3, 3, 3]) == (3, 3)
    assert popularity_limits([5, 1, 1]) == (5, 5)


@given(st.lists(st.integers(0, 50), min_size=1).filter(any))
def test_every_seen_item_is_in_one_group_of_popularity(counts: list[int]) -> None:
    takers = {str(place): count for place, count in enumerate(counts)}
    parts = list(popularity_slices([[item] for item in takers], takers))
    assert np.sum([part.chosen for part in parts], axis=0).tolist() == [1] * len(counts)
    assert parts[0].chosen.any(), "the head is never empty"


def test_a_positive_that_no_training_user_has_is_cold() -> None:
    takers = {"a": 4, "b": 2, "c": 2, "d": 1, "e": 1, "f": 1, "g": 1}
    parts = popularity_slices([["a"], ["c"], ["d"], ["new"], ["a", "new"], []], takers)
    assert members(parts) == {
        "head (4)": [0, 4],
        "mid (2–3)": [1],
        "tail (1)": [2],
        "cold (0)": [3, 4],
    }


def test_the_most_frequent_values_of_an_attribute_have_slices_of_their_own() -> None:
    items = {f"i{n}": Item(f"i{n}", {"brand": f"b{min(n, 9)}"}) for n in range(11)}
    items["bare"] = Item("bare", {"brand": " "})
    positives = [["i1"], ["i1"], *([f"i{n}"] for n in range(2, 11)), ["bare"], ["gone"]]
    found = members(attribute_slices("brand", positives, items))
    assert list(found)[:2] == ["b1", "b9"], "b9 has two items"
    assert found["b1"] == [0, 1]
    assert len(found) == 10
    assert found["(other)"] == [8], "of nine values one is left"
    assert found["(none)"] == [11, 12]


def test_takers_count_users_once_and_only_of_split_train(tmp_path: Path) -> None:
    def example(name: str, user: str, split: str, history: str, positive: str) -> dict[str, Any]:
        common = {"example_id": name, "user_id": user, "split": split, "candidates": ["z"]}
        return common | {"history": list(history), "positives": [positive]}

    path = write(
        tmp_path / "examples.jsonl",
        [
            example("1", "u", "train", "aab", "c"),
            example("2", "v", "train", "b", "d"),
            example("3", "u", "train", "abc", "d"),
            example("4", "u", "test", "abcd", "e"),
            example("5", "w", "valid", "a", "f"),
            example("6", "x", "test", "a", "f"),
        ],
    )
    scored = [
        {"user_id": name, "split": "test", "candidates": ["e", "f"], "scores": [1, 2],
         "positives": [positive]}
        for name, positive in (("gone", "e"), ("4", "e"), ("6", "e"))
    ]  # fmt: skip
    system = read_system(ScoresFile("x", write(tmp_path / "s.jsonl", scored)), "test")
    found = read_background(path, system, "test")
    assert dict(found.takers) == {"a": 1, "b": 2, "c": 1, "d": 2}
    assert found.lengths.tolist() == [-1, 4, -1]
    assert list(found.positives) == [[], ["e"], []]
    assert found.missing == 2, "one is not there, one had another positive when it was scored"


def test_without_training_users_nothing_is_sliced_by_popularity() -> None:
    background = Background(np.array([2, -1, 5]), [["a"], [], ["b"]], {})
    assert [(part.by, part.label) for part in find_slices(background, {})] == [
        (LENGTH, "2–4"),
        (LENGTH, "5"),
    ]


def test_a_slice_has_the_metrics_of_its_examples_alone(tmp_path: Path) -> None:
    lines = [line("a", [2, 1]), line("b", [1, 2]), line("c", [1, 1]), line("d", [2, 1], user="a")]
    system = read_system(ScoresFile("x", write(tmp_path / "s.jsonl", lines)), "test")
    part = Slice(POPULARITY, "head", np.array([True, False, True, True]))
    (entry,) = slice_entries(evaluate_systems([system], (1,)), [part], Options((1,), 20, 0))
    assert (entry["by"], entry["slice"]) == (POPULARITY, "head")
    assert (entry["examples"], entry["users"], entry["small"]) == (3, 2, True)
    recall = entry["systems"]["x"]["recall@1"]
    assert recall["value"] == pytest.approx(2.5 / 3)
    assert recall["low"] <= recall["value"] <= recall["high"]
    assert entry["chance"]["recall@1"] == 0.5


def test_a_slice_of_one_user_has_no_interval(tmp_path: Path) -> None:
    system = read_system(ScoresFile("x", write(tmp_path / "s.jsonl", [line("a", [2, 1])])), "test")
    part = Slice(LENGTH, "1", np.array([True]))
    (entry,) = slice_entries(evaluate_systems([system], (1,)), [part], Options((1,), 20, 0))
    assert entry["systems"]["x"]["recall@1"] == {"value": 1.0, "low": None, "high": None}


def test_a_narrow_terminal_gets_a_row_for_every_slice_and_system(tmp_path: Path) -> None:
    system = read_system(ScoresFile("x", write(tmp_path / "s.jsonl", [line("a", [2, 1])])), "test")
    evaluation = evaluate_systems([system], (1,))
    options = Options((1,), 5, 0)
    summary = summarise(evaluation, options)
    parts = [Slice(LENGTH, "1", np.array([True])), Slice(POPULARITY, "cold", np.array([True]))]
    summary["slices"] = slice_entries(evaluation, parts, options)
    assert slices_table(summary).row_count == 2
    assert slices_table(summary, wide=False).row_count == 4
