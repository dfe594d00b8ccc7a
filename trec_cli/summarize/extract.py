"""The deterministic summary: from the items alone, when no text of the model will do."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest

from trec_cli.core.records import Item
from trec_cli.summarize.prompts import SourceTexts
from trec_cli.summarize.quality import FACETS, facet
from trec_cli.summarize.text import content, phrases, printable, says, support

CountTokens = Callable[[str], int]
_TITLE_END = re.compile(r"\s*(?:[,;(\[|]|\s-\s|:\s)")
_TITLE_PARTS = re.compile(r"\s*(?:[,;()\[\]|]|\s-\s|:\s)\s*")
_LEAST_WORDS = 2
_FIRST_KINDS = 4
"""Kinds that stand before the titles; the others come last."""
_TITLE_SHARE = 3
"""A title is named whole where it takes at most one part in so many of the budget."""
_ENDS = (".", "!", "?")
Wanted = tuple[str, bool]
"""A phrase, and whether it is a title."""


def extract(source: SourceTexts, budget: int, count: CountTokens) -> str:
    """Write a summary of at most ``budget`` tokens without a model: extend nothing."""
    return extend("", source, budget, count)


def extend(text: str, source: SourceTexts, budget: int, count: CountTokens) -> str:
    """Add to a text what it leaves out, as long as ``budget`` tokens allow.

    What there is to say comes in this order: the first kinds of the items, then in turn a
    title, and of every summary that was to be merged or updated a phrase, the newest first.
    Kinds are categories or brands by frequency (the newer first where equal); where there
    are none, what several titles have in common: a series, a platform.

    A title is left out where the text has half of its words, any other phrase where all its
    words have been said.  Titles that hold a comma, or would take more than a third of the
    budget, end at their first comma, dash, colon or bracket.
    """
    named = kinds(source.items)
    titles = [(_name(item, budget, count), True) for item in reversed(source.items)]
    rest = [(kind, False) for kind in named[_FIRST_KINDS:]]
    lists = [[(phrase, False) for phrase in phrases(s)] for s in reversed(source.summaries)]
    first = [(kind, False) for kind in named[:_FIRST_KINDS]]
    offered = [*first, *_in_turn([[*titles, *rest], *lists])]
    added = _fitting(text, offered, budget, count)
    if not added:
        return text
    end = text.rstrip()[-1:]
    separator = " " if end in _ENDS else ", "
    return separator.join([text, ", ".join(added)]) if text else ", ".join(added)


def _name(item: Item, budget: int, count: CountTokens) -> str:
    """Return the title, or what of it is short enough to stand in a list."""
    title = item.title or item.text()
    whole = len(phrases(title)) == 1 and count(title) * _TITLE_SHARE <= budget
    return title if whole else short_title(title)


def kinds(items: Sequence[Item]) -> list[str]:
    """Return the categories or brands of items, or else what several titles have in common.

    Args:
        items: oldest first.
    """
    found = Counter(value for item in reversed(items) if (value := facet(item, FACETS)))
    return [kind for kind, _ in found.most_common()] or shared_parts(items)


def shared_parts(items: Sequence[Item]) -> list[str]:
    """Return the parts of titles that several items have in common.

    Parts are what commas, dashes, colons and brackets divide ("Halo 3 - Xbox 360").  Those
    of most items come first, of equals the newer.

    Args:
        items: oldest first.
    """
    written: dict[frozenset[str], str] = {}
    found: Counter[frozenset[str]] = Counter()
    for item in reversed(items):
        own = {says(part): part for part in _TITLE_PARTS.split(item.title) if says(part)}
        written = {**own, **written}
        found.update(own.keys())
    return [written[words] for words, count in found.most_common() if count > 1]


def short_title(title: str) -> str:
    """Return a title up to its first comma, dash, colon or bracket, if two words stand there."""
    title = " ".join(title.split())
    for match in _TITLE_END.finditer(title):
        if len(content(title[: match.start()])) >= _LEAST_WORDS:
            return title[: match.start()]
    return title


def _in_turn(lists: Sequence[Sequence[Wanted]]) -> Iterator[Wanted]:
    """Return the first of each list, the second of each, …"""
    for row in zip_longest(*lists):
        yield from (wanted for wanted in row if wanted)


def _fitting(text: str, offered: Iterable[Wanted], budget: int, count: CountTokens) -> list[str]:
    """Choose phrases that fit behind a text and say something new.

    Where there is no text and nothing fits, the first phrase is cut.
    """
    kept: list[str] = []
    written, said = says(text) if text else frozenset(), set(support([text]))
    longest = ""
    for raw, is_title in offered:
        phrase = " ".join(printable(raw).split()).strip(" .")
        words = says(phrase)
        if words <= said or (is_title and 2 * len(words & written) >= len(words)):
            continue
        longest = longest or phrase
        if count(", ".join([text, *kept, phrase] if text else [*kept, phrase])) <= budget:
            kept.append(phrase)
            said |= words
    return kept or ([] if text else _cut(longest, budget, count))


def _cut(phrase: str, budget: int, count: CountTokens) -> list[str]:
    """Cut a phrase at a word, or inside its only word."""
    words = phrase.split()
    while len(words) > 1 and count(" ".join(words)) > budget:
        words.pop()
    text = " ".join(words)
    while text and count(text) > budget:
        text = text[:-1]
    return [text] if text else []
