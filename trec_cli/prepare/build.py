"""From a collection to examples and items: filter, split, draw negatives, count."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from trec_cli.core.errors import InputError, SettingsChanged, UsageError
from trec_cli.core.jsonl import encode_all
from trec_cli.core.manifest import Provenance
from trec_cli.core.outputs import atomic, fill
from trec_cli.core.progress import Progress
from trec_cli.core.records import ANSWERED, PREDICT, Example, Item, Split
from trec_cli.core.runs import RunFolder
from trec_cli.core.seeds import generator
from trec_cli.prepare.candidates import (
    named_candidates,
    retrieved_candidates,
    with_candidates,
)
from trec_cli.prepare.collection import Catalogue, Collection, Question
from trec_cli.prepare.filters import check_unique, usable_questions
from trec_cli.prepare.growth import Growth, compare
from trec_cli.prepare.negatives import Negatives, Observed, Sampler, answer_counts
from trec_cli.prepare.report import Report
from trec_cli.prepare.settings import PrepareSettings, SplitKind, usual_sizes
from trec_cli.prepare.splits import by_fixed, by_parts, by_users, hash_order

_DRAWN = 20
_NOTED = 1000


@dataclass
class Prepared:
    """What is left to write: first all :meth:`examples`, then :meth:`items`.

    Examples come in the order of a hash of (seed, user), so that the first n of them are
    a random sample.  ``report`` is complete when both were read.  ``drawable`` are the items
    that may be negatives.
    """

    questions: list[Question]
    drawable: Set[str]
    observed: Observed
    catalogue: Catalogue
    settings: PrepareSettings
    report: Report
    progress: Progress
    _used: set[str] = field(default_factory=set)

    def examples(self) -> Iterator[Example]:
        """Yield the examples, each with its candidates."""
        popularity = self._popularity()
        drawn = self._drawn(popularity) if self.settings.candidates is None else self._named()
        with self.progress.task("choosing candidates", total=len(self.questions)) as task:
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

    def _drawn(self, popularity: Mapping[str, int]) -> Iterator[tuple[Question, Example | None]]:
        """Yield the questions with drawn candidates, or those of the source."""
        negatives = self._negatives(popularity)
        for question in self.questions:
            yield question, self._example(question, negatives)
        self.report.negatives_outside = negatives.outside

    def _named(self) -> Iterator[tuple[Question, Example | None]]:
        """Yield the questions with candidates from a file or a retrieval."""
        settings, bare = self.settings, [self._bare(question) for question in self.questions]
        wanted = settings.retrieved
        lists: Iterable[Sequence[str] | None]
        if wanted is not None:
            self.progress.info(f"retrieving {wanted.count} candidates for each question")
            items = {
                item.item_id: item for item in self.catalogue.fetch(sorted(self.catalogue.ids))
            }
            items |= {name: Item(name, {}) for name in sorted(self.drawable - items.keys())}
            lists = retrieved_candidates(items, bare, wanted, self.progress)
        else:
            lists = named_candidates(Path(settings.candidates or ""), bare)
        for question, example, candidates in zip(self.questions, bare, lists, strict=True):
            if candidates is None:
                self.report.dropped["no candidates in the file"] += 1
                continue
            counts = self.report.counts_of(example.split)
            yield (
                question,
                with_candidates(example, candidates, self.drawable, counts, settings.seed),
            )

    def _negatives(self, popularity: Mapping[str, int]) -> Negatives:
        """Prepare the draw, and note from what."""
        population = self.settings.drawn_from
        counts: Mapping[str, Mapping[str, int]] | None = None
        if self.settings.negatives == "popularity":
            counts = answer_counts(self.questions)
            if population == "catalogue":
                counts = dict.fromkeys(ANSWERED, popularity)
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

    def _kept(self, question: Question) -> list[str]:
        return question.history[-self.settings.max_history :]

    def _popularity(self) -> Counter[str]:
        """Count items in training histories; nothing of the other splits is known here.

        Where a user is asked for every item, one history is the start of the next: only the
        longest counts.
        """
        trained = [question for question in self.questions if question.split == "train"]
        if self.settings.targets == "all":
            ordered = sorted(trained, key=lambda question: len(question.history))
            trained = list({question.user_id: question for question in ordered}.values())
        counts: Counter[str] = Counter()
        for question in trained:
            counts.update(self._kept(question))
        return counts

    def _example(self, question: Question, negatives: Negatives) -> Example | None:
        """Choose and shuffle candidates by (seed, user); None where there is no negative.

        A question about the future has those of the source alone, if it has any.
        """
        assert question.split is not None
        future = question.split == PREDICT
        if future and not question.offered:
            return self._bare(question)
        rng = generator(self.settings.seed, question.user_id, "candidates", question.suffix)
        wrong = list(question.offered or ()) if future else self._wrong(question, negatives, rng)
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
        return Example(
            example_id=question.example_id,
            user_id=question.user_id,
            split=question.split,
            history=self._kept(question),
            candidates=[],
            positives=question.positives,
            timestamp=question.timestamp,
            start=max(0, len(question.history) - self.settings.max_history),
        )

    def _wrong(
        self, question: Question, negatives: Negatives, rng: np.random.Generator
    ) -> list[str]:
        """Draw negatives, or take those of the source; none is in the history or right."""
        assert question.split is not None
        counts = self.report.counts_of(question.split)
        banned = {*question.history, *question.positives}
        number = self.settings.number
        if question.offered is None:
            number = number or _DRAWN
            drawn = negatives.draw(question, rng, number, banned)
            counts.too_few_negatives += len(drawn) < number
            return drawn
        distinct = set(question.offered) - banned
        counts.source_left_out += len(question.offered) - len(distinct)
        if number is None or number >= len(distinct):
            counts.too_few_negatives += len(distinct) < (number or 1)
            return list(distinct)
        return Sampler(distinct).draw(rng, number, frozenset())


def build(collection: Collection, settings: PrepareSettings, progress: Progress) -> Prepared:
    """Read, filter and split a collection; candidates are drawn while it is written.

    Raises:
        InputError: faults of the files, or nothing is left.
        UsageError: the collection cannot give what the settings ask for.
    """
    report = Report(read=collection.counts)
    observed = Observed()
    questions = usable_questions(
        collection.questions,
        collection.catalogue,
        settings,
        report,
        observed,
        is_log=collection.is_log,
    )
    check_unique(questions)
    if not questions:
        raise _nothing_left(collection.catalogue.name, report)
    _choose_negatives(questions, collection, settings, report)
    drawable = _drawable(questions, collection.catalogue, settings)
    questions = _pick_users(questions, settings, report)
    questions = _split(questions, settings, report)
    return Prepared(
        questions=questions,
        drawable=drawable,
        observed=observed,
        catalogue=collection.catalogue,
        settings=settings,
        report=report,
        progress=progress,
    )


def _drawable(
    questions: Sequence[Question], catalogue: Catalogue, settings: PrepareSettings
) -> Set[str]:
    """Return what may be a negative: the items with text, and those kept without.

    Were only items with text drawn, a candidate without text would always be right.
    """
    if settings.unknown != "keep":
        return catalogue.ids
    seen = {item for q in questions for item in (*q.history, *q.positives)}
    return catalogue.ids | seen


def _nothing_left(file: str, report: Report) -> InputError:
    reasons = ", ".join(f"{n:,}: {reason}" for reason, n in report.dropped.items())
    return InputError.of(
        file,
        f"no example is left ({reasons or 'the source has none'})",
        "see --min-history, --max-history, --long and --unknown",
    )


def _choose_negatives(
    questions: list[Question], collection: Collection, settings: PrepareSettings, report: Report
) -> None:
    """Decide whether the source's negatives are used; forget them where they are not."""
    if settings.candidates is not None:
        report.choices["candidates"] = settings.candidates
        for question in questions:
            question.offered = None
        report.choices["negatives"] = "none"
        return
    there = collection.offers if any(q.offered for q in questions) else None
    asked = settings.negatives
    if asked in ("fixed", "impression") and asked != there:
        raise UsageError(f"--negatives {asked}: the source has none; choose uniform or popularity")
    if asked in ("uniform", "popularity"):
        for question in questions:
            question.offered = None
    report.choices["negatives"] = asked if asked != "auto" else there or "uniform"


