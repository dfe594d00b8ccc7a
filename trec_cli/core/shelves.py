"""Records that stay in a file and are read by their place: memory grows by bytes a record.

:class:`Shelf` holds what a stage reads once and looks at in any order (examples, summaries),
in an unnamed temporary file that vanishes with the process: what is read later is what was
checked, though the input may have changed, and a stream or a ``.gz`` is no exception.  Reading
by place is used instead of a memory map because pages of a map count as memory of the process.
:class:`Places` finds a record by its name.

Numbers are in maps all the same, because everything knows how to compute with arrays:
:func:`scratch` makes them, :func:`parts` goes through them, and :func:`let_go` takes their pages
out of memory again.
"""

import math
import mmap
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, overload

import msgspec
import numpy as np
import numpy.typing as npt

from trec_cli.core.temporary import no_room

_DOING = "keep what was read"
_RECENT = 1 << 15
_CACHED = 1 << 10
_WRITTEN = 1 << 20
_IN_MEMORY = 1 << 23
"""Bytes of an array above which it is in a file."""
_ROWS = 1 << 14
"""Rows of an array that are looked at together."""
_CHUNK = 1 << 6
"""Names that are kept as one record."""
_PAIRS = 1 << 20
"""Pairs of user and item that are sorted together."""
Record = TypeVar("Record")
_Ints = npt.NDArray[np.int64]
_Array = npt.NDArray[Any]


class Slices(Sequence[Record]):
    """A sequence whose slices are views."""

    def at(self, index: int) -> Record:
        """Return the record at a place from 0 on."""
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Record: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequence[Record]": ...

    def __getitem__(self, index: int | slice) -> "Record | Sequence[Record]":
        """Return one record, or a view of several."""
        if isinstance(index, slice):
            return Chosen(self, range(len(self))[index])
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self.at(place)

    def __iter__(self) -> Iterator[Record]:
        """Yield all, in order."""
        return map(self.at, range(len(self)))


class Chosen(Slices[Record]):
    """Some records of a sequence, in an order of their own."""

    def __init__(self, records: Sequence[Record], places: Iterable[int]) -> None:
        """Take the places of the records."""
        self._records = records
        if isinstance(places, np.ndarray):
            places = array("q", places.astype(np.int64).tobytes())
        self._places = places if isinstance(places, range | array) else array("q", places)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def at(self, index: int) -> Record:
        """Return the record at a place from 0 on."""
        return self._records[self._places[index]]


class _Spool:
    """Bytes one behind the other: in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._written = 0
        self._file: int | None = None

    def __len__(self) -> int:
        return self._written + len(self._waiting)

    def add(self, data: bytes) -> None:
        """Put bytes behind the others.

        Raises:
            PartialError: the disk is full, or there is no folder for temporary files.
        """
        self._waiting += data
        if len(self._waiting) >= _WRITTEN:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            self._file = _unnamed_file()
            weakref.finalize(self, os.close, self._file)
        try:
            while self._waiting:
                count = os.write(self._file, self._waiting)
                self._written += count
                del self._waiting[:count]
        except OSError as error:
            raise no_room(_DOING, Path(tempfile.gettempdir()), error) from None

    def read(self, start: int, size: int) -> bytes:
        """Return some of the bytes."""
        if start >= self._written:
            start -= self._written
            return bytes(self._waiting[start : start + size])
        if start + size > self._written:
            self._flush()
        return os.pread(cast(int, self._file), size, start)


class Shelf(Slices[Record], Generic[Record]):
    """Records in an unnamed temporary file, at 8 bytes of memory each."""

    def __init__(self, kind: type[Record], cached: int = _CACHED) -> None:
        """Start without records of a kind that msgspec knows; the last ones read are kept."""
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._ends = array("q")
        self._spool = _Spool()
        self._cached = lru_cache(cached)(self._read)

    def append(self, record: Record) -> None:
        """Put a record behind the others.

        Raises:
            PartialError: the disk is full, or there is no folder for temporary files.
        """
        self._spool.add(self._encode(record))
        self._ends.append(len(self._spool))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ends)

    def at(self, index: int) -> Record:
        """Return the record at a place from 0 on."""
        return self._cached(index)

    def _read(self, index: int) -> Record:
        start = self._ends[index - 1] if index else 0
        return self._decoder.decode(self._spool.read(start, self._ends[index] - start))


def _unnamed_file() -> int:
    """Open a temporary file that has no name any more."""
    try:
        file, name = tempfile.mkstemp(prefix="trec-")
    except OSError as error:
        raise no_room(_DOING, Path(tempfile.gettempdir()), error) from None
    Path(name).unlink()
    return file


def scratch(shape: tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> _Array:
    """Return an array of zeros; a large one is in an unnamed temporary file.

    Raises:
        PartialError: the disk is full, or there is no folder for temporary files.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= _IN_MEMORY:
        return np.zeros(shape, dtype)
    file = _unnamed_file()
    try:
        if hasattr(os, "posix_fallocate"):  # a map that finds no room ends the process
            os.posix_fallocate(file, 0, size)
        else:
            os.truncate(file, size)
        return np.ndarray(shape, dtype, buffer=mmap.mmap(file, size))
    except OSError as error:
        raise no_room(_DOING, Path(tempfile.gettempdir()), error) from None
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


