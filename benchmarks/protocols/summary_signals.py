"""What summaries add to the blend as signals: their words and their vector, weighed on valid.

    python -m benchmarks.protocols.summary_signals RUN --out OUT --model MODEL --embedder NAME
        [--mode hier] [--dtype int8] [--limit 405] [--on blend]

RUN is a prepared folder.  Users of split valid and of split test get summaries; every
candidate is scored with nothing but the summary as query, by BM25 and by the cosine of
sentence vectors, and for comparison with the newest titles cut to as many tokens.
``trec score --scorer stack`` weighs each pair against the blend (or the system that ``--on``
names, whose scores lie in OUT) on split valid, and ``trec eval`` compares the sums with it on
split test.  What is there already is kept, so the command continues.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.protocols.stacked import trec
from benchmarks.summary_quality import (
    Data,
    Tokens,
    bm25_scores,
    embedder,
    embedding_scores,
    load,
    rival_texts,
)
from trec_cli.core.jsonl import encode
from trec_cli.core.outputs import write_lines
from trec_cli.core.records import Scores

SPLITS = {"valid": "-valid", "test": ""}
WAYS = ("bm25", "vector")


def keep(file: Path, data: Data, scores: Sequence[Sequence[float]]) -> None:
    """Write a file of scores as ``trec score`` would."""
    lines = (
        Scores(
            example_id=example.example_id,
            user_id=example.user_id,
            split=example.split,
            candidates=example.candidates,
            scores=list(row),
            positives=example.positives,
        )
        for example, row in zip(data.examples, scores, strict=True)
    )
    write_lines(file, map(encode, lines))


def queries(data: Data, texts: Sequence[str], tokens: Tokens) -> Mapping[str, Sequence[str]]:
    """Return what is asked with: the summaries, and newest titles of as many tokens."""
    return {"summary": texts, "titles": rival_texts(data, texts, tokens)["titles"]}


def score(run: Path, out: Path, split: str, options: argparse.Namespace) -> None:
    """Summarize the users of a split and score by each query."""
    summaries = out / f"summaries-{options.mode}-{split}.jsonl"
    limit = ["--limit", options.limit] if split == "test" else []
    trec(
        *("summarize", run, "--mode", options.mode, "--split", split, "--out", summaries),
        *("--model", options.model, "--dtype", options.dtype, *limit),
        *("--store", out.parent / "texts.sqlite"),
    )
    data, read = load(run, {"summary": summaries}, [split])
    texts = [read["summary"][example.example_id].summary for example in data.examples]
    tokens = Tokens(options.model)
    with embedder(options.embedder) as maker:
        for name, asked in queries(data, texts, tokens).items():
            made = {
                "bm25": bm25_scores(data, asked),
                "vector": embedding_scores(maker, data, asked),
            }
            for way, found in made.items():
                keep(out / f"scores-{name}-{way}{SPLITS[split]}.jsonl", data, found)


def main() -> None:
    """Read the command line, summarize, score, stack and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", required=True, help="writes the summaries")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--mode", default="hier")
    parser.add_argument("--dtype", default="int8")
    parser.add_argument("--limit", type=int, default=405, help="users of split test")
    parser.add_argument("--on", default="blend", help="system that is added to")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    for split, behind in SPLITS.items():
        if options.on == "blend":
            file = out / f"scores-blend{behind}.jsonl"
            trec("score", options.run, "--split", split, "--out", file, "--scorer", "blend")
        score(options.run, out, split, options)
    base = out / f"scores-{options.on}.jsonl"
    compared = [base]
    for name in ("summary", "titles"):
        files = [out / f"scores-{name}-{way}.jsonl" for way in WAYS]
        stack = out / f"scores-{options.on}-{name}.jsonl"
        joined = ",".join(map(str, [base, *files]))
        limit = ["--limit", options.limit]
        trec("score", options.run, "--scorer", "stack", "--stack", joined, "--out", stack, *limit)
        compared += [*files, stack]
    told = [argument for file in compared for argument in ("--scores", file)]
    for column in ("recall@5", "mrr@10", "ndcg@10", "auc"):
        told += ["--column", column]
    told += ["--reference", options.on, "--common", "--no-audit", "--out", out / "eval"]
    trec("eval", options.run, *told)


if __name__ == "__main__":
    main()
