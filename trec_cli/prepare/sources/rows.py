"""Rows of tables as people keep them.

==================  ==========================================================
``.csv``, ``.txt``  commas, semicolons, tabs or bars; quotes as in RFC 4180
``.tsv``            tabs; a field may be quoted, but holds no tab and no line break
``.inter`` etc.     RecBole's atomic files: tabs, no quotes, types in the header
``.dat``            MovieLens: ``::`` between fields, no quotes, no header
``.jsonl``          one object a line, or a JSON list of them; metadata of Amazon's
                    edition of 2014 is Python
``.parquet``        Parquet
==================  ==========================================================
"""

import ast
import codecs
import csv
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import msgspec

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import FaultList, numbered_lines, open_input, read_lines
from trec_cli.core.text import counted
from trec_cli.prepare.archive import Member, Source

Cells = list[str]
_LONGEST_FIELD = 1 << 26
_PEEKED = 4096
_LONGEST_LIST = 1 << 28
_BATCH = 50_000
_DELIMITERS = ",;\t|"
_ATOMIC = (".inter", ".item", ".user")
_JSON = (".jsonl", ".json", ".ndjson")
_CELLS = (".csv", ".txt", ".tsv", ".dat", *_ATOMIC)
SUFFIXES = (*_CELLS, *_JSON, ".parquet")
"""Endings of files that hold tables."""

csv.field_size_limit(_LONGEST_FIELD)


def suffix_of(member: Member) -> str:
    """Return the ending of a file in lower case."""
    return PurePath(member.base).suffix.lower()


def read_first(source: Source, member: Member) -> Cells:
    """Return the first row of cells, or the names of columns where the file itself has them.

    Blanks around a name are left out, and so are the types of atomic files
    (``user_id:token``).

    Raises:
        InputError: the file is empty, damaged or not what its name says.
    """
    suffix = suffix_of(member)
    with source.reading(member) as path:
        if suffix == ".parquet":
            with _parquet(path) as file:
                return list(file.schema_arrow.names)
        if suffix in _JSON:
            for _, record in _objects(path):
                return list(record)
        faults = FaultList(path)
        with closing(_cells(path, suffix, faults)) as rows:
            first = next(rows, None)
        faults.raise_if_any()
    if first is None:
        raise InputError.of(member, "is empty", "fetch it again")
    names = [cell.split(":", 1)[0] if suffix in _ATOMIC else cell for cell in first[1]]
    return [name.strip() for name in names]


def read_rows(
    source: Source,
    member: Member,
    columns: Cells,
    *,
    has_header: bool,
    only: Collection[str] | None = None,
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line, values by column) of every row.

    Args:
        source, member: the file.
        columns: names for the cells of a row; where the file names them, as it does.
        has_header: whether the first row of cells names the columns.
        only: columns that are needed, for formats that can leave the others unread.

    Raises:
        InputError: at the end, or after 20 faults.
    """
    suffix = suffix_of(member)
    with source.reading(member) as path:
        if suffix == ".parquet":
            yield from _parquet_rows(path, only)
        elif suffix in _JSON:
            yield from _objects(path)
        else:
            yield from _named(path, suffix, columns, has_header)


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) of JSON lines, or (index from 1, object) of one JSON list."""
    with open_input(path) as stream:
        start = stream.read(_PEEKED).removeprefix(codecs.BOM_UTF8).lstrip()
    if not start.startswith(b"["):
        yield from read_lines(path, decode_object)
        return
    with open_input(path) as stream:
        content = stream.read(_LONGEST_LIST + 1).removeprefix(codecs.BOM_UTF8)
    try:
        if len(content) > _LONGEST_LIST:
            raise ValueError(f"longer than {_LONGEST_LIST:,} bytes")
        found = msgspec.json.decode(content, type=list[dict[str, Any]])
    except (ValueError, RecursionError) as error:
        raise InputError.of(
            path, f"is not a JSON list of objects: {error}", "write one object a line: jq -c '.[]'"
        ) from None
    yield from enumerate(found, 1)


