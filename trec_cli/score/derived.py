"""Scores made of other systems' scores.

*Lift* is what the user changes: the scores of a model less those of the same model without the
user.  ``s(user, item) - s(no user, item)`` of log-odds is the logarithm of how many times
likelier the user makes a yes, the pointwise mutual information of user and item where the odds
are small.  Whatever the model thinks of an item alone, for everybody, is gone from it.

*Stack* is the weighted sum of several systems' scores (Wolpert 1992, "Stacked Generalization"):
a conditional logit whose weights are fitted on the questions of split valid that all of them
have scored.  It says what one system adds to the others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Example, Split
from trec_cli.core.runs import LIFT_SUFFIX, NO_USER_SUFFIX, RunFolder, system_name
from trec_cli.evaluate.scores import ScoresLine, read_scores
from trec_cli.score.job import Job, Material, check_there, read_material
from trec_cli.score.kinds import LIFT, STACK
from trec_cli.score.options import Asked, LiftOptions
from trec_cli.signals.logit import Array, ChoiceSets, ConditionalLogit, fit_logit

_DECIMALS = 6
_FEWEST = 20
"""Questions of split valid below which weights would be made of noise."""
_VALID: Split = "valid"
_RESCORE = "score the same examples again, whole, and without --limit"

Lines = Mapping[str, ScoresLine]
"""Scores by example id."""


class LiftJob(Job):
    """A job that subtracts the scores of one file from those of another."""

    def __init__(self, system: str, material: Material, of: Path, minus: Path) -> None:
        """Read both files; ``system`` is the one whose scores are subtracted from.

        Raises:
            InputError: a file is at fault, or lacks an example that is asked.
        """
        super().__init__(f"{system}{LIFT_SUFFIX}", material, {}, [of, minus])
        self._files = [(path, _read(path, material.examples)) for path in (of, minus)]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Subtract, candidate by candidate."""
        return [self._score(self.examples[index]) for index in batch]

    def _score(self, example: Example) -> list[float]:
        seen, alone = (_row(lines, example, path) for path, lines in self._files)
        return [round(s - a, _DECIMALS) for s, a in zip(seen, alone, strict=True)]


class StackJob(Job):
    """A job that adds up the scores of several systems, weighed on split valid."""

    def __init__(self, material: Material, names: Sequence[str], files: Sequence[Path]) -> None:
        """Read all files and fit the weights.

        Args:
            material: examples of every split, and those to score.
            names: of the systems.
            files: their scores of the asked split, then those of split valid.

        Raises:
            InputError: a file is at fault or lacks an example that is asked, or too few
                questions of split valid have scores of all systems.
        """
        super().__init__("+".join(names), material, {"stack": list(names)}, files)
        asked, known = files[: len(names)], files[len(names) :]
        self._files = [(path, _read(path, material.examples)) for path in asked]
        self.logit = _fitted(names, known, material.everything)

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Add up, candidate by candidate."""
        return [
            self.logit.score(_features(self._files, self.examples[index])).round(_DECIMALS).tolist()
            for index in batch
        ]

    def details(self) -> Mapping[str, Any]:
        """Return the weights."""
        found = zip(self.logit.names, self.logit.weights, strict=True)
        return {"weights": {name: round(float(w), 6) for name, w in found}}

    def remarks(self) -> Sequence[str]:
        """Return the weights, in the spread of each system's scores, with standard errors."""
        logit = self.logit
        told = ", ".join(
            f"{name} {weight:.2f} ± {error:.2f}"
            for name, weight, error in zip(
                logit.names, logit.coefficients, logit.errors, strict=True
            )
        )
        return [
            f"weights from {logit.questions:,} questions of split valid (per standard deviation "
            f"of a system's scores, ± standard error): {told}"
        ]


def _read(path: Path, examples: Sequence[Example]) -> Lines:
    wanted = {example.example_id for example in examples}
    return {line.example: line for _, line in read_scores(path) if line.example in wanted}


def _row(lines: Lines, example: Example, file: Path) -> list[float]:
    """Return the scores of an example's candidates, in the example's order.

    Raises:
        InputError: the file does not have the example, or has other candidates of it.
    """
    line = lines.get(example.example_id)
    if line is None:
        problem = f"has no example {example.example_id!r}"
    else:
        found = dict(zip(line.candidates, line.scores, strict=False))
        whole = len(found) == len(line.scores)
        if whole and found.keys() == set(example.candidates):
            return [found[item] for item in example.candidates]
        problem = f"has other candidates for example {example.example_id!r} than the examples"
    raise InputError.of(file, problem, _RESCORE)


