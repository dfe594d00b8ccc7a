"""From a job to its file: batch by batch, resumable, the same for every scorer.

The file has scores, or the best items of every user (:class:`Top`).
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from trec_cli.core.errors import ModelError, OutputFailed, PartialError
from trec_cli.core.jsonl import encode, is_stream
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import Journal, locked, write_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Scores
from trec_cli.score.job import Cost, Job
from trec_cli.score.recommendations import Recommendations, best_items, write_recommendations

_NAMED = 20
_decode = msgspec.json.Decoder(Scores).decode


@dataclass
class Tally:
    """What this run has scored since it started."""

    cost: Cost = field(default_factory=Cost)
    continued: int = 0
    _started: float = field(default_factory=time.perf_counter)

    def add(self, cost: Cost) -> None:
        """Count a batch."""
        self.cost += cost

    def rates(self) -> dict[str, float]:
        """Return users, candidates and tokens per second."""
        seconds = max(time.perf_counter() - self._started, 1e-9)
        return {
            "users_per_second": round(self.cost.users / seconds, 3),
            "candidates_per_second": round(self.cost.candidates / seconds, 3),
            "tokens_per_second": round(self.cost.tokens / seconds, 1),
        }

    def note(self) -> str:
        """Say how fast it goes."""
        rates = self.rates()
        note = f"{rates['users_per_second']:.2f} users/s"
        note += f" · {rates['candidates_per_second']:.1f} candidates/s"
        if self.cost.tokens:
            note += f" · {rates['tokens_per_second']:.0f} tokens/s"
        if self.cost.saved:
            note += f" · {self.cost.saved:.0%} tokens saved by sharing"
        return note

    def details(self) -> dict[str, Any]:
        """Return the same for the manifest."""
        return {
            "users": self.cost.users,
            "candidates": self.cost.candidates,
            "tokens": self.cost.tokens,
            "tokens_saved_by_sharing": round(self.cost.saved, 4),
            **self.rates(),
            "continued_after_users": self.continued,
        }


class _Keeper(Protocol):
    def has(self, ids: Iterable[str]) -> bool: ...

    def append(self, records: Sequence[tuple[str, bytes]]) -> None: ...


class _Collected:
    """The journal of a stream: nothing is kept for a second run."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}

    def has(self, ids: Iterable[str]) -> bool:  # noqa: ARG002 - a journal's interface
        return False

    def append(self, records: Sequence[tuple[str, bytes]]) -> None:
        self.records.update(records)


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
        collected = _Collected()
        tally = _score(job, collected, progress)
        _write(job, out, collected.records, top)
        return tally
    settings = job.settings if top is None else {**job.settings, **asdict(top)}
    with locked(out):
        provenance = Provenance("score", settings, job.inputs, job.hashes)
        if up_to_date(out, provenance.settings, overwrite=overwrite):
            return None
        journal = Journal(out, provenance.settings, overwrite=overwrite)
        tally = _score(job, journal, progress)
        with provenance.publish(out) as details:
            _write(job, out, journal.records, top)
            details.update({**tally.details(), **job.details()})
        journal.discard()
    return tally


def _write(job: Job, out: Path, records: Mapping[str, bytes], top: Top | None) -> None:
    """Write scores, or what ``top`` makes of them, in the order of the examples."""
    lines = (records[example.example_id] for example in job.examples)
    if top is None:
        write_lines(out, lines)
    else:
        write_recommendations(out, top.lists(lines))


def _score(job: Job, keeper: _Keeper, progress: Progress) -> Tally:
    examples = job.examples
    batches = job.batches()
    tally = Tally()
    failed: list[tuple[str, PartialError]] = []
    with progress.task("scoring", len(examples)) as bar:
        for batch in batches:
            if keeper.has(examples[index].example_id for index in batch):
                tally.continued += len(batch)
            else:
                try:
                    keeper.append(_records(job, batch))
                    tally.add(sum(map(job.cost, batch), Cost()))
                except OutputFailed:
                    raise
                except PartialError as error:
                    failed += [(examples[index].example_id, error) for index in batch]
            bar.advance(len(batch), tally.note())
    if failed:
        raise _incomplete(failed, len(examples))
    return tally


def _incomplete(failed: Sequence[tuple[str, PartialError]], total: int) -> PartialError:
    """Name the examples without scores, and show what happened to the first."""
    names = ", ".join(repr(name) for name, _ in failed[:_NAMED])
    more = ", …" if len(failed) > _NAMED else ""
    return PartialError(
        f"{len(failed)} of {total} examples have no scores yet ({names}{more}); the others are "
        f"kept, and the same command scores the rest. The first: {failed[0][1]}"
    )


def _records(job: Job, batch: Sequence[int]) -> list[tuple[str, bytes]]:
    chosen = [job.examples[index] for index in batch]
    pairs = zip(chosen, job.score(batch), strict=True)
    return [(example.example_id, encode(_as_record(example, scores))) for example, scores in pairs]


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
        positives=[*example.positives, *(example.missed or ())],
    )
