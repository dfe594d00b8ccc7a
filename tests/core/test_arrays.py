import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core import arrays, spool
from trec_cli.core.arrays import Columns, Takers, distinct, let_go, parts, rows, scratch, take
from trec_cli.core.errors import PartialError


def test_scratch_arrays_keep_what_they_hold_when_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_IN_MEMORY", 64)
    monkeypatch.setattr(arrays, "_ROWS", 3)
    numbers = scratch((10, 2))
    assert not numbers.any()
    numbers[:] = np.arange(20).reshape(10, 2)
    let_go(numbers[4:])
    assert np.concatenate(list(parts(numbers))).tolist() == numbers.tolist()
    assert rows(numbers, np.array([9, 0, 5, 5])).tolist() == [[18, 19], [0, 1], [10, 11], [10, 11]]
    columns = [np.arange(10), np.arange(10) * 2]
    assert take(columns, np.array([7, 1, 1, 0])).tolist() == [[7, 1, 1, 0], [14, 2, 2, 0]]


def test_no_room_for_a_scratch_array_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_IN_MEMORY", 64)
    monkeypatch.setattr(arrays, "unnamed_file", lambda: os.open("/dev/full", os.O_RDWR))
    with pytest.raises(PartialError, match="TMPDIR"):
        scratch((100,))


def test_a_table_that_grows_by_rows_is_read_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_WRITTEN", 40)
    monkeypatch.setattr(arrays, "_ROWS", 2)
    table = Columns(3)
    for start in range(0, 5, 2):
        table.extend(np.arange(3 * start, 3 * min(start + 2, 5)).reshape(-1, 3))
    assert table.read().tolist() == [[0, 3, 6, 9, 12], [1, 4, 7, 10, 13], [2, 5, 8, 11, 14]]


@pytest.mark.parametrize("pairs", [1, 3, 1000])
def test_takers_count_users_once_for_each_item(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(arrays, "_PAIRS", pairs)
    monkeypatch.setattr(arrays, "_ROWS", 3)
    takers = Takers()
    for user, items in (("u", "aab"), ("v", "b"), ("w", ""), ("u", "cb"), ("x", "cc")):
        takers.add(user, list(items))
    assert takers.counts() == ({"a": 1, "b": 2, "c": 2}, 4)
    assert Takers().counts() == ({}, 0)


@given(st.lists(st.sampled_from([-(2**63), -1, 0, 1, 7, 2**63 - 1])))
def test_distinct_values_are_those_of_a_set_in_order(values: list[int]) -> None:
    assert distinct(np.array(values, np.int64)).tolist() == sorted(set(values))


def test_distinct_values_keep_their_kind_of_number() -> None:
    found = distinct(np.array([2**64 - 1, 0, 2**64 - 1, 5], np.uint64))
    assert found.tolist() == [0, 5, 2**64 - 1]
    assert found.dtype == np.uint64
