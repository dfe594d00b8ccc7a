"""Which items have the nearest texts, and how much each of them counts."""

import numpy as np
from scipy import sparse

from trec_cli.signals.catalogue import Floats
from trec_cli.signals.similarity import Matrix

COUNT = 10
"""Neighbours of an item, itself among them."""
_SHARPNESS = 8.0
_CELLS = 4_000_000
"""Cosines in memory at once, 16 MB."""


def nearest_texts(vectors: Floats, count: int = COUNT) -> Matrix:
    """Weigh each item's nearest items: ``exp(8 (cosine - 1))``, rows summing to 1.

    Exact, in blocks.  An item without a vector has itself alone.

    Args:
        vectors: of length 1, or zeros: [items, size].
        count: neighbours of each, itself among them.

    Returns:
        CSR matrix [items, items].
    """
    size, count = len(vectors), min(count, len(vectors))
    columns = np.empty((size, count), np.int64)
    weights = np.empty((size, count), np.float32)
    step = max(1, _CELLS // max(1, size))
    for start in range(0, size, step):
        block = slice(start, min(start + step, size))
        cosines = vectors[block] @ vectors.T
        own = np.arange(block.start, block.stop)
        cosines[own - start, own] = np.inf
        found = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
        columns[block] = np.sort(found, axis=1)
        near = np.take_along_axis(cosines, columns[block], axis=1)
        near[columns[block] == own[:, None]] = 1
        weights[block] = np.exp(_SHARPNESS * (near - 1))
    alone = ~vectors.any(axis=1)
    weights[alone] = columns[alone] == np.flatnonzero(alone)[:, None]
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(size), count)
    found = sparse.csr_matrix((weights.ravel(), (rows, columns.ravel())), shape=(size, size))
    found.eliminate_zeros()
    return found
