"""From a scorer to `scores-NAME.jsonl`: batch by batch, resumable, the same for every scorer."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trec_cli.core.errors import ModelError, OutputFailed, PartialError
from trec_cli.core.jsonl import encode, is_stream
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import Journal, locked, write_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Scores

_NAMED = 20


class Job(Protocol):
    """What there is to score, in which batches, and how."""

    @property
    def examples(self) -> Sequence[Example]:
        """The examples, in the order of the output."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything beside the inputs that decides the scores."""

    @property
    def inputs(self) -> Sequence[Path]:
        """The files that were read."""

    def batches(self) -> Sequence[Sequence[int]]:
        """Plan the batches, as places in ``examples``; the same every time."""

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples.

        Raises:
            PartialError: this batch failed and others may not; it is left for the next run.
        """

    def cost(self, place: int) -> "Cost":
        """Say what an example costs."""

    def details(self) -> Mapping[str, Any]:
        """Say what else belongs into the manifest."""

    def remarks(self) -> Sequence[str]:
        """Say, after scoring, what the user should know."""


@dataclass(frozen=True)
class Cost:
    """What one or several examples cost.

    Attributes:
        users, candidates: how many.
        tokens: in forward passes.
        separate_tokens: in forward passes, were every prompt computed by itself.
    """

    users: int = 0
    candidates: int = 0
    tokens: int = 0
    separate_tokens: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """Sum the costs of different examples."""
        return Cost(
            self.users + other.users,
            self.candidates + other.candidates,
            self.tokens + other.tokens,
            self.separate_tokens + other.separate_tokens,
        )

    @property
    def saved(self) -> float:
        """Share of tokens that sharing the prefix saves."""
        return 1 - self.tokens / self.separate_tokens if self.separate_tokens else 0.0


@dataclass
class Tally:
    """What this run has scored since it started."""

    cost: Cost = Cost()
    continued: int = 0
    _started: float = field(default_factory=time.perf_counter)

    def add(self, cost: Cost) -> None:
        """Count a batch."""
        self.cost += cost

    def rates(self) -> dict[str, float]:
        """Give users, candidates and tokens per second."""
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
        """Give the same for the manifest."""
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


def write_scores(
    job: Job, out: Path, progress: Progress, *, overwrite: bool = False
) -> Tally | None:
    """Score all of a job and write the file with its manifest.

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
        write_lines(out, (collected.records[e.example_id] for e in job.examples))
        return tally
    with locked(out):
        provenance = Provenance("score", job.settings, job.inputs)
        if up_to_date(out, provenance.settings, overwrite=overwrite):
            return None
        journal = Journal(out, provenance.settings, overwrite=overwrite)
        tally = _score(job, journal, progress)
        with provenance.publish(out) as details:
            journal.finish(example.example_id for example in job.examples)
            details.update({**tally.details(), **job.details()})
        journal.discard()
    return tally


def _score(job: Job, keeper: _Keeper, progress: Progress) -> Tally:
    examples = job.examples
    batches = job.batches()
    tally = Tally()
    failed: list[tuple[str, PartialError]] = []
    with progress.task("scoring", len(examples)) as bar:
        for batch in batches:
            if keeper.has(examples[place].example_id for place in batch):
                tally.continued += len(batch)
            else:
                try:
                    keeper.append(_records(job, batch))
                    tally.add(sum(map(job.cost, batch), Cost()))
                except OutputFailed:
                    raise
                except PartialError as error:
                    failed += [(examples[place].example_id, error) for place in batch]
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
    chosen = [job.examples[place] for place in batch]
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