def take(columns: Sequence[_Ints], places: _Ints) -> _Ints:
    """Return some places of columns of one length, ``[columns, places]``, in a scratch array."""
    found = scratch((len(columns), len(places)), np.int64)
    for row, column in zip(found, columns, strict=True):
        row[:] = column[places]
        let_go(column)
        let_go(found)
    return found


def rows(numbers: _Array, places: _Ints) -> _Array:
    """Return some rows of an array, in a scratch array."""
    found = scratch((len(places), *numbers.shape[1:]), numbers.dtype)
    for span in spans(len(places)):
        found[span] = numbers[places[span]]
        let_go(numbers)
        let_go(found)
    return found


class Columns:
    """A table of whole numbers that grows by rows, and is read by columns."""

    def __init__(self, width: int) -> None:
        """Start without rows."""
        self._width = width
        self._spool = _Spool()

    def extend(self, rows: _Ints) -> None:
        """Put rows behind the others."""
        self._spool.add(np.ascontiguousarray(rows, dtype=np.int64).tobytes())

    def read(self) -> _Ints:
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


class Texts(Slices[str]):
    """Short texts in a temporary file."""

    def __init__(self) -> None:
        """Start without texts."""
        self._chunks = Shelf(list[str], cached=4)
        self._last: list[str] = []

    def append(self, text: str) -> None:
        """Put a text behind the others."""
        self._last.append(text)
        if len(self._last) == _CHUNK:
            self._chunks.append(self._last)
            self._last = []

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._chunks) * _CHUNK + len(self._last)

    def at(self, index: int) -> str:
        """Return the text at a place from 0 on."""
        chunk, place = divmod(index, _CHUNK)
        return (self._chunks[chunk] if chunk < len(self._chunks) else self._last)[place]

    def __iter__(self) -> Iterator[str]:
        """Yield all, in order."""
        return chain(chain.from_iterable(self._chunks), self._last)


