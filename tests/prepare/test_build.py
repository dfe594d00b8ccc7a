import string
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.prepare.helpers import collection, prepare, question, settings
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import candidates_problem
from trec_cli.core.records import Example
from trec_cli.prepare.collection import Question, ReadOptions
from trec_cli.prepare.settings import parse_sizes

IDS = string.ascii_lowercase
timelines = st.dictionaries(
    st.text("uvw1", min_size=1, max_size=4),
    st.lists(st.sampled_from(IDS), min_size=2, max_size=12),
    min_size=1,
    max_size=12,
)


def of(users: dict[str, list[str]]) -> list[Question]:
    return [question(user, items) for user, items in users.items()]


def by_id(examples: list[Example]) -> dict[str, Example]:
    return {example.example_id: example for example in examples}


@hypothesis_settings(max_examples=60)
@given(timelines, timelines, st.integers(0, 2), st.sampled_from(["users", "leave-last-out"]))
def test_an_example_does_not_change_with_other_users_or_the_order_of_the_file(
    users: dict[str, list[str]], others: dict[str, list[str]], seed: int, split: str
) -> None:
    alone, _ = prepare(collection(of(users), IDS), seed=seed, split=split)
    crowd, _ = prepare(collection(of({**others, **users})[::-1], IDS[::-1]), seed=seed, split=split)
    assert by_id(alone).items() <= by_id(crowd).items()
    order = [e.example_id for e in crowd if e.example_id in by_id(alone)]
    assert order == [e.example_id for e in alone]


@hypothesis_settings(max_examples=60)
@given(
    timelines,
    st.sampled_from(["uniform", "popularity"]),
    st.sampled_from(["users", "leave-last-out"]),
    st.integers(1, 30),
)
def test_no_negative_is_in_the_history_or_right(
    users: dict[str, list[str]], negatives: str, split: str, number: int
) -> None:
    examples, _ = prepare(
        collection(of(users), IDS),
        negatives=negatives,
        split=split,
        number=number,
        max_history=3,
    )
    for example in examples:
        assert candidates_problem(example.candidates, example.positives) is None
        wrong = set(example.candidates) - set(example.positives)
        timeline = users[example.user_id]
        seen = timeline[: len(timeline) - {"test": 1, "valid": 2, "train": 3}[example.split]]
        full = seen if split == "leave-last-out" else timeline[:-1]
        assert not wrong & set(full)
        assert len(wrong) <= number
        assert example.history == full[-3:]
        assert example.start == len(full) - len(example.history)


def test_a_prediction_knows_what_the_cap_has_cut_away_and_no_other_question_does() -> None:
    users = {"u": list("abcde"), "v": list("ab")}
    examples, _ = prepare(collection(of(users), IDS), predict=True, max_history=3)
    asked = {e.user_id: e for e in examples if e.split == "predict"}
    assert (asked["u"].older, asked["u"].history, asked["u"].start) == (
        ["a", "b"],
        ["c", "d", "e"],
        2,
    )
    assert asked["v"].older is None
    assert all(e.older is None for e in examples if e.split != "predict")


@hypothesis_settings(max_examples=40)
@given(timelines)
def test_splits_do_not_leak(users: dict[str, list[str]]) -> None:
    examples, _ = prepare(collection(of(users), IDS), split="users")
    assert len({(e.user_id, e.split) for e in examples}) == len({e.user_id for e in examples})
    examples, _ = prepare(collection(of(users), IDS), split="leave-last-out")
    lengths = {"train": 3, "valid": 2, "test": 1}
    for example in examples:
        timeline = users[example.user_id]
        place = len(timeline) - lengths[example.split]
        assert example.history == timeline[:place]
        assert example.positives == [timeline[place]]


def test_a_training_target_is_never_later_than_a_test_target() -> None:
    questions = [question(f"u{i}", "abc", timestamp=(i * 37) % 50) for i in range(50)]
    examples, _ = prepare(collection(questions, IDS), split="time")
    times = {s: [e.timestamp for e in examples if e.split == s] for s in ("train", "valid", "test")}
    assert max(t for t in times["train"] if t is not None) < min(
        t for t in times["valid"] if t is not None
    )
    assert max(t for t in times["valid"] if t is not None) < min(
        t for t in times["test"] if t is not None
    )


