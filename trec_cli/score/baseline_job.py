"""Scoring with a baseline: no language model, no torch."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.records import Example, Item
from trec_cli.score.baselines import BASELINES, learn_baseline
from trec_cli.score.names import check_scorer
from trec_cli.score.request import ScoreRequest
from trec_cli.score.tuning import Tuned, TuningPlan, plan_tuning
from trec_cli.score.writing import Cost

_BATCH = 256


def make_baseline_job(request: ScoreRequest) -> "BaselineJob":
    """Read the files and make the job.

    Raises:
        UsageError: there is no such scorer.
        InputError: as the readers raise it.
    """
    check_scorer(request.scorer)
    items = read_items(request.items)
    everything = read_examples(request.examples, items)
    return BaselineJob(
        plan_tuning(request, BASELINES[request.scorer].grid, everything),
        items,
        everything,
        request.choose(everything),
        settings=request.settings(items, everything),
        inputs=[request.items, request.examples],
        seed=request.seed,
    )


def fixed_batches(count: int) -> list[range]:
    """Cut ``count`` examples into batches in their order."""
    return [range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH)]


class BaselineJob:
    """A :class:`~trec_cli.score.writing.Job` for one of ``BASELINES``."""

    def __init__(
        self,
        plan: TuningPlan,
        items: Mapping[str, Item],
        everything: Sequence[Example],
        examples: Sequence[Example],
        *,
        settings: Mapping[str, Any],
        inputs: Sequence[Path],
        seed: int,
    ) -> None:
        """Learn from ``everything`` (only its split train) to score ``examples``.

        Nothing is tuned yet.

        Raises:
            UsageError: there is no such baseline, or nothing that it could learn from.
        """
        self.examples, self.inputs = examples, inputs
        self.settings = {**settings, "seed": seed, **plan.settings}
        self._plan = plan
        self._family = learn_baseline(plan.scorer, items, everything, seed)

    @cached_property
    def _tuned(self) -> Tuned:
        return self._plan.run(self._family)

    def batches(self) -> list[range]:
        """Cut the examples into batches in their order."""
        return fixed_batches(len(self.examples))

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples."""
        return [self._tuned.scorer(self.examples[place]) for place in batch]

    def cost(self, place: int) -> Cost:
        """Count an example; it has no tokens."""
        return Cost(users=1, candidates=len(self.examples[place].candidates))

    def details(self) -> dict[str, Any]:
        """Say which settings were tried and chosen."""
        return self._plan.details(self._tuned)

    def remarks(self) -> list[str]:
        """Say the same in words."""
        return [self._plan.remark(self._tuned)]
