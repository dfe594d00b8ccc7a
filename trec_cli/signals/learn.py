"""All cheap signals by name, learnt from the catalogue and the events of train users.

None of them reads a language model, and an item's id is only a key.  What each says is in
:data:`MEANINGS`; docs/recommend.md has the formulas.
"""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from trec_cli.signals.catalogue import EncodedCatalogue, Floats
from trec_cli.signals.histories import Events, successions, takers
from trec_cli.signals.kinds import (
    ItemSignal,
    LinearSignal,
    NearestSignal,
    RepeatSignal,
    Signal,
    logarithm,
)
from trec_cli.signals.similarity import Matrix, bm25, tfidf

MEANINGS: dict[str, str] = {
    "popularity": "log of the number of train users who have taken the item",
    "answers": "log of how often the item was a right answer in train",
    "late": "log of how many train users have it among their newest three items",
    "unseen": "1 where no train user has taken the item",
    "never_right": "1 where the item was never a right answer in train",
    "words": "log of the number of words of its texts",
    "cooccurrence": "train users took it soon after or before items of the history",
    "follows": "share of the steps from items of the history that lead to it",
    "follows_last": "share of the steps from the newest item that lead right to it",
    "tfidf_last": "TF-IDF cosine of its title with the newest title",
    "tfidf": "TF-IDF cosines of its title with the titles of the history, the newest most",
    "bm25": "BM25 of its texts for the texts of the history as query, the newest most",
    "vector_last": "cosine of its vector with the newest item's",
    "vector_nearest": "highest cosine with one of the ten newest items",
    "vector_mean": "cosine with the mean vector of the history, the newest most",
    "vector_next": "its vector agrees with what vectors of next items look like after this history",
    "repeat": "1 where the history holds it",
    "repeat_last": "1 where it is the newest item of the history",
}
"""What the signals say, in words; ``same_NAME`` (weight of the history in its group) is
added for each attribute that groups items."""

_LATE = 3

DECAY = 0.8
"""Weight of a history item relative to its successor, where the whole history counts."""
_NEAREST = 10
_RIDGE = 0.1
"""Ridge of the map of vectors, relative to their mean variance times the pairs."""


def learn_signals(catalogue: EncodedCatalogue, events: Events) -> dict[str, Signal]:
    """Learn every signal; the order of names is fixed."""
    return dict(
        (
            *_of_items(catalogue, events),
            *_of_steps(catalogue, events),
            *_of_texts(catalogue),
            *_of_groups(catalogue),
            ("repeat", RepeatSignal(1.0)),
            ("repeat_last", RepeatSignal(0.0)),
        )
    )


def reads_history(name: str) -> bool:
    """Check whether a signal depends on the user."""
    return name not in ("popularity", "answers", "late", "unseen", "never_right", "words")


def meaning(name: str) -> str:
    """Describe a signal in words."""
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


def _of_steps(catalogue: EncodedCatalogue, events: Events) -> Named:
    """Signals of what was taken together, and the map from vectors to vectors of next items."""
    near = successions(events.sequences, decay=0.8, backward=0.3)
    direct = successions(events.sequences, decay=0.2)
    taken = np.maximum(takers(events.sequences), 1)
    share = sparse.csr_matrix(sparse.diags(1 / taken)).astype(np.float32)
    yield "cooccurrence", LinearSignal(near, None, DECAY, shape=logarithm(10))
    yield "follows", LinearSignal(share @ near, None, DECAY, shape=logarithm(30))
    yield "follows_last", LinearSignal(share @ direct, None, 0.0, shape=logarithm(30))
    mapped = next_vectors(catalogue.vectors, direct)
    yield "vector_next", LinearSignal(mapped, catalogue.vectors, DECAY, average=True)


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
