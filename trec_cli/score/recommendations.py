"""Recommendations: the best items of every user, as JSONL, CSV or Parquet.

Equal scores are put in order by a hash of (seed, user id, item id), so that neither the
order of candidates nor that of ids ever decides what a user sees.  CSV and Parquet have one
row per recommended item (``user_id``, ``item_id``, ``rank``, ``score``), as ``COPY`` of a
database takes them.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

import msgspec
import numpy as np

from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import encode, is_stream
from trec_cli.core.outputs import atomic, write_bytes, write_lines
from trec_cli.core.records import Reason
from trec_cli.core.seeds import derive_seed

COLUMNS = ("user_id", "item_id", "rank", "score")
SUFFIXES = (".jsonl", ".csv", ".parquet")
_ROWS_AT_ONCE = 4096


class Recommended(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One item of a user's list; ranks count from 1."""

    item_id: str
    rank: int
    score: float
    because: Reason | None = None


class Recommendations(msgspec.Struct, frozen=True, kw_only=True):
    """The list of one user, best first."""

    user_id: str
    items: list[Recommended]


def best_items(
    user_id: str, candidates: Sequence[str], scores: Sequence[float], count: int, seed: int
) -> Recommendations:
    """Return the ``count`` candidates with the highest scores, fewer where there are fewer.

    Args:
        user_id: whose list it is.
        candidates: item ids, each once.
        scores: of the candidates, in their order; finite.
        count: length of the list.
        seed: decides, with user and item, between equal scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) > count:  # only what may be in the list needs an order among its equals
        lowest = np.partition(values, -count)[-count]
        kept = np.flatnonzero(values >= lowest).tolist()
    else:
        kept = list(range(len(values)))

    def order(index: int) -> tuple[float, int]:
        return -scores[index], derive_seed(seed, user_id, candidates[index])

    best = sorted(kept, key=order)[:count]
    items = [
        Recommended(item_id=candidates[index], rank=rank, score=scores[index])
        for rank, index in enumerate(best, start=1)
    ]
    return Recommendations(user_id=user_id, items=items)


def explained(one: Recommendations, reasons: Sequence[Reason | None]) -> Recommendations:
    """Add the reason of each item; there may be fewer reasons than items, or none."""
    pairs = zip_longest(one.items, reasons)
    items = [msgspec.structs.replace(item, because=reason) for item, reason in pairs]
    return Recommendations(user_id=one.user_id, items=items)


def has_reasons(path: Path) -> bool:
    """Check whether a file of recommendations has a place for reasons: CSV and Parquet do not."""
    return is_stream(path) or path.suffix == ".jsonl"


def check_format(path: Path) -> None:
    """Refuse a file whose ending names none of the formats; a stream is JSONL.

    Raises:
        UsageError: naming those that there are.
    """
    if not is_stream(path) and path.suffix not in SUFFIXES:
        raise UsageError(
            f"--out {path}: recommendations are written as {', '.join(SUFFIXES)}; "
            "choose one of these endings"
        )


def write_recommendations(path: Path, lists: Iterable[Recommendations]) -> None:
    """Write lists in the format that the file's ending names; whole or not at all.

    Memory does not grow with the number of users.

    Raises:
        UsageError: the ending names no format.
        OutputFailed: the file cannot be written.
    """
    check_format(path)
    if has_reasons(path):
        write_lines(path, map(encode, lists))
    elif path.suffix == ".csv":
        write_bytes(path, _csv_lines(lists))
    else:
        _write_parquet(path, lists)


def _csv_lines(lists: Iterable[Recommendations]) -> Iterator[bytes]:
    """Yield the encoded rows, the header first, in portions of a few thousand."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, row in enumerate(_rows(lists), start=1):
        writer.writerow(row)
        if number % _ROWS_AT_ONCE == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _rows(lists: Iterable[Recommendations]) -> Iterator[tuple[str, str, int, float]]:
    for one in lists:
        for item in one.items:
            yield one.user_id, item.item_id, item.rank, item.score


def _write_parquet(path: Path, lists: Iterable[Recommendations]) -> None:
    """Write rows as CSV first, from which polars makes the columns piece by piece."""
    import polars as pl

    schema = {"user_id": pl.String, "item_id": pl.String, "rank": pl.Int32, "score": pl.Float64}
    with atomic(path) as temporary:
        rows = temporary.with_name(f"{temporary.name}.csv")
        try:
            with rows.open("wb") as stream:
                stream.writelines(_csv_lines(lists))
            table = pl.scan_csv(rows, schema=schema)
            table.sink_parquet(temporary, statistics=False)
        finally:
            rows.unlink(missing_ok=True)
