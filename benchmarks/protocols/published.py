"""The published Industrial questions: every arm ranks the whole catalogue of 3,686 items.

Each arm is kept in ``OUT/NAME.npz`` as soon as it is done, so a stopped run continues.  The
arms learn what :mod:`benchmarks.published_industrial` says.  ``OUT/cascade`` gets a run folder
in which the blend's best 20 of some users are candidates, for ``published_cascade.toml``.

    python -m benchmarks.protocols.published --data ../shared/data --out runs/protocols/published
"""

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from benchmarks.common import RESULTS, ROOT, commit, machine
from benchmarks.published_industrial import (
    ATTRIBUTES,
    NEGATIVES,
    PUBLISHED,
    RENEWED,
    STRICT,
    Collection,
    make_catalogue,
    read_protocol,
    renewed,
)
from trec_cli.core.jsonl import encode, encode_all
from trec_cli.core.outputs import write_bytes, write_lines
from trec_cli.core.records import Example, Item, Scores, Split
from trec_cli.core.seeds import derive_seed, generator
from trec_cli.evaluate.metrics import Floats, Pools, Ranks, ndcg, rank, recall
from trec_cli.evaluate.statistics import UserSums, detectable, intervals, paired_tests
from trec_cli.recbole import grids
from trec_cli.recbole.atomic import trained_items, write_atomic_files
from trec_cli.recbole.environment import WORKER
from trec_cli.recbole.questions import RecboleQuestion
from trec_cli.sequence.settings import SequenceSettings
from trec_cli.sequence.training import score_all, train
from trec_cli.sequence.whitening import whitened
from trec_cli.signals.blend import (
    Blend,
    Learner,
    Pairs,
    choose_questions,
    drawn_candidates,
    fit_blend,
)
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories
from trec_cli.signals.learn import reads_history
from trec_cli.signals.logit import ChoiceSets, fit_logit

KS = (3, 5, 10)
METRICS = [f"{name}@{k}" for name in ("ndcg", "hr") for k in KS]
SHORTLIST, ASKED = 20, 300
"""Candidates and users of the cascade."""
_BLOCK = 256
_VALID, _WRONG = 300, 50
"""Validation questions that choose SASRec's settings, and drawn wrong answers of each."""
REFERENCE = "blend"
SEED = 0

Blocks = Iterator[np.ndarray[Any, Any]]
"""Scores of all items for some questions after others, each [questions, items]."""


@dataclass(frozen=True)
class Setting:
    """The protocol, and what all arms share."""

    protocol: Collection
    catalogue: EncodedCatalogue

    @cached_property
    def learner(self) -> Learner:
        """Signals of what is known before the validation questions."""
        return Learner(self.catalogue, Events.of(self.protocol.train, self.catalogue.rows))

    @cached_property
    def blend(self) -> Blend:
        """The blend, its weights from the validation questions."""
        return fit_blend(self.learner, self.protocol.valid, negatives=NEGATIVES)

    @cached_property
    def asked(self) -> Histories:
        """Histories of the test questions."""
        return Histories.of((e.history for e in self.protocol.test), self.catalogue.rows)

    def blocks(self, everywhere: Callable[[Histories], Any]) -> Blocks:
        """Score the test questions block by block."""
        for start in range(0, len(self.asked), _BLOCK):
            stop = min(start + _BLOCK, len(self.asked))
            yield np.asarray(everywhere(self.asked.block(start, stop)))

    def arms(self, recbole: Path | None, work: Path) -> dict[str, Callable[[], Blocks]]:
        """Return every arm by its name; each is made when it is called."""
        signals = {
            name: lambda name=name: self.blocks(self.learner.signals()[name].everywhere)
            for name in self.learner.signals()
        }
        return {
            "no user": self.without_user,
            **signals,
            "blend": lambda: self.blocks(self.blend.everywhere),
            "blend (renewed)": self.renewed_blend,
            "sequence": self.sequence,
            **({"SASRec": lambda: self.sasrec(recbole, work)} if recbole else {}),
        }

    def without_user(self) -> Blocks:
        """Rank by what is known of items alone: a conditional logit, as the blend is."""
        own = {n: s for n, s in self.learner.signals().items() if not reads_history(n)}
        splits: tuple[Split, ...] = ("valid",)
        chosen = choose_questions(self.protocol.valid, splits, self.learner)
        items = list(self.catalogue.rows)
        candidates = [drawn_candidates(e, items, NEGATIVES, SEED) for e in chosen]
        pairs = Pairs.of((e.history for e in chosen), candidates, self.catalogue.rows)
        right = [i in e.positives for e, c in zip(chosen, candidates, strict=True) for i in c]
        ends = np.cumsum([0, *map(len, candidates)])
        logit = fit_logit(ChoiceSets.of(pairs.features(own), ends, np.array(right)), list(own))
        weights = dict(zip(logit.names, logit.weights, strict=True))
        return self.blocks(lambda h: sum(weights[n] * s.everywhere(h) for n, s in own.items()))

    def renewed_blend(self) -> Blocks:
        """Rank with counts that know the validation answers, too."""
        events = Events.of(renewed(self.protocol), self.catalogue.rows)
        later = Blend(Learner(self.catalogue, events), self.blend.logit)
        return self.blocks(later.everywhere)

    def sequence(self) -> Blocks:
        """Train the sequence model on the same histories as the signals."""
        texts = torch.from_numpy(whitened(self.catalogue.vectors))
        known = self.learner.events.sequences
        histories = [h.tolist() for h in np.split(known.items, known.ends[1:-1])]
        model = train(texts, histories, SequenceSettings(), SEED)
        asked = [h.tolist() for h in np.split(self.asked.items, self.asked.ends[1:-1])]
        return score_all(model.eval(), texts, asked)

    def sasrec(self, python: Path, work: Path) -> Blocks:
        """Train RecBole's SASRec (cross-entropy over the whole catalogue) on the same histories."""
        out = work / "scores.npz"
        if not out.exists():
            _export(self.protocol, work)
            script = ROOT / "benchmarks" / "peers" / "recbole_full.py"
            words = [
                python.absolute(),
                script,
                work.absolute() / "task.json",
                WORKER,
                out.absolute(),
            ]
            environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
            # RecBole leaves folders where it is started.
            subprocess.run(words, check=True, env=environment, stdout=subprocess.DEVNULL, cwd=work)
        found = np.load(out)
        print(f"SASRec: {found['told']}", flush=True)
        names = {f"i_{item}": row for item, row in self.catalogue.rows.items()}
        known = [(n, names[i]) for n, i in enumerate(found["items"].tolist()) if i in names]
        theirs, ours = np.array(known).T
        for start in range(0, len(found["scores"]), _BLOCK):
            part = found["scores"][start : start + _BLOCK]
            block = np.tile(part.min(axis=1, keepdims=True) - 1, len(names))
            block[:, ours] = part[:, theirs]
            yield block


