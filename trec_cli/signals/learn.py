"""All cheap signals by name, learnt from the catalogue and the events of train users.

None of them reads a language model, and an item's id is only a key.  What each says is in
:data:`MEANINGS`; docs/recommend.md has the formulas.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from scipy import sparse

from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events, recent, successions, takers
from trec_cli.signals.kinds import (
    ItemSignal,
    LinearSignal,
    NearestSignal,
    RepeatSignal,
    Signal,
    logarithm,
)
from trec_cli.signals.neighbours import nearest_texts
from trec_cli.signals.shelf import Shelf, content_key
from trec_cli.signals.similarity import Matrix, bm25, scaled, tfidf

SEQUENCE = "sequence"
"""Sequence models' signal; that of a second embedder's is ``sequence_2``."""

MEANINGS: dict[str, str] = {
    "popularity": "log of the number of train users who have taken the item",
    "answers": "log of how often the item was a right answer in train",
    "late": "log of how many train users have it among their newest three items",
    "unseen": "1 where no train user has taken the item",
    "never_right": "1 where the item was never a right answer in train",
    "words": "log of the number of words of its texts",
    "recent_short": "log of the newest right answers, which count half after 1/32 of the catalogue",
    "recent": "the same, half after as many answers as 1/8 of the catalogue has items",
    "recent_long": "the same, half after as many answers as half of the catalogue has items",
    "follows": "share of the steps from items of the history that lead to it",
    "together": "log of how much likelier it is beside items of the history than by itself",
    "together_last": "the same beside the newest item",
    "together_near": "the same as together, smoothed through the items with the nearest texts",
    "next": "log of how much likelier it is after items of the history than by itself",
    "next_last": "the same after the newest item",
    "next_near": "the same as next, smoothed through the items with the nearest texts",
    "tfidf_last": "TF-IDF cosine of its title with the newest title",
    "tfidf": "TF-IDF cosines of its title with the titles of the history, the newest most",
    "bm25": "BM25 of its texts for the texts of the history as query, the newest most",
    "vector_last": "cosine of its vector with the newest item's",
    "vector_nearest": "highest cosine with one of the ten newest items",
    "vector_mean": "cosine with the mean vector of the history, the newest most",
    "vector_next": "its vector agrees with what vectors of next items look like after this history",
    SEQUENCE: "mean logit of sequence models",
    "repeat": "1 where the history holds it",
    "repeat_last": "1 where it is the newest item of the history",
}
"""What the signals say, in words; ``same_NAME`` (weight of the history in its group) is
added for each attribute that groups items."""

_LATE = 3

_OF_ITEMS = ("popularity", "answers", "late", "unseen", "never_right", "words")

SIGNALS = 2
"""Raise it when signals come or go, or say something else: unfinished scores start again."""
DECAY = 0.8
"""Weight of a history item relative to its successor, where the whole history counts."""
FOLLOWS = "follows"
COUNTED = "cooccurrence"
"""Name of counted steps on the shelf."""
_PRIOR = 0.1
"""Takers added to every item, so that one nobody took has a share, too."""
_SMOOTHING = 0.5
"""Weight of an item's share beside its probability after the history."""
_UNKNOWN = 2.0
"""Steps to something unknown that are added to those from every item."""
HALF_LIVES = {"recent_short": 32, "recent": 8, "recent_long": 2}
"""Half-life of each signal: so many answers as the catalogue has items, divided by this."""
_NEAREST = 10
_RIDGE = 0.1
"""Ridge of the map of vectors, relative to their mean variance times the pairs."""


def learn_signals(
    catalogue: EncodedCatalogue, events: Events, shelf: Shelf | None = None
) -> dict[str, Signal]:
    """Learn every signal; the order of names is fixed.

    Signals of recent popularity need answers with times, those smoothed through near texts
    the vectors of an embedder.  What takes long is kept on the ``shelf``.
    """
    shelf = shelf or Shelf()
    return dict(
        (
            *_of_items(catalogue, events),
            *_recent(catalogue, events),
            *_of_steps(catalogue, events, shelf),
            *_of_texts(catalogue),
            *_of_groups(catalogue),
            ("repeat", RepeatSignal(1.0)),
            ("repeat_last", RepeatSignal(0.0)),
        )
    )


def learn_shares(events: Events, fold: int | None = None) -> dict[str, Signal]:
    """Learn the share of the steps from items of the history, which retrieval ranks by.

    A share finds what many take next; how much likelier than by itself would find what is rare.
    """
    known = events.sequences if fold is None else events.outside([fold]).sequences
    steps = successions(known, decay=0.8, backward=0.3)
    share = scaled(steps, rows=1 / np.maximum(takers(known), 1))
    return {FOLLOWS: LinearSignal(share, None, DECAY, shape=logarithm(30))}


def reads_history(name: str) -> bool:
    """Check whether a signal depends on the user."""
    return name not in _OF_ITEMS and name not in HALF_LIVES


def missing_signals(signals: Mapping[str, Signal], *, embedded: bool, renewable: bool) -> list[str]:
    """Say for people which signals there are not, and what they would need.

    Recent popularity is missed where a split by time would give it (``renewable``): not before
    a prediction from everything, and not for the questions of split valid.
    """
    missing = []
    if renewable and HALF_LIVES.keys().isdisjoint(signals):
        missing.append("recent popularity (needs a split by time)")
    if not embedded:
        missing.append("smoothing through near texts (needs --embedder)")
    elif SEQUENCE not in signals:
        missing.append("sequence models (--sequence-models 3)")
    return [f"without {' and '.join(missing)}"] if missing else []


