"""Which column of a table is the user, the item, the time, the rating."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from trec_cli.core.errors import UsageError

Role = Literal["user", "item", "time", "rating"]
Roles = Mapping[Role, str]
"""The column of each role."""

ROLES: tuple[Role, ...] = get_args(Role)
_NAMES: dict[Role, tuple[str, ...]] = {
    "user": (
        *("userid", "user", "uid", "reviewerid", "customerid", "customer", "visitorid"),
        *("accountid", "memberid", "clientid", "sessionid", "session"),
    ),
    "item": (
        *("itemid", "iid", "parentasin", "asin", "productid", "sku", "movieid", "newsid"),
        *("articleid", "bookid", "isbn", "stockcode", "item", "product", "article"),
    ),
    "time": (
        *("timestamp", "time", "unixreviewtime", "unixtime", "datetime", "eventtime"),
        *("date", "ts", "createdat", "invoicedate"),
    ),
    "rating": ("rating", "overall", "stars", "score"),
}
"""Names by which a role is known, without case and punctuation; the first that is there counts."""


def recognised(columns: Sequence[str], role: Role) -> str | None:
    """Return the column of a role, by its name; None where there is none or two are alike."""
    plain = [_plain(column) for column in columns]
    for name in _NAMES[role]:
        if name in plain:
            return columns[plain.index(name)] if plain.count(name) == 1 else None
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def roles_of(columns: Sequence[str]) -> dict[Role, str]:
    """Return the columns of all roles that are recognised."""
    found = {role: recognised(columns, role) for role in ROLES}
    return {role: column for role, column in found.items() if column is not None}


def parse_columns(given: tuple[str, ...] | None) -> dict[str, str]:
    """Read ``--columns user=visitor,item=sku``.

    Raises:
        UsageError: it is not written like this.
    """
    chosen: dict[str, str] = {}
    for part in given or ():
        role, equals, column = part.partition("=")
        if not equals or role.strip() not in ROLES or not column.strip():
            raise UsageError(
                f"--columns {part}: write user=COLUMN,item=COLUMN,time=COLUMN,rating=COLUMN, "
                "with names of the header or, without one, numbers from 1"
            )
        chosen[role.strip()] = column.strip()
    return chosen


def plain_id(columns: Sequence[str]) -> str | None:
    """Return the column ``id``, which names the item in a table of items."""
    found = [column for column in columns if _plain(column) == "id"]
    return found[0] if len(found) == 1 else None
