"""Unnamed temporary files, which vanish with the process, and bytes that are put into one."""

import os
import tempfile
import weakref
from pathlib import Path
from typing import cast

from trec_cli.core.errors import PartialError
from trec_cli.core.temporary import no_room

_WRITTEN = 1 << 20


class Spool:
    """Bytes one behind the other: in memory while they are few, then in a temporary file."""

    def __init__(self) -> None:
        """Start without bytes."""
        self._waiting = bytearray()
        self._written = 0
        self._file: int | None = None

    def __len__(self) -> int:
        """Return how many bytes there are."""
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
            self._file = unnamed_file()
            weakref.finalize(self, os.close, self._file)
        try:
            while self._waiting:
                count = os.write(self._file, self._waiting)
                self._written += count
                del self._waiting[:count]
        except OSError as error:
            raise no_temporary_room(error) from None

    def read(self, start: int, size: int) -> bytes:
        """Return some of the bytes."""
        if start >= self._written:
            start -= self._written
            return bytes(self._waiting[start : start + size])
        if start + size > self._written:
            self._flush()
        return os.pread(cast(int, self._file), size, start)


def unnamed_file() -> int:
    """Open a temporary file that has no name any more.

    Returns:
        Its descriptor, for the caller to close.

    Raises:
        PartialError: there is no folder for temporary files.
    """
    try:
        file, name = tempfile.mkstemp(prefix="trec-")
    except OSError as error:
        raise no_temporary_room(error) from None
    Path(name).unlink()
    return file


def no_temporary_room(error: OSError) -> PartialError:
    """Build the error of a temporary file that cannot be made or written."""
    return no_room("keep what was read", Path(tempfile.gettempdir()), error)
