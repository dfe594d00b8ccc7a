"""``--attributes`` and its like: names of items' texts, checked against the catalogue."""

from collections.abc import Mapping

from trec_cli.core.errors import UsageError
from trec_cli.core.records import Item


def check_attributes(
    names: tuple[str, ...] | None, items: Mapping[str, Item], option: str = "--attributes"
) -> None:
    """Make sure that every attribute asked for stands in some item.

    A mistyped one would leave items without text, and all candidates would tie.

    Raises:
        UsageError: naming the wrong ones and those that there are.
    """
    if names is None:
        return
    known = {name for item in items.values() for name in item.attributes}
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        there = ", ".join(sorted(known))
        raise UsageError(f"{option}: no item has {', '.join(unknown) or 'none'}; use {there}")
