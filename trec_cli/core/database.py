"""What is kept by content, in SQLite: looked up many at a time, safe for parallel writers.

One file holds everything that a model has made for a run: texts
(:class:`~trec_cli.summarize.engine.Store`) and vectors
(:class:`~trec_cli.models.vector_store.VectorStore`), each under a hash of all that decides it.
Several processes may read and write it at once (WAL).  It is also how a killed run continues.
"""

import errno
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import msgspec

from trec_cli.core.errors import InputError, OutputFailed, PartialError

IN_MEMORY = Path(":memory:")
Value = TypeVar("Value")
_VERSION = 1
_KEY_BYTES = 16
_AT_ONCE = 500
"""Keys of one query; SQLite allows 999 in every build."""
_WAIT_SECONDS = 60
_TYPES: Mapping[str, type] = {"TEXT": str, "INTEGER": int, "BLOB": bytes}
_TABLES = """
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, {columns}) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS plans (signature BLOB PRIMARY KEY, missing BLOB NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
COMMIT;
"""


class ContentKeys:
    """Makes the keys of what one model makes; its identity is part of each."""

    def __init__(self, identity: Mapping[str, Any]) -> None:
        """Take what decides all that the model makes, as plain JSON values."""
        body = msgspec.json.encode(dict(identity), order="sorted")
        self._start = hashlib.blake2b(body, digest_size=_KEY_BYTES)

    def of(self, content: bytes) -> bytes:
        """Hash what the model is given together with its identity."""
        digest = self._start.copy()
        digest.update(content)
        return digest.digest()


