"""Write tests/evaluate/peer_metrics.json: a small input, and what RecTools and LensKit say of it.

They do not fit beside our pins, so they run in an environment of their own, once:

    python -m venv peers
    peers/bin/pip install rectools==0.19.0 lenskit==2025.8.1 scikit-learn "pyarrow<21"
    peers/bin/python benchmarks/peers/metrics.py

Gini is LensKit's, all else RecTools'; distances of texts are cosines of scikit-learn's TF-IDF.
"""

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).resolve().parents[2] / "tests" / "evaluate" / "peer_metrics.json"
ITEMS, USERS, TRAIN_USERS, LISTED = 30, 12, 25, 15
KS = (3, 5, 10)


def make_input(seed: int = 20) -> dict[str, Any]:
    """Draw texts, training histories and scored lists; scores of a list are all different."""
    random = np.random.default_rng(seed)
    words = [f"word{letter}" for letter in "abcdefghijkl"]
    ids = [f"i{n}" for n in range(ITEMS)]
    texts = {item: " ".join(random.choice(words, random.integers(2, 7))) for item in ids}
    popular = np.arange(1, ITEMS + 1) ** -0.7
    train = {
        f"t{n}": random.choice(
            ids, random.integers(2, 9), replace=False, p=popular / popular.sum()
        ).tolist()
        for n in range(TRAIN_USERS)
    }
    lists = []
    for n in range(USERS):
        listed = random.choice(ids, LISTED, replace=False).tolist()
        right = random.choice(listed, random.integers(1, 5), replace=False).tolist()
        scores = random.permutation(LISTED).astype(float).tolist()
        lists.append({"user": f"u{n}", "items": listed, "scores": scores, "right": right})
    return {"texts": texts, "train": train, "lists": lists}


def ask_peers(given: dict[str, Any]) -> dict[str, float]:
    """Return every metric by name."""
    import pandas as pd
    from lenskit.data import Dataset  # noqa: F401 - lenskit.stats alone imports itself
    from lenskit.stats import gini
    from rectools import metrics as peer
    from rectools.metrics.distances import PairwiseDistanceCalculator
    from sklearn.feature_extraction.text import TfidfVectorizer

    ids = list(given["texts"])
    vectors = TfidfVectorizer().fit_transform(given["texts"].values()).toarray()
    number = {item: row for row, item in enumerate(ids)}

    class Cosine(PairwiseDistanceCalculator):  # type: ignore[misc]
        def _get_distances_for_item_pairs(self, first: Any, second: Any) -> Any:
            rows = ([number[item] for item in part] for part in (first, second))
            one, other = (vectors[part] for part in rows)
            return 1 - (one * other).sum(axis=1)

    rows, right = [], []
    for entry in given["lists"]:
        order = np.argsort(-np.array(entry["scores"]))
        rows += [(entry["user"], entry["items"][at], n) for n, at in enumerate(order, 1)]
        right += [(entry["user"], item) for item in entry["right"]]
    recommended = pd.DataFrame(rows, columns=["user_id", "item_id", "rank"])
    interactions = pd.DataFrame(right, columns=["user_id", "item_id"])
    before = pd.DataFrame(
        [(user, item) for user, items in given["train"].items() for item in items],
        columns=["user_id", "item_id"],
    )
    found: dict[str, float] = {}
    for k in KS:
        accuracy = {
            "hit": peer.HitRate(k), "precision": peer.Precision(k), "recall": peer.Recall(k),
            "map": peer.MAP(k), "mrr": peer.MRR(k),
        }  # fmt: skip
        for name, metric in accuracy.items():
            found[f"{name}@{k}"] = float(metric.calc(recommended, interactions))
        covered = peer.CatalogCoverage(k, normalize=True).calc(recommended, catalog=ids)
        found[f"coverage@{k}"] = float(covered)
        found[f"novelty@{k}"] = float(peer.MeanInvUserFreq(k).calc(recommended, before))
        spread = peer.IntraListDiversity(k, Cosine()).calc(recommended)
        found[f"diversity@{k}"] = float(spread)
        top = recommended[recommended["rank"] <= k]["item_id"].value_counts()
        found[f"gini@{k}"] = float(gini([float(top.get(item, 0)) for item in ids]))
    return found


def main() -> None:
    """Write the file."""
    given = make_input()
    names = ("rectools", "lenskit", "scikit-learn", "numpy")
    made = {name: metadata.version(name) for name in names}
    content = {"versions": made, **given, "metrics": ask_peers(given)}
    OUT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {OUT}\n")


if __name__ == "__main__":
    main()
