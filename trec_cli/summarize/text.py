"""Texts of a model: cleaned, split into sentences and phrases, and read as words.

Which words can be true or false is decided by two lists of English words that need no
support by any item: function words, and *frame words*, with which one says that somebody
likes something.  Both are below, to be read.  Words of other languages all count as content.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from trec_cli.core.text import terms

_BULLET = re.compile(r"\s*\n\s*(?:[-*•]|\d+[.)])\s+")
_PREAMBLE = re.compile(
    r"""^(?:
        (?:sure|certainly|of\ course|okay|ok)[!,.]\s+
      | (?:here(?:'s|\s+is|\s+are)|below\s+is|the\s+following\s+is|this\s+is)\b[^:\n]{0,120}:\s+
      | (?:(?:updated|combined|user)\s+)?(?:preference\s+)?(?:summary|answer)(?:\ is)?\s*:\s*
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def printable(text: str) -> str:
    """Replace every invisible character by a blank."""
    return "".join(c if c.isprintable() or c.isspace() else " " for c in text)


def clean(text: str) -> str:
    """Write the answer on one line and remove what only introduces it.

    A bulleted or numbered list becomes a list with commas.  Control characters, half a
    character at the end (where the length limit cut it) and quotation marks around the whole
    are removed as well.  Whoever reads the summary (the merge prompt, the recommender) can
    then rely on one line.
    """
    rest = printable(text).rstrip("\ufffd").strip()
    while match := _PREAMBLE.match(rest):
        rest = rest[match.end() :]
    rest = _BULLET.sub(", ", "\n" + rest).removeprefix(", ")
    line = " ".join(rest.split())
    if len(line) > 1 and line[0] == line[-1] == '"' and line.count('"') == 2:
        line = line[1:-1].strip()
    return line


FUNCTION_WORDS = frozenset(
    """a about after all also although among an and any are around as at be because been before
    being between both but by can could did do does during each either especially etc even for
    from had has have her hers him his how i if in including into is it its itself just like many
    may might more most much my nor not of off on one ones only onto or other others our out over
    own particularly per rather s same shall she should similar since so some such t than that
    the their theirs them themselves then there these they this those through to too towards
    under up upon us various very via was we well were what when where which while who whom whose
    why will with within without would you your""".split()  # noqa: SIM905 - to be read by people
)
FRAME_WORDS = frozenset(
    """appeal appreciate appreciation article attention attribute brand buy bought category choice
    choose chosen click clicked collection consumer content current customer enjoy enjoyed enjoying
    enjoyment enthusiast fan fond focus focused focusing frequent game genre has history include
    included interest interested interesting item keyword kind known latest liked liking likes long
    love loved lover loving name named new news often old overall past person prefer preference
    preferred product purchase purchased range read reader reading recent recently related seem
    shopper show stories story style summary tend term theme thing title topic type user value
    variety want watch wide word""".split()  # noqa: SIM905 - to be read by people
)
_NAMED = re.compile(r"[^\W_]+")
_CACHED_WORDS = 1 << 16


@lru_cache(_CACHED_WORDS)
def stem(word: str) -> str:
    """Remove the plural ending of an English word: "cats" and "cat", "knives" and "knive" meet.

    The S-stemmer (Harman 1991, "How effective is suffixing?"): of the three rules the first
    whose ending fits is the only one used.
    """
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and len(word) > 1:
        return word[:-1]
    return word


_FREE = frozenset(map(stem, FUNCTION_WORDS | FRAME_WORDS)) | FUNCTION_WORDS | FRAME_WORDS


def is_content(word: str) -> bool:
    """Return whether a (case-folded) word says anything that needs support."""
    return word not in _FREE and stem(word) not in _FREE


def content(text: str) -> list[str]:
    """Return the stems of the content words of a text, in order, repeated ones too."""
    return [stem(word) for word in terms(text) if is_content(word)]


def says(text: str) -> frozenset[str]:
    """Return the stems of what a text says: its content words, or all words if it has none."""
    return frozenset(content(text) or map(stem, terms(text)))


def named(text: str) -> list[str]:
    """Return the stems of names and numbers: content words with a capital or a digit.

    In a list every phrase may begin with a capital, so this is a superset of the named
    entities; what it adds are content words, which need support as well.
    """
    marked = (w for w in _NAMED.findall(text) if w[0].isupper() or any(c.isdigit() for c in w))
    return [word for part in marked for word in content(part)]


def support(texts: Iterable[str]) -> frozenset[str]:
    """Return the stems that texts support: all their words, function words too."""
    return frozenset(stem(word) for text in texts for word in terms(text))


_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_PHRASE = re.compile(r"\s*[,;]\s+|\s*[，、；]\s*")
_PEOPLE = frozenset({"user", "reader", "customer", "consumer", "shopper", "buyer", "viewer"})
_PRONOUNS = frozenset({"he", "she", "they", "their", "his", "her", "this"})
_LEAST_LEFT = 2
_ENDS = ".!?。！？"

Holds = Callable[[str], bool]
"""Returns whether the items support a phrase."""


def sentences(text: str) -> list[str]:
    """Split a text after full stops, question and exclamation marks."""
    return [part for part in _SENTENCE.split(text.strip()) if part]


def split(sentence: str) -> list[str]:
    """Split a sentence at commas and semicolons that a blank follows (not in "1,000")."""
    return [part.strip() for part in _PHRASE.split(sentence) if part and part.strip()]


def phrases(text: str) -> list[str]:
    """Return all phrases of a text."""
    return [part for sentence in sentences(text) for part in split(sentence)]


def cut_back(text: str) -> str:
    """Remove the unfinished end of a text that met the length limit.

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
    """Return whether the first phrase of a sentence is about a person, and so carries the rest."""
    words = terms(pieces[0])
    return bool(words) and (words[0] in _PRONOUNS or not _PEOPLE.isdisjoint(map(stem, words)))


@dataclass(frozen=True, slots=True)
class Grounded:
    """What is left of a text.

    Attributes:
        text: its phrases that have support, once each.
        dropped: phrases without support, or only their beginning has it.
    """

    text: str
    dropped: int = 0


def ground(text: str, holds: Holds) -> Grounded:
    """Keep of a text what ``holds``: phrase by phrase, each once (and none that a longer said).

    A sentence of prose ("The user likes tea, jazz and …") stands and falls with its first
    phrase; in a list every phrase stands alone.  A phrase that does not hold loses words
    from its end as long as two content words are left: "Madden NFL 2031" may become
    "Madden NFL", and "Football 2031" goes.
    """
    kept: list[str] = []
    seen: set[frozenset[str]] = set()
    dropped = 0
    for sentence in sentences(text):
        ending = sentence[-1] if sentence[-1] in _ENDS else ""
        pieces = split(sentence.rstrip(_ENDS))
        prose, held = _is_prose(pieces or [""]), []
        for index, piece in enumerate(pieces):
            opening = prose and index == 0
            true = piece if opening and not content(piece) else _supported(piece, holds)
            mark = says(true)
            known = bool(mark) and any(mark <= other for other in seen)
            dropped += true != piece
            if true and not known:
                held.append(true)
                seen.add(mark)
            elif opening:
                dropped += len(pieces) - 1
                break
        if len(held) > 1 or (held and not (prose and not content(held[0]))):
            kept.append(", ".join(held) + ending)
    return Grounded(" ".join(kept), dropped)


def _supported(phrase: str, holds: Holds) -> str:
    """Return the phrase, or as much of its beginning as holds and says something; else nothing.

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
