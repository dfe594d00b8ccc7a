"""Histories as arrays: of questions that are asked, and of users that are learnt from."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from trec_cli.core.arrays import distinct
from trec_cli.core.records import Example
from trec_cli.core.seeds import derive_seed, fold_of
from trec_cli.signals.similarity import Matrix

Rows = NDArray[np.int64]
"""Rows of items in the catalogue."""
Mask = NDArray[np.bool_]
Times = NDArray[np.float64]
"""Seconds, or any number that grows with time."""


@dataclass(frozen=True)
class Histories:
    """Item sequences one behind the other, each oldest first.

    Attributes:
        items: rows of the catalogue, all sequences joined.
        ends: where each sequence begins, and where the last one ends: [sequences + 1].
        catalogue: number of items of the catalogue.
        older: what each user took before, where a cap has cut it away; no signal reads it.
    """

    items: Rows
    ends: Rows
    catalogue: int
    older: "Histories | None" = None

    @classmethod
    def of(cls, sequences: Iterable[Sequence[str]], rows: Mapping[str, int]) -> "Histories":
        """Look the items up; those without a row are left out."""
        listed = list(sequences)
        lengths = np.fromiter(map(len, listed), np.int64, len(listed))
        looked_up = map(rows.get, chain.from_iterable(listed), repeat(-1))
        flat = np.fromiter(looked_up, np.int64, int(lengths.sum()))
        ends = np.concatenate([[0], np.cumsum(lengths)])
        known = flat >= 0
        if not known.all():
            ends = np.concatenate([[0], np.cumsum(known)])[ends]
            flat = flat[known]
        return cls(flat, ends, len(rows))

    @classmethod
    def asked(cls, examples: Sequence[Example], rows: Mapping[str, int]) -> "Histories":
        """Look the histories of examples up, with what a cap has cut away."""
        found = cls.of((e.history for e in examples), rows)
        if not any(e.older for e in examples):
            return found
        return replace(found, older=cls.of((e.older or () for e in examples), rows))

    def __len__(self) -> int:
        """Count the sequences."""
        return len(self.ends) - 1

    @property
    def lengths(self) -> Rows:
        """Length of each sequence."""
        return np.diff(self.ends)

    def rows(self) -> list[list[int]]:
        """Return each sequence as a list of its rows."""
        parts = zip(self.ends[:-1].tolist(), self.ends[1:].tolist(), strict=True)
        return [self.items[start:end].tolist() for start, end in parts]

    @property
    def owners(self) -> Rows:
        """Index of the sequence that each item stands in."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def block(self, start: int, stop: int) -> "Histories":
        """Return the sequences from ``start`` to ``stop``, the last excluded."""
        ends = self.ends[start : stop + 1]
        older = self.older.block(start, stop) if self.older else None
        return Histories(self.items[ends[0] : ends[-1]], ends - ends[0], self.catalogue, older)

    @property
    def taken(self) -> tuple[Rows, Rows]:
        """Everything that was taken: index of the sequence and row of the item, [taken] each."""
        if self.older is None:
            return self.owners, self.items
        owners = np.concatenate([self.owners, self.older.owners])
        return owners, np.concatenate([self.items, self.older.items])

    def where(self, wanted: Mask) -> "Histories":
        """Return the sequences that a mask names, in their order."""
        ends = np.concatenate([[0], np.cumsum(self.lengths[wanted])])
        return Histories(self.items[wanted[self.owners]], ends, self.catalogue)

    def weights(self, decay: float) -> Matrix:
        """Weigh the newest item 1, each one before it ``decay`` times its successor.

        Returns:
            CSR matrix [sequences, items]; an item that stands twice has both weights.
        """
        ages = self.ends[1:][self.owners] - 1 - np.arange(len(self.items))
        weighted = sparse.csr_matrix(
            (decay ** ages.astype(float), self.items, self.ends), shape=(len(self), self.catalogue)
        )
        weighted.sum_duplicates()
        weighted.eliminate_zeros()
        return weighted

    def shares(self, decay: float) -> Matrix:
        """Scale :meth:`weights` so that those of each sequence sum to 1; empty ones stay 0."""
        weighted = self.weights(decay)
        sums = np.asarray(weighted.sum(axis=1)).ravel()
        scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
        return sparse.csr_matrix(sparse.diags(scale) @ weighted)

    def newest(self, count: int) -> "Histories":
        """Cut each sequence to its newest items."""
        lengths = np.minimum(self.lengths, count)
        kept = np.arange(len(self.items)) >= (self.ends[1:] - lengths)[self.owners]
        return Histories(
            self.items[kept], np.concatenate([[0], np.cumsum(lengths)]), self.catalogue
        )

    def last(self) -> Rows:
        """Return the newest item of each sequence; -1 where it is empty."""
        newest = np.full(len(self), -1)
        filled = self.lengths > 0
        newest[filled] = self.items[self.ends[1:][filled] - 1]
        return newest


