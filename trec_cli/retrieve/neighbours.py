"""Nearest neighbours of vectors: exact by matrix products, or approximate by faiss.

Why faiss and which of its indices: docs/retrieval.md has the measurement.  Vectors lie in
cells around ``4 sqrt(n)`` centres (k-means), and a query looks into the nearest of them.  All is
seeded and runs with one thread where the number of threads could change a bit.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from trec_cli.core.arrays import distinct
from trec_cli.core.errors import UsageError
from trec_cli.retrieve.sources import DECIMALS, highest
from trec_cli.signals.catalogue import Floats
from trec_cli.signals.histories import Rows
from trec_cli.signals.kinds import Values

LEAST = 30_000
"""With fewer vectors exact search is as fast as approximate search."""
PROBES = 128
"""Cells that a query looks into."""
_CELLS_OF_BLOCK = 4_000_000
_PER_CENTRE, _ROUNDS, _SEED = 64, 10, 1234
_PART = 20_000


class Neighbours(Protocol):
    """Finds the vectors with the highest dot products."""

    def search(self, queries: Floats, count: int) -> tuple[Rows, Values]:
        """Return for each query the rows of the nearest, nearest first, and their products.

        Where there are fewer than ``count`` the rest is -1.  Equal products (to four decimals)
        stand in the order of rows.
        """


@dataclass(frozen=True)
class ExactNeighbours:
    """Compares each query with every vector.

    Attributes:
        vectors: [items, size].
        rows: of the catalogue, one per vector, ascending.
    """

    vectors: Floats
    rows: Rows

    def search(self, queries: Floats, count: int) -> tuple[Rows, Values]:
        """See :class:`Neighbours`."""
        step = max(1, _CELLS_OF_BLOCK // max(1, len(self.vectors)))
        rows = np.full((len(queries), count), -1)
        products = np.full((len(queries), count), -np.inf, np.float32)
        for start in range(0, len(queries), step):
            scores = queries[start : start + step] @ self.vectors.T
            found, values = highest(scores, count, DECIMALS)
            rows[start : start + step, : found.shape[1]] = self.rows[found]
            products[start : start + step, : found.shape[1]] = values
        return rows, products


@dataclass(frozen=True)
class CellNeighbours:
    """Looks into the nearest cells alone.

    Attributes:
        index: of faiss.
        rows: of the catalogue, one per vector, ascending.
    """

    index: Any
    rows: Rows

    @classmethod
    def of(cls, vectors: Floats, rows: Rows) -> "CellNeighbours":
        """Build the index.

        Raises:
            UsageError: faiss is not installed.
        """
        faiss = import_faiss()
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            size = vectors.shape[1]
            cells = int(4 * np.sqrt(len(vectors)))
            quantizer = faiss.IndexFlatIP(size)
            index = faiss.IndexIVFFlat(quantizer, size, cells, faiss.METRIC_INNER_PRODUCT)
            index.cp.seed, index.cp.niter = _SEED, _ROUNDS
            index.cp.max_points_per_centroid = _PER_CENTRE
            index.train(vectors)
            for start in range(0, len(vectors), _PART):
                index.add(vectors[start : start + _PART])
        finally:
            faiss.omp_set_num_threads(threads)
        index.nprobe = PROBES
        return cls(index, rows)

    def search(self, queries: Floats, count: int) -> tuple[Rows, Values]:
        """See :class:`Neighbours`."""
        wanted = np.ascontiguousarray(queries, np.float32)
        products, found = self.index.search(wanted, min(count, len(self.rows)))
        products = np.where(found >= 0, np.round(products, DECIMALS), -np.inf)
        rows = np.where(found >= 0, self.rows[found], -1)
        return ordered(rows, products.astype(np.float32))


def ordered(rows: Rows, values: Values) -> tuple[Rows, Values]:
    """Put each line in order: the highest value first, then the lowest row."""
    first = np.argsort(rows, axis=1, kind="stable")
    by_row = np.take_along_axis(values, first, axis=1)
    order = np.take_along_axis(first, np.argsort(-by_row, axis=1, kind="stable"), axis=1)
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(values, order, axis=1)


def import_faiss() -> Any:
    """Import faiss.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise UsageError(
            "approximate search needs faiss: pip install 'trec-cli[ann]', or choose exact search"
        ) from None
    return faiss


def make_neighbours(vectors: Floats, rows: Rows, *, approximate: bool) -> Neighbours:
    """Index some rows of a matrix; few of them are always searched exactly."""
    chosen = np.ascontiguousarray(vectors[rows])
    if approximate and len(rows) >= LEAST:
        return CellNeighbours.of(chosen, rows)
    return ExactNeighbours(chosen, rows)


@dataclass
class ItemNeighbours:
    """The neighbours of items themselves, each searched when it is first asked for.

    Attributes:
        vectors: of the catalogue.
        index: of those that may be candidates.
        depth: neighbours of each item that are kept.
    """

    vectors: Floats
    index: Neighbours
    depth: int
    _rows: Rows = field(init=False, repr=False)
    _values: Values = field(init=False, repr=False)
    _known: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take room for all items; the system gives it when it is used."""
        shape = (len(self.vectors), self.depth)
        self._rows = np.empty(shape, np.int32)
        self._values = np.empty(shape, np.float32)
        self._known = np.zeros(len(self.vectors), bool)

    def of(self, items: Rows, depth: int) -> tuple[Rows, Values]:
        """Return the neighbours of each item, as many as are kept or more: [items, depth]."""
        if depth > self.depth:
            return self.index.search(self.vectors[items], depth)
        missing = distinct(items[~self._known[items]])
        for start in range(0, len(missing), _PART):
            part = missing[start : start + _PART]
            self._rows[part], self._values[part] = self.index.search(self.vectors[part], self.depth)
            self._known[part] = True
        return self._rows[items], self._values[items]
