"""The blend: all cheap signals, weighed by one conditional logit.

The signals are learnt from train users (:mod:`trec_cli.signals.learn`), the weights from
questions whose own answer is in no count: those of split valid, and, where these are few,
those of train, each scored by signals that were learnt without a tenth of the users, its own
user among them (cross-fitting).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.json_file import read_json
from trec_cli.core.outputs import write_bytes
from trec_cli.core.records import Example, Split
from trec_cli.core.seeds import FOLDS, derive_seed, fold_of, generator
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories, Rows
from trec_cli.signals.kinds import Signal, Values
from trec_cli.signals.learn import learn_signals, meaning
from trec_cli.signals.logit import Array, ChoiceSets, ConditionalLogit, fit_logit
from trec_cli.signals.shelf import Shelf

MOST_QUESTIONS = 5000
"""Questions that the weights are fitted on at most."""
ENOUGH_QUESTIONS = 1000
"""From so many questions of split valid on, none of train is added."""
VARYING = ("popularity", "unseen", "next", "next_near", "bm25", "vector_last", "vector_nearest")
"""Signals whose weight depends on the length of the history, where questions are many:
popularity counts for more where little is known of a user, and the nearest of many items is
nearer by chance."""
MANY_QUESTIONS = 2000
"""With fewer, the further weights cost more than they bring."""
BY_LENGTH = " by length"
_LONG = 50
_DECIMALS = 5
"""Beyond them, equal evidence would differ by the order in which a machine adds."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of question and candidate, ordered by question.

    Attributes:
        asked: the questions' histories.
        questions: index of each pair's question.
        candidates: row of each pair's candidate.
    """

    asked: Histories
    questions: Rows
    candidates: Rows

    @classmethod
    def of(
        cls,
        histories: Iterable[Sequence[str]],
        candidates: Sequence[Sequence[str]],
        rows: Mapping[str, int],
    ) -> "Pairs":
        """Look everything up; every candidate must be in the catalogue."""
        lengths = [len(one) for one in candidates]
        flat = np.fromiter(
            (rows[item] for one in candidates for item in one), np.int64, sum(lengths)
        )
        return cls(Histories.of(histories, rows), np.repeat(np.arange(len(lengths)), lengths), flat)

    def features(self, signals: Mapping[str, Signal], varying: Sequence[str] = ()) -> Array:
        """Compute every signal for every pair, and some again times the length of the history.

        Returns:
            The columns of :func:`feature_names`: [pairs, features].
        """
        columns = {
            name: signal.at(self.asked, self.questions, self.candidates)
            for name, signal in signals.items()
        }
        length = history_size(self.asked)[self.questions]
        again = [columns[name] * length for name in varying]
        return np.column_stack([*columns.values(), *again]).astype(float)


def history_size(asked: Histories) -> Values:
    """Return ``log((1 + length) / 6)`` of each history: 0 for five items, at most 2.1."""
    return np.log((1 + np.minimum(asked.lengths, _LONG)) / 6).astype(np.float32)


def varying_of(signals: Iterable[str]) -> tuple[str, ...]:
    """Return the names of those signals whose weight may depend on the length of the history."""
    there = set(signals)
    return tuple(name for name in VARYING if name in there)


def feature_names(signals: Iterable[str], varying: Sequence[str]) -> list[str]:
    """Name the features: every signal, and those whose weight varies with the history."""
    return [*signals, *(name + BY_LENGTH for name in varying)]


class Further(Protocol):
    """Learns signals that are not of :mod:`trec_cli.signals.learn`."""

    def __call__(self, events: Events, fold: int | None = None) -> Mapping[str, Signal]:
        """Learn from every user outside ``fold``; the same signals for each fold."""


@dataclass
class Learner:
    """Learns signals from all train users, or from all but one fold of them.

    Attributes:
        catalogue, events: to learn from.
        seed: by which users come into folds.
        shelf: keeps what takes long to learn.
        further: learns further signals of the same events.
    """

    catalogue: EncodedCatalogue
    events: Events
    seed: int = 0
    shelf: Shelf = field(default_factory=Shelf, repr=False)
    further: Further | None = field(default=None, repr=False)
    _made: dict[int | None, dict[str, Signal]] = field(default_factory=dict, repr=False)

    def signals(self, fold: int | None = None) -> dict[str, Signal]:
        """Learn from every train user outside ``fold``, once."""
        if fold not in self._made:
            events = self.events
            if fold is not None:
                events = events.outside([fold])
                self._made = {key: value for key, value in self._made.items() if key is None}
            shelf = self.shelf if fold is None else self.shelf.apart()
            more = self.further(self.events, fold) if self.further else {}
            self._made[fold] = {**learn_signals(self.catalogue, events, shelf), **more}
        return self._made[fold]

    def over(self, events: Events) -> "Learner":
        """Return a learner of the same from other events."""
        return Learner(self.catalogue, events, self.seed, self.shelf, self.further)

    def parts(self, examples: Sequence[Example]) -> Iterator[tuple[list[int], dict[str, Signal]]]:
        """Yield indices of examples, and signals that do not know their answers."""
        own = [fold_of(e.user_id) if e.split == "train" else None for e in examples]
        for fold in sorted({f for f in own if f is not None}):
            yield [n for n, f in enumerate(own) if f == fold], self.signals(fold)
        rest = [n for n, f in enumerate(own) if f is None]
        if rest:
            yield rest, self.signals()


@dataclass(frozen=True)
class Blend:
    """Signals and their weights, ready to score.

    Attributes:
        learner: of the signals.
        logit: the weights.
        fold: of the train users who are left out of :attr:`signals`, for their own questions.
    """

    learner: Learner
    logit: ConditionalLogit
    fold: int | None = None

    @property
    def signals(self) -> dict[str, Signal]:
        """The signals that rank the whole catalogue."""
        return self.learner.signals(self.fold)

    @property
    def varying(self) -> tuple[str, ...]:
        """Signals whose weight depends on the length of the history."""
        found = (name for name in self.logit.names if name.endswith(BY_LENGTH))
        return tuple(name.removesuffix(BY_LENGTH) for name in found)

    def score(self, examples: Sequence[Example]) -> list[list[float]]:
        """Score each example's candidates; those of train by signals without their users."""
        scores: list[list[float]] = [[] for _ in examples]
        for indices, signals in self.learner.parts(examples):
            own = [examples[index] for index in indices]
            candidates = [e.candidates for e in own]
            pairs = Pairs.of((e.history for e in own), candidates, self.learner.catalogue.rows)
            values = np.round(self.logit.score(pairs.features(signals, self.varying)), _DECIMALS)
            ends = np.cumsum([0, *map(len, candidates)])
            for n, index in enumerate(indices):
                scores[index] = values[ends[n] : ends[n + 1]].tolist()
        return scores

    def of_pairs(self, pairs: Pairs) -> Array:
        """Score pairs of question and candidate: [pairs]."""
        features = pairs.features(self.signals, self.varying)
        return np.round(self.logit.score(features), _DECIMALS)

    def everywhere(self, asked: Histories) -> Values:
        """Score the whole catalogue for a block of questions: [questions, items]."""
        return self.combine(asked, lambda name: self.signals[name].everywhere(asked))

    def combine(self, asked: Histories, values: Callable[[str], Values]) -> Values:
        """Do the same from values of the signals that are known already.

        Args:
            asked: the questions.
            values: gives those of a signal by its name: [questions, items].
        """
        total = np.zeros((len(asked), len(self.learner.catalogue)), np.float32)
        weights = dict(zip(self.logit.names, self.logit.weights.astype(np.float32), strict=True))
        length = history_size(asked)[:, None]
        for name in self.signals:
            weight = weights[name] + weights.get(name + BY_LENGTH, np.float32(0)) * length
            if weight.any():
                total += weight * values(name)
        return np.round(total, _DECIMALS)


