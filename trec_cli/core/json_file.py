"""Reading one JSON value, as small files hold it: every fault of it is one kind of error."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON of a type, or are nested beyond all measure."""


def decode_json(content: bytes | str, kind: type[T]) -> T:
    """Decode one JSON value of a type.

    Raises:
        msgspec.DecodeError: it is no JSON, no UTF-8, of another type, nested too deeply, or
            has an object with a key twice, of which the last would win in silence.
    """
    try:
        value = msgspec.json.decode(content, type=kind)
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is not UTF-8 text ({error.reason})") from None
    if twice := key_twice(content):
        raise msgspec.DecodeError(f"it has the key {twice!r} twice")
    return value


def read_json(path: Path, kind: type[T]) -> T:
    """Read a file that holds one JSON value of a type.

    Raises:
        msgspec.DecodeError: see :func:`decode_json`.
        OSError: it cannot be read.
    """
    return decode_json(path.read_bytes(), kind)


def key_twice(content: bytes | str) -> str:
    """Return a key that an object has twice; empty where there is none, or no JSON."""
    twice = ""

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal twice
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)

    with suppress(ValueError, RecursionError):
        json.loads(content, object_pairs_hook=look)
    return twice
