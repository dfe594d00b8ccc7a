"""Training examples as prompt trees, and the steps that take them.

The examples of all epochs, each epoch in an order of its own, are one long stream; every
``users_per_step`` of them form a step.  A step's users are spread over the same number of
rows in every step (the Trainer accumulates a fixed number), balanced by length, as few as
keep a row within ``max_tokens``.  The plan depends on nothing but its arguments, so a
resumed run sees exactly the rows that it would have seen.
"""

import math
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset, Sampler

from trec_cli.core.errors import MAX_FAULTS, Fault, InputError, UsageError
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.seeds import generator
from trec_cli.core.shelves import Slices
from trec_cli.models.log_odds import row_limits
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import Cuts, PromptBuilder
from trec_cli.train.loss import LabelledTree, LearntLines
from trec_cli.train.settings import NegativesFrom, TargetsName, TrainSettings

_FEW_STEPS = 100
_SHORT_HISTORY = 10
_FEW_USERS = "--users-per-step 1 --learning-rate 1e-3"
"""What learnt most from 250 users (docs/results-old.md)."""


@dataclass(frozen=True)
class Draw:
    """An example (by its index) with the negatives of an epoch."""

    epoch: int
    index: int


@dataclass(frozen=True)
class TrainingQuestion:
    """What is learnt at one point of a history.

    Attributes:
        count: how many items of the history come before.
        positives: the right answers.
        negatives: drawn ones.
    """

    count: int
    positives: Sequence[str]
    negatives: Sequence[str]

    @property
    def candidates(self) -> list[str]:
        """The right answers first."""
        return [*self.positives, *self.negatives]

    @property
    def labels(self) -> list[bool]:
        """Which candidates are right."""
        return [True] * len(self.positives) + [False] * len(self.negatives)


def check_trainable(
    questions: Sequence[SummarizedExample], file: object, source: NegativesFrom = "candidates"
) -> None:
    """Refuse a training set that has no examples, or examples without a negative.

    Raises:
        InputError: with up to 20 faults.
    """
    if not questions:
        raise InputError.of(
            file, "has no examples of split train", "run trec prepare with a split that has some"
        )
    faults = (
        Fault(
            str(file),
            None,
            f"example {q.example.example_id!r}: its candidates hold no negative to learn from",
            "run trec prepare with --negatives uniform, or train with --negatives-from catalogue",
        )
        for q in questions
        if not q.negatives and source == "candidates"
    )
    if first := list(islice(faults, MAX_FAULTS)):
        raise InputError(first)


