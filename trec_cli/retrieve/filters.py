"""Which items may be recommended at all."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import open_input
from trec_cli.core.records import Item
from trec_cli.core.text import counted
from trec_cli.retrieve.settings import RetrieveSettings, seconds_of
from trec_cli.signals.histories import Mask


@dataclass(frozen=True)
class Filtered:
    """What the filters leave of a catalogue.

    Attributes:
        allowed: rows that may be candidates.
        reasons: items left out, by the first filter that does it.
    """

    allowed: Mask
    reasons: Mapping[str, int]

    def __str__(self) -> str:
        """Write it for people; nothing where every item may be a candidate."""
        if not self.reasons:
            return ""
        out = "; ".join(counted(n, _of_one(reason), reason) for reason, n in self.reasons.items())
        items = counted(len(self.allowed), "item")
        return f"{int(self.allowed.sum()):,} of {items} may be recommended: {out}"


def _of_one(reason: str) -> str:
    """Say of one item what is said of several: ``is excluded``, ``has no date``."""
    verb, _, rest = reason.partition(" ")
    return f"{'is' if verb == 'are' else 'has'} {rest}"


def allowed_items(
    items: Mapping[str, Item], rows: Mapping[str, int], settings: RetrieveSettings
) -> Mask:
    """Mark the rows of items that the filters leave; errors are those of :func:`filter_items`."""
    return filter_items(items, rows, settings).allowed


def filter_items(
    items: Mapping[str, Item], rows: Mapping[str, int], settings: RetrieveSettings
) -> Filtered:
    """Mark the rows of items that the filters leave, and count the others.

    Raises:
        UsageError: no item has the attribute (or a date in it), or none is left.
    """
    for option, names in (("--only", settings.only), ("--since", settings.since)):
        for name in names:
            if not any(name in item.attributes for item in items.values()):
                known = sorted({key for item in items.values() for key in item.attributes})
                raise UsageError(f"{option} {name}=…: no item has it; there are {', '.join(known)}")
    allowed = np.zeros(len(rows), bool)
    reasons: Counter[str] = Counter()
    for identifier, row in rows.items():
        reason = _reason(items[identifier], settings)
        allowed[row] = not reason
        if reason:
            reasons[reason] += 1
    for name in settings.since:
        if reasons[_no_date(name)] == len(rows):
            raise UsageError(f"--since {name}=…: no item has a date like 2024-05-01 there")
    if not allowed.any():
        raise UsageError(
            "the filters leave no item of the catalogue; loosen --only, --since or --exclude"
        )
    return Filtered(allowed, dict(sorted(reasons.items())))


def _reason(item: Item, settings: RetrieveSettings) -> str:
    """Return why an item may not be recommended; nothing where it may."""
    if item.item_id in settings.excluded:
        return "are excluded"
    for name, value in settings.only.items():
        if not _fits(item, {name: value}):
            return f"are not {name}={value}"
    for name, since in settings.since.items():
        found = seconds_of(item.attributes.get(name, ""))
        if found is None:
            return _no_date(name)
        if found < since:
            return f"are older ({name})"
    return ""


def _no_date(name: str) -> str:
    return f"have no date ({name})"


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
            f"holds {counted(len(names), 'id')}, none of which is in the items, for example "
            f"{min(names)!r}",
            "write one item_id per line",
        )
    return frozenset(names)
