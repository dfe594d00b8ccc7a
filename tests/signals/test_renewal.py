"""What is counted at two cuts in time: everything older than the questions, no answer of theirs."""

from pathlib import Path

import pytest
from msgspec import structs

from tests.signals.small import ITEMS, ROWS, example
from trec_cli.core.records import Example, Split
from trec_cli.signals.blend import Learner
from trec_cli.signals.catalogue import EncodedCatalogue
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
    ground = find_ground([*TEST, *VALID[::-1], *TRAIN], "test")
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
    ground = find_ground([*TRAIN, *level, *TEST], "test")
    assert ground == "split valid has too few answers to ask one half after the other"
    ends = [structs.replace(e, timestamp=10 + (n > 0)) for n, e in enumerate(VALID)]
    ground = find_ground([*TRAIN, *ends, *TEST], "test")
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
            "split valid has too few answers to ask one half after the other",
        ),
    ],
)
def test_without_a_cut_in_time_split_train_alone_is_counted(
    examples: list[Example], why: str
) -> None:
    assert find_ground(examples, "test") == why
    course = Course.of(examples, "test", ("train", "valid"))
    assert str(course) == f"counted: split train alone, since {why}"
    assert (course.renewed, course.settings) == (0, {})
    assert course.asked_of == "split train and valid"
    assert sorted(course.events(ROWS).users) == [f"t{n}" for n in range(6)]


def test_nothing_is_older_than_questions_of_valid() -> None:
    assert find_ground([*TRAIN, *VALID, *TEST], "valid") == "no other split is older"


def test_before_a_prediction_the_answers_of_test_are_past() -> None:
    asked = [timed("x", "predict", "ba")]
    ground = find_ground([*TRAIN, *VALID, *TEST, *asked], "predict")
    assert isinstance(ground, Ground)
    assert (ground.splits, ground.renewed) == (("valid", "test"), 6)


def test_no_count_that_weights_are_fitted_with_knows_an_asked_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    course = Course.of([*TRAIN, *VALID, *TEST], "test", ("train", "valid"))
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
    assert blend.logit.questions == 2
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
    assert "cooccurrence made anew and kept in" in str(grown)
