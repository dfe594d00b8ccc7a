"""How long the prompts of the training examples are: what rows are planned by, and the cost."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from trec_cli.core.progress import Progress, Silent
from trec_cli.prompts.recommend import Cuts
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.plan import Draw


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
