"""A log of single events becomes a timeline for every user."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trec_cli.prepare.collection import Question
from trec_cli.prepare.sources.disk import EventTable
from trec_cli.prepare.space import Space

Event = tuple[str, str, float, float | None]
"""User, item, seconds since 1970, rating."""

NO_TIME = "left out: no time was set"


@dataclass
class Log:
    """Events in columns (20 bytes each): who, what, when in seconds, how rated."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    user: "array[int]" = field(default_factory=lambda: array("i"))
    item: "array[int]" = field(default_factory=lambda: array("i"))
    time: "array[float]" = field(default_factory=lambda: array("d"))
    rating: "array[float]" = field(default_factory=lambda: array("f"))

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.user)

    def add(self, user: str, item: str, time: float, rating: float | None) -> None:
        """Append one event."""
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.time.append(time)
        self.rating.append(math.nan if rating is None else rating)

    def set_times(self, times: Iterable[tuple[int, float]]) -> None:
        """Set the times of some events, by their number."""
        for number, time in times:
            self.time[number] = time

    def questions(self, file: str, counts: Counter[str], repeats: str) -> Iterator[Question]:
        """Yield every user's timeline in order of time.

        Exact repeats (same user, item and time) are dropped; ``repeats`` counts them.
        """
        counts["users"] = len(self.users)
        user = np.frombuffer(self.user, dtype=np.int32)
        time = np.frombuffer(self.time, dtype=np.float64)
        item = np.frombuffer(self.item, dtype=np.int32)
        order = np.lexsort((time, user))
        ends = np.cumsum(np.bincount(user, minlength=len(self.users))).tolist()
        repeated = self._who_repeats(order)
        rating = np.frombuffer(self.rating, dtype=np.float32)[order]
        unrated = np.isnan(rating)
        items, whole = item[order], np.modf(time)[0] == 0
        times = time[order] if not whole.all() else time[order].astype(np.int64)
        names = np.array(list(self.items), dtype=object)
        start = 0
        for user_id, end, repeats_one in zip(self.users, ends, repeated.tolist(), strict=True):
            own = slice(start, end)
            start = end
            events = (times[own].tolist(), items[own].tolist(), rating[own].tolist())
            if repeats_one:
                rated = _distinct(zip(*events, strict=True))
                counts[repeats] += len(events[0]) - len(rated)
                events = _columns(rated)
            plain = None if unrated[own].all() else events[2]
            yield _question(user_id, events[0], names[events[1]].tolist(), plain, file)

    def _who_repeats(self, order: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Mark the users who have an event twice (same item and time).

        Args:
            order: of events, by user and time.
        """
        user = np.frombuffer(self.user, dtype=np.int32)
        time = np.frombuffer(self.time, dtype=np.float64)
        item = np.frombuffer(self.item, dtype=np.int32)
        at_once = _equal_next(user[order], time[order])
        tied = np.zeros(len(order), bool)  # most events are alone at their time
        tied[:-1] |= at_once
        tied[1:] |= at_once
        order = order[tied]
        order = order[np.lexsort((item[order], time[order], user[order]))]
        twice = _equal_next(user[order], time[order], item[order])
        marked = np.zeros(len(self.users), bool)
        marked[user[order[1:][twice]]] = True
        return marked


def _equal_next(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Compare each row but the last with the next one: [max(0, rows - 1)]."""
    same = np.ones(max(0, len(columns[0]) - 1), bool)
    for column in columns:
        same &= column[1:] == column[:-1]
    return same


class DiskLog(EventTable):
    """The same on disk, where users are no longer counted than their events are read."""

    def questions(self, file: str, counts: Counter[str], repeats: str) -> Iterator[Question]:
        """Yield every user's timeline in order of time, as :meth:`Log.questions` does."""
        names = list(self.items)
        for user, events in self.by_user():
            rated = _distinct(events)
            counts["users"] += 1
            counts[repeats] += len(events) - len(rated)
            times, items, ratings = _columns(rated)
            known = None if all(map(math.isnan, ratings)) else ratings
            yield _question(user, times, [names[item] for item in items], known, file)


def new_log(space: Space) -> Log | DiskLog:
    """Return an empty log, in memory or on disk."""
    return DiskLog(space) if space.on_disk else Log()


def _distinct(events: Iterable[tuple[float, int, float]]) -> dict[tuple[float, int], float]:
    """Keep each (time, item) once, with the highest of its ratings."""
    rated: dict[tuple[float, int], float] = {}
    for moment, item, rating in events:
        before = rated.setdefault((moment, item), rating)
        if not before >= rating and not math.isnan(rating):
            rated[moment, item] = rating
    return rated


def _columns(
    rated: Mapping[tuple[float, int], float],
) -> tuple[list[float], list[int], list[float]]:
    times, items = map(list, zip(*rated, strict=True))
    return times, items, list(rated.values())


def _question(
    user_id: str, times: list[float], items: list[str], ratings: list[float] | None, file: str
) -> Question:
    seconds = times
    if any(isinstance(moment, float) for moment in times):
        seconds = [int(moment) if moment == int(moment) else moment for moment in times]
    *history, target = items
    rated = None
    if ratings is not None:
        rated = [None if math.isnan(value) else value for value in ratings]
    return Question(
        user_id,
        history,
        [target],
        timestamp=seconds[-1],
        times=seconds[:-1],
        ratings=rated,
        file=file,
    )