def _features(files: Sequence[tuple[Path, Lines]], example: Example) -> Array:
    """Return [candidates, systems]."""
    return np.array([_row(lines, example, path) for path, lines in files], float).T


def _fitted(
    names: Sequence[str], files: Sequence[Path], everything: Sequence[Example]
) -> ConditionalLogit:
    """Fit the weights on what all systems have scored of split valid."""
    valid = [example for example in everything if example.split == _VALID]
    read = [(path, _read(path, valid)) for path in files]
    shared = set.intersection(*(set(lines) for _, lines in read))
    questions = [e for e in valid if e.example_id in shared and e.positives]
    if len(questions) < _FEWEST:
        raise InputError.of(
            files[0],
            f"only {len(questions)} questions of split valid have scores of all of "
            f"{', '.join(names)}; weights need {_FEWEST}",
            "score more of them with --split valid",
        )
    blocks = [_features(read, example) for example in questions]
    right = [item in set(e.positives) for e in questions for item in e.candidates]
    choices = ChoiceSets.of(
        np.concatenate(blocks), np.cumsum([0, *map(len, blocks)]), np.array(right, bool)
    )
    return fit_logit(choices, names)


def make_lift_job(asked: Asked, options: LiftOptions, mode: str) -> LiftJob:
    """Find and read both files of scores.

    Raises:
        InputError: a file is missing or at fault.
        UsageError: files are neither named nor to be found in RUN.
    """
    of, minus = options.of, options.minus
    behind = _behind(asked.split)
    system = system_name(of).removesuffix(behind) if of else mode
    if asked.run is not None:
        run = RunFolder(asked.run)
        of = of or run.scores(f"{system}{behind}")
        minus = minus or run.scores(f"{system}{NO_USER_SUFFIX}{behind}")
    if of is None or minus is None:
        raise UsageError("--scorer lift needs two files of scores: give RUN, or --of and --minus")
    _check_scored(
        [of, minus],
        "score twice first, with and without --no-user, or name files with --of and --minus",
    )
    check_there(asked.files())
    return LiftJob(system, read_material(asked, LIFT, learns=False), of, minus)


def make_stack_job(asked: Asked, stack: Sequence[str] | None) -> StackJob:
    """Find and read the scores of several systems, of the asked split and of split valid.

    Args:
        asked: what is scored.
        stack: names of systems in RUN, or files of scores of the asked split; those of split
            valid lie beside them.

    Raises:
        InputError: a file is missing or at fault, or too few questions are shared.
        UsageError: fewer than two systems, one of them twice, or split valid is asked.
    """
    given = list(dict.fromkeys(stack or ()))
    if len(given) < 2 or len(given) != len(stack or ()):
        raise UsageError("--scorer stack needs two or more systems, such as --stack blend,none")
    if asked.split == _VALID:
        raise UsageError("--scorer stack fits its weights on split valid; ask another split")
    asked_files = [_scores_file(asked, name) for name in given]
    names = [system_name(path).removesuffix(_behind(asked.split)) for path in asked_files]
    if len(set(names)) != len(names):
        raise UsageError(f"--stack has two systems of one name: {', '.join(names)}")
    known = [
        RunFolder(path.parent).scores(f"{name}{_behind(_VALID)}")
        for path, name in zip(asked_files, names, strict=True)
    ]
    files = [*asked_files, *known]
    _check_scored(files, f"score it first: trec score with --split {asked.split} and {_VALID}")
    check_there(asked.files())
    return StackJob(read_material(asked, STACK), names, files)


def _behind(split: Split) -> str:
    """Return what stands behind the name of a system that was asked another split than test."""
    return "" if split == "test" else f"-{split}"


def _scores_file(asked: Asked, name: str) -> Path:
    """Return the file that a system's name, or a path, means.

    Raises:
        UsageError: a name without RUN.
    """
    if Path(name).name != name or name.endswith(".jsonl"):
        return Path(name)
    if asked.run is None:
        raise UsageError(f"--stack {name} is a system of RUN; give RUN, or files of scores")
    return RunFolder(asked.run).scores(f"{name}{_behind(asked.split)}")


def _check_scored(files: Sequence[Path], advice: str) -> None:
    for path in files:
        if not path.exists():
            raise InputError.of(path, "no such file", advice)
