"""The audit itself: learn from some users, ask others, never look at a user."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trec_cli.audit.features import BlindSignal, Known, Scale, basis, item_signals
from trec_cli.audit.questions import FOLDS, Questions, Rows, read_questions
from trec_cli.core.records import Example, Item, Split
from trec_cli.evaluate.metrics import Floats, Ints, Pools, auc, rank
from trec_cli.evaluate.statistics import UserSums, bootstrap, interval
from trec_cli.signals.blend import Learner, fit_blend
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events
from trec_cli.signals.logit import ChoiceSets, fit_logit

LEVEL = 0.60
"""Lower end of the interval from which the audit warns: chance is 0.5."""
GAP = 0.05
"""Gap between the intervals of train and of the asked split from which the audit warns."""
NO_USER = "no user"
_FITTED, _CHUNK = 60_000, 100_000
"""Candidates that models are fitted on, and candidates that are looked at at once."""
_LISTED = 50_000
"""Examples above which only item signals are looked at."""
_LEAST = 10
"""Questions without which nothing can be learnt."""
_PRIORS = (1.0, 10.0, 100.0)
"""Precisions of the prior of all weights together, to choose from."""
_REPLICATES = 1000
_TOLD = 3
"""Signals that a warning names."""


@dataclass(frozen=True)
class Estimate:
    """A mean AUC with its 95 % interval over users."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Write ``0.97 [0.96, 0.98]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def as_dict(self) -> dict[str, float]:
        """Return plain values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Audit:
    """How well the right answer is told without the user.

    Attributes:
        split: that was asked.
        learnt_from: number of questions that the models were fitted on.
        no_user: AUC of the model of all signals.
        train: AUC of such a model on split train, each fold of users by what the others have
            taught; None where train was not learnt from, or is what was asked.
        no_text: AUC of the same without any text, but with what users have in common;
            None where it was not asked for.
        signals: AUC of a model of each signal alone, highest first.
        examples: ids of the questions asked.
        scores: of the model without user, for each question, in the order of its candidates.
    """

    split: Split
    learnt_from: int
    no_user: Estimate
    signals: dict[str, float]
    users: int
    no_text: Estimate | None = None
    train: Estimate | None = None
    examples: list[str] = field(default_factory=list, repr=False)
    scores: list[Floats] = field(default_factory=list, repr=False)

    @property
    def is_alarming(self) -> bool:
        """Whether the whole interval lies above the level."""
        return self.no_user.low > LEVEL

    @property
    def differs(self) -> bool:
        """Whether far more, or far less, is told without the user in train than when asked."""
        if self.train is None:
            return False
        apart = max(self.train.low - self.no_user.high, self.no_user.low - self.train.high)
        return apart > GAP

    def as_dict(self) -> dict[str, Any]:
        """Return what `metrics.json` and the manifest hold."""
        return {
            "split": self.split,
            "questions": len(self.examples),
            "users": self.users,
            "learnt_from": self.learnt_from,
            "level": LEVEL,
            "no_user": {"auc": self.no_user.as_dict()},
            "train": self.train and {"auc": self.train.as_dict(), "differs": self.differs},
            "no_text": self.no_text and {"auc": self.no_text.as_dict()},
            "signals": self.signals,
        }

    def sentence(self) -> str:
        """Describe in one sentence what was found."""
        return f"a model that never sees the user gets AUC {self.no_user} on split {self.split}"

    def warnings(self) -> list[str]:
        """Return what to look at before any result of these questions is believed."""
        found = [self._shortcut()] if self.is_alarming else []
        if self.differs:
            found.append(
                f"without the user the right answer is told with AUC {self.train} in split train, "
                f"and {self.no_user} in split {self.split}: whoever learns from train learns what "
                "does not hold. Are negatives drawn alike in both, and is train older? See "
                "docs/audit.md"
            )
        return found

    def _shortcut(self) -> str:
        strongest = [f"{name} {value:.3f}" for name, value in self.signals.items()][:_TOLD]
        return (
            f"{self.sentence()}: part of any system's result needs no user. Strongest signals: "
            f"{', '.join(strongest)}. See docs/audit.md; compare with the row '{NO_USER}'"
        )


def audit_examples(
    items: Mapping[str, Item],
    examples: Iterable[Example],
    split: Split = "test",
    seed: int = 0,
    *,
    without_text: bool = False,
    known: Known | None = None,
) -> Audit | None:
    """Audit the questions of a split.

    Models learn from splits train and valid, or by cross-fitting from the asked split itself
    where there is nothing else; counts come from split train.  Every user is asked about with
    what other users have taught.

    Args:
        items: the catalogue, in the order of its file; may be empty.
        examples: of all splits.
        split: that is asked.
        seed: of the folds, of samples of large data, and of the interval.
        without_text: also measure how far users and items lead without any text.
        known: vectors and scores that models have made of the items without any user.

    Returns:
        None where fewer than ten questions can be asked, or learnt from.
    """
    kept = _Kept(examples, _LISTED if without_text else 0)
    questions = read_questions(kept, items)
    asked = questions.of(split)
    learnt = questions.of("train", "valid")
    learnt = learnt if len(learnt) >= _LEAST else asked
    if len(asked) < _LEAST:
        return None
    source = questions.of("train")
    counted = questions.part(source if len(source) else learnt)
    signals = item_signals(questions.ids, items, counted, questions.histories, known)
    fitted = questions.sample(learnt, _FITTED, seed)
    models = _fit_all(questions, fitted, asked, signals)
    scores = _score(questions, asked, signals, models)
    found = _result(questions, split, asked, scores, list(signals), len(fitted), seed)
    taught = questions.sample(source, _FITTED, seed) if split != "train" else source[:0]
    return replace(
        found,
        train=_of_train(questions, taught, signals, seed),
        no_text=_without_texts(kept.examples, questions, asked, split, seed),
    )


@dataclass
class _Kept:
    """Passes examples on and keeps them, unless there are more than ``most``."""

    source: Iterable[Example]
    most: int
    examples: list[Example] = field(default_factory=list)

    def __iter__(self) -> Iterator[Example]:
        for number, example in enumerate(self.source, 1):
            if number <= self.most:
                self.examples.append(example)
            elif self.examples:
                self.examples.clear()
            yield example


@dataclass(frozen=True)
class _Models:
    """Weights of the model of all signals (first) and of each alone, by the fold left out.

    Attributes:
        scale: of the features.
        weights: ``[folds, features, 1 + signals]``.
    """

    scale: Scale
    weights: Floats

    def __call__(self, features: Floats, fold: Ints) -> Floats:
        """Score rows with the model that has not seen their fold: ``[rows, 1 + signals]``."""
        ready = self.scale(features)
        scores = np.empty((len(ready), self.weights.shape[2]))
        for one in np.unique(fold):
            mine = fold == one
            scores[mine] = ready[mine] @ self.weights[one]
        return scores


def _features(signals: Mapping[str, BlindSignal], rows: Rows) -> Floats:
    return np.concatenate([basis(signal, rows) for signal in signals.values()], axis=1)


def _of_train(
    questions: Questions, taught: Ints, signals: Mapping[str, BlindSignal], seed: int
) -> Estimate | None:
    """Ask the questions that teach, each fold of users by a model of the others."""
    if len(taught) < _LEAST:
        return None
    models = _fit_all(questions, taught, taught, signals, alone=False)
    scores = _score(questions, taught, signals, models)
    users = [questions.users[index] for index in taught.tolist()]
    return _estimate(_areas(scores[:, 0], questions.part(taught)), users, seed)


def _fit_all(
    questions: Questions,
    fitted: Ints,
    asked: Ints,
    signals: Mapping[str, BlindSignal],
    *,
    alone: bool = True,
) -> _Models:
    """Fit the models; one for each fold where users asked about are among those to learn from."""
    features = _features(signals, questions.part(fitted))
    scale = Scale.of(features)
    ready = scale(features)
    users = [questions.users[index] for index in fitted.tolist()]
    own = {questions.users[index] for index in asked.tolist()} & set(users)
    if not own:
        weights = _fit(ready, questions.part(fitted), len(signals), alone=alone)
        return _Models(scale, np.stack([weights] * FOLDS))
    by_fold = []
    for fold in range(FOLDS):
        kept = np.flatnonzero(questions.folds[fitted] != fold)
        part = questions.part(fitted[kept])
        mask = questions.part(fitted).fold != fold
        by_fold.append(_fit(ready[mask], part, len(signals), alone=alone))
    return _Models(scale, np.stack(by_fold))


def _fit(ready: Floats, rows: Rows, signals: int, *, alone: bool) -> Floats:
    """Fit the model of all signals, and with ``alone`` those of each: ``[features, 1 + signals]``.

    What is only a warning, the model of train, has a middle prior: choosing takes longest.
    """
    width = ready.shape[1] // signals
    weights = np.zeros((ready.shape[1], 1 + signals))
    if len(rows.starts) == 1:
        return weights
    weights[:, 0] = _weights(ready, rows, _PRIORS if alone else _PRIORS[1:2])
    for index in range(signals if alone else 0):
        own = slice(index * width, (index + 1) * width)
        weights[own, 1 + index] = _weights(ready[:, own], rows)
    return weights


def _weights(features: Floats, rows: Rows, priors: Sequence[float] = (1.0,)) -> Floats:
    """Fit a conditional logit; weights have a normal prior of one of these precisions."""
    names = [str(index) for index in range(features.shape[1])]
    choices = ChoiceSets.of(features, rows.starts, rows.right)
    penalties = [prior / len(choices) for prior in priors]
    return fit_logit(choices, names, penalties=penalties).weights


def _score(
    questions: Questions, asked: Ints, signals: Mapping[str, BlindSignal], models: _Models
) -> Floats:
    """Score all candidates asked about, a part at a time: ``[rows, 1 + signals]``."""
    parts = [questions.part(chunk) for chunk in questions.chunks(asked, _CHUNK)]
    return np.concatenate([models(_features(signals, rows), rows.fold) for rows in parts])


def _result(
    questions: Questions,
    split: Split,
    asked: Ints,
    scores: Floats,
    names: Sequence[str],
    learnt_from: int,
    seed: int,
) -> Audit:
    rows = questions.part(asked)
    users = [questions.users[index] for index in asked.tolist()]
    areas = [_areas(column, rows) for column in scores.T]
    alone = {name: float(area.mean()) for name, area in zip(names, areas[1:], strict=True)}
    return Audit(
        split=split,
        learnt_from=learnt_from,
        no_user=_estimate(areas[0], users, seed),
        signals=dict(sorted(alone.items(), key=lambda pair: -pair[1])),
        users=len(set(users)),
        examples=[questions.examples[index] for index in asked.tolist()],
        scores=np.split(scores[:, 0], rows.starts[1:-1]),
    )


def _without_texts(
    examples: Sequence[Example], questions: Questions, asked: Ints, split: Split, seed: int
) -> Estimate | None:
    """Measure the blend of all signals that are left when no item has a text.

    None where there is nothing to learn it from; split valid is not asked what it has taught.
    """
    splits: tuple[Split, ...] = ("train",) if split == "valid" else ("train", "valid")
    if not examples or len(questions.of(*splits)) < _LEAST:
        return None
    bare = EncodedCatalogue.of({item: Item(item, {}) for item in questions.ids})
    learner = Learner(bare, Events.of(examples, bare.rows), seed)
    blend = fit_blend(learner, examples, splits=splits)
    wanted = [questions.examples[index] for index in asked.tolist()]
    by_id = {example.example_id: example for example in examples}
    scores = np.concatenate(blend.score([by_id[example] for example in wanted]))
    users = [questions.users[index] for index in asked.tolist()]
    return _estimate(_areas(scores, questions.part(asked)), users, seed)


def _areas(scores: Floats, rows: Rows) -> Floats:
    """Compute the AUC of every question."""
    return auc(rank(Pools(scores, rows.starts, np.flatnonzero(rows.right))))


def _estimate(areas: Floats, users: Sequence[str], seed: int) -> Estimate:
    """Return the mean over questions with an interval over users."""
    data = UserSums.of(areas[None, :, None], users)
    low, high = interval(bootstrap(data, _REPLICATES, seed))
    return Estimate(float(areas.mean()), float(low[0, 0]), float(high[0, 0]))
