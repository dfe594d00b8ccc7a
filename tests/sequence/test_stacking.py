"""Sequence models as a signal: pairs equal the catalogue, and kept models follow their items."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trec_cli.core.records import Example, Item
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.stacking import SequenceSignals
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories
from trec_cli.signals.kinds import Signal
from trec_cli.signals.learn import meaning
from trec_cli.signals.shelf import Shelf

SETTINGS = SequenceSettings(
    width=8, layers=1, epochs=3, step_targets=8, ids=True, learning_rate=0.05
)
WORDS = ("red", "green", "blue", "tea", "pot", "saw", "steel", "hand")
ITEMS = {
    f"i{n}": Item(f"i{n}", {"title": f"{WORDS[n % 8]} {WORDS[n // 2]} {n}"}) for n in range(12)
}


def _train(count: int = 24) -> list[Example]:
    return [
        Example(
            example_id=f"e{n}",
            user_id=f"u{n}",
            split="train",
            history=[f"i{n % 12}", f"i{(n + 1) % 12}"],
            candidates=[],
            positives=[f"i{(n + 2) % 12}"],
        )
        for n in range(count)
    ]


def _learn(
    shelf: Shelf,
    items: dict[str, Item] = ITEMS,
    train: list[Example] | None = None,
    fixed: list[str] | None = None,
) -> tuple[EncodedCatalogue, SequenceSignals, Signal]:
    drawn = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    catalogue = EncodedCatalogue.of(items, [drawn[: len(items)]])
    makes = SequenceSignals(catalogue, range(2), SETTINGS, shelf, fixed=fixed or ())
    events = Events.of(_train() if train is None else train, catalogue.rows)
    return catalogue, makes, makes(events)["sequence"]


def test_chosen_pairs_equal_the_whole_catalogue_and_no_history_says_nothing() -> None:
    catalogue, _, signal = _learn(Shelf())
    histories = [["i1"], [], ["i1", "i2", "i3"], ["i5"] * 70]
    asked = Histories.of(histories, catalogue.rows)
    whole = signal.everywhere(asked)
    questions = np.repeat(np.arange(4), 12)
    candidates = np.tile(np.arange(12)[::-1], 4)
    pairs = signal.at(asked, questions, candidates)
    np.testing.assert_allclose(pairs, whole[questions, candidates], atol=1e-4)
    assert not whole[1].any()
    assert len(signal.at(asked, questions[:0], candidates[:0])) == 0


def test_it_learns_what_follows_what_beyond_the_texts() -> None:
    catalogue = EncodedCatalogue.of(ITEMS)
    longer = replace(SETTINGS, epochs=25)
    makes = SequenceSignals(catalogue, range(1), longer)
    signal = makes(Events.of(_train(), catalogue.rows))["sequence"]
    asked = Histories.of([[f"i{(n - 1) % 12}", f"i{n}"] for n in range(12)], catalogue.rows)
    best = [list(catalogue.rows)[row] for row in signal.everywhere(asked).argmax(axis=1)]
    assert sum(best[n] == f"i{(n + 1) % 12}" for n in range(12)) >= 10


def test_models_are_kept_and_a_grown_catalogue_finds_its_items_by_their_ids(
    tmp_path: Path,
) -> None:
    catalogue, makes, signal = _learn(Shelf(tmp_path))
    shelf = Shelf(tmp_path)
    _, _, again = _learn(shelf)
    assert shelf.kept == ["sequence", "sequence"]
    asked = Histories.of([["i1", "i2"]], catalogue.rows)
    assert (signal.everywhere(asked) == again.everywhere(asked)).all()
    # A prediction's weights are kept while the log grows; so are the models, by their keys.
    keys = makes.keys(Events.of(_train(), catalogue.rows))
    grown, train = {**ITEMS, "new": Item("new", {"title": "hand saw"})}, _train(30)
    kept = Shelf(tmp_path)
    larger, _, old = _learn(kept, grown, train, fixed=keys)
    assert kept.made == []
    found = old.everywhere(Histories.of([["i1", "i2"]], larger.rows))[0]
    assert np.isfinite(found).all()
    assert len(found) == 13


def test_apart_each_model_answers_users_it_has_not_seen_and_nothing_more_is_trained(
    tmp_path: Path,
) -> None:
    catalogue, shelf = EncodedCatalogue.of(ITEMS), Shelf(tmp_path)
    makes = SequenceSignals(catalogue, range(3), SETTINGS, shelf, apart=True)
    events = Events.of(_train(), catalogue.rows)
    asked = Histories.of([["i3"], ["i5", "i6"]], catalogue.rows)
    whole = makes(events)["sequence"].everywhere(asked)
    assert shelf.made == ["sequence"] * 3
    shares = [makes(events, fold)["sequence"].everywhere(asked) for fold in range(10)]
    assert shelf.made == ["sequence"] * 3
    assert np.mean(shares[:3], axis=0) == pytest.approx(whole, abs=1e-4)
    for fold, found in enumerate(shares):
        # as if those users had never been there
        unseen = events.outside(range(fold % 3, 10, 3))
        alone = SequenceSignals(catalogue, [fold % 3], SETTINGS)(unseen)["sequence"]
        assert (found == alone.everywhere(asked)).all()


def test_a_single_model_is_trained_anew_for_users_that_it_has_seen() -> None:
    catalogue = EncodedCatalogue.of(ITEMS)
    makes = SequenceSignals(catalogue, [0], SETTINGS, apart=True)
    events = Events.of(_train(), catalogue.rows)
    asked = Histories.of([["i3"]], catalogue.rows)
    found = makes(events, 4)["sequence"].everywhere(asked)
    wanted = SequenceSignals(catalogue, [0], SETTINGS)(events.outside([4]))["sequence"]
    assert (found == wanted.everywhere(asked)).all()


def test_a_fold_that_leaves_nothing_to_learn_from_has_the_same_signals() -> None:
    catalogue = EncodedCatalogue.of(ITEMS)
    events = Events.of(_train(1), catalogue.rows)
    asked = Histories.of([["i3"]], catalogue.rows)
    for seeds in ([0], [0, 1]):
        makes = SequenceSignals(catalogue, seeds, SETTINGS, apart=True)
        found = [makes(events, fold) for fold in range(10)]
        assert all(np.isfinite(one["sequence"].everywhere(asked)).all() for one in found)


def test_nothing_to_learn_from_gives_no_signal() -> None:
    catalogue = EncodedCatalogue.of(ITEMS)
    makes = SequenceSignals(catalogue, range(1), SETTINGS)
    assert makes(Events.of([], catalogue.rows)) == {}


def test_other_events_or_seeds_are_other_models() -> None:
    catalogue = EncodedCatalogue.of(ITEMS)
    makes = SequenceSignals(catalogue, range(3), SETTINGS)
    one = makes.keys(Events.of(_train(), catalogue.rows))
    other = makes.keys(Events.of(_train(23), catalogue.rows))
    assert len({*one, *other}) == 6
    assert one == makes.keys(Events.of(_train()[::-1], catalogue.rows))


def test_several_models_are_averaged() -> None:
    catalogue = EncodedCatalogue.of(ITEMS)
    events = Events.of(_train(), catalogue.rows)
    asked = Histories.of([["i3"]], catalogue.rows)

    def scores(*seeds: int) -> np.ndarray:
        return SequenceSignals(catalogue, seeds, SETTINGS)(events)["sequence"].everywhere(asked)

    assert scores(0, 1) == pytest.approx((scores(0) + scores(1)) / 2, abs=1e-4)


def test_each_embedder_has_models_and_a_signal_of_its_own(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    views = [random.normal(size=(12, size)).astype(np.float32) for size in (8, 6)]
    both = EncodedCatalogue.of(ITEMS, views)
    events = Events.of(_train(), both.rows)
    asked = Histories.of([["i3"], ["i5", "i6"]], both.rows)
    makes = SequenceSignals(both, range(2), SETTINGS, Shelf(tmp_path))
    found = makes(events)
    assert list(found) == ["sequence", "sequence_2"]
    keys = []
    for name, vectors in zip(found, views, strict=True):
        shelf = Shelf(tmp_path)  # the models are those of this embedder alone
        alone = SequenceSignals(EncodedCatalogue.of(ITEMS, [vectors]), range(2), SETTINGS, shelf)
        wanted = alone(events)["sequence"].everywhere(asked)
        assert (found[name].everywhere(asked) == wanted).all()
        assert shelf.made == []
        keys += alone.keys(events)
    assert makes.keys(events) == keys
    fixed = SequenceSignals(both, range(2), SETTINGS, Shelf(tmp_path), fixed=keys)
    again = fixed(Events.of(_train(30), both.rows))["sequence_2"].everywhere(asked)
    assert (again == found["sequence_2"].everywhere(asked)).all()
    assert meaning("sequence_2").endswith("over the vectors of embedder 2")


def test_vectors_side_by_side_have_the_mean_of_the_cosines() -> None:
    random = np.random.default_rng(0)
    views = [random.normal(size=(12, size)).astype(np.float32) for size in (8, 6)]
    both = EncodedCatalogue.of(ITEMS, views)
    cosines = [view @ view.T for view in both.views]
    assert np.linalg.norm(both.vectors, axis=1) == pytest.approx(np.ones(12), abs=1e-5)
    assert both.vectors @ both.vectors.T == pytest.approx(np.mean(cosines, axis=0), abs=1e-5)
