"""Retrieval from a large catalogue: users a second and memory, exact and approximate.

    python samples/click_log.py SHOP --items 100000 --users 100000 --clicks 2000000
    python -m benchmarks.retrieval_scale SHOP [--exact 2000 20000] [--users 2000 20000]

Learns from all users of the log, retrieves 200 candidates for some of them (the first ones, then
again and again: where there are more users than the log has), one thread, by processor time.
"""

import argparse
import csv
import json
import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, commit, machine
from trec_cli.core.records import Item
from trec_cli.retrieve.search import Retriever, Search, agreement
from trec_cli.retrieve.settings import RetrieveSettings
from trec_cli.signals.catalogue import EncodedCatalogue
from trec_cli.signals.histories import Events, Histories
from trec_cli.signals.learn import learn_shares, learn_signals

_PART = 500


def read_shop(folder: Path) -> tuple[dict[str, Item], list[list[str]]]:
    """Read items and every user's items in order of time."""
    with (folder / "items.csv").open(newline="", encoding="utf-8") as stream:
        items = {row.pop("item_id"): row for row in csv.DictReader(stream)}
    taken: defaultdict[str, list[str]] = defaultdict(list)
    with (folder / "clicks.csv").open(newline="", encoding="utf-8") as stream:
        rows = csv.reader(stream)
        next(rows)
        for user, item, _ in rows:  # the generator writes each user in order of time
            taken[user].append(item)
    return {name: Item(name, texts) for name, texts in items.items()}, list(taken.values())


def resident() -> int:
    """Return the resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 2**20)


def run(search: Search, asked: Histories, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Search for more and more users; yield rate and memory after each number of them."""
    done = 0
    for users in sizes:
        started = time.process_time()
        for start in range(done, users, _PART):
            first = start % max(1, len(asked) - _PART + 1)
            for _ in search.blocks(asked.block(first, first + min(_PART, users - start))):
                pass
        took = time.process_time() - started
        yield {"users": users, "users_per_s": round((users - done) / took, 1), "mib": resident()}
        done = users


def main() -> None:
    """Measure and keep."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("shop", type=Path)
    options.add_argument("--exact", type=int, nargs="+", default=[2000, 20_000])
    options.add_argument("--users", type=int, nargs="+", default=[2000, 20_000])
    given = options.parse_args()
    items, histories = read_shop(given.shop)
    started = time.process_time()
    catalogue = EncodedCatalogue.of(items)
    sequences = Histories.of((h[-50:] for h in histories), catalogue.rows)
    answers = Histories.of((h[-1:] for h in histories), catalogue.rows)
    events = Events([], sequences, answers, np.full(len(answers.items), np.nan))
    signals = {**learn_signals(catalogue, events), **learn_shares(events)}
    body: dict[str, Any] = {
        "name": "retrieval_scale",
        "machine": machine(),
        "commit": commit(),
        "items": len(items),
        "users_learnt_from": len(histories),
        "events": int(sequences.ends[-1]),
        "learning_s": round(time.process_time() - started, 1),
        "mib_before": resident(),
    }
    del histories
    wanted = RetrieveSettings(count=200, search="approximate")
    started = time.process_time()
    near = Retriever.of(items, catalogue, signals, wanted)
    body["index_s"] = round(time.process_time() - started, 1)
    exact = Retriever.of(items, catalogue, signals, RetrieveSettings(count=200, search="exact"))
    body["approximate"] = list(run(near, sequences, given.users))
    print(json.dumps(body), flush=True)
    body["exact"] = list(run(exact, sequences, given.exact))
    print(json.dumps(body), flush=True)
    sample = sequences.where(np.arange(len(sequences)) % (len(sequences) // 50) == 0)
    found = agreement(exact, near, sample)
    body["agreement"] = {"share": round(found.share, 4), "users": found.users}
    body["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(body, indent=1), flush=True)
    (RESULTS / "retrieval_scale.json").write_text(json.dumps(body, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
