"""Reading compressed files no further than is sensible: archives can hold bombs.

A compressed file may expand to a hundred times its size, and to 256 MiB in any case.
``TREC_MAX_UNPACKED`` is another limit in bytes, for those who know their file.
"""

import io
import os
from typing import BinaryIO

from trec_cli.core.errors import InputError, UsageError

LIMIT_VARIABLE = "TREC_MAX_UNPACKED"
_RATIO = 100
_ALWAYS = 256 << 20


def unpacked_limit(compressed: int) -> int:
    """Return how many bytes a file of ``compressed`` bytes may expand to.

    Raises:
        UsageError: the environment asks for something that is no number.
    """
    asked = os.environ.get(LIMIT_VARIABLE)
    if asked is None:
        return max(_ALWAYS, _RATIO * compressed)
    if not asked.isdecimal():
        raise UsageError(f"{LIMIT_VARIABLE}={asked}: write a number of bytes")
    return int(asked)


class Bounded(io.RawIOBase):
    """A stream that ends with an error once it has given more than ``limit`` bytes."""

    def __init__(self, stream: BinaryIO, limit: int, file: object) -> None:
        """Take the unpacking stream, and the file's name for the message."""
        self._stream, self._limit, self._left, self._file = stream, limit, limit, file

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into ``buffer``.

        Raises:
            InputError: the limit is passed.
        """
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._left -= len(chunk)
        if self._left < 0:
            raise InputError.of(
                self._file,
                f"expands to more than {self._limit:,} bytes, the limit for a file of its size",
                f"if it is what you expect, set {LIMIT_VARIABLE} to the bytes it may expand to",
            )
        return len(chunk)

    def close(self) -> None:
        """Close the stream below, too."""
        self._stream.close()
        super().close()


def bounded(stream: BinaryIO, compressed: int, file: object) -> BinaryIO:
    """Limit what an unpacking stream gives, for a file of ``compressed`` bytes."""
    raw = Bounded(stream, unpacked_limit(compressed), file)
    return io.BufferedReader(raw, 1 << 18)
