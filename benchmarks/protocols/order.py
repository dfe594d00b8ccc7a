"""What a change of protocol does to the order of the arms, without any language model.

Every signal, and the blend where candidates are few, are asked the same kind of question under
two protocols; Kendall's tau-b compares the two orders by AUC (by NDCG@10 where the whole
catalogue is ranked).  Each protocol is kept in ``OUT/NAME.json`` once it is measured.

    python -m benchmarks.protocols.order --data ../shared/data --out runs/protocols/order
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace
from scipy.stats import kendalltau

from benchmarks.common import RESULTS, ROOT, commit, machine
from benchmarks.protocols.published import Setting
from benchmarks.published_industrial import make_catalogue, read_protocol, renewed
from trec_cli.audit.run import audit_examples
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.outputs import write_bytes
from trec_cli.core.records import Example
from trec_cli.core.seeds import derive_seed, generator
from trec_cli.evaluate.metrics import Floats, Pools, auc, ndcg, rank, reciprocal_rank
from trec_cli.signals.blend import Learner, Pairs, fit_blend
from trec_cli.signals.histories import Events, Histories

SEED = 0
_MIND = ("mind", "--min-history", "5", "--long", "keep-last")
_INDUSTRIAL = ("industrial", "--attributes", "title,brand")
_CLICKED = ("--target", "impression")
_CATALOGUE = ("--population", "catalogue")
_POPULAR, _UNIFORM = ("--negatives", "popularity"), ("--negatives", "uniform")
PREPARED: dict[str, tuple[str, ...]] = {
    "MIND clicked, uniform, catalogue": (*_MIND, *_CLICKED, *_UNIFORM, *_CATALOGUE),
    "MIND clicked, uniform, shown": (*_MIND, *_CLICKED, *_UNIFORM),
    "MIND clicked, popularity, catalogue": (*_MIND, *_CLICKED, *_POPULAR, *_CATALOGUE),
    "MIND clicked, popularity, shown": (*_MIND, *_CLICKED, *_POPULAR),
    "MIND clicked, impression": (*_MIND, *_CLICKED),
    "MIND last click, uniform, catalogue": (*_MIND, *_UNIFORM, *_CATALOGUE),
    "MIND last click, uniform, seen": (*_MIND, *_UNIFORM),
    "MIND last click, popularity, catalogue": (*_MIND, *_POPULAR, *_CATALOGUE),
    "MIND last click, popularity, seen": (*_MIND, *_POPULAR),
    "Industrial, uniform, catalogue": (*_INDUSTRIAL, *_UNIFORM, *_CATALOGUE),
    "Industrial, uniform, seen": (*_INDUSTRIAL, *_UNIFORM),
    "Industrial, popularity, catalogue": (*_INDUSTRIAL, *_POPULAR, *_CATALOGUE),
    "Industrial, popularity, seen": (*_INDUSTRIAL, *_POPULAR),
}
"""Options of ``trec prepare`` by the protocol's name, the collection first."""
PAIRS = [
    ("MIND clicked, uniform, catalogue", "MIND clicked, uniform, shown"),
    ("MIND clicked, popularity, catalogue", "MIND clicked, popularity, shown"),
    ("MIND clicked, popularity, catalogue", "MIND clicked, impression"),
    ("MIND clicked, uniform, shown", "MIND clicked, impression"),
    ("MIND last click, uniform, catalogue", "MIND last click, uniform, seen"),
    ("MIND last click, popularity, catalogue", "MIND last click, popularity, seen"),
    ("MIND last click, uniform, seen", "MIND clicked, impression"),
    ("Industrial, uniform, catalogue", "Industrial, uniform, seen"),
    ("Industrial, popularity, catalogue", "Industrial, popularity, seen"),
    ("Industrial, uniform, seen", "Industrial, popularity, seen"),
    ("published, 20 uniform", "published, all items"),
    ("published, 20 by popularity", "published, all items"),
    ("published, 100 uniform", "published, all items"),
    ("published, other users at any time", "published, everything earlier"),
]
"""Protocols whose orders are compared, the one to be read with care first."""
NO_USER = "no user"
_CONSTANT = ("repeat", "repeat_last", "unseen", "never_right", "words")
"""Signals that tie nearly everything, or are no recommender: left out of the orders."""
_BLOCK = 256

Metrics = dict[str, float]


@dataclass(frozen=True)
class Measured:
    """A protocol's arms: metrics by arm, and how many questions."""

    arms: dict[str, Metrics]
    questions: int


