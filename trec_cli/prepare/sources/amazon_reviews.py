"""Amazon reviews of 2014/2018 and of 2023: a file of reviews and a file of item metadata.

A user's items are ordered by time; in 2018 all reviews of a day have one.  Neither names
of reviewers nor texts of reviews are read.  The catalogue holds the items that somebody
reviewed in the file.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList, read_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Identifier
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import (
    Catalogue,
    Collection,
    Defaults,
    ReadOptions,
    check_attributes,
)
from trec_cli.prepare.formats import Files, Format
from trec_cli.prepare.sources.catalogues import item_texts, new_texts
from trec_cli.prepare.sources.clock import Clock, UnsetTime
from trec_cli.prepare.sources.log import NO_TIME, DiskLog, Event, Log, new_log
from trec_cli.prepare.sources.rows import decode_object, is_python

_META = r"meta_.+\.jsonl?"
_NOTED = 10_000


class _Review2018(msgspec.Struct, gc=False):
    reviewerID: Identifier  # noqa: N815 - the collection's name
    asin: Identifier
    unixReviewTime: int  # noqa: N815
    overall: float | None = None

    def event(self) -> Event:
        """Return user, item, time and rating."""
        return self.reviewerID, self.asin, self.unixReviewTime, self.overall


class _Review2023(msgspec.Struct, gc=False):
    user_id: Identifier
    parent_asin: Identifier
    timestamp: int
    rating: float | None = None

    def event(self) -> Event:
        """Return user, item, time and rating."""
        return self.user_id, self.parent_asin, self.timestamp, self.rating


@dataclass(frozen=True)
class _Edition:
    """How an edition of the collection names things.

    Attributes:
        key: the field of a review that no other edition has.
        item: the field that names an item, in reviews and metadata.
        attributes: texts kept by default.
        unit: of times.
    """

    key: str
    item: str
    review: type[_Review2018] | type[_Review2023]
    attributes: tuple[str, ...]
    unit: str


EDITIONS = (
    _Edition(
        "reviewerID",
        "asin",
        _Review2018,
        ("title", "brand", "category", "categories", "price", "description"),
        "seconds",
    ),
    _Edition(
        "parent_asin",
        "parent_asin",
        _Review2023,
        ("title", "main_category", "store", "categories", "price", "features", "description"),
        "milliseconds",
    ),
)


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
    events = _read_events(source, reviews, edition, counts, progress)
    # Users are counted when their events are read.
    counts.update({"reviews": len(events), "users": 0, "items with reviews": len(events.items)})
    items = _read_meta(source, meta, edition, options.attributes, events.items, counts, progress)
    questions = events.questions(str(reviews), counts, "exact repeats of a review")
    return Collection(items, questions, None, counts, is_log=True, file=str(reviews))


def _edition(source: Source, member: Member) -> _Edition:
    """Recognise the edition by the fields of the first review."""
    with source.reading(member) as path:
        decoder = msgspec.json.Decoder(dict[str, Any])
        _, first = next(iter(read_lines(path, decoder.decode)))
        for edition in EDITIONS:
            if edition.key in first:
                return edition
        raise InputError.of(
            path,
            f"is not a review of Amazon: it has {', '.join(first)}",
            "2018 has reviewerID, asin, unixReviewTime; 2023 user_id, parent_asin, timestamp",
            1,
        )


def _read_events(
    source: Source, member: Member, edition: _Edition, counts: Counter[str], progress: Progress
) -> Log | DiskLog:
    events, clock = new_log(source.space), Clock(usual_unit=edition.unit)
    decode = msgspec.json.Decoder(edition.review).decode

    def event(line: str) -> Event | None:
        user, item, time, rating = decode(line).event()
        try:
            return user, item, clock.seconds(time), rating
        except UnsetTime:
            return None
        except ValueError as error:
            raise msgspec.ValidationError(f"the time: {error}") from None

    with source.reading(member) as path, progress.task("reading reviews") as task:
        for line, review in read_lines(path, event):
            if review is None:
                counts[NO_TIME] += 1
            else:
                events.add(*review)
            if line % _NOTED == 0:
                task.advance(_NOTED)
    clock.report(progress)
    return events


def _read_meta(
    source: Source,
    member: Member,
    edition: _Edition,
    chosen: tuple[str, ...] | None,
    wanted: dict[str, int],
    counts: Counter[str],
    progress: Progress,
) -> Catalogue:
    """Read the metadata of the reviewed items."""
    texts, known = new_texts(source.space), dict[str, None]()
    decode = _meta_decoder(edition.item, wanted)
    with source.reading(member) as path, progress.task("reading metadata") as task:
        faults = FaultList(path)
        for line, fields in read_lines(path, decode, faults=faults):
            if line % _NOTED == 0:
                task.advance(_NOTED)
            if fields is None:
                counts["metadata of items without reviews"] += 1
                continue
            item_id = fields.pop(edition.item)
            known.update(dict.fromkeys(fields))
            try:
                texts.add(item_id, item_texts(fields, chosen or edition.attributes))
            except msgspec.ValidationError as error:
                faults.add(line, str(error), "flatten or remove the line")
    check_attributes(chosen, known)
    return texts.catalogue(counts, "metadata lines of an item already read", str(member))


def _meta_decoder(key: str, wanted: dict[str, int]) -> Callable[[str], dict[str, Any] | None]:
    """Decode a line of metadata, or return None where nobody reviewed the item."""
    identifier = msgspec.json.Decoder(msgspec.defstruct("_Key", [(key, Identifier)]))

    def decode(line: str) -> dict[str, Any] | None:
        if is_python(line):
            return _wanted(decode_object(line), key, wanted)
        if getattr(identifier.decode(line), key) not in wanted:
            return None
        return decode_object(line)

    return decode


def _wanted(fields: dict[str, Any], key: str, wanted: dict[str, int]) -> dict[str, Any] | None:
    if not isinstance(fields.get(key), str):
        raise msgspec.ValidationError(f"Object missing required field `{key}`")
    return fields if fields[key] in wanted else None


FORMAT = Format(
    "amazon-reviews",
    "X_5.json or X.jsonl of reviews with meta_X.json or meta_X.jsonl",
    _find,
    Defaults(),
    _read,
)
