"""What a summary is worth where prompts are equally long.

    python -m benchmarks.protocols.budgets --data ../shared/data --out runs/budgets --limit 150

A summary cannot help where the history fits the prompt, so users of Games with 29 to 50 items
are asked, and every prompt may hold the same number of tokens: the newest titles alone, or a
summary of at most 64 tokens and the newest titles that fit beside it.  The language model is
untrained and asked for the text (``trec score --ask text``): so it ranks above chance, which it
does not where it is asked for yes or no.

``other`` gives every user the summary of the next one: what it gains is not about the user.
``nearest`` needs no language model: the titles of earlier items that are nearest to the three
newest.  What is there already is kept, so the command continues.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS, commit, machine
from benchmarks.protocols.stacked import trec
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.outputs import write_bytes, write_lines
from trec_cli.core.progress import Silent
from trec_cli.core.records import Example
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.source import ModelSource
from trec_cli.models.vector_store import VectorStore
from trec_cli.models.vectors import ItemVectors, VectorMaker, item_vectors

MADE = ("hier", "recurrent", "attention")
MODES = ("none", *MADE, "nearest", "other")
BUDGETS = {"64": 64, "128": 128, "256": 256, "all": 1024}
"""Tokens before the candidate, by name; 1,024 hold every title."""
_CANDIDATE = 64
_SHOWN = ("mrr@10", "ndcg@10", "auc")
_NEWEST = 3
_NEAREST = 6
_EMBEDDED = 2048


def prepare(run: Path, data: Path) -> None:
    """Make the questions, once."""
    if not (run / "examples.jsonl").is_file():
        sizes = ("--train-users", 640, "--valid-users", 200, "--test-users", 300)
        history = ("--min-history", 29, "--max-history", 50, "--long", "keep-last")
        trec("prepare", data / "games", "--out", run, *history, "--negatives", "uniform", *sizes)


def summarize(run: Path, model: Path, embedder: Path, limit: int) -> None:
    """Have the summaries written; those of every user that is asked."""
    for mode in MADE:
        file = run / f"summaries-{mode}.jsonl"
        if file.is_file() and sum(1 for _ in file.open()) >= limit:
            continue
        options: list[object] = ["--split", "test", "--limit", limit, "--dtype", "bfloat16"]
        if mode == "attention":
            options += ["--embedder", embedder]
        trec("summarize", run, "--mode", mode, "--model", model, "--overwrite", *options)


def write_own(run: Path, embedder: Path, limit: int) -> None:
    """Write the summaries that no language model makes for the user."""
    examples = [e for e in read_examples(run / "examples.jsonl") if e.split == "test"][:limit]
    written = {line["example_id"]: line["summary"] for line in _lines(run / "summaries-hier.jsonl")}
    others = [*examples[1:], examples[0]]
    _write(
        run,
        "other",
        {e.example_id: written[o.example_id] for e, o in zip(examples, others, strict=True)},
    )
    items = read_items(run / "items.jsonl")
    source = EmbedderSource.only(str(embedder), ModelSource(str(embedder)))
    wanted = {item for example in examples for item in example.history}
    with VectorStore(run / "generations.sqlite") as store:
        maker = VectorMaker(source, store, max_tokens=_EMBEDDED, progress=Silent())
        vectors = item_vectors(items, sorted(wanted), maker, ("title",))
    titles = {e.example_id: [items[i].title for i in nearest(e, vectors)] for e in examples}
    _write(run, "nearest", {name: "\n".join(found) for name, found in titles.items()})


def nearest(example: Example, vectors: ItemVectors) -> list[str]:
    """Return the earlier items nearest to the newest three, in the order they were taken."""
    earlier, newest = example.history[:-_NEWEST], example.history[-_NEWEST:]
    near = (vectors.of(earlier) @ vectors.of(newest).T).max(axis=1)
    places = sorted(near.argsort(kind="stable")[-_NEAREST:].tolist())
    return [earlier[place] for place in places]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def _write(run: Path, mode: str, summaries: Mapping[str, str]) -> None:
    rows = (json.dumps({"example_id": e, "summary": s}) for e, s in summaries.items())
    write_lines(run / f"summaries-{mode}.jsonl", (f"{row}\n".encode() for row in rows))


def score(run: Path, out: Path, model: Path, limit: int, modes: Sequence[str]) -> None:
    """Score every mode at every budget."""
    prompt = ("--ask", "text", "--recent", 50, "--attributes", "title", "--candidate-tokens")
    for name, budget in BUDGETS.items():
        for mode in modes:
            length = ("--max-length", budget + _CANDIDATE)
            common = ("--mode", mode, "--zero-shot", "--model", model, "--limit", limit)
            file = out / f"scores-{mode}-{name}.jsonl"
            trec(
                "score", run, *common, *prompt, _CANDIDATE, *length,
                "--dtype", "bfloat16", "--out", file,
            )  # fmt: skip
    for scorer in ("bm25", "blend"):
        file = out / f"scores-{scorer}.jsonl"
        trec("score", run, "--scorer", scorer, "--limit", limit, "--out", file)


def compare(run: Path, out: Path, modes: Sequence[str]) -> dict[str, Any]:
    """Compare at every budget with the newest titles alone."""
    found = {}
    for name in BUDGETS:
        systems = [f"{mode}-{name}" for mode in modes]
        files = [out / f"scores-{system}.jsonl" for system in (*systems, "bm25", "blend")]
        folder = out / f"eval-{name}"
        told = [word for file in files for word in ("--scores", file)]
        trec("eval", run, *told, "--reference", f"none-{name}", "--out", folder, "--no-audit")
        metrics = json.loads((folder / "metrics.json").read_bytes())
        found[name] = {
            "systems": {
                system: {m: row[m] for m in _SHOWN} for system, row in metrics["systems"].items()
            },
            "compared": [one for one in metrics["comparisons"] if one["metric"] in _SHOWN],
        }
    return found


def main() -> None:
    """Read the command line, and do every step that is left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/SmolLM2-135M-Instruct"))
    parser.add_argument("--embedder", type=Path, default=Path("models/all-MiniLM-L6-v2"))
    parser.add_argument("--limit", type=int, default=150, help="users asked")
    parser.add_argument(
        "--mode", action="append", choices=MODES, help="compared with none; all by default"
    )
    options = parser.parse_args()
    modes = ("none", *(m for m in options.mode if m != "none")) if options.mode else MODES
    run, out = options.out / "run", options.out / f"scores-{options.limit}"
    prepare(run, options.data)
    summarize(run, options.model, options.embedder, options.limit)
    write_own(run, options.embedder, options.limit)
    out.mkdir(exist_ok=True)
    score(run, out, options.model, options.limit, modes)
    result = {
        "budgets": compare(run, out, modes),
        "users": options.limit,
        "model": options.model.name,
        "commit": commit(),
        "machine": machine(),
    }
    write_bytes(RESULTS / "budgets.json", [json.dumps(result, indent=1).encode() + b"\n"])


if __name__ == "__main__":
    main()
