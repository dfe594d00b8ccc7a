"""The kinds of signal: each scores candidates, or every item of the catalogue at once.

A signal is a function of a history and an item.  :meth:`Signal.at` computes it for chosen
pairs of question and candidate, :meth:`Signal.everywhere` for a block of questions and all
items; both give the same values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trec_cli.signals.histories import Histories, Rows
from trec_cli.signals.similarity import Matrix

Values = NDArray[np.float32]

Shape = Callable[[Values], Values]
"""A monotone change of scale, such as log(1 + x)."""


def same(values: Values) -> Values:
    """Leave values as they are."""
    return values


def logarithm(scale: float) -> Shape:
    """Return ``log(1 + scale * x)``: counts grow over orders of magnitude, evidence does not."""
    return lambda values: np.asarray(np.log1p(scale * values), np.float32)


class Signal(Protocol):
    """What is said of every pair of history and item; higher speaks for the item."""

    def at(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        """Score pairs of a question (index in ``asked``, ascending) and an item: [pairs]."""

    def everywhere(self, asked: Histories) -> Values:
        """Score all items for each question: [questions, items]."""


@dataclass(frozen=True)
class ItemSignal:
    """What is said of an item whatever the history.

    Attributes:
        values: one per item.
    """

    values: Values

    def at(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:  # noqa: ARG002
        """See :class:`Signal`."""
        return self.values[candidates]

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`Signal`."""
        return np.broadcast_to(self.values, (len(asked), len(self.values)))


@dataclass(frozen=True)
class LinearSignal:
    """``sum over history of weight(h) * q(h) · d(c)``, with sparse or dense vectors.

    Attributes:
        queries: vectors of items as history: [items, features].
        documents: vectors of items as candidates, [items, features]; None means that the
            features are the items themselves.
        decay: of the weights of older history items.
        average: whether the weights of a history sum to 1.
        shape: change of scale at the end.
    """

    queries: Matrix
    documents: Matrix | None
    decay: float
    average: bool = False
    shape: Shape = same

    def query(self, asked: Histories) -> Matrix:
        """Sum the weighted vectors of each history: [questions, features]."""
        weights = asked.shares(self.decay) if self.average else asked.weights(self.decay)
        return weights @ self.queries

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`Signal`."""
        found = self.query(asked)
        if self.documents is not None:
            found = found @ self.documents.T
        return self.shape(np.asarray(_dense(found), np.float32))

    def at(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        """See :class:`Signal`."""
        if self.documents is None:
            return self.shape(self._counted(asked, questions, candidates))
        values = np.zeros(len(candidates), np.float32)
        for start, stop in _blocks(len(asked), self.queries.shape[1]):
            query = self.query(asked.block(start, stop)).astype(np.float32)
            first, last = np.searchsorted(questions, [start, stop])
            own = slice(int(first), int(last))
            product = _pairwise if _are_few(candidates[own], stop - start) else _products
            values[own] = product(query, self.documents, questions[own] - start, candidates[own])
        return self.shape(values)

    def _counted(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        """Score pairs where the features are the items themselves.

        Few candidates of a question are looked up with each item of its history, for many all
        counts of the history are added up first.
        """
        weights = asked.shares(self.decay) if self.average else asked.weights(self.decay)
        lengths = np.diff(weights.indptr)[questions]
        added = int(np.diff(self.queries.indptr)[weights.indices].sum())
        if int(lengths.sum()) * _STEPS > added:
            return _lookup(weights @ self.queries, questions, candidates)
        pairs = np.repeat(np.arange(len(candidates)), lengths)
        positions = _ranges(weights.indptr[questions], lengths)
        found = _lookup(self.queries, weights.indices[positions], candidates[pairs])
        found = weights.data[positions] * found
        return np.bincount(pairs, found, minlength=len(candidates)).astype(np.float32)


def _lookup(matrix: Matrix, rows: Rows, columns: Rows) -> Values:
    """Return single entries of a CSR matrix, by bisection of their rows."""
    matrix.sort_indices()
    low, ends = matrix.indptr[rows], matrix.indptr[rows + 1]
    if not matrix.nnz:
        return np.zeros(len(rows), np.float32)
    high, last = ends, matrix.nnz - 1
    for _ in range(int((ends - low).max(initial=0)).bit_length()):
        middle = low + (high - low) // 2
        before = (low < high) & (matrix.indices[np.minimum(middle, last)] < columns)
        low, high = np.where(before, middle + 1, low), np.where(before, high, middle)
    place = np.minimum(low, last)
    there = (low < ends) & (matrix.indices[place] == columns)
    return np.where(there, matrix.data[place], 0).astype(np.float32)


def _dense(matrix: Matrix) -> Any:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)


def _are_few(candidates: Rows, questions: int) -> bool:
    """Check whether there are hardly more candidates than questions."""
    return len(candidates) <= 2 * questions


def _pairwise(queries: Matrix, documents: Matrix, rows: Rows, candidates: Rows) -> Values:
    """Multiply each pair's query with its document, all at once."""
    if not hasattr(documents, "indptr"):
        return np.asarray(np.einsum("ij,ij->i", _dense(queries)[rows], documents[candidates]))
    found = sparse.csr_matrix(queries)[rows].multiply(documents[candidates])
    return np.asarray(found.sum(axis=1), np.float32).ravel()


