"""Where candidates come from: each source gives the head of its ranking of the catalogue.

A source is a signal of :mod:`trec_cli.signals`: vectors give their nearest neighbours, counts
and words the entries of sparse rows, popular items come from lists that are made once.  So no
source keeps a score of every item.  Items that a source says nothing of (score 0 or less) do
not come from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trec_cli.retrieve.neighbours import ItemNeighbours, Neighbours, make_neighbours
from trec_cli.retrieve.sources import DECIMALS, GROUP_SHARE, SHARES, highest
from trec_cli.signals.histories import Histories, Mask, Rows
from trec_cli.signals.kinds import ItemSignal, LinearSignal, NearestSignal, Signal, Values
from trec_cli.signals.similarity import Matrix

Best = tuple[Rows, Values]
"""Rows of items, best first and -1 where there are no more, and scores: [questions, depth]."""

WORDS = 32
"""Words of a history that BM25 looks up, those that can weigh most."""
SPARE = 64
"""Places beyond the wanted ones, which items of the history may take."""
_CELLS = 4_000_000
"""Scores in memory at once, 16 MB."""


class ListSource(Protocol):
    """The head of a ranking of the catalogue."""

    def best(self, asked: Histories, depth: int) -> Best:
        """Return the best items for each question; those with a score of 0 may be left out."""


@dataclass(frozen=True)
class FixedList:
    """The same items for everybody.

    Attributes:
        rows, values: best first.
    """

    rows: Rows
    values: Values

    @classmethod
    def of(cls, values: Values, allowed: Mask) -> "FixedList":
        """Rank the allowed items by one value each."""
        rows = np.flatnonzero(allowed)
        rounded = np.round(values[rows], DECIMALS)
        order = np.argsort(-rounded, kind="stable")
        return cls(rows[order], rounded[order])

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        shape = (len(asked), min(depth, len(self.rows)))
        return np.broadcast_to(self.rows[:depth], shape), np.broadcast_to(
            self.values[:depth], shape
        )


@dataclass(frozen=True)
class VectorList:
    """Neighbours of one vector per history.

    Attributes:
        signal: gives the vector.
        index: of the items' vectors.
    """

    signal: LinearSignal
    index: Neighbours

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        return self.index.search(np.asarray(self.signal.query(asked), np.float32), depth)


@dataclass(frozen=True)
class NewestList:
    """Neighbours of the newest items of a history, each item at its nearest.

    Attributes:
        items: neighbours of every item.
        count: newest items that are looked at.
    """

    items: ItemNeighbours
    count: int

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        rows, values, width = [], [], max(depth, self.items.depth)
        for back in range(1, self.count + 1):
            has = asked.lengths >= back
            if not has.any():
                break
            found = np.full((len(asked), width), -1)
            products = np.full(found.shape, -np.inf, np.float32)
            own = asked.items[asked.ends[1:][has] - back]
            found[has], products[has] = self.items.of(own, depth)
            rows.append(found)
            values.append(products)
        if not rows:
            return np.full((len(asked), 1), -1), np.zeros((len(asked), 1), np.float32)
        if len(rows) == 1:
            return rows[0][:, :depth], values[0][:, :depth]
        return merged(np.hstack(rows), np.hstack(values), depth, np.maximum)


@dataclass(frozen=True)
class SparseList:
    """Counts: the items that steps from a history lead to.

    Attributes:
        signal: whose features are the items themselves.
        allowed: items that may be candidates.
    """

    signal: LinearSignal
    allowed: Mask

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        return top_entries(self.signal.query(asked), depth, self.allowed, self.signal)


@dataclass(frozen=True)
class WordList:
    """BM25, from the :data:`WORDS` of a history that can weigh most.

    Attributes:
        signal: BM25.
        postings: its documents, transposed: [words, items].
        highest: the greatest weight of each word in any item.
    """

    signal: LinearSignal
    postings: Matrix
    highest: NDArray[np.float64]

    @classmethod
    def of(cls, signal: LinearSignal, allowed: Mask) -> "WordList":
        """Turn the documents of the allowed items round."""
        assert signal.documents is not None
        kept = sparse.diags(allowed.astype(float)) @ signal.documents
        postings = sparse.csr_matrix(kept.T)
        postings.eliminate_zeros()
        return cls(signal, postings, postings.max(axis=1).toarray().ravel())

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        query = sparse.csr_matrix(self.signal.query(asked))
        shortened = _heaviest(query, self.highest, WORDS)
        return top_entries(shortened @ self.postings, depth, None, self.signal)


@dataclass(frozen=True)
class AllWords:
    """BM25, from all words of a history.

    Attributes:
        signal: BM25.
        documents: of the allowed items: [allowed, words].
        rows: of the catalogue, one per document, ascending.
    """

    signal: LinearSignal
    documents: Matrix
    rows: Rows

    @classmethod
    def of(cls, signal: LinearSignal, allowed: Mask) -> "AllWords":
        """Take the documents of the allowed items."""
        rows = np.flatnonzero(allowed)
        return cls(signal, sparse.csr_matrix(signal.documents, dtype=np.float32)[rows], rows)

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        step = max(1, _CELLS // max(1, len(self.rows)))
        found = [self._best(asked.block(n, n + step), depth) for n in range(0, len(asked), step)]
        return np.vstack([rows for rows, _ in found]), np.vstack([values for _, values in found])

    def _best(self, asked: Histories, depth: int) -> Best:
        query = self.signal.query(asked).astype(np.float32).toarray()
        scores = np.ascontiguousarray((self.documents @ np.ascontiguousarray(query.T)).T)
        columns, values = highest(scores, depth, DECIMALS)
        return self.rows[columns], values


def _heaviest(query: Matrix, highest: NDArray[np.float64], count: int) -> Matrix:
    """Leave of each row the entries whose product with ``highest`` is greatest."""
    impact = sparse.csr_matrix(
        (query.data * highest[query.indices], query.indices, query.indptr), query.shape
    )
    kept = np.ones(len(query.data), bool)
    for start, stop in zip(query.indptr[:-1], query.indptr[1:], strict=True):
        if stop - start > count:
            own = impact.data[start:stop]
            kept[start:stop] = own >= np.partition(own, -count)[-count]
    ends = np.concatenate([[0], np.cumsum(kept)])[query.indptr]
    return sparse.csr_matrix((query.data[kept], query.indices[kept], ends), query.shape)


@dataclass(frozen=True)
class GroupList:
    """Popular items of the groups (categories, brands) of a history.

    Attributes:
        signal: weight of the history in each item's group.
        popular: the most popular items of each group, with their popularity: [groups, items].
    """

    signal: LinearSignal
    popular: Matrix

    @classmethod
    def of(cls, signal: LinearSignal, popularity: Values, allowed: Mask, depth: int) -> "GroupList":
        """List the ``depth`` most popular items of each group."""
        members = sparse.csc_matrix(signal.documents)
        shape = (members.shape[1], members.shape[0])
        rows, ends = [], [0]
        for start, stop in zip(members.indptr[:-1], members.indptr[1:], strict=True):
            own = np.sort(members.indices[start:stop])
            own = own[allowed[own]]
            rows.append(own[np.argsort(-popularity[own], kind="stable")][:depth])
            ends.append(ends[-1] + len(rows[-1]))
        flat = np.concatenate(rows) if rows else np.zeros(0, int)
        return cls(signal, sparse.csr_matrix((popularity[flat], flat, ends), shape))

    def best(self, asked: Histories, depth: int) -> Best:
        """See :class:`ListSource`."""
        return top_entries(self.signal.query(asked) @ self.popular, depth, None, None)


def top_entries(
    matrix: Matrix, depth: int, allowed: Mask | None, shaped: LinearSignal | None
) -> Best:
    """Return the highest entries of each row of a CSR matrix, equal ones in order of columns."""
    data, indices = matrix.data, matrix.indices
    data = np.round(shaped.shape(data) if shaped else data, DECIMALS).astype(np.float32)
    if allowed is not None:
        data = np.where(allowed[indices], data, 0)
    rows = np.full((matrix.shape[0], depth), -1)
    values = np.zeros(rows.shape, np.float32)
    bounds = zip(matrix.indptr[:-1].tolist(), matrix.indptr[1:].tolist(), strict=True)
    for n, (start, stop) in enumerate(bounds):
        own, columns = data[start:stop], indices[start:stop]
        if stop - start > depth:
            lowest = np.partition(own, -depth)[-depth]
            chosen = own >= lowest
            own, columns = own[chosen], columns[chosen]
        order = np.lexsort((columns, -own))[:depth]
        rows[n, : len(order)], values[n, : len(order)] = columns[order], own[order]
    return np.where(values > 0, rows, -1), values


def merged(rows: Rows, values: Values, depth: int, join: np.ufunc) -> Best:
    """Join the values of equal rows within each line, and return the highest.

    Args:
        rows, values: [questions, entries]; a row of -1 is nothing.
        depth: to be returned, or fewer where there are fewer entries.
        join: such as ``np.add``.
    """
    order = np.argsort(rows, axis=1, kind="stable")
    sorted_rows = np.take_along_axis(rows, order, axis=1)
    sorted_values = np.take_along_axis(values, order, axis=1)
    starts = np.ones(rows.shape, bool)
    starts[:, 1:] = sorted_rows[:, 1:] != sorted_rows[:, :-1]
    joined = np.full(rows.shape, -np.inf, np.float32)
    joined[starts] = join.reduceat(sorted_values.ravel(), np.flatnonzero(starts))
    joined[sorted_rows < 0] = -np.inf
    kept = min(depth, rows.shape[1])
    best = np.argsort(-joined, axis=1, kind="stable")[:, :kept]
    found = np.take_along_axis(joined, best, axis=1)
    return np.where(found > -np.inf, np.take_along_axis(sorted_rows, best, axis=1), -1), found


def list_sources(
    signals: Mapping[str, Signal], allowed: Mask, depth: int, *, approximate: bool
) -> Iterator[tuple[str, float, ListSource]]:
    """Yield name, share and head of every source."""
    nearest, popularity, unseen = (
        signals[name] for name in ("vector_nearest", "popularity", "unseen")
    )
    assert isinstance(nearest, NearestSignal)
    assert isinstance(popularity, ItemSignal)
    assert isinstance(unseen, ItemSignal)
    vectors = nearest.vectors
    index = make_neighbours(vectors, np.flatnonzero(allowed), approximate=approximate)
    fresh = np.flatnonzero(allowed & (unseen.values > 0))
    items = ItemNeighbours(vectors, index, depth)
    words = _linear(signals, "bm25")
    made: dict[str, ListSource] = {
        "vector_last": NewestList(items, 1),
        "vector_nearest": NewestList(items, nearest.count),
        "vector_mean": VectorList(_linear(signals, "vector_mean"), index),
        "vector_next": VectorList(_linear(signals, "vector_next"), index),
        "follows": SparseList(_linear(signals, "follows"), allowed),
        "bm25": WordList.of(words, allowed) if approximate else AllWords.of(words, allowed),
        "popular": FixedList.of(popularity.values, allowed),
        "fresh": VectorList(
            _linear(signals, "vector_mean"),
            make_neighbours(vectors, fresh, approximate=approximate),
        ),
    }
    for name, share in SHARES.items():
        yield name, share, made[name]
    group = next((name for name in signals if name.startswith("same_")), None)
    if group:
        grouped = GroupList.of(_linear(signals, group), popularity.values, allowed, depth)
        yield group.replace("same_", "popular_"), GROUP_SHARE, grouped


def _linear(signals: Mapping[str, Signal], name: str) -> LinearSignal:
    signal = signals[name]
    assert isinstance(signal, LinearSignal)
    return signal
