"""A log of single events becomes a timeline for every user."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from trec_cli.prepare.collection import Question

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

    def questions(self, file: str, counts: Counter[str], repeats: str) -> Iterator[Question]:
        """Yield every user's timeline in order of time.

        Exact repeats (same user, item and time) are dropped; ``repeats`` counts them.
        """
        user = np.frombuffer(self.user, dtype=np.int32)
        time = np.frombuffer(self.time, dtype=np.float64)
        item = np.frombuffer(self.item, dtype=np.int32)
        rating = np.frombuffer(self.rating, dtype=np.float32)
        order = np.lexsort((time, user))
        ends = np.cumsum(np.bincount(user, minlength=len(self.users)))
        names = list(self.items)
        start = 0
        for user_id, end in zip(self.users, ends.tolist(), strict=True):
            chosen = order[start:end]
            columns = (time[chosen].tolist(), item[chosen].tolist(), rating[chosen].tolist())
            rated = _distinct(zip(*columns, strict=True))
            counts[repeats] += len(chosen) - len(rated)
            start = end
            yield _question(user_id, rated, names, file)


def _distinct(events: Iterable[tuple[float, int, float]]) -> dict[tuple[float, int], float]:
    """Keep each (time, item) once, with the highest of its ratings."""
    rated: dict[tuple[float, int], float] = {}
    for moment, item, rating in events:
        before = rated.get((moment, item), math.nan)
        rated[moment, item] = before if before >= rating or math.isnan(rating) else rating
    return rated


def _question(
    user_id: str, rated: dict[tuple[float, int], float], names: list[str], file: str
) -> Question:
    times = [int(moment) if moment.is_integer() else moment for moment, _ in rated]
    *history, target = [names[index] for _, index in rated]
    ratings = [None if math.isnan(value) else value for value in rated.values()]
    return Question(
        user_id,
        history,
        [target],
        timestamp=times[-1],
        times=times[:-1],
        ratings=ratings if any(value is not None for value in ratings) else None,
        file=file,
    )
