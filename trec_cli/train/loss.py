"""The two losses on packed prompt trees, each equal to that of separate prompts.

Written out, example *b* of a user is ``prefix + branch b + answer``.  The *answer* loss is
the cross-entropy of the answer token alone.  The *prompt* loss is that of every token but
the first, as plain next-token training has it; since the prefix stands in each of a
user's *n* written-out examples, each of its tokens weighs *n* in the packed row.

Both are divided by the sum of weights over the whole optimizer step: the answer loss is
the mean over answers, the prompt loss the mean over predicted tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trec_cli.models.answers import AnswerTokens
from trec_cli.prompts.recommend import PromptTree
from trec_cli.train.settings import LossName

Target = tuple[int, int, int]
"""Place in the row, the token that should follow it, and how often it counts."""


@dataclass(frozen=True)
class LabelledTree:
    """The prompts of one user and the answer that each should get.

    Attributes:
        tree: the prompts.
        labels: per branch, whether the answer is yes.
    """

    tree: PromptTree
    labels: list[bool]

    @property
    def prefix(self) -> Sequence[int]:
        """Ids that all branches share."""
        return self.tree.prefix

    @property
    def branches(self) -> Sequence[Sequence[int]]:
        """Ids of each branch."""
        return self.tree.branches

    def separate(self) -> "Iterator[LabelledTree]":
        """Yield the prompts one by one, each a tree with a single branch."""
        for branch, label in zip(self.tree.branches, self.labels, strict=True):
            yield LabelledTree(replace(self.tree, branches=[branch]), [label])


@dataclass(frozen=True)
class Targets:
    """What a packed row should predict; T predictions.

    Attributes:
        places: [T]; where in the row each prediction is made (a place may stand twice).
        tokens: [T]; the token that should follow.
        weights: [T]; in how many written-out examples the prediction stands.
    """

    places: Tensor
    tokens: Tensor
    weights: Tensor

    @property
    def total(self) -> float:
        """Sum of weights: answers, or predicted tokens of the written-out examples."""
        return float(self.weights.sum())


def make_targets(trees: Sequence[LabelledTree], answers: AnswerTokens, loss: LossName) -> Targets:
    """Say what the row of ``trees``, packed in this order, should predict."""
    rows: list[Target] = []
    start = 0
    for tree in trees:
        every = _targets(tree, answers, start)
        rows.extend(t for t, is_answer in every if is_answer or loss == "prompt")
        start += tree.tree.size
    places, tokens, weights = zip(*rows, strict=True)
    return Targets(
        torch.tensor(places), torch.tensor(tokens), torch.tensor(weights, dtype=torch.float32)
    )


def _targets(
    tree: LabelledTree, answers: AnswerTokens, start: int
) -> Iterator[tuple[Target, bool]]:
    """Yield every prediction of a tree whose row begins at ``start``; is it an answer?"""
    prefix, count = tree.prefix, len(tree.branches)
    for place, token in enumerate(prefix[1:], start):
        yield (place, token, count), False
    prefix_end = start + len(prefix) - 1
    at = prefix_end + 1
    for branch, label in zip(tree.branches, tree.labels, strict=True):
        places = [prefix_end, *range(at, at + len(branch))]
        tokens = [*branch, answers.yes if label else answers.no]
        for place, token in zip(places[:-1], tokens[:-1], strict=True):
            yield (place, token, 1), False
        yield (places[-1], tokens[-1], 1), True
        at += len(branch)


def summed_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Weighted sum of cross-entropies, in float32.

    Args:
        logits: [T, vocabulary], at ``targets.places``.
        targets: what should have been predicted.
    """
    tokens = targets.tokens.to(logits.device)
    losses = cross_entropy(logits.float(), tokens, reduction="none")
    return (losses * targets.weights.to(logits.device)).sum()
