"""Negatives come from what could have been right: nobody wins without looking at the user."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.prepare.helpers import collection, prepare, question
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Example
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


@hypothesis_settings(deadline=None, max_examples=60)
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
