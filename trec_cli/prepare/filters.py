"""From timelines to questions that can be asked: unknown items, repeats, lengths."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import FaultList
from trec_cli.core.records import PREDICT
from trec_cli.prepare.collection import Catalogue, Question
from trec_cli.prepare.negatives import Observed
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings, usual_sizes
from trec_cli.prepare.splits import hash_order
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
    is_log: bool = False,
) -> list[Question]:
    """Return the questions that pass every filter; the others are counted in ``report``.

    ``observed`` sees all timelines of which questions with answers are made.

    Raises:
        InputError: an item has no text and the policy is ``fail``; an ``example_id``
            stands twice.
        UsageError: the source lacks what the settings need.
    """
    timelines = filtered(questions, settings, report, is_log=is_log)
    if settings.split == "time":
        timelines = list(timelines)
    expand = _expansion(timelines, settings)
    watch = _UnknownItems(catalogue, report, fail=settings.unknown == "fail")
    taken, sieve = _Taken(), _Sieve(catalogue, settings, report)
    with_answer = settings.asks_with_answer
    for raw in timelines:
        watch.look_at(raw)
        if observed is not None and with_answer:
            observed.look_at(raw)
        if settings.predict and raw.split != PREDICT:
            taken.add(raw)
        if with_answer:
            sieve.pass_through(expand(raw))
    sieve.pass_through(taken.questions())
    watch.raise_if_any()
    return sieve.kept


class _Sieve:
    """Keeps the questions that can be asked, and counts the others."""

    def __init__(self, catalogue: Catalogue, settings: PrepareSettings, report: Report) -> None:
        self._catalogue, self._settings, self._report = catalogue, settings, report
        self.kept: list[Question] = []

    def pass_through(self, questions: Iterable[Question]) -> None:
        """Take what is left of each question, if it can be asked."""
        for question in questions:
            if self._settings.unknown == "drop":
                question = _known_only(question, self._catalogue.ids)
            if self._settings.repeats == "drop":
                question = _new_only(question, self._report)
            reason = _unusable(question, self._settings)
            if reason:
                self._report.dropped[reason] += 1
            else:
                self.kept.append(question)


def _expansion(
    timelines: Iterable[Question], settings: PrepareSettings
) -> Callable[[Question], Iterable[Question]]:
    """Return what turns a timeline into the questions of the chosen split."""
    every = settings.targets == "all"
    if settings.split == "leave-last-out":
        return partial(leave_last_out, every=every)
    if settings.split != "time":
        return lambda question: [question]
    assert isinstance(timelines, list)
    untimed = sum(question.timestamp is None for question in timelines)
    if untimed:
        raise UsageError(
            f"--split time needs the time of every target; {untimed:,} of {len(timelines):,} "
            "examples have none. Use --split users or leave-last-out"
        )
    return partial(of_periods, cuts=_cuts(timelines, settings), every=every)


def _cuts(timelines: list[Question], settings: PrepareSettings) -> CutTimes:
    """Cut at the dates that the user names, else by shares of all events."""
    if settings.valid_from_time is not None and settings.test_from_time is not None:
        return cuts_by_dates(settings.valid_from_time, settings.test_from_time)
    users = {question.user_id for question in timelines}
    sizes = settings.sizes or usual_sizes(len(users))
    if sizes.absolute:
        users = set(hash_order(users, settings.seed)[: sizes.total])
    times = event_times(q for q in timelines if q.user_id in users)
    return cuts_by_shares(times, sizes, settings.windows_back)


class _Taken:
    """Collects everything that each user took, for a question about what comes next."""

    def __init__(self) -> None:
        self._asked: defaultdict[str, list[Question]] = defaultdict(list)

    def add(self, question: Question) -> None:
        """Take one of a user's questions."""
        self._asked[question.user_id].append(question)

    def questions(self) -> Iterator[Question]:
        """Yield one question of split ``predict`` per user; its history holds every answer.

        Several impressions of a user share one history: what was clicked in the earlier
        ones stands behind it, in order of time.
        """
        for asked in self._asked.values():
            *earlier, last = sorted(asked, key=lambda q: q.timestamp or 0)
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
    if known.issuperset(question.history) and known.issuperset(
        [*question.positives, *(question.offered or ())]
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


class _UnknownItems:
    """Counts items without text by role; under the policy ``fail`` they are faults."""

    def __init__(self, catalogue: Catalogue, report: Report, *, fail: bool) -> None:
        self._catalogue, self._report, self._fail = catalogue, report, fail
        self._faults: dict[str, FaultList] = {}

    def look_at(self, question: Question) -> None:
        """Count the items of a question, and complain of those without text."""
        roles: dict[str, Sequence[str]] = {
            "history items": question.history,
            "targets": question.positives,
            "candidates of the source": question.offered or (),
        }
        for role, ids in roles.items():
            unknown: list[str] = []
            if not self._catalogue.ids.issuperset(ids):
                unknown = [item for item in ids if item not in self._catalogue.ids]
            self._report.unknown[role].add(len(unknown), len(ids))
            if unknown and self._fail:
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
