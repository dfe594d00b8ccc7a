"""Where a collection waits between reading and writing: in memory, or on disk.

On disk DuckDB sorts (:class:`Database`), within a stated memory and spilling past it; what is
sorted is read back from plain files (:class:`Tape`).  Both ways give the same output.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from trec_cli.core.temporary import no_room
from trec_cli.prepare.collection import Question

Engine = Literal["auto", "memory", "disk"]
DISK_FROM = 256 << 20
"""Bytes of input from which ``auto`` works on disk."""
_MEMORY = "512MB"
"""What DuckDB may hold before it spills."""
_THREADS = 2
_DOING = "keep what was read"
_BATCH = 10_000
_LENGTH = struct.Struct("<I")
_BUFFER = 1 << 20
Key = tuple[int, str, bool, float]
"""What questions are sorted by; equal keys stay in the order in which they came."""
Record = TypeVar("Record")
Shown = TypeVar("Shown", covariant=True)


class Shelf(Protocol[Shown]):
    """Records that are written once and read as often as needed."""

    def __iter__(self) -> Iterator[Shown]:
        """Yield all, in order."""

    def __len__(self) -> int:
        """Return how many there are."""


class Sorted(Shelf[Question], Protocol):
    """Questions that are read in the order of their keys."""

    def add(self, key: Key, question: Question) -> None:
        """Put one on the shelf."""


class Space:
    """Makes shelves: in memory, or in a folder on disk.

    Attributes:
        folder: gives the folder, made when it is first needed; None works in memory.
    """

    def __init__(self, folder: Callable[[], Path] | None = None) -> None:
        """Make nothing yet."""
        self.folder = folder
        self._database: Database | None = None
        self._made = 0

    @property
    def on_disk(self) -> bool:
        """Whether shelves lie on disk."""
        return self.folder is not None

    @property
    def database(self) -> "Database":
        """The database on disk."""
        assert self.folder is not None
        if self._database is None:
            self._database = Database(self.folder())
        return self._database

    def name(self) -> str:
        """Return a new name for a table or a file."""
        self._made += 1
        return f"part_{self._made}"

    def path(self) -> Path:
        """Return where a new file can be written."""
        assert self.folder is not None
        return self.folder() / self.name()

    def keep(self, questions: Iterable[Question]) -> Shelf[Question]:
        """Put questions on a shelf, in their order."""
        if self.folder is None:
            return list(questions)
        return Tape(self.path(), _encode, _decode, questions)

    def sorted(self) -> Sorted:
        """Return an empty shelf that sorts."""
        if self.folder is None:
            return _SortedList()
        return _SortedTable(self)

    def close(self) -> None:
        """Close the database, before its folder is removed."""
        if self._database is not None:
            self._database.close()


class Database:
    """DuckDB on disk, within :data:`_MEMORY`."""

    def __init__(self, folder: Path) -> None:
        """Make a database in a folder."""
        import duckdb

        self._folder, self._error = folder, duckdb.Error
        settings: dict[str, Any] = {
            "memory_limit": _MEMORY,
            "threads": min(_THREADS, os.cpu_count() or 1),
            "temp_directory": str(folder / "spilled"),
        }
        with self._explained():
            self._db = duckdb.connect(str(folder / "work.duckdb"), config=settings)
            # Written and read once: looking for the best compression takes most of the time.
            self.execute("SET force_compression = 'uncompressed'")

    def execute(self, statement: str) -> None:
        """Run a statement without result.

        Raises:
            PartialError: the disk is full.
        """
        with self._explained():
            self._db.execute(statement)

    def insert(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows, given by column, in the order of the table's columns."""
        import pyarrow as pa

        with self._explained():
            self._db.register("batch", pa.table(dict(columns)))
            self._db.execute(f"INSERT INTO {table} SELECT * FROM batch")
            self._db.unregister("batch")

    def columns(self, query: str) -> Iterator[list[list[Any]]]:
        """Yield the columns of a result, batch by batch."""
        with self._explained():
            # A cursor of its own: others write while the result is read.
            for batch in self._db.cursor().sql(query).to_arrow_reader(_BATCH):
                yield [column.to_pylist() for column in batch.columns]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            reason = OSError(str(error).strip().splitlines()[0])
            raise no_room(_DOING, self._folder, reason) from None


class Tape(Generic[Record]):
    """Records one behind the other in a file."""

    def __init__(
        self,
        path: Path,
        encode: Callable[[Record], bytes],
        decode: Callable[[bytes], Record],
        records: Iterable[Record],
    ) -> None:
        """Write the records.

        Raises:
            PartialError: the disk is full.
        """
        self._path, self._decode, self._count = path, decode, 0
        with _written(path) as write:
            for record in records:
                line = encode(record)
                write(_LENGTH.pack(len(line)) + line)
                self._count += 1

    def __iter__(self) -> Iterator[Record]:
        """Read all from the start."""
        size, decode = _LENGTH.size, self._decode
        with self._path.open("rb", buffering=_BUFFER) as stream:
            while head := stream.read(size):
                yield decode(stream.read(_LENGTH.unpack(head)[0]))

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count


