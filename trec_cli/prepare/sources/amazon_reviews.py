"""Amazon reviews of 2014/2018 and of 2023: a file of reviews and a file of item metadata.

A user's items are ordered by time; equal times (in 2018 all reviews of a day have one)
keep the order of the file.  Neither names of reviewers nor texts of reviews are read.
The catalogue holds the items that somebody reviewed in the file.
"""

import ast
import math
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import read_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Identifier, Item
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import (
    Collection,
    Defaults,
    Question,
    ReadOptions,
    catalogue_of,
    check_attributes,
)
from trec_cli.prepare.formats import Files, Format
from trec_cli.prepare.text import plain_field

_META = r"meta_.+\.jsonl?"
_PROSE = frozenset({"description", "features", "feature"})
_NOTED = 10_000


class _Review2018(msgspec.Struct, gc=False):
    reviewerID: Identifier  # noqa: N815 - the collection's name
    asin: Identifier
    unixReviewTime: int  # noqa: N815
    overall: float | None = None

    def event(self) -> tuple[str, str, int, float | None]:
        """Return user, item, milliseconds and rating."""
        return self.reviewerID, self.asin, self.unixReviewTime * 1000, self.overall


class _Review2023(msgspec.Struct, gc=False):
    user_id: Identifier
    parent_asin: Identifier
    timestamp: int
    rating: float | None = None

    def event(self) -> tuple[str, str, int, float | None]:
        """Return user, item, milliseconds and rating."""
        return self.user_id, self.parent_asin, self.timestamp, self.rating


@dataclass(frozen=True)
class _Edition:
    """How an edition of the collection names things.

    Attributes:
        key: the field of a review that no other edition has.
        item: the field that names an item, in reviews and metadata.
        attributes: texts kept by default.
    """

    key: str
    item: str
    review: type[_Review2018] | type[_Review2023]
    attributes: tuple[str, ...]


_EDITIONS = (
    _Edition(
        "reviewerID",
        "asin",
        _Review2018,
        ("title", "brand", "category", "categories", "price", "description"),
    ),
    _Edition(
        "parent_asin",
        "parent_asin",
        _Review2023,
        ("title", "main_category", "store", "categories", "price", "features", "description"),
    ),
)


@dataclass
class _Events:
    """All reviews in columns (20 bytes each): who, what, when in milliseconds, how rated."""

    users: dict[str, int] = field(default_factory=dict)
    items: dict[str, int] = field(default_factory=dict)
    user: "array[int]" = field(default_factory=lambda: array("i"))
    item: "array[int]" = field(default_factory=lambda: array("i"))
    time: "array[int]" = field(default_factory=lambda: array("q"))
    rating: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, user: str, item: str, time: int, rating: float | None) -> None:
        """Append one review."""
        self.user.append(self.users.setdefault(user, len(self.users)))
        self.item.append(self.items.setdefault(item, len(self.items)))
        self.time.append(time)
        self.rating.append(math.nan if rating is None else rating)


def _find(source: Source) -> Files | None:
    """Pair ``meta_X`` with the reviews of X: ``X``, ``X_5``, ``reviews_X`` or ``reviews_X_5``."""
    pairs = []
    for meta in source.find(_META):
        category = re.escape(meta.base.removeprefix("meta_").rpartition(".json")[0])
        found = source.find(rf"(?:reviews_)?{category}(?:_5)?\.jsonl?")
        pairs += [(reviews, meta) for reviews in found]
    if source.chosen is not None:
        pairs = [pair for pair in pairs if source.chosen in pair]
    if len(pairs) > 1:
        names = ", ".join(str(reviews) for reviews, _ in pairs)
        raise InputError.of(
            source.path, f"holds several review files: {names}", "name the one to read as SOURCE"
        )
    return {"reviews": [pairs[0][0]], "meta": [pairs[0][1]]} if pairs else None


def _read(source: Source, files: Files, options: ReadOptions, progress: Progress) -> Collection:
    (reviews,), (meta,) = files["reviews"], files["meta"]
    counts: Counter[str] = Counter()
    edition = _edition(source, reviews)
    events = _read_events(source, reviews, edition, progress)
    counts.update({"reviews": len(events.time), "users": len(events.users)})
    counts["items with reviews"] = len(events.items)
    items = _read_meta(source, meta, edition, options.attributes, events.items, counts, progress)
    questions = _questions(events, str(reviews), counts)
    return Collection(catalogue_of(items, str(meta)), questions, None, counts, is_log=True)


def _edition(source: Source, member: Member) -> _Edition:
    """Tell the edition by the fields of the first review."""
    with source.reading(member) as path:
        decoder = msgspec.json.Decoder(dict[str, Any])
        _, first = next(iter(read_lines(path, decoder.decode)))
        for edition in _EDITIONS:
            if edition.key in first:
                return edition
        raise InputError.of(
            path,
            f"is not a review of Amazon: it has {', '.join(first)}",
            "2018 has reviewerID, asin, unixReviewTime; 2023 user_id, parent_asin, timestamp",
            1,
        )


