"""Ranking metrics of scored candidate lists, ties at their expected value.

Every metric is the exact expectation over all ways to order candidates of equal score, so
it never depends on the order of a file, and a scorer that says the same of everything gets
exactly the value of chance.  The derivations are in `docs/eval.md`.

Usage::

    ranks = rank(Pools.of([[0.2, 1.5, 0.2]], [[True, False, False]]))
    recall(ranks, 2)          # array([0.5]): rank 2 or 3, each with probability 1/2

All metrics give one value per example, float64 of shape ``[examples]``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trec_cli.core.arrays import let_go, spans, take
from trec_cli.evaluate.settings import DEFAULT_KS, Family

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BEYOND = 1 << 40
"""Candidates ahead of a positive that was not ranked: it stands behind every cut-off."""
_CELLS = 1 << 20
"""Candidates ranked at once; bounds the memory of the temporary arrays."""


@dataclass(frozen=True)
class Pools:
    """The scored candidates of many examples, one list after another.

    Attributes:
        scores: ``[all candidates]``, higher is better, finite.
        offsets: ``[examples + 1]``; example *i* owns ``scores[offsets[i]:offsets[i + 1]]``.
        positive_at: ``[all positives]``, indexes into ``scores``, grouped by example in order;
            ``-1 - i`` is a positive of example *i* that is not among its candidates.
        catalogue: ``[examples]``, items that were ranked where the candidates are the best of
            more; 0 where they are all.  None is 0 for every example.
    """

    scores: Floats
    offsets: Ints
    positive_at: Ints
    catalogue: Ints | None = None

    @classmethod
    def of(cls, scores: Sequence[ArrayLike], positives: Sequence[ArrayLike]) -> "Pools":
        """Join the score lists and the lists of true/false marks of some examples.

        Raises:
            ValueError: lengths differ, a list without candidate or positive, or a score
                that is not finite; the message names the example's index.
        """
        if len(scores) != len(positives):
            raise ValueError(f"{len(scores)} score lists, {len(positives)} lists of positives")
        rows = [np.asarray(row, dtype=np.float64) for row in scores]
        marks = [np.asarray(mark, dtype=bool) for mark in positives]
        for index, (row, mark) in enumerate(zip(rows, marks, strict=True)):
            if row.shape != mark.shape or not mark.any() or not np.isfinite(row).all():
                raise ValueError(
                    f"example {index}: needs one finite score and one mark per candidate, "
                    "and at least one positive"
                )
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return cls(
            np.concatenate([np.empty(0), *rows]),
            offsets,
            np.flatnonzero(np.concatenate([np.empty(0, dtype=bool), *marks])),
        )

    @property
    def example(self) -> Ints:
        """The index of every positive's example."""
        found = np.searchsorted(self.offsets, self.positive_at, side="right") - 1
        return np.where(self.positive_at < 0, -1 - self.positive_at, found)


