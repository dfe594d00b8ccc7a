"""The best of the catalogue for each question, in blocks of bounded memory.

Every source gives the head of its ranking (:mod:`trec_cli.retrieve.lists`).  What stands on
its first ``share * count`` places is a candidate for certain; the rest of the list is filled by
reciprocal rank fusion, ``sum over sources of share / (60 + rank)`` (Cormack et al. 2009).  Users
without history get popular and fresh items, since only these sources speak.
"""

import heapq
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

from trec_cli.core.arrays import distinct
from trec_cli.core.processes import keep_freed_memory
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Item
from trec_cli.core.seeds import derive_seed, fold_of, generator
from trec_cli.core.temporary import room_explained
from trec_cli.core.text import counted
from trec_cli.retrieve.filters import allowed_items
from trec_cli.retrieve.lists import SPARE, FixedList, ListSource, list_sources, merged
from trec_cli.retrieve.settings import RetrieveSettings
from trec_cli.retrieve.sources import highest
from trec_cli.signals.blend import Blend, Learner, Pairs
from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events, Histories, Mask, Rows
from trec_cli.signals.kinds import Signal, Values
from trec_cli.signals.learn import learn_shares

_CELLS = 4_000_000
"""Scores of one block and source, 16 MB."""
_READ = 50_000
"""Histories that are looked up at once."""
_COMPARED = 50
"""Questions on which approximate and exact search are compared."""
_FUSED = 500
"""Questions of a block whose heads are fused."""
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
        keep_freed_memory()
        step = self.step()
        for start in range(0, len(asked), step):
            block = asked.block(start, min(start + step, len(asked)))
            yield start, block, self._search(block)

    def step(self) -> int:
        """Return the number of questions in a block."""
        return max(1, _CELLS // max(1, len(self.allowed)))

    @abstractmethod
    def _search(self, asked: Histories) -> Retrieved:
        """Find the candidates of one block."""

    def barred(self, asked: Histories) -> Mask:
        """Mark what no candidate may be: [questions, items]."""
        barred = np.broadcast_to(~self.allowed, (len(asked), len(self.allowed))).copy()
        if not self.settings.repeats:
            barred[asked.taken] = True
        return barred

    def _highest(self, scores: Values, barred: Mask) -> Retrieved:
        """Return the highest scores of what is not barred."""
        scores[barred] = -np.inf
        rows, values = highest(scores, self.settings.count)
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
    """Fuses the heads of several rankings.

    Attributes:
        sources: name, share and head of each.
        approximate: whether neighbours are, and the words of a history are cut.
    """

    sources: Sequence[tuple[str, float, ListSource]]
    approximate: bool

    @classmethod
    def of(
        cls,
        items: Mapping[str, Item],
        catalogue: EncodedCatalogue,
        signals: Mapping[str, Signal],
        settings: RetrieveSettings,
    ) -> "Retriever":
        """Make the sources of learnt signals.

        Raises:
            UsageError: approximate search needs a library that is not there.
        """
        allowed = allowed_items(items, catalogue.rows, settings)
        depth = min(settings.count + SPARE, len(allowed))
        approximate = settings.approximate(len(catalogue))
        sources = list(list_sources(signals, allowed, depth, approximate=approximate))
        return cls(sources=sources, allowed=allowed, settings=settings, approximate=approximate)

    def step(self) -> int:
        """See :class:`Search`."""
        return _FUSED

    def _search(self, asked: Histories) -> Retrieved:
        taken = np.bincount(asked.taken[0], minlength=1)
        longest = 0 if self.approximate else int(taken.max())
        depth = min(self.settings.count + max(SPARE, longest), len(self.allowed))
        others = FixedList.of(np.zeros(len(self.allowed), np.float32), self.allowed)
        rows, gains = [], []
        for _, share, source in [*self.sources, ("", 0.0, others)]:
            found, values = source.best(asked, depth)
            found = np.where(self._taken(asked, found), -1, found)
            rows.append(found)
            gains.append(self._gains(found, values, share))
        count = min(self.settings.count, len(self.allowed))
        best, scores = merged(np.hstack(rows), np.hstack(gains), count, np.add)
        return Retrieved(best, scores)

    def _taken(self, asked: Histories, rows: Rows) -> Mask:
        """Mark what stands in the history already."""
        owners, items = asked.taken
        if self.settings.repeats or not len(items):
            return np.zeros(rows.shape, bool)
        width = len(self.allowed)
        taken = distinct(owners * width + items)
        keys = np.arange(len(rows))[:, None] * width + rows
        places = np.minimum(np.searchsorted(taken, keys), len(taken) - 1)
        return np.asarray((taken[places] == keys) & (rows >= 0))

    def _gains(self, rows: Rows, values: Values, share: float) -> Values:
        """Return what each place of a source adds; nothing beyond the wanted number."""
        places = np.cumsum(rows >= 0, axis=1) - 1
        gains = np.float32(share) / (_CONSTANT + 1 + places).astype(np.float32)
        gains[places < int(share * self.settings.count)] += np.float32(_CERTAIN)
        counts = (rows >= 0) & (values > 0) & (places < self.settings.count)
        return np.where(counts, gains, np.float32(0))


def retrieval_signals(blend: Blend) -> dict[str, Signal]:
    """Return the signals of a blend and those that only retrieval ranks by."""
    events = blend.learner.events
    if blend.fold is not None:
        own = np.array([fold_of(user) == blend.fold for user in events.users], bool)
        events = events.without(own)
    return {**blend.signals, **learn_shares(events)}


@dataclass(frozen=True, kw_only=True)
class Reranked(Search):
    """Retrieves many by the heads of rankings, and ranks these by the blend.

    Attributes:
        retriever: finds them.
        blend: ranks them.
    """

    retriever: Retriever
    blend: Blend

    def step(self) -> int:
        """See :class:`Search`."""
        return self.retriever.step()

    def _search(self, asked: Histories) -> Retrieved:
        ((_, _, found),) = self.retriever.blocks(asked)
        rows = np.sort(found.rows, axis=1)
        there = rows >= 0
        questions = np.repeat(np.arange(len(asked)), there.sum(axis=1))
        scores = np.full(rows.shape, -np.inf, np.float32)
        scores[there] = self.blend.of_pairs(Pairs(asked, questions, rows[there]))
        order = np.argsort(-scores, axis=1, kind="stable")[:, : self.settings.count]
        best = np.take_along_axis(rows, order, axis=1)
        return Retrieved(best, np.take_along_axis(scores, order, axis=1))


def retrieve(
    items: Mapping[str, Item],
    examples: Sequence[Example],
    settings: RetrieveSettings,
    *,
    vectors: Sequence[Floats] = (),
) -> list[list[str]]:
    """Return the candidates of :func:`retrieved` as a list."""
    return list(retrieved(items, examples, settings, vectors=vectors))


def retrieved(
    items: Mapping[str, Item],
    examples: Sequence[Example],
    settings: RetrieveSettings,
    *,
    vectors: Sequence[Floats] = (),
    progress: Progress | None = None,
) -> Iterator[list[str]]:
    """Yield candidates for every example, in an order that tells nothing.

    Learns from the examples of split train alone; one of train itself gets candidates from
    signals that do not know its user.  Right answers are not added: what a retrieval misses
    is missed.  What is found lies in a temporary file until its turn comes, so that memory does
    not grow with the number of candidates.

    Args:
        items: the catalogue.
        examples: of all splits; their own candidates play no role.
        settings: how many, and the filters.
        vectors: of the items, in their order, by each embedder; without them LSA stands in.
        progress: where it is said how good an approximate search is.
    """
    catalogue = EncodedCatalogue.of(items, vectors)
    events = Events.of(examples, catalogue.rows)
    learner = Learner(catalogue, events, settings.seed, further=learn_shares)
    names = list(catalogue.rows)
    width = min(settings.count, len(names))
    with tempfile.TemporaryFile() as spool:
        for indices, signals in learner.parts(examples):
            retriever = Retriever.of(items, catalogue, signals, settings)
            for start in range(0, len(indices), _READ):
                own = indices[start : start + _READ]
                asked = Histories.asked([examples[n] for n in own], catalogue.rows)
                for first, _, found in retriever.blocks(asked):
                    with room_explained("keep the candidates"):
                        _put(spool, own[first : first + len(found.rows)], found.rows, width)
            if progress and retriever.approximate:
                asked = Histories.of(sample(examples, indices, settings.seed), catalogue.rows)
                exact = Retriever.of(items, catalogue, signals, replace(settings, search="exact"))
                progress.info(str(agreement(exact, retriever, asked)))
        for index, example in enumerate(examples):
            spool.seek(4 * width * index)
            rows = np.frombuffer(spool.read(4 * width), np.int32)
            chosen = [names[row] for row in np.sort(rows[rows >= 0])]
            yield _shuffled(chosen, example, settings.seed)


def _put(spool: BinaryIO, indices: Sequence[int], rows: Rows, width: int) -> None:
    """Write the rows of each example to its place, -1 where there are no more."""
    padded = np.full((len(rows), width), -1, np.int32)
    padded[:, : rows.shape[1]] = rows
    for index, line in zip(indices, padded, strict=True):
        spool.seek(4 * width * index)
        spool.write(line.tobytes())


def sample(
    examples: Sequence[Example], indices: Sequence[int], seed: int
) -> Iterator[Sequence[str]]:
    """Yield some histories, drawn by a hash, to compare two ways of searching on."""
    order = heapq.nsmallest(
        _COMPARED, indices, key=lambda n: derive_seed(seed, "compare", examples[n].example_id)
    )
    return (examples[n].history for n in order)


@dataclass(frozen=True)
class Agreement:
    """How much of what an exact search finds an approximate one finds too.

    Attributes:
        found, all: items of the exact lists that are in the approximate ones; all of them.
        users: on whom they were compared.
    """

    found: int
    all: int
    users: int

    @property
    def share(self) -> float:
        """Found of all."""
        return self.found / self.all if self.all else 1.0

    def __str__(self) -> str:
        """Write it for people."""
        return (
            f"approximate search finds {self.share:.1%} of what exact search finds "
            f"({counted(self.users, 'user')} compared)"
        )


def agreement(exact: Search, other: Search, asked: Histories) -> Agreement:
    """Compare two searches on some questions."""
    found = total = 0
    both = zip(_all_rows(exact, asked), _all_rows(other, asked), strict=True)
    for true, near in both:
        wanted = set(true[true >= 0].tolist())
        total += len(wanted)
        found += len(wanted & set(near.tolist()))
    return Agreement(found, total, len(asked))


def _all_rows(search: Search, asked: Histories) -> Iterator[Rows]:
    for _, _, found in search.blocks(asked):
        yield from found.rows


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
        return f"{self.found:,} of {counted(self.asked, 'right answer')} found ({self.share:.1%})"


def measure_recall(examples: Sequence[Example], candidates: Sequence[Sequence[str]]) -> Recall:
    """Count the right answers that are among the candidates, over all examples with one."""
    found = asked = 0
    for example, chosen in zip(examples, candidates, strict=True):
        answers, among = example.right, set(chosen)
        asked += len(answers)
        found += sum(item in among for item in answers)
    return Recall(found, asked)