class TrainingExamples(Dataset[LabelledTree]):
    """One row per example; ``examples[Draw(epoch, index)]`` builds its tree.

    The negatives of an epoch come from (seed, user, example, epoch) alone, those of an item of
    the history from its index, too; so neither order nor resume nor the number of processes
    changes them.  No item of the user's history, learnt or yet to come, is a negative of it.
    """

    def __init__(
        self,
        questions: Sequence[SummarizedExample],
        builder: PromptBuilder,
        *,
        negatives_per_positive: int,
        seed: int,
        targets: TargetsName = "last",
        min_history: int = 1,
        max_targets: int | None = None,
        negatives_from: NegativesFrom = "candidates",
        lists: bool = True,
    ) -> None:
        """Take the examples, each with one negative at least.

        Args:
            questions: of split train.
            builder: for the model's tokenizer.
            negatives_per_positive: to draw, where there are as many.
            seed: of the draws.
            targets: the examples' positives alone, or every item of the histories, too.
            min_history: the fewest items before such an item.
            max_targets: how many items of a user are learnt in an epoch; None is all.
            negatives_from: the examples' candidates, or all items.
            lists: where texts are learnt, learn them against negatives; else by themselves.
        """
        self.questions, self.builder = questions, builder
        self._per_positive, self._seed = negatives_per_positive, seed
        self._all, self._min_history, self._most = targets == "all", min_history, max_targets
        self._catalogue = sorted(builder.items) if negatives_from == "catalogue" else None
        self._continues = builder.text and not lists

    @property
    def bounded(self) -> bool:
        """Whether an example's candidates bound its tree, whatever is drawn of them."""
        return not (self._all or self._catalogue or self._continues)

    def __len__(self) -> int:
        """Count the examples; each is seen once an epoch."""
        return len(self.questions)

    def wanted(self, question: SummarizedExample) -> int:
        """Return how many negatives are asked for at the end of a history."""
        return self._per_positive * len(question.example.positives)

    def drawn(self, question: SummarizedExample) -> int:
        """Return how many negatives are drawn: all there are, if they are too few."""
        return min(self.wanted(question), len(question.negatives))

    def last(self, draw: Draw) -> TrainingQuestion:
        """Return what an example itself asks, with an epoch's negatives."""
        question = self.questions[draw.index]
        example = question.example
        random = generator(self._seed, example.user_id, example.example_id, draw.epoch)
        negatives = self._negatives(
            random, question.negatives, self.wanted(question), example.positives, example.history
        )
        return TrainingQuestion(len(example.history), example.positives, negatives)

    def every(self, draw: Draw) -> Iterator[TrainingQuestion]:
        """Yield what is learnt of an example, from the end of its history to the beginning."""
        yield self.last(draw)
        question = self.questions[draw.index]
        example, history = question.example, question.example.history
        known = {*history, *example.positives}
        pool = [item for item in question.negatives if item not in known]
        for count in self._counts(draw):
            random = generator(self._seed, example.user_id, example.example_id, draw.epoch, count)
            negatives = self._negatives(random, pool, self._per_positive, known)
            if negatives:
                yield TrainingQuestion(count, [history[count]], negatives)

    def _counts(self, draw: Draw) -> list[int]:
        """Return after how many items of a history to ask for the next, the most first.

        Only what the prompt shows can be learnt from; of that as much as is asked for.
        """
        example = self.questions[draw.index].example
        length, shown = len(example.history), self.builder.settings.recent
        first = max(self._min_history, length - shown + 1)
        counts = range(first, length if self._all else 0)
        if self._most is None or len(counts) < self._most:
            return list(reversed(counts))
        keys = (example.user_id, example.example_id, draw.epoch, "targets")
        drawn = generator(self._seed, *keys).choice(counts, size=self._most - 1, replace=False)
        return sorted(map(int, drawn), reverse=True)

    def _negatives(
        self,
        random: np.random.Generator,
        pool: Sequence[str],
        count: int,
        *known: Iterable[str],
    ) -> list[str]:
        """Draw different negatives, from the pool or from all items but those known."""
        if self._catalogue is not None:
            return draw_unknown(random, self._catalogue, count, {i for each in known for i in each})
        chosen = random.choice(len(pool), size=min(count, len(pool)), replace=False)
        return [pool[index] for index in sorted(chosen)]

    def __getitem__(self, draw: Draw) -> LabelledTree:
        """Build the tree of an example with an epoch's negatives, and its labels."""
        question = self.questions[draw.index]
        if self._continues:
            return self._texts(question)
        if not self._all:
            last = self.last(draw)
            tree = question.tree(self.builder, last.candidates)
            return LabelledTree(tree, last.labels, items=last.candidates)
        example, asked = question.example, list(self.every(draw))
        tree, shown = self.builder.history_tree(
            example.history,
            question.summary,
            [(each.count, each.candidates) for each in asked],
            example=example.example_id,
        )
        labels = [label for each in asked for label in each.labels]
        groups = [number for number, each in enumerate(asked) for _ in each.labels]
        items = [item for each in asked for item in each.candidates]
        return LabelledTree(
            tree,
            [labels[i] for i in shown],
            [groups[i] for i in shown],
            items=[items[i] for i in shown],
        )

    def _texts(self, question: SummarizedExample) -> LabelledTree:
        """Build the tree of an example's positives, the history a part of what is learnt."""
        example = question.example
        tree = question.tree(self.builder, example.positives)
        shown = min(len(example.history), self.builder.settings.recent)
        lines = LearntLines(sum(tree.parts[:3]), shown - tree.cuts.recent_dropped)
        labels = [True] * len(example.positives)
        return LabelledTree(tree, labels, lines=lines if self._all else None)