@dataclass(frozen=True)
class Ranks:
    """Where the positives stand, and with what they tie.

    The first five are ``[all positives]``, the last three ``[examples]``.  A positive that was
    not among the candidates has :data:`BEYOND` candidates ahead and ties with nothing.

    Attributes:
        example: the index of the positive's example.
        ahead: candidates with a strictly higher score.
        tied: candidates of the same score, the positive included.
        tied_positives: positives of the same score, itself included.
        positives_ahead: positives with a strictly higher score.
        candidates: number of ranked items of each example: its candidates, or the catalogue
            that they are the best of.
        positives: number of positives of each example.
        ranked: those of them that are among the ranked items.
    """

    example: Ints
    ahead: Ints
    tied: Ints
    tied_positives: Ints
    positives_ahead: Ints
    candidates: Ints
    positives: Ints
    ranked: Ints

    @property
    def missed(self) -> NDArray[np.bool_]:
        """Which positives were not among the candidates."""
        return self.ahead >= BEYOND

    @property
    def expected(self) -> Floats:
        """Expected rank of each positive, from 1: the middle of its tie group."""
        return np.where(self.missed, np.inf, self.ahead + (self.tied + 1) / 2)

    def parts(self, most: int | None = None) -> Iterator[tuple[slice, "Ranks"]]:
        """Yield the ranks of some examples (of ``most``) at a time, and which they are."""
        starts = np.concatenate([[0], np.cumsum(self.positives)])
        for span in spans(len(self.candidates), most):
            own = slice(int(starts[span.start]), int(starts[span.stop]))
            of_positives = (self.ahead, self.tied, self.tied_positives, self.positives_ahead)
            of_examples = (self.candidates, self.positives, self.ranked)
            numbers = *(each[own] for each in of_positives), *(each[span] for each in of_examples)
            yield span, Ranks(self.example[own] - span.start, *numbers)
            self.let_go()

    def take(self, order: Ints) -> "Ranks":
        """Return the ranks of some examples, in this order."""
        number = self.positives[order]
        starts = (np.cumsum(self.positives) - self.positives)[order]
        at = np.arange(number.sum()) + np.repeat(starts - (np.cumsum(number) - number), number)
        standing = (self.ahead, self.tied, self.tied_positives, self.positives_ahead)
        owner = np.repeat(np.arange(len(order)), number)
        of_examples = take((self.candidates, self.positives, self.ranked), order)
        return Ranks(owner, *take(standing, at), *of_examples)

    def let_go(self) -> None:
        """Take what is in a file out of memory."""
        let_go(self.ahead)
        let_go(self.candidates)


def rank(pools: Pools) -> Ranks:
    """Rank the positives of all examples, in the order of ``pools.positive_at``.

    Every positive is compared with all candidates of its example; with the few positives
    there are this is some four times faster than sorting.
    """
    candidates, example = np.diff(pools.offsets), pools.example
    positives = np.bincount(example, minlength=len(candidates))
    found = pools.positive_at >= 0
    of_found = example[found]
    number = np.bincount(of_found, minlength=len(candidates))
    own = pools.scores[pools.positive_at[found]]
    among = np.concatenate([[0], np.cumsum(number)])
    missed = [np.full_like(example, BEYOND), *np.ones((2, len(example)), dtype=np.int64)]
    ahead, tied, tied_positives, positives_ahead = *missed, number[example]
    ahead[found], tied[found] = _standing(own, of_found, pools.scores, pools.offsets)
    positives_ahead[found], tied_positives[found] = _standing(own, of_found, own, among)
    standing = (example, ahead, tied, tied_positives, positives_ahead)
    if pools.catalogue is None:
        return Ranks(*standing, candidates, positives, number)
    whole = pools.catalogue > 0
    ranked = np.where(whole, positives, number)
    return Ranks(*standing, np.where(whole, pools.catalogue, candidates), positives, ranked)


def _standing(own: Floats, example: Ints, scores: Floats, offsets: Ints) -> tuple[Ints, Ints]:
    """Count the scores of an example that are higher than, and equal to, those of its positives.

    Args:
        own: scores of the positives, ``[all positives]``.
        example: the index of the positive's example.
        scores: of all examples, one list after another.
        offsets: ``[examples + 1]``, where the lists begin.
    """
    widths, starts = np.diff(offsets)[example], offsets[example]
    ahead, tied = np.zeros_like(example), np.zeros_like(example)
    for which in _equally_wide(widths):
        others = scores[starts[which, None] + np.arange(widths[which[0]])]
        ahead[which] = np.count_nonzero(others > own[which, None], axis=1)
        tied[which] = np.count_nonzero(others == own[which, None], axis=1)
    return ahead, tied


