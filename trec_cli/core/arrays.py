"""Arrays too large for memory: in maps of unnamed temporary files, looked at part by part.

Everything knows how to compute with arrays: :func:`scratch` makes them, :func:`parts` goes
through them, and :func:`let_go` takes their pages out of memory again.
"""

import math
import mmap
import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from trec_cli.core.spool import Spool, no_temporary_room, unnamed_file

_IN_MEMORY = 1 << 23
"""Bytes of an array above which it is in a file."""
_ROWS = 1 << 14
"""Rows of an array that are looked at together."""
_PAIRS = 1 << 20
"""Pairs of user and item that are sorted together."""
Ints = npt.NDArray[np.int64]
_Array = npt.NDArray[Any]
_Whole = TypeVar("_Whole", bound=np.integer[Any])


def scratch(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> _Array:
    """Return an array of zeros; a large one is in an unnamed temporary file.

    Raises:
        PartialError: the disk is full, or there is no folder for temporary files.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= _IN_MEMORY:
        return np.zeros(shape, dtype)
    file = unnamed_file()
    try:
        if hasattr(os, "posix_fallocate"):  # a map that finds no room ends the process
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)
        return np.ndarray(shape, dtype, buffer=mmap.mmap(file, size))
    except OSError as error:
        raise no_temporary_room(error) from None
    finally:
        os.close(file)


def let_go(numbers: _Array) -> None:
    """Take the pages of a :func:`scratch` array out of memory; what it holds stays."""
    base: Any = numbers
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)


def spans(number: int, most: int | None = None) -> Iterator[slice]:
    """Cut so many rows into parts of one size."""
    size = most or _ROWS
    return (slice(start, min(start + size, number)) for start in range(0, number, size))


def parts(numbers: _Array) -> Iterator[_Array]:
    """Yield the rows of an array, some at a time; each part is let go of when it was used."""
    for span in spans(len(numbers)):
        yield numbers[span]
        let_go(numbers)


def take(columns: Sequence[Ints], places: Ints) -> Ints:
    """Return some places of columns of one length, ``[columns, places]``, in a scratch array."""
    found = scratch((len(columns), len(places)), np.int64)
    for row, column in zip(found, columns, strict=True):
        row[:] = column[places]
        let_go(column)
        let_go(found)
    return found


def rows(numbers: _Array, places: Ints) -> _Array:
    """Return some rows of an array, in a scratch array."""
    found = scratch((len(places), *numbers.shape[1:]), numbers.dtype)
    for span in spans(len(places)):
        found[span] = numbers[places[span]]
        let_go(numbers)
        let_go(found)
    return found


def distinct(values: npt.NDArray[_Whole]) -> npt.NDArray[_Whole]:
    """Return the distinct values of a one-dimensional array, sorted.

    ``np.unique`` returns the same, but has hashed whole numbers since NumPy 2.3, which takes
    many times as long where most values are distinct.
    """
    ordered = np.sort(values)
    kept = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=kept[1:])
    return ordered[kept]


class Columns:
    """A table of whole numbers that grows by rows, and is read by columns."""

    def __init__(self, width: int) -> None:
        """Start without rows."""
        self._width = width
        self._spool = Spool()

    def extend(self, rows: Ints) -> None:
        """Put rows behind the others."""
        self._spool.add(np.ascontiguousarray(rows, dtype=np.int64).tobytes())

    def read(self) -> Ints:
        """Return ``[width, rows]``, as :func:`scratch` does."""
        size = 8 * self._width
        found = scratch((self._width, len(self._spool) // size), np.int64)
        for span in spans(found.shape[1]):
            rows = self._spool.read(span.start * size, (span.stop - span.start) * size)
            found[:, span] = np.frombuffer(rows, dtype=np.int64).reshape(-1, self._width).T
            let_go(found)
        return found


class Takers:
    """Counts the users of every item, each user once, however many lines repeat it.

    Pairs of both are in a temporary file; users are told apart by their hashes, of 64 bits.
    """

    def __init__(self) -> None:
        """Start without pairs."""
        self._pairs = Columns(2)
        self._items: dict[str, int] = {}
        self._waiting = array("q"), array("q")

    def add(self, user: str, items: Sequence[str]) -> None:
        """Take in what a user has, and nobody's item, 0, by which users are counted."""
        known, (users, codes) = self._items, self._waiting
        codes.append(0)
        codes.extend([known.setdefault(item, len(known) + 1) for item in items])
        users.extend([hash(user)] * (len(items) + 1))
        if len(users) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        self._pairs.extend(np.array(self._waiting, dtype=np.int64).T)
        self._waiting = array("q"), array("q")

    def counts(self) -> tuple[dict[str, int], int]:
        """Return the number of users of every item, and of all."""
        self._flush()
        pairs = self._pairs.read().T
        number = np.zeros(len(self._items) + 1, dtype=np.int64)
        pieces = 1 + len(pairs) // _PAIRS
        for piece in range(pieces if len(pairs) else 0):
            found = [part[part[:, 0] % pieces == piece] for part in parts(pairs)]
            users, items = np.concatenate(found).T
            order = np.lexsort((items, users))
            users, items = users[order], items[order]
            repeated = np.flatnonzero((np.diff(users) == 0) & (np.diff(items) == 0))
            number += np.bincount(np.delete(items, repeated), minlength=len(number))
        return dict(zip(self._items, number[1:].tolist(), strict=True)), int(number[0])
