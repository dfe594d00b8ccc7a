"""Texts of items from a table of their own, or from the columns of a log."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from trec_cli.core.jsonl import FaultList
from trec_cli.core.progress import Progress
from trec_cli.core.records import Item
from trec_cli.prepare.archive import Source
from trec_cli.prepare.sources.rows import read_rows
from trec_cli.prepare.sources.tables import Table
from trec_cli.prepare.text import plain_field

PROSE = frozenset({"description", "features", "feature"})
"""Attributes whose lists are paragraphs, joined by blanks."""

_NO_TEXT = re.compile(r"image|img|thumb|video|url|uri|href|link", re.IGNORECASE)
_TEXT = re.compile(
    r"title|name|desc|text|summary|abstract|categ|genre|brand|author|artist|maker|store|color|"
    r"colour|size|material|model|keyword|tag|type|topic|section",
    re.IGNORECASE,
)
_NO_GENRES = "(no genres listed)"


def identifier(value: object) -> str:
    """Write an id as text: 7 and "7" are one id, and so are 7.0 of a column of numbers.

    Raises:
        ValueError: it is missing or of another type.
    """
    if isinstance(value, str):
        text = value.strip()
        if text:
            return text
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    elif isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, str):
        raise ValueError("the id is missing")
    raise ValueError(f"an id cannot be {value!r:.40}")


class Texts:
    """Collects the texts of items; where rows of an item differ, their order never decides."""

    def __init__(self) -> None:
        """Start without items."""
        self._seen: dict[str, Counter[tuple[tuple[str, str], ...]]] = {}

    def add(self, item_id: str, texts: Mapping[str, str]) -> None:
        """Add the texts of an item in one row."""
        self._seen.setdefault(item_id, Counter())[tuple(texts.items())] += 1

    def items(self, counts: Counter[str], repeats: str) -> dict[str, Item]:
        """Return every item with the texts that it has most often, then the longest ones.

        ``repeats`` counts the rows of an item after its first.
        """
        items = {}
        for item_id, seen in self._seen.items():
            if (rows := sum(seen.values())) > 1:
                counts[repeats] += rows - 1
            if len(seen) > 1:
                counts["items whose rows differ"] += 1
            items[item_id] = Item(item_id, dict(_best(seen)))
        return items


def _best(seen: Counter[tuple[tuple[str, str], ...]]) -> tuple[tuple[str, str], ...]:
    """Choose the texts seen most often, of those the longest, of those the last by alphabet."""
    return max(seen, key=lambda texts: (seen[texts], sum(len(text) for _, text in texts), texts))


def text_columns(columns: Iterable[str], *, of_log: bool) -> list[str]:
    """Choose the columns that hold texts: of a table of items all but addresses of pictures.

    The columns of a log may say something of the event; there the name must speak of a text.
    """
    return [
        column
        for column in columns
        if column and not _NO_TEXT.search(column) and (not of_log or _TEXT.search(column))
    ]


def item_texts(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Make the values of a row plain; what is empty is left out."""
    texts = ((name, _plain(name, values[name])) for name in names if name in values)
    return {name: text for name, text in texts if text}


def _plain(name: str, value: object) -> str:
    if name.casefold() == "genres" and isinstance(value, str):
        value = "" if value == _NO_GENRES else value.replace("|", ", ")
    return plain_field(value, prose=name in PROSE)


def read_catalogue(
    source: Source,
    tables: Sequence[Table],
    names: Sequence[str] | None,
    wanted: Collection[str] | None,
    counts: Counter[str],
    progress: Progress,
) -> tuple[dict[str, Item], list[str]]:
    """Read the items of a table in parts, and name all attributes there are.

    Args:
        source, tables: the parts.
        names: attributes to keep; None keeps all texts.
        wanted: ids of the items to keep; None keeps all.
        counts: what was read and left out.
        progress: shows a bar.
    """
    texts, known = Texts(), dict[str, None]()
    for table in tables:
        faults = FaultList(str(table.member))
        key = table.roles["item"]
        rows = read_rows(source, table.member, table.columns, has_header=table.has_header)
        with progress.task("reading items") as task:
            for line, values in rows:
                task.advance()
                others = [name for name in values if name != key]
                chosen = text_columns(others, of_log=False) if names is None else names
                try:
                    item_id = identifier(values.get(key))
                    found = item_texts(values, chosen)
                except ValueError as error:
                    faults.add(line, f"column {key}: {error}", "repair or remove the line")
                    continue
                known.update(dict.fromkeys(others))
                if wanted is None or item_id in wanted:
                    texts.add(item_id, found)
                else:
                    counts["items outside the log"] += 1
        faults.raise_if_any()
    return texts.items(counts, "rows of an item already read"), list(known)