def _equally_wide(widths: Ints) -> Iterator[Ints]:
    """Yield the indexes of equal numbers, so many at once that their sum stays small."""
    by_width = np.argsort(widths, kind="stable")
    borders = np.flatnonzero(np.diff(widths[by_width])) + 1
    for indexes in np.split(by_width, borders) if len(widths) else []:
        step = max(1, _CELLS // int(widths[indexes[0]]))
        for start in range(0, len(indexes), step):
            yield indexes[start : start + step]


def chance(ranks: Ranks) -> Ranks:
    """Return the ranks of a scorer that knows nothing: all ranked items of an example tie.

    Its metrics are exactly the expected values of a uniformly random order.  A positive that
    was not among the candidates stays missed; where these are the best of a catalogue, it is
    somewhere in the random order of that.
    """
    example, ranked = ranks.example, ranks.ranked[ranks.example]
    out = ranks.missed & (ranked < ranks.positives[example])
    return replace(
        ranks,
        ahead=np.where(out, BEYOND, 0),
        tied=np.where(out, 1, ranks.candidates[example]),
        tied_positives=np.where(out, 1, ranked),
        positives_ahead=np.where(out, ranked, 0),
    )


def among(ranks: Ranks, items: int) -> Ranks:
    """Return the same questions asked among so many items, for their chance."""
    return replace(ranks, candidates=np.full_like(ranks.candidates, items), ranked=ranks.positives)


def chance_metrics(
    ranks: Ranks, ks: Iterable[int] = DEFAULT_KS, family: Family = "standard"
) -> dict[str, Floats]:
    """Compute every metric of :func:`chance`, by name; equal to ``all_metrics(chance(ranks))``.

    They depend on nothing but the numbers of ranked items and positives, of which few
    combinations occur: each is computed once.
    """
    most = int(ranks.positives.max(initial=0)) + 1
    code = (ranks.candidates * most + ranks.positives) * most + ranks.ranked
    _, first, index = np.unique(code, return_index=True, return_inverse=True)
    candidates, positives, ranked = (
        of_all[first] for of_all in (ranks.candidates, ranks.positives, ranks.ranked)
    )
    example = np.repeat(np.arange(len(first)), positives)
    nth = np.arange(len(example)) - (np.cumsum(positives) - positives)[example]
    ahead, none = np.where(nth < ranked[example], 0, BEYOND), np.zeros_like(example)
    blind = Ranks(example, ahead, none, none, none, candidates, positives, ranked)
    metrics = all_metrics(chance(blind), ks, family)
    return {name: values[index] for name, values in metrics.items()}


def ambiguous(ranks: Ranks) -> NDArray[np.bool_]:
    """Check, per example, whether a positive ties with a candidate that is none."""
    unclear = ranks.example[ranks.tied > ranks.tied_positives]
    return np.bincount(unclear, minlength=len(ranks.candidates)) > 0


def _per_example(ranks: Ranks, values: Floats) -> Floats:
    """Sum values of positives over their examples."""
    sums = np.bincount(ranks.example, weights=values, minlength=len(ranks.candidates))
    return sums.astype(np.float64, copy=False)


def recall(ranks: Ranks, k: int) -> Floats:
    """Recall@K: the share of an example's positives that stand among the first K.

    ``sum over positives of P(rank <= K) / positives``, where a positive with *g* better
    and *t* tied candidates has ``P(rank <= K) = clip((K - g) / t, 0, 1)``.

    With a single positive this is what others call HitRate@K, Hit@K or Success@K (with
    several, those are 1 as soon as one is found; this is not).  The divisor is the number
    of positives, not ``min(K, positives)``: with more positives than K it stays below 1.
    K beyond the candidates gives 1, unless a positive is not among them.
    """
    within = np.clip((k - ranks.ahead) / ranks.tied, 0.0, 1.0)
    shares: Floats = _per_example(ranks, within) / ranks.positives
    return shares


def reciprocal_rank(ranks: Ranks, k: int) -> Floats:
    """MRR@K of one example: 1 / rank of its *first* positive, 0 if that is beyond K.

    The first positive lies in the best tie group that holds any: *p* positives in *t*
    candidates behind *g* better ones.  Its position J in the group has
    ``P(J = j) = C(t - j, p - 1) / C(t, p)`` and the metric is
    ``sum over j <= K - g of P(J = j) / (g + j)``, computed through
    ``P(1) = p / t`` and ``P(j + 1) / P(j) = (t - j - p + 1) / (t - j)``.

    The mean over examples is the *mean* reciprocal rank.  Only the first positive
    counts; the mean over all positives is another metric.
    """
    first = np.flatnonzero(ranks.positives_ahead == 0)
    ahead, tied, group = ranks.ahead[first], ranks.tied[first], ranks.tied_positives[first]
    value = np.zeros(len(first))
    live, likely, step = np.arange(len(first)), group / tied, 1
    while (live := live[ahead[live] + step <= k]).size:
        value[live] += likely[live] / (ahead[live] + step)
        live = live[tied[live] - step >= group[live]]
        behind = tied[live] - step
        likely[live] *= (behind - group[live] + 1) / behind
        step += 1
    spread = np.zeros(len(ranks.example))
    spread[first] = value / group  # each positive of the group brings its share
    return _per_example(ranks, spread)


def ndcg(ranks: Ranks, k: int) -> Floats:
    """NDCG@K with binary gains: DCG@K over the best DCG@K there could be.

    ``DCG = sum over positives within K of 1 / log2(rank + 1)``; the best has
    ``min(K, positives)`` terms.  A tied positive takes each of its group's *t* ranks with
    probability 1/t, so its term is the mean discount over those ranks (0 beyond K).

    Gains are 0 and 1, so the linear and the exponential form of the gain agree.
    """
    longest = int(ranks.candidates.max(initial=0))
    positions = np.arange(1, min(k, longest) + 1)
    total = np.concatenate([[0.0], np.cumsum(1 / np.log2(positions + 1))])
    top = len(positions)
    start, end = np.minimum(ranks.ahead, top), np.minimum(ranks.ahead + ranks.tied, top)
    gained = (total[end] - total[start]) / ranks.tied
    normalised: Floats = _per_example(ranks, gained) / total[np.minimum(ranks.positives, top)]
    return normalised


def auc(ranks: Ranks) -> Floats:
    """Area under the ROC curve: how often a positive beats a candidate that is none.

    ``(pairs won + half the pairs tied) / (positives * negatives)`` within the example;
    the mean over examples is the *grouped* AUC (GAUC), as MIND reports it, not the AUC
    of all pairs of a file.  Without negatives there are no pairs: the value is NaN, and
    means leave the example out.  A positive that is not among the candidates loses all pairs.
    """
    negatives = ranks.candidates - ranks.ranked
    here = negatives[ranks.example]
    tied = ranks.tied - ranks.tied_positives
    behind = np.maximum(here - (ranks.ahead - ranks.positives_ahead) - tied, 0)
    won = _per_example(ranks, behind + tied / 2)
    pairs = ranks.positives * negatives
    area = np.full(len(pairs), np.nan)
    np.divide(won, pairs, out=area, where=pairs > 0)
    return area


def reciprocal_ranks(ranks: Ranks) -> Floats:
    """MRR as MIND's leaderboard has it: the mean of 1 / rank over *all* positives, no cut-off.

    A tied positive takes each of its group's *t* ranks behind *g* better ones with
    probability 1/t: ``(H(g + t) - H(g)) / t``, H being harmonic numbers.
    """
    longest = int(ranks.candidates.max(initial=0))
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, longest + 1))])
    found = np.flatnonzero(~ranks.missed)
    values = np.zeros(len(ranks.example))
    ahead, tied = ranks.ahead[found], ranks.tied[found]
    values[found] = (harmonic[ahead + tied] - harmonic[ahead]) / tied
    means: Floats = _per_example(ranks, values) / ranks.positives
    return means