def _read_events(source: Source, member: Member, edition: _Edition, progress: Progress) -> _Events:
    events = _Events()
    decoder = msgspec.json.Decoder(edition.review)
    with source.reading(member) as path, progress.task("reading reviews") as task:
        for line, review in read_lines(path, decoder.decode):
            events.add(*review.event())
            if line % _NOTED == 0:
                task.advance(_NOTED)
    return events


def _read_meta(
    source: Source,
    member: Member,
    edition: _Edition,
    chosen: tuple[str, ...] | None,
    wanted: dict[str, int],
    counts: Counter[str],
    progress: Progress,
) -> dict[str, Item]:
    """Read the metadata of the reviewed items; the first of several lines of an item counts."""
    items: dict[str, Item] = {}
    known: dict[str, None] = {}
    decode = _meta_decoder(edition.item, wanted)
    with source.reading(member) as path, progress.task("reading metadata") as task:
        for line, fields in read_lines(path, decode):
            if line % _NOTED == 0:
                task.advance(_NOTED)
            if fields is None:
                counts["metadata of items without reviews"] += 1
                continue
            item_id = fields.pop(edition.item)
            if item_id in items:
                counts["metadata lines of an item already read"] += 1
                continue
            known.update(dict.fromkeys(fields))
            items[item_id] = _item(item_id, fields, chosen or edition.attributes)
    check_attributes(chosen, known)
    return items


def _meta_decoder(key: str, wanted: dict[str, int]) -> Callable[[str], dict[str, Any] | None]:
    """Decode a line of metadata, or give None where nobody reviewed the item.

    The edition of 2014 writes Python dictionaries in place of JSON.
    """
    identifier = msgspec.json.Decoder(msgspec.defstruct("_Key", [(key, Identifier)]))
    decoder = msgspec.json.Decoder(dict[str, Any])

    def decode(line: str) -> dict[str, Any] | None:
        if line.startswith("{'"):
            return _wanted(_python_dict(line), key, wanted)
        if getattr(identifier.decode(line), key) not in wanted:
            return None
        return decoder.decode(line)

    return decode


def _python_dict(line: str) -> dict[str, Any]:
    try:
        return msgspec.convert(ast.literal_eval(line), dict[str, Any])
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python dictionary: {error}") from None


def _wanted(fields: dict[str, Any], key: str, wanted: dict[str, int]) -> dict[str, Any] | None:
    if not isinstance(fields.get(key), str):
        raise msgspec.ValidationError(f"Object missing required field `{key}`")
    return fields if fields[key] in wanted else None


def _item(item_id: str, fields: dict[str, Any], names: tuple[str, ...]) -> Item:
    texts = {
        name: plain_field(fields[name], prose=name in _PROSE) for name in names if name in fields
    }
    return Item(item_id, texts)


def _questions(events: _Events, file: str, counts: Counter[str]) -> Iterator[Question]:
    """Yield every user's timeline in order of time; exact repeats are dropped and counted."""
    user = np.frombuffer(events.user, dtype=np.int32)
    time = np.frombuffer(events.time, dtype=np.int64)
    item = np.frombuffer(events.item, dtype=np.int32)
    rating = np.frombuffer(events.rating, dtype=np.float32)
    order = np.lexsort((time, user))
    ends = np.cumsum(np.bincount(user, minlength=len(events.users)))
    names = list(events.items)
    start = 0
    for user_id, end in zip(events.users, ends.tolist(), strict=True):
        chosen = order[start:end]
        columns = (time[chosen].tolist(), item[chosen].tolist(), rating[chosen].tolist())
        rated = _distinct(zip(*columns, strict=True))
        distinct = list(rated)
        counts["exact repeats of a review"] += len(chosen) - len(distinct)
        start = end
        times = [_seconds(moment) for moment, _ in distinct]
        *history, target = [names[index] for _, index in distinct]
        ratings = [None if math.isnan(value) else value for value in rated.values()]
        yield Question(
            user_id,
            history,
            [target],
            timestamp=times[-1],
            times=times[:-1],
            ratings=ratings,
            file=file,
        )


def _distinct(events: Iterable[tuple[int, int, float]]) -> dict[tuple[int, int], float]:
    """Keep each (time, item) once, with the highest of its ratings."""
    rated: dict[tuple[int, int], float] = {}
    for moment, item, rating in events:
        rated[moment, item] = float(np.fmax(rated.get((moment, item), math.nan), rating))
    return rated


def _seconds(milliseconds: int) -> float:
    """Give whole seconds as an integer, so that they are written without ``.0``."""
    seconds, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else seconds


FORMAT = Format(
    "amazon-reviews",
    "X_5.json or X.jsonl of reviews with meta_X.json or meta_X.jsonl",
    _find,
    Defaults(),
    _read,
)
