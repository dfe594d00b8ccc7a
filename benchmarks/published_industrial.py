"""The published Industrial questions: every signal and the blend against the figures in print.

4,533 questions against the whole catalogue of 3,686 items.  Rows without a mark learn from no
more than the published systems did: the signals from each user's earliest history in the
validation file (a part of the published training interactions), the weights of the blend from
the validation questions, which those systems used to choose their settings.  Rows marked
``renewed`` also count the validation answers, which are older than every test question, as
``trec score --scorer blend`` does by itself where examples have times; the published systems
did not.

    python -m benchmarks.published_industrial --data ../shared/data

``--rehearse`` asks the second half of the validation questions instead, with the first half in
the place of the validation questions: for choosing, without a look at the test questions.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.common import RESULTS, ROOT, commit, machine
from trec_cli.core.jsonl import read_items
from trec_cli.core.outputs import write_bytes
from trec_cli.core.progress import Silent
from trec_cli.core.records import Example, Item, Split
from trec_cli.evaluate.metrics import Floats, Pools, Ranks, ndcg, rank, recall
from trec_cli.evaluate.statistics import UserSums, bootstrap, interval
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.source import ModelSource
from trec_cli.models.vectors import CatalogueVectors
from trec_cli.retrieve.search import Retriever
from trec_cli.retrieve.settings import RetrieveSettings
from trec_cli.sequence.stacking import SequenceSignals
from trec_cli.signals import renewal
from trec_cli.signals.blend import Blend, Learner, load_logit, save_logit
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Histories
from trec_cli.signals.kinds import Values
from trec_cli.signals.learn import SEQUENCE, learn_shares
from trec_cli.signals.logit import ConditionalLogit
from trec_cli.signals.renewal import Course
from trec_cli.signals.shelf import Shelf

PUBLISHED = {
    "SASRec": 0.0806,
    "HSTU": 0.0958,
    "BIGRec": 0.0997,
    "S-DPO": 0.1082,
    "MiniOneRec": 0.1167,
}
"""NDCG@10 in print (MiniOneRec, table of Industrial and Scientific)."""
KS = (3, 5, 10)
NEGATIVES = renewal.NEGATIVES
"""Wrong answers drawn per validation question, as ``trec recommend`` draws them."""
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
AT_TWO_CUTS = (
    "histories and answers of valid.jsonl; weights: the newer half of the validation questions, "
    "asked where the older half was counted"
)
REPLICATES = 2000
"""Of the bootstrap."""


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
        _examples(valid, "valid", start=0),
        _examples(test, "test", start=len(valid)),
    )


def rehearsal(protocol: Collection) -> Collection:
    """Put the halves of the validation questions in the places of validation and test."""
    half = len(protocol.valid) // 2
    asked = [msgspec.structs.replace(e, split="test") for e in protocol.valid[half:]]
    return replace(protocol, valid=protocol.valid[:half], test=asked)


def _questions(path: Path) -> list[Question]:
    decoder = msgspec.json.Decoder(Question)
    return [decoder.decode(line) for line in path.read_bytes().splitlines()]


def _examples(
    questions: Sequence[Question], split: Split, start: int | None = None
) -> list[Example]:
    """Make examples; the files are in order of time, which a number stands for from ``start``."""
    return [
        Example(
            example_id=f"{split}-{number}",
            user_id=question.user_id,
            split=split,
            history=question.history,
            candidates=[],
            positives=[question.target],
            timestamp=None if start is None else start + number,
        )
        for number, question in enumerate(questions)
    ]


def renewed(protocol: Collection) -> list[Example]:
    """Let the validation answers count, too: all are older than the test questions."""
    again = [msgspec.structs.replace(e, split="train") for e in protocol.valid]
    return [*protocol.train, *again]


def _named(embedder: str | None) -> str:
    return ", ".join(Path(name).name for name in embedder.split(",")) if embedder else "LSA"


def make_catalogue(
    items: Mapping[str, Item], embedder: str | None, store: Path
) -> EncodedCatalogue:
    """Embed the items, each text once; without embedder LSA stands in."""
    if embedder is None:
        return EncodedCatalogue.of(items)
    sources = EmbedderSource.each(embedder, ModelSource())
    vectors = CatalogueVectors(sources, store, ATTRIBUTES)
    return EncodedCatalogue.of(items, vectors.each(items, Silent()))


def _blocks(
    examples: Sequence[Example], catalogue: EncodedCatalogue
) -> Iterator[tuple[Histories, slice]]:
    asked = Histories.of((e.history for e in examples), catalogue.rows)
    for start in range(0, len(asked), _BLOCK):
        stop = min(start + _BLOCK, len(asked))
        yield asked.block(start, stop), slice(start, stop)


RETRIEVAL, CASCADE = "retrieval of 200", "cascade: 200 by blend"


@dataclass(frozen=True)
class Family:
    """Blends of the same knowledge, and their signals, each of which is computed once.

    Attributes:
        blends: by the number of sequence models.
        renewed: whether the validation answers are counted.
        retriever: of candidates, whose lists are ranked as well.
    """

    blends: Mapping[int, Blend]
    renewed: bool
    retriever: Retriever

    @property
    def names(self) -> set[str]:
        """Names of the systems that are ranked."""
        systems = [*self.blends[MODELS[-1]].signals, RETRIEVAL, CASCADE]
        blends = {arm("blend", models, self.renewed) for models in self.blends}
        return blends | {arm(name, 0, self.renewed) for name in systems}

    def scores(self, asked: Histories) -> Iterator[tuple[str, Values]]:
        """Yield every system's scores of all items: [questions, items]."""
        signals = self.blends[MODELS[-1]].signals
        values = {name: signal.everywhere(asked) for name, signal in signals.items()}
        for name, found in values.items():
            yield arm(name, 0, self.renewed), found
        blended: dict[int, Values] = {}
        for models, blend in self.blends.items():
            blended[models] = blend.combine(asked, values.__getitem__)
            yield arm("blend", models, self.renewed), blended[models]
        yield from self._retrieved(asked, blended[0])

    def _retrieved(self, asked: Histories, blended: Values) -> Iterator[tuple[str, Values]]:
        """Rank what a retrieval found by fused ranks, and by the blend; all else behind that."""
        fused = np.full(blended.shape, _BEHIND, np.float32)
        for start, block, found in self.retriever.blocks(asked):
            part = fused[start : start + len(block)]
            np.put_along_axis(part, found.rows, found.scores, axis=1)
        yield arm(RETRIEVAL, 0, self.renewed), fused
        cascade = np.where(fused > _BEHIND, blended, np.float32(_BEHIND))
        yield arm(CASCADE, 0, self.renewed), cascade


