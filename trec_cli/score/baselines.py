"""Scorers without a language model, so that no number of an LLM stands alone.

Each learns from the examples of split ``train`` alone (histories and positives of train
users, never their negatives) and from the texts of the catalogue.  An id is only a key:
no order of ids or of candidates enters a score (but that of ``random``, which draws in
candidate order), and equal evidence gives equal scores.
Where split ``train`` itself is scored, what a user has done is in no count that this user's
questions see: the counts are those of all others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from trec_cli.core.arrays import Takers
from trec_cli.core.errors import UsageError
from trec_cli.core.names import Places
from trec_cli.core.records import Example, Item
from trec_cli.core.seeds import generator
from trec_cli.core.text import terms
from trec_cli.score.job import read_material
from trec_cli.score.options import Asked
from trec_cli.score.tuning import Family, Scorer, Settings, TunedJob, plan_tuning
from trec_cli.signals import similarity
from trec_cli.signals.similarity import SparseScorer, decaying


class Baseline(NamedTuple):
    """How a scorer learns, and the settings to try, the default first.

    All scorers get the same effort: four settings, or a single empty one where there is
    nothing to set.  ``counts_users`` says that train users are what it learns from.
    """

    learn: Callable[[Mapping[str, Item], Sequence[Example], int], Family]
    grid: Sequence[Settings] = ({},)
    counts_users: bool = False


def learn_baseline(
    name: str, items: Mapping[str, Item], examples: Sequence[Example], seed: int = 0
) -> Family:
    """Learn once, from the catalogue and all examples of the file, for scorers of any settings.

    Raises:
        UsageError: there is no such scorer, or it learns from split ``train`` and
            ``examples`` hold none of it.
    """
    if name not in BASELINES:
        raise UsageError(f"no scorer {name!r}; there are {', '.join(BASELINES)}")
    return BASELINES[name].learn(items, examples, seed)


def make_baseline_job(asked: Asked, scorer: str, *, tune: bool) -> TunedJob:
    """Read the files and learn from them; nothing is tuned yet.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
        UsageError: there is nothing that the scorer could learn from.
    """
    material = read_material(asked, scorer)
    plan = plan_tuning(scorer, BASELINES[scorer].grid, material.everything, asked, tune=tune)
    family = learn_baseline(scorer, material.items, material.everything, asked.seed)
    settings: dict[str, Any] = {"seed": asked.seed}
    if BASELINES[scorer].counts_users and asked.split == "train":
        settings["left_out"] = "own user"  # scores of trec before that were others
    return TunedJob(plan, family, material, settings)


def popularity(_items: Mapping[str, Item], examples: Sequence[Example], _seed: int) -> Family:
    """Score a candidate by the number of train users who have interacted with it.

    An interaction is an item in the history or among the positives of an example of
    split ``train``; a user counts once per item, however many examples repeat it, and never
    for a question of split ``train`` that the user was asked.
    """
    takers, places = Takers(), Places()
    for place, example in enumerate(examples):
        if example.split == "train":
            takers.add(example.user_id, (*example.history, *example.positives))
            places.add(example.user_id, place)
    if not len(places):
        raise _nothing_to_count("popularity")
    users, _ = takers.counts()

    def own(user: str) -> set[str]:
        asked = map(examples.__getitem__, places.maybe(user))
        return {i for e in asked if e.user_id == user for i in (*e.history, *e.positives)}

    def score(example: Example) -> list[float]:
        left_out = own(example.user_id) if example.split == "train" else ()
        return [float(users.get(item, 0) - (item in left_out)) for item in example.candidates]

    return lambda _: score


def random(_items: Mapping[str, Item], _examples: Sequence[Example], seed: int) -> Family:
    """Score candidates by uniform draws from (seed, user id, example id)."""

    def score(example: Example) -> list[float]:
        draws = generator(seed, example.user_id, example.example_id)
        return [float(draw) for draw in draws.random(len(example.candidates))]

    return lambda _: score


def recency(items: Mapping[str, Item], _examples: Sequence[Example], _seed: int) -> Family:
    """Score a candidate by the TF-IDF cosines of its text with those of the history.

    ``sum over history of decay ** age * cos(c, h)``, where the newest item has age 0; with
    decay 0 that is the cosine with the last item alone.
    """
    rows, vectors = _rows(items), similarity.tfidf(_term_counts(items))

    def make(settings: Settings) -> Scorer:
        return _on_history(SparseScorer(rows, vectors, vectors, decaying(settings["decay"])))

    return make


def bm25(items: Mapping[str, Item], _examples: Sequence[Example], _seed: int) -> Family:
    """Score a candidate's text by BM25 with the texts of the whole history as query.

    Document frequencies and lengths are those of the catalogue; a term that the history
    holds n times counts n times, and ``decay ** age`` of it where decay is not 1.
    """
    rows, counts = _rows(items), _term_counts(items)

    def make(settings: Settings) -> Scorer:
        documents = similarity.bm25(counts, b=settings["b"])
        return _on_history(SparseScorer(rows, documents, counts, decaying(settings["decay"])))

    return make


def cooccurrence(_items: Mapping[str, Item], examples: Sequence[Example], _seed: int) -> Family:
    """Score a candidate by how often train users have it together with the history.

    ``sum over history of decay ** age * n(h, c) / (n(h) ** 0.5 * n(c) ** discount)``, where n
    counts train users (as in :func:`popularity`) and the newest item has age 0.  With
    discount 0.5 it is the cosine of the two items' users; with 0 popular candidates keep
    what their popularity brings.  An item is no evidence for itself, nor a user of split
    ``train`` for the own questions.
    """
    takers: defaultdict[str, list[str]] = defaultdict(list)
    for user, taken in _train_users("cooccurrence", examples).items():
        for item in taken:
            takers[item].append(user)
    rows, counts = _rows(takers), similarity.count_matrix(takers.values(), by_name=True)
    columns = _rows(sorted({user for users in takers.values() for user in users}))

    def make(settings: Settings) -> Scorer:
        whole = _together(rows, counts, settings)

        def score(example: Example) -> list[float]:
            scorer = whole
            if example.split == "train":
                named = dict.fromkeys((*example.history, *example.candidates))
                known = [item for item in named if item in rows]
                few = counts[[rows[item] for item in known]]
                few.data[few.indices == columns.get(example.user_id, -1)] = 0
                few.eliminate_zeros()
                scorer = _together(_rows(known), few, settings)
            return scorer(example.history, example.candidates)

        return score

    return make


def _together(
    rows: Mapping[str, int], counts: similarity.Matrix, settings: Settings
) -> SparseScorer:
    """Make the scorer of :func:`cooccurrence` from the users of each item, [items, users]."""
    # A row of n ones has length n ** 0.5.
    documents = similarity.divided_rows(counts, power=2 * settings["discount"])
    queries, weights = similarity.unit_rows(counts), decaying(settings["decay"])
    return SparseScorer(rows, documents, queries, weights, self_evidence=False)


BASELINES: dict[str, Baseline] = {
    "popularity": Baseline(popularity, counts_users=True),
    "random": Baseline(random),
    "recency": Baseline(recency, [{"decay": decay} for decay in (0.0, 0.5, 0.8, 0.95)]),
    "bm25": Baseline(bm25, [{"b": b, "decay": decay} for b in (0.75, 0.3) for decay in (1.0, 0.9)]),
    "cooccurrence": Baseline(
        cooccurrence,
        [{"discount": discount, "decay": decay} for discount in (0.5, 0.0) for decay in (0.8, 0.5)],
        counts_users=True,
    ),
}
"""Every scorer by the name that ``trec score --scorer`` takes.

The grids were chosen on validation users of two collections; docs/baselines.md says why.
"""


def _train_users(name: str, examples: Iterable[Example]) -> Mapping[str, Mapping[str, None]]:
    """Collect the distinct items of each user of split train, in order of first sight."""
    taken: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for example in examples:
        if example.split == "train":
            taken[example.user_id].update(dict.fromkeys(example.history + example.positives))
    if not taken:
        raise _nothing_to_count(name)
    return taken


def _nothing_to_count(name: str) -> UsageError:
    return UsageError(
        f"--scorer {name} learns from examples of split train, and there are none. "
        "Add them, or choose a scorer that reads texts: bm25 or recency."
    )


def _rows(keys: Iterable[str]) -> dict[str, int]:
    return {key: row for row, key in enumerate(keys)}


def _term_counts(items: Mapping[str, Item]) -> similarity.Matrix:
    """Count terms over attribute values; attribute names say nothing about an item."""
    texts = (" ".join(item.attributes.values()) for item in items.values())
    return similarity.count_matrix(map(terms, texts), by_name=True)


def _on_history(scorer: SparseScorer) -> Scorer:
    return lambda example: scorer(example.history, example.candidates)
