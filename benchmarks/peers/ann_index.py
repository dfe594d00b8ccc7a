"""Build one index of one library, search it at several settings; one JSON line each.

    python ann_index.py LIBRARY VECTORS.npy TRUTH.npy [--most SECONDS]

The last rows of VECTORS (as many as TRUTH has) are the queries, the others are indexed.
Rates are by processor time of one thread: the machine may be shared.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WANTED = 200
_LINKS, _BUILD = 16, 80
"""Of every graph: links a node, and nodes looked at per insertion."""
_PART = 10_000

Search = Callable[[Any, int], Any]


def faiss_lists(vectors: Any) -> Iterator[float | Search]:
    """IVF: k-means cells of whole vectors; searches the nearest cells."""
    import faiss

    faiss.omp_set_num_threads(1)
    cells = int(4 * np.sqrt(len(vectors)))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = 1234, 10, 64
    index.train(vectors)
    for start in range(0, len(vectors), _PART):
        index.add(vectors[start : start + _PART])
        yield (start + _PART) / len(vectors)

    def search(queries: Any, probes: int) -> Any:
        index.nprobe = probes
        return index.search(queries, WANTED)[1]

    yield search


def faiss_graph(vectors: Any) -> Iterator[float | Search]:
    """HNSW of faiss."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = _BUILD
    for start in range(0, len(vectors), _PART):
        index.add(vectors[start : start + _PART])
        yield (start + _PART) / len(vectors)

    def search(queries: Any, breadth: int) -> Any:
        index.hnsw.efSearch = breadth
        return index.search(queries, WANTED)[1]

    yield search


def hnswlib_graph(vectors: Any) -> Iterator[float | Search]:
    """HNSW of hnswlib."""
    import hnswlib

    index = hnswlib.Index(space="ip", dim=vectors.shape[1])
    index.init_index(len(vectors), ef_construction=_BUILD, M=_LINKS, random_seed=1)
    index.set_num_threads(1)
    for start in range(0, len(vectors), _PART):
        part = vectors[start : start + _PART]
        index.add_items(part, np.arange(start, start + len(part)), num_threads=1)
        yield (start + _PART) / len(vectors)

    def search(queries: Any, breadth: int) -> Any:
        index.set_ef(breadth)
        return index.knn_query(queries, k=WANTED, num_threads=1)[0]

    yield search


def usearch_graph(vectors: Any) -> Iterator[float | Search]:
    """HNSW of usearch, full precision."""
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=_LINKS, expansion_add=_BUILD
    )
    for start in range(0, len(vectors), _PART):
        part = vectors[start : start + _PART]
        index.add(np.arange(start, start + len(part)), part, threads=1)
        yield (start + _PART) / len(vectors)

    def search(queries: Any, breadth: int) -> Any:
        index.expansion_search = breadth
        return index.search(queries, WANTED, threads=1).keys

    yield search


LIBRARIES: dict[str, tuple[Callable[[Any], Iterator[float | Search]], tuple[int, ...]]] = {
    "faiss-ivf": (faiss_lists, (8, 16, 32, 64, 128)),
    "faiss-hnsw": (faiss_graph, (200, 400, 800)),
    "hnswlib": (hnswlib_graph, (200, 400, 800)),
    "usearch": (usearch_graph, (200, 400, 800)),
}


def main() -> None:
    """Measure one library."""
    parser = argparse.ArgumentParser()
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("vectors")
    parser.add_argument("truth")
    parser.add_argument("--most", type=float, default=600, help="processor seconds to build")
    options = parser.parse_args()
    truth = np.load(options.truth)
    everything = np.load(options.vectors)
    vectors, queries = everything[: -len(truth)], everything[-len(truth) :]
    way, settings = LIBRARIES[options.library]
    before, started = _memory(), time.process_time()
    search: Search | None = None
    for step in way(vectors):
        took = time.process_time() - started
        if callable(step):
            search = step
        elif took > options.most and step < 1:
            print(json.dumps({"stopped": round(took, 1), "done": round(step, 3)}), flush=True)
            return
    assert search is not None
    built = {"build_s": round(time.process_time() - started, 1)}
    print(json.dumps({**built, "mib": round(_memory() - before)}), flush=True)
    for setting in settings:
        _measure(search, queries, truth, setting)


def _measure(search: Search, queries: Any, truth: Any, setting: int) -> None:
    search(queries[:10], setting)
    started = time.process_time()
    found = np.asarray(search(queries, setting))
    took = time.process_time() - started
    again = np.asarray(search(queries, setting))
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    line = {
        "setting": setting,
        "recall": round(hits / truth.size, 4),
        "queries_per_s": round(len(queries) / took, 1),
        "same_again": bool((found == again).all()),
    }
    print(json.dumps(line), flush=True)


def _memory() -> float:
    """Resident memory in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


if __name__ == "__main__":
    main()
