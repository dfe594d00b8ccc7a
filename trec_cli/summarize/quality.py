"""What can be measured of a summary without a judge: is it true, whole, and of use?

All measures compare with the items that the summary is about, never with other texts of
a model, so that an invention is not supported by having been invented before.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trec_cli.core.records import Item, Summary
from trec_cli.core.text import terms
from trec_cli.summarize.text import content, named, phrases, says, stem, support

FACETS = ("subcategory", "category", "genre", "section", "brand", "manufacturer", "author")
"""Attributes that hold what kind an item is, the finest first."""
NGRAM = 3
"""Words of a sequence that counts as repeated when it comes again."""
_ECHO_WORDS = 5


@dataclass(frozen=True, slots=True)
class Measures:
    """Counts of one text; sums over texts are counts again, so shares are of all words.

    Attributes:
        texts: 1 (more in sums).
        words: all words; ``content`` and ``named`` of these need support.
        content, content_found: content words, and those that stand in some item.
        named, named_found: of these names and numbers, likewise.
        phrases, phrases_found: parts between commas, and those whose content words all
            stand in one and the same item.
        ngrams, ngrams_repeated: sequences of :data:`NGRAM` words, and those seen before.
        empty: texts without any word.
    """

    texts: int = 0
    words: int = 0
    content: int = 0
    content_found: int = 0
    named: int = 0
    named_found: int = 0
    phrases: int = 0
    phrases_found: int = 0
    ngrams: int = 0
    ngrams_repeated: int = 0
    empty: int = 0

    def __add__(self, other: "Measures") -> "Measures":
        """Sum the counts of different texts."""
        mine = (getattr(self, name) for name in self.__slots__)
        theirs = (getattr(other, name) for name in self.__slots__)
        return Measures(*(a + b for a, b in zip(mine, theirs, strict=True)))

    @property
    def faithfulness(self) -> float | None:
        """Share of content words that occur in the items; None where there are none."""
        return _share(self.content_found, self.content)

    def shares(self) -> dict[str, float | None]:
        """Return the measures by name, as shares from 0 to 1 (``words`` is a mean)."""
        return {
            "faithfulness": self.faithfulness,
            "named_faithfulness": _share(self.named_found, self.named),
            "phrases_in_one_item": _share(self.phrases_found, self.phrases),
            "repetition": _share(self.ngrams_repeated, self.ngrams),
            "empty": _share(self.empty, self.texts),
            "words": _share(self.words, self.texts),
        }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def measure(text: str, items: Sequence[Item]) -> Measures:
    """Measure one text against all items beneath it."""
    found = support(item.text() for item in items)
    all_words, needing, names = terms(text), content(text), named(text)
    parts = [part for part in phrases(text) if content(part)]
    sets = item_supports(items)
    grams = list(ngrams(all_words, NGRAM))
    return Measures(
        texts=1,
        words=len(all_words),
        content=len(needing),
        content_found=sum(word in found for word in needing),
        named=len(names),
        named_found=sum(word in found for word in names),
        phrases=len(parts),
        phrases_found=sum(in_one(part, sets) for part in parts),
        ngrams=len(grams),
        ngrams_repeated=len(grams) - len(set(grams)),
        empty=int(not all_words),
    )


def item_supports(items: Sequence[Item]) -> list[frozenset[str]]:
    """Return the stems that each item supports by itself."""
    return [support([item.text()]) for item in items]


def in_one(phrase: str, supports: Sequence[frozenset[str]]) -> bool:
    """Return whether one item supports a phrase alone, or each side of its "and" has one."""
    said = says(phrase)
    if any(said <= one for one in supports):
        return bool(said)
    sides = [side for side in phrase.replace("&", " and ").split(" and ") if terms(side)]
    return len(sides) > 1 and all(in_one(side, supports) for side in sides)


def ngrams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Return all sequences of ``size`` neighbouring words."""
    return list(zip(*(words[start:] for start in range(size)), strict=False))


def is_echo(text: str, instruction: str) -> bool:
    """Return whether five words of the prompt's own text stand in the summary, in a row."""
    own = set(ngrams(terms(instruction), _ECHO_WORDS))
    return bool(own.intersection(ngrams(terms(text), _ECHO_WORDS)))


def is_copy(text: str, whole: str) -> bool:
    """Return whether a text is nothing but a piece of another (five words or more)."""
    words = terms(text)
    size = len(words)
    return size >= _ECHO_WORDS and f" {' '.join(words)} " in f" {' '.join(terms(whole))} "


def coverage(summary: str, items: Sequence[Item], names: Sequence[str]) -> float | None:
    """Return the share of items whose category or brand the summary names.

    Args:
        names: the attributes that hold categories or brands; the first that an item has
            counts.  A value is named if all its words stand in the summary; values that
            many items share weigh accordingly.

    Returns:
        None where no item has such an attribute.
    """
    values = Counter(value for item in items if (value := facet(item, names)))
    said = support([summary])
    known = sum(count for value, count in values.items() if _stems(value) <= said)
    return known / values.total() if values else None


def facet(item: Item, names: Sequence[str]) -> str:
    """Return the value of the first of some attributes that an item has, or nothing."""
    return next((v for name in names if (v := item.attributes.get(name, "").strip())), "")


def _stems(value: str) -> set[str]:
    return set(map(stem, terms(value)))


@dataclass
class QualityAudit:
    """Measures of final summaries against the histories that they are about.

    Attributes:
        items: the catalogue.
        total: sums over all summaries of users with a history.
        flags: how many of these summaries have each flag.
        covered: one coverage per user who has categories or brands.
    """

    items: Mapping[str, Item]
    total: Measures = field(default_factory=Measures)
    flags: Counter[str] = field(default_factory=Counter)
    covered: list[float] = field(default_factory=list)

    def watch(
        self, summaries: Iterable[Summary], histories: Iterable[Sequence[str]]
    ) -> Iterator[Summary]:
        """Pass summaries on, each measured against the history at its index."""
        for summary, history in zip(summaries, histories, strict=True):
            if history:
                self.add(summary, [self.items[item] for item in history])
            yield summary

    def add(self, summary: Summary, items: Sequence[Item]) -> None:
        """Measure one summary."""
        self.total += measure(summary.summary, items)
        self.flags.update(final_flags(summary))
        covered = coverage(summary.summary, items, FACETS)
        if covered is not None:
            self.covered.append(covered)

    def asdict(self) -> dict[str, object]:
        """Return shares (0 to 1), mean words, and counts of flags, by name."""
        mean = round(sum(self.covered) / len(self.covered), 4) if self.covered else None
        shares = {**self.total.shares(), "coverage": mean}
        return {"summaries": self.total.texts, **shares, "flags": dict(sorted(self.flags.items()))}

    def __str__(self) -> str:
        """Write the measures as a sentence."""
        named = self.total.shares()["named_faithfulness"]
        mean = sum(self.covered) / len(self.covered) if self.covered else None
        return (
            f"{_percent(self.total.faithfulness)} of content words and {_percent(named)} of names "
            f"and numbers stand in the user's items; {_percent(mean)} of categories or brands "
            f"are named; {self.total.words / max(1, self.total.texts):.0f} words on average"
        )


def final_flags(summary: Summary) -> tuple[str, ...]:
    """Return the flags of the block whose text is the final summary."""
    same = (block for block in reversed(summary.blocks) if block.summary == summary.summary)
    return next((block.flags for block in same), ())


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f} %"
