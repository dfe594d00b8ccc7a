"""Write docs/table.svg: the table of ``trec eval`` as a terminal shows it.

trec prepare samples/shop --out runs/shop
for s in blend bm25 popularity random; do trec score runs/shop --scorer $s; done
trec eval runs/shop
python scripts/table_picture.py runs/shop
"""

import io
import sys
from pathlib import Path

from rich.console import Console

from trec_cli.evaluate.outputs import read_summary
from trec_cli.evaluate.tables import terminal_table

OUT = Path(__file__).resolve().parents[1] / "docs" / "table.svg"
WIDTH = 124


def main(run: str) -> None:
    """Draw the table of a finished evaluation."""
    console = Console(record=True, width=WIDTH, highlight=False, file=io.StringIO())
    console.print(f"$ trec eval {run}")
    console.print(terminal_table(read_summary(Path(run))))
    console.save_svg(str(OUT), title="trec eval")


if __name__ == "__main__":
    main(sys.argv[1])
