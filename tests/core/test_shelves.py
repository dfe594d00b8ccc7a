import gzip
import os
import tracemalloc
from collections import deque
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from trec_cli.core import shelves
from trec_cli.core.errors import InputError, PartialError
from trec_cli.core.jsonl import read_examples
from trec_cli.core.records import Example, Split, Summary
from trec_cli.core.shelves import (
    ByName,
    Chosen,
    Columns,
    Names,
    Places,
    Shelf,
    Takers,
    Texts,
    let_go,
    parts,
    rows,
    scratch,
    take,
)
from trec_cli.core.stored import of_split, open_examples, open_summaries


def example(number: int, split: Split = "test") -> Example:
    return Example(
        example_id=f"é{number}",
        user_id=f"u{number}",
        split=split,
        history=["a"] * (number % 5),
        candidates=["x", "y"],
        positives=["y"],
        timestamp=number if number % 2 else number + 0.5,
    )


def test_records_are_read_by_place_in_any_order() -> None:
    shelf = Shelf(Example)
    whole = [example(number) for number in range(3000)]
    for each in whole[:1500]:
        shelf.append(each)
    assert shelf[1499] == whole[1499]
    for each in whole[1500:]:
        shelf.append(each)
    assert list(shelf) == whole
    assert [shelf[-1], shelf[7], shelf[2999], shelf[0]] == [
        *(whole[-1], whole[7], whole[2999], whole[0])
    ]
    assert type(shelf[1].timestamp) is int
    with pytest.raises(IndexError):
        shelf[3000]


@hypothesis_settings(deadline=None)
@given(st.lists(st.integers()), st.slices(12), st.slices(6))
def test_slices_are_those_of_a_list(numbers: list[int], first: slice, second: slice) -> None:
    view = Chosen(numbers, range(len(numbers)))
    assert list(view[first]) == numbers[first]
    assert list(view[first][second]) == numbers[first][second]
    assert len(view[first]) == len(numbers[first])


@hypothesis_settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2**40)), max_size=40))
def test_the_last_place_of_a_name_comes_first(pairs: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelves, "_RECENT", 3)
        places = Places()
        for name, place in pairs:
            places.add(name, place)
        for name in "abcdefghi":
            added = [place for other, place in pairs if other == name]
            found = list(places.maybe(name))
            assert found[:1] == added[-1:]


def test_names_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_RECENT", 2)
    monkeypatch.setattr(shelves, "hash", lambda _: 5, raising=False)
    found = ByName(Summary)
    for number in range(7):
        found.add(Summary(example_id=f"e{number}", summary=str(number)))
    assert [found[f"e{number}"].summary for number in range(7)] == list("0123456")
    assert "e7" not in found
    assert len(found) == 7
    with pytest.raises(KeyError):
        found["e7"]


def write(path: Path, examples: list[Example]) -> Path:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wb") as stream:
        for each in examples:
            stream.write(msgspec.json.encode(each) + b"\n")
    return path


@pytest.mark.parametrize("name", ["examples.jsonl", "examples.jsonl.gz"])
def test_stored_examples_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    splits: tuple[Split, ...] = ("train", "test", "valid")
    examples = [example(number, splits[number % 3]) for number in range(100)]
    path = write(tmp_path / name, examples)
    stored = open_examples(path)
    path.unlink()  # what was read stays
    assert list(stored) == examples
    assert list(of_split(stored, "valid")) == [e for e in examples if e.split == "valid"]
    assert list(of_split(examples, "train", 4)) == [e for e in examples if e.split == "train"][:4]


def test_an_example_that_stands_twice_is_named_as_before(tmp_path: Path) -> None:
    path = write(tmp_path / "examples.jsonl", [example(1), example(2), example(1), example(2)])
    said = []
    for read in (read_examples, open_examples):
        with pytest.raises(InputError) as caught:
            read(path)
        said.append(caught.value.faults)
    assert said[0] == said[1]
    assert [fault.line for fault in said[0]] == [3, 4]


