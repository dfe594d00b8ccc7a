"""Signals that know the item and never the user, and the features made of them.

A signal gives every row (question, candidate) one number.  Whatever it counts, it counts over
users of other folds than the question's: no question can find its own answer in a count.
"""

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

import numpy as np
from scipy import sparse

from trec_cli.audit.questions import FOLDS, Bools, Rows, TrainHistories
from trec_cli.core.records import Item
from trec_cli.core.text import terms
from trec_cli.evaluate.metrics import Floats, Ints
from trec_cli.models.vector_store import Vector

_PRIOR = 2.0
"""Candidates of the mean rate that are added to every rate."""
_HASHED = 1 << 15
_TEXT = 600
"""Characters of an item's text whose words are looked at."""
_GROUP_SHARE, _GROUP_WORDS, _LEAST_FILLED = 0.2, 6, 0.2
"""What makes an attribute a group: few values of few words, and not mostly empty."""
_NUMBERS_SHARE = 0.8
"""Share of values that are numbers in an attribute that is one."""
_LIMIT = 5.0
_COMPONENTS = 64
"""Of vectors; more would only be noise for some thousand answers."""


class BlindSignal(Protocol):
    """Something that can be known of a candidate without its user."""

    def __call__(self, rows: Rows) -> Floats:
        """Return one number per row; NaN where nothing is known."""


@dataclass(frozen=True)
class OfItem:
    """A number per item, ``[items]``."""

    values: Floats

    def __call__(self, rows: Rows) -> Floats:
        """Look the item up."""
        return self.values[rows.items]


@dataclass(frozen=True)
class OfOthers:
    """A number per item for each fold, learnt from the other folds: ``[folds, items]``."""

    values: Floats

    def __call__(self, rows: Rows) -> Floats:
        """Look the item up, as users of other folds have it."""
        return self.values[rows.fold, rows.items]


@dataclass(frozen=True)
class Age:
    """How long before the question an item was first seen, ``first`` being ``[folds, items]``."""

    first: Floats

    def __call__(self, rows: Rows) -> Floats:
        """Subtract; an item that is new has no age."""
        age = rows.time - self.first[rows.fold, rows.items]
        return np.where(np.isfinite(age), age, np.nan)


@dataclass(frozen=True)
class Position:
    """The position in the list of candidates."""

    def __call__(self, rows: Rows) -> Floats:
        """Count from 0."""
        return rows.position.astype(np.float64)


@dataclass(frozen=True)
class Known:
    """What models have made of items before, none of them having seen a user.

    Attributes:
        vectors: of the items' texts, by item, all of one length; empty where there are none.
        scores: of language models that were asked with an empty history, by the model's name
            and by item.
    """

    vectors: Mapping[str, Vector] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


EMBEDDING = "embedding of the text"


def item_signals(
    ids: Sequence[str],
    items: Mapping[str, Item],
    learnt: Rows,
    histories: TrainHistories,
    known: Known | None = None,
) -> dict[str, BlindSignal]:
    """Return every signal by its name.

    Args:
        ids: item ids by index.
        items: the catalogue; items that are not in it have no texts.
        learnt: candidates of the questions to learn from.
        histories: of the users to learn from.
        known: vectors and scores that models have made of the items.
    """
    signals: dict[str, BlindSignal] = dict(_counts(len(ids), learnt, histories))
    signals |= dict(_times(len(ids), learnt))
    signals["candidate order"] = Position()
    signals["id order"] = OfItem(_natural_order(ids))
    if items:
        listed = {item: float(index) for index, item in enumerate(items)}
        signals["order in the items file"] = OfItem(_looked_up(ids, listed))
        signals |= dict(_texts(ids, items, learnt))
    if known and known.vectors:
        signals[EMBEDDING] = OfOthers(_rates_of_vectors(ids, known.vectors, learnt))
    for name, scores in (known.scores if known else {}).items():
        signals[f"language model ({name})"] = OfItem(_looked_up(ids, scores))
    return signals


def _rates_of_vectors(ids: Sequence[str], vectors: Mapping[str, Vector], learnt: Rows) -> Floats:
    """Return how much an item's vector speaks for right: ``[folds, items]``.

    Ridge regression of right (1) and wrong (0) on the main components of the vectors, for each
    fold on the candidates of the others; NaN where an item has no vector.
    """
    has = np.array([item in vectors for item in ids])
    made = np.full((FOLDS, len(ids)), np.nan)
    if has.sum() < 2:
        return made
    matrix = _components(np.array([vectors[i] for i in ids if i in vectors], dtype=np.float64))
    right = others(learnt.fold, learnt.items, len(ids), learnt.right)[:, has]
    shown = others(learnt.fold, learnt.items, len(ids))[:, has]
    for fold, (hits, times) in enumerate(zip(right, shown, strict=True)):
        total = max(times.sum(), 1.0)
        residual = hits - times * hits.sum() / total
        weighted = matrix.T @ (matrix * times[:, None])
        ridge = np.eye(matrix.shape[1]) * max(np.trace(weighted) / matrix.shape[1], 1e-9)
        made[fold, has] = matrix @ np.linalg.solve(weighted + ridge, matrix.T @ residual)
    return made


