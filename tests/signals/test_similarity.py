"""Sparse vectors and the scores made of them, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trec_cli.core.text import terms
from trec_cli.signals import similarity
from trec_cli.signals.similarity import SparseScorer, count_matrix


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Chef's knife, 20-cm", ["chef", "s", "knife", "20", "cm"]),
        ("snake_case", ["snake", "case"]),
        ("STRASSE straße", ["strasse", "strasse"]),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("Crème\nbrûlée", ["crème", "brûlée"]),
        ("抹茶ラテ cup", ["抹", "茶", "ラ", "テ", "cup"]),
        ("… 🎲 !", []),
        ("", []),
    ],
)
def test_terms_are_folded_words_or_single_characters(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_counts_are_per_row_and_feature() -> None:
    counts = count_matrix([["a", "b", "a"], [], ["b"]])
    assert counts.toarray().tolist() == [[2, 1], [0, 0], [0, 1]]


def test_tfidf_follows_the_smoothed_formula_and_has_unit_rows() -> None:
    weights = similarity.tfidf(count_matrix([["a", "b"], ["b"], []])).toarray()
    idf_a, idf_b = math.log(4 / 2) + 1, math.log(4 / 3) + 1
    length = math.hypot(idf_a, idf_b)
    expected = np.array([[idf_a / length, idf_b / length], [0.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(weights, expected)


def test_bm25_follows_the_formula() -> None:
    weights = similarity.bm25(count_matrix([["a", "a", "b"], ["b"], ["b", "c"]])).toarray()
    idf_a, idf_b = math.log(1 + 2.5 / 1.5), math.log(1 + 0.5 / 3.5)
    norm = 1.2 * (0.25 + 0.75 * 3 / 2)
    assert weights[0, 0] == pytest.approx(idf_a * 2 * 2.2 / (2 + norm))
    assert weights[0, 1] == pytest.approx(idf_b * 1 * 2.2 / (1 + norm))
    assert weights[1, 1] == pytest.approx(idf_b * 2.2 / (1 + 1.2 * (0.25 + 0.75 / 2)))


def test_rows_are_divided_by_a_power_of_their_length() -> None:
    counts = count_matrix([["a"] * 3 + ["b"] * 4, []])
    for power in (0.0, 1.0, 2.0):
        rows = similarity.divided_rows(counts, power).toarray()
        np.testing.assert_allclose(rows, [[3 / 5**power, 4 / 5**power], [0.0, 0.0]])


def test_a_decay_of_zero_leaves_the_newest_item_alone() -> None:
    weights = {decay: similarity.decaying(decay)(3).tolist() for decay in (0.0, 0.5, 1.0)}
    assert weights == {0.0: [0.0, 0.0, 1.0], 0.5: [0.25, 0.5, 1.0], 1.0: [1.0, 1.0, 1.0]}
    assert similarity.decaying(0.0)(0).tolist() == []


def test_a_catalogue_without_any_text_gives_zeros() -> None:
    for weigh in (similarity.tfidf, similarity.bm25):
        assert weigh(count_matrix([[], []])).toarray().tolist() == [[0], [0]]


def _scorer(*, self_evidence: bool) -> SparseScorer:
    vectors = count_matrix([["x"], ["x", "y"], ["y"]])
    rows = {"a": 0, "b": 1, "c": 2}
    return SparseScorer(rows, vectors, vectors, np.ones, self_evidence)


def test_an_item_in_the_history_speaks_for_itself_only_where_wanted() -> None:
    assert _scorer(self_evidence=True)(["a", "c"], ["a", "b"]) == [1.0, 2.0]
    assert _scorer(self_evidence=False)(["a", "c"], ["a", "b"]) == [0.0, 2.0]


def test_unknown_history_and_candidates_score_zero() -> None:
    scorer = _scorer(self_evidence=True)
    assert scorer(["?"], ["a"]) == [0.0]
    assert scorer(["a"], ["?", "b"]) == [0.0, 1.0]
    assert scorer([], ["a", "b"]) == [0.0, 0.0]


@settings(max_examples=50)
@given(
    texts=st.lists(st.text(alphabet="ab c", max_size=8), min_size=1, max_size=6),
    history=st.lists(st.integers(0, 5), max_size=5),
)
def test_scores_equal_the_dense_product(texts: list[str], history: list[int]) -> None:
    counts = count_matrix(map(terms, texts))
    documents = similarity.bm25(counts)
    rows = {str(n): n for n in range(len(texts))}
    past = [h % len(texts) for h in history]
    scores = SparseScorer(rows, documents, counts, np.ones)(list(map(str, past)), list(rows))
    expected = documents.toarray() @ counts.toarray()[past].sum(axis=0)
    np.testing.assert_allclose(scores, expected, atol=1e-12)
