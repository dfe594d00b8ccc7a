"""Attention weights laid out by candidate and part of the history."""

from trec_cli.core.records import Attention, Key
from trec_cli.evaluate.cases import ALL_CANDIDATES, HeatRow, heat_map

KEYS = [Key(start=0, end=5), Key(start=5, end=6)]


def of_candidates(*candidates: list[tuple[int, float]]) -> Attention:
    return Attention(query="candidate", keys=KEYS, weights=[], candidates=list(candidates))


def of_recent(*weights: float) -> Attention:
    return Attention(query="recent", keys=KEYS, weights=list(weights))


def test_every_candidate_has_a_row_with_the_weights_that_are_known() -> None:
    found = heat_map(of_candidates([(1, 0.9), (0, 0.1)], [(0, 0.4)]), "ab")
    assert found is not None
    assert found.parts == ["1–5", "6"]
    assert found.rows == [HeatRow("a", [0.1, 0.9]), HeatRow("b", [0.4, None])]
    assert found.highest == 0.9


def test_the_right_candidates_are_marked_and_unknown_weights_are_told() -> None:
    found = heat_map(of_candidates([(1, 0.9)], [(0, 1), (1, 0)]), "ab", {1})
    assert found is not None
    assert [row.right for row in found.rows] == [False, True]
    assert found.gaps
    full = heat_map(of_recent(0.25, 0.75), "ab")
    assert full is not None
    assert not full.gaps


def test_weights_of_the_recent_items_are_one_row() -> None:
    found = heat_map(of_recent(0.25, 0.75), "ab")
    assert found is not None
    assert found.rows == [HeatRow(ALL_CANDIDATES, [0.25, 0.75])]


def test_weights_that_do_not_fit_make_no_map() -> None:
    assert heat_map(of_candidates([(0, 1.0)]), "ab") is None
    assert heat_map(of_recent(1.0), "ab") is None
    assert heat_map(Attention(query="recent", keys=[], weights=[]), "ab") is None


def test_all_weights_of_zero_still_draw() -> None:
    found = heat_map(of_recent(0.0, 0.0), "a")
    assert found is not None
    assert found.highest == 1.0
