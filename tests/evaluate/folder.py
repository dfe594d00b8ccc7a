"""Small RUN folders for the tests of the evaluation."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Line = dict[str, Any]


def line(
    example: str,
    scores: Sequence[float],
    positives: Iterable[int] = (0,),
    *,
    user: str | None = None,
    split: str = "test",
    prefix: str = "i",
) -> Line:
    """Give one line of a scores file; candidates are ``i0``, ``i1``, …"""
    return {
        "example_id": example,
        "user_id": user or example,
        "split": split,
        "candidates": [f"{prefix}{place}" for place in range(len(scores))],
        "scores": list(scores),
        "positives": [f"{prefix}{place}" for place in positives],
    }


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in lines)
    path.write_text(text, encoding="utf-8")
    return path


def make_run(folder: Path, examples: int = 40) -> Path:
    """Write a RUN with items, examples, summaries, a training log and two systems."""
    random = np.random.default_rng(7)
    titles = ["</script><script>alert(1)</script>", "Tea & <b>cake</b>", "Zoë’s “lamp”\nline two"]
    titles += [f"Item {place}" for place in range(3, 8)]
    items = [{"item_id": f"i{place}", "title": title} for place, title in enumerate(titles)]
    write(folder / "items.jsonl", items)
    ids = [f"u{number}" for number in range(examples)]
    good = [line(i, [2.0, *random.normal(size=7)]) for i in ids]
    blind = [line(i, [0.5] * 8) for i in ids]
    write(folder / "scores-good.jsonl", good)
    write(folder / "scores-blind.jsonl", blind)
    history = [["i3", "i1", "i2", "i4"][: number % 5] for number in range(examples)]
    asked = [
        {k: entry[k] for k in entry if k != "scores"} | {"history": items_seen}
        for entry, items_seen in zip(good, history, strict=True)
    ]
    write(folder / "examples.jsonl", asked)
    common = {"split": "test", "mode": "hier", "blocks": [], "model": "tiny"}
    texts = [{"example_id": i, "user_id": i, "summary": "Likes <i>tea</i>."} for i in ids]
    write(folder / "summaries-hier.jsonl", [text | common for text in texts])
    log = [{"step": step, "loss": 1 / (step + 1), "note": "x"} for step in range(3)]
    write(folder / "model-hier" / "training-log.jsonl", log)
    return folder