def prepared(name: str, data: Path, out: Path) -> Path:
    """Run ``trec prepare`` for a protocol, once."""
    collection, *options = PREPARED[name]
    run = out / name.replace(", ", "-").replace(" ", "_")
    command = [sys.executable, "-m", "trec_cli", "prepare", str(data / collection)]
    subprocess.run([*command, "--out", str(run), "--quiet", *options], check=True)
    return run


def measure_prepared(run: Path, embedder: str, store: Path) -> Measured:
    """Ask every arm the questions of a run folder."""
    items = read_items(run / "items.jsonl")
    examples = read_examples(run / "examples.jsonl", items)
    catalogue = make_catalogue(items, embedder, store)
    learner = Learner(catalogue, Events.of(examples, catalogue.rows), SEED)
    tested = [example for example in examples if example.split == "test"]
    scores = {name: _by_signal(learner, name, tested) for name in _named(learner)}
    blend = fit_blend(learner, examples)
    scores["blend"] = np.concatenate([np.asarray(row) for row in blend.score(tested)])
    arms = {name: _metrics(one, tested) for name, one in scores.items()}
    if audit := audit_examples(items, examples, "test", SEED):
        arms[NO_USER] = {"auc": audit.no_user.value}
    return Measured(arms, len(tested))


def _named(learner: Learner) -> list[str]:
    return [name for name in learner.signals() if name not in _CONSTANT]


def _by_signal(learner: Learner, name: str, examples: Sequence[Example]) -> Floats:
    pairs = Pairs.of(
        (e.history for e in examples), [e.candidates for e in examples], learner.catalogue.rows
    )
    found = learner.signals()[name].at(pairs.asked, pairs.questions, pairs.candidates)
    return np.round(found.astype(float), 5)


def _metrics(scores: Floats, examples: Sequence[Example]) -> Metrics:
    marks = [[c in set(e.positives) for c in e.candidates] for e in examples]
    ends = np.cumsum([0, *map(len, marks)])
    right = np.flatnonzero(np.concatenate([np.array(m) for m in marks]))
    ranks = rank(Pools(scores, ends, right))
    return {
        "auc": float(np.nanmean(auc(ranks))),
        "mrr@10": float(reciprocal_rank(ranks, 10).mean()),
        "ndcg@10": float(ndcg(ranks, 10).mean()),
    }


def sampled(setting: Setting, pool: Sequence[str], count: int) -> Measured:
    """Ask the published questions among some drawn wrong answers."""
    learner = setting.learner
    asked = [_sampled(example, pool, count) for example in setting.protocol.test]
    arms = {n: _metrics(_by_signal(learner, n, asked), asked) for n in _named(learner)}
    return Measured(arms, len(asked))


def _sampled(example: Example, pool: Sequence[str], count: int) -> Example:
    """Draw distinct wrong answers that are not in the history; a pool may repeat items."""
    draws = generator(SEED, "sampled", example.example_id)
    taken = {*example.history, *example.positives}
    order = (pool[n] for n in draws.permutation(len(pool)))
    wrong = [item for item in dict.fromkeys(order) if item not in taken][:count]
    return replace(example, candidates=[*example.positives, *wrong])


def everywhere(learner: Learner, examples: Sequence[Example]) -> Measured:
    """Ask among all items."""
    rows = learner.catalogue.rows
    asked = Histories.of((e.history for e in examples), rows)
    right = np.array([rows[e.positives[0]] for e in examples])
    found = {}
    for name in _named(learner):
        values = []
        for start in range(0, len(asked), _BLOCK):
            stop = min(start + _BLOCK, len(asked))
            scores = np.asarray(learner.signals()[name].everywhere(asked.block(start, stop)))
            offsets = np.arange(len(scores) + 1) * scores.shape[1]
            places = offsets[:-1] + right[start:stop]
            ranks = rank(Pools(scores.ravel().astype(float), offsets, places))
            values.append([ndcg(ranks, 10), reciprocal_rank(ranks, 10), auc(ranks)])
        means = np.concatenate(values, axis=1).mean(axis=1)
        found[name] = dict(zip(("ndcg@10", "mrr@10", "auc"), map(float, means), strict=True))
    return Measured(found, len(examples))


