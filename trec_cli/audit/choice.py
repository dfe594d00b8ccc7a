"""A conditional logit over the candidates of a question, with a ridge.

``P(row) = exp(w · x) / sum over the question's rows of exp(w · x)``; a question with several
right answers has the probability that one of them is chosen.  What is equal for all candidates
of a question cannot change it.
"""

import numpy as np
from scipy.optimize import minimize

from trec_cli.evaluate.metrics import Floats, Ints

RIDGE = 1.0
"""Variance of the normal prior of every weight, features being of variance 1."""
_STEPS = 200


def fit(features: Floats, right: Floats, starts: Ints) -> Floats:
    """Return the weights ``[features]`` of highest posterior probability.

    Args:
        features: ``[rows, features]``, about standardised.
        right: ``[rows]``, 1 for a right answer and 0 for another.
        starts: ``[questions]``, the first row of every question.
    """
    widths = np.diff(np.append(starts, len(features)))

    def loss(weights: Floats) -> tuple[float, Floats]:
        scores = features @ weights
        scores -= np.repeat(np.maximum.reduceat(scores, starts), widths)
        raised = np.exp(scores)
        total = np.add.reduceat(raised, starts)
        good = np.maximum(np.add.reduceat(raised * right, starts), 1e-300)
        pull = raised / np.repeat(total, widths) - raised * right / np.repeat(good, widths)
        value = float(np.log(total).sum() - np.log(good).sum())
        return value + float(weights @ weights) / (2 * RIDGE), pull @ features + weights / RIDGE

    start = np.zeros(features.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return np.asarray(found.x, dtype=np.float64)