@dataclass(frozen=True)
class Events:
    """What users of split train have done, the ground of every count.

    Attributes:
        users: their ids, in an order drawn by hash, so that sums round alike whatever the file.
        sequences: everything that each has taken, oldest first.
        answers: what each was asked for (the positives).
        moments: time of each of the ``answers.items``; NaN where its question has none.
    """

    users: list[str]
    sequences: Histories
    answers: Histories
    moments: Times

    @classmethod
    def of(
        cls, examples: Iterable[Example], rows: Mapping[str, int], *, timed: bool = False
    ) -> "Events":
        """Collect the examples of split train, user by user; their times if these are ``timed``.

        An item that several examples of a user repeat (a history that grows) is taken as
        often as the longest of them has it.
        """
        asked: defaultdict[str, list[Example]] = defaultdict(list)
        for example in examples:
            if example.split == "train":
                asked[example.user_id].append(example)
        users = sorted(asked, key=lambda user: derive_seed(0, "user", user))
        taken = [_joined(asked[user]) for user in users]
        answers = [_answered(asked[user], rows, timed=timed) for user in users]
        moments = np.array([moment for one in answers for moment in one.values()], float)
        asked_for = Histories.of(map(list, answers), rows)
        return cls(users, Histories.of(taken, rows), asked_for, moments)

    def outside(self, folds: Container[int]) -> "Events":
        """Return the events of the users of all other folds."""
        return self.without(np.array([fold_of(user) in folds for user in self.users], bool))

    def without(self, left_out: Mask) -> "Events":
        """Return the events of all other users."""
        users = [user for user, out in zip(self.users, left_out, strict=True) if not out]
        kept = ~left_out
        moments = self.moments[kept[self.answers.owners]]
        return Events(users, self.sequences.where(kept), self.answers.where(kept), moments)


def _answered(
    examples: Sequence[Example], rows: Mapping[str, int], *, timed: bool
) -> dict[str, float]:
    """Return one user's right answers, each with the newest time that is known of it."""
    found: dict[str, float] = {}
    for example in examples:
        moment = example.timestamp if timed else None
        for item in example.right:
            if item not in rows:
                continue
            before = found.setdefault(item, np.nan)
            if moment is not None:
                found[item] = float(np.fmax(before, moment))
    return found


def _joined(examples: Sequence[Example]) -> list[str]:
    """Join one user's examples to one sequence: each adds what its predecessors lack."""
    if len(examples) == 1:
        history = examples[0].history
        return [*history, *dict.fromkeys([i for i in examples[0].right if i not in history])]
    ordered = sorted(examples, key=lambda e: (e.timestamp or 0, e.start + len(e.history)))
    longest = max(reversed(ordered), key=lambda e: len(e.history)).history
    known = set(longest)
    before = [
        item for item in dict.fromkeys(i for e in ordered for i in e.history) if item not in known
    ]
    known.update(before)
    after = dict.fromkeys(item for e in ordered for item in e.right if item not in known)
    return [*before, *longest, *after]


def takers(histories: Histories) -> NDArray[np.float64]:
    """Count the sequences that hold each item: [items]."""
    pairs = distinct(histories.owners * histories.catalogue + histories.items)
    return np.bincount(pairs % max(1, histories.catalogue), minlength=histories.catalogue).astype(
        float
    )


def recent(events: Events, half_life: float) -> NDArray[np.float64]:
    """Count right answers, each half as much for every ``half_life`` answers since: [items].

    Answers of one time have the same age; those without a time do not count.
    """
    known = ~np.isnan(events.moments)
    moments, items = events.moments[known], events.answers.items[known]
    later = len(moments) - np.searchsorted(np.sort(moments), moments, side="right")
    size = events.answers.catalogue
    return np.asarray(np.bincount(items, 0.5 ** (later / half_life), minlength=size), float)


def successions(
    histories: Histories, decay: float, backward: float = 0.0, window: int = 10
) -> Matrix:
    """Count how often one item follows another, the nearer the more.

    ``sum over users and pairs i < j of decay ** (j - i - 1)`` for the pair (item i, item j),
    and ``backward`` times as much for (item j, item i); pairs further apart than ``window``
    and pairs of one item with itself do not count.

    Returns:
        CSR matrix [items before, items after].
    """
    owners, items, size = histories.owners, histories.items, histories.catalogue
    total = sparse.csr_matrix((size, size), dtype=np.float32)
    for lag in range(1, window + 1):
        first, second = items[:-lag], items[lag:]
        counted = (owners[:-lag] == owners[lag:]) & (first != second)
        if not counted.any():
            break
        weight = np.full(int(counted.sum()), decay ** (lag - 1), np.float32)
        total = total + sparse.csr_matrix((weight, (first[counted], second[counted])), (size, size))
    return sparse.csr_matrix(total + backward * total.T) if backward else total
