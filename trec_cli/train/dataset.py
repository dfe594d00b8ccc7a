"""Training examples as prompt trees."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from torch.utils.data import Dataset

from trec_cli.core.errors import MAX_FAULTS, Fault, InputError, UsageError
from trec_cli.core.seeds import generator
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder, PromptTree
from trec_cli.train.loss import LabelledTree, LearntLines
from trec_cli.train.plan import Draw
from trec_cli.train.settings import NegativesFrom, TargetsName


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


def check_targets(questions: Sequence[SummarizedExample], file: object) -> None:
    """Refuse summaries that leave nothing of any history to learn with ``--targets all``.

    Raises:
        UsageError: with the way out.
    """
    whole = False
    for question in questions:
        if question.told < len(question.example.history):
            return
        whole |= question.told > 0
    if whole:
        raise UsageError(
            f"--targets all: every summary in {file} speaks of the whole history, and so of what "
            "is to be learnt. Make summaries with trec summarize --skip-recent N (N as --recent "
            "here), or use --targets last"
        )


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
        """Take the examples, and how they are asked.

        Args:
            questions: of split train.
            builder: for the model's tokenizer.
            negatives_per_positive: to draw, where there are as many.
            seed: of the draws.
            targets: the examples' positives alone, or every item of the histories, too.
            min_history: the fewest items before such an item.
            max_targets: how many items of a user are learnt in an epoch; None is all, as it is
                where texts are learnt without negatives.
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

    @property
    def draws(self) -> bool:
        """Whether an example's tree differs between epochs."""
        return not self._continues

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
            random, question.negatives, self.wanted(question), example.right, example.history
        )
        return TrainingQuestion(len(example.history), example.positives, negatives)

    def every(self, draw: Draw) -> Iterator[TrainingQuestion]:
        """Yield what is learnt of an example, from the end of its history to the beginning."""
        yield self.last(draw)
        question = self.questions[draw.index]
        example, history = question.example, question.example.history
        known = {*history, *example.right}
        pool = [item for item in question.negatives if item not in known]
        for count in self._counts(draw):
            random = generator(self._seed, example.user_id, example.example_id, draw.epoch, count)
            negatives = self._negatives(random, pool, self._per_positive, known)
            if negatives:
                yield TrainingQuestion(count, [history[count]], negatives)

    def _counts(self, draw: Draw) -> list[int]:
        """Return after how many items of a history to ask for the next, the most first.

        At least one item before must be shown, and the summary must not speak of the next.
        """
        question = self.questions[draw.index]
        example = question.example
        length = len(example.history)
        shown = self.builder.shown(example.history, question.summary) if self._all else 0
        first = max(self._min_history, length - shown + 1, question.told)
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
        labels = [True] * len(example.positives)
        lines = self._lines(question, tree) if self._all else None
        return LabelledTree(tree, labels, lines=lines)

    def _lines(self, question: SummarizedExample, tree: PromptTree) -> LearntLines:
        """Return the last lines of a prefix: those that are whole and that no summary tells."""
        history, cuts = question.example.history, tree.cuts
        shown = min(len(history), self.builder.settings.recent)
        whole = shown - cuts.recent_dropped - cuts.recent_shortened
        least = self._min_history if self._min_history > 1 else 0
        learnt = history[max(least, question.told, len(history) - whole) :]
        if not learnt:
            return LearntLines(len(tree.prefix), 0)
        return LearntLines(sum(tree.parts[:4]) - self.builder.line_tokens(learnt), len(learnt))


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