def meaning(name: str) -> str:
    """Describe a signal in words."""
    kind, _, number = name.partition("_")
    if kind == SEQUENCE and number:
        return f"{MEANINGS[SEQUENCE]} over the vectors of embedder {number}"
    return MEANINGS.get(name, f"weight of the history items with its {name.removeprefix('same_')}")


Named = Iterator[tuple[str, Signal]]


def _of_items(catalogue: EncodedCatalogue, events: Events) -> Named:
    taken, right = takers(events.sequences), takers(events.answers)
    late = takers(events.sequences.newest(_LATE))
    for name, values in {
        "popularity": np.log1p(taken),
        "answers": np.log1p(right),
        "late": np.log1p(late),
        "unseen": taken == 0,
        "never_right": right == 0,
        "words": np.log1p(np.asarray(catalogue.texts.sum(axis=1)).ravel()),
    }.items():
        yield name, ItemSignal(values.astype(np.float32))


def _recent(catalogue: EncodedCatalogue, events: Events) -> Named:
    """Popularity that fades, where the answers have times; half-lives grow with the catalogue."""
    if np.isnan(events.moments).all():
        return
    for name, items in HALF_LIVES.items():
        counts = recent(events, max(1.0, len(catalogue) / items))
        yield name, ItemSignal(np.log1p(counts).astype(np.float32))


def _of_steps(catalogue: EncodedCatalogue, events: Events, shelf: Shelf) -> Named:
    """Signals of what was taken together, and the map from vectors to vectors of next items."""
    vectors = catalogue.vectors
    near = None
    if catalogue.embedded:
        near = shelf.remembered("near", content_key([vectors]), lambda: nearest_texts(vectors))
    direct = _counted(events, shelf, 0.3, 0.0)
    together = _counted(events, shelf, 1.0, 1.0)
    yield from _lifts("together", together, events, near)
    yield from _lifts("next", direct, events, near)
    mapped = next_vectors(vectors, direct)
    yield "vector_next", LinearSignal(mapped, vectors, DECAY, average=True)


def _counted(events: Events, shelf: Shelf, decay: float, backward: float) -> Matrix:
    """Count steps from item to item, or take what was counted of the same events."""
    sequences = events.sequences
    told = f"{decay} {backward} {sequences.catalogue}"
    key = content_key([told, sequences.items, sequences.ends])
    return shelf.matrix(COUNTED, key, lambda: successions(sequences, decay, backward))


def _lifts(name: str, counts: Matrix, events: Events, near: Matrix | None) -> Named:
    """Signals of how much more probable an item is after the history than by itself.

    ``log(1 + sum of weight(h) P(c | h) / (P(c) / 2))`` with the smoothed
    ``P(c | h) = n(h, c) / (n(h) + 2)`` and ``P(c)``, the share of takers; up to the log of
    ``P(c)`` it is the log of a probability smoothed towards popularity.  With ``near``, both
    items pass their counts on to the items with the nearest texts: ``near P near^T``.  Each
    kind of count has few signals, since they say much the same.
    """
    taken = takers(events.sequences) + _PRIOR
    scale = (1 / (_SMOOTHING * taken / taken.sum())).astype(np.float32)
    outgoing = np.asarray(counts.sum(axis=1), np.float64).ravel()
    probable = scaled(counts, rows=1 / (outgoing + _UNKNOWN))
    lifted = scaled(probable, columns=scale)
    yield f"{name}_last", LinearSignal(lifted, None, 0.0, shape=logarithm(1))
    if near is None:
        yield name, LinearSignal(lifted, None, DECAY, shape=logarithm(1))
        return
    queries, documents = sparse.csr_matrix(near @ probable), scaled(near, rows=scale)
    yield f"{name}_near", LinearSignal(queries, documents, DECAY, shape=logarithm(1))


def next_vectors(vectors: Floats, steps: Matrix) -> Floats:
    """Map each item's vector to what the vectors of next items are like: ridge regression.

    ``B = (X'X + r I)^-1 X'Y`` over all steps (x, y) with their weights, so that an item
    nobody has taken is mapped by its text.

    Returns:
        ``vectors @ B``, [items, size].
    """
    outgoing = sparse.diags(np.asarray(steps.sum(axis=1), np.float32).ravel())
    gram = np.asarray(vectors.T @ (outgoing @ vectors), np.float64)
    cross = np.asarray(vectors.T @ (steps @ vectors), np.float64)
    ridge = _RIDGE * max(float(np.trace(gram)) / len(gram), 1.0)
    return np.asarray(
        vectors @ np.linalg.solve(gram + ridge * np.eye(len(gram)), cross), np.float32
    )


def _of_texts(catalogue: EncodedCatalogue) -> Named:
    titles, texts = tfidf(catalogue.titles), bm25(catalogue.texts, b=0.3)
    yield "tfidf_last", LinearSignal(titles, titles, 0.0)
    yield "tfidf", LinearSignal(titles, titles, DECAY)
    yield "bm25", LinearSignal(catalogue.texts, texts, DECAY, shape=logarithm(1))
    yield "vector_last", NearestSignal(catalogue.vectors, 1)
    yield "vector_nearest", NearestSignal(catalogue.vectors, _NEAREST)
    yield "vector_mean", LinearSignal(catalogue.vectors, catalogue.vectors, DECAY, average=True)


def _of_groups(catalogue: EncodedCatalogue) -> Named:
    for name, groups in catalogue.groups.items():
        yield f"same_{name}", LinearSignal(groups, groups, DECAY, average=True)
