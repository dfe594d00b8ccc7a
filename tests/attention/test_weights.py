"""Attention weights and shares of a token budget, worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.attention.weights import (
    attention_weights,
    block_keys,
    recent_weights,
    share_out,
    strongest,
)

EAST, NORTH = [1.0, 0.0], [0.0, 1.0]
HALF = math.sqrt(0.5)


def test_a_key_is_the_mean_of_its_items_scaled_to_length_one() -> None:
    keys = block_keys(np.array([EAST, NORTH, NORTH]), [(0, 2), (2, 3)])
    assert keys == pytest.approx(np.array([[HALF, HALF], NORTH]))


def test_items_that_ask_are_no_part_of_a_key() -> None:
    keys = block_keys(np.array([EAST, NORTH, NORTH]), [(0, 2), (2, 3)], before=1)
    assert keys == pytest.approx(np.array([EAST, [0.0, 0.0]]))


def test_items_without_text_leave_a_key_of_zeros() -> None:
    assert not block_keys(np.zeros((2, 3)), [(0, 2)]).any()


def test_weights_are_the_softmax_of_cosines_over_temperature() -> None:
    weights = attention_weights(np.array(EAST), np.array([EAST, NORTH]), temperature=0.5)
    e = math.exp(1 / 0.5)
    assert weights == pytest.approx([e / (e + 1), 1 / (e + 1)])


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1e-3, [1.0, 0.0, 0.0]), (1e9, [1 / 3, 1 / 3, 1 / 3])]
)
def test_a_small_temperature_looks_at_one_key_and_a_large_one_at_all_alike(
    temperature: float, expected: list[float]
) -> None:
    keys = np.array([EAST, [HALF, HALF], NORTH])
    assert attention_weights(np.array(EAST), keys, temperature) == pytest.approx(expected)


def test_equal_keys_have_equal_weights_to_the_last_bit() -> None:
    random = np.random.default_rng(0)
    key = random.normal(size=384)
    key /= np.linalg.norm(key)
    query = random.normal(size=384)
    query /= np.linalg.norm(query)
    keys = np.array([key, -key, key, key + 1e-12, *random.normal(size=(29, 384))])
    weights = attention_weights(query, keys, 0.1)
    assert weights[0] == weights[2] == weights[3]


def test_unseen_keys_get_nothing_unless_none_is_seen() -> None:
    keys, query = np.array([EAST, NORTH, NORTH]), np.array(EAST)
    assert attention_weights(query, keys, 0.1, [False, True, True]) == pytest.approx([0, 0.5, 0.5])
    everyone = attention_weights(query, keys, 0.1, [False] * 3)
    assert everyone == pytest.approx(attention_weights(query, keys, 0.1))


def test_without_keys_there_are_no_weights() -> None:
    assert attention_weights(np.array(EAST), np.zeros((0, 2)), 0.1).tolist() == []


def test_the_recent_items_look_at_older_blocks_like_them() -> None:
    vectors = np.array([EAST, EAST, NORTH, NORTH, NORTH, EAST])  # the last item asks
    spans, seen = [(0, 2), (2, 4), (4, 6)], [True] * 3
    weights = recent_weights(vectors, spans, 1, 0.1, seen)
    # Keys: east, north, and north (the third block's other item).
    e = math.exp(10)
    assert weights == pytest.approx([e / (e + 2), 1 / (e + 2), 1 / (e + 2)])


def test_a_block_of_asking_items_alone_gets_nothing() -> None:
    vectors = np.array([EAST, NORTH, EAST, EAST])
    assert recent_weights(vectors, [(0, 2), (2, 4)], 2, 0.1, [True, True]).tolist() == [1.0, 0.0]


def test_one_block_gets_everything_though_all_its_items_ask() -> None:
    assert recent_weights(np.array([EAST, NORTH]), [(0, 2)], 3, 0.1, [True]).tolist() == [1.0]


def test_of_a_short_history_all_items_ask() -> None:
    vectors = np.array([EAST, NORTH])
    # Three are to ask and there are two: (1, 1) is as near to each of them.
    weights = recent_weights(vectors, [(0, 1), (1, 2)], 3, 0.1, [True, True])
    assert weights.tolist() == [0.5, 0.5]


def test_the_strongest_come_first_and_newer_ones_win_ties() -> None:
    assert strongest(np.array([0.3, 0.2, 0.3, 0.2, 0.0]), 9) == [2, 0, 3, 1]
    assert strongest(np.array([0.25] * 4), 2) == [3, 2]
    assert strongest(np.zeros(0), 3) == []


@pytest.mark.parametrize(
    ("lengths", "weights", "budget", "expected"),
    [
        ([40, 40], [0.75, 0.25], 40, [30, 10]),  # by weight
        ([10, 40], [0.9, 0.1], 64, [10, 40]),  # short ones leave the rest to others
        ([40, 40, 40], [0.5, 0.3, 0.2], 64, [32, 19, 13]),
        ([40, 40], [0.95, 0.05], 40, [40, 0]),  # 2 tokens are under the least of 8
        ([40, 40], [0.5, 0.5], 10, [0, 10]),  # of equal ones the newer stays
        ([40, 3], [0.9, 0.1], 40, [37, 3]),  # a short text may be shorter than the least
        ([40], [1.0], 5, [5]),  # the last one is cut as far as it must
        ([40, 40], [1.0, 0.0], 64, [40, 0]),
        ([0, 4], [0.5, 0.5], 64, [0, 4]),
        ([], [], 64, []),
        ([4], [1.0], 0, [0]),
    ],
)
def test_a_budget_is_shared_by_weight(
    lengths: list[int], weights: list[float], budget: int, expected: list[int]
) -> None:
    assert share_out(lengths, weights, budget, least=8) == expected


@given(
    st.lists(st.tuples(st.integers(0, 80), st.floats(0, 1)), max_size=9),
    st.integers(0, 200),
    st.integers(1, 12),
)
def test_shares_never_exceed_budget_or_length(
    texts: list[tuple[int, float]], budget: int, least: int
) -> None:
    lengths, weights = [n for n, _ in texts], [w for _, w in texts]
    given = share_out(lengths, weights, budget, least)
    assert len(given) == len(texts)
    assert sum(given) <= budget
    assert all(0 <= tokens <= length for tokens, length in zip(given, lengths, strict=True))
    heard = [n for n, w in texts if w > 0]
    if sum(heard) <= budget and all(w in (0.0, 1.0) for _, w in texts):
        assert sum(given) == sum(heard)


def test_what_the_prompt_does_not_show_stays_in_the_keys() -> None:
    """Both blocks are as near to the asking items, and neither is left out."""
    vectors = np.array([EAST, EAST, EAST, EAST])
    spans = [(0, 2), (2, 4)]
    seen = [True, True]
    assert recent_weights(vectors, spans, 2, 0.1, seen).tolist() == [1.0, 0.0]
    assert recent_weights(vectors, spans, 2, 0.1, seen, shown=False).tolist() == [0.5, 0.5]
