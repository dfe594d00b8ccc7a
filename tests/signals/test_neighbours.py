"""The nearest texts, by hand and against a full sort."""

import math

import numpy as np
import pytest

from trec_cli.signals.neighbours import nearest_texts


def test_weights_fall_with_the_cosine_and_sum_to_one() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    found = nearest_texts(vectors, count=2).toarray()
    far = math.exp(8 * (0.6 - 1))
    assert found[0] == pytest.approx([1 / (1 + far), far / (1 + far), 0], abs=1e-5)
    near = math.exp(8 * (0.8 - 1))
    assert found[1] == pytest.approx([0, 1 / (1 + near), near / (1 + near)], abs=1e-5)


def test_an_item_without_text_has_itself_alone() -> None:
    vectors = np.array([[0, 0], [1, 0], [0, 0]], np.float32)
    found = nearest_texts(vectors, count=2).toarray()
    assert found[0].tolist() == [1, 0, 0]
    assert found[2].tolist() == [0, 0, 1]


def test_blocks_give_what_a_full_sort_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trec_cli.signals.neighbours._CELLS", 90)
    drawn = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    vectors = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    found = nearest_texts(vectors, count=5)
    best = np.argsort(-(vectors @ vectors.T), axis=1)[:, :5]
    for row in range(40):
        assert set(found[row].indices.tolist()) == set(best[row].tolist())
    assert np.asarray(found.sum(axis=1)).ravel() == pytest.approx(np.ones(40), abs=1e-5)


def test_a_small_catalogue_has_fewer_neighbours() -> None:
    assert nearest_texts(np.ones((1, 3), np.float32)).toarray().tolist() == [[1]]