def _components(matrix: Floats) -> Floats:
    """Return the main components of the rows, in the vectors' own units."""
    centred = matrix - matrix.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, np.argsort(-values)[:_COMPONENTS]], dtype=np.float64)


def _counts(
    number: int, learnt: Rows, histories: TrainHistories
) -> Iterator[tuple[str, BlindSignal]]:
    """Count how often others have an item in a history, as right and as wrong answer."""
    taken = others(histories.fold, histories.items, number)
    late = others(histories.fold, histories.items, number, histories.lateness)
    right = others(learnt.fold, learnt.items, number, learnt.right)
    shown = others(learnt.fold, learnt.items, number)
    yield "times in histories", OfOthers(np.log1p(taken))
    yield "in no history", OfOthers((taken == 0).astype(float))
    yield "late in histories", OfOthers(_ratio(late, taken))
    yield "times right", OfOthers(np.log1p(right))
    yield "times wrong", OfOthers(np.log1p(shown - right))
    yield "share right", OfOthers(log_odds(right, shown))


def others(fold: Ints, codes: Ints, number: int, weights: Floats | Bools | None = None) -> Floats:
    """Sum weights by code over all folds but one's own: ``[folds, number]``."""
    flat = np.bincount(
        fold * number + codes,
        weights=None if weights is None else weights.astype(np.float64),
        minlength=FOLDS * number,
    ).astype(np.float64)
    by_fold = flat.reshape(FOLDS, number)
    rest: Floats = by_fold.sum(axis=0) - by_fold
    return rest


def _ratio(part: Floats, whole: Floats) -> Floats:
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0.5)
    return out


def log_odds(right: Floats, shown: Floats) -> Floats:
    """Return the smoothed log-odds of being right when shown, along the last axis."""
    rate = right.sum(axis=-1, keepdims=True) / np.maximum(shown.sum(axis=-1, keepdims=True), 1)
    rate = np.clip(rate, 1e-6, 1 - 1e-6)
    share = (right + _PRIOR * rate) / (shown + _PRIOR)
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(share / (1 - share)), dtype=np.float64)


def _times(number: int, learnt: Rows) -> Iterator[tuple[str, BlindSignal]]:
    """Find when others were first asked about an item, where questions have times."""
    known = np.isfinite(learnt.time)
    if not known.any():
        return
    seen = np.full((FOLDS, number), np.inf)
    np.minimum.at(seen, (learnt.fold[known], learnt.items[known]), learnt.time[known])
    first = np.stack([np.delete(seen, fold, axis=0).min(axis=0) for fold in range(FOLDS)])
    yield "first seen", OfOthers(np.where(np.isfinite(first), first, np.nan))
    yield "age when asked", Age(first)


def _natural_order(ids: Sequence[str]) -> Floats:
    """Return the index of every id in an order in which ``N9`` comes before ``N10``."""
    keys = [
        [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _parts(item)]
        for item in ids
    ]
    ranks = np.empty(len(ids))
    ranks[sorted(range(len(ids)), key=lambda index: keys[index])] = np.arange(len(ids))
    return ranks


def _parts(item: str) -> list[str]:
    return [part for part in re.split(r"(\d+)", item) if part]


def _looked_up(ids: Sequence[str], values: Mapping[str, float]) -> Floats:
    return np.array([values.get(item, np.nan) for item in ids])


def _texts(
    ids: Sequence[str], items: Mapping[str, Item], learnt: Rows
) -> Iterator[tuple[str, BlindSignal]]:
    """Describe the texts by length, number, groups, numbers and words."""
    listed = [items.get(item) for item in ids]
    filled = [
        {name: value.strip() for name, value in item.attributes.items() if value.strip()}
        if item
        else {}
        for item in listed
    ]
    yield "text length", OfItem(np.array([_length(texts) for texts in filled]))
    yield "number of texts", OfItem(np.array([float(len(texts)) for texts in filled]))
    for name in dict.fromkeys(name for texts in filled for name in texts):
        values = [texts.get(name, "") for texts in filled]
        if (numbers := _numbers(values)) is not None:
            yield name, OfItem(numbers)
        elif _is_group(values):
            yield name, OfOthers(_rates_of_groups(values, learnt))
    yield "words", OfOthers(_rates_of_words(filled, learnt))


