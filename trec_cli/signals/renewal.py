"""Counting everything that is known when a question is asked, without a look ahead.

In a split by time every answer of split valid is older than the questions of split test, so it
may be counted when these are asked.  But weights that are fitted on questions whose own answers
are in the counts are wrong.  So they are fitted at an earlier cut, made the same way: older
answers are known there, newer ones are asked.  What is learnt at the earlier cut is as old
against its questions as what is learnt now is against those to be scored.

The wrong answers must be as unknown at the cut as the right ones.  Where they are drawn from the
catalogue they are, and the cut halves the answers.  The candidates that a question brings may be
answers of its own split (``trec prepare --negatives popularity``).  Were half of these counted,
a counted candidate would be wrong; so that cut lies between splits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from trec_cli.core.records import PREDICT, Example, Split
from trec_cli.signals.blend import MOST_QUESTIONS, Blend, Learner, asks_train, fit_blend
from trec_cli.signals.histories import Events, Mask, Times

LEAST_ASKED = 200
"""With fewer questions at the earlier cut, nothing is renewed: weights need questions."""
MOST_ASKED = 5000
NEGATIVES = 200
"""Wrong answers drawn per question that has no candidates."""
_ASKED: tuple[Split, ...] = ("valid",)
_OLDER: dict[Split, tuple[Split, ...]] = {"test": ("valid",), "predict": ("valid", "test")}
"""Splits whose answers may be older than the questions of a split."""


@dataclass(frozen=True)
class Ground:
    """What is counted at two cuts in time.

    Attributes:
        counted: everything older than the questions to be scored, as split train.
        earlier: everything older than :attr:`asked`, as split train.
        asked: the questions that weights are fitted on, as split valid.
        splits: of what was counted beside split train.
        renewed: number of questions counted beside those of split train.
    """

    counted: list[Example]
    earlier: list[Example]
    asked: list[Example]
    splits: tuple[Split, ...]
    renewed: int


def find_ground(examples: Sequence[Example], split: Split, *, drawn: bool) -> Ground | str:
    """Find what else may be counted when the questions of ``split`` are asked.

    Args:
        examples: of all splits.
        split: that is to be scored; nothing is older than the questions of train and valid.
        drawn: whether the wrong answers are drawn from the catalogue; if not, each question
            is asked with its candidates, and no split is cut in two.

    Returns:
        Why only split train can be counted, where times are missing, an answer is not older
        than every question, or too few are.
    """
    splits = tuple(name for name in _OLDER.get(split, ()) if any(e.split == name for e in examples))
    if not splits:
        return "no other split is older"
    older = [e for e in examples if e.split in splits and e.right]
    names = " and ".join(splits)
    times = _times(older)
    if times is None:
        return f"examples of split {names} have no times"
    questions = _times([e for e in examples if e.split == split])
    if split != PREDICT and (questions is None or times.max() >= questions.min()):
        return f"not every answer of split {names} is older than the questions"
    train = [e for e in examples if e.split == "train"]
    known = [msgspec.structs.replace(e, split="train") for e in older]
    late = _newer_half(times) if drawn else _newest_splits(older, times)
    earlier = [*train, *(known[n] for n in np.flatnonzero(~late))]
    if late.sum() < LEAST_ASKED or not earlier or (drawn and late.all()):
        return f"split {names} has too few answers to ask some where others are counted"
    return Ground(
        counted=[*train, *known],
        earlier=earlier,
        asked=[msgspec.structs.replace(older[n], split="valid") for n in np.flatnonzero(late)],
        splits=splits,
        renewed=len(older),
    )


def _newer_half(times: Times) -> Mask:
    """Return which answers are in the newer half, :data:`MOST_ASKED` and those of one time."""
    return np.asarray(times >= np.sort(times)[max(len(times) // 2, len(times) - MOST_ASKED)])


def _newest_splits(older: Sequence[Example], times: Times) -> Mask:
    """Return which answers are of split test, where enough come after all of valid; else all."""
    test = np.array([e.split == "test" for e in older], bool)
    enough = LEAST_ASKED <= test.sum() < len(test)
    apart = enough and times[~test].max() < times[test].min()
    return test if apart else np.ones(len(test), bool)


def _times(examples: Sequence[Example]) -> Times | None:
    """Return the times of all examples; None where there is none, or one has no time."""
    times = [e.timestamp for e in examples if e.timestamp is not None]
    return np.array(times, float) if times and len(times) == len(examples) else None


def past_examples(examples: Sequence[Example]) -> list[Example]:
    """Return what may be learnt from before a prediction: everything is past.

    Each user's whole history becomes an example of split train whose answer is its newest item.
    """
    asked = {e.user_id for e in examples if e.split == PREDICT}
    past = [_newest_as_answer(e) for e in examples if e.split == PREDICT and e.history]
    others = (e for e in examples if e.user_id not in asked)
    return [*past, *(msgspec.structs.replace(e, split="train") for e in others)]


def _newest_as_answer(example: Example) -> Example:
    return msgspec.structs.replace(
        example,
        split="train",
        history=example.history[:-1],
        positives=example.history[-1:],
        candidates=[],
    )


@dataclass(frozen=True)
class Course:
    """How the blend learns for the questions of one split.

    Attributes:
        counted: examples that signals are learnt from; those of split train alone count.
        learnt_from: splits whose questions the weights are fitted on, where nothing is renewed.
        ground: what is counted at two cuts, or why there are none.
        negatives: wrong answers drawn for each question that the weights are fitted on; None
            asks it with its candidates.
        renewable: whether a split by time makes answers of other splits older than the questions.
    """

    counted: Sequence[Example]
    learnt_from: tuple[Split, ...]
    ground: Ground | str
    negatives: int | None = None
    renewable: bool = False

    @classmethod
    def of(
        cls,
        examples: Sequence[Example],
        split: Split,
        learnt_from: tuple[Split, ...],
        negatives: int | None = None,
    ) -> "Course":
        """Count what is older than the questions of a split, where times allow it."""
        ground = find_ground(examples, split, drawn=negatives is not None)
        counted = examples if isinstance(ground, str) else ground.counted
        return cls(counted, learnt_from, ground, negatives, split in _OLDER)

    @classmethod
    def of_past(cls, examples: Sequence[Example], learnt_from: tuple[Split, ...]) -> "Course":
        """Count everything before a prediction, and ask each user for the newest item."""
        why = "a prediction knows everything"
        return cls(past_examples(examples), learnt_from, why, NEGATIVES)

    @cached_property
    def asks_train(self) -> bool:
        """Whether weights are fitted on questions of users that are counted."""
        return isinstance(self.ground, str) and asks_train(self.counted, self.learnt_from)

    @property
    def renewed(self) -> int:
        """Number of answers counted beside those of split train."""
        return 0 if isinstance(self.ground, str) else self.ground.renewed

    @property
    def settings(self) -> dict[str, Any]:
        """What a file of weights says of it."""
        if isinstance(self.ground, str):
            return {}
        cut = {} if self.negatives is not None else {"cut": "between splits"}
        return {"renewed": self.ground.splits, **cut}

    @property
    def asked_of(self) -> str:
        """Where the questions come from that the weights are fitted on."""
        if isinstance(self.ground, str):
            return f"split {' and '.join(self.learnt_from)}"
        return f"split {' and '.join(self.ground.splits)}, asked before they were counted"

    def events(self, rows: Mapping[str, int]) -> Events:
        """Collect what is counted when the questions are asked."""
        return Events.of(self.counted, rows, timed=self.renewed > 0)

    def fit(self, learner: Learner) -> Blend:
        """Fit the weights, at the earlier cut where there is one.

        Args:
            learner: of the signals from :meth:`events`.

        Raises:
            UsageError: no split has a question.
        """
        learner.signals()
        with learner.shelf.passing():
            return replace(self._fitted(learner), learner=learner)

    def _fitted(self, learner: Learner) -> Blend:
        negatives = self.negatives
        if isinstance(self.ground, str):
            return fit_blend(learner, self.counted, negatives=negatives, splits=self.learnt_from)
        earlier = Events.of(self.ground.earlier, learner.catalogue.rows, timed=True)
        asked = self.ground.asked
        return fit_blend(learner.over(earlier), asked, negatives=negatives, splits=_ASKED)

    def __str__(self) -> str:
        """Write for people what is counted."""
        if isinstance(self.ground, str):
            return f"counted: split train alone, since {self.ground}"
        asked = min(len(self.ground.asked), MOST_QUESTIONS)
        return (
            f"counted: split train and {self.renewed:,} answers of split "
            f"{' and '.join(self.ground.splits)}, all older than the questions; the weights are "
            f"of {asked:,} of them, asked where they were not counted"
        )
