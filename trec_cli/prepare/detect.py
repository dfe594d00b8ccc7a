"""Telling a collection's format by the names of its files."""

from trec_cli.core.errors import InputError
from trec_cli.prepare.archive import Source
from trec_cli.prepare.formats import Files, Format, Found
from trec_cli.prepare.sources import amazon_m2, amazon_reviews, mind, plain

FORMATS = {f.name: f for f in (mind.FORMAT, amazon_m2.FORMAT, amazon_reviews.FORMAT, plain.FORMAT)}
_SHOWN = 8


def detect(source: Source, name: str = "auto") -> Found:
    """Find the files of the named format, or of whichever format is there.

    Raises:
        InputError: nothing was found (the message says what was looked for and what is
            there), or more than one format.
    """
    formats = list(FORMATS.values()) if name == "auto" else [FORMATS[name]]
    found = [Found(f, files) for f in formats if (files := _files(f, source)) is not None]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(f.format.name for f in found)
        raise InputError.of(source.path, f"holds several formats: {names}", "choose with --format")
    looked = "; ".join(f"{f.name}: {f.looks_for}" for f in formats)
    there = [m.name for m in source.members]
    more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
    raise InputError.of(
        source.path,
        f"holds no collection that is known; there is {', '.join(there[:_SHOWN]) or 'nothing'}"
        f"{more}",
        f"looked for {looked} (each also in a .zip or as .gz)",
    )


def _files(format_: Format, source: Source) -> Files | None:
    """Find a format's files; where the user named a file, it must be one of them."""
    files = format_.find(source)
    if files is None or source.chosen is None:
        return files
    return files if any(source.chosen in members for members in files.values()) else None
