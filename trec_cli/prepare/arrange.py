"""Usable questions in the order of the output, each with its split.

They are sorted by a hash of (seed, user) once (:class:`Arrivals`); everything after that goes
through them one user at a time, and keeps a few bytes a user or question.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import numpy as np

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import ANSWERED, PREDICT, Split
from trec_cli.prepare.collection import Offer, Part, Question
from trec_cli.prepare.negatives import pool_of
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings, SplitKind, usual_sizes
from trec_cli.prepare.space import Shelf, Space
from trec_cli.prepare.splits import (
    NO_SPLIT,
    SPLIT_NAMES,
    Splits,
    by_fixed,
    by_part,
    by_users,
    check_parts,
    place_of,
    share_of,
)


class Arrivals:
    """Usable questions, read in the order of a hash of (seed, user).

    Attributes:
        offered: whether any has negatives of the source.
        seen: the items taken in any, where they are asked for.
    """

    def __init__(self, settings: PrepareSettings, space: Space) -> None:
        """Start without questions."""
        self._settings, self._sorted = settings, space.sorted()
        self._names = array("q")
        self._user, self._place = "", 0
        self._forget = False
        self.offered = False
        self.seen: set[str] = set()

    def add(self, question: Question) -> None:
        """Take one."""
        user = question.user_id
        if user != self._user:
            self._user, self._place = user, place_of(self._settings.seed, user)
        late = question.split == PREDICT
        self._sorted.add((self._place, user, late, question.timestamp or 0), question)
        self._names.append(hash(question.example_id))
        self.offered = self.offered or bool(question.offered)
        if self._settings.unknown == "keep":
            self.seen.update(question.history, question.positives)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._sorted)

    def __iter__(self) -> Iterator[Question]:
        """Yield them in order."""
        for question in self._sorted:
            if self._forget:
                question.offered = None
            yield question

    def check_unique(self) -> None:
        """Check that no two examples would have one id.

        Raises:
            InputError: naming one that stands twice.
        """
        names, counts = np.unique(np.frombuffer(self._names, dtype=np.int64), return_counts=True)
        if (counts > 1).any():
            twice = set(names[counts > 1].tolist())
            check_unique(q for q in self if hash(q.example_id) in twice)

    def choose_negatives(self, offers: Offer | None, report: Report) -> None:
        """Decide whether the source's negatives are used; forget them where they are not.

        Raises:
            UsageError: the source has not what was asked for.
        """
        settings = self._settings
        if settings.candidates is not None:
            report.choices["candidates"] = settings.candidates
            self._forget = True
            report.choices["negatives"] = "none"
            return
        there = offers if self.offered else None
        asked = settings.negatives
        if asked in ("fixed", "impression") and asked != there:
            raise UsageError(
                f"--negatives {asked}: the source has none; choose uniform or popularity"
            )
        self._forget = asked in ("uniform", "popularity")
        report.choices["negatives"] = asked if asked != "auto" else there or "uniform"

    def picked(self) -> Iterator[list[Question]]:
        """Yield the questions of every user who is kept: of the first ``max_users``.

        With --split time, numbers of users are picked here too; others keep their question
        about the future.
        """
        settings, answered = self._settings, 0
        sizes = settings.sizes
        most = sizes.total if settings.split == "time" and sizes and sizes.absolute else None
        for number, (_, group) in enumerate(groupby(self, attrgetter("user_id")), 1):
            if settings.max_users is not None and number > settings.max_users:
                return
            questions = list(group)
            answered += any(q.split != PREDICT for q in questions)
            if most is not None and answered > most:
                questions = [q for q in questions if q.split == PREDICT]
            if questions:
                yield questions


def check_unique(questions: Iterable[Question]) -> None:
    """Check that no two examples would have one id.

    Raises:
        InputError: naming the first that stands twice.
    """
    seen: set[str] = set()
    for question in questions:
        if question.example_id in seen:
            raise InputError.of(
                question.file,
                f"two examples would be called {question.example_id!r}",
                "give users and impressions ids of their own",
                question.line,
            )
        seen.add(question.example_id)


@dataclass
class Asked:
    """Questions with their splits, in the order of the output.

    Attributes:
        questions: all of them.
        popularity: how often an item stands in a history of split train, as it is written.
        answers: how often an item is right, by :func:`~trec_cli.prepare.negatives.pool_of`.
    """

    questions: Shelf[Question]
    popularity: Counter[str]
    answers: Mapping[str, Mapping[str, int]]


def arrange(arrivals: Arrivals, settings: PrepareSettings, report: Report, space: Space) -> Asked:
    """Pick users, and set the split of every question; those in no split are left out.

    Raises:
        UsageError: the questions cannot be split as asked.
    """
    people = _survey(arrivals, settings)
    _note_unpicked(len(arrivals) - people.questions, report)
    split = _splitting(people, settings, report)
    watch = _Watch(settings)
    questions = space.keep(watch.over(split(arrivals.picked())))
    if people.answered:
        _note_unpicked(people.questions - len(questions), report)
        if watch.timed:
            report.note_order(watch.times)
    return Asked(questions, watch.popularity, watch.answers)


def _note_unpicked(number: int, report: Report) -> None:
    if number:
        report.dropped["user not picked"] += number


@dataclass
class _People:
    """What is known of the users who are kept; of those with an answered question in arrays.

    Attributes:
        questions, answered: numbers of questions.
        points: :func:`~trec_cli.prepare.splits.share_of` each user.
        offered: whether the user has negatives of the source.
        parts: of the answered questions.
    """

    questions: int = 0
    answered: int = 0
    points: "array[int]" = field(default_factory=lambda: array("Q"))
    offered: bytearray = field(default_factory=bytearray)
    parts: set[Part | None] = field(default_factory=set)

    def add(self, questions: list[Question], seed: int) -> None:
        """Take a user in."""
        answered = [q for q in questions if q.split != PREDICT]
        self.questions += len(questions)
        if not answered:
            return
        self.answered += len(answered)
        self.points.append(share_of(seed, answered[0].user_id))
        self.offered.append(any(q.offered for q in answered))
        self.parts.update(q.part for q in answered)


def _survey(arrivals: Arrivals, settings: PrepareSettings) -> _People:
    people = _People()
    for questions in arrivals.picked():
        people.add(questions, settings.seed)
    return people


def _split_kind(people: _People, settings: PrepareSettings, report: Report) -> SplitKind:
    """Decide the way of splitting, where the user leaves it open.

    Users with candidates fixed by the source test where only some have them; a source that is
    published in parts keeps them, unless sizes are named.
    """
    fixed, some = report.choices["negatives"] == "fixed", any(people.offered)
    if settings.split == "fixed" and not (fixed and some):
        raise UsageError("--split fixed needs users with candidates fixed by the source")
    if settings.split != "auto":
        return settings.split
    if settings.sizes is None and None not in people.parts and len(people.parts) > 1:
        return "parts"
    return "fixed" if fixed and not all(people.offered) else "users"


def _splitting(people: _People, settings: PrepareSettings, report: Report) -> "_Splitter":
    """Return what sets the splits."""
    if not people.answered:
        report.choices = {"split": PREDICT}
        report.empty_by_choice = frozenset(ANSWERED)
        return _Splitter()
    kind = _split_kind(people, settings, report)
    report.choices["split"] = kind
    if kind == "parts":
        check_parts(people.parts)
        return _ByPart(people.parts, settings.seed)
    if kind not in ("users", "fixed"):
        return _Splitter()
    points = np.frombuffer(people.points, dtype=np.uint64)
    sizes = settings.sizes or usual_sizes(len(points))
    report.empty_by_choice = sizes.zero
    if kind == "users":
        return _ByUser(by_users(points, sizes))
    offered = np.frombuffer(people.offered, dtype=np.bool_)
    return _ByUser(by_fixed(points, offered, sizes))


class _Splitter:
    """Sets the splits of users, one after the other; as it is, where all have one."""

    def __call__(self, users: Iterable[list[Question]]) -> Iterator[Question]:
        """Yield the questions that are in a split."""
        for questions in users:
            answered = [q for q in questions if q.split != PREDICT]
            if answered:
                self.split(answered)
            yield from (q for q in questions if q.split)

    def split(self, questions: list[Question]) -> None:
        """Set the splits of a user's questions."""


