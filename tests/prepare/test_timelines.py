"""Events before anything is asked, and one cut in time for all, worked out by hand."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.prepare.helpers import READ, collection, prepare, question, settings
from trec_cli.core.errors import UsageError
from trec_cli.core.records import Example
from trec_cli.prepare.collection import Collection, Question, ReadOptions
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import moment, parse_sizes, usual_sizes
from trec_cli.prepare.timelines import core, filtered

IDS = "abcdefghij"
DAY = 86_400.0


def timed(user: str, events: dict[int, str], ratings: list[float | None] | None = None) -> Question:
    """Make a timeline of items by day."""
    times = [day * DAY for day in events]
    return question(
        user, list(events.values()), times=times[:-1], timestamp=times[-1], ratings=ratings
    )


def log(*questions: Question) -> Collection:
    made = collection(questions, IDS)
    return Collection(made.catalogue, made.questions, is_log=True)


def kept(*questions: Question, is_log: bool = True, **changes: object) -> tuple[list[str], Report]:
    """Write the timelines that are left as texts."""
    report = Report()
    left = filtered(list(questions), settings(**changes), report, is_log=is_log)
    return ["".join([*q.history, *q.positives]) for q in left], report


def test_events_of_the_same_time_have_an_order_that_no_file_gives() -> None:
    def order(text: str, seed: int = 0) -> str:
        return kept(question("u", text, times=[5.0] * 5, timestamp=5), seed=seed)[0][0]

    assert order("abcdef") == order("fedcba") == order("cafebd")
    assert len({order("abcdef", seed) for seed in range(20)}) > 10
    lasts = Counter(
        kept(question(f"u{n}", "abcdef", times=[5.0] * 5, timestamp=5))[0][0][-1]
        for n in range(1200)
    )
    assert all(130 < lasts[item] < 270 for item in "abcdef")


def test_ties_are_counted_and_sequences_keep_their_order() -> None:
    tied = question("u", "abc", times=[1.0, 2.0], timestamp=2)
    untied = question("v", "cba", times=[1.0, 1.0], timestamp=2)
    left, report = kept(tied, untied, question("w", "abc"), is_log=False)
    assert left == ["abc", "cba", "abc"]
    assert (report.ties.part, report.ties.total) == (1, 2)


def test_a_period_ends_before_its_last_date() -> None:
    left, report = kept(
        timed("u", {1: "a", 2: "b", 3: "c", 4: "d"}),
        timed("v", {1: "a", 5: "b"}),
        since="1970-01-03",
        until="1970-01-05",
    )
    assert left == ["bc"]
    assert report.left_out == {"outside --since and --until": 4}
    assert report.dropped == {"no event is left: outside --since and --until": 1}


def test_a_target_that_is_left_out_gives_way_to_the_one_before() -> None:
    examples, _ = prepare(
        log(timed("u", {1: "a", 2: "b", 3: "c"}, ratings=[5, 4, 1])), min_rating=4, number=1
    )
    assert (examples[0].history, examples[0].positives) == (["a"], ["b"])
    assert examples[0].timestamp == 2 * DAY


def test_low_and_missing_ratings_are_left_out() -> None:
    left, report = kept(timed("u", {1: "a", 2: "b", 3: "c"}, ratings=[5, None, 2]), min_rating=2.5)
    assert left == ["a"]
    assert report.left_out == {"rated below 2.5": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"since": "1970-01-01"}, "the source has none"),
        ({"min_rating": 3}, "the source has none"),
        ({"since": "yesterday"}, "'yesterday' is no date"),
        ({"since": "1970-01-02", "until": "1970-01-02"}, "--since is not before --until"),
        ({"split": "time", "valid_from": "1970-01-02"}, "together"),
        ({"valid_from": "1970-01-02", "test_from": "1970-01-03"}, "need --split time"),
        (
            {"split": "time", "valid_from": "1970-01-03", "test_from": "1970-01-02"},
            "later than --test-from",
        ),
        ({"targets": "all"}, "needs --split time"),
        ({"split": "parts"}, "published in parts"),
        ({"k_core": 2, "read": ReadOptions(None, target="impression")}, "need --target history"),
    ],
)
def test_what_the_source_or_the_options_lack_is_named(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(collection([question("u", "ab")], IDS), **changes)


def test_a_core_is_cut_until_nothing_changes() -> None:
    """Item d falls first, then user w, then item c, then user v; u and x keep a and b."""
    left, report = kept(
        question("u", "ab"),
        question("x", "ab"),
        question("v", "bc"),
        question("w", "cd"),
        k_core=2,
        is_log=False,
    )
    assert left == ["ab", "ab"]
    assert report.left_out == {"not in the 2-core": 4}


@hypothesis_settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40), st.integers(1, 4))
def test_a_core_is_the_largest_set_in_which_all_have_enough(
    events: list[tuple[int, int]], k: int
) -> None:
    left = set(range(len(events)))
    while True:
        users = Counter(events[e][0] for e in left)
        items = Counter(events[e][1] for e in left)
        poor = {e for e in left if users[events[e][0]] < k or items[events[e][1]] < k}
        if not poor:
            break
        left -= poor
    columns = np.array(events, dtype=np.int64).reshape(-1, 2)
    assert set(np.flatnonzero(core(columns[:, 0], columns[:, 1], k)).tolist()) == left


def test_repeats_are_dropped_and_counted() -> None:
    questions = [question("u", "aba"), question("v", "abc")]
    both, prepared = prepare(collection(questions, IDS), number=1)
    assert len(both) == 2
    assert any("1 of 2 right answers (50.0%)" in w for w in prepared.report.warnings())
    one, prepared = prepare(collection(questions, IDS), number=1, repeats="drop")
    assert [e.user_id for e in one] == ["v"]
    assert prepared.report.left_out == {"right answers that stand in the history": 1}
    assert prepared.report.dropped == {"no new target with text": 1}


def asked(examples: list[Example]) -> dict[str, tuple[str, str]]:
    return {e.example_id: ("".join(e.history), e.positives[0]) for e in examples}


def test_one_cut_in_time_holds_for_all_users() -> None:
    """u is asked once in each period, v has nothing to validate, w is new in the last one."""
    questions = [
        timed("u", {1: "a", 2: "b", 3: "c", 6: "d", 7: "e", 9: "f"}),
        timed("v", {2: "a", 4: "g", 9: "b"}),
        timed("w", {8: "a", 10: "b"}),
    ]
    dates = {"valid_from": "1970-01-06", "test_from": "1970-01-09"}
    examples, prepared = prepare(log(*questions), split="time", min_history=1, number=2, **dates)
    assert asked(examples) == {
        "u-train": ("ab", "c"),
        "u-valid": ("abcd", "e"),
        "u-test": ("abcde", "f"),
        "v-train": ("a", "g"),
        "v-test": ("ag", "b"),
        "w-test": ("a", "b"),
    }
    assert prepared.report.later == {"valid": 0, "test": 0}
    every, _ = prepare(
        log(*questions), split="time", min_history=1, number=2, targets="all", **dates
    )
    assert {e.example_id for e in every if e.user_id == "u"} == {
        "u-train-1",
        "u-train-2",
        "u-valid-3",
        "u-valid-4",
        "u-test-5",
    }


def test_a_question_that_the_source_asks_without_an_answer_stays_one() -> None:
    asked_by_source = Question("x", ["a"], [], timestamp=DAY, offered=["b"], split="predict")
    examples, _ = prepare(
        log(*(timed(f"u{n}", {n + 1: "a", n + 2: "b"}) for n in range(9)), asked_by_source),
        split="time",
        number=1,
    )
    (kept_question,) = (e for e in examples if e.user_id == "x")
    assert (kept_question.split, kept_question.candidates) == ("predict", ["b"])


def test_shares_cut_all_events_not_only_the_last_of_each_user() -> None:
    questions = [timed(f"u{n}", {n + 1: "a", n + 11: "b"}) for n in range(10)]
    examples, _ = prepare(
        log(*questions), split="time", sizes=parse_sizes("0.5", "0.25", "0.25"), number=1
    )
    counts = Counter(e.split for e in examples)
    assert counts == {"train": 10, "valid": 5, "test": 5}


def test_windows_roll_over_the_end_of_the_data() -> None:
    """Ten days: 1/3 trains on six and tests day 8, 2/3 on seven and day 9, 3/3 on eight, day 10."""
    sizes = parse_sizes("0.8", "0.1", "0.1")
    for window, trained in (("1/3", 6), ("2/3", 7), ("3/3", 8)):
        users = [timed(f"u{day}", {0: "a", day: "b"}) for day in range(1, 11)]
        single = [replace(q, history=[], times=[]) for q in users]
        examples, prepared = prepare(
            log(*single), split="time", sizes=sizes, window=window, number=1, unknown="keep"
        )
        asked_on = {split: set[float]() for split in ("train", "valid", "test")}
        for example in examples:
            asked_on[example.split].add((example.timestamp or 0) / DAY)
        assert asked_on["train"] == set(range(1, trained + 1))
        assert asked_on["valid"] == {trained + 1}
        assert asked_on["test"] == {trained + 2}
        assert prepared.report.later == {"valid": 0, "test": 0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": "1/2"}, "needs --split time"),
        ({"window": "3/2", "split": "time"}, "no such window"),
        ({"window": "two", "split": "time"}, "write I/N"),
        ({"window": "0/2", "split": "time"}, "write I/N"),
        ({"window": "1/20", "split": "time"}, "nothing is left to train on"),
    ],
)
def test_windows_that_are_not_there_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(log(timed("u", {1: "a", 2: "b", 3: "c", 4: "d"})), number=1, **changes)


def test_leave_last_out_tells_how_much_it_learns_from_later() -> None:
    """Training answers of days 2 and 8, test questions of days 4 and 10: one pair of four."""
    questions = [
        timed("u", {1: "a", 2: "b", 3: "c", 4: "d"}),
        timed("v", {7: "a", 8: "b", 9: "c", 10: "d"}),
    ]
    examples, prepared = prepare(log(*questions), split="leave-last-out", min_history=1, number=2)
    assert len(examples) == 6
    assert prepared.report.later == {"valid": 0.25, "test": 0.25}
    more, _ = prepare(
        log(timed("u", dict(enumerate("abcdef")))),
        split="leave-last-out",
        targets="all",
        min_history=1,
        number=2,
    )
    assert asked(more) == {
        "u-test": ("abcde", "f"),
        "u-valid": ("abcd", "e"),
        "u-train": ("abc", "d"),
        "u-train-2": ("ab", "c"),
        "u-train-1": ("a", "b"),
    }


def test_published_parts_are_kept() -> None:
    questions = [
        Question(f"{part}{n}", ["a"], ["b"], part=part)
        for part in ("train", "dev")
        for n in range(60)
    ]
    examples, prepared = prepare(collection(questions, IDS), number=1)
    assert prepared.report.choices["split"] == "parts"
    found = Counter((e.user_id.rstrip("0123456789"), e.split) for e in examples)
    assert found["dev", "test"] == 60
    assert found["train", "train"] + found["train", "valid"] == 60
    assert 0 < found["train", "valid"] < 15
    questions += [Question("t", ["a"], ["b"], part="test")]
    examples, _ = prepare(collection(questions, IDS), number=1, split="parts", read=READ)
    assert Counter(e.split for e in examples) == {"train": 60, "valid": 60, "test": 1}


def test_a_thousand_users_test_where_there_are_as_many() -> None:
    for users in (4_000, 7_999, 8_000, 12_000, 1_000_000):
        assert users * usual_sizes(users).test >= 1000
    sizes = usual_sizes(100)
    assert sizes.train + sizes.valid + sizes.test == 1
    assert float(usual_sizes(50_000).test) == pytest.approx(1 / 12)


def test_a_moment_is_a_date_a_time_or_seconds() -> None:
    assert moment("86400") == moment("1970-01-02") == moment("1970-01-02T01:00:00+01:00") == DAY
    assert moment("2019-11-14 08:00") == datetime(2019, 11, 14, 8, tzinfo=UTC).timestamp()