class Names(Slices[str]):
    """Names with their hashes, by which they are compared and found.

    Attributes:
        hashes: one a name; comparable within one process.
    """

    def __init__(self, texts: Sequence[str], hashes: _Ints | None = None) -> None:
        """Take names, and their hashes where these are known."""
        self._texts = texts
        if hashes is None:
            hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        self.hashes: _Ints = hashes
        self._next = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._texts)

    def at(self, index: int) -> str:
        """Return the name at a place from 0 on."""
        return self._texts[index]

    def __iter__(self) -> Iterator[str]:
        """Yield all, in order."""
        return iter(self._texts)

    def only(self, places: _Ints) -> "Names":
        """Return some of the names."""
        return Names(Chosen(self._texts, places), self.hashes[places])

    @cached_property
    def _sorted(self) -> tuple[_Ints, _Ints]:
        """The hashes in order, and the place of each."""
        order = np.argsort(self.hashes, kind="stable")
        return self.hashes[order], order

    def get(self, name: str) -> int | None:
        """Return the place of a name, or None.

        Names that are asked for in their order are found at once.
        """
        wanted, place = hash(name), self._next
        if not (place < len(self) and self.hashes[place] == wanted and self.at(place) == name):
            hashes, order = self._sorted
            at, end = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
            same = (int(place) for place in order[at:end])
            found = next((place for place in same if self.at(place) == name), None)
            if found is None:
                return None
            place = found
        self._next = place + 1
        return place

    def __contains__(self, name: object) -> bool:
        """Check for a name."""
        return isinstance(name, str) and self.get(name) is not None

    def places_of(self, others: "Names") -> _Ints:
        """Return the places of other names, -1 for one that is not here."""
        if np.array_equal(self.hashes, others.hashes):
            return np.arange(len(self))
        hashes, order = self._sorted
        at = np.minimum(np.searchsorted(hashes, others.hashes), len(self) - 1)
        return np.where(hashes[at] == others.hashes, order[at], -1)


class Places:
    """Places of records by name, at 16 bytes each; the last place of a name counts.

    Names are kept as hashes: who looks one up gets every place that may be meant, and must
    look at the record.
    """

    def __init__(self) -> None:
        """Start without names."""
        self._hashes: _Ints = np.empty(0, dtype=np.int64)
        self._places: _Ints = np.empty(0, dtype=np.int64)
        self._recent: dict[str, int] = {}
        self._count = 0

    def __len__(self) -> int:
        """Return how many places were added."""
        return self._count

    def add(self, name: str, place: int) -> None:
        """Note the place of a name."""
        self._recent[name] = place
        self._count += 1
        if len(self._recent) >= _RECENT:
            self._merge()

    def _merge(self) -> None:
        hashes = np.concatenate([self._hashes, [hash(name) for name in self._recent]])
        places = np.concatenate([self._places, list(self._recent.values())])
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], places[order]
        self._recent = {}

    def maybe(self, name: str) -> Iterator[int]:
        """Yield the places that a name may have, the last first."""
        if name in self._recent:
            yield self._recent[name]
        wanted = hash(name)
        end = int(np.searchsorted(self._hashes, wanted, side="right"))
        while end and self._hashes[end - 1] == wanted:
            end -= 1
            yield int(self._places[end])


class ByName(Mapping[str, Record]):
    """Records of a shelf by the field that names them."""

    def __init__(self, kind: type[Record], field: str = "example_id") -> None:
        """Start without records."""
        self._shelf = Shelf(kind)
        self._field, self._places = field, Places()

    def add(self, record: Record) -> None:
        """Put a record on the shelf."""
        self._places.add(getattr(record, self._field), len(self._shelf))
        self._shelf.append(record)

    def find(self, name: str) -> Record | None:
        """Return the record of a name, or None."""
        found = map(self._shelf.__getitem__, self._places.maybe(name))
        return next((one for one in found if getattr(one, self._field) == name), None)

    def __contains__(self, name: object) -> bool:
        """Check for a name."""
        return isinstance(name, str) and self.find(name) is not None

    def __getitem__(self, name: str) -> Record:
        """Return the record of a name."""
        found = self.find(name)
        if found is None:
            raise KeyError(name)
        return found

    def __len__(self) -> int:
        """Return how many records there are."""
        return len(self._shelf)

    def __iter__(self) -> Iterator[str]:
        """Yield the names, in the order in which they came."""
        return (getattr(record, self._field) for record in self._shelf)

    @property
    def records(self) -> Shelf[Record]:
        """All records, in the order in which they came."""
        return self._shelf

    def values(self) -> ValuesView[Record]:
        """Return all records, without looking up every name."""
        return _Values(self)


class _Values(ValuesView[Record]):
    _mapping: ByName[Record]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._mapping.records)
