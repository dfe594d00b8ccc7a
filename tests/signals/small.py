"""A catalogue of four items, and examples whose items are letters."""

from trec_cli.core.records import Example, Item, Split
from trec_cli.signals.catalogue import EncodedCatalogue

ITEMS = {
    "a": Item("a", {"title": "red tea pot", "brand": "Kettle"}),
    "b": Item("b", {"title": "green tea pot", "brand": "Kettle"}),
    "c": Item("c", {"title": "steel saw blade", "brand": "Saw"}),
    "d": Item("d", {"title": "steel hand saw", "brand": "Saw"}),
}

ROWS = EncodedCatalogue.of(ITEMS).rows
"""Rows of the four in the catalogue; their order is drawn by hash."""


def example(
    user: str, split: Split, history: str, right: str = "", candidates: str = "abcd", n: int = 0
) -> Example:
    """Make an example; every letter is an item."""
    return Example(
        example_id=f"{user}-{split}-{history}-{n}",
        user_id=user,
        split=split,
        history=list(history),
        candidates=list(candidates),
        positives=list(right),
    )
