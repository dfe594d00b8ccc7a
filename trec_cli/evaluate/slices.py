"""Metrics of parts of the examples: by history length, popularity, and items' attributes.

An example with several positives belongs to every slice that one of them belongs to.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.arrays import rows
from trec_cli.core.records import Item
from trec_cli.evaluate.background import Background
from trec_cli.evaluate.metrics import Ints
from trec_cli.evaluate.results import (
    SMALL_SLICE,
    Evaluation,
    chance_means,
    with_intervals,
)
from trec_cli.evaluate.settings import Options
from trec_cli.evaluate.statistics import UserSums, intervals

Flags = NDArray[np.bool_]

LENGTH, POPULARITY = "history length", "popularity"
LENGTH_BINS = 6
TOP_VALUES = 8
_OTHER, _WITHOUT = "(other)", "(none)"


@dataclass(frozen=True)
class Slice:
    """Some of the examples.

    Attributes:
        by: what they have in common, for example ``history length``.
        label: which of it.
        chosen: ``[examples]``, true for those of the slice.
    """

    by: str
    label: str
    chosen: Flags


def find_slices(
    background: Background, items: Mapping[str, Item], attributes: Iterable[str] = ()
) -> list[Slice]:
    """Return all slices that have an example, kind by kind.

    ``items`` is needed only for ``attributes``.  Without training users there are no slices
    by popularity.
    """
    found = list(length_slices(background.lengths))
    if background.takers:
        found += popularity_slices(background.positives, background.takers)
    for name in attributes:
        found += attribute_slices(name, background.positives, items)
    return [part for part in found if part.chosen.any()]


def length_bins(lengths: Ints) -> list[tuple[int, int]]:
    """Cut history lengths into at most six bins of about equally many examples."""
    shares = np.arange(LENGTH_BINS) / LENGTH_BINS
    starts = np.unique(np.quantile(lengths, shares, method="higher")).astype(int).tolist()
    ends = [*(start - 1 for start in starts[1:]), int(lengths.max())]
    return list(zip(starts, ends, strict=True))


def length_slices(lengths: Ints) -> Iterator[Slice]:
    """Slice by the number of items in the history; unknown (-1) is in none."""
    known = lengths[lengths >= 0]
    for low, high in length_bins(known) if len(known) else []:
        yield Slice(LENGTH, _span(low, high), (lengths >= low) & (lengths <= high))


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def popularity_limits(counts: Iterable[int]) -> tuple[int, int]:
    """Return the least counts of head and mid.

    The items seen in training, most popular first, are cut where they hold one and two
    thirds of all interactions; items of equal count stay together.
    """
    descending = np.sort(np.array([count for count in counts if count], dtype=np.int64))[::-1]
    held = np.cumsum(descending)
    head, mid = (int(descending[np.searchsorted(held * 3, held[-1] * n)]) for n in (1, 2))
    return head, mid


def popularity_slices(
    positives: Sequence[Sequence[str]], takers: Mapping[str, int]
) -> Iterator[Slice]:
    """Slice by the training users of the positive: head, mid, tail, and cold for none."""
    head, mid = popularity_limits(takers.values())
    highest = max(takers.values())
    labels = [
        f"head ({_span(head, highest)})",
        f"mid ({_span(mid, head - 1)})",
        f"tail ({_span(1, mid - 1)})",
        "cold (0)",
    ]
    chosen = np.zeros((len(labels), len(positives)), dtype=bool)
    for index, right in enumerate(positives):
        for count in (takers.get(item, 0) for item in right):
            chosen[0 if count >= head else 1 if count >= mid else 2 if count else 3, index] = True
    for label, flags in zip(labels, chosen, strict=True):
        yield Slice(POPULARITY, label, flags)


def attribute_slices(
    name: str, positives: Sequence[Sequence[str]], items: Mapping[str, Item]
) -> Iterator[Slice]:
    """Slice by an attribute of the positive: its most frequent values, the others together."""
    found = cache(lambda item: _value(items.get(item), name))
    frequency = Counter(value for right in positives for value in set(map(found, right)) if value)
    top = [value for value, _ in sorted(frequency.items(), key=_most_first)[:TOP_VALUES]]
    labels = [*top, _OTHER, _WITHOUT]
    row_of = {**dict.fromkeys(frequency, len(top)), "": len(top) + 1}
    row_of |= {value: row for row, value in enumerate(top)}
    chosen = np.zeros((len(labels), len(positives)), dtype=bool)
    for index, right in enumerate(positives):
        for item in right:
            chosen[row_of[found(item)], index] = True
    for label, flags in zip(labels, chosen, strict=True):
        yield Slice(name, label, flags)


def _value(item: Item | None, name: str) -> str:
    return item.attributes.get(name, "").strip() if item else ""


def _most_first(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def slice_entries(
    evaluation: Evaluation, slices: Iterable[Slice], options: Options
) -> list[dict[str, Any]]:
    """Measure every slice, for `metrics.json`: means and intervals of every system."""
    return [_entry(evaluation, part, options) for part in slices]


def _entry(evaluation: Evaluation, part: Slice, options: Options) -> dict[str, Any]:
    chosen = np.flatnonzero(part.chosen)
    users = evaluation.users.only(chosen)
    data = UserSums.of([rows(values, chosen) for values in evaluation.values], users)
    bounds = intervals(data, 0, options.replicates, options.seed)
    return {
        "by": part.by,
        "slice": part.label,
        "examples": len(users),
        "users": len(data.sums),
        "small": len(data.sums) < SMALL_SLICE,
        "systems": with_intervals(evaluation, data, bounds),
        "chance": chance_means(evaluation.metrics, rows(evaluation.chance, chosen)),
    }
