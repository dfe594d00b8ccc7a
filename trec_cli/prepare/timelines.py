"""Events before anything is asked: order of ties, dates, ratings, k-core; then the questions.

A *timeline* is a question whose one positive is the last of a user's items; the clicked
articles of an impression are none, and stay as they are.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import lt
from typing import Any

import numpy as np
import numpy.typing as npt

from trec_cli.core.errors import UsageError
from trec_cli.core.records import Split
from trec_cli.core.seeds import derive_seed
from trec_cli.prepare.collection import Question
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings, Sizes
from trec_cli.prepare.space import Shelf, Space

_LATEST_FIRST: tuple[Split, ...] = ("test", "valid", "train")


def filtered(
    questions: Iterable[Question],
    settings: PrepareSettings,
    report: Report,
    *,
    is_log: bool,
    space: Space | None = None,
) -> Iterable[Question]:
    """Order equal times, then keep the events that the user wants; both are counted.

    Raises:
        UsageError: the source has no times or ratings to choose by.
    """
    kept: Iterable[Question] = (_ordered(q, settings.seed, report, is_log) for q in questions)
    if settings.since_time is not None or settings.until_time is not None:
        kept = _of_period(kept, settings, report)
    if settings.min_rating is not None:
        kept = _rated(kept, settings.min_rating, report)
    if settings.k_core > 1:
        kept = _core((space or Space()).keep(kept), settings.k_core, report)
    return kept


def _ordered(question: Question, seed: int, report: Report, is_log: bool) -> Question:
    """Order events of the same time by a hash, where the order of the file means nothing."""
    times = _times(question)
    if times is None:
        return question
    if len(times) > 1:
        report.ties.add(times[-1] == times[-2], 1)
    if not is_log or all(map(lt, times, times[1:])):
        return question
    timeline = [*question.history, *question.positives]
    user, shared = question.user_id, {time for time, number in Counter(times).items() if number > 1}

    def place(event: int) -> tuple[float, int]:
        tied = times[event] in shared
        return times[event], derive_seed(seed, user, "tie", timeline[event]) if tied else 0

    return _with_events(question, sorted(range(len(times)), key=place))


def _times(question: Question) -> list[float] | None:
    """Return the time of every event of a timeline, or None where one is missing."""
    known = question.times if question.history else []
    if known is None or question.timestamp is None or len(question.positives) != 1:
        return None
    return [*known, question.timestamp]


def _with_events(question: Question, indexes: Sequence[int]) -> Question:
    """Return the timeline of the events at ``indexes``, in this order; there is one at least."""
    timeline = [*question.history, *question.positives]
    times, ratings = _times(question), question.ratings
    *history, target = (timeline[i] for i in indexes)
    return replace(
        question,
        history=history,
        positives=[target],
        times=None if times is None else [times[i] for i in indexes[:-1]],
        timestamp=question.timestamp if times is None else times[indexes[-1]],
        ratings=None if ratings is None else [ratings[i] for i in indexes],
    )


def _chosen(
    question: Question, wanted: Sequence[bool], reason: str, report: Report
) -> Question | None:
    """Keep the wanted events of a timeline; None where there is none."""
    indexes = [index for index, want in enumerate(wanted) if want]
    if len(indexes) < len(wanted):
        report.left_out[reason] += len(wanted) - len(indexes)
    if not indexes:
        report.dropped[f"no event is left: {reason}"] += 1
        return None
    return question if len(indexes) == len(wanted) else _with_events(question, indexes)


def _of_period(
    questions: Iterable[Question], settings: PrepareSettings, report: Report
) -> Iterator[Question]:
    """Keep events of the period; an impression outside is dropped."""
    since = -math.inf if settings.since_time is None else settings.since_time
    until = math.inf if settings.until_time is None else settings.until_time
    for question in questions:
        if question.timestamp is None:
            raise UsageError("--since and --until need times, and the source has none")
        times = _times(question)
        if times is None:
            if since <= question.timestamp < until:
                yield question
            else:
                report.dropped["outside --since and --until"] += 1
            continue
        wanted = [since <= time < until for time in times]
        kept = _chosen(question, wanted, "outside --since and --until", report)
        if kept is not None:
            yield kept


def _rated(questions: Iterable[Question], least: float, report: Report) -> Iterator[Question]:
    """Keep events rated ``least`` or better; an event without a rating is left out, too."""
    for question in questions:
        if question.ratings is None:
            raise UsageError("--min-rating needs ratings, and the source has none")
        wanted = [rating is not None and rating >= least for rating in question.ratings]
        kept = _chosen(question, wanted, f"rated below {least:g}", report)
        if kept is not None:
            yield kept


def _core(questions: Shelf[Question], k: int, report: Report) -> Iterator[Question]:
    """Keep users and items with ``k`` events at least, until all that are left have them."""
    codes: dict[str, int] = {}
    lengths, items = array("q"), array("q")
    for question in questions:
        events = (*question.history, *question.positives)
        lengths.append(len(events))
        items.extend([codes.setdefault(item, len(codes)) for item in events])
    users = np.repeat(np.arange(len(questions)), np.frombuffer(lengths, dtype=np.int64))
    kept = core(users, np.frombuffer(items, dtype=np.int64), k)
    start = 0
    for question, length in zip(questions, lengths, strict=True):
        wanted = kept[start : start + length].tolist()
        start += length
        chosen = _chosen(question, wanted, f"not in the {k}-core", report)
        if chosen is not None:
            yield chosen


def core(
    users: npt.NDArray[np.int64], items: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.bool_]:
    """Mark the events of the k-core: the largest set in which all have ``k`` events.

    Users and items with fewer are left out in turns until none is left with fewer.
    """
    kept = np.ones(len(users), dtype=bool)
    while True:
        before = int(kept.sum())
        for codes in (users, items):
            counts = np.bincount(codes[kept], minlength=int(codes.max(initial=-1)) + 1)
            kept &= counts[codes] >= k
        if int(kept.sum()) == before:
            return kept


@dataclass(frozen=True)
class CutTimes:
    """Times that part train from valid, valid from test, and test from what is not asked."""

    last_train: float
    last_valid: float
    last_test: float = math.inf

    def split(self, time: float) -> Split | None:
        """Return the split of an event, or None after all; equal times stay together."""
        if time <= self.last_train:
            return "train"
        if time <= self.last_valid:
            return "valid"
        return "test" if time <= self.last_test else None


def cuts_by_shares(times: Iterable[float], sizes: Sizes, back: int = 0) -> CutTimes:
    """Cut where the shares of events put it; equal times stay on the earlier side.

    Args:
        times: of all events.
        sizes: shares.
        back: how many periods of the size of test lie behind the test period.

    Raises:
        UsageError: so far back there is nothing to train on.
    """
    ordered: npt.NDArray[Any] = np.sort(np.fromiter(times, dtype=np.float64))
    total = sizes.train + sizes.valid + sizes.test
    shares = (sizes.train, sizes.train + sizes.valid, total)
    counts = [math.ceil(len(ordered) * (share - back * sizes.test) / total) for share in shares]
    if back and counts[0] < 1:
        raise UsageError(
            "--window: nothing is left to train on; name fewer windows or less to test"
        )
    train, valid, test = (float(ordered[n - 1]) if n else -math.inf for n in counts)
    return CutTimes(train, valid, test if back else math.inf)


def cuts_by_dates(valid_from: float, test_from: float) -> CutTimes:
    """Cut right before two times."""
    last_train, last_valid = (np.nextafter(time, -math.inf) for time in (valid_from, test_from))
    return CutTimes(float(last_train), float(last_valid))


def event_times(questions: Iterable[Question]) -> Iterator[float]:
    """Yield the time of every event; of a question without times of its history, its own."""
    for question in questions:
        if question.timestamp is not None:
            yield from _times(question) or [question.timestamp]


def leave_last_out(question: Question, *, every: bool = False) -> Iterator[Question]:
    """Yield up to three questions: the last item tests, the one before validates, the third trains.

    What is behind an item never stands in its history, so training sees nothing of the
    items that validate and test.  With ``every``, all earlier items train, too.
    """
    length = len(question.history) + len(question.positives)
    for back, split in enumerate(_LATEST_FIRST, start=1):
        if length >= back:
            yield _asked_at(question, length - back, split)
    if every:
        for index in reversed(range(length - len(_LATEST_FIRST))):
            yield _asked_at(question, index, "train", f"-{index}")


def of_periods(question: Question, cuts: CutTimes, *, every: bool = False) -> Iterator[Question]:
    """Yield a question for the last event of each period, latest first; with ``every`` for all.

    A question of which only its own time is known stays one.
    """
    if question.split is not None:
        yield question
        return
    times = _times(question)
    if times is None:
        split = None if question.timestamp is None else cuts.split(question.timestamp)
        if split is not None:
            yield replace(question, split=split)
        return
    asked: set[Split] = set()
    for index in reversed(range(len(times))):
        split = cuts.split(times[index])
        if split is None:
            continue
        if every:
            yield _asked_at(question, index, split, f"-{index}")
        elif split not in asked:
            yield _asked_at(question, index, split)
        asked.add(split)


def _asked_at(question: Question, index: int, split: Split, suffix: str = "") -> Question:
    """Ask for the event at ``index`` of a timeline, after all before it."""
    timeline = [*question.history, *question.positives]
    times = None if question.times is None else [*question.times, question.timestamp]
    return replace(
        question,
        history=timeline[:index],
        positives=[timeline[index]],
        timestamp=times[index] if times else None,
        times=None,
        ratings=None,
        offered=question.offered if index == len(timeline) - 1 else None,
        suffix=f"{question.suffix}-{split}{suffix}",
        split=split,
    )