def draw_unknown(
    random: np.random.Generator, items: Sequence[str], count: int, known: Collection[str]
) -> list[str]:
    """Draw ``count`` different items that are not known, or all there are, sorted.

    ``known`` must be items, too.
    """
    free = len(items) - len(known)
    if free <= 2 * count:
        rest = [item for item in items if item not in known]
        chosen = random.choice(len(rest), size=min(count, len(rest)), replace=False)
        return [rest[index] for index in sorted(chosen)]
    found: set[str] = set()
    while len(found) < count:
        found.update({items[int(random.integers(len(items)))]}.difference(known))
    return sorted(found)


@dataclass(frozen=True)
class Measure:
    """Tokens of the training examples.

    Attributes:
        largest: per example, the most tokens that its tree can have in any epoch.
        expected: tokens of all trees of an epoch, on average over the draws.
        separate: the same with every prompt written out by itself.
        prompts: candidates of an epoch, positives and negatives.
        targets: positives of an epoch.
        short: examples with fewer negatives than asked for.
        cuts: what was cut, counting each example once.
    """

    largest: Sequence[int]
    expected: float
    separate: float
    prompts: int
    targets: int
    short: int
    cuts: Cuts


def measure(
    data: TrainingExamples, progress: Progress | None = None, *, epochs: int = 1
) -> Measure:
    """Tokenise every example, to plan rows and foretell cost.

    Once with all its candidates where they bound the tree, else as every epoch will see it.
    """
    largest, total = array("q"), _Size()
    with (progress or Silent()).task("measuring prompts", len(data)) as bar:
        for index in range(len(data)):
            size = _bounded(data, index) if data.bounded else _drawn(data, index, epochs)
            largest.append(size.largest)
            total += size
            bar.advance()
    return Measure(
        largest=largest,
        expected=total.expected,
        separate=total.separate,
        prompts=total.prompts,
        targets=total.targets,
        short=total.short,
        cuts=total.cuts,
    )


@dataclass(frozen=True)
class _Size:
    """What :class:`Measure` sums up, of one or several examples."""

    largest: int = 0
    expected: float = 0
    separate: float = 0
    prompts: int = 0
    targets: int = 0
    short: int = 0
    cuts: Cuts = field(default_factory=Cuts)

    def __add__(self, other: "_Size") -> "_Size":
        return _Size(
            max(self.largest, other.largest),
            self.expected + other.expected,
            self.separate + other.separate,
            self.prompts + other.prompts,
            self.targets + other.targets,
            self.short + other.short,
            self.cuts + other.cuts,
        )


def _bounded(data: TrainingExamples, index: int) -> _Size:
    """Measure an example with all its candidates."""
    question = data.questions[index]
    example, pool, drawn = question.example, question.negatives, data.drawn(question)
    tree = question.tree(data.builder, [*example.positives, *pool])
    lengths = list(map(len, tree.branches))
    count, prefix = len(example.positives), len(tree.prefix)
    right, wrong = sum(lengths[:count]), sorted(lengths[count:])
    branches = right + sum(wrong) * drawn / max(1, len(wrong))
    return _Size(
        largest=prefix + right + sum(wrong[len(wrong) - drawn :]),
        expected=prefix + branches,
        separate=prefix * (count + drawn) + branches,
        prompts=count + drawn,
        targets=count,
        short=drawn < data.wanted(question),
        cuts=tree.cuts,
    )


