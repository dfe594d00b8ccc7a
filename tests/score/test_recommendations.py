"""Lists of recommendations: their order, and the files that they are written to."""

import csv
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trec_cli.core.errors import UsageError
from trec_cli.score.recommendations import (
    COLUMNS,
    Recommendations,
    Recommended,
    best_items,
    write_recommendations,
)

LISTS = [
    Recommendations(
        user_id='Zoë, "the first"',
        items=[
            Recommended(item_id="ß\n2", rank=1, score=0.1),
            Recommended(item_id="NA", rank=2, score=-1e-9),
        ],
    ),
    Recommendations(user_id="nobody", items=[]),
    Recommendations(user_id="7", items=[Recommended(item_id="007", rank=1, score=1e300)]),
]
ROWS = [
    ('Zoë, "the first"', "ß\n2", 1, 0.1),
    ('Zoë, "the first"', "NA", 2, -1e-9),
    ("7", "007", 1, 1e300),
]


def ids(made: Recommendations) -> list[str]:
    return [item.item_id for item in made.items]


def test_the_best_come_first_with_ranks_from_one() -> None:
    made = best_items("u", ["a", "b", "c"], [0.5, 2.0, -1.0], 2, seed=0)
    assert made.user_id == "u"
    assert [(i.item_id, i.rank, i.score) for i in made.items] == [("b", 1, 2.0), ("a", 2, 0.5)]


def test_a_list_may_be_shorter_than_asked_for() -> None:
    assert ids(best_items("u", ["a"], [0.0], 10, seed=0)) == ["a"]
    assert ids(best_items("u", [], [], 10, seed=0)) == []


@given(st.permutations([f"i{n}" for n in range(8)]), st.integers(1, 8))
def test_the_order_of_candidates_decides_between_no_equals(
    candidates: list[str], count: int
) -> None:
    def scores(names: list[str]) -> list[float]:
        return [float(name in ("i3", "i5")) for name in names]

    usual = [f"i{n}" for n in range(8)]
    made = best_items("u", candidates, scores(candidates), count, seed=0)
    assert made == best_items("u", usual, scores(usual), count, seed=0)


def test_equals_stand_in_another_order_for_every_user_and_seed() -> None:
    names = [f"i{n}" for n in range(6)]
    users = {tuple(ids(best_items(f"u{n}", names, [0.0] * 6, 6, seed=0))) for n in range(20)}
    assert len(users) > 15
    first = [ids(best_items(f"u{n}", names, [0.0] * 6, 6, seed=0))[0] for n in range(600)]
    assert all(60 < first.count(name) < 140 for name in names)
    assert ids(best_items("u", names, [0.0] * 6, 6, seed=1)) != ids(
        best_items("u", names, [0.0] * 6, 6, seed=2)
    )


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(1, 12))
def test_the_list_is_the_beginning_of_the_whole_ranking(values: list[int], count: int) -> None:
    names = [f"i{n}" for n in range(len(values))]
    scores = [float(value) for value in values]
    whole = best_items("u", names, scores, len(values) or 1, seed=3)
    assert best_items("u", names, scores, count, seed=3).items == whole.items[:count]
    assert [item.score for item in whole.items] == sorted(scores, reverse=True)


def test_jsonl_has_one_line_per_user(tmp_path: Path) -> None:
    write_recommendations(tmp_path / "r.jsonl", LISTS)
    lines = (tmp_path / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["user_id"] for line in lines] == ['Zoë, "the first"', "nobody", "7"]
    assert json.loads(lines[2])["items"] == [{"item_id": "007", "rank": 1, "score": 1e300}]


def test_csv_has_one_row_per_item_under_the_names_of_the_columns(tmp_path: Path) -> None:
    write_recommendations(tmp_path / "r.csv", iter(LISTS))
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header) == COLUMNS
    assert [(u, i, int(r), float(s)) for u, i, r, s in rows] == ROWS


def test_parquet_keeps_ids_as_texts_and_scores_exactly(tmp_path: Path) -> None:
    write_recommendations(tmp_path / "r.parquet", LISTS)
    table = pl.read_parquet(tmp_path / "r.parquet")
    assert tuple(table.columns) == COLUMNS
    assert table.dtypes == [pl.String, pl.String, pl.Int32, pl.Float64]
    assert table.rows() == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["r.parquet"]


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.parquet"])
def test_nothing_to_recommend_is_a_file_without_rows(tmp_path: Path, name: str) -> None:
    write_recommendations(tmp_path / name, [])
    if name == "r.parquet":
        assert pl.read_parquet(tmp_path / name).rows() == []
    else:
        expected = ",".join(COLUMNS) + "\n" if name == "r.csv" else ""
        assert (tmp_path / name).read_text() == expected


def test_another_ending_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--out .*r.xlsx: recommendations are written as .jsonl"):
        write_recommendations(tmp_path / "r.xlsx", LISTS)


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield LISTS[0]
        raise RuntimeError("stopped")

    for name in ("r.csv", "r.parquet"):
        with pytest.raises(RuntimeError):
            write_recommendations(tmp_path / name, broken())  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []


def test_the_same_lists_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("r.jsonl", "r.csv", "r.parquet"):
        write_recommendations(tmp_path / name, LISTS)
        first = (tmp_path / name).read_bytes()
        write_recommendations(tmp_path / name, LISTS)
        assert (tmp_path / name).read_bytes() == first
