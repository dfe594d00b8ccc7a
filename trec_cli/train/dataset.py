"""Training examples as prompt trees, and the steps that take them.

The examples of all epochs, each epoch in an order of its own, are one long stream; every
``users_per_step`` of them form a step.  A step's users are spread over the same number of
rows in every step (the Trainer accumulates a fixed number), balanced by length, as few as
keep a row within ``max_tokens``.  The plan depends on nothing but its arguments, so a
resumed run sees exactly the rows that it would have seen.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from trec_cli.core.errors import MAX_FAULTS, Fault, InputError, UsageError
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.seeds import generator
from trec_cli.models.log_odds import row_limits
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import Cuts, PromptBuilder
from trec_cli.train.loss import LabelledTree
from trec_cli.train.settings import TrainSettings

_FEW_STEPS = 100
_FEW_USERS = "--users-per-step 1 --learning-rate 1e-3"
"""What learnt most from 250 users (docs/results.md)."""


@dataclass(frozen=True)
class Draw:
    """An example (by its place) with the negatives of an epoch."""

    epoch: int
    index: int


def check_trainable(questions: Sequence[SummarizedExample], file: object) -> None:
    """Refuse a training set that has no examples, or examples without a negative.

    Raises:
        InputError: with up to 20 faults.
    """
    if not questions:
        raise InputError.of(
            file, "has no examples of split train", "run trec prepare with a split that has some"
        )
    faults = [
        Fault(
            str(file),
            None,
            f"example {q.example.example_id!r}: its candidates hold no negative to learn from",
            "run trec prepare with --negatives uniform",
        )
        for q in questions
        if not q.negatives
    ]
    if faults:
        raise InputError(faults[:MAX_FAULTS])


class TrainingExamples(Dataset[LabelledTree]):
    """One row per example; ``examples[Draw(epoch, index)]`` builds its tree.

    The negatives of an epoch come from (seed, user, example, epoch) alone, so neither
    order nor resume nor the number of processes changes them.
    """

    def __init__(
        self,
        questions: Sequence[SummarizedExample],
        builder: PromptBuilder,
        *,
        negatives_per_positive: int,
        seed: int,
    ) -> None:
        """Take the examples, each with one negative at least.

        Args:
            questions: of split train.
            builder: for the model's tokenizer.
            negatives_per_positive: to draw, where there are as many.
            seed: of the draws.
        """
        self.questions, self.builder = questions, builder
        self._per_positive, self._seed = negatives_per_positive, seed

    def __len__(self) -> int:
        """Count the examples; each is seen once an epoch."""
        return len(self.questions)

    def wanted(self, question: SummarizedExample) -> int:
        """Give how many negatives are asked for."""
        return self._per_positive * len(question.example.positives)

    def drawn(self, question: SummarizedExample) -> int:
        """Give how many negatives are drawn: all there are, if they are too few."""
        return min(self.wanted(question), len(question.negatives))

    def candidates(self, draw: Draw) -> tuple[list[str], list[bool]]:
        """Give the candidates of an example in an epoch, and which are right."""
        question = self.questions[draw.index]
        example, pool = question.example, question.negatives
        random = generator(self._seed, example.user_id, example.example_id, draw.epoch)
        places = random.choice(len(pool), size=self.drawn(question), replace=False)
        negatives = [pool[place] for place in sorted(places)]
        labels = [True] * len(example.positives) + [False] * len(negatives)
        return [*example.positives, *negatives], labels

    def __getitem__(self, draw: Draw) -> LabelledTree:
        """Build the tree of an example with an epoch's negatives, and its labels."""
        candidates, labels = self.candidates(draw)
        return LabelledTree(self.questions[draw.index].tree(self.builder, candidates), labels)


@dataclass(frozen=True)
class Measure:
    """Tokens of the training examples.

    Attributes:
        largest: per example, the most tokens that its tree can have in any epoch.
        expected: tokens of all trees of an epoch, on average over the draws.
        separate: the same with every prompt written out by itself.
        prompts: candidates of an epoch, positives and negatives.
        short: examples with fewer negatives than asked for.
        cuts: what was cut, counting each example once.
    """

    largest: list[int]
    expected: float
    separate: float
    prompts: int
    short: int
    cuts: Cuts


def measure(data: TrainingExamples, progress: Progress | None = None) -> Measure:
    """Tokenise every example once with all its candidates, to plan rows and foretell cost."""
    largest: list[int] = []
    expected = separate = 0.0
    prompts = short = 0
    cuts = Cuts()
    with (progress or Silent()).task("measuring prompts", len(data)) as bar:
        for size in _sizes(data):
            largest.append(size.largest)
            expected += size.prefix + size.branches
            separate += size.prefix * size.prompts + size.branches
            prompts += size.prompts
            short += size.short
            cuts += size.cuts
            bar.advance()
    return Measure(largest, expected, separate, prompts, short, cuts)


@dataclass(frozen=True)
class _Size:
    prefix: int
    branches: float
    largest: int
    prompts: int
    short: bool
    cuts: Cuts


