"""The published Industrial questions: every signal and the blend against the figures in print.

4,533 questions against the whole catalogue of 3,686 items.  Nothing here learns from more than
the published systems did: the signals learn from each user's earliest history in the validation
file (a part of the published training interactions), the weights of the blend from the
validation questions, which those systems used to choose their settings.  The row ``blend
(renewed)`` also counts the validation answers, which are older than every test question; it
is marked, because the published systems did not.

    python -m benchmarks.published_industrial --data ../shared/data
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from benchmarks.common import RESULTS, ROOT, commit, machine
from trec_cli.core.jsonl import read_items
from trec_cli.core.records import Example, Item, Split
from trec_cli.evaluate.metrics import Floats, Pools, Ranks, ndcg, rank, recall
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.source import ModelSource
from trec_cli.models.vector_store import VectorStore
from trec_cli.models.vectors import VectorMaker, item_vectors
from trec_cli.retrieve.search import Retriever
from trec_cli.retrieve.settings import RetrieveSettings
from trec_cli.signals.blend import Blend, Learner, fit_blend
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories
from trec_cli.signals.kinds import Values

PUBLISHED = {
    "SASRec": 0.0806,
    "HSTU": 0.0958,
    "BIGRec": 0.0997,
    "S-DPO": 0.1082,
    "MiniOneRec": 0.1167,
}
"""NDCG@10 in print (MiniOneRec, table of Industrial and Scientific)."""
KS = (3, 5, 10)
NEGATIVES = 500
"""Wrong answers drawn per validation question."""
ATTRIBUTES = ("title", "brand")
"""What the vectors are made of."""
CANDIDATES = 200
"""Of the retrieval."""
_BLOCK = 256
WANTED = RetrieveSettings(count=CANDIDATES, repeats=True)
_BEHIND = -1.0e9
"""Score of what was not retrieved."""

STRICT = "each user's earliest history in valid.jsonl; weights: the validation questions"
RENEWED = "histories and answers of valid.jsonl; weights: as blend"


class Question(msgspec.Struct, frozen=True):
    """A line of the published files."""

    user_id: str
    history: list[str]
    target: str


@dataclass(frozen=True)
class Collection:
    """Items, and the examples that the two files give."""

    items: dict[str, Item]
    train: list[Example]
    valid: list[Example]
    test: list[Example]


def read_protocol(data: Path) -> Collection:
    """Read the published questions; what is learnt from ends where validation begins."""
    valid = _questions(data / "industrial_published" / "valid.jsonl")
    test = _questions(data / "industrial_published" / "test.jsonl")
    earliest: dict[str, Question] = {}
    for question in valid:
        known = earliest.get(question.user_id)
        if known is None or len(question.history) < len(known.history):
            earliest[question.user_id] = question
    past = [Question(q.user_id, q.history[:-1], q.history[-1]) for q in earliest.values()]
    return Collection(
        read_items(data / "industrial" / "items.jsonl"),
        _examples(past, "train"),
        _examples(valid, "valid"),
        _examples(test, "test"),
    )


def _questions(path: Path) -> list[Question]:
    decoder = msgspec.json.Decoder(Question)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]


def _examples(questions: Sequence[Question], split: Split) -> list[Example]:
    return [
        Example(
            example_id=f"{split}-{number}",
            user_id=question.user_id,
            split=split,
            history=question.history,
            candidates=[],
            positives=[question.target],
        )
        for number, question in enumerate(questions)
    ]


def renewed(protocol: Collection) -> list[Example]:
    """Let the validation answers count, too: all are older than the test questions."""
    again = [msgspec.structs.replace(e, split="train") for e in protocol.valid]
    return [*protocol.train, *again]


def make_catalogue(
    items: Mapping[str, Item], embedder: str | None, store: Path
) -> EncodedCatalogue:
    """Embed the items, each text once; without embedder LSA stands in."""
    if embedder is None:
        return EncodedCatalogue.of(items)
    source = EmbedderSource(embedder, ModelSource(embedder))
    with VectorStore(store) as kept:
        maker = VectorMaker(source, kept, max_tokens=4096)
        return EncodedCatalogue.of(
            items, item_vectors(items, list(items), maker, ATTRIBUTES).matrix
        )


def _blocks(
    examples: Sequence[Example], catalogue: EncodedCatalogue
) -> Iterator[tuple[Histories, slice]]:
    asked = Histories.of((e.history for e in examples), catalogue.rows)
    for start in range(0, len(asked), _BLOCK):
        stop = min(start + _BLOCK, len(asked))
        yield asked.block(start, stop), slice(start, stop)


class Scorer(Protocol):
    """What ranks the whole catalogue: a signal, the blend, a retrieval."""

    def everywhere(self, asked: Histories) -> Values:
        """Score all items for each question: [questions, items]."""


@dataclass(frozen=True)
class Retrieved:
    """A retrieval alone: its candidates by their fused ranks, every other item behind them."""

    retriever: Retriever

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`Scorer`."""
        scores = np.full((len(asked), len(self.retriever.allowed)), _BEHIND, np.float32)
        for start, block, found in self.retriever.blocks(asked):
            part = scores[start : start + len(block)]
            np.put_along_axis(part, found.rows, found.scores, axis=1)
        return scores