def _length(texts: Mapping[str, str]) -> float:
    return float(np.log1p(sum(map(len, texts.values()))))


def _numbers(values: Sequence[str]) -> Floats | None:
    """Read an attribute of numbers, such as a price; None where it is none."""
    filled = [value for value in values if value]
    read = [_number(value) for value in values]
    if np.isfinite(read).sum() < _NUMBERS_SHARE * len(filled):
        return None
    return np.array(read)


def _number(value: str) -> float:
    plain = value.replace(",", "").lstrip("$€£ ")
    return float(plain) if re.fullmatch(r"-?\d+(\.\d+)?", plain) else np.nan


def _is_group(values: Sequence[str]) -> bool:
    filled = [value for value in values if value]
    if len(filled) < _LEAST_FILLED * len(values):
        return False
    few = len(set(filled)) <= _GROUP_SHARE * len(filled)
    return few and fmean(len(value.split()) for value in filled) <= _GROUP_WORDS


def _rates_of_groups(values: Sequence[str], learnt: Rows) -> Floats:
    """Return, for each item, how often items of its group are right: ``[folds, items]``."""
    codes = {value: code for code, value in enumerate(sorted(set(values)))}
    group = np.array([codes[value] for value in values])
    of_row = group[learnt.items]
    right = others(learnt.fold, of_row, len(codes), learnt.right)
    return log_odds(right, others(learnt.fold, of_row, len(codes)))[:, group]


def _rates_of_words(filled: Sequence[Mapping[str, str]], learnt: Rows) -> Floats:
    """Return the mean over an item's words of how much they speak for right: ``[folds, items]``."""
    words = _word_matrix([" ".join(texts.values())[:_TEXT] for texts in filled])
    right = others(learnt.fold, learnt.items, len(filled), learnt.right)
    shown = others(learnt.fold, learnt.items, len(filled))
    rates = log_odds((words.T @ right.T).T, (words.T @ shown.T).T)
    total = np.asarray(words.sum(axis=1)).ravel()
    return _ratio((words @ rates.T).T, np.broadcast_to(total, rates.shape[:1] + total.shape))


def _word_matrix(texts: Sequence[str]) -> "sparse.csr_matrix":
    """Mark which hashed words every text has: CSR ``[texts, hashes]``."""
    columns, ends = list[int](), [0]
    codes: dict[str, int] = {}
    for text in texts:
        found = {
            codes.setdefault(term, zlib.crc32(term.encode()) % _HASHED) for term in terms(text)
        }
        columns.extend(sorted(found))
        ends.append(len(columns))
    shape = (len(texts), _HASHED)
    return sparse.csr_matrix((np.ones(len(columns)), columns, ends), shape=shape)


def basis(signal: BlindSignal, rows: Rows) -> Floats:
    """Return the features of a signal, ``[rows, 4]``.

    The rank among the question's candidates, its square (a right answer may stand in the
    middle), the value itself, and whether it is known.  Ranks make a signal comparable between
    questions, the value keeps what is equal for all but few.
    """
    values = signal(rows)
    known = np.isfinite(values)
    middle = float(np.median(values[known])) if known.any() else 0.0
    whole = np.where(known, values, middle)
    ranks = _ranks(whole, rows)
    return np.stack([ranks, ranks**2, whole, known.astype(float)], axis=1)


def _ranks(values: Floats, rows: Rows) -> Floats:
    """Rank values among the candidates of their question, ties in the middle: -1 … 1."""
    owner = rows.owner
    order = np.lexsort((values, owner))
    sorted_values, sorted_owner = values[order], owner[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(sorted_values) != 0) | (np.diff(sorted_owner) != 0)
    begins = np.flatnonzero(fresh)
    ends = np.append(begins[1:], len(order))
    middle = np.repeat((begins + ends - 1) / 2, ends - begins)
    ranks = np.empty(len(order))
    ranks[order] = middle
    widths = np.diff(rows.starts)[owner]
    return (2 * (ranks - rows.starts[owner]) + 1) / widths - 1


@dataclass(frozen=True)
class Scale:
    """Means and deviations of features, ``[features]``."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, features: Floats) -> "Scale":
        """Measure; what never varies has deviation 1."""
        deviation = features.std(axis=0)
        return cls(features.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0))

    def __call__(self, features: Floats) -> Floats:
        """Standardise; nothing lies further out than five deviations."""
        return np.clip((features - self.mean) / self.deviation, -_LIMIT, _LIMIT)
