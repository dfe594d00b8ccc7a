"""What a retrieval is asked for; imports nothing heavy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from trec_cli.core.errors import UsageError

DEFAULT_COUNT = 200

PREFIX = "retrieve"
"""``retrieve:200`` on the command line."""


SearchKind = Literal["auto", "exact", "approximate"]
_SECONDS = 1e11
"""The year 5138; larger numbers are milliseconds."""
EXACT_MOST = 100_000
"""Items up to which the search is exact, where the user leaves it open: its time grows with
them (docs/retrieval.md has figures)."""


POOL = 400
"""Items that approximate search finds for the blend to choose the best from."""


@dataclass(frozen=True)
class RetrieveSettings:
    """How many candidates, and which items may be candidates.

    Attributes:
        count: of candidates per question, or as many as the filters leave.
        repeats: whether items of the history may come again.
        excluded: items that never may, such as those out of stock.
        only: attribute to the value that an item must have, whatever its case.
        seed: of the draws that decide users' folds.
        search: exact, approximate, or by the number of items.
        since: attribute to the time, in seconds since 1970, from which on an item may be.
    """

    count: int = DEFAULT_COUNT
    repeats: bool = False
    excluded: frozenset[str] = frozenset()
    only: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    search: SearchKind = "auto"
    since: Mapping[str, float] = field(default_factory=dict)

    def approximate(self, items: int) -> bool:
        """Check whether a catalogue of so many items is searched approximately."""
        return self.search == "approximate" or (self.search == "auto" and items > EXACT_MOST)


def parse_search(text: str) -> SearchKind:
    """Read the way of searching of ``retrieve:200:approximate``; auto where none is named.

    Raises:
        UsageError: there is no such way.
    """
    way = text.split(":")[2] if text.count(":") > 1 else "auto"
    for known in get_args(SearchKind):
        if way == known:
            return cast(SearchKind, known)
    raise UsageError(f"{text}: write exact or approximate after the number, retrieve:200:exact")


def parse_count(text: str) -> int:
    """Read ``retrieve:200`` (or ``retrieve`` for the default); a way of searching may follow.

    Raises:
        UsageError: it is neither.
    """
    parse_search(text)
    name, _, number = ":".join(text.split(":")[:2]).partition(":")
    if name == PREFIX and not _:
        return DEFAULT_COUNT
    if name != PREFIX or not number.isdecimal() or not int(number):
        raise UsageError(f"{text}: write retrieve:N with N candidates per question, retrieve:200")
    return int(number)


def parse_since(text: str | None) -> dict[str, float]:
    """Read ``published=2024-05-01``: an attribute and a time in ISO form; UTC without a zone.

    Raises:
        UsageError: it is not written like this.
    """
    if text is None:
        return {}
    name, sign, written = text.partition("=")
    when = seconds_of(written)
    if not sign or not name.strip() or when is None:
        raise UsageError(f"--since {text}: write ATTRIBUTE=DATE, such as published=2024-05-01")
    return {name.strip(): when}


def seconds_of(written: str) -> float | None:
    """Read a time in ISO form or a number of seconds (or milliseconds) since 1970."""
    text = written.strip()
    try:
        number = float(text) if len(text) > len("YYYYMMDD") else math.nan
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return number / 1000 if abs(number) > _SECONDS else number
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_only(texts: tuple[str, ...]) -> dict[str, str]:
    """Read ``category=news`` and the like.

    Raises:
        UsageError: there is no ``=`` or no name before it.
    """
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.strip():
            raise UsageError(f"--only {text}: write ATTRIBUTE=VALUE, such as category=news")
        found[name.strip()] = value.strip()
    return found
