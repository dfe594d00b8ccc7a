"""How time and memory of scoring grow with history, candidates and users.

    python -m benchmarks.growth --data DATA --model MODEL

Every point is a process of its own, so that its peak memory is its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from benchmarks.common import RESULTS, commit, machine, parser, prepared, real_prompts
from trec_cli.core.jsonl import encode, read_examples, read_items
from trec_cli.models.load import load_adapted
from trec_cli.models.log_odds import BranchScorer
from trec_cli.models.source import ModelSource
from trec_cli.prompts.recommend import PromptTree

HISTORY = (125, 250, 500, 1000, 2000, 4000)
CANDIDATES = (1, 100, 1000, 5000)
USERS = (4, 8, 16, 32)
TINY_USERS = (250, 1000)
MAX_TOKENS = 8192


@dataclass(frozen=True)
class Point:
    """One measurement: seconds of scoring, peak memory of the process in MiB."""

    size: int
    seconds: float
    mib: float


def one_tree(kind: str, size: int, data: Path, model: str) -> None:
    """Score one tree of the wanted size and print its seconds (in a process of its own)."""
    prompts = real_prompts("mind", data, model, prefix=300, users=1)
    tree = grown(kind, size, prompts.trees[0])
    llm = load_adapted(ModelSource(model), None, pack=True)
    scorer = BranchScorer(llm.model, prompts.builder.answers, MAX_TOKENS)
    scorer([PromptTree(tree.prefix[:50], tree.branches[:2])])
    started = time.perf_counter()
    scores = scorer([tree])[0]
    seconds = time.perf_counter() - started
    assert len(scores) == len(tree.branches)
    print(json.dumps({"seconds": seconds}), flush=True)


def grown(kind: str, size: int, tree: PromptTree) -> PromptTree:
    """Make a real tree as long or as wide as wanted, by repeating its own tokens.

    Repeated branches get a first token of their own: equal branches are computed once.
    """
    if kind == "history":
        times = size // len(tree.prefix) + 1
        return PromptTree((tree.prefix * times)[:size], tree.branches)
    branches = [tree.branches[place % len(tree.branches)] for place in range(size)]
    return PromptTree(tree.prefix, [[1000 + n, *b[1:]] for n, b in enumerate(branches)])


def measured(command: list[str]) -> tuple[str, float, float]:
    """Run a command; give its output, seconds and peak memory in MiB.

    Raises:
        SystemExit: it failed.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        out.seek(0)
        return out.read(), time.perf_counter() - started, usage.ru_maxrss / 1024


def tree_point(kind: str, size: int, options: Any) -> Point:
    """Measure one tree in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.growth", "--point", f"{kind}:{size}"]
    out, _, mib = measured([*command, "--data", str(options.data), "--model", options.model])
    return Point(size, json.loads(out.splitlines()[-1])["seconds"], mib)


def users_point(run: Path, model: str, users: int) -> Point:
    """Measure ``trec score`` over some users, start and loading included."""
    command = [sys.executable, "-m", "trec_cli", "score", str(run), "--mode", "none", "--quiet"]
    scores = str(run / f"scores-{users}.jsonl")
    more = ["--model", model, "--limit", str(users), "--overwrite", "--out", scores]
    _, seconds, mib = measured([*command, *more])
    return Point(users, seconds, mib)


def many_users(run: Path, users: int) -> None:
    """Repeat the test examples of a run under new names until there are ``users``."""
    items = read_items(run / "items.jsonl")
    examples = [e for e in read_examples(run / "examples.jsonl", items) if e.split == "test"]
    with (run / "examples.jsonl").open("wb") as file:
        for number in range(users):
            example = examples[number % len(examples)]
            name = f"user-{number}"
            file.write(encode(msgspec.structs.replace(example, example_id=name, user_id=name)))


def all_points(options: Any) -> dict[str, list[Point]]:
    """Measure everything."""
    points: dict[str, list[Point]] = {}
    for kind, sizes in (("history", HISTORY), ("candidates", CANDIDATES)):
        if options.only in (None, kind):
            points[kind] = [_said(kind, tree_point(kind, size, options)) for size in sizes]
    if options.only not in (None, "users"):
        return points
    run = prepared("mind", options.data)
    points["users"] = [_said("users", users_point(run, options.model, n)) for n in USERS]
    tiny = tempfile.mkdtemp(prefix="bench-tiny-")
    subprocess.run([sys.executable, "samples/tiny_model.py", tiny], check=True)
    many_users(run, max(TINY_USERS))
    points["users, tiny model"] = [_said("tiny", users_point(run, tiny, n)) for n in TINY_USERS]
    return points


def _said(kind: str, point: Point) -> Point:
    print(f"{kind} {point.size}: {point.seconds:.2f} s, {point.mib:.0f} MiB", flush=True)
    return point


def main() -> None:
    """Measure one point (in a child process) or all of them."""
    options = parser(__doc__ or "")
    options.add_argument("--point", help="for the child processes: KIND:SIZE")
    options.add_argument("--only", help="history, candidates or users; the others stay as they are")
    given = options.parse_args()
    if given.point:
        kind, size = given.point.split(":")
        one_tree(kind, int(size), given.data, given.model)
        return
    points = all_points(given)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "growth.json"
    body = {
        "name": "growth",
        "unit": "s, MiB",
        "machine": machine(),
        "commit": commit(),
        "threads": torch.get_num_threads(),
        "max_tokens": MAX_TOKENS,
        "points": {
            **(json.loads(path.read_text("utf-8"))["points"] if path.is_file() else {}),
            **{kind: [vars(p) for p in found] for kind, found in points.items()},
        },
    }
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
