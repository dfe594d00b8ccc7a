"""The log and the texts of items on disk: what big collections hold in place of dictionaries."""

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec
import numpy as np

from trec_cli.core.records import Item
from trec_cli.prepare.collection import Catalogue
from trec_cli.prepare.space import RowTable, Space, Tape

_BATCH = 50_000
_Pairs = tuple[tuple[str, str], ...]
_encode = msgspec.msgpack.Encoder().encode
_decode_pairs = msgspec.msgpack.Decoder(_Pairs).decode
_decode_item = msgspec.msgpack.Decoder(tuple[str, _Pairs]).decode


class EventTable:
    """Events in a table: user, item (as a number), time, rating, number of the row."""

    def __init__(self, space: Space) -> None:
        """Make the table."""
        self._db, self._table = space.database, space.name()
        self._count = 0
        self.items: dict[str, int] = {}
        self._start()
        self._db.execute(
            f"CREATE TABLE {self._table} "
            "(name VARCHAR, item INTEGER, moment DOUBLE, rating FLOAT, number BIGINT)"
        )

    def __len__(self) -> int:
        """Return the number of events."""
        return self._count

    def add(self, user: str, item: str, time: float, rating: float | None) -> None:
        """Append one event."""
        self._user.append(user)
        self._item.append(self.items.setdefault(item, len(self.items)))
        self._time.append(time)
        self._rating.append(math.nan if rating is None else rating)
        self._count += 1
        if len(self._user) == _BATCH:
            self._flush()

    def _start(self) -> None:
        """Start an empty batch."""
        self._user: list[str] = []
        self._item, self._time, self._rating = array("i"), array("d"), array("f")

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._user:
            return
        columns = {
            "name": pa.array(self._user, pa.string()),
            "item": np.frombuffer(self._item, dtype=np.int32),
            "moment": np.frombuffer(self._time, dtype=np.float64),
            "rating": np.frombuffer(self._rating, dtype=np.float32),
            "number": np.arange(self._count - len(self._user), self._count),
        }
        self._db.insert(self._table, columns)
        self._start()

    def set_times(self, times: Iterable[tuple[int, float]]) -> None:
        """Set the times of some events, by their number."""
        import pyarrow as pa

        self._flush()
        number, moment = zip(*times, strict=True)
        known = f"{self._table}_times"
        self._db.execute(f"CREATE TABLE {known} (number BIGINT, moment DOUBLE)")
        columns = {"number": pa.array(number, pa.int64()), "moment": pa.array(moment, pa.float64())}
        self._db.insert(known, columns)
        self._db.execute(
            f"UPDATE {self._table} SET moment = {known}.moment FROM {known} "
            f"WHERE {self._table}.number = {known}.number"
        )

    def by_user(self) -> Iterator[tuple[str, list[tuple[float, int, float]]]]:
        """Yield every user with the (time, item, rating) of all events, in order of time."""
        self._flush()
        query = (
            f"SELECT name, moment, item, rating FROM {self._table} ORDER BY name, moment, number"
        )
        rows = (row for columns in self._db.columns(query) for row in zip(*columns, strict=True))
        for user, events in groupby(rows, key=itemgetter(0)):
            yield user, [row[1:] for row in events]
        self._db.execute(f"DROP TABLE {self._table}")


class TextTable:
    """Texts of items in a table, one row for each row that was read."""

    def __init__(self, space: Space) -> None:
        """Make the table."""
        self._space = space
        self._table = RowTable(space, name=("VARCHAR", "string"), texts=("BLOB", "binary"))

    def add(self, item_id: str, texts: Mapping[str, str]) -> None:
        """Add the texts of an item in one row."""
        self._table.add(item_id, _encode(tuple(texts.items())))

    def rows(self) -> Iterator[tuple[str, list[_Pairs]]]:
        """Yield every item with the texts of all its rows, in order of ids."""
        self._table.flush()
        query = f"SELECT name, texts FROM {self._table.name} ORDER BY name, number"
        found = self._space.database.columns(query)
        rows = (row for columns in found for row in zip(*columns, strict=True))
        for item_id, group in groupby(rows, key=itemgetter(0)):
            yield item_id, [_decode_pairs(texts) for _, texts in group]
        self._table.drop()


class ItemFile:
    """Items in a file, in order of their ids.

    Attributes:
        known: all ids.
        with_text: ids of the items that have any text.
    """

    def __init__(self, space: Space, items: Iterable[tuple[str, _Pairs]]) -> None:
        """Write the items."""
        self.known: dict[str, None] = {}
        self.with_text: set[str] = set()
        self._tape = Tape(space.path(), _encode, _decode_item, self._noted(items))

    def _noted(self, items: Iterable[tuple[str, _Pairs]]) -> Iterator[tuple[str, _Pairs]]:
        for item_id, pairs in items:
            self.known[item_id] = None
            if any(text.strip() for _, text in pairs):
                self.with_text.add(item_id)
            yield item_id, pairs

    def fetch(self, ids: Sequence[str]) -> Iterator[Item]:
        """Yield the items of some sorted ids."""
        wanted = set(ids)
        for item_id, pairs in self._tape:
            if item_id in wanted:
                yield Item(item_id, dict(pairs))

    def catalogue(self, name: str) -> Catalogue:
        """Return the catalogue of these items."""
        return Catalogue(self.with_text, self.fetch, name, self.known)
