"""Whitening: text vectors whose dimensions all vary alike, the most telling ones first.

Vectors of sentence embedders lie in a narrow cone and vary in few directions, so that cosines
are decided by what all texts share.  Whitened vectors make small sequence models better
(Zhang et al. 2024, "Are ID Embeddings Necessary? Whitening Pre-trained Text Embeddings").
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

FLOOR = 1e-2
"""Share of the largest variance that is added to all, so that noise is not blown up."""
LENGTH = 1.0
"""Root mean square length of the result."""


def whitened(vectors: NDArray[Any], floor: float = FLOOR) -> NDArray[np.float32]:
    """Whiten the rows: mean 0, the principal axes as dimensions, largest variance first.

    Args:
        vectors: [items, size]; rows of zeros (items without text) stay zero.
        floor: see :data:`FLOOR`.

    Returns:
        [items, size]; fewer items than dimensions leave the last dimensions zero.
    """
    return whiten(vectors, *whitening_of(vectors, floor))


def whitening_of(vectors: NDArray[Any], floor: float = FLOOR) -> tuple[Matrix, Matrix]:
    """Return the mean and the map of the rows that are not zero; nothing of none."""
    there = np.linalg.norm(vectors, axis=1) > 0
    if not there.any():
        size = vectors.shape[1]
        return np.zeros(size), np.zeros((size, size))
    return whitening(vectors[there].astype(np.float64), floor)


def whiten(vectors: NDArray[Any], mean: Matrix, axes: Matrix) -> NDArray[np.float32]:
    """Apply a whitening; rows of zeros stay zero: [items, size]."""
    there = np.linalg.norm(vectors, axis=1) > 0
    result = np.zeros(vectors.shape, np.float32)
    result[there] = (vectors[there].astype(np.float64) - mean) @ axes
    return result


def whitening(vectors: Matrix, floor: float = FLOOR) -> tuple[Matrix, Matrix]:
    """Return the mean [size] to subtract and the map [size, size] to multiply with."""
    mean = vectors.mean(axis=0)
    centred = vectors - mean
    variance, axes = np.linalg.eigh(centred.T @ centred / len(vectors))
    variance, axes = np.maximum(variance[::-1], 0), _signed(axes[:, ::-1])
    if variance[0] <= 0:
        return mean, np.zeros_like(axes)
    axes = axes / np.sqrt(variance + floor * variance[0])
    length = np.sqrt(((centred @ axes) ** 2).sum(axis=1).mean())
    return mean, axes / length * LENGTH


def _signed(axes: Matrix) -> Matrix:
    """Turn every axis so that its largest entry is positive; the sign of an axis is free."""
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    return np.asarray(axes * np.where(largest < 0, -1.0, 1.0))
