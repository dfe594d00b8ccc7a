"""From a job to its file: batch by batch, resumable, the same for every scorer.

The file has scores, or the best items of every user (:class:`Top`).
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import ModelError, OutputFailed, PartialError, SettingsChanged
from trec_cli.core.jsonl import encode, is_stream
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import Journal, discard_leftover, locked, write_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Scores
from trec_cli.core.temporary import temporary_folder
from trec_cli.score.growth import Earlier, read_earlier, write_keys
from trec_cli.score.job import Cost, Job
from trec_cli.score.recommendations import (
    Recommendations,
    best_items,
    explained,
    has_reasons,
    write_recommendations,
)

_NAMED = 20
_EXPLAINED = 256
"""Examples whose lists are explained at once."""
_decode = msgspec.json.Decoder(Scores).decode


@dataclass
class Tally:
    """What was scored, by this run and by those that it continues.

    Attributes:
        cost: of all examples that a run has computed.
        continued: examples that earlier runs had scored.
        earlier: the output that is replaced because its inputs have grown.
        kept, added: examples whose scores are taken from it, and those that it has not.
        seconds: that earlier runs took.
    """

    cost: Cost = field(default_factory=Cost)
    continued: int = 0
    earlier: Earlier = field(default_factory=Earlier)
    kept: int = 0
    added: int = 0
    seconds: float = 0.0
    _started: float = field(default_factory=time.perf_counter)

    def add(self, cost: Cost) -> None:
        """Count a batch."""
        self.cost += cost

    def rates(self) -> dict[str, float]:
        """Return users, candidates and tokens per second."""
        seconds = max(self.seconds + time.perf_counter() - self._started, 1e-9)
        return {
            "users_per_second": round(self.cost.users / seconds, 3),
            "candidates_per_second": round(self.cost.candidates / seconds, 3),
            "tokens_per_second": round(self.cost.tokens / seconds, 1),
        }

    @property
    def remade(self) -> int:
        """Examples of the earlier output that were scored again."""
        return len(self.earlier.examples) - self.kept

    def note(self) -> str:
        """Return the rates in words."""
        rates = self.rates()
        note = f"{rates['users_per_second']:.2f} users/s"
        note += f" · {rates['candidates_per_second']:.1f} candidates/s"
        if self.cost.tokens:
            note += f" · {rates['tokens_per_second']:.0f} tokens/s"
        if self.cost.saved:
            note += f" · {self.cost.saved:.0%} tokens saved by sharing"
        return note

    def growth(self) -> str:
        """Describe what became of an output whose inputs have grown."""
        return (
            f"the inputs have grown: kept the scores of {self.kept} examples, scored "
            f"{self.remade} again and {self.added} new ones"
        )

    def details(self) -> dict[str, Any]:
        """Return the same for the manifest."""
        grown = {"kept": self.kept, "remade": self.remade, "added": self.added}
        return {
            **(grown if self.earlier.examples else {}),
            "users": self.cost.users,
            "candidates": self.cost.candidates,
            "tokens": self.cost.tokens,
            "tokens_saved_by_sharing": round(self.cost.saved, 4),
            **self.rates(),
            "continued_after_users": self.continued,
        }


@dataclass(frozen=True)
class Top:
    """Recommendations instead of scores.

    Attributes:
        count: items a user.
        seed: decides between equal scores.
    """

    count: int
    seed: int

    def lists(self, lines: Iterable[bytes]) -> Iterator[Recommendations]:
        """Yield the best items of every line of scores."""
        for line in lines:
            one = _decode(line)
            yield best_items(one.user_id, one.candidates, one.scores, self.count, self.seed)

    def explained(self, job: Job, lines: Iterable[bytes]) -> Iterator[Recommendations]:
        """Yield the same with reasons, where the scorer knows any."""
        lists = self.lists(lines)
        for start in range(0, len(job.examples), _EXPLAINED):
            part = list(islice(lists, _EXPLAINED))
            chosen = [[item.item_id for item in one.items] for one in part]
            yield from map(explained, part, job.reasons(range(start, start + len(part)), chosen))


def _provenance(job: Job, top: Top | None) -> Provenance:
    settings = job.settings if top is None else {**job.settings, **asdict(top)}
    return Provenance("score", settings, job.inputs, job.hashes)


def refusal(job: Job, out: Path, *, top: Top | None, overwrite: bool) -> SettingsChanged | None:
    """Return why :func:`write_scores` would refuse to write; None where it would not."""
    if is_stream(out):
        return None
    settings = _provenance(job, top).settings
    try:
        up_to_date(out, settings, overwrite=overwrite)
    except SettingsChanged as change:
        try:
            read_earlier(job, out, settings, change, top=top is not None)
        except SettingsChanged as refused:
            return refused
    return None


def write_scores(
    job: Job, out: Path, progress: Progress, *, top: Top | None = None, overwrite: bool = False
) -> Tally | None:
    """Score all of a job and write the file with its manifest.

    Args:
        job: the examples and their scorer.
        out: scores, or with ``top`` recommendations.
        progress: where to say what goes on.
        top: how many recommendations a user gets.
        overwrite: replace an output of other settings.

    Returns:
        What was done; None where ``out`` was finished already.

    Raises:
        SettingsChanged: ``out`` exists with other settings, and not ``overwrite``.
        OutputLocked: another run is writing it.
        ModelError: a score is no number.
        PartialError: some batches failed; the others are kept for the next run.
    """
    if is_stream(out):
        with temporary_folder("score") as folder:  # kept for no second run, but not in memory
            journal = Journal(folder / "scores.jsonl", {})
            tally = _score(job, journal, Earlier(), progress)
            _write(job, out, journal.records, top)
        return tally
    with locked(out):
        provenance = _provenance(job, top)
        unfinished = {**provenance.settings, **job.unfinished}
        earlier = Earlier()
        try:
            if up_to_date(out, provenance.settings, overwrite=overwrite):
                discard_leftover(out, unfinished)
                return None
        except SettingsChanged as change:
            earlier = read_earlier(job, out, provenance.settings, change, top=top is not None)
        again = overwrite or bool(earlier.examples)
        journal = Journal(out, unfinished, overwrite=again)
        provenance.earlier_seconds = journal.seconds
        tally = _score(job, journal, earlier, progress)
        with provenance.publish(out) as details:
            _write(job, out, journal.records, top)
            write_keys(job, out, journal.records, top=top is not None)
            details.update({**tally.details(), **job.details()})
        journal.discard()
    return tally


def _write(job: Job, out: Path, records: Mapping[str, bytes], top: Top | None) -> None:
    """Write scores, or what ``top`` makes of them, in the order of the examples."""
    lines = (records[example.example_id] for example in job.examples)
    if top is None:
        write_lines(out, lines)
    else:
        lists = top.explained(job, lines) if has_reasons(out) else top.lists(lines)
        write_recommendations(out, lists)


def _score(job: Job, journal: Journal, earlier: Earlier, progress: Progress) -> Tally:
    examples = job.examples
    batches = job.batches()
    tally = Tally(earlier=earlier, seconds=journal.seconds)
    tally.added = len(examples)
    if earlier.examples:
        tally.added = sum(e.example_id not in earlier.examples for e in examples)
    failed: list[tuple[str, PartialError]] = []
    with progress.task("scoring", len(examples)) as bar:
        kept = _keep(job, journal, earlier, batches)
        tally.kept = sum(len(batches[number]) for number in kept)
        for number, batch in enumerate(batches):
            if number not in kept and (error := _advance(job, journal, batch, tally)):
                failed += [(examples[index].example_id, error) for index in batch]
            bar.advance(len(batch), tally.note())
    if failed:
        raise _incomplete(failed, len(examples))
    return tally


def _keep(
    job: Job, journal: Journal, earlier: Earlier, batches: Sequence[Sequence[int]]
) -> set[int]:
    """Take over the batches that an earlier output was asked just so; return their numbers."""
    found = {n: scores for n, batch in enumerate(batches) if (scores := earlier.of(job, batch))}
    records = [one for n, scores in found.items() for one in _records(job, batches[n], scores)]
    if not journal.has(name for name, _ in records):
        journal.append(records)
    return set(found)


def _advance(job: Job, journal: Journal, batch: Sequence[int], tally: Tally) -> PartialError | None:
    """Score a batch, unless an earlier run has; return why it failed."""
    if journal.has(job.examples[index].example_id for index in batch):
        tally.continued += len(batch)
        if not journal.seconds:  # nobody wrote down how long it took
            return None
    else:
        started = time.perf_counter()
        try:
            records = _records(job, batch, job.score(batch))
        except OutputFailed:
            raise
        except PartialError as error:
            return error
        journal.append(records, time.perf_counter() - started)
    tally.add(sum(map(job.cost, batch), Cost()))
    return None


def _incomplete(failed: Sequence[tuple[str, PartialError]], total: int) -> PartialError:
    """Name the examples without scores, and show what happened to the first."""
    names = ", ".join(repr(name) for name, _ in failed[:_NAMED])
    more = ", …" if len(failed) > _NAMED else ""
    return PartialError(
        f"{len(failed)} of {total} examples have no scores yet ({names}{more}); the others are "
        f"kept, and the same command scores the rest. The first: {failed[0][1]}"
    )


def _records(
    job: Job, batch: Sequence[int], scores: Sequence[list[float]]
) -> list[tuple[str, bytes]]:
    chosen = [job.examples[index] for index in batch]
    pairs = zip(chosen, scores, strict=True)
    return [(example.example_id, encode(_as_record(example, row))) for example, row in pairs]


def _as_record(example: Example, scores: list[float]) -> Scores:
    if not all(map(math.isfinite, scores)):
        raise ModelError(
            f"example {example.example_id!r} got a score that is no number ({scores[:3]} …). "
            "The model overflows or its weights are damaged; try --dtype float32."
        )
    return Scores(
        example_id=example.example_id,
        user_id=example.user_id,
        split=example.split,
        candidates=example.candidates,
        scores=scores,
        positives=example.right,
    )
