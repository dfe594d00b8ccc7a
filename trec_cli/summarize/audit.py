"""How good the summaries of a run are, added up while they pass by."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trec_cli.core.records import Item, Summary
from trec_cli.summarize.domains import FACETS
from trec_cli.summarize.quality import Measures, coverage, measure


@dataclass
class Audit:
    """Measures of final summaries against the histories that they speak of.

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
        """Pass summaries on, each measured against the history at its place."""
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
        """Give shares (0 to 1), mean words, and counts of flags, by name."""
        mean = round(sum(self.covered) / len(self.covered), 4) if self.covered else None
        shares = {**self.total.shares(), "coverage": mean}
        return {"summaries": self.total.texts, **shares, "flags": dict(sorted(self.flags.items()))}

    def __str__(self) -> str:
        """Say it in a sentence."""
        named = self.total.shares()["named_faithfulness"]
        mean = sum(self.covered) / len(self.covered) if self.covered else None
        return (
            f"{_percent(self.total.faithfulness)} of content words and {_percent(named)} of names "
            f"and numbers stand in the user's items; {_percent(mean)} of categories or brands "
            f"are named; {self.total.words / max(1, self.total.texts):.0f} words on average"
        )


def final_flags(summary: Summary) -> tuple[str, ...]:
    """Give the flags of the block whose text is the final summary."""
    same = (block for block in reversed(summary.blocks) if block.summary == summary.summary)
    return next((block.flags for block in same), ())


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.0f} %"
