"""Logs of clicks, purchases or ratings beside a table of items, in any tabular form.

Among them: CSV and TSV of shops, ratings of Amazon as CSV, RecBole's atomic files,
MovieLens, Parquet.  Columns are recognised by name, or named with ``--columns``.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from sys import intern
from typing import Any

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList
from trec_cli.core.progress import Progress
from trec_cli.core.text import counted
from trec_cli.prepare.archive import Source
from trec_cli.prepare.collection import (
    Catalogue,
    Collection,
    Defaults,
    ReadOptions,
    check_attributes,
    check_rows,
)
from trec_cli.prepare.formats import Files, Format
from trec_cli.prepare.sources.amazon_reviews import EDITIONS
from trec_cli.prepare.sources.bulk import read_in_bulk
from trec_cli.prepare.sources.catalogues import (
    identifier,
    item_texts,
    new_texts,
    read_catalogue,
    text_columns,
)
from trec_cli.prepare.sources.clock import (
    Clock,
    UnknownDate,
    UnsetTime,
    guess_form,
    is_date,
    read_date,
)
from trec_cli.prepare.sources.columns import Role, Roles
from trec_cli.prepare.sources.log import NO_TIME, DiskLog, Log, new_log
from trec_cli.prepare.sources.rows import read_rows
from trec_cli.prepare.sources.tables import Table, find_tables, look_at
from trec_cli.prepare.space import Space

_META = "meta_"
_NOTED = 10_000
_REPEATS = "exact repeats of an event"


def _find(source: Source) -> Files | None:
    found = find_tables(source)
    if found is None:
        return None
    log, items = found
    return {"log": [t.member for t in log], "items": [t.member for t in items]}


def _read(source: Source, files: Files, options: ReadOptions, progress: Progress) -> Collection:
    counts: Counter[str] = Counter()
    parts = [look_at(source, member, source.columns) for member in files["log"]]
    tables = [look_at(source, member, source.columns) for member in files["items"]]
    space = Space() if parts[0].either else source.space
    reader = _LogReader(options, space, texts_inside=not tables)
    for part in parts:
        reader.read(source, part, counts, progress)
    reader.finish(progress)
    log, file = reader.log, ", ".join(map(str, files["log"]))
    check_rows(len(log) + counts[NO_TIME], file)
    counts["events"] = len(log)
    if tables:
        wanted = None
        if any(table.member.base.startswith(_META) for table in tables):
            wanted = log.items.keys() | (
                log.users.keys() if parts[0].either and isinstance(log, Log) else set()
            )
        names = options.attributes or _attributes(tables)
        items, known = read_catalogue(source, tables, names, wanted, counts, progress)
        if parts[0].either and isinstance(log, Log):
            log = _oriented(log, items)
    else:
        items = reader.texts.catalogue(Counter(), "", file)
        known = reader.attributes
    counts.update({"users": 0, "items in the log": len(log.items)})
    check_attributes(options.attributes, known)
    _check_overlap(log, items, files)
    questions = log.questions(str(files["log"][0]), counts, _REPEATS)
    return Collection(items, questions, None, counts, is_log=True, file=file)


def _attributes(tables: Sequence[Table]) -> tuple[str, ...] | None:
    """Return the texts kept by default: of Amazon's metadata those that its own format keeps."""
    editions = {edition.item: edition.attributes for edition in EDITIONS}
    meta = all(table.member.base.startswith(_META) for table in tables)
    return editions.get(tables[0].roles["item"]) if meta else None


def _oriented(log: Log, items: Catalogue) -> Log:
    """Decide which of two columns holds the items: the one that the table of items knows."""
    users = sum(user in items.known for user in log.users)
    if users > sum(item in items.known for item in log.items):
        return Log(log.items, log.users, log.item, log.user, log.time, log.rating)
    return log


def _check_overlap(log: Log | DiskLog, items: Catalogue, files: Files) -> None:
    if not files["items"] or not len(log) or any(item in items.known for item in log.items):
        return
    one, other = next(iter(log.items), ""), next(iter(items.known), "")
    raise InputError.of(
        ", ".join(map(str, files["items"])),
        f"has no item of the log, whose ids look like {one!r}"
        + (f"; here they look like {other!r}" if other else ""),
        "name the columns of ids with --columns, or the right file with --items",
    )