def test_the_place_of_the_positive_tells_nothing() -> None:
    questions = [question(f"u{i}", "ab") for i in range(2000)]
    examples, _ = prepare(collection(questions, IDS), number=4)
    places = Counter(e.candidates.index("b") for e in examples)
    assert all(abs(places[place] - 400) < 90 for place in range(5))


def test_fixed_candidates_are_honoured_and_the_target_added() -> None:
    asked = question("u", "abc", offered=["x", "y", "a", "c", "x"])
    examples, prepared = prepare(
        collection([asked, question("v", "ab")], IDS, "fixed"), sizes=parse_sizes("1", "0", "1")
    )
    example = by_id(examples)["u"]
    assert sorted(example.candidates) == ["c", "x", "y"]
    assert example.split == "test"
    counts = prepared.report.splits["test"]
    assert (counts.source_negatives, counts.source_left_out) == (1, 3)
    assert len(by_id(examples)["v"].candidates) == 21
    assert prepared.report.choices == {
        "negatives": "fixed",
        "split": "fixed",
        "population": "catalogue",
    }


def test_fixed_candidates_can_be_thinned_or_ignored() -> None:
    questions = [question("u", "abc", offered=list("vwxyz"))]
    thinned, _ = prepare(collection(questions, IDS, "fixed"), number=2)
    assert len(thinned[0].candidates) == 3
    assert set(thinned[0].candidates) <= {"c", *"vwxyz"}
    questions = [question("u", "abc", offered=list("vwxyz"))]
    ignored, prepared = prepare(collection(questions, IDS, "fixed"), negatives="uniform")
    assert len(ignored[0].candidates) == 21
    assert prepared.report.choices == {
        "negatives": "uniform",
        "split": "users",
        "population": "catalogue",
    }


def test_mixed_candidates_in_one_split_are_warned_of() -> None:
    questions = [question("u", "abc", offered=["x"]), question("v", "abc")]
    _, prepared = prepare(
        collection(questions, IDS, "fixed"), split="users", sizes=parse_sizes("0", "0", "1.0")
    )
    assert any("mix two tasks" in warning for warning in prepared.report.warnings())


def test_several_positives_stay_together() -> None:
    asked = Question("u", ["a"], ["b", "c"], offered=["d", "b"])
    examples, prepared = prepare(
        collection([asked], IDS, "impression"), read=ReadOptions(None, target="impression")
    )
    assert sorted(examples[0].candidates) == ["b", "c", "d"]
    assert examples[0].positives == ["b", "c"]
    assert prepared.report.choices["negatives"] == "impression"


def test_an_example_without_any_negative_is_dropped_and_counted() -> None:
    questions = [question("u", "ab", offered=[]), question("v", "ab", offered=["c"])]
    examples, prepared = prepare(collection(questions, IDS, "fixed"))
    assert [e.user_id for e in examples] == ["v"]
    assert prepared.report.dropped == {"no negative left": 1}


def test_a_small_catalogue_gives_as_many_negatives_as_there_are() -> None:
    examples, prepared = prepare(collection([question("u", "ab")], "abcd"), number=9)
    assert sorted(examples[0].candidates) == ["b", "c", "d"]
    (warning,) = [w for w in prepared.report.warnings() if "fewer negatives" in w]
    assert "1 example has fewer negatives than asked for" in warning


