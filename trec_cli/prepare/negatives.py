"""Negatives: from which items they are drawn, and the draw, by (seed, user) alone.

An evaluation can be won without looking at the user where right answers and negatives come
from different populations: the clicked articles of an impression are fresh and stand in no
history, the articles of a catalogue mostly are not.  So negatives are drawn, by default, from
what could have been the right answer at that moment (:class:`Negatives`).
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import numpy.typing as npt

from trec_cli.core.seeds import fold_of
from trec_cli.prepare.collection import Question
from trec_cli.prepare.settings import Population

_ROUNDS = 8
_DAY = 86_400


class Sampler:
    """Draws items without replacement, all alike or in proportion to their counts.

    Draws go by the items' rank in sorted order, never by their index in a file.
    """

    def __init__(
        self,
        ids: Set[str],
        counts: Mapping[str, int] | None = None,
        since: Mapping[str, float] | None = None,
    ) -> None:
        """Prepare the draw.

        Args:
            ids: what may be drawn.
            counts: how often; an item without count is never drawn.
            since: when each item was first known, for draws as of a time.
        """
        kept = ids if counts is None else (item for item in counts.keys() & ids if counts[item])
        self._ids = sorted(kept, key=None if since is None else lambda i: (since[i], i))
        self._since = None if since is None else [since[item] for item in self._ids]
        self._weights: npt.NDArray[np.float64] | None = None
        self._sums: npt.NDArray[np.int64] | None = None
        if counts is not None:
            self._weights = np.array([counts[item] for item in self._ids], dtype=np.float64)
            self._sums = np.cumsum([counts[item] for item in self._ids], dtype=np.int64)

    def draw(
        self, rng: np.random.Generator, number: int, banned: Set[str], time: float | None = None
    ) -> list[str]:
        """Draw ``number`` distinct items outside ``banned``, or all there are if fewer.

        With ``time``, only items that were known by then.  Draws with replacement and throws
        repeats away, which gives the distribution of drawing without replacement; where that
        takes too long, the rest is drawn from a list of what is left.
        """
        known = len(self._ids)
        if time is not None and self._since is not None:
            known = bisect_right(self._since, time)
        chosen: dict[str, None] = {}
        for _ in range(_ROUNDS if known > number else 0):
            for index in self._indexes(rng, number, known):
                item = self._ids[index]
                if item not in banned and len(chosen) < number:
                    chosen[item] = None
            if len(chosen) == number:
                return list(chosen)
        rest = self._from_the_rest(rng, number - len(chosen), banned | chosen.keys(), known)
        return [*chosen, *rest]

    def _indexes(self, rng: np.random.Generator, number: int, known: int) -> list[int]:
        if self._sums is None:
            return _listed(rng.integers(known, size=number))
        points = rng.integers(self._sums[known - 1], size=number)
        return _listed(np.searchsorted(self._sums, points, side="right"))

    def _from_the_rest(
        self, rng: np.random.Generator, number: int, banned: Set[str], known: int
    ) -> list[str]:
        left = [index for index in range(known) if self._ids[index] not in banned]
        number = min(number, len(left))
        if not number:
            return []
        shares = None
        if self._weights is not None:
            shares = self._weights[left] / self._weights[left].sum()
        return [self._ids[i] for i in _listed(rng.choice(left, number, replace=False, p=shares))]


def _listed(indexes: npt.NDArray[Any]) -> list[int]:
    listed: list[int] = indexes.tolist()
    return listed


class Observed:
    """What a source tells of its items: when each was first taken, and what was shown when."""

    def __init__(self) -> None:
        """Start with nothing seen; ``timed`` until an item without a time comes."""
        self.first: dict[str, float] = {}
        self.shown: defaultdict[int | None, set[str]] = defaultdict(set)
        self.timed = True

    def look_at(self, question: Question) -> None:
        """Note the items of a question as read."""
        times: list[float] = question.times or []
        if question.timestamp is None or len(times) < len(question.history):
            self.timed = False
            times = [0] * len(question.history)
        moment, first = question.timestamp or 0, self.first
        for item, time in zip(question.history, times, strict=True):
            if time < first.get(item, np.inf):
                first[item] = time
        for item in question.positives:
            if moment < first.get(item, np.inf):
                first[item] = moment
        if question.offered is not None:
            self.shown[_day(question)].update(question.offered, question.positives)


def _day(question: Question) -> int | None:
    return None if question.timestamp is None else int(question.timestamp // _DAY)


def pool_of(question: Question) -> str:
    """Name the questions whose answers a question draws from, where it draws by popularity.

    Those of its split; in train, of its fold (:func:`~trec_cli.core.seeds.fold_of`).  Whoever
    learns counts over train without the question that is asked.  Were its negatives answers
    from all of train, each would be counted, and the right answer would not: "nobody else has
    it" would mean right, in train alone.
    """
    assert question.split is not None
    if question.split != "train":
        return question.split
    return f"train {fold_of(question.user_id)}"


class Negatives:
    """Draws the negatives of every question from the population that the user chose.

    ``seen``: the items that somebody took, where the source has times by the time of the
    question.  ``shown``: what impressions showed, where there are times on the same day.
    ``catalogue``: every item with text.  Popularity counts what is right in other questions
    (:func:`pool_of`), so that an answer is no more and no less popular than its negatives; for
    ``catalogue`` it counts training histories, as in the paper.  Where the population has too
    few, the rest is drawn from all that was seen or shown at any time; where a fold of train
    has too few answers, from those of all of train before.

    Attributes:
        outside: negatives from outside the population.
        other_folds: negatives of train from answers of other folds.
    """

    def __init__(
        self,
        population: Population,
        drawable: Set[str],
        observed: Observed,
        counts: Mapping[str, Mapping[str, int]] | None,
    ) -> None:
        """Prepare the draws.

        Args:
            population: what is drawn from, never ``auto``.
            drawable: items that may stand among candidates at all.
            observed: what the source tells of its items.
            counts: popularity by :func:`pool_of` (for ``catalogue`` by ""), or None to draw
                all alike.
        """
        self._population, self._drawable, self._observed = population, drawable, observed
        self._counts = counts
        self._timed = population == "seen" and observed.timed
        everything = {
            "seen": observed.first.keys(),
            "shown": set().union(*observed.shown.values()),
            "catalogue": drawable,
        }[population]
        self._since = observed.first if self._timed else None
        self._all = drawable & everything
        self._samplers: dict[tuple[int | None, str], Sampler] = {}
        self._rest: Sampler | None = None
        self.outside = self.other_folds = 0

    @property
    def described(self) -> str:
        """Name the population, and whether times bound it."""
        if self._population == "seen":
            return "seen by the time of the question" if self._timed else "seen (no times)"
        if self._population == "shown":
            days = self._observed.shown.keys() - {None}
            return "shown on the same day" if days else "shown (no times)"
        return "catalogue"

    def draw(
        self,
        question: Question,
        rng: np.random.Generator,
        number: int,
        banned: Set[str],
        own: Set[str] = frozenset(),
    ) -> list[str]:
        """Draw ``number`` items outside ``banned``, or all there are.

        ``own`` are the user's answers to all questions of train: among those of a fold they
        would be drawn too often.
        """
        pool, time = self._pool(question), question.timestamp
        if pool.startswith("train "):
            banned = banned | own
        drawn = self._sampler(question, pool).draw(rng, number, banned, time)
        missing = number - len(drawn)
        if missing and pool.startswith("train "):
            more = self._sampler(question, "train").draw(rng, missing, banned | set(drawn), time)
            self.other_folds += len(more)
            drawn += more
            missing -= len(more)
        if missing and self._population != "catalogue":
            if self._rest is None:
                self._rest = Sampler(self._all)
            more = self._rest.draw(rng, missing, banned | set(drawn))
            self.outside += len(more)
            drawn += more
        return drawn

    def _pool(self, question: Question) -> str:
        return pool_of(question) if self._counts and self._population != "catalogue" else ""

    def _sampler(self, question: Question, pool: str) -> Sampler:
        day = _day(question) if self._population == "shown" else None
        key = (day, pool)
        if key not in self._samplers:
            ids = self._all if day is None else self._observed.shown[day] & self._drawable
            self._samplers[key] = Sampler(ids, self._counted(pool), self._since)
        return self._samplers[key]

    def _counted(self, pool: str) -> Mapping[str, int] | None:
        if self._counts is None:
            return None
        if pool in self._counts:
            return self._counts[pool]
        total = Counter[str]()
        for name, counts in self._counts.items():
            if name.startswith(f"{pool} "):
                total.update(counts)
        return total
