"""Write results of :mod:`benchmarks.quality.run` with paired differences as one JSON file.

python -m benchmarks.quality.report OUT --folder PACKED --result NAME.json
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality import published

ROOT = Path(__file__).parents[2]
PUBLISHED = {
    "SASRec": 0.0806,
    "HSTU": 0.0958,
    "BIGRec": 0.0997,
    "S-DPO": 0.1082,
    "MiniOneRec": 0.1167,
}


def reference(arm: dict[str, Any]) -> str:
    """Name the blend without trained arms, of the same cut and knowledge."""
    kind = "" if arm["more"] else "strict_"
    return f"{arm['cut']}_{kind if arm.get('answers', True) else 'published_'}blend"


def lines(out: Path, data: published.Published) -> list[dict[str, Any]]:
    """Return every arm with its paired differences to the blend, where that was run."""
    gains = dict(np.load(out / "gains.npz"))
    found = []
    for line in (out / "results.jsonl").read_text().splitlines():
        arm = json.loads(line)
        base = reference(arm)
        users = [q.user for q in data.at(arm["cut"], more=arm["more"]).questions]
        if base in gains and arm["name"] != base:
            paired = (gains[arm["name"]] - gains[base]).astype(float)
            arm["to_blend"] = {
                "ndcg@10": published.interval(paired[0], users),
                "hr@10": published.interval(paired[1], users),
            }
        found.append(arm)
    return found


def main() -> None:
    """Read the command line, write the file and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--result", required=True)
    options = parser.parse_args()
    found = lines(options.out, published.load(options.folder / "data"))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout.strip()
    content = {"commit": commit, "published_ndcg@10": PUBLISHED, "arms": found}
    target = ROOT / "benchmarks" / "results" / options.result
    target.write_text(json.dumps(content, indent=1) + "\n")
    for arm in found:
        base = arm.get("to_blend", {}).get("ndcg@10", "")
        print(arm["name"], arm["ndcg@10"], arm["hr@10"], base, arm["processor_seconds"])


if __name__ == "__main__":
    main()
