"""Running the steps of a study: what is done is skipped, what fails costs one arm only."""

import shlex
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from statistics import fmean
from typing import Any

from trec_cli.errors import InputError
from trec_cli.manifest import file_hash, read_manifest
from trec_cli.progress import Progress
from trec_cli.study.launch import Launch
from trec_cli.study.steps import Step

_OWN = {"--json", "--quiet", "-q", "--overwrite"}
"""Options that do not decide an output's content."""


@dataclass(frozen=True)
class Failure:
    """Why an arm has no scores."""

    stage: str
    code: int
    message: str

    def __str__(self) -> str:
        """Say which stage ended how."""
        return f"{self.stage} ended with exit code {self.code}: {self.message or 'no message'}"


@dataclass
class Outcome:
    """What came of the arms.

    Attributes:
        failed: by the arm's name.
        seconds: that the steps of each arm took in all runs, shared ones included.
    """

    failed: dict[str, Failure] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Done:
    """Knows which steps are done, by their manifests; a file is hashed once."""

    def __init__(self) -> None:
        """Start without knowing any hash."""
        self._hashes: dict[tuple[str, int, int], str] = {}

    def seconds(self, step: Step) -> float | None:
        """Give how long a finished step took; None where it is to be run.

        It is finished where its output is what the manifest says, made by these arguments
        from inputs that are still the same.
        """
        manifest = self._manifest(step)
        if manifest is None:
            return None
        arguments = [word for word in manifest.get("arguments", []) if word not in _OWN]
        known = {**manifest.get("inputs", {}), str(step.output): manifest.get("sha256")}
        if arguments == list(step.arguments) and all(starmap(self._unchanged, known.items())):
            return float(manifest.get("seconds", 0.0))
        return None

    def _manifest(self, step: Step) -> dict[str, Any] | None:
        with suppress(InputError):
            return read_manifest(step.output)
        return None

    def _unchanged(self, name: str, known: str | None) -> bool:
        path = Path(name)
        if not path.is_file():
            return path.is_dir() and file_hash(path) == known
        state = path.stat()
        key = (name, state.st_mtime_ns, state.st_size)
        if key not in self._hashes:
            self._hashes[key] = file_hash(path)
        return self._hashes[key] == known


class Runner:
    """Runs the steps of arms, each step once."""

    def __init__(
        self,
        arms: Mapping[str, Sequence[Step]],
        launch: Launch,
        progress: Progress,
        *,
        overwrite: bool = False,
    ) -> None:
        """Prepare to run; with ``overwrite`` outputs of other settings are replaced."""
        self._arms, self._launch, self._progress = arms, launch, progress
        self._more = ("--overwrite",) if overwrite else ()
        self._steps = list(dict.fromkeys(step for steps in arms.values() for step in steps))
        self._done = Done()
        self._ended: dict[Step, Failure | None] = {}
        self._took: dict[Step, float] = {}

    def run(self) -> Outcome:
        """Run everything, arm by arm; an arm whose step fails is left there.

        Raises:
            KeyboardInterrupt: from ``launch``.
        """
        outcome = Outcome()
        for name, steps in self._arms.items():
            failure = self._first_failure(steps)
            if failure:
                outcome.failed[name] = failure
                self._progress.warn(f"arm {name} failed: {failure}")
            outcome.seconds[name] = round(sum(self._took.get(step, 0.0) for step in steps), 1)
        return outcome

    def _first_failure(self, steps: Sequence[Step]) -> Failure | None:
        for step in steps:
            if step not in self._ended:
                self._ended[step] = self._run(step)
            if failure := self._ended[step]:
                return failure
        return None

    def _run(self, step: Step) -> Failure | None:
        """Run a step unless it is done; note how long it took."""
        seconds = self._done.seconds(step)
        if seconds is not None:
            self._took[step] = seconds
            return None
        place = self._steps.index(step)
        self._progress.info(
            f"[{place + 1} of {len(self._steps)}] trec {shlex.join(step.arguments)}"
            f"{_estimate(self._steps[place:], self._took)}"
        )
        started = time.monotonic()
        ending = self._launch([*step.arguments, *self._more])
        self._took[step] = time.monotonic() - started
        return Failure(step.stage, ending.code, ending.message) if ending.code else None


def _estimate(left: Sequence[Step], took: Mapping[Step, float]) -> str:
    """Say how long the steps left may take, from those of the same stage."""
    known: defaultdict[str, list[float]] = defaultdict(list)
    for step, seconds in took.items():
        known[step.stage].append(seconds)
    guesses = [fmean(known[step.stage]) for step in left if known[step.stage]]
    if not guesses:
        return ""
    rest = len(left) - len(guesses)
    unknown = f", and {rest} steps of unknown length" if rest else ""
    return f" (about {in_words(sum(guesses))} left{unknown})"


def in_words(seconds: float) -> str:
    """Write a duration: ``40 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"


def open_steps(arms: Mapping[str, Sequence[Step]]) -> Iterator[tuple[Step, bool]]:
    """Yield every step once, and whether it is done."""
    done = Done()
    for step in dict.fromkeys(step for steps in arms.values() for step in steps):
        yield step, done.seconds(step) is not None
