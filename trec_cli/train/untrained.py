"""What the untrained model says, against which texts are learnt listwise.

How far likelihoods of texts lie apart depends on their length: 8 nats (standard deviation) with
titles of games of 14 tokens, twice as many with those of industrial goods.  A softmax over them
needs a temperature of the same size, else training begins with scores that are sure and wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.errors import UsageError
from trec_cli.core.progress import Progress
from trec_cli.models.log_odds import TreeScorer
from trec_cli.models.vector_store import VectorStore
from trec_cli.prompts.alone import TextsAlone
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder

QUESTIONS = 50
"""Questions that the temperature is chosen on."""
TEMPERATURES = 2.0 ** np.arange(0, 6.25, 0.25)


@dataclass(frozen=True)
class Untrained:
    """What the base model says before training.

    Attributes:
        alone: log-likelihood of items' texts without a user, in nats.
        temperature: the one asked for, or that suits its scores, in nats.
    """

    alone: Mapping[str, float]
    temperature: float


def ask_untrained(
    texts: TextsAlone,
    builder: PromptBuilder,
    items: Iterable[str],
    questions: Sequence[SummarizedExample],
    store: VectorStore,
    load: Callable[[], TreeScorer],
    progress: Progress,
    *,
    temperature: float | None = None,
) -> Untrained:
    """Ask for texts without a user and, where no temperature is given, with some users.

    Args:
        texts: that may be asked for.
        builder: of the prompts.
        items: whose texts are needed.
        questions: that the temperature is chosen on, at least one.
        store: of what was asked for before.
        load: loads the base model, where something is missing.
        progress: where to say what goes on.
        temperature: None chooses one.

    Raises:
        UsageError: no question has a wrong candidate.
    """
    trees = [question.tree(builder) for question in questions]
    longest = max(trees, key=lambda tree: tree.size)
    scorer = cache(lambda: texts.checked(load(), progress, longest))
    alone, scores, marks = texts.every(items, store, scorer, progress), [], []
    if temperature is not None:
        return Untrained(alone, temperature)
    for tree, question in zip(trees, questions, strict=True):
        candidates, right = question.example.candidates, question.example.positives
        likely = texts.ask(tree, store, scorer)
        scores.append(likely - np.array([alone[item] for item in candidates]))
        marks.append(np.array([item in right for item in candidates]))
    return Untrained(alone, best_temperature(scores, marks))


def best_temperature(
    scores: Sequence[NDArray[np.floating]], marks: Sequence[NDArray[np.bool_]]
) -> float:
    """Choose the temperature under which softmaxes of the scores are likeliest to be right.

    Args:
        scores: per question, of its candidates.
        marks: which of them are right; the loss is that of every right one among the wrong ones.

    Raises:
        UsageError: no question has a wrong candidate.
    """
    if all(right.all() for right in marks):
        raise UsageError(
            "no question has a wrong candidate to choose a temperature by: give --temperature"
        )
    losses = [_loss(scores, marks, temperature) for temperature in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def _loss(
    scores: Sequence[NDArray[np.floating]], marks: Sequence[NDArray[np.bool_]], temperature: float
) -> float:
    total = 0.0
    for row, right in zip(scores, marks, strict=True):
        scaled = row / temperature
        for own in scaled[right]:
            total += np.logaddexp.reduce([own, *scaled[~right]]) - own
    return total