def test_popularity_counts_training_histories_only() -> None:
    """The only training history holds t, so t is the only negative of the others."""
    questions = [question(f"u{i}", ["t" if i == 0 else "h", "p"]) for i in range(3)]
    for q, time in zip(questions, (1, 2, 3), strict=True):
        q.timestamp = time
    examples, prepared = prepare(
        collection(questions, ["t", "h", "p", "other"]),
        negatives="popularity",
        split="time",
        sizes=parse_sizes("1/3", "1/3", "1/3"),
    )
    assert {e.user_id: sorted(e.candidates) for e in examples} == {
        "u1": ["p", "t"],
        "u2": ["p", "t"],
    }
    assert prepared.report.dropped == {"no negative left": 1}
    test = prepared.report.splits["test"].as_dict()
    assert test["mean_popularity_of_negatives"] == 1
    assert test["mean_popularity_of_positives"] == 0
    assert test["positives_not_in_train_histories"] == 1


def test_the_first_users_picked_stay_picked_when_more_are_asked_for() -> None:
    questions = [question(f"u{i}", "abc") for i in range(50)]
    few, prepared = prepare(collection(questions, IDS), max_users=10)
    more, _ = prepare(collection(questions, IDS), max_users=20)
    assert [e.user_id for e in few] == [e.user_id for e in more][:10]
    assert prepared.report.dropped == {"user not picked": 40}


def test_numbers_of_users_with_time_are_picked_then_cut_by_time() -> None:
    questions = [question(f"u{i}", "abc", timestamp=i) for i in range(50)]
    examples, _ = prepare(
        collection(questions, IDS), split="time", sizes=parse_sizes("6", "2", "2")
    )
    assert Counter(e.split for e in examples) == {"train": 6, "valid": 2, "test": 2}


def test_items_kept_without_text_are_drawn_as_negatives_too() -> None:
    """Else the text would tell: of candidates without any, each would be right."""
    questions = [question("u", "abX"), question("v", "bcd"), question("w", "aYc")]
    kept, _ = prepare(collection(questions, "abcd"), unknown="keep", number=9)
    candidates = {e.user_id: set(e.candidates) for e in kept}
    assert candidates == {"u": set("cdXY"), "v": set("adXY"), "w": set("bcdX")}
    dropped, _ = prepare(collection(questions, "abcd"), number=9)
    assert {c for e in dropped for c in e.candidates} <= set("abcd")


def test_only_items_of_examples_are_written_unless_all_are_asked_for() -> None:
    from trec_cli.core.progress import Silent
    from trec_cli.prepare.build import build

    def written(**changes: Any) -> list[str]:
        source = collection([question("u", "abX")], IDS)
        prepared = build(source, settings(number=1, unknown="keep", **changes), Silent())
        (example,) = prepared.examples()
        items = list(prepared.items())
        assert items[-1].item_id == "X"
        assert items[-1].attributes == {}
        assert {i.item_id for i in items} >= {*example.history, *example.candidates}
        return [i.item_id for i in items]

    assert len(written()) == 4
    assert written(written="all") == [*IDS, "X"]


def test_nothing_left_says_why() -> None:
    questions = [question("u", "ab"), question("v", "aX")]
    with pytest.raises(InputError, match=r"1: history shorter than 5, 1: no target with text"):
        prepare(collection(questions, IDS), min_history=5)
    with pytest.raises(InputError, match="the source has none"):
        prepare(collection([], IDS))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negatives": "fixed"}, "the source has none"),
        ({"split": "fixed"}, "needs users with candidates fixed"),
        ({"split": "time"}, "needs the time of every target"),
        ({"negatives": "impression"}, "needs --target impression"),
        ({"min_history": 9, "max_history": 3}, "--min-history 9 is more than --max-history 3"),
        ({"split": "leave-last-out", "sizes": parse_sizes("1", "1", "1")}, "has no sizes"),
        ({"read": ReadOptions(None, per_impression=True)}, "needs --target impression"),
        (
            {"split": "leave-last-out", "read": ReadOptions(None, target="impression")},
            "needs --target history",
        ),
        ({"sizes": parse_sizes("5", "5", "5")}, "1 user is left"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(collection([question("u", "ab")], IDS), **changes)


def test_history_that_is_empty_can_be_kept() -> None:
    examples, _ = prepare(collection([question("u", "a")], IDS), min_history=0)
    assert examples[0].history == []
