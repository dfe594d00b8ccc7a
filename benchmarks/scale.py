"""Big inputs: time and memory of ``trec prepare``, and memory over the number of users.

    python -m benchmarks.scale prepare KIND FOLDER [--share 0.1]
    python -m benchmarks.scale users [--sizes 1000 100000] [--stages score eval summarize train]

``prepare`` writes a collection of :mod:`benchmarks.big_inputs` into FOLDER, unless it is there,
and prepares it with both engines; of Amazon's reviews pandas does the join in the same run.
``users`` runs the stages on made-up users, each in a process of its own.  Seconds are of the
processor (user and system), which other work on the machine lengthens least; memory is the peak
of the whole process tree.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.big_inputs import WRITERS
from benchmarks.common import RESULTS, commit, machine
from benchmarks.watched import Watched, watch
from trec_cli.core.manifest import file_hash

TREC = [sys.executable, "-m", "trec_cli"]
_ITEMS = 2_000
_HISTORY, _CANDIDATES = 20, 21


def keep(name: str, what: str, rows: Mapping[str, Watched], more: Mapping[str, Any]) -> None:
    """Add measurements to a result file; those of earlier calls stay."""
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text("utf-8"))["rows"] if path.is_file() else {}
    body = {
        "name": name,
        "what": what,
        "machine": machine(),
        "rows": before
        | {row: {**asdict(each), **more, "commit": commit()} for row, each in rows.items()},
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    for row, each in rows.items():
        print(row, each, flush=True)


def prepare(kind: str, folder: Path, share: float, sides: Sequence[str]) -> None:
    """Prepare a collection with every side, and compare what both engines write."""
    if kind != "amazon" and "pandas" in sides:
        raise SystemExit("pandas joins the reviews of Amazon alone")
    source = folder / f"{kind}-{share:g}"
    if not (source / "done").exists():
        WRITERS[kind](source, share, 0)
        (source / "done").touch()
    size = sum(file.stat().st_size for file in source.rglob("*") if file.is_file())
    for side in sides:
        out = folder / f"{kind}-{share:g}-{side}"
        command = [*TREC, "prepare", str(source), "--out", str(out), "--quiet", "--overwrite"]
        if side == "pandas":
            command = [sys.executable, "-m", "benchmarks.big_pandas", str(source), str(out)]
        else:
            command += ["--engine", side]
        row = {f"{kind}, {share:g} of the size: {side}": watch(command)}
        keep("scale_prepare", "trec prepare on big inputs", row, {"input_mb": round(size / 1e6)})
    written = {(folder / f"{kind}-{share:g}-{s}" / "examples.jsonl") for s in sides} - {
        folder / f"{kind}-{share:g}-pandas" / "examples.jsonl"
    }
    assert len(set(map(file_hash, written))) <= 1, "the engines differ"


def write_run(run: Path, users: int) -> None:
    """Write a run folder: as many users in split test, and a tenth as many that train."""
    random = np.random.default_rng(0)
    run.mkdir(parents=True)
    with (run / "items.jsonl").open("w", encoding="utf-8") as stream:
        for item in range(_ITEMS):
            stream.write(json.dumps({"item_id": f"i{item}", "title": f"thing {item % 97}"}) + "\n")
    with (run / "examples.jsonl").open("w", encoding="utf-8") as stream:
        for user in range(users):
            drawn = random.choice(_ITEMS, _HISTORY + _CANDIDATES, replace=False).tolist()
            names = [f"i{item}" for item in drawn]
            candidates = names[_HISTORY:]
            stream.write(
                json.dumps(
                    {
                        "example_id": f"u{user}",
                        "user_id": f"u{user}",
                        "split": "train" if user % 10 == 0 else "test",
                        "history": names[:_HISTORY],
                        "candidates": candidates,
                        "positives": candidates[:1],
                    }
                )
                + "\n"
            )


def stage_command(stage: str, run: Path, model: str) -> list[str]:
    """Return the command that is watched."""
    return {
        "score": ["score", str(run), "--scorer", "random", "--quiet"],
        "score-popularity": ["score", str(run), "--scorer", "popularity", "--quiet"],
        "eval": ["eval", str(run), "--no-audit", "--quiet"],
        "score-llm": ["score", str(run), "--mode", "none", "--model", model, "--zero-shot"],
        "summarize": ["summarize", str(run), "--mode", "none", "--quiet"],
        "train": ["train", str(run), "--mode", "none", "--model", model, "--epochs", "1"],
    }[stage]


def users(sizes: Sequence[int], stages: Sequence[str]) -> None:
    """Run the stages on few and on many users."""
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        model = str(Path(folder) / "tiny")
        subprocess.run([sys.executable, "samples/tiny_model.py", model], check=True)
        for size in sizes:
            run = Path(folder) / f"run-{size}"
            write_run(run, size)
            for stage in stages:
                row = watch([*TREC, *stage_command(stage, run, model)])
                keep("scale_users", "memory over users", {f"{stage}: {size:,} users": row}, {})


def main() -> None:
    """Measure what was asked for."""
    made = argparse.ArgumentParser(description=__doc__)
    which = made.add_subparsers(dest="which", required=True)
    one = which.add_parser("prepare")
    one.add_argument("kind", choices=sorted(WRITERS))
    one.add_argument("folder", type=Path)
    one.add_argument("--share", type=float, default=1.0)
    one.add_argument("--sides", nargs="+", default=["disk"])
    other = which.add_parser("users")
    other.add_argument("--sizes", nargs="+", type=int, default=[1_000, 100_000])
    other.add_argument("--stages", nargs="+", default=["score", "summarize"])
    asked = made.parse_args()
    if asked.which == "prepare":
        prepare(asked.kind, asked.folder, asked.share, asked.sides)
    else:
        users(asked.sizes, asked.stages)


if __name__ == "__main__":
    main()
