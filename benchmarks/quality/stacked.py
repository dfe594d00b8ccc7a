"""Does a second system add to a first? Their scores stacked, cross-fitted over users.

    python -m benchmarks.quality.stacked RUNS/industrial/arms/blend/scores-blend.jsonl \\
        RUNS/industrial/arms/sequence/scores-sequence.jsonl

A conditional logit over both scores (the second standardised in each question) is fitted on
four fifths of the users and measured on the last, five times.  Printed are MRR@10 and AUC of
the first alone and of both, and the paired difference with its 95 % interval by bootstrap over
questions.  The weights come from test users, so this says whether there is something to win,
not what a system tuned on valid wins.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Line = Mapping[str, Any]
Question = tuple[Floats, list[int]]
"""Features [candidates, systems] and the places of the right answers."""

FOLDS, DRAWS, RIDGE = 5, 2000, 0.01


def read(path: Path) -> dict[str, Line]:
    """Read scores by example."""
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return {line["example_id"]: line for line in lines}


def questions(systems: Sequence[Mapping[str, Line]]) -> list[Question]:
    """Join the scores of the examples that all systems have answered."""
    shared = sorted(set.intersection(*(set(system) for system in systems)))
    found = []
    for name in shared:
        candidates = systems[0][name]["candidates"]
        columns = []
        for number, system in enumerate(systems):
            by_item = dict(zip(system[name]["candidates"], system[name]["scores"], strict=True))
            values = np.array([by_item[item] for item in candidates], float)
            columns.append((values - values.mean()) / (values.std() + 1e-9) if number else values)
        right = [candidates.index(item) for item in systems[0][name]["positives"]]
        if len(right) < len(candidates):
            found.append((np.stack(columns, axis=1), right))
    return found


def fit(asked: Sequence[Question]) -> Floats:
    """Fit the weights of a conditional logit; several right answers count equally."""

    def loss(weights: Floats) -> float:
        total = 0.0
        for features, right in asked:
            scores = features @ weights
            total += float(np.logaddexp.reduce(scores) - scores[right].mean())
        return total / len(asked) + RIDGE * float(weights @ weights)

    size = asked[0][0].shape[1]
    weights: Floats = minimize(loss, np.full(size, 0.5)).x
    return weights


def measured(question: Question, weights: Floats) -> tuple[float, float]:
    """Return MRR@10 of the best right answer and AUC; ties count half."""
    features, right = question
    scores = features @ weights
    wrong = np.delete(scores, right)
    best = scores[right].max()
    rank = 1 + (wrong > best).sum() + (wrong == best).sum() / 2
    areas = [(wrong < s).mean() + (wrong == s).mean() / 2 for s in scores[right]]
    return (1 / rank if rank <= 10 else 0.0), float(np.mean(areas))


def crossfitted(asked: Sequence[Question], fold: NDArray[np.int64]) -> Floats:
    """Measure every question with weights of the other folds: [questions, 2]."""
    found = np.zeros((len(asked), 2))
    for number in range(FOLDS):
        weights = fit([q for q, own in zip(asked, fold, strict=True) if own != number])
        for index in map(int, np.flatnonzero(fold == number)):
            found[index] = measured(asked[index], weights)
    return found


def main() -> None:
    """Read the files and print what the second adds to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scores", type=Path, nargs=2)
    systems = [read(path) for path in parser.parse_args().scores]
    both = questions(systems)
    random = np.random.default_rng(0)
    fold = random.permutation(len(both)) % FOLDS
    alone = crossfitted([(features[:, :1], right) for features, right in both], fold)
    stacked = crossfitted(both, fold)
    difference = stacked - alone
    picks = random.integers(len(both), size=(DRAWS, len(both)))
    low, high = np.percentile(difference[picks].mean(axis=1), [2.5, 97.5], axis=0)
    for place, name in enumerate(("mrr@10", "auc")):
        print(
            f"{name}: {alone[:, place].mean():.4f} alone, {stacked[:, place].mean():.4f} stacked, "
            f"{difference[:, place].mean():+.4f} [{low[place]:+.4f}, {high[place]:+.4f}], "
            f"{len(both)} questions"
        )


if __name__ == "__main__":
    main()
