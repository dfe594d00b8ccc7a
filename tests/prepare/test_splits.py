from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.prepare.helpers import collection, prepare, question
from trec_cli.core.errors import UsageError
from trec_cli.core.options import declared
from trec_cli.prepare.collection import Question
from trec_cli.prepare.settings import PrepareOptions, Sizes, parse_sizes, usual_sizes
from trec_cli.prepare.splits import SPLIT_NAMES, Splits, place_of, share_of
from trec_cli.prepare.splits import by_fixed as split_fixed
from trec_cli.prepare.splits import by_users as split_users
from trec_cli.prepare.timelines import cuts_by_shares, event_times

USERS = [f"u{i}" for i in range(3000)]
THIRDS = Sizes(Fraction(1, 3), Fraction(1, 3), Fraction(1, 3))


def points(users: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    return np.array([share_of(seed, user) for user in users], dtype=np.uint64)


def named(users: Sequence[str], splits: Splits) -> dict[str, str]:
    pairs = zip(users, splits.tolist(), strict=True)
    return {user: SPLIT_NAMES[split] for user, split in pairs if split >= 0}


def by_users(users: Sequence[str], sizes: Sizes, seed: int) -> dict[str, str]:
    return named(users, split_users(points(users, seed), sizes))


def by_fixed(users: Sequence[str], offered: set[str], sizes: Sizes, seed: int) -> dict[str, str]:
    has = np.array([user in offered for user in users])
    return named(users, split_fixed(points(users, seed), has, sizes))


def hash_order(users: Iterable[str], seed: int) -> list[str]:
    return sorted(users, key=lambda user: place_of(seed, user))


def by_time(questions: list[Question], sizes: Sizes) -> list[str]:
    cuts = cuts_by_shares(event_times(questions), sizes)
    return [str(cuts.split(q.timestamp or 0)) for q in questions]


ids = st.text("abcxyz-1", min_size=1, max_size=6)


@hypothesis_settings(max_examples=50)
@given(st.sets(ids, min_size=1), st.sets(ids), st.integers(0, 3))
def test_a_users_split_does_not_change_with_the_other_users(
    users: set[str], others: set[str], seed: int
) -> None:
    alone = by_users(sorted(users), THIRDS, seed)
    crowd = by_users(sorted(users | others, reverse=True), THIRDS, seed)
    assert {user: crowd[user] for user in users} == alone


def test_shares_come_out_approximately() -> None:
    counted = Counter(by_users(USERS, Sizes(), 0).values())
    assert abs(counted["train"] - 2500) < 100
    assert abs(counted["valid"] - 250) < 60
    assert abs(counted["test"] - 250) < 60


def test_numbers_come_out_exactly_and_the_rest_is_in_no_split() -> None:
    sizes = parse_sizes("100", "20", "30")
    splits = by_users(USERS, sizes, 0)
    assert Counter(splits.values()) == {"train": 100, "valid": 20, "test": 30}
    assert by_users(USERS[::-1], sizes, 0) == splits


def test_more_users_than_there_are_is_an_error() -> None:
    with pytest.raises(UsageError, match="3,000 users are left, and the sizes ask for 12,000"):
        by_users(USERS, parse_sizes("10000", "1000", "1000"), 0)


def test_picking_users_says_nothing_about_their_split() -> None:
    picked = hash_order(USERS, 0)[:600]
    counted = Counter(by_users(picked, THIRDS, 0).values())
    assert all(150 < counted[split] < 250 for split in ("train", "valid", "test"))


def test_hash_order_changes_with_the_seed_only() -> None:
    assert hash_order(USERS, 1) == hash_order(USERS[::-1], 1)
    assert hash_order(USERS, 1) != hash_order(USERS, 2)
    few = set(USERS[:50])
    assert hash_order(few, 1) == [user for user in hash_order(USERS, 1) if user in few]


def test_users_with_fixed_candidates_test() -> None:
    offered = set(USERS[:100])
    splits = by_fixed(USERS, offered, Sizes(), 0)
    assert {user for user, split in splits.items() if split == "test"} == offered
    counted = Counter(splits.values())
    assert abs(counted["valid"] - 2900 / 11) < 70
    exact = by_fixed(USERS, offered, parse_sizes("500", "50", "40"), 0)
    assert Counter(exact.values()) == {"train": 500, "valid": 50, "test": 40}
    assert {user for user, split in exact.items() if split == "test"} < offered


def test_time_cuts_where_the_shares_say() -> None:
    questions = [question(f"u{t}", ["a", "b"], timestamp=t) for t in range(12)]
    assert by_time(questions, Sizes()) == ["train"] * 10 + ["valid", "test"]


def test_equal_times_stay_together_on_the_earlier_side() -> None:
    questions = [question(f"u{i}", ["a", "b"], timestamp=t) for i, t in enumerate([3, 1, 1, 2])]
    sizes = parse_sizes("0.25", "0.25", "0.5")
    assert by_time(questions, sizes) == ["test", "train", "train", "test"]


def test_no_share_for_training_is_possible() -> None:
    questions = [question(f"u{t}", ["a", "b"], timestamp=t) for t in range(4)]
    assert by_time(questions, parse_sizes("0", "0.5", "0.5")) == ["valid"] * 2 + ["test"] * 2


def test_time_needs_times() -> None:
    questions = [question("a", ["x", "y"], timestamp=1), question("b", ["x", "y"])]
    with pytest.raises(UsageError, match="1 of 2 examples have none"):
        prepare(collection(questions, "xy"), split="time", sizes=Sizes())


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("0.8", None, "0.2"), "together"),
        (("0.8", "0.1", "0.2"), "add up to 1"),
        (("0.8", "100", "0.2"), "all shares or all numbers"),
        (("many", "1", "1"), "'many' is no size"),
        (("1/0", "1", "1"), "'1/0' is no size"),
        (("-1", "1", "1"), "negative"),
        (("0.5", "1", "0"), "all shares or all numbers"),
        (("-0.5", "0.5", "1.0"), "negative"),
        (("0", "0", "0"), "all 0"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(
    texts: tuple[str | None, str | None, str | None], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parse_sizes(*texts)


def test_only_predictions_need_no_other_split() -> None:
    assert parse_sizes("0", "0", "0", predict=True).zero == {"train", "valid", "test"}
    assert parse_sizes("0.9", "0.1", "0").zero == {"test"}


def test_the_help_names_the_sizes_that_are_taken_by_default() -> None:
    told = {option.flag: option.option.default_text for option in declared(PrepareOptions)}
    assert told["--test-users"] == "1/4; 1/8 from 8,000 users on; 1/12 from 12,000 users on"
    assert (told["--train-users"], told["--valid-users"]) == ("the rest", "1/12")
    assert str(usual_sizes(7_999)) == "2/3, 1/12, 1/4"
    assert str(usual_sizes(8_000)) == "19/24, 1/12, 1/8"
    assert str(usual_sizes(12_000)) == "5/6, 1/12, 1/12"


def test_sizes_are_shares_or_numbers() -> None:
    assert parse_sizes(None, None, None) == Sizes()
    assert parse_sizes("10/12", "1/12", "1/12") == Sizes()
    assert parse_sizes("1000", "0", "10").total == 1010
