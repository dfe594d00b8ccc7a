"""The losses on packed prompt trees, each equal to that of separate prompts.

Written out, example *b* of a user is ``prefix + branch b + answer``.

* *answer*: the cross-entropy of the answer token alone; the mean over answers.
* *prompt*: that of every token but the first, as plain next-token training has it; the mean
  over predicted tokens.  A prefix token stands in each written-out example whose branch
  follows it, and weighs as many in the packed row.
* *listwise*: for every positive, the cross-entropy of the softmax over log-odds of yes, its
  own and those of the negatives of the same target, divided by a temperature; plus
  ``pointwise_weight`` times the mean answer loss of the target; the mean over positives.
* *text*: the cross-entropy of every token of the texts that are learnt, the positives' and, with
  all targets, those of the history before them; the mean over tokens.  There are no negatives
  and no answers: what is learnt is to continue a history.
* *text_listwise*: the same of texts.  In place of log-odds stands how much likelier the user
  makes a candidate's text than the untrained model finds it without a user, in nats, and
  ``pointwise_weight`` weighs the mean cross-entropy of the tokens of the positive's text.

Each is a sum over a row, divided by the total of the whole optimizer step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trec_cli.models.answers import AnswerTokens
from trec_cli.models.packing import attachments, branch_predictions
from trec_cli.prompts.recommend import PromptTree
from trec_cli.train.settings import LossName

Target = tuple[int, int, float]
"""Index in the row, the token that should follow it, and how often it counts."""


@dataclass(frozen=True)
class Objective:
    """What a training minimises.

    Attributes:
        answers: the tokens of yes and no; None where texts are learnt.
        loss: which of the losses.
        temperature, pointwise_weight: of the listwise losses.
        alone: per item, the untrained model's log-likelihood of its text without a user, for
            ``text_listwise``.
    """

    answers: AnswerTokens | None
    loss: LossName | Literal["text", "text_listwise"] = "answer"
    temperature: float = 1.0
    pointwise_weight: float = 0.0
    alone: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LearntLines:
    """What of a prefix is learnt as text.

    Attributes:
        start: the first token.
        count: items.
    """

    start: int
    count: int


@dataclass(frozen=True)
class LabelledTree:
    """The prompts of one user and the answer that each should get.

    Attributes:
        tree: the prompts.
        labels: per branch, whether the answer is yes.
        groups: per branch, which target it is asked for: an item of the history, or the last.
        lines: of the prefix, where texts are learnt from it, too.
        items: per branch, the candidate.
    """

    tree: PromptTree
    labels: list[bool]
    groups: Sequence[int] = ()
    lines: LearntLines | None = None
    items: Sequence[str] = ()

    @property
    def targets(self) -> int:
        """Count the right answers or texts that are learnt."""
        return sum(self.labels) + (self.lines.count if self.lines else 0)

    @property
    def prefix(self) -> Sequence[int]:
        """Ids that all branches share."""
        return self.tree.prefix

    @property
    def branches(self) -> Sequence[Sequence[int]]:
        """Ids of each branch."""
        return self.tree.branches

    @property
    def at(self) -> Sequence[int]:
        """Tokens of the prefix that each branch follows; empty where all follow its end."""
        return self.tree.at

    def questions(self) -> list[list[int]]:
        """Return the branches of each target."""
        found: dict[int, list[int]] = {}
        for branch, group in enumerate(self.groups or [0] * len(self.labels)):
            found.setdefault(group, []).append(branch)
        return list(found.values())

    def separate(self) -> "Iterator[LabelledTree]":
        """Yield the prompts one by one, each a tree with a single branch at its end."""
        tree, lines = self.tree, self.lines
        for branch, at, label in zip(tree.branches, attachments(tree), self.labels, strict=True):
            one = replace(tree, prefix=tree.prefix[:at], branches=[branch], at=())
            yield LabelledTree(one, [label], lines=lines)
            lines = None  # learnt once, however many follow


@dataclass(frozen=True)
class Targets:
    """What a packed row should predict; T predictions.

    Attributes:
        positions: [T]; where in the row each prediction is made (a position may stand twice).
        tokens: [T]; the token that should follow.
        weights: [T]; in how many written-out examples the prediction stands; in the listwise
            losses, what it counts beside the lists.
        lists: [P, width]; per positive, its branch and those of its negatives, -1 behind
            them; without rows in other losses.
        branches: [T]; of texts in lists, the branch that each prediction belongs to.
        alone: [branches]; the log-likelihoods of these texts without a user.
        total: what the sum of losses is divided by: answers, predicted tokens, or (listwise)
            positives.
    """

    positions: Tensor
    tokens: Tensor
    weights: Tensor
    lists: Tensor
    branches: Tensor
    alone: Tensor
    total: float


def make_targets(trees: Sequence[LabelledTree], objective: Objective) -> Targets:
    """Collect what the row of ``trees``, packed in this order, should predict."""
    listwise = objective.loss in ("listwise", "text_listwise")
    rows: list[Target] = []
    lists: list[list[int]] = []
    branches: list[int] = []
    alone: list[float] = []
    start = asked = 0
    for tree in trees:
        rows.extend(_predictions(tree, objective, start))
        if listwise:
            lists.extend([asked + branch for branch in each] for each in _lists(tree))
        if objective.loss == "text_listwise":
            texts = enumerate(tree.branches, asked)
            branches += [number for number, text in texts for _ in text[tree.tree.lead :]]
            alone += [objective.alone[item] for item in tree.items]
        start, asked = start + tree.tree.size, asked + len(tree.labels)
    positions, tokens, counts = zip(*rows, strict=True)
    return Targets(
        torch.tensor(positions),
        torch.tensor(tokens),
        torch.tensor(counts, dtype=torch.float32),
        _padded(lists),
        torch.tensor(branches, dtype=torch.long),
        torch.tensor(alone, dtype=torch.float32),
        float(sum(sum(tree.labels) for tree in trees) if listwise else sum(counts)),
    )


def _predictions(tree: LabelledTree, objective: Objective, start: int) -> Iterator[Target]:
    """Yield what is predicted in a tree whose row begins at ``start``."""
    if objective.loss == "text":
        return _texts(tree, start)
    if objective.loss == "text_listwise":
        return _candidate_texts(tree, objective.pointwise_weight, start)
    if objective.loss == "prompt":
        return _every_token(tree, _needed(objective), start)
    answers = _answers(tree, _needed(objective), start)
    if objective.loss == "answer":
        return answers
    weights = _shares(tree, objective.pointwise_weight)
    return ((at, token, w) for (at, token, _), w in zip(answers, weights, strict=True))


def _needed(objective: Objective) -> AnswerTokens:
    if objective.answers is None:
        raise ValueError(f"the loss {objective.loss} needs answers")
    return objective.answers


def _texts(tree: LabelledTree, start: int) -> Iterator[Target]:
    """Yield the tokens of the texts that are learnt, of the prefix and of every branch."""
    if tree.lines:
        for index in range(tree.lines.start, len(tree.prefix)):
            yield start + index - 1, tree.prefix[index], 1
    for branch in branch_predictions([tree]):
        yield from ((start + place, token, 1) for place, token in branch)


def _candidate_texts(tree: LabelledTree, weight: float, start: int) -> Iterator[Target]:
    """Yield the tokens of every branch's text; those of positives count beside the lists, too."""
    shares = _shares(tree, weight, only_right=True)
    for branch, share in zip(branch_predictions([tree]), shares, strict=True):
        text = branch[tree.tree.lead :]
        yield from ((start + place, token, share / len(text)) for place, token in text)