def evaluate(
    family: Family,
    examples: Sequence[Example],
    catalogue: EncodedCatalogue,
    folder: Path | None = None,
) -> dict[str, dict[str, Floats]]:
    """Rank the whole catalogue for every question: metrics of each, by system.

    What is finished is kept in ``folder``, where there is one.
    """
    right = np.array([catalogue.rows[e.positives[0]] for e in examples])
    found: defaultdict[str, dict[str, list[Floats]]] = defaultdict(lambda: defaultdict(list))
    for asked, part in _blocks(examples, catalogue):
        path = folder / f"ranked{MARK * family.renewed}-{part.start}.json" if folder else None
        block: dict[str, dict[str, list[float]]] = {}
        if path and path.exists():
            block = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, list[float]]])
        if not family.names <= block.keys():
            for name, ranks in _ranked(family, asked, right[part], block):
                block[name] = {
                    metric: column.tolist() for metric, column in _metrics(ranks).items()
                }
            if path:
                write_bytes(path, [msgspec.json.encode(block)])
        for name, metrics in block.items():
            for metric, column in metrics.items():
                found[name][metric].append(np.array(column))
    return {
        name: {metric: np.concatenate(columns) for metric, columns in metrics.items()}
        for name, metrics in found.items()
    }


def _ranked(
    family: Family, asked: Histories, right: np.ndarray[Any, Any], known: Container[str]
) -> Iterator[tuple[str, Ranks]]:
    for name, scores in family.scores(asked):
        if name not in known:
            yield name, _rank(scores, right)


