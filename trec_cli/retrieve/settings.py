"""What a retrieval is asked for; imports nothing heavy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from trec_cli.core.errors import UsageError

DEFAULT_COUNT = 200

PREFIX = "retrieve"
"""``retrieve:200`` on the command line."""


@dataclass(frozen=True)
class RetrieveSettings:
    """How many candidates, and which items may be candidates.

    Attributes:
        count: of candidates per question, or as many as the filters leave.
        repeats: whether items of the history may come again.
        excluded: items that never may, such as those out of stock.
        only: attribute to the value that an item must have, whatever its case.
        seed: of the draws that decide users' folds.
    """

    count: int = DEFAULT_COUNT
    repeats: bool = False
    excluded: frozenset[str] = frozenset()
    only: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0


def parse_count(text: str) -> int:
    """Read ``retrieve:200`` (or ``retrieve`` for the default).

    Raises:
        UsageError: it is neither.
    """
    name, _, number = text.partition(":")
    if name == PREFIX and not _:
        return DEFAULT_COUNT
    if name != PREFIX or not number.isdecimal() or not int(number):
        raise UsageError(f"{text}: write retrieve:N with N candidates per question, retrieve:200")
    return int(number)


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
