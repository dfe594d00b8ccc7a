"""From timelines to questions that can be asked: unknown items, repeats, lengths."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import attrgetter

import numpy as np

from trec_cli.core.arrays import distinct
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import FaultList
from trec_cli.core.records import PREDICT
from trec_cli.prepare.collection import Catalogue, Question
from trec_cli.prepare.negatives import Observed
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings, usual_sizes
from trec_cli.prepare.space import Space
from trec_cli.prepare.splits import place_of
from trec_cli.prepare.timelines import (
    CutTimes,
    cuts_by_dates,
    cuts_by_shares,
    event_times,
    filtered,
    leave_last_out,
    of_periods,
)


def usable_questions(
    questions: Iterable[Question],
    catalogue: Catalogue,
    settings: PrepareSettings,
    report: Report,
    observed: Observed | None = None,
    *,
    space: Space | None = None,
    is_log: bool = False,
) -> Iterator[Question]:
    """Yield the questions that pass every filter; the others are counted in ``report``.

    ``observed`` sees all timelines of which questions with answers are made.

    Raises:
        InputError: an item has no text and the policy is ``fail``.
        UsageError: the source lacks what the settings need.
    """
    space = space or Space()
    timelines = filtered(questions, settings, report, is_log=is_log, space=space)
    if settings.split == "time":
        timelines = space.keep(timelines)
    expand = _expansion(timelines, settings)
    watch = _UnknownItems(catalogue, report, fail=settings.unknown == "fail")
    taken, sieve = _Taken(space, settings.seed), _Sieve(catalogue, settings, report)
    with_answer = settings.asks_with_answer
    for raw in timelines:
        watch.look_at(raw)
        if observed is not None and with_answer:
            observed.look_at(raw)
        if settings.predict and raw.split != PREDICT:
            taken.add(raw)
        if with_answer:
            yield from sieve.usable(expand(raw))
    yield from sieve.usable(taken.questions())
    watch.raise_if_any()


class _Sieve:
    """Lets the questions through that can be asked, and counts the others."""

    def __init__(self, catalogue: Catalogue, settings: PrepareSettings, report: Report) -> None:
        self._catalogue, self._settings, self._report = catalogue, settings, report

    def usable(self, questions: Iterable[Question]) -> Iterator[Question]:
        """Yield what is left of each question, if it can be asked."""
        for question in questions:
            if self._settings.unknown == "drop":
                question = _known_only(question, self._catalogue.ids)
            if self._settings.repeats == "drop":
                question = _new_only(question, self._report)
            reason = _unusable(question, self._settings)
            if reason:
                self._report.dropped[reason] += 1
            else:
                yield question


def _expansion(
    timelines: Iterable[Question], settings: PrepareSettings
) -> Callable[[Question], Iterable[Question]]:
    """Return what turns a timeline into the questions of the chosen split.

    ``timelines`` are read only where they are cut in time, and must be kept then.
    """
    every = settings.targets == "all"
    if settings.split == "leave-last-out":
        return partial(leave_last_out, every=every)
    if settings.split != "time":
        return lambda question: [question]
    found = Counter(question.timestamp is None for question in timelines)
    if found[True]:
        raise UsageError(
            f"--split time needs the time of every target; {found[True]:,} of "
            f"{found.total():,} examples have none. Use --split users or leave-last-out"
        )
    return partial(of_periods, cuts=_cuts(timelines, settings), every=every)


def _cuts(timelines: Iterable[Question], settings: PrepareSettings) -> CutTimes:
    """Cut at the dates that the user names, else by shares of all events."""
    if settings.valid_from_time is not None and settings.test_from_time is not None:
        return cuts_by_dates(settings.valid_from_time, settings.test_from_time)
    places = array("Q", (place_of(settings.seed, q.user_id) for q in timelines))
    users = distinct(np.frombuffer(places, dtype=np.uint64))
    sizes = settings.sizes or usual_sizes(len(users))
    chosen: Iterable[Question] = timelines
    if sizes.absolute and 0 < sizes.total < len(users):
        last = int(users[sizes.total - 1])
        chosen = (q for q, place in zip(timelines, places, strict=True) if place <= last)
    return cuts_by_shares(event_times(chosen), sizes, settings.windows_back)


class _Taken:
    """Collects everything that each user took, for a question about what comes next."""

    def __init__(self, space: Space, seed: int) -> None:
        self._asked, self._seed = space.sorted(), seed

    def add(self, question: Question) -> None:
        """Take one of a user's questions."""
        user = question.user_id
        self._asked.add((place_of(self._seed, user), user, True, question.timestamp or 0), question)

    def questions(self) -> Iterator[Question]:
        """Yield one question of split ``predict`` per user; its history holds every answer.

        Several impressions of a user share one history: what was clicked in the earlier
        ones stands behind it, in order of time.
        """
        for _, asked in groupby(self._asked, key=attrgetter("user_id")):
            *earlier, last = asked
            clicked = dict.fromkeys(item for q in earlier for item in q.positives)
            new = [item for item in clicked if item not in last.history]
            yield replace(
                last,
                history=[*last.history, *new, *last.positives],
                positives=[],
                timestamp=None,
                times=None,
                offered=None,
                suffix=f"-{PREDICT}",
                split=PREDICT,
            )