def _rank(scores: Values, right: np.ndarray[Any, Any]) -> Ranks:
    count, width = scores.shape
    offsets = np.arange(count + 1) * width
    return rank(Pools(scores.ravel().astype(float), offsets, offsets[:-1] + right))


def _metrics(ranks: Ranks) -> dict[str, Floats]:
    """Compute NDCG and HR (recall of a single right answer) at every cut-off."""
    wanted = [("ndcg", ndcg, k) for k in KS] + [("hr", recall, k) for k in (*KS, CANDIDATES)]
    return {f"{name}@{k}": metric(ranks, k) for name, metric, k in wanted}


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


@dataclass(frozen=True)
class Bench:
    """What every arm learns with.

    Attributes:
        protocol: items and questions.
        catalogue: the items, encoded.
        shelf: keeps sequence models and weights, so that a stopped run continues.
    """

    protocol: Collection
    catalogue: EncodedCatalogue
    shelf: Shelf

    def course(self, *, renewed: bool) -> Course:
        """Decide what is counted."""
        learnt_from: tuple[Split, ...] = ("train", "valid")
        known = [*self.protocol.train, *self.protocol.valid]
        if not renewed:
            why = "the published systems did no more"
            return Course(known, learnt_from, why, NEGATIVES)
        return Course.of([*known, *self.protocol.test], "test", learnt_from, NEGATIVES)

    def fit(self, *, renewed: bool, models: int) -> tuple[Blend, float]:
        """Fit a blend with so many sequence models, or take the weights of a stopped run.

        Returns:
            It, and the processor seconds that it took; 0 where a stopped run had done part of it.
        """
        started, before = time.process_time(), len(self.shelf.kept)
        course = self.course(renewed=renewed)
        sequence = SequenceSignals(self.catalogue, range(models), shelf=self.shelf)
        learner = Learner(
            self.catalogue,
            course.events(self.catalogue.rows),
            shelf=self.shelf,
            further=sequence if models else None,
        )
        kept = self.shelf.folder and self.shelf.folder / f"{arm('blend', models, renewed)}.json"
        if kept and kept.exists():
            return Blend(learner, load_logit(kept)), json.loads(kept.read_text())["seconds"]
        blend = course.fit(learner)
        learner.signals()
        seconds = round(time.process_time() - started, 1)
        if SEQUENCE in self.shelf.kept[before:]:
            seconds = 0.0
        if kept:
            save_logit(kept, blend.logit, {"seconds": seconds})
        return blend, seconds


MODELS = (0, 3)
"""Sequence models that are stacked."""


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """Learn, fit and rank the test questions: figures, differences, weights and seconds.

    Yields what is known so far, first of the systems that count the validation answers.
    """
    asked, measured = bench.protocol.test, dict[str, dict[str, Floats]]()
    content: dict[str, Any] = {"systems": {}, "differences": {}, "weights": {}, "penalties": {}}
    for renewed in (True, False):
        made = {models: bench.fit(renewed=renewed, models=models) for models in MODELS}
        plain = made[0][0].learner
        found = {**plain.signals(), **learn_shares(plain.events)}
        retriever = Retriever.of(bench.protocol.items, bench.catalogue, found, WANTED)
        blends = {models: blend for models, (blend, _) in made.items()}
        family = Family(blends, renewed, retriever)
        own = evaluate(family, asked, bench.catalogue, bench.shelf.folder)
        measured |= own
        learnt_from = AT_TWO_CUTS if renewed else STRICT
        for name, metrics in own.items():
            content["systems"][name] = {**summary(metrics, asked), "learnt_from": learnt_from}
        for models, (blend, seconds) in made.items():
            name = arm("blend", models, renewed)
            if seconds:
                content["systems"][name]["processor_seconds"] = seconds
            content["weights"][name] = weights(blend.logit)
            content["penalties"][name] = blend.logit.penalty
        content["differences"] = differences(measured, asked)
        yield content