def hit(ranks: Ranks, k: int) -> Floats:
    """HitRate@K: 1 where a positive is among the first K.  With one positive it is recall@K.

    The first positive decides: it lies in the best tie group that holds any, *p* of *t*
    behind *g* better ones, and none of the p is among the first ``m = K - g`` of the group
    with probability ``C(t - p, m) / C(t, m)``, the product of ``(t - p - i) / (t - i)``.
    """
    first = np.flatnonzero((ranks.positives_ahead == 0) & ~ranks.missed)
    tied, group = ranks.tied[first], ranks.tied_positives[first]
    slots = np.clip(k - ranks.ahead[first], 0, tied)
    miss = np.ones(len(first))
    for step in range(int(slots.max(initial=0))):
        live = slots > step
        miss[live] *= np.maximum(tied[live] - group[live] - step, 0) / (tied[live] - step)
    spread = np.zeros(len(ranks.example))
    spread[first] = (1 - miss) / group
    return _per_example(ranks, spread)


def precision(ranks: Ranks, k: int) -> Floats:
    """Precision@K: the share of positives among the first K; shorter lists are filled up to K."""
    within = np.clip((k - ranks.ahead) / ranks.tied, 0.0, 1.0)
    return _per_example(ranks, within) / k


def average_precision(ranks: Ranks, k: int) -> Floats:
    """MAP@K of one example: the sum of precision at the rank of each positive, over positives.

    Positives beyond K add 0; the divisor is the number of positives (RecTools and
    trec_eval divide so, others by ``min(K, positives)``).  A positive at place *j* of its
    tie group has ``(j - 1)(p - 1) / (t - 1)`` of the p - 1 others of the group before it in
    expectation, and all *a* positives of better groups:
    ``sum over j <= K - g of (a + 1 + (j - 1)(p - 1) / (t - 1)) / (t (g + j))``.
    """
    value = np.zeros(len(ranks.example))
    ahead, tied = ranks.ahead, ranks.tied
    beside = (ranks.tied_positives - 1) / np.maximum(tied - 1, 1)
    step = 1
    live = np.flatnonzero(ahead + step <= k)
    while live.size:
        before = ranks.positives_ahead[live] + 1 + (step - 1) * beside[live]
        value[live] += before / (tied[live] * (ahead[live] + step))
        step += 1
        live = live[(ahead[live] + step <= k) & (step <= tied[live])]
    averages: Floats = _per_example(ranks, value) / ranks.positives
    return averages