def _export(protocol: Collection, work: Path) -> None:
    """Write what the worker reads: training rows, some validation questions, all test ones."""
    items = list(protocol.items)
    order = sorted(protocol.valid, key=lambda e: derive_seed(SEED, "valid", e.example_id))
    valid = [
        msgspec.structs.replace(e, candidates=drawn_candidates(e, items, _WRONG, SEED))
        for e in order[:_VALID]
    ]
    rows = write_atomic_files(work, protocol.items, protocol.train, "train")
    trained = trained_items(rows)
    questions = [RecboleQuestion.of(e, trained).as_dict() for e in (*valid, *protocol.test)]
    write_lines(work / "questions.jsonl", map(encode, questions))
    task = {
        "model": "SASRec",
        "data": str(work.absolute()),
        "split": "test",
        "use_gpu": False,
        "seed": SEED,
        "grid": grids.grid("SASRec"),
        "fixed": {},
        "epochs": grids.EPOCHS,
        "patience": grids.PATIENCE,
        "batch_size": grids.BATCH,
    }
    write_bytes(work / "task.json", [json.dumps(task).encode()])


def measure(blocks: Blocks, right: np.ndarray[Any, Any]) -> Floats:
    """Rank the right answers: [questions, metrics]."""
    parts, start = [], 0
    for scores in blocks:
        parts.append(_metrics(_rank(scores, right[start : start + len(scores)])))
        start += len(scores)
    return np.concatenate(parts)


