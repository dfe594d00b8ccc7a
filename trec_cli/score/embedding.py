"""Scoring by embeddings: a candidate is as good as the history items nearest to it.

``s(c) = mean over the n history items h nearest to c of cos(e(c), e(h))``, where n is 1
by default and tuned on split valid.  On two collections this ranked better than the last
items or a recency-weighted mean; ``docs/score.md`` has the figures.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trec_cli.core.attributes import check_attributes
from trec_cli.core.progress import Progress
from trec_cli.core.records import Reason
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.vector_store import VectorStore
from trec_cli.models.vectors import ItemVectors, VectorMaker, item_vectors
from trec_cli.score.job import Material, read_material
from trec_cli.score.kinds import EMBEDDING
from trec_cli.score.options import Asked
from trec_cli.score.tuning import Scorer, Settings, TunedJob, TuningPlan, plan_tuning

GRID: list[Settings] = [{"nearest": count} for count in (1, 3, 5, "all")]
"""How many history items count: the nearest (the default) to all of them."""
_DECIMALS = 6
"""Beyond them, equal texts would differ by the order in which a machine adds."""


def make_embedding_job(
    asked: Asked,
    source: EmbedderSource,
    store: Path,
    *,
    attributes: tuple[str, ...] | None,
    max_tokens: int,
    tune: bool,
    progress: Progress,
) -> "EmbeddingJob":
    """Read the files; the embedder is loaded when a vector is missing.

    Args:
        asked: the questions.
        source: the embedder.
        store: where its vectors are kept.
        attributes: of the items to embed; None takes all.
        max_tokens: of one forward pass.
        tune: whether to choose how many history items count.
        progress: where to say what goes on.

    Raises:
        InputError: a file is at fault, or there is no example of the split.
        ModelError: there is no such embedder.
        UsageError: attributes that no item has, or a device that is not there.
    """
    material = read_material(asked, EMBEDDING)
    check_attributes(attributes, material.items)
    plan = plan_tuning(EMBEDDING, GRID, material.everything, asked, tune=tune)
    return EmbeddingJob(plan, material, source, store, attributes, max_tokens, progress)


def nearest(
    vectors: ItemVectors,
    history: Sequence[str],
    candidates: Sequence[str],
    count: int | Literal["all"] = 1,
) -> list[float]:
    """Return each candidate's mean cosine with the ``count`` items of the history nearest to it.

    All items where the history has fewer; 0 without history.
    """
    if not history:
        return [0.0] * len(candidates)
    cosines = vectors.of(candidates) @ vectors.of(history).T
    first = 0 if count == "all" else -count
    found: list[float] = np.round(np.sort(cosines)[:, first:].mean(axis=1), _DECIMALS).tolist()
    return found


def nearest_item(vectors: ItemVectors, history: Sequence[str], item: str) -> Reason | None:
    """Return the history item with the highest cosine, the newest of equals; None below zero."""
    if not history:
        return None
    newest_first = history[::-1]
    cosines = np.round(vectors.of(newest_first) @ vectors.of([item])[0], _DECIMALS)
    best = int(cosines.argmax())
    if cosines[best] <= 0:
        return None
    return Reason(signal="nearest_text", history_item=newest_first[best])


class EmbeddingJob(TunedJob):
    """A job for an embedder."""

    def __init__(
        self,
        plan: TuningPlan,
        material: Material,
        source: EmbedderSource,
        store: Path,
        attributes: tuple[str, ...] | None,
        max_tokens: int,
        progress: Progress,
    ) -> None:
        """Describe the settings; nothing is embedded yet (see :func:`make_embedding_job`).

        Raises:
            ModelError: there is no such embedder.
        """
        settings = {"embedder": source.identity(), "attributes": attributes}
        super().__init__(plan, self._make, material, settings)
        self._items, self._attributes = material.items, attributes
        self._source, self._store, self._max_tokens = source, store, max_tokens
        self._progress = progress
        self._made = self._hits = 0

    @cached_property
    def _vectors(self) -> ItemVectors:
        """Embed everything that the examples name, those to tune on included."""
        named = (*self._plan.examples, *self.examples)
        wanted = (item for e in named for item in (*e.history, *e.candidates))
        with VectorStore(self._store) as store:
            maker = VectorMaker(
                self._source, store, max_tokens=self._max_tokens, progress=self._progress
            )
            vectors = item_vectors(self._items, wanted, maker, self._attributes)
        self._made, self._hits = maker.made, maker.hits
        return vectors

    def _make(self, settings: Settings) -> Scorer:
        count = settings["nearest"]
        return lambda e: nearest(self._vectors, e.history, e.candidates, count)

    def reasons(
        self, indices: Sequence[int], chosen: Sequence[Sequence[str]]
    ) -> Sequence[Sequence[Reason | None]]:
        """Name the history item nearest to each item, the newest of equals, if any is near."""
        histories = [self.examples[index].history for index in indices]
        return [
            [nearest_item(self._vectors, history, item) for item in items]
            for history, items in zip(histories, chosen, strict=True)
        ]

    def details(self) -> dict[str, Any]:
        """Return how many texts were embedded, and which settings were tried and chosen."""
        tuning = super().details()
        return {"texts_embedded": self._made, "vectors_found": self._hits, **tuning}

    def remarks(self) -> list[str]:
        """Return the same in words."""
        texts = f"{self._made} texts embedded, {self._hits} vectors found in the store"
        return [*super().remarks(), texts]