def _answers(tree: LabelledTree, answers: AnswerTokens, start: int) -> Iterator[Target]:
    """Yield the answers of a tree whose row begins at ``start``, branch by branch."""
    end = start + len(tree.prefix) - 1
    for branch, label in zip(tree.branches, tree.labels, strict=True):
        end += len(branch)
        yield end, answers.yes if label else answers.no, 1


def _every_token(tree: LabelledTree, answers: AnswerTokens, start: int) -> Iterator[Target]:
    """Yield every prediction of a tree whose row begins at ``start``."""
    prefix, ends = tree.prefix, attachments(tree)
    for index, token in enumerate(prefix[1:]):
        if count := sum(index + 1 < end for end in ends):
            yield start + index, token, count
    first = start + len(prefix)
    for branch, end, label in zip(tree.branches, ends, tree.labels, strict=True):
        positions = [start + end - 1, *range(first, first + len(branch))]
        tokens = [*branch, answers.yes if label else answers.no]
        yield from ((at, token, 1) for at, token in zip(positions, tokens, strict=True))
        first += len(branch)


def _lists(tree: LabelledTree) -> Iterator[list[int]]:
    """Yield, for every positive, its branch and then those of its target's negatives."""
    for question in tree.questions():
        negatives = [branch for branch in question if not tree.labels[branch]]
        for branch in question:
            if tree.labels[branch] and negatives:
                yield [branch, *negatives]


def _shares(tree: LabelledTree, weight: float, *, only_right: bool = False) -> list[float]:
    """Weigh branches so that each positive brings ``weight`` times the mean of its target.

    The mean is over all of the target's branches, or over the right ones alone.
    """
    weights = [0.0] * len(tree.labels)
    for question in tree.questions():
        right = [branch for branch in question if tree.labels[branch]]
        counted = right if only_right else question
        for branch in counted:
            weights[branch] = weight * len(right) / len(counted)
    return weights


def _padded(lists: Sequence[Sequence[int]]) -> Tensor:
    """Write lists of different lengths as [lists, width], -1 behind the shorter ones."""
    width = max(map(len, lists), default=0)
    rows = [[*each, *[-1] * (width - len(each))] for each in lists]
    return torch.tensor(rows, dtype=torch.long).reshape(len(lists), width)


def summed_loss(logits: Tensor, targets: Targets, objective: Objective) -> Tensor:
    """Compute the weighted sum of losses, in float32.

    Args:
        logits: [T, vocabulary], at ``targets.positions``.
        targets: what should have been predicted.
        objective: what is minimised.
    """
    tokens, logits = targets.tokens.to(logits.device), logits.float()
    losses = cross_entropy(logits, tokens, reduction="none")
    summed = (losses * targets.weights.to(logits.device)).sum()
    if len(targets.lists):
        scores = _branch_scores(logits, losses, targets, objective)
        lists = targets.lists.to(logits.device)
        summed = summed + _listwise(scores, lists, objective.temperature)
    return summed


def _branch_scores(
    logits: Tensor, losses: Tensor, targets: Targets, objective: Objective
) -> Tensor:
    """Score the branches that lists are made of: by log-odds, or by their texts: [branches]."""
    if not len(targets.alone):
        answers = _needed(objective)
        return logits[:, answers.yes] - logits[:, answers.no]
    alone = targets.alone.to(logits.device)
    return (-alone).index_add(0, targets.branches.to(logits.device), -losses)


def _listwise(scores: Tensor, lists: Tensor, temperature: float) -> Tensor:
    """Sum over lists the cross-entropy of the first among all, by their scores."""
    scores = (scores / temperature)[lists.clamp(min=0)].masked_fill(lists < 0, -torch.inf)
    return -torch.log_softmax(scores, dim=1)[:, 0].sum()