def _rank(scores: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> Ranks:
    count, width = scores.shape
    offsets = np.arange(count + 1) * width
    return rank(Pools(scores.ravel().astype(float), offsets, offsets[:-1] + right))


def _metrics(ranks: Ranks) -> Floats:
    columns = [metric(ranks, k) for metric in (ndcg, recall) for k in KS]
    return np.stack(columns, axis=1)


def measured(name: str, make: Callable[[], Blocks], right: Any, out: Path) -> dict[str, Any]:
    """Return an arm's metrics and cost, from before or made now."""
    file = out / f"{name.replace(' ', '_')}.npz"
    if not file.exists():
        started = time.process_time()
        values = measure(make(), right)
        spent = np.array(round(time.process_time() - started, 1))
        temporary = file.with_suffix(".tmp.npz")
        np.savez_compressed(temporary, values=values, seconds=spent, commit=np.array(commit()))
        temporary.replace(file)
        print(f"{name}: NDCG@10 {values[:, METRICS.index('ndcg@10')].mean():.4f}", flush=True)
    found = np.load(file)
    return {
        "values": found["values"],
        "seconds": float(found["seconds"]),
        "commit": str(found["commit"]),
    }


def compare(found: Mapping[str, Mapping[str, Any]], users: Sequence[str]) -> dict[str, Any]:
    """Compare all arms with the blend, users drawn together with all of their questions."""
    names = list(found)
    reference = names.index(REFERENCE)
    data = UserSums.of(np.stack([found[name]["values"] for name in names]), users)
    means, bounds = data.means(), intervals(data, reference, 1000, SEED)
    differences = data.sums - data.sums[:, [reference]]
    p = paired_tests(differences, 10_000, SEED)
    visible = detectable(differences, data.counts)
    column = METRICS.index("ndcg@10")
    return {
        name: {
            **{m: round(float(means[n, i]), 4) for i, m in enumerate(METRICS)},
            "ndcg@10_low": round(float(bounds.low[n, column]), 4),
            "ndcg@10_high": round(float(bounds.high[n, column]), 4),
            "difference": round(float(means[n, column] - means[reference, column]), 4),
            "difference_low": round(float(bounds.low_difference[n, column]), 4),
            "difference_high": round(float(bounds.high_difference[n, column]), 4),
            "p": round(float(p[n, column]), 4),
            "detectable": round(float(visible[n, column]), 4),
            "learnt_from": RENEWED if "renewed" in name else STRICT,
            "seconds": found[name]["seconds"],
            "commit": found[name]["commit"],
        }
        for n, name in enumerate(names)
    }


def chance(items: int) -> dict[str, float]:
    """Return the metrics of a random order: the mean over all ranks."""
    gains = 1 / np.log2(np.arange(2, items + 2))
    return {
        **{f"ndcg@{k}": float(gains[:k].sum() / items) for k in KS},
        **{f"hr@{k}": k / items for k in KS},
    }


def write_cascade(setting: Setting, folder: Path) -> None:
    """Write a run folder: one question of each of some users, the blend's best 20 as candidates."""
    protocol, catalogue = setting.protocol, setting.catalogue
    chosen = _one_each(protocol.test)[:ASKED]
    ids = np.array(list(catalogue.rows))
    asked = Histories.of((e.history for e in chosen), catalogue.rows)
    scores = setting.blend.everywhere(asked)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :SHORTLIST]
    examples, lines = [], []
    for number, example in enumerate(chosen):
        drawn = generator(SEED, example.example_id).permutation(best[number])
        candidates = ids[drawn].tolist()
        found = [i for i in example.positives if i in candidates]
        missed = [i for i in example.positives if i not in candidates]
        question = msgspec.structs.replace(
            example, candidates=candidates, positives=found, missed=missed or None
        )
        examples.append(question)
        lines.append(_line(question, scores[number, drawn].tolist()))
    items = list(protocol.items)
    valid = [
        msgspec.structs.replace(e, candidates=drawn_candidates(e, items, SHORTLIST, SEED))
        for e in protocol.valid
    ]
    kept = [msgspec.structs.replace(e, candidates=e.positives) for e in protocol.train]
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "items.jsonl", encode_all(_with_texts(protocol)))
    write_lines(folder / "examples.jsonl", encode_all([*kept, *valid, *examples]))
    write_lines(folder / "scores-blend.jsonl", encode_all(lines))


def _one_each(questions: Sequence[Example]) -> list[Example]:
    """Choose one question of each user, users and questions by a hash."""
    order = sorted(questions, key=lambda e: derive_seed(SEED, "cascade", e.example_id))
    first = {e.user_id: e for e in reversed(order)}
    return sorted(first.values(), key=lambda e: derive_seed(SEED, "cascade user", e.user_id))


def _line(example: Example, scores: Sequence[float]) -> Scores:
    return Scores(
        example_id=example.example_id,
        user_id=example.user_id,
        split=example.split,
        candidates=example.candidates,
        scores=list(scores),
        positives=[*example.positives, *(example.missed or ())],
    )


def _with_texts(protocol: Collection) -> Iterator[Item]:
    """Yield the items with the texts that the vectors are made of."""
    for item in protocol.items.values():
        kept = {name: item.attributes[name] for name in ATTRIBUTES if name in item.attributes}
        yield Item(item.item_id, kept)


def main() -> None:
    """Measure what is not done, compare, and write the result and the cascade's run folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--embedder", default=str(ROOT / "models" / "all-MiniLM-L6-v2"))
    parser.add_argument("--recbole", type=Path, default=os.environ.get("TREC_RECBOLE_PYTHON"))
    parser.add_argument("--result", type=Path, default=RESULTS / "protocols_published.json")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    protocol = read_protocol(options.data)
    store = options.out / "vectors.sqlite"
    setting = Setting(protocol, make_catalogue(protocol.items, options.embedder, store))
    right = np.array([setting.catalogue.rows[e.positives[0]] for e in protocol.test])
    recbole = Path(options.recbole) if options.recbole else None
    found = {
        name: measured(name, make, right, options.out)
        for name, make in setting.arms(recbole, options.out / "recbole").items()
    }
    content = {
        "systems": compare(found, [e.user_id for e in protocol.test]),
        "chance": chance(len(setting.catalogue)),
        "published": {name: {"ndcg@10": value} for name, value in PUBLISHED.items()},
        "questions": len(protocol.test),
        "users": len({e.user_id for e in protocol.test}),
        "items": len(setting.catalogue),
        "seed": SEED,
        "machine": machine(),
        "commit": commit(),
    }
    options.result.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if not (options.out / "cascade" / "scores-blend.jsonl").exists():
        write_cascade(setting, options.out / "cascade")


if __name__ == "__main__":
    main()
