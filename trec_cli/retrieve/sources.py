"""The share of each source of candidates, and the best of a ranking."""

import numpy as np

from trec_cli.signals.histories import Rows
from trec_cli.signals.kinds import Values

DECIMALS = 4
"""Beyond them, equal evidence would differ by the order in which a machine adds."""


SHARES = {
    "vector_last": 0.1,
    "vector_nearest": 0.1,
    "vector_mean": 0.1,
    "vector_next": 0.1,
    "follows": 0.2,
    "bm25": 0.1,
    "popular": 0.2,
    "fresh": 0.05,
}
"""Of the list, which a source fills for certain where it has so many items."""
GROUP_SHARE = 0.05
"""Of popular items of the category (brand) of the history; only the first attribute that groups."""


_GROUPS = 8
"""Groups of scores per wanted one."""
_CROWD = 8
"""Scores per wanted one that are sorted; beyond, the lowest wanted one is found first."""


def highest(scores: Values, count: int, decimals: int | None = None) -> tuple[Rows, Values]:
    """Return the columns of the highest scores of each row, highest first, and these scores.

    Of equal scores the lower column comes first; in a catalogue their order is drawn by hash.

    Args:
        scores: [rows, columns].
        count: of columns to return, or all where there are fewer.
        decimals: to which scores are rounded before they are compared.
    """
    count = min(count, scores.shape[1])
    if not count:
        return np.zeros((len(scores), 0), np.int64), np.zeros((len(scores), 0), np.float32)
    found = np.nonzero(scores >= _bounds(scores, count, decimals)[:, None])
    if len(found[0]) > _CROWD * count * len(scores):  # most are equal, or barred
        scores = scores if decimals is None else np.round(scores, decimals)
        found = _exactly(scores, count)
    owners, columns = found
    values = scores[owners, columns]
    if decimals is not None:
        values = np.round(values, decimals)
    order = np.lexsort((-values, owners))  # stable: columns stay in order
    starts = np.searchsorted(owners, np.arange(len(scores)))
    chosen = order[starts[:, None] + np.arange(count)]
    return columns[chosen], values[chosen]


def _bounds(scores: Values, count: int, decimals: int | None) -> Values:
    """Return a number for each row that at least ``count`` of its scores reach, and few more.

    The scores are put into groups, and at least ``count`` reach the maximum of the ``count``-th
    best group.
    """
    groups = _GROUPS * count
    depth = scores.shape[1] // groups
    if depth > 1:
        scores = scores[:, : depth * groups].reshape(len(scores), depth, groups).max(axis=1)
    bounds = np.partition(scores, scores.shape[1] - count, axis=1)[:, -count]
    if decimals is None:
        return bounds
    return np.asarray(bounds - 10.0**-decimals - 1e-6 * np.abs(np.nan_to_num(bounds)), np.float32)


def _exactly(scores: Values, count: int) -> tuple[Rows, Rows]:
    """Return rows and columns of the ``count`` highest scores of each row."""
    chosen = []
    for row in scores:
        least = np.partition(row, len(row) - count)[-count]
        above = np.flatnonzero(row > least)
        equal = np.flatnonzero(row == least)[: count - len(above)]
        chosen.append(np.sort(np.concatenate([above, equal])))
    return np.repeat(np.arange(len(scores)), count), np.concatenate(chosen)