Metric = Callable[[Ranks], Floats]

METRICS_AT_K: dict[str, Callable[[Ranks, int], Floats]] = {
    "recall": recall,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
}
_MORE_AT_K: dict[str, Callable[[Ranks, int], Floats]] = {
    "hit": hit,
    "precision": precision,
    "map": average_precision,
}
_MIND: dict[str, Metric] = {
    "auc": auc,
    "mrr": reciprocal_ranks,
    "ndcg@5": lambda ranks: ndcg(ranks, 5),
    "ndcg@10": lambda ranks: ndcg(ranks, 10),
}
"""Metrics of MIND's leaderboard, in its order."""


def metric_set(ks: Iterable[int], family: Family = "standard") -> dict[str, Metric]:
    """Return the metrics of a family by name, in the order of the tables."""
    if family == "mind":
        return _MIND
    at_k = {**METRICS_AT_K, **(_MORE_AT_K if family == "all" else {})}
    cutoffs = list(ks)
    named = {f"{name}@{k}": _at(metric, k) for name, metric in at_k.items() for k in cutoffs}
    return {**named, "auc": auc}


def _at(metric: Callable[[Ranks, int], Floats], k: int) -> Metric:
    return lambda ranks: metric(ranks, k)


def metric_names(ks: Iterable[int], family: Family = "standard") -> list[str]:
    """Name all metrics in the order of the tables."""
    return list(metric_set(ks, family))


def headline(names: Sequence[str]) -> str:
    """Choose the metric that stands for all: NDCG at the largest cut-off."""
    return [name for name in names if name.startswith("ndcg@")][-1]


def all_metrics(
    ranks: Ranks, ks: Iterable[int] = DEFAULT_KS, family: Family = "standard"
) -> dict[str, Floats]:
    """Compute every metric, per example, by name (``recall@3``, …, ``auc``)."""
    return {name: metric(ranks) for name, metric in metric_set(ks, family).items()}


def evaluate(
    scores: Sequence[ArrayLike], positives: Sequence[ArrayLike], ks: Iterable[int] = DEFAULT_KS
) -> dict[str, Floats]:
    """Compute every metric of some score lists, per example.

    Args:
        scores: one list of scores per example, of any lengths.
        positives: as ``scores``, true where the candidate is right.
        ks: the cut-offs K.

    Raises:
        ValueError: as :meth:`Pools.of`.
    """
    return all_metrics(rank(Pools.of(scores, positives)), ks)
