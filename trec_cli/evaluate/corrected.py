"""Full-ranking metrics estimated from ranks among sampled negatives (Krichene & Rendle 2020).

A positive of rank *r* among *n* items has rank 1 + B among itself and *m* negatives that were
drawn uniformly, where B is binomial (m, (r - 1) / (n - 1)).  A metric of the sampled rank is
not the metric of the rank: MRR@10 among 21 candidates says little of MRR@10 among thousands.
The corrected metric is the function of the sampled rank that minimises, over ranks r drawn
uniformly from 1 … n,

    squared bias + trade * variance,

the paper's bias-variance estimator.  AUC needs no correction.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from scipy import stats

from trec_cli.core.errors import UsageError
from trec_cli.core.text import counted
from trec_cli.evaluate.metrics import METRICS_AT_K, Floats, Ranks, auc

TRADE = 0.01
"""Weight of the variance against the squared bias, as in the paper's experiments."""

Value = Callable[[Floats], Floats]
"""A metric of one positive as a function of its rank."""


def _recall(ranks: Floats, k: int) -> Floats:
    return (ranks <= k).astype(np.float64)


def _mrr(ranks: Floats, k: int) -> Floats:
    return np.where(ranks <= k, 1 / ranks, 0.0)


def _ndcg(ranks: Floats, k: int) -> Floats:
    return np.where(ranks <= k, 1 / np.log2(ranks + 1), 0.0)


_OF_RANK: dict[str, Callable[[Floats, int], Floats]] = {
    "recall": _recall,
    "mrr": _mrr,
    "ndcg": _ndcg,
}


def corrected(metric: Value, items: int, negatives: int, trade: float = TRADE) -> Floats:
    """Return the corrected metric of the sampled ranks 1 … negatives + 1.

    Args:
        metric: of a rank among all items.
        items: in the catalogue.
        negatives: drawn for each positive.
        trade: 0 has the least bias, and far more variance.
    """
    ranks = np.arange(1, items + 1, dtype=np.float64)
    seen = np.arange(negatives + 1)
    chances = stats.binom.pmf(seen, negatives, ((ranks - 1) / max(items - 1, 1))[:, None])
    normal = (1 - trade) * chances.T @ chances + trade * np.diag(chances.sum(axis=0))
    return np.asarray(np.linalg.solve(normal, chances.T @ metric(ranks)), dtype=np.float64)


def corrected_metrics(ranks: Ranks, items: int, ks: Iterable[int]) -> dict[str, Floats]:
    """Estimate every metric of the standard set among all items, per example.

    A tied positive has the mean over the ranks of its group.

    Raises:
        UsageError: an example has several positives, or more candidates than there are items.
    """
    if len(ranks.example) != len(ranks.candidates) or (ranks.positives != 1).any():
        raise UsageError("--corrected is for questions with exactly one right answer")
    if int(ranks.candidates.max(initial=0)) > items:
        raise UsageError(
            f"--corrected: more candidates than the {counted(items, 'item')} of the catalogue"
        )
    cutoffs = list(ks)
    values = {
        f"{name}@{k}": _estimated(ranks, items, name, k) for name in METRICS_AT_K for k in cutoffs
    }
    return {**values, "auc": auc(ranks)}


@lru_cache(maxsize=1024)
def _summed(name: str, k: int, items: int, width: int) -> Floats:
    """Return the running sum of a corrected metric over the sampled ranks, from 0."""
    of_rank = _OF_RANK[name]
    values = corrected(lambda ranks: of_rank(ranks, k), items, width - 1)
    return np.concatenate([[0.0], np.cumsum(values)])


def _estimated(ranks: Ranks, items: int, name: str, k: int) -> Floats:
    """Estimate one metric of every example; the estimator is made once for each list length."""
    out = np.zeros(len(ranks.candidates))
    for width in np.unique(ranks.candidates):
        table = _summed(name, k, items, int(width))
        own = (ranks.candidates == width) & ~ranks.missed
        start = ranks.ahead[own]
        out[own] = (table[start + ranks.tied[own]] - table[start]) / ranks.tied[own]
    return out
