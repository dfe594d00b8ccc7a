"""Scoring by embeddings: a candidate is as good as the history items nearest to it.

``s(c) = mean over the n history items h nearest to c of cos(e(c), e(h))``, where n is 1
by default and tuned on split valid.  On two collections this ranked better than the last
items or a recency-weighted mean; ``docs/score.md`` has the figures.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np

from trec_cli.core.attributes import check_attributes
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Item
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.vector_store import VectorStore
from trec_cli.models.vectors import ItemVectors, VectorMaker, item_vectors
from trec_cli.score.baseline_job import fixed_batches
from trec_cli.score.request import ScoreRequest
from trec_cli.score.tuning import Scorer, Settings, Tuned, plan_tuning
from trec_cli.score.writing import Cost

GRID: list[Settings] = [{"nearest": count} for count in (1, 3, 5, "all")]
"""How many history items count: the nearest (the default) to all of them."""
_DECIMALS = 6
"""Beyond them, equal texts would differ by the order in which a machine adds."""


def make_embedding_job(request: ScoreRequest, progress: Progress) -> "EmbeddingJob":
    """Read the files; the embedder is loaded when a vector is missing.

    Raises:
        InputError: a file is at fault.
        ModelError: there is no such embedder.
        UsageError: attributes that no item has, or a device that is not there.
    """
    items = read_items(request.items)
    everything = read_examples(request.examples, items)
    check_attributes(request.prompt.attributes, items)
    source = EmbedderSource(request.embedder, request.source)
    return EmbeddingJob(request, items, everything, source, progress)


def nearest(
    vectors: ItemVectors,
    history: Sequence[str],
    candidates: Sequence[str],
    count: int | Literal["all"] = 1,
) -> list[float]:
    """Give each candidate's mean cosine with the ``count`` items of the history nearest to it.

    All items where the history has fewer; 0 without history.
    """
    if not history:
        return [0.0] * len(candidates)
    cosines = vectors.of(candidates) @ vectors.of(history).T
    first = 0 if count == "all" else -count
    found: list[float] = np.round(np.sort(cosines)[:, first:].mean(axis=1), _DECIMALS).tolist()
    return found


class EmbeddingJob:
    """A :class:`~trec_cli.score.writing.Job` for an embedder."""

    def __init__(
        self,
        request: ScoreRequest,
        items: Mapping[str, Item],
        everything: Sequence[Example],
        source: EmbedderSource,
        progress: Progress,
    ) -> None:
        """Choose the examples and describe the settings; nothing is embedded yet.

        Args:
            request: files, split, store and tokens of a batch.
            items: the catalogue.
            everything: all examples of the file.
            source: the embedder.
            progress: where to say what goes on.

        Raises:
            InputError: there is no example of the split.
            ModelError: there is no such embedder.
        """
        self.examples = request.choose(everything)
        self.inputs = [request.items, request.examples]
        self._request, self._items, self._source = request, items, source
        self._progress = progress
        self._made = self._hits = 0
        self._plan = plan_tuning(request, GRID, everything)
        self.settings: Mapping[str, Any] = {
            **request.settings(items, everything),
            "embedder": source.identity(),
            "attributes": request.prompt.attributes,
            **self._plan.settings,
        }

    @cached_property
    def _vectors(self) -> ItemVectors:
        """Embed everything that the examples name, those to tune on included."""
        named = (*self._plan.examples, *self.examples)
        wanted = (item for e in named for item in (*e.history, *e.candidates))
        with VectorStore(self._request.store) as store:
            maker = VectorMaker(
                self._source, store, max_tokens=self._request.max_tokens, progress=self._progress
            )
            vectors = item_vectors(self._items, wanted, maker, self._request.prompt.attributes)
        self._made, self._hits = maker.made, maker.hits
        return vectors

    def _family(self, settings: Settings) -> Scorer:
        count = settings["nearest"]
        return lambda e: nearest(self._vectors, e.history, e.candidates, count)

    @cached_property
    def _tuned(self) -> Tuned:
        return self._plan.run(self._family)

    def batches(self) -> list[range]:
        """Cut the examples into batches in their order."""
        return fixed_batches(len(self.examples))

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Score the candidates of a batch's examples."""
        return [self._tuned.scorer(self.examples[place]) for place in batch]

    def cost(self, place: int) -> Cost:
        """Count an example; its tokens are not counted."""
        return Cost(users=1, candidates=len(self.examples[place].candidates))

    def details(self) -> dict[str, Any]:
        """Say how many texts were embedded, and which settings were tried and chosen."""
        tuning = self._plan.details(self._tuned)
        return {"texts_embedded": self._made, "vectors_found": self._hits, **tuning}

    def remarks(self) -> list[str]:
        """Say the same to people."""
        texts = f"{self._made} texts embedded, {self._hits} vectors found in the store"
        return [self._plan.remark(self._tuned), texts]
