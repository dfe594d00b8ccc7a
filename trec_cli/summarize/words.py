"""Words of a text, as far as they can be true or false: content words and their stems.

Two lists of English words need no support by any item: function words, and *frame words*,
with which one says that somebody likes something.  Both are below, to be read.  Words of
other languages all count as content.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from trec_cli.core.text import terms

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
    """Take the plural from an English word, so that "knives" and "knive", "cats" and "cat" meet.

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
    """Tell whether a (case-folded) word says anything that needs support."""
    return word not in _FREE and stem(word) not in _FREE


def content(text: str) -> list[str]:
    """Give the stems of the content words of a text, in order, repeated ones too."""
    return [stem(word) for word in terms(text) if is_content(word)]


def says(text: str) -> frozenset[str]:
    """Give the stems of what a text says: its content words, or all words if it has none."""
    return frozenset(content(text) or map(stem, terms(text)))


def named(text: str) -> list[str]:
    """Give the stems of names and numbers: content words with a capital or a digit.

    In a list every phrase may begin with a capital, so this is a superset of the named
    entities; what it adds are content words, which need support as well.
    """
    marked = (w for w in _NAMED.findall(text) if w[0].isupper() or any(c.isdigit() for c in w))
    return [word for part in marked for word in content(part)]


def support(texts: Iterable[str]) -> frozenset[str]:
    """Give the stems that texts support: all their words, function words too."""
    return frozenset(stem(word) for text in texts for word in terms(text))
