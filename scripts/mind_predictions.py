"""Write the file that MIND's leaderboard takes from scores of its test part.

    trec prepare MINDlarge_test.zip --target impression --min-history 0 --out runs/test
    trec score runs/test --split predict --scorer bm25
    python scripts/mind_predictions.py MINDlarge_test.zip \\
        runs/test/scores-bm25-predict.jsonl prediction.txt
"""

import argparse
import sys
from pathlib import Path

from trec_cli.core.errors import TrecError
from trec_cli.evaluate.mind import write_predictions


def main(arguments: list[str] | None = None) -> int:
    """Run the script; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("behaviors", type=Path, help="behaviors.tsv, its folder or its .zip")
    parser.add_argument("scores", type=Path, help="scores of split predict")
    parser.add_argument("out", type=Path, help="prediction.txt")
    parser.add_argument("--seed", type=int, default=0, help="decides between equal scores")
    given = parser.parse_args(arguments)
    try:
        asked, unknown = write_predictions(given.behaviors, given.scores, given.out, given.seed)
    except TrecError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    note = f"; {unknown} without scores are in random order" if unknown else ""
    print(f"wrote {given.out}: {asked} impressions{note}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
