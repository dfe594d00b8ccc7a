"""The best of the catalogue for each question, exact, in blocks of bounded memory.

Every source ranks all items.  What stands on a source's first ``share * count`` places is a
candidate for certain; the rest of the list is filled by reciprocal rank fusion,
``sum over sources of share / (60 + rank)`` (Cormack et al. 2009).  Users without history get
popular and fresh items, since only these sources speak.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from trec_cli.core.records import Example, Item
from trec_cli.core.seeds import generator
from trec_cli.retrieve.filters import allowed_items
from trec_cli.retrieve.settings import RetrieveSettings
from trec_cli.retrieve.sources import CandidateSource, highest, make_sources
from trec_cli.signals.blend import Learner
from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events, Histories, Mask, right
from trec_cli.signals.kinds import Signal, Values

_CELLS = 4_000_000
"""Scores of one block and source, 16 MB."""
_CONSTANT = 60
"""Of reciprocal rank fusion, as its authors have it."""
_CERTAIN = 1.0
"""Added within a source's share: more than all fused ranks together."""


class Retrieved(NamedTuple):
    """The candidates of a block of questions.

    Attributes:
        rows: of items, best first, [questions, count]; -1 where the filters leave no more.
        scores: by which they are ordered.
    """

    rows: np.ndarray
    scores: Values


class Ranker(Protocol):
    """What scores the whole catalogue: the blend, a signal."""

    def everywhere(self, asked: Histories) -> Values:
        """Score all items for each question: [questions, items]."""


@dataclass(frozen=True, kw_only=True)
class Search(ABC):
    """A way to find the best of the catalogue.

    Attributes:
        allowed: rows that may be candidates.
        settings: how many, and whether items may come again.
    """

    allowed: Mask
    settings: RetrieveSettings

    def blocks(self, asked: Histories) -> Iterator[tuple[int, Histories, Retrieved]]:
        """Yield for each block of questions: index of its first, its histories, the candidates."""
        step = max(1, _CELLS // max(1, len(self.allowed)))
        for start in range(0, len(asked), step):
            block = asked.block(start, min(start + step, len(asked)))
            yield start, block, self._search(block)

    @abstractmethod
    def _search(self, asked: Histories) -> Retrieved:
        """Find the candidates of one block."""

    def barred(self, asked: Histories) -> Mask:
        """Mark what no candidate may be: [questions, items]."""
        barred = np.broadcast_to(~self.allowed, (len(asked), len(self.allowed))).copy()
        if not self.settings.repeats:
            barred[asked.owners, asked.items] = True
        return barred

    def _highest(self, scores: Values, barred: Mask) -> Retrieved:
        """Return the highest scores of what is not barred."""
        scores[barred] = -np.inf
        rows, values = highest(scores, min(self.settings.count, len(self.allowed)))
        return Retrieved(np.where(np.isfinite(values), rows, -1), values)


@dataclass(frozen=True, kw_only=True)
class Best(Search):
    """Ranks the whole catalogue by one score, such as that of the blend.

    Attributes:
        scorer: gives it.
    """

    scorer: Ranker

    def _search(self, asked: Histories) -> Retrieved:
        return self._highest(np.array(self.scorer.everywhere(asked)), self.barred(asked))


@dataclass(frozen=True, kw_only=True)
class Retriever(Search):
    """Fuses the ranks of several sources.

    Attributes:
        sources: of candidates.
    """

    sources: Sequence[CandidateSource]

    @classmethod
    def of(
        cls,
        items: Mapping[str, Item],
        catalogue: EncodedCatalogue,
        signals: Mapping[str, Signal],
        settings: RetrieveSettings,
    ) -> "Retriever":
        """Make the sources of learnt signals."""
        allowed = allowed_items(items, catalogue.rows, settings)
        return cls(sources=make_sources(signals), allowed=allowed, settings=settings)

    def _search(self, asked: Histories) -> Retrieved:
        barred = self.barred(asked)
        fused: Values = np.zeros(barred.shape, np.float32)
        for source in self.sources:
            self._add(fused, np.where(barred, -np.inf, source.scores(asked)), source)
        return self._highest(fused, barred)

    def _add(self, fused: Values, scores: Values, source: CandidateSource) -> None:
        """Add a source's ranks to the fused score."""
        count = min(self.settings.count, scores.shape[1])
        rows, values = highest(scores, count)
        gains = source.share / (_CONSTANT + 1 + np.arange(count, dtype=np.float32))
        gains[: int(source.share * self.settings.count)] += _CERTAIN
        added = np.where(values > 0, gains, np.float32(0))
        owner = np.arange(len(fused))[:, None]
        fused[owner, rows] += added


def retrieve(
    items: Mapping[str, Item],
    examples: Sequence[Example],
    settings: RetrieveSettings,
    *,
    vectors: Floats | None = None,
) -> list[list[str]]:
    """Return candidates for every example, in an order that tells nothing.

    Learns from the examples of split train alone; one of train itself gets candidates from
    signals that do not know its user.  Right answers are not added: what a retrieval misses
    is missed.

    Args:
        items: the catalogue.
        examples: of all splits; their own candidates play no role.
        settings: how many, and the filters.
        vectors: of the items, in their order; without them LSA stands in.
    """
    catalogue = EncodedCatalogue.of(items, vectors)
    learner = Learner(catalogue, Events.of(examples, catalogue.rows), settings.seed)
    names = list(catalogue.rows)
    candidates: list[list[str]] = [[] for _ in examples]
    for indices, signals in learner.parts(examples):
        retriever = Retriever.of(items, catalogue, signals, settings)
        asked = Histories.of((examples[n].history for n in indices), catalogue.rows)
        for start, _, found in retriever.blocks(asked):
            for offset, rows in enumerate(found.rows):
                index = indices[start + offset]
                chosen = [names[row] for row in np.sort(rows[rows >= 0])]
                candidates[index] = _shuffled(chosen, examples[index], settings.seed)
    return candidates


def _shuffled(chosen: Sequence[str], example: Example, seed: int) -> list[str]:
    """Shuffle by (seed, user, example), so that no place tells what a source thought."""
    draws = generator(seed, example.user_id, "retrieved", example.example_id)
    return [chosen[n] for n in draws.permutation(len(chosen)).tolist()]


class Recall(NamedTuple):
    """How many right answers were among the candidates."""

    found: int
    asked: int

    @property
    def share(self) -> float:
        """Found of all; 0 where nothing was asked."""
        return self.found / self.asked if self.asked else 0.0

    def plus(self, other: "Recall") -> "Recall":
        """Add what was found for further questions."""
        return Recall(self.found + other.found, self.asked + other.asked)

    def __str__(self) -> str:
        """Write it for people."""
        return f"{self.found} of {self.asked} right answers found ({self.share:.1%})"


def measure_recall(examples: Sequence[Example], candidates: Sequence[Sequence[str]]) -> Recall:
    """Count the right answers that are among the candidates, over all examples with one."""
    found = asked = 0
    for example, chosen in zip(examples, candidates, strict=True):
        answers, among = right(example), set(chosen)
        asked += len(answers)
        found += sum(item in among for item in answers)
    return Recall(found, asked)
