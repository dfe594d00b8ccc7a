"""How long the prompts of the training examples are: what rows are planned by, and the cost."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from trec_cli.core.progress import Progress, Silent
from trec_cli.prompts.recommend import Cuts
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.plan import Draw


@dataclass(frozen=True)
class Size:
    """Tokens and counts of one or several training examples.

    Attributes:
        expected: tokens of all trees of an epoch, on average over the draws.
        separate: the same with every prompt written out by itself.
        prompts: candidates of an epoch, positives and negatives.
        targets: what is learnt in an epoch: positives, and items or lines of the histories.
        earlier: of these, the items or lines of the histories.
        short: examples with fewer negatives than asked for.
        cuts: what was cut, counting each example once.
    """

    expected: float = 0
    separate: float = 0
    prompts: int = 0
    targets: int = 0
    earlier: int = 0
    short: int = 0
    cuts: Cuts = field(default_factory=Cuts)

    def __add__(self, other: "Size") -> "Size":
        """Sum every field."""
        names = [each.name for each in fields(self)]
        return Size(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True)
class Measure:
    """Tokens of the training examples.

    Attributes:
        largest: per example, the most tokens that its tree can have in any epoch.
        total: of all examples.
    """

    largest: Sequence[int]
    total: Size


def measure(
    data: TrainingExamples, progress: Progress | None = None, *, epochs: int = 1
) -> Measure:
    """Tokenise every example, to plan rows and foretell cost.

    Once with all its candidates where they bound the tree, else as every epoch will see it.
    """
    largest, total = array("q"), Size()
    with (progress or Silent()).task("measuring prompts", len(data)) as bar:
        for index in range(len(data)):
            most, size = _bounded(data, index) if data.bounded else _drawn(data, index, epochs)
            largest.append(most)
            total += size
            bar.advance()
    return Measure(largest, total)


def _bounded(data: TrainingExamples, index: int) -> tuple[int, Size]:
    """Measure an example with all its candidates, and the largest tree that it can have."""
    question = data.questions[index]
    example, pool, drawn = question.example, question.negatives, data.drawn(question)
    tree = question.tree(data.builder, [*example.positives, *pool])
    lengths = list(map(len, tree.branches))
    count, prefix = len(example.positives), len(tree.prefix)
    right, wrong = sum(lengths[:count]), sorted(lengths[count:])
    branches = right + sum(wrong) * drawn / max(1, len(wrong))
    size = Size(
        expected=prefix + branches,
        separate=prefix * (count + drawn) + branches,
        prompts=count + drawn,
        targets=count,
        short=drawn < data.wanted(question),
        cuts=tree.cuts,
    )
    return prefix + right + sum(wrong[len(wrong) - drawn :]), size


def _drawn(data: TrainingExamples, index: int, epochs: int) -> tuple[int, Size]:
    """Measure an example as the epochs will see it, and its largest tree."""
    trees = [data[Draw(epoch, index)] for epoch in range(epochs if data.draws else 1)]
    first, last = trees[0], data.last(Draw(0, index))
    size = Size(
        expected=sum(each.tree.size for each in trees) / len(trees),
        separate=sum(each.tree.separate_size for each in trees) / len(trees),
        prompts=len(first.labels),
        targets=first.targets,
        earlier=first.targets - len(data.questions[index].example.positives),
        short=len(last.negatives) < data.wanted(data.questions[index]),
        cuts=first.tree.cuts,
    )
    return max(each.tree.size for each in trees), size
