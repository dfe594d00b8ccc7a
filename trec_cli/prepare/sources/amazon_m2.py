"""Amazon-M2 (KDD Cup 2023): ``products_train.csv`` and ``sessions_train.csv``.

``prev_items`` is a numpy array as numpy prints it: quoted ids between brackets, parted by
blanks and line breaks.  Sessions carry no user, so each is its own, numbered by its index
in the file.  Products are keyed by (locale, id); one locale is read.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from sys import intern
from typing import TYPE_CHECKING

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList
from trec_cli.core.progress import Progress
from trec_cli.core.records import Item
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import (
    Catalogue,
    Collection,
    Defaults,
    Question,
    ReadOptions,
    check_attributes,
)
from trec_cli.prepare.formats import Files, Format, one_of_each
from trec_cli.prepare.text import NOTHING

if TYPE_CHECKING:
    import polars as pl

_COLUMNS = {
    "title": "title",
    "price": "price",
    "brand": "brand",
    "color": "color",
    "size": "size",
    "model": "model",
    "material": "material",
    "author": "author",
    "description": "desc",
}
"""The attributes as the paper names and orders them, and their columns."""

_NO_PRICE = "40000000.07"
"""What the collection writes where it knows no price."""

_QUOTED = r"""(?:'[^']+'|"[^"]+")"""
_ARRAY = rf"^\s*\[(?:\s*{_QUOTED},?)*\s*\]\s*$"
_CHUNK = 50_000


def _find(source: Source) -> Files | None:
    return one_of_each(source, "products", "sessions", ending=r"(?:_train)?\.csv")


def _read(source: Source, files: Files, options: ReadOptions, progress: Progress) -> Collection:
    (products,), (sessions,) = files["products"], files["sessions"]
    names = options.attributes or tuple(_COLUMNS)
    check_attributes(names, _COLUMNS)
    counts: Counter[str] = Counter()
    progress.info(f"reading the products and sessions of {options.locale}")
    frame = _read_products(source, products, options.locale, names, counts)
    catalogue = _catalogue(frame, str(products))
    questions = _questions(source, sessions, options.locale, counts, progress)
    return Collection(catalogue, questions, None, counts, file=str(sessions))


@contextmanager
def _csv(source: Source, member: Member, columns: list[str]) -> "Iterator[pl.LazyFrame]":
    """Scan a CSV file, all columns as text; what polars complains about is an InputError."""
    import polars as pl

    with source.reading(member, plain=True) as path:
        try:
            frame = pl.scan_csv(path, infer_schema=False)
            missing = [c for c in columns if c not in frame.collect_schema().names()]
            if missing:
                raise InputError.of(path, f"has no column {', '.join(missing)}", "fetch it again")
            yield frame
        except pl.exceptions.PolarsError as error:
            problem = str(error).strip().splitlines()[0]
            raise InputError.of(
                path, f"is not CSV in UTF-8: {problem}", "fetch it again, or save it as UTF-8"
            ) from None


def _read_products(
    source: Source, member: Member, locale: str, names: tuple[str, ...], counts: Counter[str]
) -> "pl.DataFrame":
    """Return the products of a locale: ``item_id`` and the attributes, only those with text."""
    import polars as pl

    with _csv(source, member, ["id", "locale", *map(_COLUMNS.__getitem__, names)]) as scan:
        price = pl.when(pl.col("price") == _NO_PRICE).then(None).otherwise(pl.col("price"))
        texts = [
            (price if name == "price" else pl.col(_COLUMNS[name])).alias(name) for name in names
        ]
        meant = [pl.when(~text.str.strip_chars().is_in(NOTHING)).then(text) for text in texts]
        everything = (
            scan.filter(pl.col("locale") == locale)
            .select(pl.col("id").alias("item_id"), *meant)
            .collect()
        )
        frame = everything.filter(pl.col("item_id").is_not_null())
        if len(frame) < len(everything):
            counts["products without id"] = len(everything) - len(frame)
        if frame.is_empty():
            there = scan.select(pl.col("locale").unique().sort()).collect().to_series()
            named = ", ".join(map(str, there)) or "none"
            raise InputError.of(member, f"has no product of {locale}; it has {named}", "--locale")
    length = pl.sum_horizontal(pl.col(names).str.len_chars().fill_null(0))
    fullest = frame.sort(length, *names, descending=[True, *(False for _ in names)])
    once = fullest.unique("item_id", keep="first", maintain_order=True)
    counts[f"products of {locale}"] = len(once)
    counts["products that stand twice"] = len(frame) - len(once)
    has_text = pl.any_horizontal(pl.col(names).str.contains(r"\S").fill_null(False))
    return once.filter(has_text)


def _catalogue(frame: "pl.DataFrame", name: str) -> Catalogue:
    """Keep the texts in the frame; make items only of those that are asked for."""
    import polars as pl

    def fetch(ids: list[str]) -> Iterator[Item]:
        wanted = frame.filter(pl.col("item_id").is_in(ids)).sort("item_id")
        for row in wanted.iter_rows(named=True):
            item_id = row.pop("item_id")
            yield Item(item_id, {key: value for key, value in row.items() if value is not None})

    return Catalogue(set(map(intern, frame.get_column("item_id"))), fetch, name)


def _questions(
    source: Source, member: Member, locale: str, counts: Counter[str], progress: Progress
) -> Iterator[Question]:
    sessions = _read_sessions(source, member, locale, counts)
    faults = FaultList(str(member))
    with progress.task("reading sessions", total=len(sessions)) as task:
        for chunk in sessions.iter_slices(_CHUNK):
            for number, line, valid, previous, target in chunk.iter_rows():
                if not valid or not target:
                    faults.add(
                        line,
                        "prev_items is not an array of quoted ids, or next_item is missing",
                        "numpy prints ['B01' 'B02']; the line may be cut off",
                    )
                    continue
                history = [intern(item[1:-1]) for item in previous]
                yield Question(
                    f"session-{number}", history, [intern(target)], file=str(member), line=line
                )
            task.advance(len(chunk))
    faults.raise_if_any()


def _read_sessions(
    source: Source, member: Member, locale: str, counts: Counter[str]
) -> "pl.DataFrame":
    """Return number, line, whether it can be read, quoted ids and target of every session."""
    import polars as pl

    previous = pl.col("prev_items")
    lines = previous.str.count_matches("\n", literal=True).fill_null(0) + 1
    with _csv(source, member, ["prev_items", "next_item", "locale"]) as scan:
        everything = scan.select(
            pl.int_range(1, pl.len() + 1).alias("number"),
            (lines.cum_sum() - lines + 2).alias("line"),
            previous.str.contains(_ARRAY).fill_null(False).alias("valid"),
            previous.str.extract_all(_QUOTED).alias("previous"),
            "next_item",
            "locale",
        ).collect()
    wanted = everything.filter((pl.col("locale") == locale) | pl.col("locale").is_null()).drop(
        "locale"
    )
    counts[f"sessions of {locale}"] = len(wanted)
    counts["sessions of other locales"] = len(everything) - len(wanted)
    if wanted.is_empty():
        raise InputError.of(member, f"has no session of {locale}", "choose with --locale")
    return wanted


FORMAT = Format(
    "amazon-m2",
    "products_train.csv and sessions_train.csv",
    _find,
    Defaults(tuple(_COLUMNS), min_history=10, max_history=25, long="drop"),
    _read,
    options=frozenset({"locale"}),
)
