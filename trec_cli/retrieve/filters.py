"""Which items may be recommended at all."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import open_input
from trec_cli.core.records import Item
from trec_cli.retrieve.settings import RetrieveSettings
from trec_cli.signals.histories import Mask


def allowed_items(
    items: Mapping[str, Item], rows: Mapping[str, int], settings: RetrieveSettings
) -> Mask:
    """Mark the rows of items that the filters leave.

    Raises:
        UsageError: no item has the attribute, or none is left.
    """
    for name in settings.only:
        if not any(name in item.attributes for item in items.values()):
            known = sorted({key for item in items.values() for key in item.attributes})
            raise UsageError(f"--only {name}=…: no item has it; there are {', '.join(known)}")
    allowed = np.zeros(len(rows), bool)
    for identifier, row in rows.items():
        allowed[row] = identifier not in settings.excluded and _fits(
            items[identifier], settings.only
        )
    if not allowed.any():
        raise UsageError("the filters leave no item of the catalogue; loosen --only or --exclude")
    return allowed


def _fits(item: Item, only: Mapping[str, str]) -> bool:
    return all(
        " ".join(item.attributes.get(name, "").split()).casefold() == value.casefold()
        for name, value in only.items()
    )


def read_excluded(path: Path, items: Mapping[str, Item]) -> frozenset[str]:
    """Read a file with one item id per line; blank lines are nothing.

    Raises:
        InputError: it cannot be read, or none of its ids is in the catalogue (a wrong file).
    """
    with open_input(path) as stream:
        try:
            names = {line.decode().strip() for line in stream} - {""}
        except UnicodeDecodeError:
            raise InputError.of(path, "is not UTF-8", "save it as UTF-8") from None
    if names and not names & items.keys():
        raise InputError.of(
            path,
            f"none of its {len(names)} ids is in the items, for example {min(names)!r}",
            "write one item_id per line",
        )
    return frozenset(names)