def fit_blend(
    learner: Learner,
    examples: Sequence[Example],
    *,
    negatives: int | None = None,
    splits: Collection[Split] = ("train", "valid"),
) -> Blend:
    """Fit the weights.

    Args:
        learner: of the signals.
        examples: of all splits.
        negatives: draw so many wrong answers per question from the whole catalogue; None
            takes the candidates of each question, which are from the population to be scored.
        splits: whose questions may be used; leave out valid where it is what is scored.

    Raises:
        UsageError: no split has a question.
    """
    chosen = choose_questions(examples, splits, learner)
    if not chosen:
        raise UsageError(
            "the blend learns its weights from questions of split valid or train with a right "
            "and a wrong answer, and there are none"
        )
    asked = [list(e.candidates) for e in chosen]
    if negatives is not None:
        items = list(learner.catalogue.rows)
        asked = [drawn_candidates(example, items, negatives, learner.seed) for example in chosen]
    varying = varying_of(learner.signals()) if len(chosen) >= MANY_QUESTIONS else ()
    choices = _choices(learner, chosen, asked, varying)
    users = [derive_seed(learner.seed, "user", e.user_id) for e in chosen]
    return Blend(
        learner, fit_logit(choices, feature_names(learner.signals(), varying), groups=users)
    )


def asks_train(examples: Iterable[Example], splits: Collection[Split]) -> bool:
    """Check whether weights are fitted on questions of split train, too.

    They are where split valid has fewer than :data:`ENOUGH_QUESTIONS`.
    """
    valid = sum(e.split == "valid" and bool(e.right) for e in examples) if "valid" in splits else 0
    return "train" in splits and valid < ENOUGH_QUESTIONS


