"""The join of ``trec prepare`` on Amazon's reviews, as a notebook does it with pandas.

    python -m benchmarks.big_pandas FOLDER OUT

Reviews and metadata are read in chunks and kept in memory; a user's last item is the target,
the 50 before it are the history.  It draws no negatives, splits nothing and checks nothing.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.optional import needed

pd: Any = needed("pandas", "pandas")
_CHUNK = 200_000
_TEXTS = ["title", "main_category", "store", "categories", "price", "features", "description"]


def read(path: Path, columns: list[str]) -> Any:
    """Read some columns of a file of JSON lines."""
    chunks = pd.read_json(path, lines=True, chunksize=_CHUNK)
    return pd.concat([chunk[columns] for chunk in chunks], ignore_index=True)


def prepare(folder: Path, out: Path) -> None:
    """Write items.jsonl and examples.jsonl."""
    (meta,) = folder.glob("meta_*.jsonl")
    events = read(folder / meta.name.removeprefix("meta_"), ["user_id", "parent_asin", "timestamp"])
    events = events.drop_duplicates().sort_values(["user_id", "timestamp"], kind="stable")
    items = read(meta, ["parent_asin", *_TEXTS])
    items = items[items.parent_asin.isin(events.parent_asin.unique())]
    events = events[events.parent_asin.isin(items.parent_asin)]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "examples.jsonl").open("w", encoding="utf-8") as stream:
        for user, taken in events.groupby("user_id", sort=False).parent_asin:
            *history, target = taken.tolist()
            if history:
                example = {"user_id": user, "history": history[-50:], "positives": [target]}
                stream.write(json.dumps(example) + "\n")
    items.rename(columns={"parent_asin": "item_id"}).to_json(
        out / "items.jsonl", orient="records", lines=True
    )


def main() -> None:
    """Prepare what was named."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("folder", type=Path)
    made.add_argument("out", type=Path)
    asked = made.parse_args()
    prepare(asked.folder, asked.out)


if __name__ == "__main__":
    main()
