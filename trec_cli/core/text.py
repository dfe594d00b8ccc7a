"""Text as terms, the one way in which all of trec splits words, and text for people."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET

# Scripts written without blanks give one term per character, all others one per word.
_TERM = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")

_FIRST_PRINTABLE = 0x20
_CONTROL_PICTURES = 0x2400
"""Unicode has a picture of each of the 32 control characters from here on."""


def terms(text: str) -> list[str]:
    """Split text into terms: NFKC, case folded, punctuation dropped."""
    return _TERM.findall(unicodedata.normalize("NFKC", text).casefold())


def printable(text: str) -> str:
    """Replace every control character but line breaks and tabs by a visible stand-in.

    Item texts, names of files and answers of servers may hold terminal escape sequences
    (clear the screen, write the clipboard); shown as they are, they would be obeyed.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _stand_in(c) for c in text)


def _stand_in(character: str) -> str:
    """Return the Unicode picture of a control character (␛ for ESC), else U+FFFD or a blank."""
    if ord(character) < _FIRST_PRINTABLE:
        return chr(_CONTROL_PICTURES + ord(character))
    return " " if character.isspace() else "\ufffd"


def counted(number: int, one: str, many: str = "") -> str:
    """Write a count for people: ``1 user``, ``1,500 users``.

    ``many`` is for what an s alone does not make of one: ``1 example has``, ``2 examples have``.
    """
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def named(names: Sequence[str], most: int = 3) -> str:
    """Name the first few of many: ``a, b, c and 1,497 more``."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def listed(names: Iterable[str]) -> str:
    """Write names as in a sentence: ``prepare, summarize and train``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


NOT_GIVEN = "not given"
"""What a setting is that nobody has given; ``none`` is a value of some."""


def setting_text(value: Any) -> str:
    """Write a setting for people: nothing is ``not given``, a list is its parts."""
    if isinstance(value, list):
        return ", ".join(map(setting_text, value)) or NOT_GIVEN
    if isinstance(value, Mapping):
        parts = (f"{name} {setting_text(inner)}" for name, inner in value.items())
        return ", ".join(parts) or NOT_GIVEN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NOT_GIVEN if value is None or value is UNSET else str(value)
