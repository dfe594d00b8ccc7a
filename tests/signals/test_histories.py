"""Histories as arrays, and what is counted of them, worked out by hand."""

import numpy as np
import pytest

from tests.signals.small import example
from trec_cli.signals.histories import Events, Histories, successions, takers

ROWS = {"a": 0, "b": 1, "c": 2, "d": 3}


def _of(*sequences: str) -> Histories:
    return Histories.of(map(list, sequences), ROWS)


def test_unknown_items_are_left_out_and_empty_histories_stay() -> None:
    histories = _of("a?b", "", "?")
    assert histories.items.tolist() == [0, 1]
    assert histories.ends.tolist() == [0, 2, 2, 2]
    assert histories.last().tolist() == [1, -1, -1]


def test_weights_decay_with_age_and_add_up_for_an_item_that_stands_twice() -> None:
    assert _of("aba", "").weights(0.5).toarray().tolist() == [[1.25, 0.5, 0, 0], [0, 0, 0, 0]]
    assert _of("ab").weights(0.0).toarray().tolist() == [[0, 1, 0, 0]]
    assert _of("ab", "").shares(1.0).toarray().tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0, 0]]


def test_blocks_and_masks_cut_between_sequences() -> None:
    histories = _of("ab", "", "c")
    assert histories.block(1, 3).ends.tolist() == [0, 0, 1]
    kept = histories.where(np.array([False, True, True]))
    assert kept.items.tolist() == [2]
    assert kept.ends.tolist() == [0, 0, 1]


def test_newest_items_are_cut_from_each_sequence() -> None:
    newest = _of("abc", "", "d").newest(2)
    assert newest.items.tolist() == [1, 2, 3]
    assert newest.ends.tolist() == [0, 2, 2, 3]


def test_a_user_counts_once_per_item() -> None:
    assert takers(_of("aab", "b", "")).tolist() == [1, 2, 0, 0]


def test_successions_decay_with_distance_and_stay_within_a_user() -> None:
    assert successions(_of("abc", "a"), decay=0.5).toarray().tolist() == [
        [0, 1, 0.5, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_successions_may_count_backwards_and_never_an_item_with_itself() -> None:
    both = successions(_of("aab"), decay=1.0, backward=0.5).toarray()
    assert both[0].tolist() == [0, 2, 0, 0]
    assert both[1].tolist() == [1, 0, 0, 0]


def test_successions_end_with_the_window() -> None:
    assert successions(_of("abc"), decay=1.0, window=1).toarray()[0].tolist() == [0, 1, 0, 0]
    assert successions(_of(), decay=1.0).nnz == 0


def test_events_join_the_examples_of_a_train_user() -> None:
    events = Events.of(
        [
            example("u", "train", "b", right="c"),
            example("u", "train", "bc", right="d"),
            example("v", "valid", "a", right="b"),
        ],
        ROWS,
    )
    assert events.users == ["u"]
    assert events.sequences.items.tolist() == [1, 2, 3]
    assert events.answers.items.tolist() == [2, 3]


def test_a_capped_history_that_moved_on_is_joined_with_what_stood_before() -> None:
    shown = [
        example("u", "train", "ab", right="c"),
        example("u", "train", "bc", right="d"),
    ]
    assert Events.of(shown, ROWS).sequences.items.tolist() == [0, 1, 2, 3]


def test_events_without_some_users() -> None:
    shown = [example(user, "train", "a", right="b") for user in "uvw"]
    left = Events.of(shown, ROWS).without(np.array([True, False, True]))
    assert left.users == ["v"]
    assert len(left.sequences) == len(left.answers) == 1


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_events_of_nobody_count_nothing(decay: float) -> None:
    events = Events.of([], ROWS)
    assert takers(events.sequences).tolist() == [0, 0, 0, 0]
    assert events.sequences.weights(decay).shape == (0, 4)