class _LogReader:
    """Reads the parts of a log into one; dates are understood when all were seen."""

    def __init__(self, options: ReadOptions, space: Space, *, texts_inside: bool) -> None:
        self.log, self.texts = new_log(space), new_texts(space if texts_inside else Space())
        self.attributes: list[str] = []
        self._clock = Clock(options.time_format)
        self._names = options.attributes
        self._inside = texts_inside
        self._dates: dict[int, str] = {}
        self._file = ""

    def read(self, source: Source, table: Table, counts: Counter[str], progress: Progress) -> None:
        """Add the events of one file."""
        roles = _complete(table)
        others = [column for column in table.columns if column not in roles.values()]
        names: Sequence[str] = []
        if self._inside:
            self.attributes = list(dict.fromkeys([*self.attributes, *others]))
            names = self._names or text_columns(others, of_log=True)
            if not names:
                raise _no_texts(table, others)
        self._file = str(table.member)
        if not names and self._read_in_bulk(source, table, roles, progress):
            return
        faults = FaultList(self._file)
        rows = read_rows(
            source,
            table.member,
            table.columns,
            has_header=table.has_header,
            only=[*roles.values(), *(name for name in names if name in others)],
        )
        with progress.task("reading events") as task:
            for number, (line, values) in enumerate(rows, 1):
                if number % _NOTED == 0:
                    task.advance(_NOTED)
                try:
                    item = self._add(values, roles)
                    if names:
                        self.texts.add(item, item_texts(values, names))
                except UnsetTime:
                    counts[NO_TIME] += 1
                except ValueError as error:
                    faults.add(line, str(error), "repair or remove the line")
        faults.raise_if_any()

    def _read_in_bulk(self, source: Source, table: Table, roles: Roles, progress: Progress) -> bool:
        """Read a log of plain cells the short way; return whether it is one."""
        if isinstance(self.log, DiskLog):
            return False
        if self._dates:
            return False
        with progress.task("reading events") as task:
            number = read_in_bulk(self.log, source, table, roles, self._clock)
            task.advance(number or 0)
        return number is not None

    def _add(self, values: Mapping[str, Any], roles: Roles) -> str:
        """Add the event of a row.

        Raises:
            ValueError: saying what is wrong with it.
        """
        user = _id(values, roles, "user")
        item = _id(values, roles, "item")
        rating = _rating(values.get(roles["rating"])) if "rating" in roles else None
        written = values.get(roles["time"])
        try:
            time = self._clock.seconds(written)
        except UnknownDate:
            self._dates[len(self.log)] = intern(str(written).strip())
            time = math.nan
        self.log.add(user, item, time, rating)
        return item

    def finish(self, progress: Progress) -> None:
        """Parse the dates that are not in ISO form, and report how times were read.

        Raises:
            InputError: there are times as numbers and as dates, or dates of no known form.
        """
        if self._dates and self._clock.unit is not None:
            one = next(iter(self._dates.values()))
            what = f"has times as numbers and as dates, such as {one[:60]!r}"
            raise InputError.of(self._file, what, "write all in one way")
        if self._dates:
            self._parse_dates(progress)
        else:
            self._clock.report(progress)

    def _parse_dates(self, progress: Progress) -> None:
        texts = set(self._dates.values())
        form = guess_form(texts, self._file)
        known = {text: read_date(text, form) or 0 for text in texts}
        self.log.set_times((index, known[text]) for index, text in self._dates.items())
        progress.info(f"times are read as {form}")
        if odd := sorted(text for text in texts if not is_date(text, form)):
            progress.warn(
                f"{counted(len(odd), 'date does', 'dates do')} not exist, for example {odd[0]}; "
                "such days are counted on into the next month"
            )


def _complete(table: Table) -> Roles:
    """Return the roles of a log, all that are needed.

    Raises:
        InputError: there is no time.
    """
    roles = dict(table.roles)
    if table.either is not None:
        roles |= {"user": table.either[0], "item": table.either[1]}
    if "time" not in roles:
        raise InputError.of(
            table.member,
            f"has no column of times; it has {', '.join(table.columns)}",
            "name it with --columns time=COLUMN; where only the order is known, "
            "write sequences.jsonl (docs/prepare.md)",
        )
    return roles


def _no_texts(table: Table, others: Sequence[str]) -> InputError:
    named = ", ".join(others) or "no further column"
    return InputError.of(
        table.member,
        f"has no texts of items, and there is no table of items beside it; it has {named}",
        "put items.csv beside it, name a table with --items, or columns with --attributes",
    )


def _id(values: Mapping[str, Any], roles: Roles, role: Role) -> str:
    try:
        return identifier(values.get(roles[role]))
    except ValueError as error:
        raise ValueError(f"{role}: {error}") from None


def _rating(value: object) -> float | None:
    """Read a rating; an empty cell has none."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"the rating is {type(value).__name__}, not a number")
    try:
        rating = float(value)
    except ValueError:
        raise ValueError(f"the rating {str(value)[:40]!r} is not a number") from None
    if not math.isfinite(rating):
        raise ValueError(f"the rating is {value}, not a number")
    return rating


FORMAT = Format(
    "clicks",
    "a log as .csv, .tsv, .jsonl, .parquet, .inter or ratings.dat with columns of user, item and "
    "time, beside a table of items",
    _find,
    Defaults(),
    _read,
    options=frozenset({"columns", "time_format", "items"}),
)
