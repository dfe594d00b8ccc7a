"""The catalogue as signals see it: rows, term counts, groups and vectors of its items."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.records import Item
from trec_cli.core.seeds import derive_seed, generator
from trec_cli.core.text import terms
from trec_cli.signals.shelf import Shelf, content_key
from trec_cli.signals.similarity import Matrix, count_matrix, tfidf

Floats = NDArray[np.float32]

LSA_SIZE = 128
"""Size of the vectors that stand in for those of an embedder."""
_SPARE, _ROUNDS = 16, 4
"""Spare columns and rounds of the subspace iteration."""
_GROUP_SHARE = 0.5
"""An attribute groups items where at least half of those that have it share their value."""
_GROUP_LENGTH = 40
"""Longer values (on average) are texts, not names of a group."""
_MOST_GROUPS = 4


@dataclass(frozen=True)
class EncodedCatalogue:
    """All that is known of items without any user.

    Attributes:
        rows: item id to row, in an order drawn by hash: no order of a file or of ids breaks
            a tie, and every matrix is the same to the byte whatever the file's order.
        titles: term counts of the titles, CSR [items, terms]; of all texts where none has one.
        texts: term counts of all attributes.
        groups: by attribute (brand, category), a CSR matrix [items, values] of ones.
        views: of each embedder, a vector of length 1 per item, centred; zeros where an item has
            no text.
        embedded: whether the vectors are those of an embedder.
    """

    rows: Mapping[str, int]
    titles: Matrix
    texts: Matrix
    groups: Mapping[str, Matrix]
    views: Sequence[Floats]
    embedded: bool = False

    @cached_property
    def vectors(self) -> Floats:
        """The vectors of all embedders side by side; their cosine is the mean of the cosines."""
        if len(self.views) == 1:
            return self.views[0]
        return np.concatenate(self.views, axis=1) / np.float32(np.sqrt(len(self.views)))

    @classmethod
    def of(
        cls,
        items: Mapping[str, Item],
        vectors: Sequence[Floats] = (),
        shelf: Shelf | None = None,
    ) -> "EncodedCatalogue":
        """Read the items.

        Args:
            items: by id.
            vectors: of each embedder, [items, size] in the order of ``items``; without them
                a decomposition of the TF-IDF matrix (LSA) stands in.
            shelf: keeps that decomposition.
        """
        ids = sorted(items, key=lambda identifier: derive_seed(0, "item", identifier))
        ordered = [items[identifier] for identifier in ids]
        texts = count_matrix(terms(" ".join(item.attributes.values())) for item in ordered)
        titles = count_matrix(terms(item.title) for item in ordered)
        titles = titles if titles.nnz else texts
        if not vectors:
            key = content_key([texts.data, texts.indices, texts.indptr])
            found = (shelf or Shelf()).get("lsa", key, lambda: {"vectors": lsa(texts)})
            made = [found["vectors"]]
        else:
            row_of = {identifier: row for row, identifier in enumerate(items)}
            order = [row_of[identifier] for identifier in ids]
            made = [each[order] for each in vectors]
        rows = {identifier: row for row, identifier in enumerate(ids)}
        views = list(map(centred, made))
        return cls(rows, titles, texts, find_groups(ordered), views, embedded=bool(vectors))

    def __len__(self) -> int:
        """Count the items."""
        return len(self.rows)


def lsa(counts: Matrix, size: int = LSA_SIZE) -> Floats:
    """Decompose TF-IDF weights: the first ``size`` left singular vectors times their values.

    By subspace iteration from a fixed start (Halko et al. 2011, algorithm 4.4).  ARPACK, which
    scipy would use, goes on from random numbers of its own where the rank is low.
    """
    weights = tfidf(counts)
    rank = min(size, *weights.shape)
    start = generator(0, "lsa").normal(
        size=(weights.shape[1], min(rank + _SPARE, weights.shape[1]))
    )
    basis = np.linalg.qr(weights @ start)[0]
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(weights @ np.linalg.qr(weights.T @ basis)[0])[0]
    left, values, _ = np.linalg.svd((weights.T @ basis).T, full_matrices=False)
    return np.asarray((basis @ left * values)[:, :rank], np.float32)


def centred(vectors: Floats) -> Floats:
    """Subtract the mean vector of items with text and scale to length 1; zeros stay."""
    filled = np.abs(vectors).sum(axis=1) > 0
    if filled.sum() < 2:
        return vectors
    moved = np.where(filled[:, None], vectors - vectors[filled].mean(axis=0), 0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    scaled = np.divide(moved, lengths, out=np.zeros_like(moved), where=lengths > 1e-6)
    return np.asarray(scaled, np.float32)


def find_groups(items: Iterable[Item]) -> dict[str, Matrix]:
    """Find the attributes that put items into groups, such as a brand or a category.

    The title never does, nor an attribute whose values hardly repeat or are long texts.
    Where more than four do, those with the fewest items without a value are taken.
    """
    listed = list(items)
    names = sorted({name for item in listed for name in item.attributes} - {"title"})
    values = {name: [_value(item, name) for item in listed] for name in names}
    groups = [name for name in names if _is_group(values[name])]
    chosen = sorted(groups, key=lambda name: -sum(map(bool, values[name])))
    return {name: _one_hot(values[name]) for name in chosen[:_MOST_GROUPS]}


def _value(item: Item, name: str) -> str:
    return " ".join(item.attributes.get(name, "").split()).casefold()


def _is_group(values: Sequence[str]) -> bool:
    filled = [value for value in values if value]
    kinds = Counter(filled)
    shared = sum(count for count in kinds.values() if count > 1)
    if len(kinds) < 2 or shared < _GROUP_SHARE * len(filled):
        return False
    return sum(map(len, kinds)) / len(kinds) <= _GROUP_LENGTH


def _one_hot(values: Sequence[str]) -> Matrix:
    return count_matrix([value] if value else [] for value in values)
