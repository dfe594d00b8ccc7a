"""Candidates from the whole catalogue: sources, quotas, filters, recall."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.signals.small import ITEMS, example
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.progress import Silent
from trec_cli.core.records import Example, Item, Split
from trec_cli.retrieve import neighbours
from trec_cli.retrieve.filters import filter_items, read_excluded
from trec_cli.retrieve.neighbours import make_neighbours
from trec_cli.retrieve.search import (
    Best,
    Retriever,
    measure_recall,
    retrieve,
    retrieved,
)
from trec_cli.retrieve.settings import (
    RetrieveSettings,
    SearchKind,
    parse_count,
    parse_only,
    parse_search,
    parse_since,
)
from trec_cli.retrieve.sources import GROUP_SHARE, SHARES, highest
from trec_cli.signals.blend import Learner
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories, Mask
from trec_cli.signals.kinds import Signal, Values
from trec_cli.signals.learn import learn_shares


def _shop(size: int = 40) -> dict[str, Item]:
    """Items of two brands; the titles of one brand share words."""
    words = ("pot", "saw")
    return {
        f"i{n}": Item(f"i{n}", {"title": f"{words[n % 2]} {n // 4}", "brand": words[n % 2]})
        for n in range(size)
    }


def _question(history: list[str], right: list[str], split: Split = "test", n: int = 0) -> Example:
    return Example(
        example_id=f"e{n}-{split}",
        user_id=f"u{n}",
        split=split,
        history=history,
        candidates=[],
        positives=right,
    )


def _train() -> list[Example]:
    steps = [_question([f"i{n % 8}"], [f"i{(n + 1) % 8}"], "train", n) for n in range(24)]
    return [*steps, _question(["i20"], ["i21"], "train", 24)]


def test_highest_orders_scores_and_keeps_the_columns_order_in_ties() -> None:
    rows, values = highest(np.array([[1, 3, 3, 0], [5, 5, 5, 5]], np.float32), 3)
    assert rows.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert values.tolist() == [[3, 3, 1], [5, 5, 5]]
    assert highest(np.array([[1, 2]], np.float32), 9)[0].tolist() == [[1, 0]]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 30))
def test_highest_equals_a_full_sort(scores: list[int], count: int) -> None:
    columns, values = highest(np.array([scores, scores], np.float32), count)
    assert values[1].tolist() == sorted(scores, reverse=True)[:count]
    best = sorted(range(len(scores)), key=lambda n: (-scores[n], n))[:count]
    assert columns[0].tolist() == best


@pytest.mark.parametrize("levels", [3, 50, 100_000])
def test_highest_equals_a_full_sort_of_many_rounded_scores(levels: int) -> None:
    draws = np.random.default_rng(levels)
    scores = (draws.integers(levels, size=(4, 5000)) / levels).astype(np.float32)
    scores[:, 1::3] = -np.inf
    scores[3, 7:] = -np.inf
    columns, values = highest(scores, 20, 4)
    rounded = np.round(scores, 4)
    order = np.argsort(-rounded, axis=1, kind="stable")[:, :20]
    assert (columns == order).all()
    assert (values == np.take_along_axis(rounded, order, axis=1)).all()


def test_what_followed_before_is_retrieved_for_users_with_history() -> None:
    asked = _question(["i20"], ["i21"])
    found = retrieve(_shop(), [*_train(), asked], RetrieveSettings(count=10))[-1]
    assert "i21" in found
    assert len(found) == len(set(found)) == 10


def test_items_of_the_history_come_again_only_where_wanted() -> None:
    asked = _question(["i3", "i4", "i4"], ["i5"])
    for repeats in (False, True):
        wanted = RetrieveSettings(count=40, repeats=repeats)
        found = retrieve(_shop(), [*_train(), asked], wanted)[-1]
        assert ({"i3", "i4"} <= set(found)) == repeats
        assert len(found) == (40 if repeats else 38)


@pytest.mark.parametrize("search", ["exact", "approximate"])
def test_what_a_cap_has_cut_away_comes_again_only_where_wanted(search: SearchKind) -> None:
    asked = msgspec.structs.replace(_question(["i3"], ["i5"]), older=["i4", "i6", "i4"], start=3)
    for repeats in (False, True):
        wanted = RetrieveSettings(count=40, repeats=repeats, search=search)
        found = retrieve(_shop(), [*_train(), asked], wanted)[-1]
        assert ({"i3", "i4", "i6"} <= set(found)) == repeats
        assert len(found) == (40 if repeats else 37)


def test_a_user_without_history_gets_popular_and_fresh_items() -> None:
    found = retrieve(_shop(), [*_train(), _question([], ["i1"])], RetrieveSettings(count=10))[-1]
    assert {f"i{n}" for n in range(8)} <= set(found)
    assert len(found) == 10


def test_a_new_item_is_found_through_its_text() -> None:
    items = {**_shop(), "new": Item("new", {"title": "pot 0", "brand": "pot"})}
    asked = _question(["i0"], ["new"])
    assert "new" in retrieve(items, [*_train(), asked], RetrieveSettings(count=10))[-1]


def test_a_right_answer_is_never_added_and_recall_counts_it_as_missed() -> None:
    far = _question(["i0"], ["i39"], n=99)
    near = _question(["i20"], ["i21"], n=98)
    found = retrieve(_shop(), [*_train(), far, near], RetrieveSettings(count=6))[-2:]
    assert "i39" not in found[0]
    recall = measure_recall([far, near], found)
    assert (recall.found, recall.asked) == (1, 2)
    assert str(recall) == "1 of 2 right answers found (50.0%)"


def test_filters_leave_out_what_may_not_be_recommended() -> None:
    asked = _question(["i0"], ["i1"])
    wanted = RetrieveSettings(count=40, excluded=frozenset({"i3"}), only={"brand": "SAW"})
    found = retrieve(_shop(), [*_train(), asked], wanted)[-1]
    assert set(found) == {f"i{n}" for n in range(1, 40, 2)} - {"i3"}


def test_filters_that_leave_nothing_or_name_nothing_are_refused() -> None:
    asked = [*_train(), _question(["i0"], ["i1"])]
    with pytest.raises(UsageError, match="leave no item"):
        retrieve(_shop(), asked, RetrieveSettings(only={"brand": "none"}))
    with pytest.raises(UsageError, match="there are brand, title"):
        retrieve(_shop(), asked, RetrieveSettings(only={"colour": "red"}))


def test_order_of_files_changes_nothing_and_the_order_of_candidates_tells_nothing() -> None:
    items, asked = _shop(), [*_train(), _question(["i2"], ["i3"])]
    wanted = RetrieveSettings(count=12)
    one = retrieve(items, asked, wanted)
    other = retrieve(dict(reversed(items.items())), asked[::-1], wanted)[::-1]
    assert one == other
    firsts = {row[0] for row in one}
    assert len(firsts) > 5


def test_a_train_question_is_answered_without_its_own_user() -> None:
    lonely = _question(["i30"], ["i39"], "train", 77)
    items, others = _shop(), _train()
    catalogue = EncodedCatalogue.of(items)
    events = Events.of([*others, lonely], catalogue.rows)
    learner = Learner(catalogue, events, further=learn_shares)
    ((_, signals),) = learner.parts([lonely])
    asked = Histories.of([["i30"]], catalogue.rows)
    assert signals["follows"].everywhere(asked).max() == 0
    assert learner.signals()["follows"].everywhere(asked).max() > 0


def test_the_best_by_one_score_are_those_of_a_full_sort() -> None:
    items = _shop()
    catalogue = EncodedCatalogue.of(items)
    popularity = Learner(catalogue, Events.of(_train(), catalogue.rows)).signals()["popularity"]
    asked = Histories.of([["i2", "i20"], []], catalogue.rows)
    allowed = np.ones(len(catalogue), bool)
    allowed[catalogue.rows["i3"]] = False
    search = Best(scorer=popularity, allowed=allowed, settings=RetrieveSettings(count=39))
    ((_, _, found),) = search.blocks(asked)
    names = np.array(list(catalogue.rows))
    first = names[found.rows[0][found.rows[0] >= 0]]
    assert set(first) == set(items) - {"i2", "i3", "i20"}
    assert set(first[:6]) == {"i0", "i1", "i4", "i5", "i6", "i7"}
    assert (np.diff(found.scores[1]) <= 0).all()


def test_more_candidates_than_items_are_all_items() -> None:
    asked = example("x", "test", "a", right="b")
    assert sorted(retrieve(ITEMS, [asked], RetrieveSettings())[0]) == ["b", "c", "d"]


@pytest.mark.parametrize("text", ["retrieve:0", "retrieve:x", "retrieve:", "bm25:3", "retrieve:-1"])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write retrieve:N"):
        parse_count(text)


def test_counts_and_filters_are_read() -> None:
    assert parse_count("retrieve:50") == 50
    assert parse_count("retrieve") == 200
    assert parse_only(("brand=A=B", "x = y ")) == {"brand": "A=B", "x": "y"}
    with pytest.raises(UsageError, match="ATTRIBUTE=VALUE"):
        parse_only(("brand",))


def test_excluded_items_are_read_and_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("a\n\n unknown \n")
    assert read_excluded(path, ITEMS) == {"a", "unknown"}
    path.write_text("x,y\n")
    with pytest.raises(InputError, match="holds 1 id, none of which is in the items"):
        read_excluded(path, ITEMS)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not UTF-8"):
        read_excluded(path, ITEMS)


def _fused(signals: Mapping[str, Signal], asked: Histories, barred: Mask, count: int) -> Values:
    """Score the whole catalogue by reciprocal rank fusion, as docs/retrieval.md has it."""
    group = next(name for name in signals if name.startswith("same_"))
    factors: dict[str, tuple[float, tuple[str, ...]]] = {
        name: (share, (name,)) for name, share in SHARES.items()
    }
    factors["popular"] = (SHARES["popular"], ("popularity",))
    factors["fresh"] = (SHARES["fresh"], ("unseen", "vector_mean"))
    factors["group"] = (GROUP_SHARE, (group, "popularity"))
    total = np.zeros(barred.shape)
    for share, names in factors.values():
        scores = np.prod([signals[name].everywhere(asked) for name in names], axis=0)
        scores = np.where(barred, -np.inf, np.round(scores, 4))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        gains = share / (61 + np.arange(count))
        gains[: int(share * count)] += 1
        gains = np.where(np.take_along_axis(scores, order, axis=1) > 0, gains, 0)
        np.put_along_axis(total, order, np.take_along_axis(total, order, 1) + gains, axis=1)
    return np.where(barred, -np.inf, total)


@pytest.mark.parametrize("longest", [12, 120])
def test_the_search_by_heads_gives_the_candidates_of_whole_rankings(longest: int) -> None:
    draws = np.random.default_rng(3)
    words = [f"w{n}" for n in range(60)]
    items = {
        f"i{n}": Item(
            f"i{n}",
            {"title": " ".join(draws.choice(words, 5)), "brand": f"b{draws.integers(5)}"},
        )
        for n in range(300)
    }
    histories = [
        [f"i{i}" for i in draws.integers(0, 250, draws.integers(1, longest))] for _ in range(60)
    ]
    train = [_question(h[:-1], h[-1:], "train", n) for n, h in enumerate(histories) if len(h) > 1]
    catalogue = EncodedCatalogue.of(items)
    learner = Learner(catalogue, Events.of(train, catalogue.rows), further=learn_shares)
    signals = learner.signals()
    wanted = RetrieveSettings(count=40, excluded=frozenset({"i3", "i7"}))
    asked = Histories.of([*histories, []], catalogue.rows)
    retriever = Retriever.of(items, catalogue, signals, wanted)
    ((_, _, found),) = retriever.blocks(asked)
    whole = _fused(signals, asked, retriever.barred(asked), 40)
    order = np.argsort(-whole, axis=1, kind="stable")[:, :40]
    pairs = zip(order.tolist(), found.rows.tolist(), strict=True)
    agree = [len(set(a) & set(b)) for a, b in pairs]  # but for scores that round differently
    assert min(agree) >= 39
    assert sum(agree) > 0.999 * order.size


def test_approximate_search_finds_nearly_what_exact_search_finds_and_the_same_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("faiss", reason="the extra trec-cli[ann] is not installed")
    draws = np.random.default_rng(0)
    centres = draws.normal(size=(20, 16))
    vectors = centres[draws.integers(20, size=3000)] + 0.5 * draws.normal(size=(3000, 16))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    rows = np.flatnonzero(draws.random(3000) < 0.9)
    exact = make_neighbours(vectors, rows, approximate=False)
    monkeypatch.setattr(neighbours, "LEAST", 100)
    near = make_neighbours(vectors, rows, approximate=True)
    assert isinstance(near, neighbours.CellNeighbours)
    true, _ = exact.search(vectors[:50], 20)
    found, products = near.search(vectors[:50], 20)
    assert (
        sum(len(set(a) & set(b)) for a, b in zip(true.tolist(), found.tolist(), strict=True)) > 900
    )
    assert (np.diff(products, axis=1) <= 0).all()
    assert set(found.ravel().tolist()) <= {*rows.tolist(), -1}
    again = make_neighbours(vectors, rows, approximate=True).search(vectors[:50], 20)
    assert (again[0] == found).all()


def test_few_vectors_are_compared_with_all_and_missing_places_are_marked() -> None:
    near = make_neighbours(np.eye(3, dtype=np.float32), np.array([0, 2]), approximate=True)
    rows, products = near.search(np.array([[0.1, 0, 1]], np.float32), 3)
    assert rows.tolist() == [[2, 0, -1]]
    assert products[0].tolist() == pytest.approx([1, 0.1, -np.inf])


def test_without_faiss_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(neighbours, "LEAST", 1)
    with pytest.raises(UsageError, match=r"trec-cli\[ann\]"):
        make_neighbours(np.eye(3, dtype=np.float32), np.arange(3), approximate=True)


def test_the_search_is_exact_up_to_a_number_of_items_unless_named() -> None:
    assert not RetrieveSettings().approximate(100_000)
    assert RetrieveSettings().approximate(100_001)
    assert RetrieveSettings(search="approximate").approximate(5)
    assert not RetrieveSettings(search="exact").approximate(10**7)
    assert [parse_search(f"retrieve:9{way}") for way in ("", ":exact", ":approximate")] == [
        "auto",
        "exact",
        "approximate",
    ]
    assert parse_count("retrieve:9:exact") == 9
    with pytest.raises(UsageError, match="exact or approximate"):
        parse_count("retrieve:9:fast")


def test_the_list_search_gives_whole_lists_of_candidates_to_every_split() -> None:
    asked = [*_train(), _question(["i2"], ["i3"]), _question([], ["i1"], n=5)]
    one = retrieve(_shop(), asked, RetrieveSettings(count=12, search="approximate"))
    assert all(len(set(found)) == 12 for found in one)
    assert not any(set(e.history) & set(f) for e, f in zip(asked, one, strict=True))
    assert one == retrieve(
        dict(reversed(_shop().items())), asked, RetrieveSettings(count=12, search="approximate")
    )


def test_agreement_counts_what_both_searches_find() -> None:
    class Told(Silent):
        said: ClassVar[list[str]] = []

        def info(self, message: str) -> None:
            self.said.append(message)

    asked = [*_train(), _question(["i2"], ["i3"])]
    list(
        retrieved(_shop(), asked, RetrieveSettings(count=40, search="approximate"), progress=Told())
    )
    assert Told.said[-1] == (
        "approximate search finds 100.0% of what exact search finds (1 user compared)"
    )


def test_since_leaves_items_of_a_date_or_later_and_counts_the_others() -> None:
    dates = {"i0": "2024-05-01", "i1": "2024-04-30 23:59:59", "i2": "1714521600", "i3": "soon"}
    items = {
        k: Item(k, {"title": k, "published": d} if d else {"title": k}) for k, d in dates.items()
    }
    items["i4"] = Item("i4", {"title": "i4"})
    rows = {name: n for n, name in enumerate(items)}
    wanted = RetrieveSettings(since=parse_since("published=2024-05-01"), excluded=frozenset({"i4"}))
    found = filter_items(items, rows, wanted)
    assert found.allowed.tolist() == [True, False, True, False, False]
    assert str(found) == (
        "2 of 5 items may be recommended: 1 is excluded; 1 is older (published); "
        "1 has no date (published)"
    )
    with pytest.raises(UsageError, match="write ATTRIBUTE=DATE"):
        parse_since("2024-05-01")
    with pytest.raises(UsageError, match="no item has a date"):
        filter_items(items, rows, RetrieveSettings(since={"title": 0.0}))
