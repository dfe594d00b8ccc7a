"""Training examples as prompt trees: the positives of a user and freshly drawn negatives."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from trec_cli.core.errors import MAX_FAULTS, Fault, InputError
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.seeds import generator
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import Cuts, PromptBuilder
from trec_cli.train.loss import LabelledTree


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
