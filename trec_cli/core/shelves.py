"""Records that stay in a file and are read by their place: memory grows by bytes a record.

:class:`Shelf` holds what a stage reads once and looks at in any order (examples, summaries),
in an unnamed temporary file that vanishes with the process: what is read later is what was
checked, though the input may have changed, and a stream or a ``.gz`` is no exception.  Reading
by place is used instead of a memory map because pages of a map count as memory of the process.
:class:`Places` finds a record by its name.
"""

import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar, overload

import msgspec
import numpy as np
import numpy.typing as npt

from trec_cli.core.temporary import no_room

_DOING = "keep what was read"
_RECENT = 1 << 15
_CACHED = 1 << 10
_WRITTEN = 1 << 20
Record = TypeVar("Record")
_Ints = npt.NDArray[np.int64]


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
        self._places = places if isinstance(places, range) else array("q", places)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def at(self, index: int) -> Record:
        """Return the record at a place from 0 on."""
        return self._records[self._places[index]]


class Shelf(Slices[Record], Generic[Record]):
    """Records in an unnamed temporary file, at 8 bytes of memory each."""

    def __init__(self, kind: type[Record]) -> None:
        """Start without records of a kind, a msgspec structure.

        Raises:
            PartialError: there is no folder for temporary files.
        """
        self._encode = msgspec.msgpack.Encoder().encode
        self._decoder = msgspec.msgpack.Decoder(kind)
        self._ends = array("q")
        self._waiting = bytearray()
        self._written = 0
        self._file = _unnamed_file()
        weakref.finalize(self, os.close, self._file)
        self._cached = lru_cache(_CACHED)(self._read)

    def append(self, record: Record) -> None:
        """Put a record behind the others.

        Raises:
            PartialError: the disk is full.
        """
        self._waiting += self._encode(record)
        self._ends.append(self._written + len(self._waiting))
        if len(self._waiting) >= _WRITTEN:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                count = os.write(self._file, self._waiting)
                self._written += count
                del self._waiting[:count]
        except OSError as error:
            raise no_room(_DOING, Path(tempfile.gettempdir()), error) from None

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._ends)

    def at(self, index: int) -> Record:
        """Return the record at a place from 0 on."""
        return self._cached(index)

    def _read(self, index: int) -> Record:
        if self._waiting:
            self._flush()
        start = self._ends[index - 1] if index else 0
        return self._decoder.decode(os.pread(self._file, self._ends[index] - start, start))


def _unnamed_file() -> int:
    """Open a temporary file that has no name any more."""
    try:
        file, name = tempfile.mkstemp(prefix="trec-")
    except OSError as error:
        raise no_room(_DOING, Path(tempfile.gettempdir()), error) from None
    Path(name).unlink()
    return file


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
