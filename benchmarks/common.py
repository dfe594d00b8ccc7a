"""What all benchmarks share: real prompts, alternating measurement, and the result files.

A benchmark measures ours and its peers side by side, in turns, in one run, and compares
medians: a machine that is slower today is slower for both.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.models.load import load_config, load_tokenizer, max_positions
from trec_cli.models.source import ModelSource
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder, PromptTree
from trec_cli.prompts.settings import PromptSettings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
ATTRIBUTES = {
    "mind": ("category", "subcategory", "title"),
    "industrial": ("title", "brand"),
    "games": ("title",),
}


@dataclass(frozen=True)
class Measured:
    """One comparison, as it is kept.

    Attributes:
        name: what was compared; also the file's name.
        ours, peer: medians.
        unit: of ``ours`` and ``peer``.
        ratio: how many times better ours is.
        target: the ratio that was aimed at; None where there was none.
        what: one sentence for the reader: what ours and the peer are.
        runs: every single measurement, by side.
        machine, commit: where and of which code.
        more: further figures.
    """

    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    what: str
    runs: Mapping[str, Sequence[float]]
    machine: str
    commit: str
    target: float | None = None
    more: Mapping[str, Any] | None = None


def compare(
    name: str,
    runs: Mapping[str, Sequence[float]],
    *,
    peer: str,
    unit: str,
    what: str,
    target: float | None = None,
    more_is_better: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Measured:
    """Compare the medians of ``runs["ours"]`` and ``runs[peer]`` and write the result file."""
    ours, other = statistics.median(runs["ours"]), statistics.median(runs[peer])
    ratio = ours / other if more_is_better else other / ours
    both = {side: [round(value, 4) for value in runs[side]] for side in ("ours", peer)}
    measured = Measured(
        name=name,
        ours=round(ours, 4),
        peer=round(other, 4),
        unit=unit,
        ratio=round(ratio, 2),
        what=what,
        runs=both,
        machine=machine(),
        commit=commit(),
        target=target,
        more=more,
    )
    write(measured)
    return measured


def write(measured: Measured) -> None:
    """Keep a result in ``benchmarks/results/NAME.json`` and say it."""
    RESULTS.mkdir(exist_ok=True)
    body = json.dumps(asdict(measured), indent=1, ensure_ascii=False)
    (RESULTS / f"{measured.name}.json").write_text(body + "\n", encoding="utf-8")
    goal = f" (target {measured.target})" if measured.target else ""
    print(
        f"{measured.name}: ours {measured.ours} against {measured.peer} {measured.unit}, "
        f"ratio {measured.ratio}{goal}",
        flush=True,
    )


def machine() -> str:
    """Name the processor (or GPU), the threads and the versions."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu}, {torch.get_num_threads()} threads, {memory:.0f} GiB{gpu}, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )


def commit() -> str:
    """Return the short hash of the code, with ``+`` where files were changed since."""
    code = ["--", "trec_cli", "benchmarks/*.py"]
    short = _git("rev-parse", "--short", "HEAD")
    return short + ("+" if _git("status", "--porcelain", *code) else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def in_turns(
    ways: Mapping[str, Callable[[int], object]], rounds: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Time every way once a round, one after another; give seconds by way.

    Args:
        ways: called with the number of the round; one that returns a float has timed itself.
        rounds: how often.
        warm_up: call the first way once before, untimed.
    """
    if warm_up:
        next(iter(ways.values()))(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            own = way(round_)
            took = own if isinstance(own, float) else time.perf_counter() - started
            seconds[name].append(took)
            print(f"  round {round_ + 1} {name}: {seconds[name][-1]:.2f} s", flush=True)
    return seconds


def parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--data", type=Path, required=True, help="folder with mind/ and industrial/")
    made.add_argument("--model", required=True, help="a folder or a Hugging Face name")
    made.add_argument("--rounds", type=int, default=3)
    return made


def prepared(collection: str, data: Path, *arguments: str) -> Path:
    """Run ``trec prepare`` on a collection into a folder of its own; give the folder."""
    run = Path(tempfile.mkdtemp(prefix=f"bench-{collection}-"))
    by_collection = {
        "mind": ("--target", "history"),
        "industrial": ("--min-history", "5"),
        "games": ("--min-history", "10"),
    }
    long = ("--max-history", "100")
    trec = [sys.executable, "-m", "trec_cli"]
    command = [*trec, "prepare", str(data / collection), "--out", str(run), "--quiet"]
    subprocess.run([*command, *by_collection[collection], *long, *arguments], check=True)
    return run


class Peer:
    """Another library in a process and an environment of its own, asked line by line."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Take the running process, with pipes to its stdin and stdout."""
        assert process.stdin
        assert process.stdout
        self._stdin, self._stdout = process.stdin, process.stdout

    def ask(self, question: Mapping[str, Any]) -> Any:
        """Send one JSON line, read one; other lines of its output are passed over."""
        self._stdin.write(json.dumps(question) + "\n")
        self._stdin.flush()
        for line in self._stdout:
            if line.startswith('{"'):
                return json.loads(line)
        raise SystemExit("the peer's process has ended; its messages are above")


@contextmanager
def peer(python: str, script: str, *arguments: str) -> Iterator[Peer]:
    """Run ``benchmarks/peers/SCRIPT`` by another Python while the block runs."""
    command = [python, str(Path(__file__).parent / "peers" / script), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Peer(process)
        finally:
            if process.stdin:
                process.stdin.close()
            process.wait(60)


@dataclass
class Prompts:
    """Real prompts of one collection, with prefixes of one length."""

    builder: PromptBuilder
    trees: list[PromptTree]
    questions: list[SummarizedExample]


def real_prompts(collection: str, data: Path, model: str, *, prefix: int, users: int) -> Prompts:
    """Build the prompts of test users whose prefix is cut to (nearly) ``prefix`` tokens.

    The prompt is the product's own, with as many recent items as it takes; there is no
    summary.  Users with too short a history are passed over.
    """
    run = prepared(collection, data)
    items = read_items(run / "items.jsonl")
    source = ModelSource(model)
    settings = PromptSettings(
        recent=100,
        max_length=prefix + 512,
        candidate_tokens=512,
        attributes=ATTRIBUTES[collection],
    )
    positions = max_positions(load_config(source))
    builder = PromptBuilder(load_tokenizer(source), items, settings, max_positions=positions)
    found = Prompts(builder, [], [])
    for example in read_examples(run / "examples.jsonl", items):
        if example.split != "test":
            continue
        tree = builder.tree(example.history, "", example.candidates, example=example.example_id)
        if len(tree.prefix) > prefix * 0.97:
            found.trees.append(tree)
            found.questions.append(SummarizedExample(example, ""))
        if len(found.trees) == users:
            return found
    raise SystemExit(f"only {len(found.trees)} users of {collection} have {prefix} tokens")


def about(trees: Sequence[PromptTree]) -> dict[str, float]:
    """Describe prompts: users, mean prefix tokens, candidates and branch tokens."""
    branches = [len(branch) for tree in trees for branch in tree.branches]
    return {
        "users": len(trees),
        "prefix_tokens": round(statistics.mean(len(tree.prefix) for tree in trees), 1),
        "candidates": round(statistics.mean(len(tree.branches) for tree in trees), 1),
        "branch_tokens": round(statistics.mean(branches), 1),
    }
