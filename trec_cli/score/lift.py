"""What the user changes: the scores of a model less those of the same model without the user.

``s(user, item) - s(no user, item)`` of log-odds is the logarithm of how many times likelier the
user makes a yes, the pointwise mutual information of user and item where the odds are small.
Whatever the model thinks of an item alone, for everybody, is gone from it.
"""

from collections.abc import Sequence
from pathlib import Path

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.records import Example
from trec_cli.core.runs import LIFT_SUFFIX, NO_USER_SUFFIX, RunFolder, system_name
from trec_cli.evaluate.scores import ScoresLine, read_scores
from trec_cli.score.job import Job, Material, check_there, read_material
from trec_cli.score.kinds import LIFT
from trec_cli.score.options import Asked, LiftOptions

_DECIMALS = 6


class LiftJob(Job):
    """A job that subtracts the scores of one file from those of another."""

    def __init__(self, system: str, material: Material, of: Path, minus: Path) -> None:
        """Read both files; ``system`` is the one whose scores are subtracted from.

        Raises:
            InputError: a file is at fault, or lacks an example that is asked.
        """
        super().__init__(f"{system}{LIFT_SUFFIX}", material, {}, [of, minus])
        self._files = of, minus
        wanted = {example.example_id for example in material.examples}
        self._with, self._without = (
            {line.example: line for _, line in read_scores(path) if line.example in wanted}
            for path in self._files
        )

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Subtract, candidate by candidate."""
        return [self._score(self.examples[index]) for index in batch]

    def _score(self, example: Example) -> list[float]:
        seen = _by_item(self._with.get(example.example_id), example, self._files[0])
        alone = _by_item(self._without.get(example.example_id), example, self._files[1])
        return [round(seen[item] - alone[item], _DECIMALS) for item in example.candidates]


def _by_item(line: ScoresLine | None, example: Example, file: Path) -> dict[str, float]:
    """Return the scores of an example's candidates.

    Raises:
        InputError: the file does not have the example, or has other candidates of it.
    """
    if line is None:
        problem = f"has no example {example.example_id!r}"
    else:
        found = dict(zip(line.candidates, line.scores, strict=False))
        whole = len(found) == len(line.scores)
        if whole and found.keys() == set(example.candidates):
            return found
        problem = f"has other candidates for example {example.example_id!r} than the examples"
    raise InputError.of(file, problem, "score the same examples again, whole, and without --limit")


def make_lift_job(asked: Asked, options: LiftOptions, mode: str) -> LiftJob:
    """Find and read both files of scores.

    Raises:
        InputError: a file is missing or at fault.
        UsageError: files are neither named nor to be found in RUN.
    """
    of, minus = options.of, options.minus
    behind = "" if asked.split == "test" else f"-{asked.split}"
    system = system_name(of).removesuffix(behind) if of else mode
    if asked.run is not None:
        run = RunFolder(asked.run)
        of = of or run.scores(f"{system}{behind}")
        minus = minus or run.scores(f"{system}{NO_USER_SUFFIX}{behind}")
    if of is None or minus is None:
        raise UsageError("--scorer lift needs two files of scores: give RUN, or --of and --minus")
    for path in (of, minus):
        if not path.exists():
            raise InputError.of(
                path,
                "no such file",
                "score twice first, with and without --no-user, or name files with --of and "
                "--minus",
            )
    check_there(asked.files())
    return LiftJob(system, read_material(asked, LIFT, learns=False), of, minus)
