"""Signals of items: counts over other folds, groups, numbers, ranks in the list."""

import numpy as np
import pytest

from tests.audit.worlds import World, make
from trec_cli.audit.features import OfItem, _natural_order, _number, _numbers, _ranks, basis, others
from trec_cli.audit.questions import FOLDS, Questions, Rows, read_questions


def rows(*widths: int) -> Rows:
    starts = np.concatenate([[0], np.cumsum(widths)])
    number = int(starts[-1])
    none = np.zeros(number, dtype=np.int64)
    return Rows(starts, np.arange(number), none > 0, none, np.full(number, np.nan))


def read(seed: int = 0) -> Questions:
    items, examples = make(World(train=30, valid=0, test=10), seed)
    return read_questions(examples, items)


def test_counts_leave_out_the_own_fold() -> None:
    fold, codes = np.array([0, 0, 1, 4]), np.array([2, 2, 2, 0])
    counted = others(fold, codes, 3)
    assert counted.shape == (FOLDS, 3)
    assert counted[:, 2].tolist() == [1, 2, 3, 3, 3]
    assert counted[:, 0].tolist() == [1, 1, 1, 1, 0]
    weighted = others(fold, codes, 3, np.array([True, False, True, True]))
    assert weighted[:, 2].tolist() == [1, 1, 2, 2, 2]


def test_ranks_go_from_minus_one_to_one_with_ties_in_the_middle() -> None:
    found = _ranks(np.array([5.0, 1.0, 5.0, 7.0, 2.0, 1.0]), rows(4, 2))
    assert found.tolist() == [0.0, -0.75, 0.0, 0.75, 0.5, -0.5]


def test_equal_values_have_rank_zero_in_lists_of_any_length() -> None:
    assert _ranks(np.ones(7), rows(1, 2, 4)).tolist() == pytest.approx([0] * 7)


def test_what_is_not_known_has_a_mark_and_the_middle_value() -> None:
    found = basis(OfItem(np.array([1.0, np.nan, 3.0])), rows(3))
    assert found[:, 2].tolist() == [1.0, 2.0, 3.0]
    assert found[:, 3].tolist() == [1.0, 0.0, 1.0]


def test_ids_are_ordered_as_people_count() -> None:
    assert _natural_order(["N10", "N9", "A1", "N9b", "7"]).tolist() == [4, 2, 1, 3, 0]


@pytest.mark.parametrize(
    ("text", "value"), [("$1,299.50", 1299.5), ("-3", -3.0), ("12", 12.0), ("€ 5", 5.0)]
)
def test_prices_are_numbers(text: str, value: float) -> None:
    assert _number(text) == value


def test_an_attribute_of_few_numbers_is_not_one() -> None:
    assert _numbers(["1", "big", "small", ""]) is None
    found = _numbers(["1", "2", "", "3"])
    assert found is not None
    assert np.isnan(found[2])


def test_a_user_is_in_one_fold_whatever_the_order() -> None:
    items, examples = make(World(train=30, valid=0, test=10), 0)
    forward, backward = (read_questions(listed, items) for listed in (examples, examples[::-1]))
    of_user = dict(zip(forward.users, forward.folds.tolist(), strict=True))
    assert of_user == dict(zip(backward.users, backward.folds.tolist(), strict=True))
    assert set(of_user.values()) == set(range(FOLDS))


def test_parts_and_chunks_hold_every_row_once() -> None:
    questions = read()
    chosen = np.array([3, 5, 1, 20])
    part = questions.part(chosen)
    assert part.items.tolist() == [
        item
        for index in chosen.tolist()
        for item in questions.rows.items[
            questions.rows.starts[index] : questions.rows.starts[index + 1]
        ].tolist()
    ]
    assert np.concatenate(list(questions.chunks(chosen, 12))).tolist() == chosen.tolist()
    assert len(list(questions.chunks(chosen, 12))) > 1


def test_a_sample_is_the_same_in_any_order_and_never_empty() -> None:
    questions = read()
    everything = questions.of("train")
    some = questions.sample(everything, 55, 0)
    assert len(some) == 5
    assert questions.sample(everything[::-1], 55, 0).tolist() == some.tolist()
    assert len(questions.sample(everything, 3, 0)) == 1
    assert questions.sample(everything, 10_000, 0).tolist() == everything.tolist()


def test_an_item_counts_once_for_a_user_however_often_it_is_taken() -> None:
    items, examples = make(World(train=3, valid=0, test=10), 0)
    repeated = [*examples, *examples]
    once, twice = (read_questions(listed, items).histories for listed in (examples, repeated))
    assert len(once.items) == len(twice.items)
