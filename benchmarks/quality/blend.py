"""A conditional logit over signals: a softmax over the catalogue, weights with a ridge.

Fitting looks at a sample of each question's items: the target, the best by a rough first
score, and random others that stand for all the rest (log of the number each stands for is
added to its logit).  Scoring is over the whole catalogue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Signals = Mapping[str, Floats]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Items on which weights are fitted.

    Attributes:
        values: of the signals, each divided by its scale: [questions, items, signals].
        offsets: log of the number of items that each one stands for: [questions, items].
        names: of the signals.
        scales: of the signals; the target is item 0.
    """

    values: torch.Tensor
    offsets: torch.Tensor
    names: tuple[str, ...]
    scales: Floats


@dataclass(frozen=True)
class Blend:
    """Weights by name, of the signals as they are."""

    names: tuple[str, ...]
    weights: Floats

    def score(self, signals: Signals) -> Floats:
        """Return the scores of all items, [questions, items]."""
        total = np.zeros(next(iter(signals.values())).shape, np.float32)
        for name, weight in zip(self.names, self.weights, strict=True):
            total += weight * signals[name].astype(np.float32)
        return total


def sample(
    signals: Signals, targets: Sequence[int], rough: Floats, *, best: int = 300, others: int = 100
) -> Sample:
    """Choose each question's items by a rough score.

    Args:
        signals: matrices [questions, items].
        targets: the right item of each question.
        rough: first scores, [questions, items].
        best: items taken by them.
        others: items drawn from the rest.
    """
    generator = np.random.default_rng(0)
    questions, items = rough.shape
    index, offsets = [], np.zeros((questions, 1 + best + others), np.float32)
    offsets[:, 1 + best :] = np.log((items - 1 - best) / others)
    for row, target in enumerate(targets):
        order = np.argsort(-rough[row], kind="stable")
        order = order[order != target]
        drawn = generator.choice(order[best:], others, replace=False)
        index.append(np.concatenate([[target], order[:best], drawn]))
    chosen = np.stack(index)
    names = tuple(signals)
    scales = np.array([deviation(signals[name]) for name in names], np.float32)
    values = np.empty((*chosen.shape, len(names)), np.float32)
    for column, name in enumerate(names):
        values[..., column] = np.take_along_axis(signals[name], chosen, 1) / scales[column]
    return Sample(torch.from_numpy(values), torch.from_numpy(offsets), names, scales)


def deviation(matrix: Floats) -> float:
    """Return the standard deviation of a signal among the items of a question."""
    part = matrix[:: max(1, len(matrix) // 200)].astype(np.float32)
    return float(np.sqrt(part.var(axis=1).mean()) + 1e-6)


def fit(found: Sample, rows: Indices | None = None, *, ridge: float = 1.0) -> Blend:
    """Fit by L-BFGS: mean cross-entropy + ridge / (2 n) * |weights per unit of scale|^2."""
    values = found.values if rows is None else found.values[rows]
    offsets = found.offsets if rows is None else found.offsets[rows]
    weights = torch.zeros(len(found.names), requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=60, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        logits = values @ weights + offsets
        loss = (logits.logsumexp(dim=1) - logits[:, 0]).mean()
        loss = loss + ridge / (2 * len(values)) * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Blend(found.names, (weights.detach().numpy() / found.scales).astype(np.float32))


def crossfit(
    signals: Signals, found: Sample, users: Sequence[str], *, ridge: float = 1.0, folds: int = 4
) -> Floats:
    """Score every question by weights fitted on the other users' questions."""
    _, index = np.unique(np.asarray(users), return_inverse=True)
    fold = np.random.default_rng(0).permutation(index.max() + 1)[index] % folds
    scores = np.zeros(next(iter(signals.values())).shape, np.float32)
    for held in range(folds):
        model = fit(found, np.flatnonzero(fold != held), ridge=ridge)
        rows = np.flatnonzero(fold == held)
        scores[rows] = model.score({name: matrix[rows] for name, matrix in signals.items()})
    return scores