@contextmanager
def _written(path: Path) -> Iterator[Callable[[bytes], int]]:
    """Open a file to write; whatever the disk refuses is explained, errors of readers are not."""
    stream = path.open("wb", buffering=_BUFFER)

    def write(data: bytes) -> int:
        try:
            return stream.write(data)
        except OSError as error:
            raise no_room(_DOING, path.parent, error) from None

    try:
        yield write
    finally:
        try:
            stream.close()
        except OSError as error:
            raise no_room(_DOING, path.parent, error) from None


class _SortedList:
    """A shelf in memory."""

    def __init__(self) -> None:
        self._rows: list[tuple[Key, Question]] = []
        self._ordered = True

    def add(self, key: Key, question: Question) -> None:
        self._rows.append((key, question))
        self._ordered = False

    def __iter__(self) -> Iterator[Question]:
        if not self._ordered:
            self._rows.sort(key=itemgetter(0))
            self._ordered = True
        return map(itemgetter(1), self._rows)

    def __len__(self) -> int:
        return len(self._rows)


class RowTable:
    """A table that is filled row by row, and written in batches.

    Rows have a last column ``number``, which counts them: equal keys keep their order.

    Attributes:
        name: of the table.
        count: rows that were added.
    """

    def __init__(self, space: "Space", **columns: tuple[str, str]) -> None:
        """Make the table of columns, each with its type in SQL and in Arrow."""
        self._database, self.name, self.count = space.database, space.name(), 0
        self._columns = {**columns, "number": ("BIGINT", "int64")}
        self._waiting: list[tuple[Any, ...]] = []
        fields = ", ".join(f"{name} {kind}" for name, (kind, _) in self._columns.items())
        self._database.execute(f"CREATE TABLE {self.name} ({fields})")

    def add(self, *values: Any) -> None:
        """Add a row."""
        self._waiting.append((*values, self.count))
        self.count += 1
        if len(self._waiting) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Write the rows that wait."""
        import pyarrow as pa

        if not self._waiting:
            return
        pairs = zip(self._columns.items(), zip(*self._waiting, strict=True), strict=True)
        found = {name: pa.array(v, getattr(pa, kind)()) for (name, (_, kind)), v in pairs}
        self._waiting.clear()
        self._database.insert(self.name, found)

    def drop(self) -> None:
        """Remove the table."""
        self._database.execute(f"DROP TABLE {self.name}")


class _SortedTable:
    """A shelf in the database; sorted once, into a tape."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._table = RowTable(
            space,
            place=("UBIGINT", "uint64"),
            name=("VARCHAR", "string"),
            late=("BOOLEAN", "bool_"),
            moment=("DOUBLE", "float64"),
            record=("BLOB", "binary"),
        )
        self._tape: Tape[Question] | None = None

    def add(self, key: Key, question: Question) -> None:
        place, name, late, moment = key
        self._table.add(place, name, late, float(moment), _encode(question))

    def __iter__(self) -> Iterator[Question]:
        if self._tape is None:
            self._table.flush()
            self._tape = Tape(self._space.path(), bytes, _decode, self._rows())  # type: ignore
            self._table.drop()
        return iter(self._tape)

    def _rows(self) -> Iterator[bytes]:
        query = f"SELECT record FROM {self._table.name} ORDER BY place, name, late, moment, number"
        for (records,) in self._space.database.columns(query):
            yield from records

    def __len__(self) -> int:
        return self._table.count


_Number = int | float
_Stored = tuple[
    str,
    list[str],
    list[str],
    _Number | None,
    list[_Number] | None,
    list[_Number | None] | None,
    list[str] | None,
    str,
    str | None,
    str | None,
    str,
    int | None,
]
"""The fields of a question; whole seconds stay whole numbers, as they will be written."""
_encoder = msgspec.msgpack.Encoder()
_decode_fields = msgspec.msgpack.Decoder(_Stored).decode


def _encode(q: Question) -> bytes:
    fields: Sequence[object] = (
        *(q.user_id, q.history, q.positives, q.timestamp, q.times, q.ratings),
        *(q.offered, q.suffix, q.split, q.part, q.file, q.line),
    )
    return _encoder.encode(fields)


def _decode(line: bytes) -> Question:
    fields: tuple[Any, ...] = _decode_fields(line)
    return Question(*fields)
