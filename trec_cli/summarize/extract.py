"""The deterministic summary: from the items alone, when no text of the model will do."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest

from trec_cli.records import Item
from trec_cli.summarize.domains import FACETS
from trec_cli.summarize.phrases import phrases
from trec_cli.summarize.quality import facet
from trec_cli.summarize.source import Source
from trec_cli.summarize.words import content, says

CountTokens = Callable[[str], int]
_TITLE_END = re.compile(r"\s*(?:[,;(\[|]|\s-\s|:\s)")
_LEAST_WORDS = 2


def extract(source: Source, budget: int, count: CountTokens) -> str:
    """Write a summary of at most ``budget`` tokens without a model.

    What there is to say comes in this order, each phrase once, as long as it fits: of
    summaries that were to be merged or updated, their phrases in turn, the newest summary
    first; of items, their categories or brands by frequency (the newer first where equal)
    and the titles, each up to its first comma, dash, colon or bracket, the newest first.
    """
    lists = [phrases(summary) for summary in reversed(source.summaries)]
    if source.shown:
        lists = [list(_of_items(source.shown)), *lists]
    return ", ".join(_fitting(_in_turn(lists), budget, count))


def _of_items(items: Sequence[Item]) -> Iterator[str]:
    newest = list(reversed(items))
    kinds = Counter(value for item in newest if (value := facet(item, FACETS)))
    yield from (value for value, _ in kinds.most_common())
    yield from (short_title(item.title) or item.text() for item in newest)


def short_title(title: str) -> str:
    """Give a title up to its first comma, dash, colon or bracket, if two words stand there."""
    title = " ".join(title.split())
    for match in _TITLE_END.finditer(title):
        if len(content(title[: match.start()])) >= _LEAST_WORDS:
            return title[: match.start()]
    return title


def _in_turn(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    """Give the first of each list, the second of each, …"""
    for row in zip_longest(*lists):
        yield from (phrase for phrase in row if phrase)


def _fitting(wanted: Iterable[str], budget: int, count: CountTokens) -> list[str]:
    """Take phrases that fit and say something new; a first one that is too long is cut."""
    kept: list[str] = []
    seen: set[frozenset[str]] = set()
    longest = ""
    for raw in wanted:
        phrase = raw.strip(" .")
        mark = says(phrase)
        if mark in seen:
            continue
        longest = longest or phrase
        if count(", ".join([*kept, phrase])) <= budget:
            kept.append(phrase)
            seen.add(mark)
    return kept or _cut(longest, budget, count)


def _cut(phrase: str, budget: int, count: CountTokens) -> list[str]:
    """Cut a phrase at a word, or inside its only word."""
    words = phrase.split()
    while len(words) > 1 and count(" ".join(words)) > budget:
        words.pop()
    text = " ".join(words)
    while text and count(text) > budget:
        text = text[:-1]
    return [text] if text else []
