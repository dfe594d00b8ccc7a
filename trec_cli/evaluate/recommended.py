"""Recommendations of a few users for the report: what they took, and what they are offered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path

import msgspec

from trec_cli.core.jsonl import read_items, read_lines
from trec_cli.core.records import Identifier, Item
from trec_cli.core.seeds import derive_seed
from trec_cli.evaluate.background import AskedLine, read_example_lines
from trec_cli.evaluate.cases import title_of
from trec_cli.evaluate.sources import Sources

USERS = 6
"""Users shown of each file."""
_HISTORY = 8
_LEAST_HISTORY = 3


class _Reason(msgspec.Struct, kw_only=True):
    signal: str
    history_item: str


class _Entry(msgspec.Struct, kw_only=True):
    item_id: str
    rank: int
    score: float
    because: _Reason | None = None


class _UserLine(msgspec.Struct, kw_only=True):
    user_id: Identifier
    items: list[_Entry]


@dataclass(frozen=True)
class Offer:
    """One recommended item: its title, and the title of the history item that it goes with."""

    title: str
    because: str


@dataclass(frozen=True)
class Offered:
    """A user's newest history items, oldest first, and the list, best first."""

    system: str
    user_id: str
    history: list[str]
    earlier: int
    offers: list[Offer]


def recommended(sources: Sources, seed: int) -> list[Offered]:
    """Return the lists of some users of every recommendations file that was found.

    Users are drawn by hash of (seed, user), those with a history of three and more first.

    Raises:
        InputError: a file of ``sources`` is faulty.
    """
    if not sources.recommendations or sources.items is None:
        return []
    items = read_items(sources.items)
    histories = _histories(sources)
    return [
        _offered(system, line, histories.get(line.user_id, []), items)
        for system, path in sources.recommendations.items()
        for line in _drawn(path, histories, seed)
    ]


def _histories(sources: Sources) -> dict[str, list[str]]:
    """Read the longest history of every user: that of tomorrow's question, where there is one."""
    found: dict[str, list[str]] = {}
    if sources.examples is None:
        return found
    for line in read_example_lines(sources.examples, AskedLine):
        if len(line.history) >= len(found.get(line.user_id, [])):
            found[line.user_id] = line.history
    return found


def _drawn(path: Path, histories: Mapping[str, Sequence[str]], seed: int) -> list[_UserLine]:
    lines: Iterable[tuple[int, _UserLine]] = read_lines(
        path, msgspec.json.Decoder(_UserLine).decode, allow_empty=True
    )

    def order(line: _UserLine) -> tuple[bool, int]:
        few = len(histories.get(line.user_id, ())) < _LEAST_HISTORY
        return few, derive_seed(seed, "show", line.user_id)

    return nsmallest(USERS, (line for _, line in lines), key=order)


def _offered(
    system: str, line: _UserLine, history: Sequence[str], items: Mapping[str, Item]
) -> Offered:
    offers = [
        Offer(
            title_of(e.item_id, items), title_of(e.because.history_item, items) if e.because else ""
        )
        for e in sorted(line.items, key=lambda entry: entry.rank)
    ]
    shown = [title_of(item, items) for item in history[-_HISTORY:]]
    return Offered(system, line.user_id, shown, len(history) - len(shown), offers)
