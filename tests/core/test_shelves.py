import gzip
import os
import tracemalloc
from collections import deque
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core import names, shelves, spool
from trec_cli.core.errors import InputError, PartialError
from trec_cli.core.jsonl import read_examples
from trec_cli.core.records import Example, Split
from trec_cli.core.shelves import Chosen, Shelf
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


@given(st.lists(st.integers()), st.slices(12), st.slices(6))
def test_slices_are_those_of_a_list(numbers: list[int], first: slice, second: slice) -> None:
    view = Chosen(numbers, range(len(numbers)))
    assert list(view[first]) == numbers[first]
    assert list(view[first][second]) == numbers[first][second]
    assert len(view[first]) == len(numbers[first])


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
    monkeypatch.setattr(spool, "unnamed_file", lambda: os.open("/dev/full", os.O_RDWR))
    shelf = Shelf(Example)
    long = [example(number) for number in range(20_000)]
    with pytest.raises(PartialError, match="No space left on device"):
        deque(map(shelf.append, long))


def test_an_example_takes_bytes_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_RECENT", 500)
    monkeypatch.setattr(spool, "_WRITTEN", 1 << 12)
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
