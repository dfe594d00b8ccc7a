"""What sequence models over text vectors add to the blend, weighed on split valid.

    python -m benchmarks.protocols.stacked SETTING --out runs/protocols --embedder NAME [--name llm]

SETTING is one of the studies beside this file; its prepared questions are taken from
``OUT/SETTING/work``.  The blend and one sequence model per seed score split valid and split
test, ``trec score --scorer stack`` weighs them on split valid, and ``trec eval`` compares the
sum with the blend on split test.  What is there already is kept, so the command continues.
"""

import argparse
import subprocess
import sys
from pathlib import Path

SPLITS = {"valid": "-valid", "test": ""}


def trec(*arguments: object) -> None:
    """Run a command of trec; its words go where ours go."""
    command = [sys.executable, "-m", "trec_cli", *map(str, arguments)]
    print("$ trec", *command[3:], flush=True)
    subprocess.run(command, check=True)


def score(run: Path, out: Path, name: str, *options: object) -> None:
    """Score both splits into ``out``."""
    for split, behind in SPLITS.items():
        file = out / f"scores-{name}{behind}.jsonl"
        trec("score", run, "--split", split, "--out", file, *options)


def main() -> None:
    """Read the command line, score, stack and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("setting")
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies")
    parser.add_argument("--embedder", required=True)
    parser.add_argument("--attributes", help="to embed; all by default")
    parser.add_argument("--name", default="llm", help="of the vectors, in names of systems")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    (run,) = (options.out / options.setting / "work").glob("prepare-*")
    out = options.out / options.setting / "stacked"
    out.mkdir(exist_ok=True)
    score(run, out, "blend", "--scorer", "blend")
    embedding = ["--embedder", options.embedder, "--store", out / "vectors.sqlite"]
    if options.attributes:
        embedding += ["--attributes", options.attributes]
    names = [f"sequence-{options.name}-{seed}" for seed in range(options.seeds)]
    for seed, name in enumerate(names):
        folder = out / name  # a model lies beside its scores, and is another for each seed
        folder.mkdir(exist_ok=True)
        score(run, folder, name, "--scorer", "sequence", "--ids", "--seed", seed, *embedding)
    files = [out / "scores-blend.jsonl", *(out / name / f"scores-{name}.jsonl" for name in names)]
    stack = out / f"scores-stack-{options.name}.jsonl"
    trec("score", run, "--scorer", "stack", "--stack", ",".join(map(str, files)), "--out", stack)
    compared = [argument for file in [*files, stack] for argument in ("--scores", file)]
    columns = ("recall@5", "mrr@10", "ndcg@10", "auc")
    told = [argument for column in columns for argument in ("--column", column)]
    result = out / f"eval-{options.name}"
    trec("eval", run, *compared, *told, "--reference", "blend", "--out", result, "--no-audit")


if __name__ == "__main__":
    main()
