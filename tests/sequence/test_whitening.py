"""Whitening: unit covariance, no order and no sign left to chance, bare items."""

import numpy as np
import pytest

from trec_cli.sequence.whitening import LENGTH, whitened


def skewed(count: int = 200, size: int = 6) -> np.ndarray:
    random = np.random.default_rng(1)
    return random.normal(size=(count, size)) * 2.0 ** -np.arange(size) + 5.0


def test_all_dimensions_vary_alike_and_none_goes_with_another() -> None:
    result = whitened(skewed(), floor=0.0).astype(float)
    covariance = np.cov(result.T, bias=True)
    assert covariance == pytest.approx(np.eye(6) * LENGTH**2 / 6, abs=1e-5)
    assert result.mean(axis=0) == pytest.approx(np.zeros(6), abs=1e-5)


def test_the_dimensions_that_varied_most_stand_first() -> None:
    variance = whitened(skewed(), floor=0.1).var(axis=0)
    assert (np.diff(variance) < 0).all()


def test_a_row_gets_the_same_vector_wherever_it_stands() -> None:
    vectors = skewed()
    order = np.random.default_rng(2).permutation(len(vectors))
    assert whitened(vectors[order]) == pytest.approx(whitened(vectors)[order], abs=1e-5)


def test_an_item_without_text_stays_zero_and_does_not_move_the_others() -> None:
    vectors = skewed()
    with_bare = np.concatenate([vectors, np.zeros((3, 6))])
    assert (whitened(with_bare)[-3:] == 0).all()
    assert whitened(with_bare)[:-3] == pytest.approx(whitened(vectors), abs=1e-6)


@pytest.mark.parametrize("vectors", [np.zeros((3, 4)), np.ones((3, 4)), np.ones((1, 4))])
def test_where_nothing_varies_nothing_is_told_apart(vectors: np.ndarray) -> None:
    assert (whitened(vectors) == 0).all()