def _products(queries: Matrix, documents: Matrix, rows: Rows, candidates: Rows) -> Values:
    """Do the same question by question, where each has many candidates."""
    query = _dense(queries)
    if not hasattr(documents, "indptr"):
        return _each(rows, lambda row, own: documents[candidates[own]] @ query[row])
    lengths = np.diff(documents.indptr)[candidates]
    positions = _ranges(documents.indptr[candidates], lengths)
    pairs = np.repeat(np.arange(len(candidates)), lengths)
    found = query[rows[pairs], documents.indices[positions]] * documents.data[positions]
    return np.bincount(pairs, weights=found, minlength=len(candidates)).astype(np.float32)


def _each(rows: Rows, score: Callable[[int, slice], Values]) -> Values:
    """Score the pairs of one row after another: a small product each, without large copies."""
    values = np.zeros(len(rows), np.float32)
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    ends = np.append(starts[1:], len(rows))[: len(starts)]  # of no pairs there is none
    for start, stop in zip(starts.tolist(), ends.tolist(), strict=True):
        values[start:stop] = score(int(rows[start]), slice(start, stop))
    return values


def _ranges(starts: NDArray[np.int32], lengths: NDArray[np.int32]) -> Rows:
    """Join the ranges ``start .. start + length``."""
    offsets = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(int(lengths.sum())) + np.repeat(starts - offsets, lengths))


_STEPS = 12
"""Steps of a bisection, each about as long as an addition."""
_CELLS = 4_000_000
"""Numbers in a block of dense queries, 16 MB."""


def _blocks(count: int, width: int) -> list[tuple[int, int]]:
    step = max(1, _CELLS // max(1, width))
    return [(start, min(start + step, count)) for start in range(0, count, step)]


@dataclass(frozen=True)
class NearestSignal:
    """The highest cosine of an item with one of the newest ``count`` items of a history.

    Attributes:
        vectors: of length 1, [items, size].
        count: 1 compares with the newest item alone.
    """

    vectors: Values
    count: int

    def at(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        """See :class:`Signal`."""
        if _are_few(candidates, len(asked)):
            return self._pairwise(asked, questions, candidates)

        def nearest(question: int, own: slice) -> Values:
            end = asked.ends[question + 1]
            items = asked.items[max(asked.ends[question], end - self.count) : end]
            if not len(items):
                return np.zeros(1, np.float32)
            cosines = self.vectors[candidates[own]] @ self.vectors[items].T
            return np.asarray(cosines.max(axis=1))

        return _each(questions, nearest)

    def _pairwise(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        best = np.full(len(candidates), -np.inf, np.float32)
        for back in range(1, min(self.count, int(asked.lengths.max(initial=0))) + 1):
            has = asked.lengths[questions] >= back
            items = asked.items[asked.ends[1:][questions[has]] - back]
            cosines = np.einsum("ij,ij->i", self.vectors[items], self.vectors[candidates[has]])
            best[has] = np.maximum(best[has], cosines)
        return _finite(best)

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`Signal`."""
        best = np.full((len(asked), len(self.vectors)), -np.inf, np.float32)
        for back in range(1, self.count + 1):
            has = asked.lengths >= back
            items = asked.items[asked.ends[1:][has] - back]
            best[has] = np.maximum(best[has], self.vectors[items] @ self.vectors.T)
        return _finite(best)


def _finite(values: Values) -> Values:
    """Return 0 where there was no history."""
    return np.where(np.isfinite(values), values, np.float32(0))


@dataclass(frozen=True)
class RepeatSignal:
    """1 where the history holds the item already, or where it is the newest of it.

    Attributes:
        decay: of the weight that an older place in the history gives.
    """

    decay: float

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`Signal`."""
        return np.asarray(np.minimum(asked.weights(self.decay).toarray(), 1), np.float32)

    def at(self, asked: Histories, questions: Rows, candidates: Rows) -> Values:
        """See :class:`Signal`."""
        return np.minimum(_lookup(asked.weights(self.decay), questions, candidates), 1)
