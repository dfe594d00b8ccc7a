"""Which files of a source are the log of its events and the table of its items."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import cast

from trec_cli.core.errors import InputError, UsageError
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.sources.columns import Role, Roles, plain_id, roles_of
from trec_cli.prepare.sources.rows import SUFFIXES, read_first, suffix_of

_MOVIELENS: dict[str, tuple[list[str], dict[Role, str]]] = {
    "ratings.dat": (
        ["user", "movie", "rating", "time"],
        {"user": "user", "item": "movie", "rating": "rating", "time": "time"},
    ),
    "movies.dat": (["movie", "title", "genres"], {"item": "movie"}),
}
"""Columns of the files of MovieLens, which have no header."""

_LOGS = ("ratings", "interactions", "clicks", "events", "log")
_CATALOGUES = (
    *("items", "item", "movies", "products", "articles", "books", "news", "catalogue", "catalog"),
)
_PART = re.compile(r"(?:[._-](?:train|valid|validation|val|dev|test|part|full|of|\d+))+$")
_UNNAMED_LOG = 4
"""Columns of the ratings that Amazon publishes without a header."""
_EPOCH = 1e8
_LONGEST_NAME = 40
"""A longer cell is no name of a column."""


@dataclass(frozen=True)
class Table:
    """A file whose columns are known.

    Attributes:
        columns: their names; ``1``, ``2``, … where the file has none.
        has_header: whether the first row of cells holds the names.
        roles: the columns that are recognised.
        either: the two columns of user and item where nothing tells which is which.
    """

    member: Member
    columns: list[str]
    has_header: bool
    roles: Roles
    either: tuple[str, str] | None = None

    @property
    def is_log(self) -> bool:
        """Whether it holds events of users."""
        return self.either is not None or {"user", "item"} <= self.roles.keys()

    @property
    def is_catalogue(self) -> bool:
        """Whether it holds items."""
        return not self.is_log and "item" in self.roles and len(self.columns) > 1

    @property
    def stem(self) -> str:
        """The name without folder, ending, and number or name of a part."""
        return _PART.sub("", PurePath(self.member.base).stem.casefold())


def look_at(source: Source, member: Member, chosen: Mapping[str, str]) -> Table:
    """Read the first row of a file and tell its columns by it.

    Raises:
        InputError: it is no table, or two of its columns have one name.
    """
    first = read_first(source, member)
    if member.base in _MOVIELENS and len(first) == len(_MOVIELENS[member.base][0]):
        columns, roles = _MOVIELENS[member.base]
        return Table(member, columns, False, roles)
    roles = roles_of(first)
    roles |= cast(Roles, {role: name for role, name in chosen.items() if name in first})
    if not roles.keys() & {"user", "item"} and (key := plain_id(first)):
        roles["item"] = key
    if roles.keys() & {"user", "item"}:
        _check_distinct(member, first)
        return Table(member, first, True, roles)
    numbered = [str(number) for number in range(1, len(first) + 1)]
    if chosen and set(chosen.values()) <= set(numbered):
        return Table(member, numbered, False, cast(Roles, chosen))
    either = _without_header(first)
    known: dict[Role, str] = {"rating": "3", "time": "4"} if either else {}
    return Table(member, numbered, False, known, either)


def _check_distinct(member: Member, columns: Sequence[str]) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise InputError.of(
            member, f"has two columns {', '.join(map(repr, twice))}", "rename one", 1
        )


def _without_header(first: Sequence[str]) -> tuple[str, str] | None:
    """Recognise ratings without header: two ids, a rating, a time."""
    try:
        *_, rating, time = first
        known = len(first) == _UNNAMED_LOG and float(rating) <= _EPOCH <= float(time)
    except ValueError:
        return None
    return ("1", "2") if known else None


def find_tables(source: Source) -> tuple[list[Table], list[Table]] | None:
    """Return the parts of the log and those of the table of items (none if there is no table).

    Raises:
        InputError: there are several logs or several tables of items, or the only file
            there is cannot be read.
    """
    tables: list[Table] = []
    errors: dict[Member, InputError] = {}
    for member in source.members:
        if suffix_of(member) in SUFFIXES and member != source.items:
            try:
                tables.append(look_at(source, member, source.columns))
            except InputError as error:
                errors[member] = error
    logs = [table for table in tables if table.is_log]
    if source.chosen is not None:
        logs = [table for table in logs if table.member == source.chosen] or logs
    if not logs:
        for member, failed in errors.items():
            if member == source.chosen or len(source.members) == 1:
                raise failed
        return None
    log = _only(source, _groups(logs), _LOGS, "logs", "name the one to read as SOURCE")
    _check_chosen(log, source.columns)
    if source.items is not None:
        return log, [_catalogue(source, source.items)]
    stem = log[0].stem
    groups = _groups(table for table in tables if table.is_catalogue)
    names = (f"meta_{stem}", stem, *_CATALOGUES)
    items = _only(source, groups, names, "tables of items", "name the one to read with --items")
    return log, items


def unknown_columns(source: Source) -> dict[Member, list[str]]:
    """Return the headers of the CSV, TSV and Parquet files that have one."""
    headers: dict[Member, list[str]] = {}
    for member in source.members:
        if suffix_of(member) in (".csv", ".tsv", ".parquet"):
            try:
                first = read_first(source, member)
            except InputError:
                continue
            if len(first) > 1 and all(0 < len(cell) <= _LONGEST_NAME for cell in first):
                headers[member] = list(first)
    return headers


def _check_chosen(log: Iterable[Table], chosen: Mapping[str, str]) -> None:
    """Check that the columns the user names are there.

    Raises:
        UsageError: naming those that are not, and those that there are.
    """
    for table in log:
        wrong = [f"{role}={name}" for role, name in chosen.items() if name not in table.columns]
        if wrong:
            raise UsageError(
                f"--columns {','.join(wrong)}: {table.member} has the columns "
                f"{', '.join(table.columns)}"
            )


def _catalogue(source: Source, member: Member) -> Table:
    """Read the columns of the table of items that the user names."""
    table = look_at(source, member, source.columns)
    if "item" not in table.roles:
        raise InputError.of(
            member,
            f"has no column of item ids; it has {', '.join(table.columns)}",
            "call it item_id",
        )
    return table


def _groups(tables: Iterable[Table]) -> dict[str, list[Table]]:
    """Group the parts of one table: ``X.train.csv`` and ``X.test.csv``."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        groups.setdefault(table.stem, []).append(table)
    return groups


def _only(
    source: Source, groups: dict[str, list[Table]], names: Sequence[str], what: str, fix: str
) -> list[Table]:
    """Return the one group, or of several the one that is called like ``names``."""
    if len(groups) > 1:
        named = [group for name in names for stem, group in groups.items() if stem == name]
        if not named:
            there = ", ".join(str(t.member) for group in groups.values() for t in group)
            raise InputError.of(source.path, f"holds several {what}: {there}", fix)
        return named[0]
    return next(iter(groups.values()), [])
