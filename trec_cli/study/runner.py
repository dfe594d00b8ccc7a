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

from trec_cli.core.errors import InputError
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.core.progress import Progress
from trec_cli.study.launch import Crew
from trec_cli.study.steps import Step

_OWN = {"--json", "--quiet", "-q", "--overwrite"}
"""Options that do not decide an output's content."""


@dataclass(frozen=True)
class StepFailure:
    """Why an arm has no scores."""

    stage: str
    code: int
    message: str

    def __str__(self) -> str:
        """Name the stage and how it ended."""
        return f"{self.stage} ended with exit code {self.code}: {self.message or 'no message'}"


@dataclass
class StudyOutcome:
    """What came of the arms.

    Attributes:
        failed: by the arm's name.
        seconds: that the steps of each arm took in all runs, shared ones included.
    """

    failed: dict[str, StepFailure] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


_NOT_YET = StepFailure("", 0, "")
"""In place of how a step ended that has not."""


class Done:
    """Knows which steps are done, by their manifests; a file is hashed once."""

    def __init__(self) -> None:
        """Start without knowing any hash."""
        self._hashes: dict[tuple[str, int, int], str] = {}

    def seconds(self, step: Step) -> float | None:
        """Return how long a finished step took; None where it is to be run.

        It is finished where its output is what the manifest says, made by these arguments
        from inputs that are still the same.
        """
        manifest = _manifest(step)
        if manifest is None or _arguments(manifest) != list(step.arguments):
            return None
        known = {**manifest.get("inputs", {}), str(step.output): manifest.get("sha256")}
        if all(starmap(self._unchanged, known.items())):
            return float(manifest.get("seconds", 0.0))
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


def _manifest(step: Step) -> dict[str, Any] | None:
    with suppress(InputError):
        return read_manifest(step.output)
    return None


def _arguments(manifest: Mapping[str, Any]) -> list[str]:
    return [word for word in manifest.get("arguments", []) if word not in _OWN]


def made_otherwise(step: Step) -> bool:
    """Check whether a step's output is there, but another command has made it.

    Folders may have been moved or be named from elsewhere, so of paths only the ends count.
    Of an output without manifest (its command may have been killed) the command decides.
    """
    manifest = _manifest(step)
    if manifest is None:
        return False
    return list(map(_end, _arguments(manifest))) != list(map(_end, step.arguments))


def _end(word: str) -> str:
    """Return the last two parts of a path, and any other word as it is."""
    return "/".join(Path(word).parts[-2:]) if "/" in word else word


class Runner:
    """Runs the steps of arms, each step once, as many at a time as the crew has hands."""

    def __init__(
        self,
        arms: Mapping[str, Sequence[Step]],
        crew: Crew,
        progress: Progress,
        *,
        overwrite: bool = False,
    ) -> None:
        """Prepare to run; with ``overwrite`` outputs of other settings are replaced."""
        self._arms, self._crew, self._progress = arms, crew, progress
        self._more = ("--overwrite",) if overwrite else ()
        self._before = _before(arms)
        self._numbers = {step: number for number, step in enumerate(self._before, 1)}
        self._done = Done()
        self._working: dict[str, Step] = {}
        self._started: dict[Step, float] = {}
        self._ended: dict[Step, StepFailure | None] = {}
        self._took: dict[Step, float] = {}

    def run(self) -> StudyOutcome:
        """Run everything, in the order of the arms; an arm whose step fails is left there.

        Raises:
            KeyboardInterrupt: from the crew.
        """
        self._start_what_can()
        while self._working:
            self._take_one()
            self._start_what_can()
        failed = {name: why for name, steps in self._arms.items() if (why := self._failure(steps))}
        seconds = {
            name: round(sum(self._took.get(step, 0.0) for step in steps), 1)
            for name, steps in self._arms.items()
        }
        return StudyOutcome(failed, seconds)

    def _start_what_can(self) -> None:
        """Go through the steps in order; one that is done may let a later one begin."""
        for step in self._before:
            if len(self._working) == self._crew.size:
                return
            if self._may_start(step):
                self._start_or_skip(step)

    def _may_start(self, step: Step) -> bool:
        """Check whether it is this step's turn.

        One command at a time writes summaries: the next finds in the store what it has in
        common with those before.
        """
        busy = set(self._working.values())
        if step in self._ended or step in busy:
            return False
        if step.stage == "summarize" and any(other.stage == "summarize" for other in busy):
            return False
        return all(self._ended.get(other, _NOT_YET) is None for other in self._before[step])

    def _start_or_skip(self, step: Step) -> None:
        """Start a step, unless it is done; then note how long it took."""
        seconds = self._done.seconds(step)
        if seconds is not None:
            self._took[step], self._ended[step] = seconds, None
            return
        number = self._numbers[step]
        left = [other for other in self._before if other not in self._ended]
        self._progress.info(
            f"[{number} of {len(self._before)}] trec {shlex.join(step.arguments)}"
            f"{_estimate(left, self._took, self._crew.size)}"
        )
        name = f"{number} {step.stage}"
        self._working[name], self._started[step] = step, time.monotonic()
        # The same command made it from other inputs: it is the study's own, and outdated.
        outdated = ("--overwrite",) if _manifest(step) and not made_otherwise(step) else ()
        self._crew.start(name, [*step.arguments, *(self._more or outdated)])

    def _take_one(self) -> None:
        """Wait for one of the steps at work."""
        name, ending = self._crew.wait()
        step = self._working.pop(name)
        self._took[step] = time.monotonic() - self._started[step]
        failure = StepFailure(step.stage, ending.code, ending.message) if ending.code else None
        self._ended[step] = failure
        for arm, steps in self._arms.items() if failure else ():
            if step in steps:
                self._progress.warn(f"arm {arm} failed: {failure}")

    def _failure(self, steps: Sequence[Step]) -> StepFailure | None:
        return next((why for step in steps if (why := self._ended.get(step))), None)


def _before(arms: Mapping[str, Sequence[Step]]) -> dict[Step, list[Step]]:
    """List every step once, in the order of the arms, with those that it must wait for."""
    before: dict[Step, list[Step]] = {}
    for steps in arms.values():
        for index, step in enumerate(steps):
            before.setdefault(step, []).extend(steps[:index])
    return before


def _estimate(left: Sequence[Step], took: Mapping[Step, float], hands: int) -> str:
    """Estimate how long the remaining steps take, from those of the same stage."""
    known: defaultdict[str, list[float]] = defaultdict(list)
    for step, seconds in took.items():
        known[step.stage].append(seconds)
    guesses = [fmean(known[step.stage]) for step in left if known[step.stage]]
    if not guesses:
        return ""
    rest = len(left) - len(guesses)
    unknown = f", and {rest} steps of unknown length" if rest else ""
    return f" (about {in_words(sum(guesses) / hands)} left{unknown})"


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
