"""Cheap signals of the published questions: one matrix [questions, items] each.

Written for research: whole matrices in memory, on one catalogue of thousands of items.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.quality.published import Knowledge, Published, Question
from trec_cli.core.text import terms

Signal = NDArray[np.float32]
Matrix = NDArray[np.float64]
Vectors = Mapping[str, NDArray[np.float32]]


def signals(data: Published, known: Knowledge, vectors: Vectors) -> dict[str, Signal]:
    """Return every cheap signal by name."""
    asked = known.questions
    found: dict[str, Matrix] = {}
    found.update(_popularity(known, len(data.items)))
    found.update(_repeats(asked, len(data.items)))
    found.update(_together(data, known, vectors))
    found.update(_texts(data, asked, vectors))
    return {name: np.asarray(matrix, np.float32) for name, matrix in found.items()}


def history_matrix(questions: Sequence[Question], items: int, decay: float) -> sparse.csr_matrix:
    """Weigh every history item ``decay ** age``: CSR [questions, items]; repeats add up."""
    rows, columns, values = [], [], []
    for row, question in enumerate(questions):
        for age, item in enumerate(reversed(question.history)):
            rows.append(row)
            columns.append(item)
            values.append(decay**age)
    shape = (len(questions), items)
    return sparse.csr_matrix((values, (rows, columns)), shape=shape)


def _popularity(known: Knowledge, items: int) -> dict[str, Matrix]:
    counts = _users_of(known, items)
    repeat = np.ones((len(known.questions), 1))
    found = {"popularity": repeat * np.log1p(counts), "unseen": repeat * (counts == 0)}
    age = np.arange(len(known.events))[::-1]
    for half_life in (100, 400, 1600):
        weights = 0.5 ** (age / half_life)
        recent = np.bincount(np.array(known.events, int), weights, minlength=items)
        found[f"recent_{half_life}"] = repeat * np.log1p(recent)
    return found


def _users_of(known: Knowledge, items: int) -> Matrix:
    every = [item for history in known.histories.values() for item in set(history)]
    return np.bincount(every, minlength=items).astype(float)


def _repeats(asked: Sequence[Question], items: int) -> dict[str, Matrix]:
    return {
        "is_last": history_matrix(asked, items, 0.0).toarray(),
        "in_history": np.minimum(history_matrix(asked, items, 1.0).toarray(), 1),
        "in_history_log": np.log1p(history_matrix(asked, items, 1.0).toarray()),
    }


def _pairs(known: Knowledge, items: int, reach: float, back: float) -> sparse.csr_matrix:
    """Count what follows what: ``reach ** (distance - 1)``, times ``back`` the other way round."""
    rows, columns, values = [], [], []
    for history in known.histories.values():
        for start, first in enumerate(history):
            for distance, second in enumerate(history[start + 1 :]):
                if first != second:
                    rows += [first, second]
                    columns += [second, first]
                    values += [reach**distance, back * reach**distance]
    return sparse.csr_matrix((values, (rows, columns)), shape=(items, items))


def _together(data: Published, known: Knowledge, vectors: Vectors) -> dict[str, Matrix]:
    items, asked = len(data.items), known.questions
    count = _users_of(known, items)
    share = (count + 0.1) / (count + 0.1).sum()
    last, decayed = history_matrix(asked, items, 0.0), history_matrix(asked, items, 0.7)
    found = {}
    near = _near(vectors["title"], 10)
    for name, pairs in {
        "together": _pairs(known, items, 1.0, 1.0),
        "next": _pairs(known, items, 0.3, 0.0),
    }.items():
        total = np.asarray(pairs.sum(axis=1)).ravel()
        conditional = sparse.diags(1 / (total + 2)) @ pairs
        cosine = sparse.diags(1 / np.sqrt(count + 1)) @ pairs @ sparse.diags(1 / np.sqrt(count + 1))
        smooth = sparse.csr_matrix(near @ conditional @ near.T)
        for which, weights in {"last": last, "all": decayed}.items():
            found[f"{name}_{which}"] = np.log(
                (weights @ conditional).toarray() + 0.5 * share[None, :]
            )
            found[f"{name}_{which}_cosine"] = np.sqrt((weights @ cosine).toarray())
            found[f"{name}_{which}_near"] = np.log(
                (weights @ smooth).toarray() + 0.5 * share[None, :]
            )
    return found


def _near(vectors: NDArray[np.float32], count: int) -> sparse.csr_matrix:
    """Weigh an item's nearest items by a sharp kernel, rows adding up to 1."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = units @ units.T
    nearest = np.argpartition(-cosines, count, axis=1)[:, :count]
    weights = np.exp((np.take_along_axis(cosines, nearest, axis=1) - 1) * 8)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(units)), count)
    shape = (len(units), len(units))
    return sparse.csr_matrix((weights.ravel(), (rows, nearest.ravel())), shape=shape)


def _texts(data: Published, asked: Sequence[Question], vectors: Vectors) -> dict[str, Matrix]:
    items = len(data.items)
    last, decayed = history_matrix(asked, items, 0.0), history_matrix(asked, items, 0.7)
    words = _tfidf([f"{i.get('title')} {i.get('brand')}" for i in data.items])
    brands = sparse.csr_matrix(_brands(data))
    found = {
        "words_last": (last @ words @ words.T).toarray(),
        "words_all": (decayed @ words @ words.T).toarray(),
        "brand_last": (last @ brands @ brands.T).toarray(),
        "brand_all": np.log1p((decayed @ brands @ brands.T).toarray()),
    }
    for name, raw in vectors.items():
        units = raw / np.linalg.norm(raw, axis=1, keepdims=True)
        cosines = (units @ units.T).astype(np.float32)
        found[f"{name}_last"] = last @ cosines
        found[f"{name}_all"] = decayed @ cosines / np.asarray(decayed.sum(axis=1))
        found[f"{name}_nearest"] = np.stack(
            [cosines[list(question.history)].max(axis=0) for question in asked]
        )
    return found


def _tfidf(texts: Sequence[str]) -> sparse.csr_matrix:
    columns: dict[str, int] = {}
    split = [[columns.setdefault(term, len(columns)) for term in set(terms(t))] for t in texts]
    rows = np.repeat(np.arange(len(texts)), [len(found) for found in split])
    flat = np.concatenate(split)
    weights = np.log(len(texts) / np.bincount(flat))[flat]
    matrix = sparse.csr_matrix((weights, (rows, flat)), shape=(len(texts), len(columns)))
    lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-9)) @ matrix)


def _brands(data: Published) -> sparse.csr_matrix:
    columns: dict[str, int] = {}
    pairs = [
        (row, columns.setdefault(str(item["brand"]).lower(), len(columns)))
        for row, item in enumerate(data.items)
        if item.get("brand")
    ]
    rows, found = zip(*pairs, strict=True)
    return sparse.csr_matrix(
        (np.ones(len(pairs)), (rows, found)), shape=(len(data.items), len(columns))
    )
