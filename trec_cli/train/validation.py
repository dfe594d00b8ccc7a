"""Loss and ranking of the validation examples, between steps of training."""

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from numpy.typing import NDArray

from trec_cli.evaluate.metrics import Pools, rank, recall, reciprocal_rank
from trec_cli.models.log_odds import TreeScorer, plan_rows
from trec_cli.models.processes import Processes
from trec_cli.prompts.questions import SummarizedExample, without_user
from trec_cli.prompts.recommend import PromptBuilder, PromptTree

RECALL_AT = (1, 3, 5, 10)
MRR_AT = 10


class Validator:
    """Ranks all candidates of the validation examples with the model as it is."""

    def __init__(
        self,
        questions: Sequence[SummarizedExample],
        builder: PromptBuilder,
        scorer: TreeScorer,
        *,
        negatives_per_positive: int,
    ) -> None:
        """Build all prompts once.

        Args:
            questions: at least one example, candidates and summary.
            builder: as in training.
            scorer: of the model that is trained.
            negatives_per_positive: the share of negatives in the training loss.
        """
        examples = [question.example for question in questions]
        self._scorer = scorer
        self._trees = [question.tree(builder) for question in questions]
        self._marks = [np.array([c in e.positives for c in e.candidates]) for e in examples]
        self._per_positive = negatives_per_positive

    def __len__(self) -> int:
        """Count the validation examples."""
        return len(self._trees)

    def __call__(self, model: Any) -> dict[str, float]:
        """Compute ``loss``, ``recall@K`` and ``mrr@10``, means over examples.

        Every process ranks its share; all get the result.  Where the weights are dealt out
        (FSDP), each forward pass needs all processes, so all rank everything.
        """
        training = model.training
        model.eval()
        scores, loss = self._judged(model)
        model.train(training)
        ranks = rank(Pools.of(scores, self._marks))
        recalls = {f"recall@{k}": float(recall(ranks, k).mean()) for k in RECALL_AT}
        mrr = {f"mrr@{MRR_AT}": float(reciprocal_rank(ranks, MRR_AT).mean())}
        return {"loss": loss, **recalls, **mrr}

    def _judged(self, model: Any) -> tuple[list[NDArray[np.float64]], float]:
        """Return the scores of every example's candidates and the loss."""
        scores = self._scores(model, self._trees)
        return scores, expected_loss(scores, self._marks, self._per_positive)

    def _scores(self, model: Any, trees: Sequence[PromptTree]) -> list[NDArray[np.float64]]:
        """Score the branches of all trees, in order."""
        state = PartialState()
        starts = np.cumsum([0, *(len(tree.branches) for tree in trees)])
        found = torch.zeros(int(starts[-1]), dtype=torch.float32, device=model.device)
        rows = plan_rows([tree.size for tree in trees], self._scorer.limits.row)
        together = Processes.here().deal_out_weights
        for row in rows if together else rows[state.process_index :: state.num_processes]:
            for index, scores in zip(
                row, self._scorer([trees[index] for index in row]), strict=True
            ):
                found[starts[index] : starts[index + 1]] = torch.tensor(scores)
        summed = found if together else reduce(found, "sum")
        everywhere = summed.cpu().double().numpy()
        return list(np.split(everywhere, starts[1:-1]))


class TextValidator(Validator):
    """Ranks candidates by how much likelier the user makes their texts.

    What is subtracted is what the model itself says without a user, or the given ``alone``.
    The loss is the mean cross-entropy of the tokens of the right answers' texts, in nats.
    """

    def __init__(
        self,
        questions: Sequence[SummarizedExample],
        builder: PromptBuilder,
        scorer: TreeScorer,
        alone: Mapping[str, float] | None = None,
    ) -> None:
        """Build all prompts once, with and without the user."""
        super().__init__(questions, builder, scorer, negatives_per_positive=0)
        self._known = alone and [
            np.array([alone[item] for item in question.example.candidates])
            for question in questions
        ]
        self._alone = [] if alone else [without_user(q).tree(builder) for q in questions]

    def _judged(self, model: Any) -> tuple[list[NDArray[np.float64]], float]:
        likely = self._scores(model, self._trees)
        alone = self._known or self._scores(model, self._alone)
        right = sum(float(row[marks].sum()) for row, marks in zip(likely, self._marks, strict=True))
        tokens = sum(
            sum(map(len, compress(tree.branches, marks)))
            for tree, marks in zip(self._trees, self._marks, strict=True)
        )
        return [a - b for a, b in zip(likely, alone, strict=True)], -right / tokens


def expected_loss(
    scores: Sequence[NDArray[np.float64]],
    marks: Sequence[NDArray[np.bool_]],
    negatives_per_positive: int,
) -> float:
    """Cross-entropy of yes and no, as training with drawn negatives has it on average.

    ``log(1 + exp(-z))`` for a positive with log-odds *z*, ``log(1 + exp(z))`` for a
    negative.  Per example the negatives weigh together ``negatives_per_positive`` times
    what the positives do (or as many as there are), as if drawn; the mean is over answers.
    Unlike in training, tokens other than yes and no do not count.
    """
    total = weights = 0.0
    for row, right in zip(scores, marks, strict=True):
        losses = np.logaddexp(0.0, np.where(right, -row, row))
        positives, pool = int(right.sum()), int((~right).sum())
        drawn = min(negatives_per_positive * positives, pool)
        total += losses[right].sum()
        total += losses[~right].mean() * drawn if drawn else 0.0
        weights += positives + drawn
    return float(total / weights)