def is_python(line: str) -> bool:
    """Check whether a line is a Python dictionary instead of a JSON object."""
    return line.startswith("{'")


def decode_object(line: str) -> dict[str, Any]:
    """Decode a JSON object, or a Python dictionary as Amazon's edition of 2014 has them."""
    if is_python(line):
        try:
            found = msgspec.convert(ast.literal_eval(line), dict[str, Any])
            msgspec.json.encode(found)  # half a character cannot be written
            return found
        except (SyntaxError, MemoryError, RecursionError, TypeError) as error:
            raise ValueError(f"not a Python dictionary: {error}") from None
    return _decode_object(line)


_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def _parquet(path: Path) -> Any:
    """Open a Parquet file; one that is damaged is an InputError."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _parquet_rows(
    path: Path, only: Collection[str] | None
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa

    with _parquet(path) as file:
        decimals = [f.name for f in file.schema_arrow if pa.types.is_decimal(f.type)]
        line = 0
        try:
            for batch in file.iter_batches(_BATCH, columns=None if only is None else list(only)):
                for row in batch.to_pylist():
                    line += 1
                    for name in decimals:
                        if row.get(name) is not None:
                            row[name] = float(row[name])
                    yield line, row
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
            raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    problem = str(error).strip().splitlines()[0][:200]
    return InputError.of(path, f"is not a readable Parquet file: {problem}", "fetch it again")


def _named(
    path: Path, suffix: str, columns: Cells, has_header: bool
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Put cells under their names; a row of another length is a fault."""
    faults = FaultList(path)
    rows = _cells(path, suffix, faults)
    if has_header:
        next(rows)
    for line, cells in rows:
        if len(cells) == len(columns):
            yield line, dict(zip(columns, cells, strict=True))
        else:
            faults.add(
                line,
                f"has {counted(len(cells), 'column')}, not {len(columns)}",
                "a field with the delimiter in it needs quotes; the line may be cut off",
            )
    faults.raise_if_any()


def _cells(path: Path, suffix: str, faults: FaultList) -> Generator[tuple[int, Cells], None, None]:
    """Yield (line, cells) of every row that is not blank."""
    with open_input(path) as stream:
        lines = _texts(stream, faults, latin=suffix == ".dat")
        if suffix in (".csv", ".txt"):
            yield from _csv(lines, faults)
            return
        split: Callable[[str], Cells] = {".tsv": _tabs, ".dat": _colons}.get(suffix, _atomic)
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, split(line.rstrip("\r\n"))


def _texts(stream: BinaryIO, faults: FaultList, *, latin: bool) -> Iterator[str]:
    """Decode lines; one that is not UTF-8 is a fault, and blank, unless it may be Latin-1."""
    for number, raw in numbered_lines(stream, faults):
        if number == 1:
            if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
                faults.add(1, "is UTF-16 text", "save the file as UTF-8")
                return
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            yield raw.decode()
        except UnicodeDecodeError:
            if not latin:
                faults.add(number, "is not UTF-8 text", "save the file as UTF-8")
            yield raw.decode("latin-1") if latin else "\n"


def _csv(lines: Iterator[str], faults: FaultList) -> Iterator[tuple[int, Cells]]:
    """Split CSV."""
    first = next(lines, None)
    if first is None:
        return

    def everything() -> Iterator[str]:
        yield first
        yield from lines

    reader = csv.reader(everything(), delimiter=delimiter_of(first), strict=True)
    start = 1
    try:
        for cells in reader:
            if cells:
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        faults.add(start, f"is not CSV: {error}", 'write a quote in a quoted field twice: ""')


def delimiter_of(first: str) -> str:
    """Return the delimiter of CSV: the one that occurs most in the first line."""
    return max(_DELIMITERS, key=first.count)


def _tabs(line: str) -> Cells:
    return [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    """Take off quotes that stand around a whole field, with those inside doubled."""
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"':
        return cell
    inner = cell[1:-1]
    return inner.replace('""', '"') if '"' not in inner.replace('""', "") else cell


def _colons(line: str) -> Cells:
    return line.split("::")


def _atomic(line: str) -> Cells:
    return line.split("\t")