def _sizes(data: TrainingExamples) -> Iterator[_Size]:
    for question in data.questions:
        example, pool, drawn = question.example, question.negatives, data.drawn(question)
        tree = question.tree(data.builder, [*example.positives, *pool])
        lengths = list(map(len, tree.branches))
        count = len(example.positives)
        right, wrong = sum(lengths[:count]), sorted(lengths[count:])
        yield _Size(
            prefix=len(tree.prefix),
            branches=right + sum(wrong) * drawn / max(1, len(wrong)),
            largest=len(tree.prefix) + right + sum(wrong[len(wrong) - drawn :]),
            prompts=count + drawn,
            short=drawn < data.wanted(question),
            cuts=tree.cuts,
        )


Row = list[Draw]


class StepPlan(Sampler[Row]):
    """Yields rows; ``rows_per_step`` times ``processes`` of them are one optimizer step."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        epochs: int,
        users_per_step: int,
        max_tokens: int,
        seed: int,
        processes: int = 1,
    ) -> None:
        """Plan the whole training.

        Args:
            sizes: the most tokens that each example's tree can have.
            epochs: how often each example is seen.
            users_per_step: examples in a step, at least ``processes``.
            max_tokens: tokens of a row; an example longer than that gets its own.
            seed: of the order.
            processes: how many processes share a step's rows evenly.
        """
        self._sizes, self._processes = sizes, processes
        stream = [
            Draw(epoch, int(index))
            for epoch in range(epochs)
            for index in generator(seed, "order", epoch).permutation(len(sizes))
        ]
        chunks = [
            stream[start : start + users_per_step]
            for start in range(0, len(stream), users_per_step)
        ]
        if len(chunks) > 1 and len(chunks[-1]) < processes:
            chunks.pop()
        self._steps = chunks
        self.rows_per_step = self._count_rows(max_tokens)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return len(self._steps)

    def __len__(self) -> int:
        """Count the rows of all steps and processes."""
        return sum(self._rows_of(step, self.rows_per_step) for step in self._steps)

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, step by step; of each step the processes' rows in turn."""
        for step in self._steps:
            yield from self._spread(step, self._rows_of(step, self.rows_per_step))

    def _rows_of(self, step: Row, per_process: int) -> int:
        """Give the number of rows of a step: a multiple of the processes, none empty."""
        return self._processes * max(1, min(per_process, len(step) // self._processes))

    def _count_rows(self, max_tokens: int) -> int:
        """Give the fewest rows per process with which no row is too long."""
        most = max(1, max(map(len, self._steps), default=1) // self._processes)
        for count in range(1, most):
            if all(self._fits(step, count, max_tokens) for step in self._steps):
                return count
        return most

    def _fits(self, step: Row, per_process: int, max_tokens: int) -> bool:
        """Tell whether a step's rows are short enough, or cannot be more."""
        if per_process >= len(step) // self._processes:
            return True
        rows = self._spread(step, self._rows_of(step, per_process))
        return all(
            len(row) == 1 or sum(self._sizes[d.index] for d in row) <= max_tokens for row in rows
        )

    def _spread(self, step: Row, count: int) -> list[Row]:
        """Spread draws over ``count`` rows, longest first, each to the emptiest row."""
        rows: list[Row] = [[] for _ in range(count)]
        filled = [0] * count
        for draw in sorted(step, key=lambda draw: -self._sizes[draw.index]):
            lightest = filled.index(min(filled))
            rows[lightest].append(draw)
            filled[lightest] += self._sizes[draw.index]
        return rows


@dataclass(frozen=True)
class Prepared:
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
        found, short = [], self.measure.short
        if short:
            found.append(f"{short} examples have fewer negatives than asked for; all are used")
        if self.measure.cuts:
            found.append(str(self.measure.cuts))
        if not self.valid and self.settings.valid_users:
            found.append("there are no examples of split valid: nothing chooses the best adapter")
        if self.plan.steps < _FEW_STEPS:
            smaller = f"for few users take {_FEW_USERS}, or"
            found.append(
                f"only {self.plan.steps} optimizer steps: a model learns little in so few; "
                f"{smaller if self.settings.users_per_step > 1 else 'take'} more --epochs"
            )
        return found

    def facts(self) -> dict[str, Any]:
        """Say what is learnt from, for the card and the manifest."""
        return {
            "training examples": len(self.data),
            "prompts per epoch": self.measure.prompts,
            "tokens per epoch": round(self.measure.expected),
            "tokens per epoch, every prompt by itself": round(self.measure.separate),
            "validation examples": len(self.valid),
            "cut": str(self.measure.cuts),
        }


def prepare(
    questions: Sequence[SummarizedExample],
    valid: Sequence[SummarizedExample],
    builder: PromptBuilder,
    settings: TrainSettings,
    device: torch.device,
    progress: Progress | None = None,
) -> Prepared:
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
    data = TrainingExamples(
        questions,
        builder,
        negatives_per_positive=settings.negatives_per_positive,
        seed=settings.seed,
    )
    sizes = measure(data, progress)
    plan = StepPlan(
        sizes.largest,
        epochs=settings.epochs,
        users_per_step=settings.users_per_step,
        max_tokens=row_limits(device, settings.max_tokens).row,
        seed=settings.seed,
        processes=settings.processes,
    )
    return Prepared(data, valid, sizes, plan, settings)
