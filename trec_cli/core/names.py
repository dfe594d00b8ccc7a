"""Names of records that stay in a file, and where each is: bytes of memory a name.

:class:`Names` are compared and found by their hashes; :class:`Places` finds a record by its
name, and :class:`ByName` is a shelf that is read so.
"""

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from itertools import chain

import numpy as np

from trec_cli.core.arrays import Ints
from trec_cli.core.shelves import Chosen, Record, Shelf, Slices

_RECENT = 1 << 15
_CHUNK = 1 << 6
"""Names that are kept as one record."""


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

    def __init__(self, texts: Sequence[str], hashes: Ints | None = None) -> None:
        """Take names, and their hashes where these are known."""
        self._texts = texts
        if hashes is None:
            hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
        self.hashes: Ints = hashes
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

    def only(self, places: Ints) -> "Names":
        """Return some of the names."""
        return Names(Chosen(self._texts, places), self.hashes[places])

    @cached_property
    def _sorted(self) -> tuple[Ints, Ints]:
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

    def places_of(self, others: "Names") -> Ints:
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
        self._hashes: Ints = np.empty(0, dtype=np.int64)
        self._places: Ints = np.empty(0, dtype=np.int64)
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
