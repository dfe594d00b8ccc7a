"""Beyond accuracy: what a system's lists hold, whoever is right.

Every figure is of the first K candidates of every list; among equal scores a hash of
(seed, example, item) decides.  Lists of a few drawn candidates say little here: rank the
catalogue (``--full``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trec_cli.core.records import Item, Split
from trec_cli.core.seeds import derive_seed
from trec_cli.core.text import terms
from trec_cli.evaluate.metrics import Floats
from trec_cli.evaluate.scores import ScoresFile, ScoresLine, read_scores
from trec_cli.signals.similarity import count_matrix, tfidf, unit_rows


@dataclass(frozen=True)
class Shelf:
    """The catalogue, and who has taken what.

    Attributes:
        items: every item that could be listed.
        takers: number of training users who have an item.
        users: number of training users; 0 where nothing is known of them.
    """

    items: Mapping[str, Item]
    takers: Mapping[str, int] = field(default_factory=dict)
    users: int = 0


def top(record: ScoresLine, k: int, seed: int) -> list[str]:
    """Return the k candidates of highest score; a hash decides among equal ones."""
    pairs = sorted(zip(record.scores, record.candidates, strict=True), key=lambda pair: -pair[0])
    if len(pairs) <= k:
        return [item for _, item in pairs]
    border = pairs[k - 1][0]
    above = [item for score, item in pairs[:k] if score > border]
    tied = [item for score, item in pairs if score == border]
    if len(above) + len(tied) > k:
        tied.sort(key=lambda item: derive_seed(seed, "top", record.example, item))
    return [*above, *tied[: k - len(above)]]


def coverage(counts: Mapping[str, int], items: int) -> float:
    """Catalogue coverage: the share of all items that stand in at least one list."""
    return len(counts) / items


def gini(counts: Mapping[str, int], items: int) -> float:
    """Gini index of how often items are listed, those never listed included.

    ``sum over i of (2 i - n - 1) x_i / (n sum x)`` with the counts x in ascending order: 0 where
    all are listed equally often, near 1 where a few have all lists.
    """
    listed = np.sort(np.fromiter(counts.values(), dtype=np.float64, count=len(counts)))
    rank = np.arange(items - len(listed) + 1, items + 1)  # the others have 0
    return float(((2 * rank - items - 1) * listed).sum() / (items * listed.sum()))


def novelty(listed: Sequence[str], shelf: Shelf) -> float:
    """Mean self-information of a list: ``-log2(takers / users)``.

    The mean inverse user frequency of RecTools; an item that nobody has counts as one that a
    single user has.
    """
    shares = [max(shelf.takers.get(item, 0), 1) / shelf.users for item in listed]
    return float(-np.log2(shares).mean())


class Diversity:
    """Intra-list diversity: the mean over pairs of a list of 1 - cosine of their texts."""

    def __init__(self, items: Mapping[str, Item]) -> None:
        """Weigh the words of every item's texts by TF-IDF."""
        self._rows = {item: row for row, item in enumerate(items)}
        words = (terms(" ".join(item.attributes.values())) for item in items.values())
        self._vectors = unit_rows(tfidf(count_matrix(words)))

    def __call__(self, listed: Sequence[str]) -> float:
        """Measure a list; NaN where fewer than two of its items are known."""
        rows = [self._rows[item] for item in listed if item in self._rows]
        number = len(rows)
        if number < 2:
            return float("nan")
        vectors = self._vectors[rows]
        total = np.asarray(vectors.sum(axis=0)).ravel()
        own = float(vectors.multiply(vectors).sum())
        return 1 - (float(total @ total) - own) / (number * (number - 1))


def beyond(
    files: Iterable[ScoresFile], split: Split, shelf: Shelf, k: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Measure the lists of every scores file, by its name."""
    diversity = Diversity(shelf.items)
    return {
        file.name: _figures(_lists(file, split, k, seed), shelf, diversity, k) for file in files
    }


def _lists(file: ScoresFile, split: Split, k: int, seed: int) -> Iterator[list[str]]:
    lines = (record for _, record in read_scores(file.path) if record.split == split)
    return (top(record, k, seed) for record in lines if record.candidates)


def _figures(
    lists: Iterable[list[str]], shelf: Shelf, diversity: Diversity, k: int
) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    new, spread = list[float](), list[float]()
    for listed in lists:
        counts.update(listed)
        spread.append(diversity(listed))
        if shelf.users:
            new.append(novelty(listed, shelf))
    size = max(len(shelf.items), len(counts))
    return {
        f"coverage@{k}": coverage(counts, size),
        f"gini@{k}": gini(counts, size),
        f"novelty@{k}": float(np.mean(new)) if new else None,
        f"diversity@{k}": _mean(np.array(spread)),
    }


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
