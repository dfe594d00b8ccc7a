"""Choosing the settings of a baseline on split valid: a small grid, the best of it scores.

A trial is measured by its MRR over all candidates, ties at their expected value, as
:mod:`trec_cli.evaluate.metrics` has it.  The default settings stand first in every grid,
and the first of equal trials is chosen, so that nothing but evidence replaces them.
What is chosen depends on the examples and the seed, never on the order of a file.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from typing import Any

import numpy as np

from trec_cli.core.arrays import spans
from trec_cli.core.records import Example
from trec_cli.core.seeds import derive_seed
from trec_cli.evaluate.metrics import Floats, Pools, rank, reciprocal_rank
from trec_cli.score.job import Job, Material
from trec_cli.score.options import Asked

Scorer = Callable[[Example], list[float]]
"""Returns one score per candidate of an example, in candidate order; higher is better."""

Settings = Mapping[str, Any]
"""What one trial sets, by name; each name is one of the manifest, too."""

Family = Callable[[Settings], Scorer]
"""Makes a scorer of what was learnt once and of settings."""

MOST_EXAMPLES = 1000
"""Validation examples that are used at most; the standard error of their MRR is about .01."""

_TOGETHER = 256
"""Examples ranked at once; bounds the memory where candidates are many."""


@dataclass(frozen=True)
class TuningTrial:
    """One choice of settings and its MRR on the validation examples."""

    settings: Settings
    valid_mrr: float


@dataclass(frozen=True)
class Tuned:
    """What came of a plan.

    Attributes:
        chosen: the settings that score.
        scorer: with these settings.
        trials: all that were measured, in the order of the grid; none where the
            default settings were taken.
    """

    chosen: Settings
    scorer: Scorer
    trials: tuple[TuningTrial, ...] = ()


@dataclass(frozen=True)
class TuningPlan:
    """Which settings are tried, and on what.

    Attributes:
        scorer: its name, for messages.
        grid: the settings, the default first.
        examples: of split valid, in an order of their own.
        reason: why the default settings are taken; empty where they are tuned.
        seed: that the examples were drawn by.
    """

    scorer: str
    grid: Sequence[Settings]
    examples: Sequence[Example]
    reason: str
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """What of the plan decides the scores; nothing where there is nothing to tune."""
        if self.reason:
            return {"grid": [self.grid[0]]} if self.grid[0] else {}
        return {"grid": self.grid, "tuned_on_at_most": MOST_EXAMPLES, "seed": self.seed}

    def run(self, family: Family) -> Tuned:
        """Measure every trial and choose the best, the first of equal ones."""
        if self.reason:
            return Tuned(self.grid[0], family(self.grid[0]))
        trials = tuple(TuningTrial(s, validation_mrr(family(s), self.examples)) for s in self.grid)
        best = max(trials, key=lambda trial: trial.valid_mrr)
        return Tuned(best.settings, family(best.settings), trials)

    def details(self, tuned: Tuned) -> dict[str, Any]:
        """Return the manifest's part: what was chosen, and by which trials."""
        if not self.grid[0]:
            return {}
        trials = [{"settings": t.settings, "valid_mrr": t.valid_mrr} for t in tuned.trials]
        why = {"not_tuned": self.reason} if self.reason else {}
        count = len(self.examples)
        return {"chosen": tuned.chosen, "trials": trials, "valid_examples": count, **why}

    def remark(self, tuned: Tuned) -> str:
        """Return the same in one line."""
        if not self.grid[0]:
            return f"{self.scorer}: {self.reason}"
        chosen = ", ".join(f"{name} {value}" for name, value in tuned.chosen.items())
        if self.reason:
            return f"{self.scorer}: default settings, {chosen}; {self.reason}"
        count = len(self.examples)
        mrr = max(trial.valid_mrr for trial in tuned.trials)
        return (
            f"{self.scorer}: best on {count} example{'s' * (count != 1)} of valid with {chosen} "
            f"(MRR {mrr:.3f}; {len(tuned.trials)} trials)"
        )


def plan_tuning(
    scorer: str,
    grid: Sequence[Settings],
    everything: Sequence[Example],
    asked: Asked,
    *,
    tune: bool,
) -> TuningPlan:
    """Plan how to choose from ``grid``, never on the split that is scored.

    Args:
        scorer: its name, for messages.
        grid: the settings to try, the default first; a single one is not tuned.
        everything: all examples of the file.
        asked: the split that is scored, and the seed.
        tune: whether the user wants it.
    """
    valid = draw_examples(everything, asked.seed)
    reason = ""
    if len(grid) == 1:
        reason = "there is nothing to tune"
    elif not tune:
        reason = "not tuned, as asked for"
    elif asked.split == "valid":
        reason = "valid is the split that is scored, so nothing is tuned on it"
    elif not valid:
        reason = "there is no example of split valid to tune on"
    return TuningPlan(scorer, grid, [] if reason else valid, reason, asked.seed)


class TunedJob(Job):
    """A job whose scorer is chosen on split valid when the first batch is scored."""

    def __init__(
        self, plan: TuningPlan, family: Family, material: Material, settings: Mapping[str, Any]
    ) -> None:
        """Score with what ``plan`` chooses of ``family``; nothing is tuned yet."""
        super().__init__(plan.scorer, material, {**settings, **plan.settings})
        self._plan, self._family = plan, family

    @cached_property
    def _tuned(self) -> Tuned:
        return self._plan.run(self._family)

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples."""
        return [self._tuned.scorer(self.examples[index]) for index in batch]

    def details(self) -> dict[str, Any]:
        """Return which settings were tried and chosen."""
        return self._plan.details(self._tuned)

    def remarks(self) -> list[str]:
        """Return the same in words."""
        return [self._plan.remark(self._tuned)]


def draw_examples(everything: Sequence[Example], seed: int) -> list[Example]:
    """Draw at most :data:`MOST_EXAMPLES` examples of split valid, whatever their order.

    Each gets a number from (seed, user id, example id); the lowest ones are taken.  One whose
    positives are all missed says the same of every trial and is left out.
    """
    valid = (e for e in everything if e.split == "valid" and e.positives)
    return nsmallest(MOST_EXAMPLES, valid, key=lambda e: derive_seed(seed, e.user_id, e.example_id))


def validation_mrr(scorer: Scorer, examples: Sequence[Example]) -> float:
    """Mean reciprocal rank of the first positive among all candidates, from 0 to 1.

    The sum is exact, so the order of the examples cannot decide between two trials.
    """
    parts = (examples[span] for span in spans(len(examples), _TOGETHER))
    values = [value for part in parts for value in _reciprocal_ranks(scorer, part)]
    return math.fsum(values) / len(values)


def _reciprocal_ranks(scorer: Scorer, examples: Sequence[Example]) -> Floats:
    """Compute 1 / rank of each example's first positive, shape [examples].

    In single precision: the last bits of a score come from the order in which terms were
    summed, which is that of the items' file.
    """
    scores = [np.asarray(scorer(example), dtype=np.float32) for example in examples]
    right = [[item in e.positives for item in e.candidates] for e in examples]
    ranks = rank(Pools.of(scores, right))
    return reciprocal_rank(ranks, int(ranks.candidates.max()))