def _known_only(question: Question, known: set[str]) -> Question:
    """Leave out items without text; most questions have none, and are given back as they are."""
    all_known = known.issuperset
    if (
        all_known(question.history)
        and all_known(question.positives)
        and all_known(question.offered or ())
    ):
        return question
    offered = question.offered
    return replace(
        question,
        history=[item for item in question.history if item in known],
        positives=[item for item in question.positives if item in known],
        offered=None if offered is None else [item for item in offered if item in known],
    )


def _new_only(question: Question, report: Report) -> Question:
    """Leave out right answers that the user has taken before (--repeats drop)."""
    new = [item for item in question.positives if item not in question.history]
    repeated = len(question.positives) - len(new)
    if not repeated:
        return question
    report.left_out["right answers that stand in the history"] += repeated
    return replace(question, positives=new)


def _unusable(question: Question, settings: PrepareSettings) -> str:
    """Return why a question cannot be asked, or an empty string.

    A long history never costs a user the recommendations of tomorrow: ``drop`` is for
    questions with an answer.
    """
    length = len(question.history)
    if question.split == PREDICT:
        short = length < settings.min_history
        return f"{PREDICT}: history shorter than {settings.min_history}" if short else ""
    if not question.positives:
        return "no target with text" if settings.repeats == "keep" else "no new target with text"
    if length < settings.min_history:
        return f"history shorter than {settings.min_history}"
    if length > settings.max_history and settings.long == "drop":
        return f"history longer than {settings.max_history}"
    return ""


_ROLES = ("history items", "targets", "candidates of the source")


class _UnknownItems:
    """Counts items without text by role; under the policy ``fail`` they are faults."""

    def __init__(self, catalogue: Catalogue, report: Report, *, fail: bool) -> None:
        self._catalogue, self._fail = catalogue, fail
        self._shares = {role: report.unknown[role] for role in _ROLES}
        self._faults: dict[str, FaultList] = {}

    def look_at(self, question: Question) -> None:
        """Count the items of a question, and complain of those without text."""
        known = self._catalogue.ids
        of_role: tuple[Sequence[str], ...] = (
            *(question.history, question.positives, question.offered or ()),
        )
        for role, ids in zip(self._shares, of_role, strict=True):
            share = self._shares[role]
            share.total += len(ids)
            if not known.issuperset(ids):
                unknown = [item for item in ids if item not in known]
                share.part += len(unknown)
                if self._fail:
                    self._complain(question, role, unknown)

    def _complain(self, question: Question, role: str, unknown: list[str]) -> None:
        faults = self._faults.setdefault(question.file, FaultList(question.file))
        faults.add(
            question.line,
            f"user {question.user_id!r}: {len(unknown)} {role} without text in "
            f"{self._catalogue.name}, for example {unknown[0]!r}",
            "add the texts, or choose --unknown drop or keep",
        )

    def raise_if_any(self) -> None:
        """Raise what was complained of."""
        for faults in self._faults.values():
            faults.raise_if_any()
