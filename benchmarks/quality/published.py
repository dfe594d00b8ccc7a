"""The published Industrial questions: what may be learnt from, and how rankings are measured.

Two cuts in time, the same code: at cut ``fit`` everything before the second half of the
validation questions is known, and weights are fitted on that half; at cut ``test`` all
validation questions are known, and the test questions are asked once.  What is learnt is
what stood before the cut; no test answer is among it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Cut = Literal["fit", "test"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """A user's history, oldest first, and the item taken next, as rows of the catalogue."""

    user: str
    history: tuple[int, ...]
    target: int


@dataclass(frozen=True)
class Knowledge:
    """What is known at a cut.

    Attributes:
        histories: of users, oldest first.
        events: items taken since validation began, in order of time.
        users: of these events.
        questions: asked at this cut.
    """

    histories: Mapping[str, tuple[int, ...]]
    events: tuple[int, ...]
    users: tuple[str, ...]
    questions: Sequence[Question]


@dataclass(frozen=True)
class Published:
    """Catalogue and questions.

    Attributes:
        items: title, brand and description by row; rows follow a hash of the texts, since the
            published ids follow first appearance.
        valid, test: in order of time.
    """

    items: Sequence[Mapping[str, Any]]
    valid: Sequence[Question]
    test: Sequence[Question]

    def at(self, cut: Cut, *, more: bool = False, answers: bool = True) -> Knowledge:
        """Return what is known at a cut.

        Args:
            cut: which.
            answers: know the validation answers before the cut; without them, what is known
                is a part of the published training interactions.
            more: also know the earliest histories of users with test questions alone: the
                published training interactions, which stand in test.jsonl as inputs.
        """
        half = len(self.valid) // 2
        known = self.valid[: half if cut == "fit" else None] if answers else []
        asked = self.valid[half:] if cut == "fit" else self.test
        histories = earliest(self.valid)
        if more:
            histories = {**earliest(self.test, without=histories), **histories}
        for question in known:
            histories[question.user] = (*histories[question.user], question.target)
        return Knowledge(
            histories,
            tuple(question.target for question in known),
            tuple(question.user for question in known),
            asked,
        )


def earliest(
    questions: Sequence[Question], without: Mapping[str, object] = {}
) -> dict[str, tuple[int, ...]]:
    """Return each user's history at their first question, which is the shortest."""
    found: dict[str, tuple[int, ...]] = {}
    for question in questions:
        if question.user not in without:
            found.setdefault(question.user, question.history)
    return found


def load(data: Path) -> Published:
    """Read the folder of the real collections."""
    items = _lines(data / "industrial" / "items.jsonl")
    items.sort(
        key=lambda item: json.dumps([item.get(k) for k in ("title", "brand", "description")])
    )
    rows = {item["item_id"]: row for row, item in enumerate(items)}

    def questions(name: str) -> list[Question]:
        found = _lines(data / "industrial_published" / name)
        return [
            Question(q["user_id"], tuple(rows[i] for i in q["history"]), rows[q["target"]])
            for q in found
        ]

    return Published(items, questions("valid.jsonl"), questions("test.jsonl"))


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def ranks(
    scores: NDArray[Any], targets: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many items are above each target and how many are level with it, itself not."""
    own = scores[np.arange(len(targets)), targets][:, None]
    return (scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1


def gains(scores: NDArray[Any], targets: Sequence[int], k: int = 10) -> tuple[Floats, Floats]:
    """Return NDCG@k and HR@k of every question; ties count at their expected value."""
    above, level = ranks(scores, targets)
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    last = np.minimum(above + level + 1, k)
    first = np.minimum(above, k)
    share = 1 / (level + 1)
    return (discounts[last] - discounts[first]) * share, (last - first) * share


def interval(values: Floats, users: Sequence[str], draws: int = 2000, seed: int = 0) -> list[float]:
    """Return the mean and its 95 % interval by bootstrap over users."""
    _, index = np.unique(np.asarray(users), return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index).astype(float)
    picks = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return [round(float(v), 5) for v in (values.mean(), low, high)]