def test_a_summary_that_stands_twice_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "summaries.jsonl"
    path.write_text('{"example_id": "a", "summary": "s"}\n' * 2, encoding="utf-8")
    with pytest.raises(InputError, match="stands twice"):
        open_summaries(path)


def test_a_full_disk_for_temporary_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_unnamed_file", lambda: os.open("/dev/full", os.O_RDWR))
    shelf = Shelf(Example)
    long = [example(number) for number in range(20_000)]
    with pytest.raises(PartialError, match="No space left on device"):
        deque(map(shelf.append, long))


def test_an_example_takes_bytes_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_RECENT", 500)
    monkeypatch.setattr(shelves, "_WRITTEN", 1 << 12)
    monkeypatch.setattr(shelves, "_CACHED", 100)
    held = []
    for count in (1000, 6000):
        path = write(tmp_path / f"{count}.jsonl", [example(number) for number in range(count)])
        tracemalloc.start()
        stored = open_examples(path)
        held.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(stored) == count
    assert held[1] - held[0] < 5000 * 40  # each is 170 bytes as a line


def test_scratch_arrays_keep_what_they_hold_when_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_IN_MEMORY", 64)
    monkeypatch.setattr(shelves, "_ROWS", 3)
    numbers = scratch((10, 2))
    assert not numbers.any()
    numbers[:] = np.arange(20).reshape(10, 2)
    let_go(numbers[4:])
    assert np.concatenate(list(parts(numbers))).tolist() == numbers.tolist()
    assert rows(numbers, np.array([9, 0, 5, 5])).tolist() == [[18, 19], [0, 1], [10, 11], [10, 11]]
    columns = [np.arange(10), np.arange(10) * 2]
    assert take(columns, np.array([7, 1, 1, 0])).tolist() == [[7, 1, 1, 0], [14, 2, 2, 0]]


def test_no_room_for_a_scratch_array_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_IN_MEMORY", 64)
    monkeypatch.setattr(shelves, "_unnamed_file", lambda: os.open("/dev/full", os.O_RDWR))
    with pytest.raises(PartialError, match="TMPDIR"):
        scratch((100,))


def test_a_table_that_grows_by_rows_is_read_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "_WRITTEN", 40)
    monkeypatch.setattr(shelves, "_ROWS", 2)
    table = Columns(3)
    for start in range(0, 5, 2):
        table.extend(np.arange(3 * start, 3 * min(start + 2, 5)).reshape(-1, 3))
    assert table.read().tolist() == [[0, 3, 6, 9, 12], [1, 4, 7, 10, 13], [2, 5, 8, 11, 14]]


def test_names_are_found_in_any_order_and_compared() -> None:
    texts = Texts()
    for number in range(200):
        texts.append(f"é{number}")
    names = Names(texts, np.array([hash(text) for text in texts]))
    assert list(names) == [f"é{number}" for number in range(200)]
    assert names[150] == "é150"
    assert [names.get(f"é{n}") for n in (0, 1, 2, 199, 3, 200, 4)] == [0, 1, 2, 199, 3, None, 4]
    assert "é7" in names
    assert "x" not in names
    few = names.only(np.array([5, 130, 2]))
    assert list(few) == ["é5", "é130", "é2"]
    assert names.places_of(few).tolist() == [5, 130, 2]
    assert few.places_of(names)[[5, 130, 2, 3]].tolist() == [0, 1, 2, -1]


def test_names_of_equal_hash_are_told_apart() -> None:
    names = Names(["b", "a"], np.array([hash("a")] * 2))
    assert names.get("a") == 1


@pytest.mark.parametrize("pairs", [1, 3, 1000])
def test_takers_count_users_once_for_each_item(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(shelves, "_PAIRS", pairs)
    monkeypatch.setattr(shelves, "_ROWS", 3)
    takers = Takers()
    for user, items in (("u", "aab"), ("v", "b"), ("w", ""), ("u", "cb"), ("x", "cc")):
        takers.add(user, list(items))
    assert takers.counts() == ({"a": 1, "b": 2, "c": 2}, 4)
    assert Takers().counts() == ({}, 0)
