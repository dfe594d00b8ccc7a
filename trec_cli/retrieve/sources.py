"""Where candidates come from, each source with its share of the list.

A source is a signal of :mod:`trec_cli.signals`, or a product of two.  Items that it says
nothing of (score 0 or less) do not come from it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from trec_cli.signals.histories import Histories
from trec_cli.signals.kinds import Signal, Values

DECIMALS = 4
"""Beyond them, equal evidence would differ by the order in which a machine adds."""


@dataclass(frozen=True)
class CandidateSource:
    """One source of candidates.

    Attributes:
        name: for reports.
        share: of the list that it fills for certain, where it has so many items.
        factors: signals whose product ranks the items.
    """

    name: str
    share: float
    factors: tuple[Signal, ...]

    def scores(self, asked: Histories) -> Values:
        """Score all items for each question: [questions, items]."""
        total = self.factors[0].everywhere(asked)
        for factor in self.factors[1:]:
            total = total * factor.everywhere(asked)
        return np.round(total, DECIMALS)


SHARES: dict[str, tuple[float, tuple[str, ...]]] = {
    "vector_last": (0.1, ("vector_last",)),
    "vector_nearest": (0.1, ("vector_nearest",)),
    "vector_mean": (0.1, ("vector_mean",)),
    "vector_next": (0.1, ("vector_next",)),
    "follows": (0.2, ("follows",)),
    "bm25": (0.1, ("bm25",)),
    "popular": (0.2, ("popularity",)),
    "fresh": (0.05, ("unseen", "vector_mean")),
}
"""Share and signals of each source; docs/retrieval.md has the recall of each."""
GROUP_SHARE = 0.05
"""Popular items of the category (brand) of the history; only the first attribute that groups."""


def make_sources(signals: Mapping[str, Signal]) -> list[CandidateSource]:
    """List the sources; the shares sum to 1 or less."""
    return [
        *(
            CandidateSource(name, share, tuple(signals[factor] for factor in factors))
            for name, (share, factors) in SHARES.items()
        ),
        *_groups(signals),
    ]


def _groups(signals: Mapping[str, Signal]) -> Iterator[CandidateSource]:
    found = next((name for name in signals if name.startswith("same_")), None)
    if found:
        factors = (signals[found], signals["popularity"])
        yield CandidateSource(found.replace("same_", "popular_"), GROUP_SHARE, factors)


def highest(scores: Values, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the highest scores of each row, highest first, and these scores.

    Columns of equal score stand in their order, which is drawn by hash in a catalogue.
    """
    width = scores.shape[1]
    if count < width:
        found = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        found.sort(axis=1)
    else:
        found = np.broadcast_to(np.arange(width), scores.shape)
    values = np.take_along_axis(scores, found, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(values, order, axis=1)