class _ByPart(_Splitter):
    """By the parts of the source."""

    def __init__(self, parts: Set[Part | None], seed: int) -> None:
        self._parts, self._seed = parts, seed

    def split(self, questions: list[Question]) -> None:
        point = share_of(self._seed, questions[0].user_id)
        for question in questions:
            question.split = by_part(question.part, self._parts, point)


class _ByUser(_Splitter):
    """By a split for each user, in order."""

    def __init__(self, splits: Splits) -> None:
        self._splits = iter(splits.tolist())

    def split(self, questions: list[Question]) -> None:
        index = next(self._splits)
        for question in questions:
            question.split = None if index == NO_SPLIT else SPLIT_NAMES[index]


class _Watch:
    """Counts what is asked while it goes by.

    Where a user is asked for every item, one history is the start of the next: only the
    longest counts for popularity.
    """

    def __init__(self, settings: PrepareSettings) -> None:
        self._most, self._longest = settings.max_history, settings.targets == "all"
        self._last: Question | None = None
        self.popularity: Counter[str] = Counter()
        self.answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.times: defaultdict[Split, array[float]] = defaultdict(lambda: array("d"))
        self.timed = True

    def over(self, questions: Iterable[Question]) -> Iterator[Question]:
        """Yield the questions, counted."""
        for question in questions:
            split = question.split
            assert split is not None
            self.answers[pool_of(question)].update(question.positives)
            if split != PREDICT:
                self.timed = self.timed and question.timestamp is not None
            self.times[split].append(question.timestamp or 0)
            if split == "train":
                self._learn(question)
            yield question
        self._count()

    def _learn(self, question: Question) -> None:
        last = self._last
        if self._longest and last is not None and last.user_id == question.user_id:
            if len(question.history) >= len(last.history):
                self._last = question
            return
        self._count()
        self._last = question

    def _count(self) -> None:
        if self._last is not None:
            self.popularity.update(self._last.history[-self._most :])
        self._last = None
