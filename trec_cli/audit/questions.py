"""Questions as arrays: one row per candidate, one entry per distinct pair of user and item."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.records import PREDICT, Example, Split
from trec_cli.core.seeds import derive_seed, fold_of
from trec_cli.evaluate.metrics import Floats, Ints

FOLDS = 5
"""Groups of users: whatever is asked of one is learnt from the others."""

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Candidates of some questions, one behind the other.

    Attributes:
        starts: ``[questions + 1]``; question *i* owns the rows from ``starts[i]`` on.
        items: index of the item of every row.
        right: whether it is a right answer.
        fold: of the question's user, by row.
        time: of the question, by row; NaN where it has none.
    """

    starts: Ints
    items: Ints
    right: Bools
    fold: Ints
    time: Floats

    @property
    def owner(self) -> Ints:
        """Index of the question of every row."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def position(self) -> Ints:
        """Position of every row in its list of candidates."""
        return np.arange(len(self.items)) - self.starts[self.owner]


@dataclass(frozen=True)
class TrainHistories:
    """Events of the users to learn from, each with the user's fold.

    Attributes:
        items: index of an item that a user has in a history; each pair of both once.
        fold: of the user.
        lateness: position in the history, from above 0 (oldest) to 1 (newest).
    """

    items: Ints
    fold: Ints
    lateness: Floats


@dataclass(frozen=True)
class Questions:
    """All questions of a file.

    Attributes:
        examples: their ids.
        users: their users.
        splits: their splits.
        rows: their candidates.
        histories: of the users of split train.
        ids: every item id, by index.
    """

    examples: list[str]
    users: list[str]
    splits: list[Split]
    rows: Rows
    histories: TrainHistories
    ids: list[str]

    @property
    def folds(self) -> Ints:
        """The fold of every question's user."""
        return self.rows.fold[self.rows.starts[:-1]]

    def of(self, *splits: Split) -> Ints:
        """Return the indexes of the questions of some splits."""
        return np.flatnonzero([split in splits for split in self.splits])

    def part(self, chosen: Ints) -> Rows:
        """Return the candidates of some questions."""
        starts, widths = self.rows.starts[:-1][chosen], np.diff(self.rows.starts)[chosen]
        ends = np.concatenate([[0], np.cumsum(widths)])
        at = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], widths)
        rows = self.rows
        taken = (rows.items[at], rows.right[at], rows.fold[at], rows.time[at])
        return Rows(ends, *taken)

    def chunks(self, chosen: Ints, size: int) -> Iterator[Ints]:
        """Cut questions into parts of about ``size`` candidates."""
        ends = np.cumsum(np.diff(self.rows.starts)[chosen])
        yield from (part for part in np.split(chosen, _borders(ends, size)) if len(part))

    def sample(self, chosen: Ints, size: int, seed: int) -> Ints:
        """Choose questions with about ``size`` candidates, by a hash of their ids."""
        if np.diff(self.rows.starts)[chosen].sum() <= size:
            return chosen
        drawn = [derive_seed(seed, "audit", self.examples[index]) for index in chosen.tolist()]
        order = chosen[np.argsort(np.array(drawn, dtype=np.uint64))]
        kept = np.cumsum(np.diff(self.rows.starts)[order]) <= size
        return np.sort(order[kept]) if kept.any() else order[:1]


def _borders(ends: Ints, size: int) -> list[int]:
    """Return where parts of about ``size`` begin, given the running total."""
    return np.flatnonzero(np.diff(ends // size) > 0).astype(int).tolist() if len(ends) else []


def read_questions(examples: Iterable[Example], known: Iterable[str] = ()) -> Questions:
    """Gather questions that have candidates and an answer; items ``known`` come first."""
    reading = _Reading()
    for item in known:
        reading.codes[item]  # the next number
    for example in examples:
        reading.add(example)
    return reading.questions()


@dataclass
class _Reading:
    """Arrays that grow with every example."""

    codes: defaultdict[str, int] = field(default_factory=lambda: defaultdict(count().__next__))
    folds: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    times: "array[float]" = field(default_factory=lambda: array("d"))
    widths: "array[int]" = field(default_factory=lambda: array("q"))
    items: "array[int]" = field(default_factory=lambda: array("q"))
    right: "array[int]" = field(default_factory=lambda: array("b"))
    takers: dict[str, int] = field(default_factory=dict)
    pairs: "array[int]" = field(default_factory=lambda: array("q"))
    lateness: "array[float]" = field(default_factory=lambda: array("d"))

    def fold(self, user: str) -> int:
        """Return the fold of a user; one fold of the audit is two of the draws."""
        if user not in self.folds:
            self.folds[user] = fold_of(user) % FOLDS
        return self.folds[user]

    def add(self, example: Example) -> None:
        """Take one example in, unless nothing can be learnt or asked."""
        right = frozenset(example.positives)
        if example.split == "train":
            self._take(example)
        if example.split == PREDICT or not 0 < len(right) < len(example.candidates):
            return
        self.examples.append(example.example_id)
        self.users.append(example.user_id)
        self.splits.append(example.split)
        self.times.append(np.nan if example.timestamp is None else float(example.timestamp))
        self.widths.append(len(example.candidates))
        codes = self.codes
        self.items.extend([codes[item] for item in example.candidates])
        self.right.extend([item in right for item in example.candidates])

    def _take(self, example: Example) -> None:
        """Note the items of a history, each pair of user and item as one number."""
        user = self.takers.setdefault(example.user_id, len(self.takers)) << 32
        number = len(example.history)
        codes = self.codes
        self.pairs.extend([user + codes[item] for item in example.history])
        self.lateness.extend([index / number for index in range(1, number + 1)])

    def _histories(self) -> TrainHistories:
        """Count each item of a user once, where it stands first in the order of the file."""
        pairs, first = np.unique(np.array(self.pairs, dtype=np.int64), return_index=True)
        folds = np.array([self.fold(user) for user in self.takers], dtype=np.int64)
        lateness = np.array(self.lateness, dtype=np.float64)[first]
        return TrainHistories(pairs & 0xFFFFFFFF, folds[pairs >> 32], lateness)

    def questions(self) -> Questions:
        """Return the arrays, once all examples are in."""
        widths = np.array(self.widths, dtype=np.int64)
        folds = np.array([self.fold(user) for user in self.users], dtype=np.int64)
        rows = Rows(
            np.concatenate([[0], np.cumsum(widths)]),
            np.array(self.items, dtype=np.int64),
            np.array(self.right, dtype=bool),
            np.repeat(folds, widths),
            np.repeat(np.array(self.times, dtype=np.float64), widths),
        )
        return Questions(
            self.examples, self.users, self.splits, rows, self._histories(), list(self.codes)
        )
