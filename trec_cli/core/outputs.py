"""Writing outputs: whole or not at all, one writer at a time, resumable where it is long.

* :func:`write_lines` writes a temporary file beside the target and renames it.
* :class:`Journal` is for stages that take hours: finished batches are appended to
  ``.NAME.partial`` and survive ``kill -9``; the output has its records in input order.  The
  journal's first line holds the settings, so that a run with other settings never mixes
  with it.
"""

import os
import sys
import weakref
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout
from msgspec import UNSET

from trec_cli.core.changes import Change
from trec_cli.core.errors import InputError, OutputFailed, OutputLocked, SettingsChanged, UsageError
from trec_cli.core.json_file import UNREADABLE, decode_json
from trec_cli.core.jsonl import encode, is_stream
from trec_cli.core.names import Places
from trec_cli.core.processes import is_running

Settings = Mapping[str, Any]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of an output; the system frees it even after ``kill -9``.

    Raises:
        OutputLocked: another process holds it.
        OutputFailed: the folder cannot be made or written.
        UsageError: there is a file in the folder's place.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
    _make_folder(path)
    try:
        lock.acquire()
    except Timeout:
        raise OutputLocked(path) from None
    except OSError as error:
        # On a read-only folder finished work is still finished; whatever writes fails clearly.
        if not path.exists():
            raise OutputFailed(path, error) from None
    try:
        yield
    finally:
        lock.release()


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{path.parent} is a file, not a folder: choose another --out") from None
    except OSError as error:
        raise OutputFailed(path, error) from None


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` at the end, or vanishes on any error.

    Raises:
        OutputFailed: the system refuses to write or to rename.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _make_folder(path)
    _remove_leftovers(path)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputFailed(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files of ``path`` whose writer was killed.

    Two dots stand before those that earlier versions wrote beside another temporary file.
    """
    for prefix in (f".{path.name}.", f"..{path.name}."):
        for file in path.parent.glob(f"{escape(prefix)}*.tmp"):
            pid = file.name.removeprefix(prefix).split(".", 1)[0]
            if pid.isdecimal() and not is_running(int(pid)):
                file.unlink(missing_ok=True)


def write_bytes(path: Path, chunks: Iterable[bytes]) -> None:
    """Write ``chunks`` to ``path``, whole or not at all, flushed to the disk.

    Raises:
        OutputFailed: it cannot be written.
    """
    with atomic(path) as temporary:
        fill(temporary, chunks)


def fill(temporary: Path, chunks: Iterable[bytes]) -> None:
    """Write the file that :func:`atomic` puts into place, flushed to the disk."""
    with temporary.open("wb") as stream:
        stream.writelines(chunks)
        stream.flush()
        os.fsync(stream.fileno())


def write_lines(path: Path | str, lines: Iterable[bytes]) -> None:
    """Write encoded lines to a file (whole or not at all) or to standard output.

    Raises:
        OutputFailed: they cannot be written.
        BrokenPipeError: who reads standard output has left.
    """
    if not is_stream(path):
        write_bytes(Path(path), lines)
        return
    try:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        raise OutputFailed("standard output", error) from None


def discard_stdout() -> None:
    """Send what standard output still holds nowhere, so that leaving does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain_settings(settings: Settings) -> dict[str, Any]:
    """Return settings as they will be read back from JSON (a tuple becomes a list)."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(settings)))
    return plain


def changed_settings(
    old: Settings,
    new: Settings,
    inputs: Sequence[str] = (),
    words: tuple[str, str] = ("before", "now"),
) -> list[Change | str]:
    """Name the settings that differ, each with its old and new value.

    ``inputs`` are the names of the old input files; their hashes would tell nobody anything.
    ``words`` say of old and new which is which.
    """
    return [
        _changed_inputs(old[name], new[name], inputs, words)
        if name == "inputs" and name in old and name in new
        else change
        for name in sorted(old.keys() | new.keys())
        for change in _changes(name, old.get(name, UNSET), new.get(name, UNSET), words)
    ]


def _changes(name: str, old: Any, new: Any, words: tuple[str, str]) -> Iterator[Change]:
    """Yield what differs in one setting: of a table of settings, those within it."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for inner in sorted(old.keys() | new.keys()):
            both = old.get(inner, UNSET), new.get(inner, UNSET)
            yield from _changes(f"{name}.{inner}", *both, words)
    elif (None if old is UNSET else old) != (None if new is UNSET else new):
        yield Change(name, old, new, words)


def _changed_inputs(
    old: Sequence[str], new: Sequence[str], names: Sequence[str], words: tuple[str, str]
) -> str:
    """Name the input files that hold something else, by name where the numbers agree."""
    if len(old) != len(new):
        return f"inputs: {len(old)} files {words[0]}, {len(new)} {words[1]}"
    indices = [index for index, (was, now) in enumerate(zip(old, new, strict=True)) if was != now]
    told = [Path(names[n]).name if len(names) == len(old) else f"file {n + 1}" for n in indices]
    return f"inputs: other content {words[1]} in {', '.join(told)}"


_FIX = "remove it, or give --overwrite"
_CHUNK = 1 << 13


class _Record(msgspec.Struct):
    """All that a journal knows of a line: whose record it is, or how long a batch took."""

    example_id: str = ""
    seconds: float = 0.0


_decode_record = msgspec.json.Decoder(_Record).decode


class _Lines(Mapping[str, bytes]):
    """Encoded records in a journal by id; only their places are in memory."""

    def __init__(self, file: Path) -> None:
        self._file, self._places = file, Places()
        self._starts = array("q")
        self._reader: int | None = None

    def add(self, name: str, start: int) -> None:
        """Note where the line of a record starts; it takes the place of an earlier one."""
        self._places.add(name, start)
        self._starts.append(start)

    def _read(self, start: int) -> bytes:
        """Read the line that starts at a place."""
        if self._reader is None:
            self._reader = os.open(self._file, os.O_RDONLY)
            weakref.finalize(self, os.close, self._reader)
        line = b""
        while (end := line.find(b"\n")) < 0:
            more = os.pread(self._reader, _CHUNK, start + len(line))
            if not more:
                return line
            line += more
        return line[: end + 1]

    def _find(self, name: str) -> bytes | None:
        lines = map(self._read, self._places.maybe(name))
        return next((line for line in lines if _decode_record(line).example_id == name), None)

    def __getitem__(self, name: str) -> bytes:
        line = self._find(name)
        if line is None:
            raise KeyError(name)
        return line

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        names = (_decode_record(self._read(start)).example_id for start in self._starts)
        return iter(dict.fromkeys(names))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Journal:
    """Finished records of an unfinished output, kept batch by batch.

    Use inside :func:`locked`.  ``records`` holds what earlier runs finished, as encoded
    lines by id; a line that was cut off or garbled by a crash is dropped.  A batch is written with
    one call, so whoever plans the same batches again sees each either whole or partial,
    and redoes the partial ones: the final bytes are those of an undisturbed run.

    Attributes:
        records: encoded lines by id.
        seconds: that earlier runs have spent on them.
    """

    def __init__(self, path: Path, settings: Settings, *, overwrite: bool = False) -> None:
        """Open or continue the journal of ``path``.

        With ``overwrite`` a journal of other settings is thrown away; one of these settings
        is continued all the same: it is what a killed run with ``overwrite`` had finished.

        Raises:
            SettingsChanged: a journal with other settings holds finished records, and not
                ``overwrite``.
        """
        self.path = path
        self.file = partial_path(path)
        self.settings = plain_settings(settings)
        self.records = _Lines(self.file)
        self.seconds = 0.0
        try:
            self._load()
        except (SettingsChanged, InputError):
            if not overwrite:
                raise
            self._start()

    def _load(self) -> None:
        if self.file.is_dir():
            raise InputError.of(self.file, "is a folder where a stopped run's work should be", _FIX)
        if not self.file.exists():
            self._start()
            return
        with self.file.open("rb") as stream:
            header = stream.readline()
            if not header.endswith(b"\n"):
                self._start()
                return
            changed = changed_settings(self._settings_of(header), self.settings)
            end = len(header)
            for line in stream:
                if not line.endswith(b"\n"):  # cut off
                    break
                if changed:
                    raise SettingsChanged(self.path, changed)
                # What a crash of the machine garbled is dropped, too, and done again.
                with suppress(*UNREADABLE):
                    found = _decode_record(line)
                    self.seconds += found.seconds
                    if found.example_id:
                        self.records.add(found.example_id, end)
                end += len(line)
        if changed:  # a run that failed before its first batch left nothing to lose
            self._start()
        elif end < self.file.stat().st_size:
            with self.file.open("r+b") as stream:
                stream.truncate(end)

    def _settings_of(self, header: bytes) -> Settings:
        try:
            return decode_json(header, dict[str, dict[str, Any]])["settings"]
        except (msgspec.MsgspecError, KeyError):
            raise InputError.of(self.file, "is not what a stopped run left", _FIX, 1) from None

    def _start(self) -> None:
        self.records = _Lines(self.file)
        write_bytes(self.file, [encode({"settings": self.settings})])

    def has(self, ids: Iterable[str]) -> bool:
        """Return whether a whole batch is finished."""
        return all(identifier in self.records for identifier in ids)

    def append(self, records: Sequence[tuple[str, bytes]], seconds: float = 0.0) -> None:
        """Add a finished batch of (id, encoded line) and flush it to the disk.

        ``seconds`` that it took are kept for whoever continues.

        Raises:
            OutputFailed: the journal cannot be written.
        """
        spent = encode({"seconds": round(seconds, 3)}) if seconds else b""
        try:
            with self.file.open("ab") as stream:
                end = stream.tell()
                stream.write(b"".join([*(line for _, line in records), spent]))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputFailed(self.path, error) from None
        for name, line in records:
            self.records.add(name, end)
            end += len(line)

    def discard(self) -> None:
        """Remove the journal, once the output has its manifest."""
        self.file.unlink(missing_ok=True)


def discard_leftover(path: Path, settings: Settings) -> None:
    """Remove the journal of a run that was killed when its output was finished already.

    What a run with other settings has left stays, and so does everything on a disk that
    cannot be written.
    """
    with suppress(OSError, SettingsChanged, InputError):
        if partial_path(path).exists():
            Journal(path, settings).discard()


def partial_path(path: Path) -> Path:
    """Name where unfinished work on an output lies."""
    return path.with_name(f".{path.name}.partial")