def published(setting: Setting) -> dict[str, Callable[[], Measured]]:
    """Return the ways to ask the published questions.

    Half of the users are asked twice, among all items: after learning from everything that is
    earlier, and from what the other half did at any time.
    """
    protocol, rows = setting.protocol, setting.catalogue.rows
    answers = [item for e in (*protocol.train, *protocol.valid) for item in e.positives]
    half = {e.user_id for e in protocol.test if derive_seed(SEED, "half", e.user_id) % 2}
    asked = [e for e in protocol.test if e.user_id in half]
    others = [*protocol.train, *protocol.valid, *protocol.test]
    anytime = [replace(e, split="train") for e in others if e.user_id not in half]

    def learnt(examples: Sequence[Example]) -> Learner:
        return Learner(setting.catalogue, Events.of(examples, rows))

    return {
        "published, 20 uniform": lambda: sampled(setting, list(rows), 20),
        "published, 100 uniform": lambda: sampled(setting, list(rows), 100),
        "published, 20 by popularity": lambda: sampled(setting, answers, 20),
        "published, all items": lambda: everywhere(setting.learner, protocol.test),
        "published, everything earlier": lambda: everywhere(learnt(renewed(protocol)), asked),
        "published, other users at any time": lambda: everywhere(learnt(anytime), asked),
    }


def kept(name: str, out: Path, make: Callable[[], Measured]) -> Measured:
    """Return what was measured of a protocol before, or measure it now."""
    file = out / f"{name.replace(', ', '-').replace(' ', '_')}.json"
    if not file.exists():
        write_bytes(file, [msgspec.json.encode(make())])
        print(f"{name}: done", flush=True)
    return msgspec.json.decode(file.read_bytes(), type=Measured)


def compare(first: str, second: str, found: Mapping[str, Measured]) -> dict[str, Any]:
    """Compare the orders of two protocols."""
    full = "published, all items" in (first, second) or "earlier" in second
    metric = "ndcg@10" if full else "auc"
    one, other = found[first].arms, found[second].arms
    names = [name for name in one if name in other and name not in (NO_USER,)]
    before, after = ([arms[name][metric] for name in names] for arms in (one, other))
    tau, p = kendalltau(before, after)
    places = {name: (_place(name, names, one, metric), _place(name, names, other, metric))
              for name in names}  # fmt: skip
    moved = sorted(names, key=lambda name: -abs(places[name][0] - places[name][1]))[:3]
    single = [name for name in names if name != "blend"]
    return {
        "first": first,
        "second": second,
        "metric": metric,
        "arms": len(names),
        "tau": round(float(tau), 3),
        "p": round(float(p), 4),
        "best_first": max(single, key=lambda name: one[name][metric]),
        "best_second": max(single, key=lambda name: other[name][metric]),
        "moved": {name: places[name] for name in moved},
        "above_no_user": [_above(arms, names, metric) for arms in (one, other)],
    }


def _place(name: str, names: Iterable[str], arms: Mapping[str, Metrics], metric: str) -> int:
    return 1 + sum(arms[other][metric] > arms[name][metric] for other in names)


def _above(arms: Mapping[str, Metrics], names: Iterable[str], metric: str) -> int | None:
    """Count the arms above the model that never sees the user."""
    if NO_USER not in arms:
        return None
    return sum(arms[name][metric] > arms[NO_USER][metric] for name in names)


def main() -> None:
    """Measure every protocol that is not done, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--embedder", default=str(ROOT / "models" / "all-MiniLM-L6-v2"))
    parser.add_argument("--result", type=Path, default=RESULTS / "protocols_order.json")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    store, started = options.out / "vectors.sqlite", time.process_time()
    found: dict[str, Measured] = {}
    protocol = read_protocol(options.data)
    setting = Setting(protocol, make_catalogue(protocol.items, options.embedder, store))
    for name, make in published(setting).items():
        found[name] = kept(name, options.out, make)
    for name in PREPARED:

        def measure(name: str = name) -> Measured:
            run = prepared(name, options.data, options.out)
            return measure_prepared(run, options.embedder, store)

        found[name] = kept(name, options.out, measure)
    comparisons = [compare(*pair, found) for pair in PAIRS]
    content = {
        "comparisons": comparisons,
        "protocols": {
            name: {
                "questions": one.questions,
                "arms": {arm: _rounded(metrics) for arm, metrics in one.arms.items()},
            }
            for name, one in found.items()
        },
        "seed": SEED,
        "seconds": round(time.process_time() - started, 1),
        "machine": machine(),
        "commit": commit(),
    }
    options.result.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for one in comparisons:
        print(one["first"], "->", one["second"], "tau", one["tau"], flush=True)


def _rounded(metrics: Metrics) -> Metrics:
    return {name: round(value, 4) for name, value in metrics.items()}


if __name__ == "__main__":
    main()