class ContentStore(Generic[Value]):
    """Values of one table by key.  Use as a context manager.

    A subclass names the table and its columns (the key stands before them), and turns a
    value into a row and back.

    Raises:
        InputError: the file is damaged, or is no store.
        OutputFailed: the file cannot be opened or written, or the disk is full.
        PartialError: another process keeps it locked for a minute.
    """

    table: ClassVar[str]
    columns: ClassVar[Mapping[str, str]]

    def _to_row(self, value: Value) -> tuple[Any, ...]:
        raise NotImplementedError

    def _from_row(self, *row: Any) -> Value:
        raise NotImplementedError

    def __init__(self, path: Path) -> None:
        """Open or make the store; ``IN_MEMORY`` keeps it for this process only."""
        self._path = path
        with self._explained():
            if path != IN_MEMORY:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None)
            self._prepare()

    def _prepare(self) -> None:
        # One statement sees one state, also while another process makes the tables.
        version, tables, own = self._db.execute(
            "SELECT user_version, (SELECT count(*) FROM sqlite_master), "
            "(SELECT count(*) FROM sqlite_master WHERE name = ?) FROM pragma_user_version",
            (self.table,),
        ).fetchone()
        if version > _VERSION or (tables and version == 0):
            self._db.close()
            raise InputError.of(
                self._path, "is a database, but no store of this version", "name another --store"
            )
        # WAL lets others read while one writes; NORMAL may lose the last commits in a power
        # cut (not in a crash), which costs work and never a wrong text.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        if version < _VERSION or not own:
            columns = ", ".join(f"{name} {kind}" for name, kind in self.columns.items())
            self._db.executescript(_TABLES.format(table=self.table, columns=columns))

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file; what was put is kept."""
        self._db.close()

    def get(self, keys: Iterable[bytes]) -> dict[bytes, Value]:
        """Look up many keys; those that are not there are left out."""
        wanted = list(keys)
        found: dict[bytes, Value] = {}
        columns = ", ".join(["key", *self.columns])
        with self._explained():
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = self._db.execute(
                    f"SELECT {columns} FROM {self.table} WHERE key IN ({marks})", some
                )
                for key, *row in rows:
                    found[key] = self._read(row)
        return found

    def _read(self, row: Sequence[Any]) -> Value:
        self._check(row)
        try:
            return self._from_row(*row)
        except ValueError as error:
            raise sqlite3.DatabaseError(f"{self.table}: {error}") from None

    def _check(self, row: Sequence[Any]) -> None:
        """Refuse values of another type than their column has: SQLite itself takes any.

        Raises:
            sqlite3.DatabaseError: naming the column.
        """
        for (name, kind), value in zip(self.columns.items(), row, strict=True):
            if not isinstance(value, _TYPES[kind.split()[0]]):
                raise sqlite3.DatabaseError(f"{self.table}.{name} holds no {kind.split()[0]}")

    def put(self, made: Mapping[bytes, Value]) -> None:
        """Keep a batch, whole or not at all; what is there already stays."""
        rows = [(key, *self._to_row(value)) for key, value in made.items()]
        marks = ", ".join("?" * (1 + len(self.columns)))
        with self._explained(), self._transaction():
            self._db.executemany(f"INSERT OR IGNORE INTO {self.table} VALUES ({marks})", rows)

    def absorb(self, other: Path) -> None:
        """Take over all that another store holds; what is here already stays.

        Raises:
            InputError: the other is damaged, or no such store.
        """
        columns = ", ".join(["key", *self.columns])
        taken = f"INSERT OR IGNORE INTO {self.table} SELECT {columns} FROM other.{self.table}"
        with self._explained():
            try:
                self._db.execute("ATTACH DATABASE ? AS other", (str(other),))
                self._db.execute(taken)
            except sqlite3.OperationalError:
                raise  # of this store: locked, or the disk is full
            except sqlite3.DatabaseError as error:
                fix = "remove it: its texts are in no other store"
                raise InputError.of(other, f"is damaged or not a store ({error})", fix) from None
            finally:
                with suppress(sqlite3.Error):  # nothing to let go of where it was no database
                    self._db.execute("DETACH DATABASE other")

    def begin(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the keys that were missing when this very list was first begun.

        Which prompts share a batch can change the last bits of what a model computes, and
        so, rarely, a word.  A killed run must therefore form the same batches when it
        continues, although part of them is in the store by then: the missing keys are
        written down at the start and forgotten by :meth:`finish`.
        """
        with self._explained(), self._transaction():
            signature = _signature(keys)
            row = self._db.execute(
                "SELECT missing FROM plans WHERE signature = ?", (signature,)
            ).fetchone()
            if row and isinstance(row[0], bytes):
                return _split(row[0])
            found = self.get(keys)
            missing = [key for key in keys if key not in found]
            if missing:
                self._db.execute("INSERT INTO plans VALUES (?, ?)", (signature, b"".join(missing)))
            return missing

    def finish(self, keys: Sequence[bytes]) -> None:
        """Forget the plan of a list that is complete."""
        with self._explained(), self._transaction():
            self._db.execute("DELETE FROM plans WHERE signature = ?", (_signature(keys),))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.rollback()
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except OSError as error:
            raise OutputFailed(self._path, error) from None
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.DatabaseError) -> Exception:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return PartialError(
                f"the store {self._path} is locked by another process; run the command again later"
            )
        reasons = {
            sqlite3.SQLITE_FULL: errno.ENOSPC,
            sqlite3.SQLITE_CANTOPEN: errno.ENOENT,
            sqlite3.SQLITE_READONLY: errno.EROFS,
            sqlite3.SQLITE_PERM: errno.EACCES,
            sqlite3.SQLITE_IOERR: errno.EIO,
        }
        if code in reasons:
            number = reasons[code]
            return OutputFailed(self._path, OSError(number, os.strerror(number)))
        return InputError.of(
            self._path,
            f"is damaged or not a store ({error})",
            "move it away, with its -wal and -shm files, and run again: texts that are missing are "
            "made again. sqlite3 OLD .recover | sqlite3 NEW may save most of them; name the new "
            "file with --store",
        )


def _signature(keys: Sequence[bytes]) -> bytes:
    return hashlib.blake2b(b"".join(keys), digest_size=_KEY_BYTES).digest()


def _split(blob: bytes) -> list[bytes]:
    return [blob[at : at + _KEY_BYTES] for at in range(0, len(blob), _KEY_BYTES)]
