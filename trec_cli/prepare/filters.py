"""From timelines to questions that can be asked: unknown items, lengths, leave-last-out."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList
from trec_cli.core.records import PREDICT, Split
from trec_cli.prepare.collection import Catalogue, Question
from trec_cli.prepare.negatives import Observed
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings


def usable_questions(
    questions: Iterable[Question],
    catalogue: Catalogue,
    settings: PrepareSettings,
    report: Report,
    observed: Observed | None = None,
) -> list[Question]:
    """Return the questions that pass every filter; the others are counted in ``report``.

    ``observed`` sees all of them as they were read.

    Raises:
        InputError: an item has no text and the policy is ``fail``; an ``example_id``
            stands twice.
    """
    expand = leave_last_out if settings.split == "leave-last-out" else _as_it_is
    watch = _UnknownItems(catalogue, report, fail=settings.unknown == "fail")
    timelines = _Timelines()
    kept: list[Question] = []

    def keep(question: Question) -> None:
        if settings.unknown == "drop":
            question = _known_only(question, catalogue.ids)
        reason = _unusable(question, settings)
        if reason:
            report.dropped[reason] += 1
        else:
            kept.append(question)

    for raw in questions:
        watch.look_at(raw)
        if observed is not None:
            observed.look_at(raw)
        if settings.predict:
            timelines.add(raw)
        if settings.sizes.total or not settings.predict:
            for question in expand(raw):
                keep(question)
    for question in timelines.questions():
        keep(question)
    watch.raise_if_any()
    return kept


class _Timelines:
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


def _as_it_is(question: Question) -> Iterator[Question]:
    yield question


def leave_last_out(question: Question) -> Iterator[Question]:
    """Give up to three questions: the last item tests, the one before validates, the third trains.

    What is behind an item never stands in its history, so training sees nothing of the
    items that validate and test.
    """
    timeline = [*question.history, *question.positives]
    times = None if question.times is None else [*question.times, question.timestamp]
    splits: tuple[Split, ...] = ("test", "valid", "train")
    for back, split in enumerate(splits, start=1):
        place = len(timeline) - back
        if place < 0:
            return
        yield replace(
            question,
            history=timeline[:place],
            positives=[timeline[place]],
            timestamp=times[place] if times else None,
            times=None,
            offered=question.offered if split == "test" else None,
            suffix=f"{question.suffix}-{split}",
            split=split,
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
        return "no target with text"
    if length < settings.min_history:
        return f"history shorter than {settings.min_history}"
    if length > settings.max_history and settings.long == "drop":
        return f"history longer than {settings.max_history}"
    return ""


class _UnknownItems:
    """Counts items without text in every place; under the policy ``fail`` they are faults."""

    def __init__(self, catalogue: Catalogue, report: Report, *, fail: bool) -> None:
        self._catalogue, self._report, self._fail = catalogue, report, fail
        self._faults: dict[str, FaultList] = {}

    def look_at(self, question: Question) -> None:
        """Count the items of a question, and complain of those without text."""
        places: dict[str, Sequence[str]] = {
            "history items": question.history,
            "targets": question.positives,
            "candidates of the source": question.offered or (),
        }
        for place, ids in places.items():
            unknown = [item for item in ids if item not in self._catalogue.ids]
            self._report.unknown[place].add(len(unknown), len(ids))
            if unknown and self._fail:
                self._complain(question, place, unknown)

    def _complain(self, question: Question, place: str, unknown: list[str]) -> None:
        faults = self._faults.setdefault(question.file, FaultList(question.file))
        faults.add(
            question.line,
            f"user {question.user_id!r}: {len(unknown)} {place} without text in "
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
