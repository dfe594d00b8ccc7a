"""The short way for large logs of numbers: whole columns at once, an event at a time for the rest.

A log of plain cells (no quotes, no empty cell, times as whole numbers of one unit) is read by
Arrow, ten times as fast as row by row.  Whatever is not so plain is left to the reader of rows,
which knows how to read or to explain it: here nothing is ever at fault.
"""

from array import array
from collections.abc import Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.jsonl import open_input
from trec_cli.prepare.archive import Source
from trec_cli.prepare.sources.clock import Clock
from trec_cli.prepare.sources.columns import Roles
from trec_cli.prepare.sources.log import Log
from trec_cli.prepare.sources.rows import delimiter_of, suffix_of
from trec_cli.prepare.sources.tables import Table

_BLOCK = 1 << 24
_SUFFIXES = (".csv", ".txt", ".tsv", ".inter")


class _Odd(Exception):  # noqa: N818 - nothing is wrong, only not plain
    """Something that the reader of rows must look at."""


class _Plain(RawIOBase):
    """A stream of bytes that stops at the first that is not plain."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._last = b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        joined = self._last + data
        if b'"' in data or b"\0" in data or b"\n\n" in joined or b"\n\r" in joined:
            raise _Odd
        returns = joined.count(b"\r") - joined.endswith(b"\r")
        if returns != joined.count(b"\r\n"):
            raise _Odd
        self._last = data[-1:] or self._last
        return data


def read_in_bulk(log: Log, source: Source, table: Table, roles: Roles, clock: Clock) -> int | None:
    """Add the events of a file to a log; return their number.

    None where the file is not plain: then the log is as it was before.
    """
    if suffix_of(table.member) not in _SUFFIXES or clock.form is not None:
        return None
    before = len(log)
    sizes = {id(names): len(names) for names in (log.users, log.items)}
    with source.reading(table.member) as path:
        try:
            for columns in _batches(path, table, roles):
                _add(log, columns, clock)
        except (_Odd, ValueError, OSError, ArithmeticError):
            _take_back(log, before, sizes)
            return None
    return len(log) - before


def _take_back(log: Log, before: int, sizes: Mapping[int, int]) -> None:
    for column in (log.user, log.item, log.time, log.rating):
        del column[before:]
    for names in (log.users, log.items):
        while len(names) > sizes[id(names)]:
            names.popitem()


def _batches(path: Path, table: Table, roles: Roles) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of each role, block by block; all are texts.

    Raises:
        _Odd: a byte is not plain.
        ValueError: Arrow does not take the file.
    """
    from pyarrow import csv

    suffix = suffix_of(table.member)
    with open_input(path) as stream:
        first = stream.readline(_BLOCK)
    if first.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _Odd
    delimiter = delimiter_of(first.decode()) if suffix in (".csv", ".txt") else "\t"
    types = dict.fromkeys(roles.values(), "string")
    with open_input(path) as stream:
        reader = csv.open_csv(
            _Plain(stream),
            csv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK,
                column_names=table.columns,
                skip_rows=int(table.has_header),
            ),
            csv.ParseOptions(delimiter=delimiter, quote_char=False),
            csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )
        for batch in reader:
            yield {role: batch.column(name) for role, name in roles.items()}


def _add(log: Log, columns: Mapping[str, Any], clock: Clock) -> None:
    """Add a block of events.

    Raises:
        _Odd: a cell is not plain.
    """
    import pyarrow as pa

    times = clock.of_numbers(_numbers(columns["time"].cast(pa.int64())))
    if times is None:
        raise _Odd
    users, items = _codes(columns["user"], log.users), _codes(columns["item"], log.items)
    ratings = np.full(len(times), np.nan, np.float32)
    if "rating" in columns:
        texts = columns["rating"]
        ratings = _numbers(texts.cast(pa.float64())).astype(np.float32)
        if not np.isfinite(ratings).all():
            raise _Odd
    for column, values in (
        (log.user, users),
        (log.item, items),
        (log.time, times),
        (log.rating, ratings),
    ):
        _extend(column, values)


def _codes(texts: Any, names: dict[str, int]) -> NDArray[np.int32]:
    """Number the ids of a column, new ones in the order in which they come."""
    encoded = texts.dictionary_encode()
    ids = [text.strip() for text in encoded.dictionary.to_pylist()]
    if not all(ids):
        raise _Odd
    codes = [names.setdefault(identifier, len(names)) for identifier in ids]
    return np.asarray(np.array(codes, np.int32)[_numbers(encoded.indices)])


def _numbers(column: Any) -> NDArray[Any]:
    """Return a column without nulls; Arrow's own ``to_numpy`` would import pandas."""
    return np.from_dlpack(column)


def _extend(column: "array[Any]", values: NDArray[Any]) -> None:
    column.frombytes(np.ascontiguousarray(values).tobytes())
