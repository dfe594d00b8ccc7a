"""A conditional logit: which of a question's candidates is right, from weighted features.

``P(c | question) = exp(w · x_c) / sum over candidates of exp(w · x)`` (McFadden 1974).
Fitted by maximum likelihood with an L2 penalty on standardised features; a question with
several right answers has the mean of their log-probabilities.  Only differences between
candidates of one question count, so what is equal for all of them changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ends = NDArray[np.int64]

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""L2 penalties to choose from, per question; the first of equal ones is taken."""
_FOLDS = 3
_MOST_HELD = 600
"""Questions that choosing the penalty uses at most."""
_LEAST_SCALE = 1e-9


@dataclass(frozen=True)
class ChoiceSets:
    """Questions with their candidates one behind the other.

    Attributes:
        features: [candidates of all questions, features].
        ends: where each question begins, and where the last one ends: [questions + 1].
            No question is without candidates.
        right: weight of each candidate as an answer; they sum to 1 for each question.
    """

    features: Array
    ends: Ends
    right: Array

    @classmethod
    def of(cls, features: Array, ends: Ends, right: NDArray[np.bool_]) -> "ChoiceSets":
        """Share each question between its right answers; questions without one are left out."""
        owner = np.repeat(np.arange(len(ends) - 1), np.diff(ends))
        counts = np.bincount(owner, weights=right, minlength=len(ends) - 1)
        kept = counts > 0
        mask = kept[owner]
        lengths = np.diff(ends)[kept]
        weights = right[mask] / counts[owner[mask]]
        return cls(features[mask], np.concatenate([[0], np.cumsum(lengths)]), weights)

    def __len__(self) -> int:
        """Count the questions."""
        return len(self.ends) - 1

    @property
    def owner(self) -> Ends:
        """Index of the question that each candidate belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.ends))

    def where(self, wanted: NDArray[np.bool_]) -> "ChoiceSets":
        """Return the questions that a mask names."""
        mask = wanted[self.owner]
        ends = np.concatenate([[0], np.cumsum(np.diff(self.ends)[wanted])])
        return ChoiceSets(self.features[mask], ends, self.right[mask])


@dataclass(frozen=True)
class ConditionalLogit:
    """A fitted model.

    Attributes:
        names: of the features.
        means, scales: by which features are standardised.
        coefficients: of the standardised features; 0 where a feature is the same everywhere.
        errors: standard errors of the coefficients (inverse of the penalised information).
        penalty: the L2 penalty.
        questions: number of questions that it was fitted on.
        log_likelihood: mean over these questions.
    """

    names: tuple[str, ...]
    means: Array
    scales: Array
    coefficients: Array
    errors: Array
    penalty: float
    questions: int
    log_likelihood: float

    @property
    def weights(self) -> Array:
        """Coefficients of the features as they are."""
        return self.coefficients / self.scales

    def score(self, features: NDArray[np.floating]) -> Array:
        """Return ``w · x`` of each row, up to a constant that all rows share."""
        return np.asarray((features - self.means) @ self.weights, float)


def fit_logit(
    choices: ChoiceSets,
    names: Sequence[str],
    *,
    groups: Sequence[int] | None = None,
    penalties: Sequence[float] = PENALTIES,
) -> ConditionalLogit:
    """Fit a conditional logit, the penalty chosen by cross-validation.

    Args:
        choices: questions with features; at least one.
        names: of the features.
        groups: a number per question; questions of one number (a user) are in one fold.
        penalties: to choose from by the held-out log-likelihood.
    """
    means, scales = _standard(choices.features)
    ready = ChoiceSets((choices.features - means) / scales, choices.ends, choices.right)
    folds = np.arange(len(ready)) if groups is None else np.unique(groups, return_inverse=True)[1]
    penalty = _choose(ready, np.asarray(folds) % _FOLDS, penalties)
    found = _maximise(ready, penalty, np.zeros(len(names)))
    loss, _ = negative_log_likelihood(found, ready)
    return ConditionalLogit(
        names=tuple(names),
        means=means,
        scales=scales,
        coefficients=found,
        errors=_errors(found, ready, penalty),
        penalty=penalty,
        questions=len(ready),
        log_likelihood=-loss,
    )


def _standard(features: Array) -> tuple[Array, Array]:
    """Return means and scales; a feature that is the same everywhere has scale 1."""
    means, scales = features.mean(axis=0), features.std(axis=0)
    return means, np.where(scales > _LEAST_SCALE, scales, 1.0)


def negative_log_likelihood(weights: Array, choices: ChoiceSets) -> tuple[float, Array]:
    """Return the mean over questions of ``-sum of right · log P``, and its gradient."""
    logits = choices.features @ weights
    probabilities, log_sums = _softmax(logits, choices)
    loss = float(log_sums.sum() - choices.right @ logits) / len(choices)
    gradient = (probabilities - choices.right) @ choices.features / len(choices)
    return loss, gradient


def _softmax(logits: Array, choices: ChoiceSets) -> tuple[Array, Array]:
    """Return each candidate's probability, and each question's log of the sum."""
    starts, owner = choices.ends[:-1], choices.owner
    highest = np.maximum.reduceat(logits, starts)
    raised = np.exp(logits - highest[owner])
    sums = np.add.reduceat(raised, starts)
    return raised / sums[owner], highest + np.log(sums)


def _maximise(choices: ChoiceSets, penalty: float, start: Array) -> Array:
    from scipy.optimize import minimize  # takes half a second, and saved weights need none

    def objective(weights: Array) -> tuple[float, Array]:
        loss, gradient = negative_log_likelihood(weights, choices)
        return loss + penalty / 2 * float(weights @ weights), gradient + penalty * weights

    options = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-6}
    return np.asarray(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)


def _choose(choices: ChoiceSets, folds: Ends, penalties: Sequence[float]) -> float:
    """Choose the penalty with the highest log-likelihood on questions held out."""
    if len(penalties) == 1 or len(set(folds.tolist())) < _FOLDS:
        return max(penalties)
    used = np.arange(len(choices)) < _MOST_HELD
    choices, folds = choices.where(used), folds[used]
    losses = np.zeros(len(penalties))
    for fold in range(_FOLDS):
        held, rest = choices.where(folds == fold), choices.where(folds != fold)
        found = np.zeros(choices.features.shape[1])
        for index in reversed(range(len(penalties))):
            found = _maximise(rest, penalties[index], found)
            losses[index] += negative_log_likelihood(found, held)[0] * len(held)
    return penalties[int(np.argmin(losses))]


def _errors(weights: Array, choices: ChoiceSets, penalty: float) -> Array:
    """Return standard errors: roots of the diagonal of the inverse penalised information."""
    probabilities, _ = _softmax(choices.features @ weights, choices)
    weighted = probabilities[:, None] * choices.features
    means = np.add.reduceat(weighted, choices.ends[:-1], axis=0)
    information = weighted.T @ choices.features - means.T @ means
    information += (penalty * len(choices) + 1e-12) * np.eye(len(weights))
    return np.asarray(np.sqrt(np.diag(np.linalg.inv(information))))
