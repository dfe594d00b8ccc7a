"""Evaluating a million users with 21 candidates each, beside ir_measures.

    python -m benchmarks.eval_million [--users N] [--rounds N]

Ours is the whole command ``trec eval --scores FILE`` in a process of its own: start, reading
and checking the file, all metrics, chance and the table; no bootstrap.  The peer is
ir_measures (through pytrec_eval) on the first users of the same file, already in memory, and
its time is scaled to all users; it computes Recall, RR and nDCG at 3, 5 and 10.
"""

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import compare, in_turns
from benchmarks.optional import needed
from trec_cli.evaluate.scores import read_scores

ir_measures: Any = needed("ir_measures", "ir_measures>=0.3.7")
CANDIDATES = 21
ITEMS = 10_000
SUBSET = 20_000
KS = (3, 5, 10)
_CHUNK = 10_000


def lines(users: int, seed: int = 0) -> Iterator[str]:
    """Yield the lines of a scores file: random candidates, scores and one positive each."""
    random = np.random.default_rng(seed)
    for start in range(0, users, _CHUNK):
        size = min(_CHUNK, users - start)
        first = random.integers(ITEMS, size=size)
        steps = random.integers(1, ITEMS // CANDIDATES, size=(size, CANDIDATES))
        items = ((first[:, None] + steps.cumsum(axis=1)) % ITEMS).tolist()
        scores = random.normal(size=(size, CANDIDATES)).round(6).tolist()
        right = random.integers(CANDIDATES, size=size).tolist()
        for place in range(size):
            names = [f"i{item:05d}" for item in items[place]]
            yield json.dumps(
                {
                    "example_id": f"e{start + place}",
                    "user_id": f"u{start + place}",
                    "split": "test",
                    "candidates": names,
                    "scores": scores[place],
                    "positives": [names[right[place]]],
                }
            )


def ours(path: Path) -> None:
    """Evaluate the whole file as a user does."""
    command = [sys.executable, "-m", "trec_cli", "eval", "--scores", str(path)]
    subprocess.run([*command, "--bootstrap", "0", "--quiet"], check=True)


def subset(path: Path, users: int) -> tuple[list[Any], list[Any]]:
    """Return the first users of the file as ir_measures takes them."""
    records = [record for _, record in itertools.islice(read_scores(path), users)]
    right = [
        ir_measures.Qrel(record.example, item, 1) for record in records for item in record.positives
    ]
    ranked = [
        ir_measures.ScoredDoc(record.example, item, score)
        for record in records
        for item, score in zip(record.candidates, record.scores, strict=True)
    ]
    return right, ranked


def main() -> None:
    """Measure, in turns, and keep the result."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--users", type=int, default=1_000_000)
    made.add_argument("--rounds", type=int, default=3)
    asked = made.parse_args()
    part = min(SUBSET, asked.users)
    with tempfile.TemporaryDirectory(prefix="bench-eval-") as folder:
        path = Path(folder) / "scores-random.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(line + "\n" for line in lines(asked.users))
        right, ranked = subset(path, part)
        measures = ir_measures.R, ir_measures.RR, ir_measures.nDCG
        wanted = [measure @ k for measure in measures for k in KS]

        def theirs(_: int) -> float:
            started = time.perf_counter()
            ir_measures.calc_aggregate(wanted, right, ranked)
            return float((time.perf_counter() - started) * asked.users / part)

        runs = in_turns(
            {"ours": lambda _: ours(path), "ir_measures": theirs}, asked.rounds, warm_up=False
        )
        size = path.stat().st_size
    compare(
        "eval_million",
        runs,
        peer="ir_measures",
        unit="s",
        what=f"metrics of {asked.users:,} users with {CANDIDATES} candidates: `trec eval` from the "
        f"file ({size / 1e6:.0f} MB) to the table, no bootstrap; ir_measures from memory, without "
        f"AUC, ties and checks, timed on {part:,} users and scaled",
        more={
            "users": asked.users,
            "candidates": CANDIDATES,
            "peer_users": part,
            "peak_mib": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, 1),
        },
    )


if __name__ == "__main__":
    main()
