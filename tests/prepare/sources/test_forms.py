"""One log in every form gives the same timelines, whatever its ids and in whatever order."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prepare.helpers import read

Event = tuple[str, str, int, float | None]
NAMES = ("user_id", "item_id", "timestamp", "rating")

# What a line-based form cannot hold (tabs, line breaks) and what is stripped stays outside.
characters = st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"])
ids = st.text(characters, min_size=1, max_size=5)
events = st.lists(
    st.tuples(ids, ids, st.integers(10**9, 2 * 10**9), st.none() | st.integers(1, 5).map(float)),
    min_size=1,
    max_size=12,
)


def as_csv(folder: Path, log: list[Event]) -> None:
    with (folder / "log.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([NAMES, *log])


def as_tsv(folder: Path, log: list[Event]) -> None:
    with (folder / "log.tsv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([NAMES, *log])


def as_jsonl(folder: Path, log: list[Event]) -> None:
    lines = [json.dumps(dict(zip(NAMES, event, strict=True))) for event in log]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def as_parquet(folder: Path, log: list[Event]) -> None:
    columns = {
        name: list(column) for name, column in zip(NAMES, zip(*log, strict=True), strict=True)
    }
    pl.DataFrame(columns, schema_overrides={"rating": pl.Float64}).write_parquet(
        folder / "log.parquet"
    )


def as_atomic(folder: Path, log: list[Event]) -> None:
    header = "\t".join(f"{name}:token" for name in NAMES)
    rows = ["\t".join("" if v is None else str(v) for v in event) for event in log]
    (folder / "log.inter").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def timelines(log: list[Event]) -> dict[str, list[tuple[int, str, float | None]]]:
    """Work the expected timelines out by hand: each (time, item) once, best rated."""
    rated: dict[str, dict[tuple[int, str], float | None]] = {}
    for user, item, time, rating in log:
        known = rated.setdefault(user, {})
        before = known.get((time, item))
        known[time, item] = max(filter(None, (before, rating)), default=None)
    return {
        user: sorted(((time, item, r) for (time, item), r in known.items()), key=str)
        for user, known in rated.items()
    }


@settings(max_examples=30)
@pytest.mark.parametrize("write", [as_csv, as_tsv, as_jsonl, as_parquet, as_atomic])
@given(log=events, data=st.data())
def test_the_form_of_a_log_changes_nothing(
    write: Callable[[Path, list[Event]], None],
    tmp_path_factory: pytest.TempPathFactory,
    log: list[Event],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.mktemp("log")
    write(folder, data.draw(st.permutations(log)))
    items = sorted({item for _, item, _, _ in log})
    lines = [json.dumps({"item_id": item, "title": f"T{n}"}) for n, item in enumerate(items)]
    (folder / "items.json").write_text("\n".join(lines) + "\n")
    catalogue, questions = read(folder)
    assert sorted(catalogue) == items
    got = {}
    for q in questions:
        times = [*(q.times or []), q.timestamp]
        assert times == sorted(t for t in times if t is not None)
        ratings = q.ratings or [None] * len(times)
        rows = zip(times, [*q.history, *q.positives], ratings, strict=True)
        got[q.user_id] = sorted(rows, key=str)
    assert got == timelines(log)