def _pick_users(
    questions: list[Question], settings: PrepareSettings, report: Report
) -> list[Question]:
    """Put questions in hash order of users, and keep those of the first ``max_users``.

    With --split time, numbers of users are picked here too.
    """
    order = hash_order((q.user_id for q in questions), settings.seed)[: settings.max_users]
    rank = {user: index for index, user in enumerate(order)}
    kept = [q for q in questions if q.user_id in rank]
    if settings.split == "time" and settings.sizes and settings.sizes.absolute:
        answered = {q.user_id for q in kept if q.split != PREDICT}
        first = set(hash_order(answered, settings.seed)[: settings.sizes.total])
        kept = [q for q in kept if q.split == PREDICT or q.user_id in first]
    _note_unpicked(len(questions) - len(kept), report)
    kept.sort(key=lambda q: (rank[q.user_id], q.split == PREDICT, q.timestamp or 0))
    return kept


def _note_unpicked(number: int, report: Report) -> None:
    if number:
        report.dropped["user not picked"] += number


def _split_kind(
    questions: list[Question], offered: set[str], settings: PrepareSettings, report: Report
) -> SplitKind:
    """Decide the way of splitting, where the user leaves it open.

    Users with candidates fixed by the source test where only some have them; a source that is
    published in parts keeps them, unless sizes are named.
    """
    fixed = report.choices["negatives"] == "fixed"
    if settings.split == "fixed" and not (fixed and offered):
        raise UsageError("--split fixed needs users with candidates fixed by the source")
    if settings.split != "auto":
        return settings.split
    parts = {question.part for question in questions}
    if settings.sizes is None and None not in parts and len(parts) > 1:
        return "parts"
    some = fixed and any(q.user_id not in offered for q in questions)
    return "fixed" if some else "users"


