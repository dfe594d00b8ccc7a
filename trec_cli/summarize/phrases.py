"""A summary as sentences and phrases: splitting, cutting back, dropping what has no support."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trec_cli.core.text import terms
from trec_cli.summarize.words import content, says, stem

_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_PHRASE = re.compile(r"\s*[,;]\s+|\s*[，、；]\s*")
_PEOPLE = frozenset({"user", "reader", "customer", "consumer", "shopper", "buyer", "viewer"})
_PRONOUNS = frozenset({"he", "she", "they", "their", "his", "her", "this"})
_LEAST_LEFT = 2
_ENDS = ".!?。！？"

Holds = Callable[[str], bool]
"""Tells whether the items support a phrase."""


def sentences(text: str) -> list[str]:
    """Split a text after full stops, question and exclamation marks."""
    return [part for part in _SENTENCE.split(text.strip()) if part]


def split(sentence: str) -> list[str]:
    """Split a sentence at commas and semicolons that a blank follows (not in "1,000")."""
    return [part.strip() for part in _PHRASE.split(sentence) if part and part.strip()]


def phrases(text: str) -> list[str]:
    """Give all phrases of a text."""
    return [part for sentence in sentences(text) for part in split(sentence)]


def cut_back(text: str) -> str:
    """Take away the unfinished end of a text that met the length limit.

    What follows the last full stop goes, or, if that would leave nothing, what follows the
    last comma.  A text of a single phrase loses its last word, which may be half a word.
    """
    parts = sentences(text)
    if not parts or text.rstrip()[-1] in _ENDS:
        return text
    pieces = split(parts[-1])
    if len(parts) > 1 and (len(pieces) == 1 or _is_prose(pieces)):
        return " ".join(parts[:-1])
    if len(pieces) > 1:
        return " ".join([*parts[:-1], ", ".join(pieces[:-1])])
    return " ".join(text.split()[:-1])


def _is_prose(pieces: Sequence[str]) -> bool:
    """Tell whether the first phrase of a sentence speaks of somebody, and so carries the rest."""
    words = terms(pieces[0])
    return bool(words) and (words[0] in _PRONOUNS or not _PEOPLE.isdisjoint(map(stem, words)))


@dataclass(frozen=True, slots=True)
class Grounded:
    """What is left of a text.

    Attributes:
        text: its phrases that have support, once each.
        dropped: phrases without support, or only their beginning has it.
        repeated: phrases that had come before.
    """

    text: str
    dropped: int = 0
    repeated: int = 0


def ground(text: str, holds: Holds) -> Grounded:
    """Keep of a text what ``holds``: phrase by phrase, each once (and none that a longer said).

    A sentence of prose ("The user likes tea, jazz and …") stands and falls with its first
    phrase; in a list every phrase stands alone.  A phrase that does not hold loses words
    from its end as long as two content words are left: "Madden NFL 2031" may become
    "Madden NFL", and "Football 2031" goes.
    """
    kept: list[str] = []
    seen: set[frozenset[str]] = set()
    dropped = repeated = 0
    for sentence in sentences(text):
        ending = sentence[-1] if sentence[-1] in _ENDS else ""
        pieces = split(sentence.rstrip(_ENDS))
        prose, held = _is_prose(pieces or [""]), []
        for place, piece in enumerate(pieces):
            opening = prose and place == 0
            true = piece if opening and not content(piece) else _supported(piece, holds)
            mark = says(true)
            known = bool(mark) and any(mark <= other for other in seen)
            repeated += known
            dropped += true != piece
            if true and not known:
                held.append(true)
                seen.add(mark)
            elif opening:
                dropped += len(pieces) - 1
                break
        if len(held) > 1 or (held and not (prose and not content(held[0]))):
            kept.append(", ".join(held) + ending)
    return Grounded(" ".join(kept), dropped, repeated)


def _supported(phrase: str, holds: Holds) -> str:
    """Give the phrase, or as much of its beginning as holds and says something; else nothing.

    A number alone says nothing about what somebody likes.
    """
    words = phrase.split() if any(map(str.isalpha, phrase)) else []
    for length in range(len(words), 0, -1):
        part = " ".join(words[:length]).rstrip(" -:(") if length < len(words) else phrase
        if length < len(words) and len(content(part)) < _LEAST_LEFT:
            break
        if holds(part):
            return part
    return ""
