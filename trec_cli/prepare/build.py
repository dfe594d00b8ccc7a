"""From a collection to examples and items: filter, split, draw negatives, count."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import encode_all
from trec_cli.core.manifest import Provenance
from trec_cli.core.outputs import atomic, fill
from trec_cli.core.progress import Progress
from trec_cli.core.records import PREDICT, Example, Item
from trec_cli.core.runs import RunFolder
from trec_cli.core.seeds import generator
from trec_cli.core.text import counted
from trec_cli.prepare.arrange import Arrivals, Asked, arrange
from trec_cli.prepare.candidates import (
    named_candidates,
    retrieved_candidates,
    with_candidates,
)
from trec_cli.prepare.collection import Catalogue, Collection, Question
from trec_cli.prepare.filters import usable_questions
from trec_cli.prepare.growth import Growth, compare
from trec_cli.prepare.negatives import Negatives, Observed, Sampler
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings
from trec_cli.prepare.space import Space

Auditor = Callable[[Path, Path], dict[str, Any] | None]
"""Audits items and examples, and gives what the manifests shall say."""
_DRAWN = 20
_NOTED = 1000


@dataclass
class Prepared:
    """What is left to write: first all :meth:`examples`, then :meth:`items`.

    Examples come in the order of a hash of (seed, user), so that the first n of them are
    a random sample.  ``report`` is complete when both were read.  ``file`` is that of the
    questions, for messages; ``drawable`` are the items that may be negatives.
    """

    asked: Asked
    file: str
    drawable: Set[str]
    observed: Observed
    catalogue: Catalogue
    settings: PrepareSettings
    report: Report
    progress: Progress
    _used: set[str] = field(default_factory=set)

    def examples(self) -> Iterator[Example]:
        """Yield the examples, each with its candidates."""
        popularity = self.asked.popularity
        drawn = self._drawn() if self.settings.candidates is None else self._named()
        total = len(self.asked.questions)
        with self.progress.task("choosing candidates", total=total) as task:
            for number, (question, example) in enumerate(drawn, 1):
                if number % _NOTED == 0:
                    task.advance(_NOTED)
                if example is None:
                    self.report.dropped[self._reason_without()] += 1
                    continue
                self.report.counts_of(example.split).add(example, question, popularity)
                self._used.update(example.history, example.candidates, example.missed or ())
                yield example

    def _reason_without(self) -> str:
        """Return why a question has no candidates."""
        if self.settings.candidates is None:
            return "no negative left"
        return "no wrong candidate, or (train, valid) no right one"

    def _drawn(self) -> Iterator[tuple[Question, Example | None]]:
        """Yield the questions with drawn candidates, or those of the source."""
        negatives = self._negatives()
        for _, group in groupby(self.asked.questions, attrgetter("user_id")):
            questions = list(group)
            own = {item for q in questions if q.split == "train" for item in q.positives}
            for question in questions:
                yield question, self._example(question, negatives, own)
        self.report.negatives_outside = negatives.outside
        self.report.negatives_other_folds = negatives.other_folds

    def _named(self) -> Iterator[tuple[Question, Example | None]]:
        """Yield the questions with candidates from a file or a retrieval."""
        settings, questions = self.settings, self.asked.questions
        bare = [self._bare(question) for question in questions]
        wanted = settings.retrieved
        lists: Iterable[Sequence[str] | None]
        if wanted is not None:
            self.progress.info(f"retrieving {counted(wanted.count, 'candidate')} for each question")
            items = {
                item.item_id: item for item in self.catalogue.fetch(sorted(self.catalogue.ids))
            }
            items |= {name: Item(name, {}) for name in sorted(self.drawable - items.keys())}
            lists = retrieved_candidates(items, bare, wanted, self.progress)
        else:
            lists = named_candidates(Path(settings.candidates or ""), bare)
        for question, example, candidates in zip(questions, bare, lists, strict=True):
            if candidates is None:
                self.report.dropped["no candidates in the file"] += 1
                continue
            counts = self.report.counts_of(example.split)
            yield (
                question,
                with_candidates(example, candidates, self.drawable, counts, settings.seed),
            )

    def _negatives(self) -> Negatives:
        """Prepare the draw, and note from what."""
        population = self.settings.drawn_from
        counts: Mapping[str, Mapping[str, int]] | None = None
        if self.settings.negatives == "popularity":
            counts = self.asked.answers
            if population == "catalogue":
                counts = {"": self.asked.popularity}
        negatives = Negatives(population, self.drawable, self.observed, counts)
        if self.settings.draws and self.settings.asks_with_answer:
            self.report.choices["population"] = negatives.described
        return negatives

    def items(self) -> Iterator[Item]:
        """Yield the items of the examples (or all), sorted by id."""
        known = self.catalogue.ids
        wanted = known if self.settings.written == "all" else self._used & known
        yield from self.catalogue.fetch(sorted(wanted))
        unknown = sorted(self._used - known)
        yield from (Item(item_id, {}) for item_id in unknown)
        self.report.items.add(len(unknown), len(wanted) + len(unknown))

    def _example(self, question: Question, negatives: Negatives, own: Set[str]) -> Example | None:
        """Choose and shuffle candidates by (seed, user); None where there is no negative.

        A question about the future has those of the source alone, if it has any.
        """
        assert question.split is not None
        future = question.split == PREDICT
        if future and not question.offered:
            return self._bare(question)
        rng = generator(self.settings.seed, question.user_id, "candidates", question.suffix)
        wrong = (
            list(question.offered or ()) if future else self._wrong(question, negatives, rng, own)
        )
        if not wrong and not future:
            return None
        candidates = sorted({*question.positives, *wrong})
        return msgspec.structs.replace(
            self._bare(question),
            candidates=[candidates[i] for i in rng.permutation(len(candidates)).tolist()],
        )

    def _bare(self, question: Question) -> Example:
        """Return the example of a question, without candidates."""
        assert question.split is not None
        start = max(0, len(question.history) - self.settings.max_history)
        return Example(
            example_id=question.example_id,
            user_id=question.user_id,
            split=question.split,
            history=question.history[start:],
            candidates=[],
            positives=question.positives,
            timestamp=question.timestamp,
            start=start,
            older=question.history[:start] if start and question.split == PREDICT else None,
        )

    def _wrong(
        self, question: Question, negatives: Negatives, rng: np.random.Generator, own: Set[str]
    ) -> list[str]:
        """Draw negatives, or take those of the source; none is in the history or right."""
        assert question.split is not None
        counts = self.report.counts_of(question.split)
        banned = {*question.history, *question.positives}
        number = self.settings.number
        if question.offered is None:
            number = number or _DRAWN
            drawn = negatives.draw(question, rng, number, banned, own)
            counts.too_few_negatives += len(drawn) < number
            return drawn
        distinct = set(question.offered) - banned
        counts.source_left_out += len(question.offered) - len(distinct)
        if number is None or number >= len(distinct):
            counts.too_few_negatives += len(distinct) < (number or 1)
            return list(distinct)
        return Sampler(distinct).draw(rng, number, frozenset())


def build(
    collection: Collection,
    settings: PrepareSettings,
    progress: Progress,
    space: Space | None = None,
) -> Prepared:
    """Read, filter and split a collection; candidates are drawn while it is written.

    Args:
        collection: as read; its questions are read here.
        settings: of the preparation.
        progress: where bars go.
        space: where questions wait; in memory by default.

    Raises:
        InputError: faults of the files, or nothing is left.
        UsageError: the collection cannot give what the settings ask for.
    """
    space = space or Space()
    report = Report(read=collection.counts)
    observed = Observed()
    arrivals = Arrivals(settings, space)
    for question in usable_questions(
        collection.questions,
        collection.catalogue,
        settings,
        report,
        observed,
        space=space,
        is_log=collection.is_log,
    ):
        arrivals.add(question)
    arrivals.check_unique()
    if not len(arrivals):
        raise _nothing_left(collection.file, report)
    arrivals.choose_negatives(collection.offers, report)
    # Were only items with text drawn, a candidate kept without text would always be right.
    drawable = collection.catalogue.ids | arrivals.seen
    return Prepared(
        asked=arrange(arrivals, settings, report, space),
        file=collection.file,
        drawable=drawable,
        observed=observed,
        catalogue=collection.catalogue,
        settings=settings,
        report=report,
        progress=progress,
    )


def _nothing_left(file: str, report: Report) -> InputError:
    reasons = ", ".join(f"{n:,}: {reason}" for reason, n in report.dropped.items())
    return InputError.of(
        file,
        f"no example is left ({reasons or 'the source has none'})",
        "see --min-history, --max-history, --long and --unknown",
    )


def save(
    prepared: Prepared,
    run: RunFolder,
    provenance: Provenance,
    audit: Auditor | None = None,
    *,
    grown: bool = False,
) -> Growth | None:
    """Write both files, whole or not at all, and their manifests; use inside ``locked``.

    Where the inputs have ``grown``, the files that are there were made from others; returns what
    became of them.  What ``audit`` finds in the files stands in the manifests.

    Raises:
        InputError: no example has a negative.
        OutputFailed: a file cannot be written.
        UsersGone: the inputs have lost a user.
    """
    growth = None
    with (
        provenance.publish(run.items, run.examples) as details,
        atomic(run.examples) as examples,
        atomic(run.items) as items,
    ):
        fill(examples, encode_all(prepared.examples()))
        check_not_empty(prepared)
        fill(items, encode_all(prepared.items()))
        if grown and run.examples.exists():
            growth = compare(run.examples, examples)
        details["counts"] = prepared.report.as_dict()
        if audit is not None and prepared.settings.asks_with_answer:
            details["audit"] = audit(items, examples)
    return growth


def check_not_empty(prepared: Prepared) -> None:
    """Check that an example came out.

    Raises:
        InputError: saying why all were dropped.
    """
    if not prepared.report.examples:
        raise _nothing_left(prepared.file, prepared.report)