def _split(questions: list[Question], settings: PrepareSettings, report: Report) -> list[Question]:
    """Set the split of every question; those of users in no split are left out."""
    answered = [q for q in questions if q.split != PREDICT]
    if not answered:
        report.choices = {"split": PREDICT}
        report.empty_by_choice = frozenset(ANSWERED)
        return questions
    offered = {q.user_id for q in answered if q.offered}
    kind = _split_kind(answered, offered, settings, report)
    report.choices["split"] = kind
    if kind == "parts":
        parts = by_parts(answered, settings.seed)
        for question in answered:
            question.split = parts[str(question.part)][question.user_id]
    elif kind in ("users", "fixed"):
        _split_users(answered, offered, kind, settings, report)
    kept = [q for q in questions if q.split]
    _note_unpicked(len(questions) - len(kept), report)
    report.note_order(kept)
    return kept


def _split_users(
    answered: list[Question],
    offered: set[str],
    kind: SplitKind,
    settings: PrepareSettings,
    report: Report,
) -> None:
    """Set the split of every question by its user."""
    users = list(dict.fromkeys(q.user_id for q in answered))
    sizes = settings.sizes or usual_sizes(len(users))
    report.empty_by_choice = sizes.zero
    splits: dict[str, Split] = (
        by_fixed(users, offered, sizes, settings.seed)
        if kind == "fixed"
        else by_users(users, sizes, settings.seed)
    )
    for question in answered:
        question.split = splits.get(question.user_id)


def save(
    prepared: Prepared,
    run: RunFolder,
    provenance: Provenance,
    change: SettingsChanged | None = None,
) -> Growth | None:
    """Write both files, whole or not at all, and their manifests; use inside ``locked``.

    With ``change``, the files that are there were made from other inputs; returns what became
    of them.

    Raises:
        InputError: no example has a negative.
        OutputFailed: a file cannot be written.
        SettingsChanged: the inputs have lost a user.
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
        if change is not None and run.examples.exists():
            growth = compare(run.examples, examples, change)
        details["counts"] = prepared.report.as_dict()
    return growth


def check_not_empty(prepared: Prepared) -> None:
    """Check that an example came out.

    Raises:
        InputError: saying why all were dropped.
    """
    if not prepared.report.examples:
        raise _nothing_left(prepared.catalogue.name, prepared.report)
