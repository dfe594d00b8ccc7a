"""Vectors of items: made once per text, kept in the store, handed over as one matrix."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.progress import Progress, Silent
from trec_cli.core.records import Item
from trec_cli.models.vector_store import TextKeys, Vector, VectorStore

if TYPE_CHECKING:
    from trec_cli.models.embedder import EmbedderSource

Matrix = NDArray[np.float64]
"""Shape [rows, size]."""

_SAMPLE = 1024
"""Items of the catalogue over which the language model's vectors are standardised."""
_LEAST_SCALE = 1e-6


@dataclass(frozen=True)
class ItemVectors:
    """A vector of length 1 for each of some items; zeros where an item has no text.

    Attributes:
        rows: item id to row.
        matrix: float32, [items, size].
    """

    rows: Mapping[str, int]
    matrix: NDArray[np.float32]

    def of(self, items: Sequence[str]) -> Matrix:
        """Return the vectors of items, in their order: [items, size], float64.

        Raises:
            KeyError: an item has no row.
        """
        return self.matrix[[self.rows[item] for item in items]].astype(np.float64)


def unit_rows(matrix: Matrix) -> Matrix:
    """Scale every row to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    scaled: Matrix = np.divide(matrix, lengths, out=np.zeros_like(matrix), where=lengths > 0)
    return scaled


def embedding_text(item: Item, names: Sequence[str] | None = None) -> str:
    """Write the values of an item's attributes; their names say nothing about it."""
    chosen = item.attributes if names is None else names
    values = (" ".join(item.attributes.get(name, "").split()) for name in chosen)
    return "; ".join(value for value in values if value)


def item_vectors(
    items: Mapping[str, Item],
    wanted: Iterable[str],
    embedder: "VectorMaker",
    attributes: Sequence[str] | None = None,
) -> ItemVectors:
    """Make the vectors of the items ``wanted``, by id.

    Vectors of the language model are standardised over a sample of ``items`` that depends
    on their texts alone, so that nobody's vectors depend on whose are made with them.
    """
    ids = list(dict.fromkeys(wanted))
    texts = [embedding_text(items[identifier], attributes) for identifier in ids]
    sample: list[str] = []
    if embedder.source.is_llm:
        sample = _sample({embedding_text(item, attributes) for item in items.values()})
    found = embedder.vectors([*texts, *sample])
    size = max((len(vector) for vector in found.values()), default=1)
    empty = np.zeros(size)
    matrix = np.array([found.get(text, empty) for text in texts], np.float64).reshape(-1, size)
    if sample:
        matrix = _standardised(matrix, np.array([found[text] for text in sample], np.float64))
        matrix[[not text for text in texts]] = 0
    rows = {identifier: row for row, identifier in enumerate(ids)}
    return ItemVectors(rows, unit_rows(matrix).astype(np.float32))


@dataclass(frozen=True)
class CatalogueVectors:
    """How vectors of a whole catalogue are made: by which embedders, of which texts.

    Attributes:
        sources: the embedders; the vectors of several stand side by side.
        store: where vectors are kept.
        attributes: of the items to embed; None takes all.
        max_tokens: of one forward pass.
    """

    sources: "Sequence[EmbedderSource]"
    store: Path
    attributes: tuple[str, ...] | None = None
    max_tokens: int = 4096

    def identity(self) -> dict[str, object]:
        """Describe what, beside the items, decides the vectors.

        Raises:
            ModelError: there is no such embedder.
        """
        found = [source.identity() for source in self.sources]
        return {
            "embedder": found[0] if len(found) == 1 else found,
            "attributes": self.attributes,
        }

    def of(self, items: Mapping[str, Item], progress: Progress) -> NDArray[np.float32]:
        """Embed the items by every embedder and put the vectors side by side: [items, size].

        Raises:
            ModelError: an embedder cannot be loaded or used.
        """
        return side_by_side(self.each(items, progress))

    def each(self, items: Mapping[str, Item], progress: Progress) -> list[NDArray[np.float32]]:
        """Embed the items, each text once, by every embedder: [items, size], in their order.

        A row has length 1, or is zero where an item has no text.

        Raises:
            ModelError: an embedder cannot be loaded or used.
        """
        with VectorStore(self.store) as store:
            return [self._by(source, store, items, progress) for source in self.sources]

    def _by(
        self,
        source: "EmbedderSource",
        store: VectorStore,
        items: Mapping[str, Item],
        progress: Progress,
    ) -> NDArray[np.float32]:
        maker = VectorMaker(source, store, max_tokens=self.max_tokens, progress=progress)
        return item_vectors(items, list(items), maker, self.attributes).matrix


def side_by_side(parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Join rows of length 1; the cosine of joined rows is the mean of the cosines of each."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, axis=1) / np.float32(np.sqrt(len(parts)))


def _sample(texts: Iterable[str]) -> list[str]:
    """Draw texts by their hash: the same whatever their order, and nearly when some come."""
    found = sorted(filter(None, texts), key=lambda text: hashlib.blake2b(text.encode()).digest())
    return found[:_SAMPLE]


def _standardised(matrix: Matrix, sample: Matrix) -> Matrix:
    scaled: Matrix = (matrix - sample.mean(axis=0)) / np.maximum(sample.std(axis=0), _LEAST_SCALE)
    return scaled


class VectorMaker:
    """Gives vectors of texts: from the store where it can, by the embedder where it must.

    Attributes:
        source: the embedder; its weights are loaded when the first text is missing.
        made: texts embedded now.
        hits: texts found in the store.
    """

    def __init__(
        self,
        source: "EmbedderSource",
        store: VectorStore,
        *,
        max_tokens: int,
        progress: Progress | None = None,
    ) -> None:
        """Embed at most ``max_tokens`` tokens at once."""
        self.source, self._store = source, store
        self.identity = source.identity()
        self._keys, self._max_tokens = TextKeys(self.identity), max_tokens
        self._progress = progress or Silent()
        self.made = self.hits = 0

    def vectors(self, texts: Iterable[str]) -> dict[str, Vector]:
        """Compute the raw vector of every text that is not empty; equal texts are made once.

        Raises:
            ModelError: the embedder cannot be loaded or used; finished batches are kept.
        """
        unique = {self._keys.key(text): text for text in texts if text}
        missing = self._store.begin(list(unique))
        with self._progress.task("embedding", total=len(unique)) as task:
            task.advance(len(unique) - len(missing))
            if missing:
                for count in self._make({key: unique[key] for key in missing}):
                    task.advance(count)
        found = self._store.get(unique)
        self._store.finish(list(unique))
        self.hits += len(unique)
        return {unique[key]: vector for key, vector in found.items()}

    def _make(self, missing: Mapping[bytes, str]) -> Iterable[int]:
        """Embed batch by batch, each kept whole; give the texts of each.

        Who shares a batch changes the last bits of a vector: like the texts of
        :class:`~trec_cli.summarize.asking.Asker`, a killed run's batches are formed again.
        """
        embedder = self.source.load()
        keys = list(missing)
        for batch in embedder.batches(list(missing.values()), self._max_tokens):
            chosen = [keys[index] for index in batch]
            known = self._store.get(chosen)
            chosen = [key for key in chosen if key not in known]
            if chosen:
                made = embedder.embed([missing[key] for key in chosen])
                self._store.put(dict(zip(chosen, made, strict=True)))
                self.made += len(chosen)
                self.hits -= len(chosen)
            yield len(batch)
