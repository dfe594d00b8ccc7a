"""Every signal by hand on four items; chosen pairs and the whole catalogue agree."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.signals.small import ITEMS, ROWS, example
from trec_cli.core.records import SPLITS, Item
from trec_cli.signals.catalogue import EncodedCatalogue, find_groups, lsa
from trec_cli.signals.histories import Events, Histories
from trec_cli.signals.kinds import Signal
from trec_cli.signals.learn import (
    learn_shares,
    learn_signals,
    meaning,
    missing_signals,
    reads_history,
)
from trec_cli.signals.neighbours import nearest_texts
from trec_cli.signals.renewal import Course
from trec_cli.signals.similarity import count_matrix

TRAIN = [
    example("u", "train", "ab", right="c"),
    example("v", "train", "b", right="c"),
    example("w", "train", "c", right="a"),
]


CATALOGUE = EncodedCatalogue.of(ITEMS)


@pytest.fixture(scope="module")
def signals() -> dict[str, Signal]:
    return learn_signals(CATALOGUE, Events.of(TRAIN, ROWS))


def _scores(signal: Signal, history: str) -> list[float]:
    """Score a, b, c and d."""
    scores = signal.everywhere(Histories.of([list(history)], ROWS))[0]
    return [float(scores[ROWS[item]]) for item in "abcd"]


def test_counts_of_items(signals: dict[str, Signal]) -> None:
    assert _scores(signals["popularity"], "a") == pytest.approx(
        [math.log(3), math.log(3), math.log(4), 0]
    )
    assert _scores(signals["answers"], "a") == pytest.approx([math.log(2), 0, math.log(3), 0])
    assert _scores(signals["late"], "a") == _scores(signals["popularity"], "a")
    assert _scores(signals["words"], "") == pytest.approx([math.log(5)] * 4)
    assert _scores(signals["unseen"], "a") == [0, 0, 0, 1]
    assert _scores(signals["never_right"], "") == [0, 1, 0, 1]


def _lift(probability: float, takers: float) -> float:
    """Write the log of (1 + P(c | h) / (P(c) / 2)) out; 7 takers in all, .1 for each item."""
    return math.log(1 + probability / (0.5 * (takers + 0.1) / 7.4))


def test_steps_from_the_newest_item(signals: dict[str, Signal]) -> None:
    # u went a, b, c; v b, c; w c, a.  Two steps from b, both to c, and two to nothing known.
    expected = [0, 0, _lift(2 / (2 + 2), 3), 0]
    assert _scores(signals["next_last"], "ab") == pytest.approx(expected)
    # From a one step to b and .3 of one to c.
    outgoing = 1.3 + 2
    expected = [0, _lift(1 / outgoing, 2), _lift(0.3 / outgoing, 3), 0]
    assert _scores(signals["next_last"], "a") == pytest.approx(expected)


def test_the_whole_history_counts_by_age(signals: dict[str, Signal]) -> None:
    summed = 2 / (2 + 2) + 0.8 * 0.3 / (1.3 + 2)
    assert _scores(signals["next"], "ab")[2] == pytest.approx(_lift(summed, 3))


def test_items_taken_together_count_whatever_their_order(signals: dict[str, Signal]) -> None:
    # With c stood: a twice (u, w) and b twice (u, v); with b stood a once.
    expected = [_lift(2 / (4 + 2), 2), _lift(2 / (4 + 2), 2), 0, 0]
    assert _scores(signals["together_last"], "c") == pytest.approx(expected)
    assert _scores(signals["together"], "bc")[0] == pytest.approx(
        _lift(2 / (4 + 2) + 0.8 * 1 / (3 + 2), 2)
    )


def test_shares_of_steps_are_there_for_retrieval() -> None:
    found = learn_shares(Events.of(TRAIN, ROWS))["follows"]
    # Two took b: both went to c, .3 of one back to a.  Two took a: c .8, b 1, and .3 from c.
    expected = math.log(1 + 30 * (2 / 2 + 0.8 * (0.8 + 0.3) / 2))
    assert _scores(found, "ab")[2] == pytest.approx(expected)


NEAR = np.array([[1, 0], [0.6, 0.8], [-1, 0], [-0.6, -0.8]], np.float32)
"""Vectors of a, b, c, d: a is near b and c near d, with cosine .6; their mean is 0."""


def test_counts_pass_to_the_items_with_the_nearest_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trec_cli.signals.learn.nearest_texts", partial(nearest_texts, count=2))
    catalogue = EncodedCatalogue.of(ITEMS, [NEAR])
    found = learn_signals(catalogue, Events.of(TRAIN, ROWS))
    assert "next" not in found
    # d, which nobody took, inherits a share of the steps to c, and b speaks in part for a.
    other = math.exp(8 * (0.6 - 1))
    own, other = 1 / (1 + other), other / (1 + other)
    from_b, from_a = 2 / (2 + 2), 0.3 / (1.3 + 2)
    to_c = own * from_b + other * from_a
    assert _scores(found["next_near"], "b")[3] == pytest.approx(_lift(other * to_c, 0), rel=1e-4)
    assert _scores(found["next_near"], "b")[2] == pytest.approx(_lift(own * to_c, 3), rel=1e-4)


def test_recent_answers_count_more_and_those_of_one_time_alike() -> None:
    moments = [("a", 10), ("b", 20), ("b", 20), ("c", 30)]
    train = [
        structs.replace(example(f"u{n}", "train", "d", right=item), timestamp=moment)
        for n, (item, moment) in enumerate(moments)
    ]
    found = learn_signals(CATALOGUE, Events.of(train, ROWS, timed=True))
    # Of four items: half-lives of 1 (not less), 1 and 2 answers; three came after a, one after b.
    assert _scores(found["recent_short"], "d") == pytest.approx(
        [math.log(1 + 0.5**3), math.log(1 + 2 * 0.5), math.log(2), 0]
    )
    assert _scores(found["recent_long"], "") == pytest.approx(
        [math.log(1 + 0.5**1.5), math.log(1 + 2 * 0.5**0.5), math.log(2), 0]
    )


def test_without_times_there_is_no_recent_popularity_and_one_is_told() -> None:
    found = learn_signals(CATALOGUE, Events.of(TRAIN, ROWS, timed=True))
    assert "recent" not in found
    assert missing_signals(found, embedded=False, renewable=True) == [
        "without recent popularity (needs a split by time) and smoothing through near texts "
        "(needs --embedder)"
    ]
    assert missing_signals(
        {**found, "recent_long": found["late"]}, embedded=True, renewable=True
    ) == ["without sequence models (--sequence-models 3)"]


def test_recent_popularity_is_not_missed_where_no_split_could_give_it() -> None:
    found = learn_signals(CATALOGUE, Events.of(TRAIN, ROWS, timed=True))
    assert missing_signals(found, embedded=False, renewable=False) == [
        "without smoothing through near texts (needs --embedder)"
    ]
    of_split = {split: Course.of(TRAIN, split, ("train",)).renewable for split in SPLITS}
    assert of_split == {"train": False, "valid": False, "test": True, "predict": True}
    assert not Course.of_past(TRAIN, ("train",)).renewable


def test_an_own_answer_is_in_no_count_once_its_user_is_left_out() -> None:
    train = [structs.replace(e, timestamp=n) for n, e in enumerate(TRAIN)]
    events = Events.of(train, ROWS, timed=True)
    out = np.array([user == "w" for user in events.users])
    without = Events.of(train[:2], ROWS, timed=True)
    one, other = learn_signals(CATALOGUE, events.without(out)), learn_signals(CATALOGUE, without)
    for name, signal in one.items():
        assert _scores(signal, "cb") == _scores(other[name], "cb"), name


def test_texts_groups_and_repeats(signals: dict[str, Signal]) -> None:
    tfidf = _scores(signals["tfidf_last"], "a")
    assert tfidf[0] == pytest.approx(1)
    assert 0 < tfidf[1] < 1
    assert tfidf[2:] == [0, 0]
    assert _scores(signals["same_brand"], "ca") == pytest.approx(
        [1 / 1.8, 1 / 1.8, 0.8 / 1.8, 0.8 / 1.8]
    )
    assert _scores(signals["repeat"], "ab") == [1, 1, 0, 0]
    assert _scores(signals["repeat_last"], "ab") == [0, 1, 0, 0]


def test_the_nearest_vector_is_at_least_as_near_as_the_newest(signals: dict[str, Signal]) -> None:
    last, nearest = _scores(signals["vector_last"], "ac"), _scores(signals["vector_nearest"], "ac")
    assert last[2] == pytest.approx(1, abs=1e-5)
    assert nearest[0] == pytest.approx(1, abs=1e-5)
    assert all(n >= o - 1e-6 for n, o in zip(nearest, last, strict=True))


def test_the_next_vector_learns_that_saws_follow_pots(signals: dict[str, Signal]) -> None:
    scores = _scores(signals["vector_next"], "b")
    assert min(scores[2:]) > max(scores[:2])


def test_an_empty_history_speaks_for_nothing_but_what_is_of_items(
    signals: dict[str, Signal],
) -> None:
    for name in filter(reads_history, signals):
        assert _scores(signals[name], "") == [0, 0, 0, 0], name


@settings(max_examples=30)
@given(st.lists(st.text(alphabet="abcd", max_size=12), min_size=1, max_size=5))
def test_chosen_pairs_equal_the_whole_catalogue(
    signals: dict[str, Signal], histories: Sequence[str]
) -> None:
    asked = Histories.of(map(list, histories), ROWS)
    questions = np.repeat(np.arange(len(histories)), 4)
    candidates = np.tile(np.array([3, 1, 0, 2]), len(histories))
    for name, signal in signals.items():
        whole = signal.everywhere(asked)[questions, candidates]
        found = signal.at(asked, questions, candidates)
        np.testing.assert_allclose(found, whole, atol=1e-5, err_msg=name)
        few = slice(None, None, 4)  # one candidate a question
        found = signal.at(asked, questions[few], candidates[few])
        np.testing.assert_allclose(found, whole[few], atol=1e-5, err_msg=name)


def test_pairs_are_scored_alike_in_blocks_of_one_question(
    signals: dict[str, Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Histories.of([list("ab"), [], list("cdd"), list("a")], ROWS)
    questions, candidates = np.array([0, 0, 1, 2, 2, 2, 3]), np.array([3, 1, 2, 0, 1, 3, 2])
    whole = {name: s.at(asked, questions, candidates) for name, s in signals.items()}
    monkeypatch.setattr("trec_cli.signals.kinds._CELLS", 1)
    for name, signal in signals.items():
        parts = signal.at(asked, questions, candidates)
        np.testing.assert_allclose(parts, whole[name], atol=1e-6, err_msg=name)


def test_every_signal_is_explained(signals: dict[str, Signal]) -> None:
    assert meaning("same_brand") == "weight of the history items with its brand"
    assert all(meaning(name) for name in signals)


def test_given_vectors_are_used_and_centred() -> None:
    vectors = np.array([[1, 0], [0, 1], [0, 0], [-1, 1]], np.float32)
    catalogue = EncodedCatalogue.of(ITEMS, [vectors])
    made = catalogue.vectors[[catalogue.rows[item] for item in "abcd"]]
    assert made[2].tolist() == [0, 0]
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), [1, 1, 0, 1], atol=1e-6)


def test_a_catalogue_without_texts_or_with_one_item_is_no_error() -> None:
    for items in ({"a": Item("a", {})}, {"a": Item("a", {"title": "茶"}), "b": Item("b", {})}):
        catalogue = EncodedCatalogue.of(items)
        assert np.isfinite(catalogue.vectors).all()
        learnt = learn_signals(catalogue, Events.of([], catalogue.rows))
        asked = Histories.of([["a"], []], catalogue.rows)
        assert all(np.isfinite(s.everywhere(asked)).all() for s in learnt.values())


def test_groups_are_short_values_that_repeat() -> None:
    items = [
        Item(str(n), {"title": "same", "brand": "Ab"[n % 2], "code": str(n), "text": "x " * 50})
        for n in range(6)
    ]
    assert list(find_groups(items)) == ["brand"]


def test_lsa_keeps_the_cosines_of_few_texts() -> None:
    vectors = lsa(count_matrix([["a", "b"], ["a", "b"], ["c"], ["d"]]))
    cosines = vectors @ vectors.T
    assert cosines[0, 1] == pytest.approx(1, abs=0.01)
    assert abs(cosines[0, 2]) < 0.01
