"""Recognise a collection's format by the names of its files, or by their columns."""

from collections.abc import Iterable, Mapping, Sequence

from trec_cli.core.errors import InputError
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.formats import Files, Format, Found
from trec_cli.prepare.sources import amazon_m2, amazon_reviews, clicks, mind, plain
from trec_cli.prepare.sources.tables import unknown_columns

FORMATS = {
    format_.name: format_
    for format_ in (
        mind.FORMAT,
        amazon_m2.FORMAT,
        amazon_reviews.FORMAT,
        plain.FORMAT,
        clicks.FORMAT,
    )
}
"""All formats; the last is told by columns, and looked for where no other is found by name."""

_SHOWN = 8
_COLUMNS = "if it is a log, name its columns with --columns user=COLUMN,item=COLUMN,time=COLUMN; "


def detect(source: Source, name: str = "auto") -> Found:
    """Find the files of the named format, or of whichever format is there.

    Raises:
        InputError: nothing was found (the message says what was looked for and what is
            there), or more than one format.
    """
    formats = list(FORMATS.values()) if name == "auto" else [FORMATS[name]]
    by_name = [format_ for format_ in formats if format_ is not clicks.FORMAT]
    found = _found(by_name, source) or _found([f for f in formats if f not in by_name], source)
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(f.format.name for f in found)
        raise InputError.of(source.path, f"holds several formats: {names}", "choose with --format")
    looked = "; ".join(f"{f.name}: {f.looks_for}" for f in formats)
    headers = unknown_columns(source) if clicks.FORMAT in formats else {}
    there = [_described(member, headers) for member in source.members[:_SHOWN]]
    more = f" and {len(source.members) - _SHOWN} more" if len(source.members) > _SHOWN else ""
    between = "; " if headers else ", "
    raise InputError.of(
        source.path,
        f"holds no collection that is known; there is {between.join(there) or 'nothing'}{more}",
        f"{_COLUMNS if headers else ''}looked for {looked}; each also in a .zip or as .gz",
    )


def _described(member: Member, headers: Mapping[Member, Sequence[str]]) -> str:
    """Name a file with its columns; an empty one is why a log was not recognised."""
    if member in headers:
        return f"{member.name} with columns {', '.join(headers[member][:_SHOWN])}"
    empty = member.inside is None and member.file.is_file() and not member.file.stat().st_size
    return f"{member.name} (empty)" if empty else member.name


def _found(formats: Iterable[Format], source: Source) -> list[Found]:
    return [Found(f, files) for f in formats if (files := _files(f, source)) is not None]


def _files(format_: Format, source: Source) -> Files | None:
    """Find a format's files; where the user named a file, it must be one of them."""
    files = format_.find(source)
    if files is None or source.chosen is None:
        return files
    return files if any(source.chosen in members for members in files.values()) else None
