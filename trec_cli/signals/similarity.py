"""Sparse item vectors, and candidates scored against a weighted history.

Every scorer here has one form: a query is the weighted sum of the history items'
vectors, and a candidate's score is the dot product of its own vector with the query.
What the vectors hold makes it TF-IDF cosine, BM25 or item-item co-occurrence.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = Any
"""A scipy CSR matrix (scipy brings no types)."""

Weights = Callable[[int], NDArray[np.float64]]
"""Returns the weights of a history of n items, oldest first, shape [n]."""


def decaying(decay: float) -> Weights:
    """Weigh the newest item 1 and each one before it ``decay`` times its successor.

    With 1 all count the same, with 0 the newest alone.
    """
    return lambda length: decay ** np.arange(length - 1, -1, -1.0)


def count_matrix(rows: Iterable[Iterable[str]], *, by_name: bool = False) -> Matrix:
    """Count how often each feature stands in each row: CSR matrix [rows, features].

    Columns are in order of first sight, or ``by_name``: then sums over features are added in
    the same order, and so are equal to the last bit, whatever the order of the rows.
    """
    columns: dict[str, int] = {}
    indices: list[int] = []
    ends = [0]
    for row in rows:
        indices.extend(columns.setdefault(feature, len(columns)) for feature in row)
        ends.append(len(indices))
    if by_name:
        place = np.empty(len(columns), np.int64)
        place[[columns[feature] for feature in sorted(columns)]] = np.arange(len(columns))
        indices = place[indices].tolist() if indices else indices
    shape = (len(ends) - 1, max(1, len(columns)))
    matrix = sparse.csr_matrix((np.ones(len(indices)), indices, ends), shape=shape)
    matrix.sum_duplicates()
    return matrix


def _document_frequency(counts: Matrix) -> NDArray[np.float64]:
    return np.bincount(counts.indices, minlength=counts.shape[1]).astype(float)


def _row_sums(matrix: Matrix) -> NDArray[np.float64]:
    return np.asarray(matrix.sum(axis=1), dtype=float).ravel()


def scaled(
    matrix: Matrix,
    *,
    rows: NDArray[np.floating] | None = None,
    columns: NDArray[np.floating] | None = None,
) -> Matrix:
    """Multiply each row (or column) of a CSR matrix by its number, in single precision."""
    data = matrix.data
    if rows is not None:
        data = data * np.repeat(rows, np.diff(matrix.indptr))
    if columns is not None:
        data = data * columns[matrix.indices]
    parts = (data.astype(np.float32), matrix.indices, matrix.indptr)
    return sparse.csr_matrix(parts, shape=matrix.shape)


def unit_rows(matrix: Matrix) -> Matrix:
    """Scale every row to length 1; rows of zeros stay."""
    return divided_rows(matrix, power=1.0)


def divided_rows(matrix: Matrix, power: float) -> Matrix:
    """Divide every row by its length to the ``power``; rows of zeros stay."""
    lengths = np.sqrt(_row_sums(matrix.multiply(matrix)))
    scale = np.divide(1.0, lengths**power, out=np.zeros_like(lengths), where=lengths > 0)
    return sparse.csr_matrix(sparse.diags(scale) @ matrix)


def tfidf(counts: Matrix) -> Matrix:
    """Weigh counts by TF-IDF with unit rows, so that dot products are cosines.

    ``tf * (ln((1 + N) / (1 + df)) + 1)``, the smoothed form (as scikit-learn has it).
    """
    idf = np.log((1 + counts.shape[0]) / (1 + _document_frequency(counts))) + 1
    return unit_rows(counts @ sparse.diags(idf))


def bm25(counts: Matrix, k1: float = 1.2, b: float = 0.75) -> Matrix:
    """Weigh counts by BM25, so that the dot product with query counts is the score.

    ``idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / mean length))`` with
    ``idf = ln(1 + (N - df + 0.5) / (df + 0.5))``, which is never negative
    (Robertson and Zaragoza 2009, section 3; the idf as Lucene has it).
    """
    frequency = _document_frequency(counts)
    idf = np.log(1 + (counts.shape[0] - frequency + 0.5) / (frequency + 0.5))
    lengths = _row_sums(counts)
    norm = k1 * (1 - b + b * lengths / max(lengths.mean(), 1.0e-9))
    weighted = counts.copy()
    per_entry = np.repeat(norm, np.diff(counts.indptr))
    weighted.data = idf[counts.indices] * counts.data * (k1 + 1) / (counts.data + per_entry)
    return weighted


@dataclass(frozen=True)
class SparseScorer:
    """Scores candidates by the dot product with a weighted history.

    Attributes:
        rows: item id to row of both matrices; other items have no vector.
        documents: vectors of items as candidates, CSR [items, features].
        queries: vectors of items as history, CSR [items, features].
        weights: how much each history item counts.
        self_evidence: whether an item in the history speaks for itself as a candidate.
    """

    rows: Mapping[str, int]
    documents: Matrix
    queries: Matrix
    weights: Weights
    self_evidence: bool = True

    def __call__(self, history: Sequence[str], candidates: Sequence[str]) -> list[float]:
        """Score ``candidates``, in their order; 0.0 where nothing is known."""
        scores = np.zeros(len(candidates))
        weighted = self._weighted(history)
        known = [n for n, item in enumerate(candidates) if item in self.rows]
        if not weighted or not known:
            return scores.tolist()
        query = self._query(weighted)
        for index in known:
            row = self.rows[candidates[index]]
            alone = row in weighted and not self.self_evidence
            scores[index] = _dot(
                self.documents, row, self._without(row, weighted) if alone else query
            )
        return scores.tolist()

    def _without(self, row: int, weighted: Mapping[int, float]) -> NDArray[np.float64]:
        """Query without one item: subtracting it later would leave rounding, not a zero."""
        return self._query({other: weight for other, weight in weighted.items() if other != row})

    def _weighted(self, history: Sequence[str]) -> dict[int, float]:
        """Sum the weights of each known item that is not weighted with zero."""
        weighted: dict[int, float] = {}
        for item, weight in zip(history, self.weights(len(history)), strict=True):
            row = self.rows.get(item)
            if row is not None and weight:
                weighted[row] = weighted.get(row, 0.0) + float(weight)
        return weighted

    def _query(self, weighted: Mapping[int, float]) -> NDArray[np.float64]:
        query = np.zeros(self.queries.shape[1])
        for row, weight in weighted.items():
            features, values = _row(self.queries, row)
            query[features] += weight * values
        return query


def _row(matrix: Matrix, row: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    span = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return matrix.indices[span], matrix.data[span]


def _dot(matrix: Matrix, row: int, query: NDArray[np.float64]) -> float:
    features, values = _row(matrix, row)
    return float(values @ query[features])
