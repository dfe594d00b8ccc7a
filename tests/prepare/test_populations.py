"""Negatives come from what could have been right: nobody wins without looking at the user."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.prepare.helpers import collection, prepare, question, settings
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Example
from trec_cli.core.seeds import fold_of
from trec_cli.prepare.collection import Question, ReadOptions
from trec_cli.prepare.negatives import Sampler
from trec_cli.prepare.settings import parse_sizes

HALVES = parse_sizes("0.5", "0", "0.5")
IMPRESSIONS = ReadOptions(None, target="impression", per_impression=True)
DAY = 86_400


def wrong(example: Example) -> set[str]:
    return set(example.candidates) - set(example.positives)


def impression(user: str, history: str, clicked: str, others: str, day: int | None) -> Question:
    moment = None if day is None else day * DAY + 3600.0
    return Question(
        user, list(history), list(clicked), timestamp=moment, offered=list(others), suffix="-1"
    )


def test_what_nobody_took_is_no_negative() -> None:
    questions = [question("u", "abc"), question("v", "bcd")]
    examples, prepared = prepare(collection(questions, "abcdefgh"), population="seen", number=9)
    assert {e.user_id: wrong(e) for e in examples} == {"u": {"d"}, "v": {"a"}}
    assert prepared.report.choices["population"] == "seen (no times)"


@hypothesis_settings(max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 20), min_size=2, max_size=6), min_size=2, max_size=8),
    st.sampled_from(["uniform", "popularity"]),
)
def test_no_negative_was_first_taken_after_the_question(
    users: list[list[int]], negatives: str
) -> None:
    questions = []
    first: dict[str, int] = {}
    for number, taken in enumerate(users):
        times = sorted(taken)
        items = [chr(97 + time % 13) for time in times]
        for item, time in zip(items, times, strict=True):
            first[item] = min(time, first.get(item, time))
        questions.append(
            question(f"u{number}", items, times=list(map(float, times[:-1])), timestamp=times[-1])
        )
    chosen = {"population": "seen", "negatives": negatives, "number": 3}
    examples, prepared = prepare_or_nothing(questions, **chosen)
    for example in examples:
        assert example.timestamp is not None
        early = {item for item in wrong(example) if first[item] <= example.timestamp}
        assert len(wrong(example) - early) <= prepared
    if not prepared:
        assert all(first[i] <= (e.timestamp or 0) for e in examples for i in wrong(e))


def prepare_or_nothing(questions: list[Question], **chosen: object) -> tuple[list[Example], int]:
    """Prepare; where no question has a negative, nothing comes out."""
    examples, prepared = prepare(collection(questions, "abcdefghijklm"), **chosen)
    return examples, prepared.report.negatives_outside


def test_impressions_draw_from_what_was_shown_that_day() -> None:
    questions = [
        impression("u", "ab", "c", "de", 1),
        impression("v", "ab", "f", "gd", 1),
        impression("w", "ab", "h", "ij", 2),
    ]
    examples, prepared = prepare(
        collection(questions, "abcdefghijklmnop", "impression"),
        read=IMPRESSIONS,
        population="auto",
        negatives="uniform",
        number=4,
    )
    drawn = {e.user_id: wrong(e) for e in examples}
    assert drawn["u"] == set("dfge")
    assert drawn["v"] == set("cdge")
    assert drawn["w"] > set("ij")
    assert not drawn["w"] & set("abklmnop")
    assert prepared.report.negatives_outside == 2
    assert prepared.report.choices["population"] == "shown on the same day"
    assert any("outside the population" in warning for warning in prepared.report.warnings())


def test_popularity_counts_what_is_right_in_the_same_split() -> None:
    """Histories hold h alone, answers are a to d: h may not be drawn, nor what only train has."""
    train = [question(f"t{n}", ["h", "ab"[n % 2]], timestamp=n) for n in range(20)]
    test = [question(f"v{n}", ["h", "cd"[n % 2]], timestamp=100 + n) for n in range(20)]
    examples, _ = prepare(
        collection([*train, *test], "abcdhxyz"),
        population="seen",
        negatives="popularity",
        split="time",
        sizes=HALVES,
        number=1,
    )
    drawn = {split: Counter[str]() for split in ("train", "test")}
    for example in examples:
        drawn[example.split].update(wrong(example))
    assert drawn == {"train": {"a": 10, "b": 10}, "test": {"c": 10, "d": 10}}


def drawn_by_popularity(users: int, number: int) -> tuple[list[Example], list[str]]:
    """Ask users with an answer of their own each; the last 30 test, the others train."""
    questions = [question(f"u{n}", ["h", f"a{n}"], timestamp=n) for n in range(users)]
    examples, prepared = prepare(
        collection(questions, ["h", *(f"a{n}" for n in range(users))]),
        population="seen",
        negatives="popularity",
        split="time",
        sizes=parse_sizes(str(users - 30), "0", "30"),
        number=number,
    )
    return examples, prepared.report.warnings()


def test_by_popularity_train_draws_from_answers_of_its_own_fold() -> None:
    examples, warnings = drawn_by_popularity(330, 4)
    for example in examples:
        users = {f"u{item[1:]}" for item in wrong(example)}
        assert len(users) == 4
        if example.split == "train":
            assert {fold_of(user) for user in users} == {fold_of(example.user_id)}
        else:
            assert users <= {f"u{n}" for n in range(300, 330)}
    assert not any("other folds" in warning for warning in warnings)


def test_a_fold_with_too_few_answers_takes_those_of_others_and_says_so() -> None:
    """With 60 users in 10 folds no fold has 21 answers; train has 59 others."""
    examples, warnings = drawn_by_popularity(90, 20)
    assert all(len(wrong(example)) == 20 for example in examples)
    assert all(int(item[1:]) < 60 for e in examples if e.split == "train" for item in wrong(e))
    own = Counter(fold_of(f"u{n}") for n in range(60))
    others = sum(count * (20 - (count - 1)) for count in own.values())
    (warning,) = [warning for warning in warnings if "other folds" in warning]
    assert f"{others / (60 * 20):.1%} of the negatives" in warning


def test_a_users_other_answers_in_train_are_no_negatives_by_popularity() -> None:
    """Each user has five answers; those of the own fold are mostly drawn, the own ones never."""
    questions = [
        question(f"u{u}", [f"a{u}-{n}" for n in range(end)], timestamp=end, suffix=f"-{end}")
        for u in range(40)
        for end in range(2, 7)
    ]
    items = sorted({item for q in questions for item in (*q.history, *q.positives)})
    sizes = parse_sizes("40", "0", "0")
    examples, _ = prepare(
        collection(questions, items), negatives="popularity", population="seen", number=9,
        sizes=sizes,
    )  # fmt: skip
    assert len(examples) == 200
    for example in examples:
        assert len(wrong(example)) == 9
        assert example.user_id not in {f"u{item[1:].split('-')[0]}" for item in wrong(example)}


def test_only_negatives_by_popularity_are_made_with_other_settings_than_before() -> None:
    changed = settings(negatives="popularity", population="auto").as_dict()
    assert changed["popularity"] == "by fold in train"
    for same in ({"negatives": "uniform", "population": "auto"}, {"negatives": "popularity"}):
        assert "popularity" not in settings(**same).as_dict()


def test_the_catalogue_stays_reachable_with_a_warning() -> None:
    _, prepared = prepare(
        collection([question("u", "abc")], "abcdefgh"), population="catalogue", number=5
    )
    assert any("whole catalogue" in warning for warning in prepared.report.warnings())


def test_shown_needs_impressions() -> None:
    with pytest.raises(UsageError, match="--population shown needs --target impression"):
        prepare(collection([question("u", "abc")], "abc"), population="shown")


def test_a_draw_as_of_a_time_sees_nothing_later() -> None:
    import numpy as np

    since = {"a": 3.0, "b": 1.0, "c": 2.0, "d": 9.0}
    sampler = Sampler(since.keys(), {"a": 5, "b": 1, "c": 1, "d": 100}, since)
    rng = np.random.default_rng(0)
    assert sorted(sampler.draw(rng, 9, set(), 3.0)) == ["a", "b", "c"]
    assert sampler.draw(rng, 1, {"b"}, 1.5) == []
    one = Counter(sampler.draw(rng, 1, set(), 3.0)[0] for _ in range(700))
    assert 400 < one["a"] < 600
    assert one["d"] == 0
