"""Seconds and memory of ``trec score --scorer blend`` on 100,000 items and 10,000 users.

    python -m benchmarks.blend_scale FOLDER [--items 100000 --users 10000 --candidates 100]

Items and clicks come from samples/click_log.py (seed 0): as many users again are learnt from.
Every command is a process of its own; what it cost is what the system says of it at its end.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, ROOT, commit, machine

_CLICKS = 20
"""Of a user on average."""


def measured(command: Sequence[object]) -> dict[str, float]:
    """Run a command; return seconds, processor seconds and peak memory in MiB.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
    }


def prepare(folder: Path, items: int, users: int, candidates: int) -> Path:
    """Write a run of so many items, test users and candidates, once."""
    run = folder / "run"
    if not (run / "examples.jsonl").exists():
        everyone = users * 12 // 5  # some have too short a history
        sizes = ["--items", items, "--users", everyone, "--clicks", everyone * _CLICKS]
        measured(["samples/click_log.py", folder / "log", *sizes])
        splits = ["--train-users", users, "--valid-users", users // 10, "--test-users", users]
        drawn = ["--negatives", "uniform", "--num-negatives", candidates - 1]
        measured(["-m", "trec_cli", "prepare", folder / "log", "--out", run, *splits, *drawn])
    return run


def main() -> None:
    """Measure and write the result file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--scorers", nargs="+", default=["bm25", "blend"])
    parser.add_argument("--out", type=Path, default=RESULTS / "blend_scale.json")
    options = parser.parse_args()
    run = prepare(options.folder, options.items, options.users, options.candidates)
    found: dict[str, Any] = {}
    for scorer in options.scorers:
        score = ["-m", "trec_cli", "score", run, "--scorer", scorer, "--quiet"]
        found[scorer] = measured([*score, "--overwrite"])
        if scorer == "blend":
            found["blend, learnt before"] = measured([*score, "--name", "again", "--overwrite"])
        print(scorer, found[scorer], flush=True)
    sizes = {name: getattr(options, name) for name in ("items", "users", "candidates")}
    content = {**sizes, "scorers": found, "machine": machine(), "commit": commit()}
    options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
