"""Texts of items from a table of their own, or from the columns of a log."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from trec_cli.core.jsonl import FaultList
from trec_cli.core.progress import Progress
from trec_cli.core.records import Item
from trec_cli.prepare.archive import Source
from trec_cli.prepare.collection import Catalogue, catalogue_of, check_rows
from trec_cli.prepare.sources.disk import ItemFile, TextTable
from trec_cli.prepare.sources.rows import read_rows
from trec_cli.prepare.sources.tables import Table
from trec_cli.prepare.space import Space
from trec_cli.prepare.text import plain_field

PROSE = frozenset({"description", "features", "feature"})
"""Attributes whose lists are paragraphs, joined by blanks."""

_ADDRESSES = frozenset(
    {
        *("image", "images", "img", "imgs", "thumb", "thumbnail", "thumbnails", "picture"),
        *("pictures", "photo", "photos", "url", "urls", "uri", "uris", "href", "link", "links"),
    }
)
"""Words in names of columns that hold addresses of pictures and pages."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
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


_Pairs = tuple[tuple[str, str], ...]


class Texts:
    """Collects the texts of items; where rows of an item differ, their order never decides."""

    def __init__(self) -> None:
        """Start without items."""
        self._first: dict[str, _Pairs] = {}
        self._repeated: dict[str, Counter[_Pairs]] = {}

    def add(self, item_id: str, texts: Mapping[str, str]) -> None:
        """Add the texts of an item in one row."""
        pairs = tuple(texts.items())
        if item_id not in self._first:
            self._first[item_id] = pairs
        else:
            first = Counter([self._first[item_id]])
            self._repeated.setdefault(item_id, first)[pairs] += 1

    def items(self, counts: Counter[str], repeats: str) -> dict[str, Item]:
        """Return every item with the texts that it has most often, then the longest ones.

        ``repeats`` counts the rows of an item after its first.
        """
        for item_id, seen in self._repeated.items():
            counts[repeats] += seen.total() - 1
            if len(seen) > 1:
                counts["items whose rows differ"] += 1
                self._first[item_id] = _best(seen)
        return {item_id: Item(item_id, dict(pairs)) for item_id, pairs in self._first.items()}

    def catalogue(self, counts: Counter[str], repeats: str, name: str) -> Catalogue:
        """Return the catalogue of these items; see :meth:`items`."""
        return catalogue_of(self.items(counts, repeats), name)


class DiskTexts(TextTable):
    """The same on disk."""

    def catalogue(self, counts: Counter[str], repeats: str, name: str) -> Catalogue:
        """Return the catalogue of these items, as :meth:`Texts.catalogue` does."""
        return ItemFile(self._space, self._chosen(counts, repeats)).catalogue(name)

    def _chosen(self, counts: Counter[str], repeats: str) -> Iterator[tuple[str, _Pairs]]:
        for item_id, seen in self.rows():
            differ = len(set(seen)) > 1
            if len(seen) > 1:
                counts[repeats] += len(seen) - 1
                counts["items whose rows differ"] += differ
            yield item_id, _best(Counter(seen)) if differ else seen[0]


def new_texts(space: Space) -> Texts | DiskTexts:
    """Return an empty collection of texts, in memory or on disk."""
    return DiskTexts(space) if space.on_disk else Texts()


def _best(seen: Counter[_Pairs]) -> _Pairs:
    """Choose the texts seen most often, of those the longest, of those the last by alphabet."""
    return max(seen, key=lambda texts: (seen[texts], sum(len(text) for _, text in texts), texts))


def text_columns(columns: Iterable[str], *, of_log: bool) -> list[str]:
    """Choose the columns that hold texts: of a table of items all but addresses of pictures.

    The columns of a log may say something of the event; there the name must speak of a text.
    """
    return [
        column
        for column in columns
        if column and not _is_address(column) and (not of_log or _TEXT.search(column))
    ]


@cache
def _is_address(column: str) -> bool:
    return any(word.casefold() in _ADDRESSES for word in _WORD.findall(column))


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
) -> tuple[Catalogue, list[str]]:
    """Read the items of a table in parts; return them and the names of all columns.

    Args:
        source, tables: the parts.
        names: attributes to keep; None keeps all texts.
        wanted: ids of the items to keep; None keeps all.
        counts: what was read and left out.
        progress: shows a bar.

    Raises:
        InputError: there are none, or a row is at fault.
    """
    texts, known, number = new_texts(source.space), dict[str, None](), 0
    for table in tables:
        with progress.task("reading items") as task:
            for item_id, columns, found in _rows(source, table, names):
                task.advance()
                number += 1
                known.update(dict.fromkeys(columns))
                if wanted is None or item_id in wanted:
                    texts.add(item_id, found)
                else:
                    counts["items outside the log"] += 1
    if names is None and (left_out := [name for name in known if _is_address(name)]):
        progress.info(f"no texts: {', '.join(left_out)}; --attributes takes them all the same")
    name = ", ".join(str(table.member) for table in tables)
    check_rows(number, name)
    return texts.catalogue(counts, "rows of an item already read", name), list(known)


def _rows(
    source: Source, table: Table, names: Sequence[str] | None
) -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Yield id, columns and texts of every row."""
    faults = FaultList(str(table.member))
    key = table.roles["item"]
    rows = read_rows(source, table.member, table.columns, has_header=table.has_header)
    for line, values in rows:
        columns = [name for name in values if name != key]
        chosen = text_columns(columns, of_log=False) if names is None else names
        try:
            yield identifier(values.get(key)), columns, item_texts(values, chosen)
        except ValueError as error:
            faults.add(line, f"column {key}: {error}", "repair or remove the line")
    faults.raise_if_any()