def _drawn(data: TrainingExamples, index: int, epochs: int) -> _Size:
    """Measure an example as the epochs will see it."""
    trees = [data[Draw(epoch, index)] for epoch in range(epochs)]
    first, last = trees[0], data.last(Draw(0, index))
    return _Size(
        largest=max(each.tree.size for each in trees),
        expected=sum(each.tree.size for each in trees) / epochs,
        separate=sum(each.tree.separate_size for each in trees) / epochs,
        prompts=len(first.labels),
        targets=first.targets,
        short=len(last.negatives) < data.wanted(data.questions[index]),
        cuts=first.tree.cuts,
    )


Row = list[Draw]


class _Steps(Slices[Row]):
    """The draws of every step: the epochs one after the other, each in an order of its own."""

    def __init__(self, examples: int, epochs: int, size: int, seed: int) -> None:
        """Draw the orders (8 bytes a draw); a step has ``size`` draws, the last maybe fewer."""
        orders = [generator(seed, "order", epoch).permutation(examples) for epoch in range(epochs)]
        self._order: npt.NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *orders])
        self._examples, self._size = examples, size

    def __len__(self) -> int:
        """Count the steps."""
        return -(-len(self._order) // self._size)

    def at(self, index: int) -> Row:
        """Return the draws of a step."""
        start = index * self._size
        drawn = self._order[start : start + self._size].tolist()
        return [Draw((start + n) // self._examples, example) for n, example in enumerate(drawn)]


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
        self._steps: Sequence[Row] = _Steps(len(sizes), epochs, users_per_step, seed)
        if len(self._steps) > 1 and len(self._steps[-1]) < processes:
            self._steps = self._steps[:-1]
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
        """Return the number of rows of a step: a multiple of the processes, none empty."""
        return self._processes * max(1, min(per_process, len(step) // self._processes))

    def _count_rows(self, max_tokens: int) -> int:
        """Return the fewest rows per process with which no row is too long."""
        most = max(1, max(map(len, self._steps), default=1) // self._processes)
        for count in range(1, most):
            if all(self._fits(step, count, max_tokens) for step in self._steps):
                return count
        return most

    def _fits(self, step: Row, per_process: int, max_tokens: int) -> bool:
        """Return whether a step's rows are short enough, or cannot be more."""
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
        found, short = [], self.measure.short
        if short:
            found.append(f"{short} examples have fewer negatives than asked for; all are used")
        if self.measure.cuts:
            found.append(str(self.measure.cuts))
        if not self.valid and self.settings.valid_users:
            found.append("there are no examples of split valid: nothing chooses the best adapter")
        recent = self.data.builder.settings.recent
        if self.settings.targets == "all" and recent < _SHORT_HISTORY:
            found.append(
                f"--targets all learns from the {recent} items that the prompt shows; show more "
                "with --recent"
            )
        largest, most = max(self.measure.largest), self.settings.max_tokens
        if self.settings.targets == "all" and largest > most:
            found.append(
                f"the largest history has {largest} tokens with what is asked of it, more than "
                f"--max-tokens {most}: if memory is short, lower --max-targets or --recent"
            )
        if self.plan.steps < _FEW_STEPS:
            smaller = f"for few users take {_FEW_USERS}, or"
            found.append(
                f"only {self.plan.steps} optimizer steps: a model learns little in so few; "
                f"{smaller if self.settings.users_per_step > 1 else 'take'} more --epochs"
            )
        return found

    def _targets(self) -> dict[str, int]:
        """Count what is learnt where it is more than the examples' own positives."""
        if self.settings.targets == "last":
            return {}
        return {"targets per epoch": self.measure.targets}

    def facts(self) -> dict[str, Any]:
        """Describe what is learnt from, for the card and the manifest."""
        return {
            "training examples": len(self.data),
            **self._targets(),
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
    continues = builder.text and settings.loss != "listwise"
    data = TrainingExamples(
        questions,
        builder,
        negatives_per_positive=0 if continues else settings.negatives_per_positive,
        seed=settings.seed,
        targets=settings.targets,
        min_history=settings.min_history,
        max_targets=settings.max_targets,
        negatives_from=settings.negatives_from,
        lists=not continues,
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
