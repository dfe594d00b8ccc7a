"""Metrics against values worked out by hand, brute force, and ir_measures."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import ir_measures
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trec_cli.evaluate.metrics import (
    Floats,
    Pools,
    all_metrics,
    ambiguous,
    chance,
    chance_metrics,
    evaluate,
    headline,
    metric_names,
    rank,
    recall,
)
from trec_cli.evaluate.settings import Family

KS = (1, 2, 3, 5, 10)


def one(scores: Sequence[float], positives: Sequence[int], name: str) -> float:
    marks = [place in positives for place in range(len(scores))]
    k = int(name.partition("@")[2] or 1)
    return float(evaluate([scores], [marks], (k,))[name][0])


def test_without_ties_each_metric_has_its_textbook_value() -> None:
    scores, positives = [0.1, 0.9, 0.5, 0.7], [2]  # rank 3 of 4
    assert one(scores, positives, "recall@2") == 0
    assert one(scores, positives, "recall@3") == 1
    assert one(scores, positives, "mrr@2") == 0
    assert one(scores, positives, "mrr@3") == pytest.approx(1 / 3)
    assert one(scores, positives, "ndcg@3") == pytest.approx(1 / math.log2(4))
    assert one(scores, positives, "auc") == pytest.approx(1 / 3)


def test_several_positives_share_recall_and_only_the_first_counts_for_mrr() -> None:
    scores, positives = [5, 4, 3, 2, 1], [1, 3]  # ranks 2 and 4
    assert one(scores, positives, "recall@3") == 0.5
    assert one(scores, positives, "mrr@5") == 0.5
    best = 1 + 1 / math.log2(3)
    assert one(scores, positives, "ndcg@5") == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(5)) / best
    )
    assert one(scores, positives, "auc") == pytest.approx(3 / 6)


def test_recall_with_more_positives_than_k_stays_below_one() -> None:
    assert one([3, 2, 1], [0, 1], "recall@1") == 0.5
    assert one([3, 2, 1], [0, 1], "ndcg@1") == 1


@pytest.mark.parametrize("k", [1, 3, 5, 10])
def test_a_constant_scorer_gets_exactly_chance(k: int) -> None:
    scores = [0.25] * 21
    harmonic = sum(1 / place for place in range(1, k + 1))
    assert one(scores, [0], f"recall@{k}") == pytest.approx(k / 21, abs=1e-15)
    assert one(scores, [0], f"mrr@{k}") == pytest.approx(harmonic / 21, abs=1e-15)
    gain = sum(1 / math.log2(place + 1) for place in range(1, k + 1))
    assert one(scores, [0], f"ndcg@{k}") == pytest.approx(gain / 21, abs=1e-15)
    assert one(scores, [0], "auc") == 0.5


def test_the_order_of_candidates_never_matters() -> None:
    scores, marks = [1.0, 1.0, 2.0, 1.0], [True, False, False, True]
    first = evaluate([scores], [marks], KS)
    for order in itertools.permutations(range(4)):
        again = evaluate([[scores[p] for p in order]], [[marks[p] for p in order]], KS)
        assert all(again[name] == pytest.approx(first[name], abs=1e-15) for name in first)


def brute_force(scores: Sequence[int], marks: Sequence[bool]) -> dict[str, float]:
    """Average the metrics over every way to break the ties."""
    totals = dict.fromkeys(metric_names(KS), 0.0)
    orders = list(itertools.permutations(range(len(scores))))
    for order in orders:
        ranked = sorted(range(len(scores)), key=lambda place: (-scores[place], order[place]))
        for name, value in textbook([marks[place] for place in ranked]).items():
            totals[name] += value / len(orders)
    return totals


def textbook(ranked: Sequence[bool]) -> dict[str, float]:
    """Compute the metrics of a ranking by their plain definitions."""
    places = [place for place, right in enumerate(ranked, start=1) if right]
    wrong = [place for place, right in enumerate(ranked, start=1) if not right]
    values = {}
    for k in KS:
        within = [place for place in places if place <= k]
        ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(places)) + 1))
        values[f"recall@{k}"] = len(within) / len(places)
        values[f"mrr@{k}"] = 1 / within[0] if within else 0.0
        values[f"ndcg@{k}"] = sum(1 / math.log2(place + 1) for place in within) / ideal
    pairs = [a < b for a in places for b in wrong]
    values["auc"] = sum(pairs) / len(pairs) if pairs else math.nan
    return values


pools = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6).filter(
    lambda pool: any(right for _, right in pool)
)


@settings(max_examples=60)
@given(st.lists(pools, min_size=1, max_size=3))
def test_ties_count_at_their_mean_over_all_orders(
    examples: list[list[tuple[int, bool]]],
) -> None:
    scores = [[score for score, _ in pool] for pool in examples]
    marks = [[right for _, right in pool] for pool in examples]
    got = evaluate(scores, marks, KS)
    for place, (row, mark) in enumerate(zip(scores, marks, strict=True)):
        for name, value in brute_force(row, mark).items():
            assert got[name][place] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def random_pools(seed: int, examples: int) -> tuple[list[Floats], list[np.ndarray]]:
    random = np.random.default_rng(seed)
    scores, marks = [], []
    for _ in range(examples):
        size = int(random.integers(1, 60))
        scores.append(random.permutation(size) / 7)
        mark = random.random(size) < 0.2
        mark[random.integers(size)] = True
        marks.append(mark)
    return scores, marks


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_ties_the_values_are_those_of_ir_measures(seed: int) -> None:
    scores, marks = random_pools(seed, 80)
    got = evaluate(scores, marks, KS)
    qrels, run = [], []
    for place, (row, mark) in enumerate(zip(scores, marks, strict=True)):
        for item, (score, right) in enumerate(zip(row, mark, strict=True)):
            qrels.append(ir_measures.Qrel(str(place), str(item), int(right)))
            run.append(ir_measures.ScoredDoc(str(place), str(item), float(score)))
    theirs = {"recall": ir_measures.R, "mrr": ir_measures.RR, "ndcg": ir_measures.nDCG}
    measures = {theirs[name] @ k: f"{name}@{k}" for name in theirs for k in KS}
    for metric in ir_measures.iter_calc(list(measures), qrels, run):
        ours = got[measures[metric.measure]][int(metric.query_id)]
        assert ours == pytest.approx(metric.value, abs=1e-12), (metric, ours)


def test_all_candidates_right_leaves_auc_undefined_and_the_rest_perfect() -> None:
    values = evaluate([[1.0, 1.0, 0.0]], [[True, True, True]], (3,))
    assert math.isnan(values["auc"][0])
    assert [values[name][0] for name in ("recall@3", "mrr@3", "ndcg@3")] == pytest.approx([1, 1, 1])


def test_a_single_candidate_is_always_found() -> None:
    values = evaluate([[0.0]], [[True]], (1, 10))
    assert all(values[f"{name}@10"][0] == 1 for name in ("recall", "mrr", "ndcg"))
    assert math.isnan(values["auc"][0])


def test_k_beyond_the_candidates_finds_everything() -> None:
    assert one([1, 2, 3], [0], "recall@100000") == 1
    assert one([1, 2, 3], [0], "mrr@100000") == pytest.approx(1 / 3)


def test_a_huge_tie_group_is_no_burden() -> None:
    values = evaluate([np.zeros(200_000)], [np.arange(200_000) == 5], (10,))
    assert values["recall@10"][0] == pytest.approx(10 / 200_000)


def test_minus_zero_ties_with_zero() -> None:
    assert one([0.0, -0.0], [0], "recall@1") == 0.5


@pytest.mark.parametrize(
    ("scores", "marks"),
    [
        ([[math.nan, 1.0]], [[True, False]]),
        ([[math.inf, 1.0]], [[True, False]]),
        ([[1.0, 2.0]], [[True]]),
        ([[1.0, 2.0]], [[False, False]]),
        ([[]], [[]]),
        ([[1.0]], []),
    ],
)
def test_impossible_input_is_refused(scores: list[list[float]], marks: list[list[bool]]) -> None:
    with pytest.raises(ValueError, match=r"example 0|score lists"):
        evaluate(scores, marks)


def test_no_examples_give_no_values() -> None:
    assert all(len(values) == 0 for values in evaluate([], []).values())


def test_expected_ranks_are_the_middle_of_the_tie_group_in_the_order_given() -> None:
    scores = np.array([3.0, 1.0, 1.0, 1.0, 9.0, 8.0])
    ranks = rank(Pools(scores, np.array([0, 4, 6]), np.array([3, 0, 5])))
    assert ranks.expected.tolist() == [3.0, 1.0, 2.0]
    assert ranks.example.tolist() == [0, 0, 1]


def test_only_ties_between_right_and_wrong_are_ambiguous() -> None:
    scores = [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    marks = [[True, True, False], [True, False, False], [True, False, False]]
    assert ambiguous(rank(Pools.of(scores, marks))).tolist() == [False, False, True]


def test_chance_is_what_a_constant_scorer_gets() -> None:
    scores, marks = random_pools(3, 30)
    lucky = all_metrics(chance(rank(Pools.of(scores, marks))), KS)
    constant = evaluate([np.ones_like(row) for row in scores], marks, KS)
    for name, values in constant.items():
        assert lucky[name] == pytest.approx(values, abs=1e-15, nan_ok=True)


def test_many_examples_are_ranked_in_blocks_without_a_difference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores, marks = random_pools(4, 50)
    ranks = rank(Pools.of(scores, marks))
    monkeypatch.setattr("trec_cli.evaluate.metrics._CELLS", 64)
    again = rank(Pools.of(scores, marks))
    assert np.array_equal(recall(ranks, 3), recall(again, 3))
    assert np.array_equal(ranks.expected, again.expected)


@example([(2, 3), (1, 5)])  # of equal sums, which a careless code would take for the same
@example([(3, 2), (1, 5)])
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 5)), min_size=1, max_size=30))
def test_metrics_of_chance_are_those_of_a_constant_scorer(shapes: list[tuple[int, int]]) -> None:
    marks = [[True] * positives + [False] * negatives for positives, negatives in shapes]
    ranks = rank(Pools.of([[0.0] * len(row) for row in marks], marks))
    constant, found = all_metrics(ranks, (1, 3)), chance_metrics(ranks, (1, 3))
    assert list(found) == list(constant)
    for name, values in constant.items():
        np.testing.assert_array_equal(found[name], values)


def test_chance_tells_every_shape_from_every_other_where_positives_are_missed() -> None:
    """Each shape (candidates, positives, those among the candidates) alone and together."""
    shapes = [(5, 2, 1), (6, 1, 1), (5, 3, 2), (6, 2, 2), (7, 2, 1), (5, 2, 2)]
    ranks = rank(Pools.of([[0.0]], [[True]]))

    def found(some: list[tuple[int, int, int]]) -> dict[str, Floats]:
        candidates, positives, ranked = map(np.array, zip(*some, strict=True))
        asked = replace(ranks, candidates=candidates, positives=positives, ranked=ranked)
        return chance_metrics(asked, (1, 3))

    together, alone = found(shapes), [found([shape]) for shape in shapes]
    for name, values in together.items():
        assert values.tolist() == [each[name][0] for each in alone], name


def mind_metrics(right: list[int], scores: list[float]) -> dict[str, float]:
    """Compute an impression's metrics as MIND's own evaluation script defines them."""

    def dcg(labels: list[int], by: list[float], k: int) -> float:
        order = np.argsort(by)[::-1]
        gains = 2.0 ** np.take(labels, order[:k]) - 1
        return float(np.sum(gains / np.log2(np.arange(len(gains)) + 2)))

    def ndcg_at(k: int) -> float:
        return dcg(right, scores, k) / dcg(right, [float(label) for label in right], k)

    ordered = np.take(right, np.argsort(scores)[::-1])
    good = [s for s, label in zip(scores, right, strict=True) if label]
    bad = [s for s, label in zip(scores, right, strict=True) if not label]
    return {
        "auc": sum(g > b for g in good for b in bad) / (len(good) * len(bad)),
        "mrr": float(np.sum(ordered / (np.arange(len(ordered)) + 1)) / np.sum(ordered)),
        "ndcg@5": ndcg_at(5),
        "ndcg@10": ndcg_at(10),
    }


@given(
    labels=st.lists(st.integers(0, 1), min_size=2, max_size=40).filter(
        lambda labels: 0 < sum(labels) < len(labels)
    ),
    seed=st.integers(0, 1000),
)
def test_minds_metrics_are_those_of_its_leaderboard(labels: list[int], seed: int) -> None:
    scores = np.random.default_rng(seed).permutation(len(labels)).astype(float).tolist()
    found = all_metrics(rank(Pools.of([scores], [[label == 1 for label in labels]])), (), "mind")
    expected = mind_metrics(labels, scores)
    assert list(found) == list(expected)
    for name, values in found.items():
        assert values[0] == pytest.approx(expected[name], abs=1e-12)


def by_definition(order: list[int], right: set[int], k: int) -> dict[str, float]:
    """Compute hit rate, precision, average precision and MIND's MRR of one strict order."""
    at = [place for place, item in enumerate(order, 1) if item in right]
    found = [place for place in at if place <= k]
    return {
        f"hit@{k}": float(bool(found)),
        f"precision@{k}": len(found) / k,
        f"map@{k}": sum(n / place for n, place in enumerate(found, 1)) / len(right),
        "mrr": sum(1 / place for place in at) / len(right),
    }


@given(
    scores=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    data=st.data(),
    k=st.integers(1, 8),
)
def test_ties_of_the_other_metrics_are_the_mean_over_all_orders(
    scores: list[int], data: st.DataObject, k: int
) -> None:
    right = data.draw(st.sets(st.sampled_from(range(len(scores))), min_size=1))
    orders = [
        order
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    rows = [by_definition(list(order), right, k) for order in orders]
    ranks = rank(Pools.of([scores], [[item in right for item in range(len(scores))]]))
    found = {**all_metrics(ranks, (k,), "all"), **all_metrics(ranks, (k,), "mind")}
    for name in rows[0]:
        assert found[name][0] == pytest.approx(np.mean([row[name] for row in rows])), name


def test_a_missed_positive_is_no_hit() -> None:
    pools = Pools(np.array([2.0, 1.0]), np.array([0, 2]), np.array([-1]))
    families: tuple[Family, ...] = ("all", "mind")
    for family in families:
        for name, values in all_metrics(rank(pools), (1,), family).items():
            assert values.tolist() == [0.0], name


def test_the_largest_cut_off_of_ndcg_stands_for_all() -> None:
    assert headline(["recall@5", "ndcg@1", "ndcg@10", "auc"]) == "ndcg@10"
