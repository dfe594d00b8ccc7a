"""What manifests count, in words for people: names of figures, and numbers as they are read."""

from collections.abc import Iterator, Mapping
from typing import Any

_FIGURES = {
    "summaries": "summaries",
    "faithfulness": "content words found in the history",
    "named_faithfulness": "names and numbers found in the history",
    "phrases_in_one_item": "phrases found whole in one item",
    "repetition": "word triples that are repeated",
    "empty": "summaries without a word",
    "words": "words per summary",
    "coverage": "kinds of items in the history that are named",
}
FLAG_WORDS = {
    "empty": "empty",
    "echo": "repeat the instruction",
    "unfaithful": "say little that is in the history",
    "narrow": "speak of a single item",
    "repeats": "repeat themselves",
    "cut": "cut off by the token limit",
    "filtered": "lost words that no item supports",
    "extended": "got items added",
    "retried": "written again",
    "extractive": "replaced by titles from the history",
}
_COUNTS = {
    "calls": "texts asked of the model",
    "hits": "texts found in the store",
    "shared": "texts shared with other users",
    "at_limit": "texts that reached the token limit",
    "echoes": "texts that repeat the instruction",
    "engine_seconds": "seconds in the model",
    "seconds": "seconds in all",
    "continued_after_users": "users done before this run",
    "tokens_saved_by_sharing": "tokens saved by sharing",
    "resumed_from_step": "continued after step",
    "way": "how it was computed",
    "penalty": "penalty of the weights",
    "reused": "weights read from an earlier run",
    "valid_examples": "validation questions",
}
_PERCENT = {
    "faithfulness", "named_faithfulness", "phrases_in_one_item", "repetition", "coverage",
    "tokens_saved_by_sharing", "share", "saved", "empty", "recall_of_candidates",
}  # fmt: skip
_SILENT = ("counts", "choices")
"""Levels of a manifest that say nothing to a reader."""


def in_words(name: str) -> str:
    """Name a figure of a manifest: ``counts.splits.test.mean_history`` is ``test: mean history``.

    Figures that have a name of their own get it; of others the underscores become blanks.
    """
    *levels, last = name.split(".")
    if levels and levels[-1] == "flags":
        return f"texts: {FLAG_WORDS.get(last, _plain(last))}"
    levels = [_plain(level) for level in levels if level not in (*_SILENT, "splits", "quality")]
    return ": ".join([*levels, _FIGURES.get(last) or _COUNTS.get(last) or _plain(last)])


def _plain(name: str) -> str:
    return name.replace("_", " ")


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every figure in a nested account; nothing is left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        yield name, "; ".join(map(_one, value))
    elif value is not None:
        yield name, _number(name, value)


def _one(value: Any) -> str:
    """Write an entry of a list on one line."""
    return ", ".join(f"{in_words(key)} {text}" for key, text in flat(value)) or str(value)


def _number(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.split(".")[-1] in _PERCENT and isinstance(value, float):
        return f"{value:.1%}".replace("%", " %")
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)