MARK = ", renewed"


def arm(name: str, models: int = 0, renewed: bool = False) -> str:
    """Name an arm."""
    stacked = f" + {models} sequence models" if models > 1 else " + sequence model"
    return name + (stacked if models else "") + (MARK if renewed else "")


def weights(logit: ConditionalLogit) -> dict[str, list[float]]:
    """Return each coefficient with its standard error."""
    pairs = zip(logit.coefficients.tolist(), logit.errors.tolist(), strict=True)
    return {
        name: [round(value, 3), round(error, 3)]
        for name, (value, error) in zip(logit.names, pairs, strict=True)
    }


def differences(
    measured: Mapping[str, Mapping[str, Floats]], asked: Sequence[Example]
) -> dict[str, list[float]]:
    """Return differences of NDCG@10, each with a 95 % interval of a paired bootstrap over users."""
    pairs = [
        (arm("blend", models, renewed), arm("blend", 0, renewed))
        for renewed in (False, True)
        for models in MODELS[1:]
    ]
    pairs.append((arm("blend", 0, True), arm("blend")))
    users = [e.user_id for e in asked]
    found = {}
    for one, other in pairs:
        if one not in measured or other not in measured:
            continue
        values = measured[one]["ndcg@10"] - measured[other]["ndcg@10"]
        sums = UserSums.of(values[None, :, None], users)
        low, high = interval(bootstrap(sums, REPLICATES, 0))
        found[f"{one} - {other}"] = [
            round(float(value), 5) for value in (values.mean(), low[0, 0], high[0, 0])
        ]
    return found


def table(systems: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Write our systems and the published ones, best first."""
    rows = [(f["ndcg@10"], name, f"{f['hr@10']:.4f}", "here") for name, f in systems.items()]
    rows += [(value, name, "", "published") for name, value in PUBLISHED.items()]
    yield f"{'system':<40} {'NDCG@10':>8} {'HR@10':>8}  from"
    for value, name, hits, origin in sorted(rows, reverse=True):
        yield f"{name:<40} {value:8.4f} {hits:>8}  {origin}"


def main() -> None:
    """Measure on the test questions and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", default=str(ROOT / "models" / "all-MiniLM-L6-v2"))
    parser.add_argument("--no-embedder", action="store_true", help="LSA instead of an embedder")
    parser.add_argument("--store", type=Path, default=ROOT / "runs" / "published-vectors.sqlite")
    parser.add_argument("--out", type=Path, default=RESULTS / "published_industrial.json")
    parser.add_argument("--learnt", type=Path, help="folder by which a stopped run continues")
    parser.add_argument("--rehearse", action="store_true", help="ask validation questions alone")
    options = parser.parse_args()
    started = time.perf_counter()
    protocol = read_protocol(options.data)
    if options.rehearse:
        protocol = rehearsal(protocol)
    embedder = None if options.no_embedder else options.embedder
    catalogue = make_catalogue(protocol.items, embedder, options.store)
    for measured in measure(Bench(protocol, catalogue, Shelf(options.learnt))):
        content = {
            **measured,
            "published": {name: {"ndcg@10": value} for name, value in PUBLISHED.items()},
            "questions": len(protocol.test),
            "items": len(catalogue),
            "vectors": _named(embedder),
            "seconds": round(time.perf_counter() - started, 1),
            "machine": machine(),
            "commit": commit(),
        }
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(measured["systems"])))
    for name, (value, low, high) in measured["differences"].items():
        print(f"{name}: {value:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