@dataclass(frozen=True)
class Cascade:
    """The blend on what a retrieval found; every other item behind that."""

    retrieved: Retrieved
    blend: Blend

    def everywhere(self, asked: Histories) -> Values:
        """See :class:`Scorer`."""
        found = self.retrieved.everywhere(asked) > _BEHIND
        return np.where(found, self.blend.everywhere(asked), np.float32(_BEHIND))


def evaluate(
    scorers: Mapping[str, Scorer], examples: Sequence[Example], catalogue: EncodedCatalogue
) -> dict[str, dict[str, Floats]]:
    """Rank the whole catalogue for every question: metrics of each, by system."""
    right = np.array([catalogue.rows[e.positives[0]] for e in examples])
    found: dict[str, list[Ranks]] = {name: [] for name in scorers}
    for asked, part in _blocks(examples, catalogue):
        for name, scorer in scorers.items():
            found[name].append(_rank(scorer.everywhere(asked), right[part]))
    return {name: _metrics(ranks) for name, ranks in found.items()}


def _rank(scores: Values, right: np.ndarray[Any, Any]) -> Ranks:
    count, width = scores.shape
    offsets = np.arange(count + 1) * width
    return rank(Pools(scores.ravel().astype(float), offsets, offsets[:-1] + right))


def _metrics(parts: Sequence[Ranks]) -> dict[str, Floats]:
    """Compute NDCG and HR (recall of a single right answer) at every cut-off."""
    wanted = [("ndcg", ndcg, k) for k in KS] + [("hr", recall, k) for k in (*KS, CANDIDATES)]
    return {
        f"{name}@{k}": np.concatenate([metric(ranks, k) for ranks in parts])
        for name, metric, k in wanted
    }


def summary(metrics: Mapping[str, Floats], examples: Sequence[Example]) -> dict[str, float]:
    """Average, with a 95 % interval of NDCG@10 whose standard error clusters by user."""
    users = np.unique([e.user_id for e in examples], return_inverse=True)[1]
    values = metrics["ndcg@10"]
    sums = np.bincount(users, weights=values - values.mean())
    error = float(np.sqrt((sums**2).sum())) / len(values)
    means = {name: round(float(column.mean()), 4) for name, column in metrics.items()}
    return {
        **means,
        "ndcg@10_low": round(float(values.mean()) - 1.96 * error, 4),
        "ndcg@10_high": round(float(values.mean()) + 1.96 * error, 4),
    }


def measure(
    protocol: Collection, catalogue: EncodedCatalogue, asked: Sequence[Example]
) -> dict[str, Any]:
    """Learn, fit and rank ``asked``; return the systems' figures and the blend's weights."""
    learner = Learner(catalogue, Events.of(protocol.train, catalogue.rows))
    blend = fit_blend(learner, protocol.valid, negatives=NEGATIVES)
    later = Learner(catalogue, Events.of(renewed(protocol), catalogue.rows))
    retrieved = Retrieved(Retriever.of(protocol.items, catalogue, learner.signals(), WANTED))
    scorers: dict[str, Scorer] = {
        **learner.signals(),
        "retrieval of 200": retrieved,
        "cascade: 200 by blend": Cascade(retrieved, blend),
        "blend": blend,
        "blend (renewed)": Blend(later, blend.logit),
    }
    measured = evaluate(scorers, asked, catalogue)
    systems = {
        name: {**summary(metrics, asked), "learnt_from": RENEWED if "renewed" in name else STRICT}
        for name, metrics in measured.items()
    }
    weights = {
        name: [round(float(blend.logit.coefficients[n]), 3), round(float(blend.logit.errors[n]), 3)]
        for n, name in enumerate(blend.logit.names)
    }
    return {"systems": systems, "weights": weights, "penalty": blend.logit.penalty}


def table(systems: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Write our systems and the published ones, best first."""
    rows = [(f["ndcg@10"], name, f"{f['hr@10']:.4f}", "here") for name, f in systems.items()]
    rows += [(value, name, "", "published") for name, value in PUBLISHED.items()]
    yield f"{'system':<22} {'NDCG@10':>8} {'HR@10':>8}  from"
    for value, name, hits, origin in sorted(rows, reverse=True):
        yield f"{name:<22} {value:8.4f} {hits:>8}  {origin}"


def main() -> None:
    """Measure on the test questions and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", default=str(ROOT / "models" / "all-MiniLM-L6-v2"))
    parser.add_argument("--no-embedder", action="store_true", help="LSA instead of an embedder")
    parser.add_argument("--store", type=Path, default=ROOT / "runs" / "published-vectors.sqlite")
    parser.add_argument("--out", type=Path, default=RESULTS / "published_industrial.json")
    options = parser.parse_args()
    started = time.perf_counter()
    protocol = read_protocol(options.data)
    embedder = None if options.no_embedder else options.embedder
    catalogue = make_catalogue(protocol.items, embedder, options.store)
    measured = measure(protocol, catalogue, protocol.test)
    content = {
        **measured,
        "published": {name: {"ndcg@10": value} for name, value in PUBLISHED.items()},
        "questions": len(protocol.test),
        "items": len(catalogue),
        "learnt_from": STRICT,
        "vectors": Path(embedder).name if embedder else "LSA",
        "seconds": round(time.perf_counter() - started, 1),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(measured["systems"])))


if __name__ == "__main__":
    main()
