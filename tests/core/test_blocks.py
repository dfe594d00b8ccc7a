"""Cutting histories into blocks and summaries into groups."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.core.blocks import even_cap, group_consecutive, split_blocks

lengths = st.lists(st.integers(1, 40), max_size=30)


def test_twelve_items_give_two_full_blocks_and_a_short_one() -> None:
    assert split_blocks(12, 5) == [(0, 5), (5, 10), (10, 12)]


def test_an_empty_history_has_no_blocks() -> None:
    assert split_blocks(0, 5) == []


@settings(max_examples=60)
@given(st.integers(0, 200), st.integers(1, 20))
def test_every_item_lies_in_exactly_one_block_and_only_the_last_is_short(
    length: int, size: int
) -> None:
    spans = split_blocks(length, size)
    assert [place for start, end in spans for place in range(start, end)] == list(range(length))
    assert all(end - start == size for start, end in spans[:-1])
    assert all(0 < end - start <= size for start, end in spans[-1:])


@settings(max_examples=60)
@given(st.integers(0, 100), st.integers(1, 10), st.integers(1, 30))
def test_a_grown_history_keeps_its_full_blocks(length: int, size: int, more: int) -> None:
    full = [span for span in split_blocks(length, size) if span[1] - span[0] == size]
    assert split_blocks(length + more, size)[: len(full)] == full


def test_neighbours_are_grouped_from_the_left() -> None:
    assert group_consecutive([3, 3, 3, 5, 9, 1], 8) == [(0, 2), (2, 4), (4, 5), (5, 6)]
    assert group_consecutive([3, 5, 1], 8) == [(0, 2), (2, 3)]
    assert group_consecutive([9, 1], 8) == [(0, 1), (1, 2)]


@settings(max_examples=60)
@given(lengths, st.integers(1, 100))
def test_groups_cover_everything_and_fit_unless_they_are_one(sizes: list[int], budget: int) -> None:
    groups = group_consecutive(sizes, budget)
    assert [p for start, end in groups for p in range(start, end)] == list(range(len(sizes)))
    for start, end in groups:
        assert end - start == 1 or sum(sizes[start:end]) <= budget


@settings(max_examples=60)
@given(st.lists(st.integers(1, 10), min_size=2, max_size=30), st.integers(20, 60))
def test_where_two_fit_the_number_of_groups_shrinks(sizes: list[int], budget: int) -> None:
    assert len(group_consecutive(sizes, budget)) <= (len(sizes) + 1) // 2


def test_long_texts_are_shortened_evenly_and_short_ones_left_whole() -> None:
    assert even_cap([2, 10, 10], 12) == 5
    assert even_cap([2, 3], 12) == 3
    assert even_cap([2, 2, 4], 8) == 4  # a text that fills its share leaves the rest to longer ones
    assert even_cap([5, 5], 1) == 0
    assert even_cap([], 12) == 0


@settings(max_examples=100)
@given(lengths, st.integers(0, 400))
def test_the_cap_is_the_largest_that_fits(sizes: list[int], budget: int) -> None:
    cap = even_cap(sizes, budget)

    def taken(cap: int) -> int:
        return sum(min(size, cap) for size in sizes)

    assert taken(cap) <= budget
    assert taken(cap) == sum(sizes) or taken(cap + 1) > budget


@pytest.mark.parametrize(
    ("length", "start", "spans"),
    [
        (12, 0, [(0, 5), (5, 10), (10, 12)]),
        # Items 12 to 23: what is left of the block 10 to 14 goes, since whole blocks follow.
        (12, 12, [(3, 8), (8, 12)]),
        (12, 15, [(0, 5), (5, 10), (10, 12)]),
        # Items 13 to 15: no whole block follows, so nothing is left out.
        (3, 13, [(0, 2), (2, 3)]),
        # Items 11 to 13 lie within one block.
        (3, 11, [(0, 3)]),
        (0, 7, []),
        (5, 6, [(0, 4), (4, 5)]),
        (9, 6, [(4, 9)]),
    ],
)
def test_borders_are_anchored_in_the_whole_history(
    length: int, start: int, spans: list[tuple[int, int]]
) -> None:
    assert split_blocks(length, 5, start) == spans


@settings(max_examples=100)
@given(st.integers(1, 9), st.integers(1, 60), st.integers(0, 80))
def test_a_new_item_under_a_cap_changes_no_whole_block(size: int, cap: int, past: int) -> None:
    def whole(total: int) -> set[tuple[int, int]]:
        start = max(0, total - cap)
        spans = split_blocks(total - start, size, start)
        assert spans[-1][1] == total - start
        assert all(one[1] == other[0] for one, other in pairwise(spans))
        assert spans[0][0] < max(1, min(size, cap))
        return {(a + start, b + start) for a, b in spans if b - a == size}

    before, after = whole(past + cap), whole(past + cap + 1)
    assert len(before - after) <= 1  # the one that the cap reaches
    assert len(after - before) <= 1  # the one that the new item completes
