"""Libraries of approximate nearest neighbours: recall@200 and queries a second beside exact search.

    python -m benchmarks.ann --python PYTHON [--real VECTORS.npy] [--sizes 100000 1000000]

PYTHON is of an environment with numpy, faiss-cpu, hnswlib and usearch.  Synthetic vectors of 384
numbers lie in clusters of clusters, as texts do; VECTORS.npy may hold those of an embedder
(the last 300 are the queries).  One thread; rates by processor time.
"""

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, commit, machine

Floats = NDArray[np.float32]

QUERIES, WANTED, SIZE = 300, 200, 384
LIBRARIES = ("faiss-ivf", "faiss-hnsw", "hnswlib", "usearch")


def clustered(count: int, seed: int) -> Floats:
    """Draw vectors of length 1 in clusters of clusters, of sizes as skewed as in a shop."""
    draws = np.random.default_rng(seed)
    coarse = _unit(draws.normal(size=(100, SIZE)))
    fine = coarse[draws.integers(100, size=5000)] + 1.0 * _unit(draws.normal(size=(5000, SIZE)))
    shares = 1 / (5 + np.arange(5000.0)) ** 0.7
    chosen = draws.choice(5000, count, p=shares / shares.sum())
    made = np.empty((count, SIZE), np.float32)
    for start in range(0, count, 50_000):
        own = fine[chosen[start : start + 50_000]]
        noise = draws.normal(size=own.shape).astype(np.float32) / np.sqrt(SIZE)
        made[start : start + len(own)] = _unit(own + noise)
    return made


def _unit(vectors: NDArray[Any]) -> Floats:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def exact(vectors: Floats, queries: Floats) -> tuple[NDArray[np.int64], float]:
    """Return the true neighbours, and queries per processor second of matrix products."""
    started = time.process_time()
    found = []
    for start in range(0, len(queries), 50):
        scores = queries[start : start + 50] @ vectors.T
        found.append(np.argpartition(-scores, WANTED - 1, axis=1)[:, :WANTED])
    return np.concatenate(found), len(queries) / (time.process_time() - started)


def measure(name: str, vectors: Floats, options: argparse.Namespace) -> Iterator[tuple[str, Any]]:
    """Yield what each library does on one set of vectors; the last ones are the queries."""
    indexed, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    truth, rate = exact(indexed, queries)
    yield "vectors", len(indexed)
    yield "exact_queries_per_s", round(rate, 1)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder, file)) for file in ("vectors.npy", "truth.npy")]
        np.save(files[0], vectors)
        np.save(files[1], truth)
        del indexed, vectors
        script = str(Path(__file__).parent / "peers" / "ann_index.py")
        for library in options.libraries:
            command = [options.python, script, library, *files, "--most", str(options.most)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = [json.loads(line) for line in done.stdout.splitlines()]
            print(name, library, *found, sep="\n  ", flush=True)
            yield library, found


def main() -> None:
    """Measure and keep the results."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--python", required=True)
    options.add_argument("--real", type=Path)
    options.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000])
    options.add_argument("--libraries", nargs="*", default=LIBRARIES)
    options.add_argument("--most", type=float, default=600, help="processor seconds of one index")
    given = options.parse_args()
    path = RESULTS / "ann.json"
    body = json.loads(path.read_text("utf-8")) if path.is_file() else {"sets": {}}
    sets = body["sets"]

    def keep(name: str, vectors: Floats) -> None:
        body.update(
            name="ann", machine=machine(), queries=QUERIES, wanted=WANTED, size=SIZE, seed=0
        )
        own = sets.setdefault(name, {})
        own["commit"] = commit()
        for key, value in measure(name, vectors, given):
            own[key] = value
            path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")

    if given.real is not None:
        keep("embedded texts", np.load(given.real))
    for count in given.sizes:
        keep(f"clustered, {count:,}", clustered(count + QUERIES, seed=0))


if __name__ == "__main__":
    main()
