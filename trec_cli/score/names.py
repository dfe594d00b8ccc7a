"""Which scorers there are; knows their names without loading what they need."""

from trec_cli.core.errors import UsageError

LLM = "llm"
EMBEDDING = "embedding"
RECBOLE = "recbole:"
"""Stands before the name of a model of RecBole."""
COUNTING = ("popularity", "random", "recency", "bm25", "cooccurrence")
"""Those that need no model at all."""


def check_scorer(name: str) -> None:
    """Refuse a scorer that does not exist.

    Raises:
        UsageError: with the names of those that do.
    """
    if name in (LLM, EMBEDDING, *COUNTING) or name.removeprefix(RECBOLE) not in ("", name):
        return
    known = ", ".join([LLM, EMBEDDING, *COUNTING, f"{RECBOLE}MODEL"])
    raise UsageError(f"--scorer {name}: choose one of {known}")
