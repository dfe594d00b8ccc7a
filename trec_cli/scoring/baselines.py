"""Scorers without a language model, so that no number of an LLM stands alone.

Each learns from the examples of split ``train`` alone (histories and positives of train
users, never their negatives) and from the texts of the catalogue.  An id is only a key:
no order of ids or of candidates enters a score (but that of ``random``, which draws in
candidate order), and equal evidence gives equal scores.
Scores of split ``train`` itself are optimistic for ``popularity`` and ``cooccurrence``,
because each train positive is part of what was counted.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trec_cli.errors import UsageError
from trec_cli.records import Example, Item
from trec_cli.scoring import similarity
from trec_cli.scoring.similarity import SparseScorer
from trec_cli.seeds import generator

Scorer = Callable[[Example], list[float]]
"""Gives one score per candidate of an example, in candidate order; higher is better."""

RECENCY_DECAY = 0.8
"""How much a history item counts against the one after it, in ``cooccurrence``."""


def make_baseline(
    name: str, items: Mapping[str, Item], examples: Sequence[Example], seed: int = 0
) -> Scorer:
    """Make the scorer ``name`` from the catalogue and all examples of the file.

    Raises:
        UsageError: there is no such scorer, or it learns from split ``train`` and
            ``examples`` hold none of it.
    """
    if name not in BASELINES:
        raise UsageError(f"no scorer {name!r}; there are {', '.join(BASELINES)}")
    return BASELINES[name](items, examples, seed)


def popularity(_items: Mapping[str, Item], examples: Sequence[Example], _seed: int) -> Scorer:
    """Score a candidate by the number of train users who have interacted with it.

    An interaction is an item in the history or among the positives of an example of
    split ``train``; a user counts once per item, however many examples repeat it.
    """
    users = Counter(item for taken in _train_users("popularity", examples) for item in taken)
    return lambda example: [float(users[candidate]) for candidate in example.candidates]


def random(_items: Mapping[str, Item], _examples: Sequence[Example], seed: int) -> Scorer:
    """Score candidates by uniform draws from (seed, user id, example id)."""

    def score(example: Example) -> list[float]:
        draws = generator(seed, example.user_id, example.example_id)
        return [float(draw) for draw in draws.random(len(example.candidates))]

    return score


def recency(items: Mapping[str, Item], _examples: Sequence[Example], _seed: int) -> Scorer:
    """Score a candidate by the TF-IDF cosine of its text and the last history item's."""
    vectors = similarity.tfidf(_term_counts(items))
    return _on_history(SparseScorer(_rows(items), vectors, vectors, _last_only))


def bm25(items: Mapping[str, Item], _examples: Sequence[Example], _seed: int) -> Scorer:
    """Score a candidate's text by BM25 with the texts of the whole history as query.

    Document frequencies and lengths are those of the catalogue; a term that the history
    holds n times counts n times.
    """
    counts = _term_counts(items)
    return _on_history(SparseScorer(_rows(items), similarity.bm25(counts), counts, np.ones))


def cooccurrence(_items: Mapping[str, Item], examples: Sequence[Example], _seed: int) -> Scorer:
    """Score a candidate by how often train users have it together with the history.

    ``sum over history of decay ** age * n(h, c) / sqrt(n(h) * n(c))``, where n counts
    train users (as in :func:`popularity`), the newest item has age 0 and decay is
    :data:`RECENCY_DECAY`.  An item is no evidence for itself.
    """
    takers: defaultdict[str, list[str]] = defaultdict(list)
    for user, taken in enumerate(_train_users("cooccurrence", examples)):
        for item in taken:
            takers[item].append(str(user))
    vectors = similarity.unit_rows(similarity.count_matrix(takers.values()))
    scorer = SparseScorer(_rows(takers), vectors, vectors, _decaying, self_evidence=False)
    return _on_history(scorer)


BASELINES: dict[str, Callable[[Mapping[str, Item], Sequence[Example], int], Scorer]] = {
    "popularity": popularity,
    "random": random,
    "recency": recency,
    "bm25": bm25,
    "cooccurrence": cooccurrence,
}
"""Every scorer by the name that ``trec score --scorer`` takes."""


def _train_users(name: str, examples: Iterable[Example]) -> list[list[str]]:
    """List the distinct items of each user of split train, in order of first sight."""
    taken: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for example in examples:
        if example.split == "train":
            taken[example.user_id].update(dict.fromkeys(example.history + example.positives))
    if not taken:
        raise UsageError(
            f"--scorer {name} learns from examples of split train, and there are none. "
            "Add them, or choose a scorer that reads texts: bm25 or recency."
        )
    return [list(items) for items in taken.values()]


def _rows(keys: Iterable[str]) -> dict[str, int]:
    return {key: row for row, key in enumerate(keys)}


def _term_counts(items: Mapping[str, Item]) -> similarity.Matrix:
    """Count terms over attribute values; attribute names say nothing about an item."""
    texts = (" ".join(item.attributes.values()) for item in items.values())
    return similarity.count_matrix(map(similarity.terms, texts))


def _last_only(length: int) -> NDArray[np.float64]:
    weights = np.zeros(length)
    weights[-1:] = 1.0
    return weights


def _decaying(length: int) -> NDArray[np.float64]:
    return RECENCY_DECAY ** np.arange(length - 1, -1, -1.0)


def _on_history(scorer: SparseScorer) -> Scorer:
    return lambda example: scorer(example.history, example.candidates)
