"""Records that stay in a file and are read by their place: memory grows by bytes a record.

:class:`Shelf` holds what a stage reads once and looks at in any order (examples, summaries),
in an unnamed temporary file that vanishes with the process: what is read later is what was
checked, though the input may have changed, and a stream or a ``.gz`` is no exception.  Reading
by place is used instead of a memory map because pages of a map count as memory of the process.
:mod:`~trec_cli.core.names` finds a record by its name.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Generic, TypeVar, overload

import msgspec
import numpy as np

from trec_cli.core.spool import Spool

_CACHED = 1 << 10
Record = TypeVar("Record")


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


class Shelf(Slices[Record], Generic[Record]):
    """Records in an unnamed temporary file, at 8 bytes of memory each."""

    def __init__(self, kind: type[Record], cached: int = _CACHED) -> None:
        """Start without records of a kind that msgspec knows; the last ones read are kept."""
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._ends = array("q")
        self._spool = Spool()
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
