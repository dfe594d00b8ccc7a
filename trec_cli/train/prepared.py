"""A training that is ready to run: its examples measured, its steps planned."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trec_cli.core.errors import UsageError
from trec_cli.core.progress import Progress
from trec_cli.core.text import counted
from trec_cli.models.log_odds import row_limits
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.measure import Measure, measure
from trec_cli.train.plan import StepPlan
from trec_cli.train.settings import TrainSettings, continues

_FEW_STEPS = 100
_SHORT_HISTORY = 10
_LOOKED_AT = 100
_FEW_USERS = "--users-per-step 1 --learning-rate 1e-3"
"""What learnt most from 250 users (docs/results-old.md)."""


@dataclass(frozen=True)
class PreparedTraining:
    """What a training consists of, known before any weights are loaded."""

    data: TrainingExamples
    valid: Sequence[SummarizedExample]
    measure: Measure
    plan: StepPlan
    settings: TrainSettings

    @property
    def eval_every(self) -> int:
        """Steps between validations."""
        once_per_epoch = math.ceil(self.plan.steps / self.settings.epochs)
        return min(self.settings.eval_every or once_per_epoch, self.plan.steps)

    def warnings(self) -> list[str]:
        """Name what a user should not miss."""
        found, short = [], self.measure.total.short
        if short:
            have = counted(short, "example has", "examples have")
            found.append(f"{have} fewer negatives than asked for; all are used")
        if self.measure.total.cuts:
            found.append(str(self.measure.total.cuts))
        if not self.valid and self.settings.valid_users:
            found.append("there are no examples of split valid: nothing chooses the best adapter")
        if self.settings.targets == "all" and (few := self._few_targets()):
            found.append(few)
        largest, most = max(self.measure.largest), self.settings.max_tokens
        if self.settings.targets == "all" and largest > most:
            found.append(
                f"the largest history has {largest} tokens with what is asked of it, more than "
                f"--max-tokens {most}: if memory is short, lower --max-targets or --recent"
            )
        if self.plan.steps < _FEW_STEPS:
            smaller = f"for few users take {_FEW_USERS}, or"
            found.append(
                f"only {counted(self.plan.steps, 'optimizer step')}: a model learns little in so "
                "few; "
                f"{smaller if self.settings.users_per_step > 1 else 'take'} more --epochs"
            )
        return found

    def _few_targets(self) -> str | None:
        """Say why little more than the last items is learnt, if so."""
        recent = self.data.builder.settings.recent
        if not self.measure.total.earlier:
            return (
                "--targets all finds nothing to learn but the last items: it takes items of the "
                "history that the prompt shows (--recent), with one before them that it shows, "
                "and that no summary tells (trec summarize --skip-recent)"
            )
        if recent < _SHORT_HISTORY and not any(q.told for q in self.data.questions[:_LOOKED_AT]):
            return (
                f"--targets all learns from the {recent} items that the prompt shows; show more "
                "with --recent"
            )
        return None

    def _targets(self) -> dict[str, int]:
        """Count what is learnt where it is more than the examples' own positives."""
        if self.settings.targets == "last":
            return {}
        return {"targets per epoch": self.measure.total.targets}

    def facts(self) -> dict[str, Any]:
        """Describe what is learnt from, for the card and the manifest."""
        return {
            "training examples": len(self.data),
            **self._targets(),
            "prompts per epoch": self.measure.total.prompts,
            "tokens per epoch": round(self.measure.total.expected),
            "tokens per epoch, every prompt by itself": round(self.measure.total.separate),
            "validation examples": len(self.valid),
            "cut": str(self.measure.total.cuts),
        }


def prepare(
    questions: Sequence[SummarizedExample],
    valid: Sequence[SummarizedExample],
    builder: PromptBuilder,
    settings: TrainSettings,
    device: torch.device,
    progress: Progress | None = None,
) -> PreparedTraining:
    """Measure all prompts and plan the steps.

    On the CPU rows are kept short: there attention over a long row costs more than company
    saves (see :func:`~trec_cli.models.log_odds.row_limits`).

    Args:
        questions: of split train, each with a negative at least.
        valid: of split valid; none means no validation.
        builder: for this model's tokenizer.
        settings: of the training.
        device: where the model will be.
        progress: where to say what goes on.

    Raises:
        UsageError: fewer examples than processes.
    """
    if len(questions) * settings.epochs < settings.processes:
        raise UsageError(
            f"{len(questions)} examples are too few for {settings.processes} processes"
        )
    alone = continues(builder.settings.ask, settings.loss)
    data = TrainingExamples(
        questions,
        builder,
        negatives_per_positive=0 if alone else settings.negatives_per_positive,
        seed=settings.seed,
        targets=settings.targets,
        min_history=settings.min_history,
        max_targets=settings.max_targets,
        negatives_from=settings.negatives_from,
        lists=not alone,
    )
    sizes = measure(data, progress, epochs=settings.epochs)
    plan = StepPlan(
        sizes.largest,
        epochs=settings.epochs,
        users_per_step=settings.users_per_step,
        max_tokens=row_limits(device, settings.max_tokens).row,
        seed=settings.seed,
        processes=settings.processes,
    )
    return PreparedTraining(data, valid, sizes, plan, settings)