def choose_questions(
    examples: Sequence[Example], splits: Collection[Split], learner: Learner
) -> list[Example]:
    """Choose the questions to fit on, whatever the order of the file.

    All of split valid, at most :data:`MOST_QUESTIONS`; where these are fewer than
    :data:`ENOUGH_QUESTIONS`, questions of train are added fold by fold.
    """
    ordered = sorted(
        (e for e in examples if e.split in splits and e.split in ("train", "valid") and e.right),
        key=lambda e: derive_seed(learner.seed, "question", e.user_id, e.example_id),
    )
    chosen = [e for e in ordered if e.split == "valid"][:MOST_QUESTIONS]
    for fold in range(FOLDS):
        if len(chosen) >= ENOUGH_QUESTIONS:
            break
        own = [e for e in ordered if e.split == "train" and fold_of(e.user_id) == fold]
        chosen += own[: MOST_QUESTIONS - len(chosen)]
    return chosen


def drawn_candidates(example: Example, items: Sequence[str], count: int, seed: int) -> list[str]:
    """Return the right answers and ``count`` wrong ones of ``items``, or as many as there are."""
    answers = example.right
    draws = generator(seed, example.user_id, example.example_id)
    size = min(count + len(answers), len(items))
    drawn = [items[n] for n in draws.choice(len(items), size, replace=False)]
    wrong = [item for item in drawn if item not in answers]
    return [*answers, *wrong[:count]]


def _choices(
    learner: Learner,
    examples: Sequence[Example],
    candidates: Sequence[Sequence[str]],
    varying: Sequence[str],
) -> ChoiceSets:
    """Compute the features of each question with signals that do not know its answer."""
    features, lengths, answers = [], [], []
    for indices, signals in learner.parts(examples):
        own = [candidates[n] for n in indices]
        pairs = Pairs.of((examples[n].history for n in indices), own, learner.catalogue.rows)
        features.append(pairs.features(signals, varying))
        lengths += [len(one) for one in own]
        answers += [i in examples[n].right for n in indices for i in candidates[n]]
    return ChoiceSets.of(
        np.concatenate(features), np.cumsum([0, *lengths]), np.array(answers, bool)
    )


def _meaning(feature: str) -> str:
    if not feature.endswith(BY_LENGTH):
        return meaning(feature)
    return f"how the weight of {feature.removesuffix(BY_LENGTH)} grows with log(history length)"


def save_logit(path: Path, logit: ConditionalLogit, details: Mapping[str, Any]) -> None:
    """Write the weights as JSON, one readable entry per signal."""
    signals = [
        {
            "name": name,
            "says": _meaning(name),
            "coefficient": float(logit.coefficients[n]),
            "standard_error": float(logit.errors[n]),
            "mean": float(logit.means[n]),
            "scale": float(logit.scales[n]),
        }
        for n, name in enumerate(logit.names)
    ]
    content = {
        "signals": signals,
        "penalty": logit.penalty,
        "questions": logit.questions,
        "log_likelihood": logit.log_likelihood,
        **details,
    }
    write_bytes(path, [msgspec.json.format(msgspec.json.encode(content), indent=2), b"\n"])


def load_logit(path: Path) -> ConditionalLogit:
    """Read the weights that :func:`save_logit` wrote.

    Raises:
        InputError: the file is not such a file.
    """
    try:
        content = read_json(path, dict[str, Any])
        signals = content["signals"]
        columns = {
            key: np.array([signal[key] for signal in signals], float)
            for key in ("mean", "scale", "coefficient", "standard_error")
        }
        return ConditionalLogit(
            names=tuple(signal["name"] for signal in signals),
            means=columns["mean"],
            scales=columns["scale"],
            coefficients=columns["coefficient"],
            errors=columns["standard_error"],
            penalty=content["penalty"],
            questions=content["questions"],
            log_likelihood=content["log_likelihood"],
        )
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError):
        raise InputError.of(path, "is no saved blend", "remove it; it is made again") from None
