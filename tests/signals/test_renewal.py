"""What is counted at two cuts in time: everything older than the questions, no answer of theirs."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from tests.prepare.helpers import collection, prepare, question
from tests.signals.small import ITEMS, ROWS, example
from trec_cli.core.records import Example, Item, Split
from trec_cli.prepare.settings import Negatives, parse_sizes
from trec_cli.signals.blend import Learner, Pairs
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events
from trec_cli.signals.renewal import Course, Ground, find_ground
from trec_cli.signals.shelf import Shelf


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trec_cli.signals.renewal.LEAST_ASKED", 2)


def timed(
    user: str, split: Split, history: str, right: str = "", at: float | None = None
) -> Example:
    return structs.replace(example(user, split, history, right, n=int(at or 0)), timestamp=at)


TRAIN = [timed(f"t{n}", "train", "ab"[n % 2], "cd"[n % 2], n) for n in range(6)]
VALID = [timed(f"v{n}", "valid", "b", "d", 10 + n) for n in range(4)]
TEST = [timed("x", "test", "b", "a", 20), timed("v0", "test", "bd", "a", 30)]


def test_the_older_half_is_known_where_the_newer_is_asked() -> None:
    ground = find_ground([*TEST, *VALID[::-1], *TRAIN], "test", drawn=True)
    assert isinstance(ground, Ground)
    assert (ground.splits, ground.renewed) == (("valid",), 4)
    assert sorted(e.user_id for e in ground.asked) == ["v2", "v3"]
    assert {e.split for e in ground.asked} == {"valid"}
    added = [e.user_id for e in ground.earlier if e.user_id.startswith("v")]
    assert sorted(added) == ["v0", "v1"]
    assert {e.split for e in [*ground.earlier, *ground.counted]} == {"train"}
    assert len(ground.counted) == 10


def test_answers_of_one_time_stay_on_one_side() -> None:
    level = [structs.replace(e, timestamp=10 + n // 3) for n, e in enumerate(VALID)]
    ground = find_ground([*TRAIN, *level, *TEST], "test", drawn=True)
    assert ground == "split valid has too few answers to ask some where others are counted"
    ends = [structs.replace(e, timestamp=10 + (n > 0)) for n, e in enumerate(VALID)]
    ground = find_ground([*TRAIN, *ends, *TEST], "test", drawn=True)
    assert isinstance(ground, Ground)
    assert sorted(e.user_id for e in ground.asked) == ["v1", "v2", "v3"]


@pytest.mark.parametrize(
    ("examples", "why"),
    [
        ([*TRAIN, *TEST], "no other split is older"),
        (
            [*TRAIN, *VALID, timed("y", "valid", "a", "b"), *TEST],
            "examples of split valid have no times",
        ),
        (
            [*TRAIN, *VALID, timed("y", "valid", "a", "b", 20), *TEST],
            "not every answer of split valid is older than the questions",
        ),
        (
            [*TRAIN, *VALID, *TEST, timed("y", "test", "a", "b")],
            "not every answer of split valid is older than the questions",
        ),
        (
            [*TRAIN, *VALID[:1], *TEST],
            "split valid has too few answers to ask some where others are counted",
        ),
    ],
)
def test_without_a_cut_in_time_split_train_alone_is_counted(
    examples: list[Example], why: str
) -> None:
    assert find_ground(examples, "test", drawn=True) == why
    assert find_ground(examples, "test", drawn=False) == why
    course = Course.of(examples, "test", ("train", "valid"))
    assert str(course) == f"counted: split train alone, since {why}"
    assert (course.renewed, course.settings) == (0, {})
    assert course.asked_of == "split train and valid"
    assert sorted(course.events(ROWS).users) == [f"t{n}" for n in range(6)]


def ids(examples: list[Example], known: list[Example]) -> set[str]:
    """Return the ids of those that are not among the known ones."""
    return {e.example_id for e in examples} - {e.example_id for e in known}


def test_questions_with_candidates_of_their_own_are_asked_split_by_split() -> None:
    ground = find_ground([*TRAIN, *VALID, *TEST], "test", drawn=False)
    assert isinstance(ground, Ground)
    assert ids(ground.earlier, TRAIN) == set()
    assert ids(ground.asked, []) == ids(VALID, [])
    few = "split valid has too few answers to ask some where others are counted"
    assert find_ground([*VALID, *TEST], "test", drawn=False) == few, "nothing is older than valid"


def test_before_a_prediction_split_test_is_asked_where_it_is_after_split_valid() -> None:
    asked = timed("x", "predict", "ba")
    ground = find_ground([*TRAIN, *VALID, *TEST, asked], "predict", drawn=False)
    assert isinstance(ground, Ground)
    assert ids(ground.earlier, TRAIN) == ids(VALID, [])
    assert ids(ground.asked, []) == ids(TEST, [])
    among = timed("y", "test", "b", "a", 13)  # when the newest of valid was
    ground = find_ground([*TRAIN, *VALID, *TEST, among, asked], "predict", drawn=False)
    assert isinstance(ground, Ground)
    assert ids(ground.earlier, TRAIN) == set()
    assert ids(ground.asked, []) == ids([*VALID, *TEST, among], [])
    ground = find_ground([*TRAIN, *VALID, TEST[0], asked], "predict", drawn=False)
    assert isinstance(ground, Ground), (
        "one question of test is too few, but there are those of valid"
    )
    assert ids(ground.earlier, TRAIN) == set()
    assert ids(ground.asked, []) == ids([*VALID, TEST[0]], [])


@cache
def userless(negatives: Negatives) -> list[Example]:
    """Ask 3,000 users, one after the other, for answers that do not depend on them."""
    draws = np.random.default_rng(0)
    questions = []
    for n in range(3000):
        *history, answer = (f"i{int(1000 * share**2)}" for share in draws.random(4))
        history = [item for item in history if item != answer]
        times = [float(n)] * len(history)
        questions.append(question(f"u{n}", [*history, answer], times=times, timestamp=n))
    items = [f"i{n}" for n in range(1000)]
    examples, _ = prepare(
        collection(questions, items), population="seen", negatives=negatives, split="time",
        sizes=parse_sizes("0.5", "0.25", "0.25"), number=10,
    )  # fmt: skip
    return examples


def aucs(learner: Learner, asked: list[Example]) -> dict[str, float]:
    """Return how often each signal puts a right answer above a wrong one, half for a tie."""
    rows = learner.catalogue.rows
    pairs = Pairs.of((e.history for e in asked), [e.candidates for e in asked], rows)
    right = np.array([item in e.positives for e in asked for item in e.candidates])
    found = {}
    for name, signal in learner.signals().items():
        values = signal.at(pairs.asked, pairs.questions, pairs.candidates)
        above = values[right][pairs.questions[~right]] - values[~right]
        found[name] = float((np.sign(above).mean() + 1) / 2)
    return found


COUNTS = ("popularity", "answers", "never_right", "recent_short", "recent", "recent_long")


@pytest.mark.parametrize("negatives", ["popularity", "uniform"])
def test_counts_tell_at_the_earlier_cut_what_they_tell_of_the_questions(
    negatives: Negatives,
) -> None:
    """By popularity, what is right does not depend on counts, so they tell nothing at all."""
    examples = userless(negatives)
    course = Course.of(examples, "test", ("train", "valid"))
    assert isinstance(course.ground, Ground)
    catalogue = EncodedCatalogue.of({f"i{n}": Item(f"i{n}", {}) for n in range(1000)})
    learner = Learner(catalogue, course.events(catalogue.rows))
    earlier = learner.over(Events.of(course.ground.earlier, catalogue.rows, timed=True))
    at_cut = aucs(earlier, course.ground.asked)
    now = aucs(learner, [e for e in examples if e.split == "test"])
    for name in COUNTS:
        assert at_cut[name] == pytest.approx(now[name], abs=0.05), name
        if negatives == "popularity":
            assert at_cut[name] == pytest.approx(0.5, abs=0.03), name
    if negatives == "popularity":
        weights = course.fit(learner).logit.coefficients
        assert np.abs(weights).max() < 0.1


def test_counted_halves_of_a_split_would_tell_which_of_its_answers_are_wrong() -> None:
    """The cut for drawn negatives, asked with candidates that are answers of both halves."""
    examples = userless("popularity")
    ground = find_ground(examples, "test", drawn=True)
    assert isinstance(ground, Ground)
    catalogue = EncodedCatalogue.of({f"i{n}": Item(f"i{n}", {}) for n in range(1000)})
    earlier = Learner(catalogue, Events.of(ground.earlier, catalogue.rows, timed=True))
    assert aucs(earlier, ground.asked)["recent"] < 0.42


def test_nothing_is_older_than_questions_of_valid() -> None:
    assert find_ground([*TRAIN, *VALID, *TEST], "valid", drawn=True) == "no other split is older"


def test_before_a_prediction_the_answers_of_test_are_past() -> None:
    asked = [timed("x", "predict", "ba")]
    ground = find_ground([*TRAIN, *VALID, *TEST, *asked], "predict", drawn=True)
    assert isinstance(ground, Ground)
    assert (ground.splits, ground.renewed) == (("valid", "test"), 6)


def test_no_count_that_weights_are_fitted_with_knows_an_asked_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    course = Course.of([*TRAIN, *VALID, *TEST], "test", ("train", "valid"), negatives=1)
    catalogue = EncodedCatalogue.of(ITEMS)
    learner = Learner(catalogue, course.events(catalogue.rows))
    seen = []

    def fitted(learner: Learner, examples: list[Example], **_: object) -> Learner:
        seen.append((learner.events.users, sorted(e.user_id for e in examples)))
        return learner

    monkeypatch.setattr("trec_cli.signals.renewal.fit_blend", fitted)
    monkeypatch.setattr("trec_cli.signals.renewal.replace", lambda fitted, **_: fitted)
    course.fit(learner)
    ((counted, asked),) = seen
    assert asked == ["v2", "v3"]
    assert not set(asked) & set(counted)
    assert {"v0", "v1"} < set(counted)
    assert {"v2", "v3"} < set(learner.events.users)


def test_what_is_scored_counts_everything_that_is_older() -> None:
    course = Course.of([*TRAIN, *VALID, *TEST], "test", ("train", "valid"))
    assert course.asked_of == "split valid, asked before they were counted"
    catalogue = EncodedCatalogue.of(ITEMS)
    learner = Learner(catalogue, course.events(catalogue.rows))
    blend = course.fit(learner)
    assert blend.learner is learner
    assert "recent" in blend.signals
    assert blend.logit.questions == 4
    assert "4 answers of split valid, all older than the questions" in str(course)


def test_what_was_counted_is_taken_again_until_the_events_grow(tmp_path: Path) -> None:
    catalogue = EncodedCatalogue.of(ITEMS)

    def learn(examples: list[Example]) -> Shelf:
        shelf = Shelf(tmp_path / "learnt")
        with shelf.tidied():
            course = Course.of(examples, "valid", ("train",))
            Learner(catalogue, course.events(catalogue.rows), shelf=shelf).signals()
        return shelf

    first, again = learn(TRAIN), learn(TRAIN[::-1])
    assert (len(first.made), len(first.kept)) == (2, 0)
    assert (len(again.made), len(again.kept)) == (0, 2)
    grown = learn([*TRAIN, timed("new", "train", "c", "a", 9)])
    assert (len(grown.made), len(grown.kept)) == (2, 0)
    assert len(list((tmp_path / "learnt").iterdir())) == 2
    assert "cooccurrence" in str(grown).split(" made anew and kept ")[0]
