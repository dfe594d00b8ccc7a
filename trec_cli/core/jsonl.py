"""Reading and writing JSONL: the one place that knows lines, encodings and faults.

Reading reports up to :data:`~trec_cli.core.errors.MAX_FAULTS` faults at once, each with
file, line and what to do.  ``-`` is standard input or output.
"""

import gc
import gzip
import hashlib
import io
import re
import sys
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import jsonlines
import msgspec

from trec_cli.core.errors import MAX_FAULTS, Fault, InputError, UsageError
from trec_cli.core.json_file import key_twice
from trec_cli.core.records import PREDICT, Example, Identifier, Item, Split, Summary, UserSequence
from trec_cli.core.type_errors import in_words
from trec_cli.core.unpacking import bounded

STREAM = "-"
_BUFFER = 1 << 20
_LONGEST_LINE = 64 << 20
_MOST_BLANK = 1_000_000
_CHECKED = 100
"""Lines of a file whose keys are checked for repeats; a writer that repeats one does it always."""
_HALF = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|"
    r"(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
Record = TypeVar("Record")
_encoder = msgspec.json.Encoder()


def is_stream(path: Path | str) -> bool:
    """Return whether ``path`` means standard input or output."""
    return str(path) == STREAM


def check_streams(files: Mapping[str, Path | None]) -> None:
    """Refuse two inputs from one standard input, of which the second would find nothing.

    Args:
        files: by the option that names each.

    Raises:
        UsageError: naming the options.
    """
    streams = [option for option, path in files.items() if path and is_stream(path)]
    if len(streams) > 1:
        raise UsageError(f"{streams[0]} and {streams[1]} cannot both be standard input")


class FaultList:
    """Collects faults and raises them together, at the end or when there are too many."""

    def __init__(self, file: Path | str) -> None:
        """Take the file, as the user named it."""
        self.file = "standard input" if is_stream(file) else str(file)
        self._faults: list[Fault] = []

    def add(self, line: int | None, problem: str, fix: str = "") -> None:
        """Note a fault; raise all so far once there are ``MAX_FAULTS``."""
        self._faults.append(Fault(self.file, line, problem, fix))
        if len(self._faults) >= MAX_FAULTS:
            raise InputError(self._faults)

    def raise_if_any(self) -> None:
        """Raise :class:`InputError` if a fault was noted."""
        if self._faults:
            raise InputError(self._faults)


_hashes: ContextVar[dict[str, str] | None] = ContextVar("hashes", default=None)


@contextmanager
def hashed_while_read() -> Iterator[dict[str, str]]:
    """Collect the SHA-256 of every file that is read to its end inside the block, by path.

    Each file is opened once, for its records and for its hash.
    """
    found: dict[str, str] = {}
    token = _hashes.set(found)
    try:
        yield found
    finally:
        _hashes.reset(token)


class _Hashed(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: Path) -> None:
        self._stream = file.open("rb", buffering=0)
        self._digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer) or 0
        self._digest.update(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()

    def hexdigest(self) -> str | None:
        """Return the hash of the file; None where some of it has not been read."""
        return None if self._stream.read(1) else self._digest.hexdigest()


@contextmanager
def open_input(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file (``.gz`` unpacked on the way) or standard input, as bytes.

    Raises:
        InputError: it is missing, a folder, or cannot be read.
    """
    if is_stream(path):
        yield sys.stdin.buffer
        return
    file, hashes = Path(path), _hashes.get()
    try:
        raw = file.open("rb") if hashes is None else _Hashed(file)
    except FileNotFoundError:
        raise InputError.missing(file) from None
    except IsADirectoryError:
        raise InputError.of(file, "is a folder, not a file", "name the JSONL file itself") from None
    except OSError as error:
        raise InputError.of(file, f"cannot be read: {error.strerror}") from None
    with raw if hashes is None else io.BufferedReader(raw, _BUFFER) as stream:
        yield _unpacked(stream, file) if file.suffix == ".gz" else cast(BinaryIO, stream)
        if isinstance(raw, _Hashed) and hashes is not None and (found := raw.hexdigest()):
            hashes[str(path)] = found


def _unpacked(stream: Any, file: Path) -> BinaryIO:
    packed = cast(BinaryIO, gzip.open(stream))  # noqa: SIM115 - closed with what it reads
    return bounded(packed, file.stat().st_size, file)


def numbered_lines(stream: BinaryIO, faults: FaultList) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a stream from 1 on.

    A compressed file that is damaged is a fault, and so are a line without end and blank
    lines without end: nothing after them is read.
    """
    number = blank = 0
    try:
        while line := stream.readline(_LONGEST_LINE):
            number += 1
            if len(line) >= _LONGEST_LINE:
                faults.add(number, f"is longer than {_LONGEST_LINE:,} bytes", "is it a text file?")
                return
            blank = blank + 1 if line == b"\n" else 0
            if blank > _MOST_BLANK:
                faults.add(number, f"is one of over {_MOST_BLANK:,} blank lines", "remove them")
                return
            yield number, line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        faults.add(None, f"the compressed file is damaged: {error}", "fetch it again")


def read_lines(
    path: Path | str,
    decode: Callable[[str], Record],
    *,
    allow_empty: bool = False,
    faults: FaultList | None = None,
) -> Iterator[tuple[int, Record]]:
    """Yield (line number, record) for every line of ``path`` that is not blank.

    Args:
        path: the file, or ``-``.
        decode: raises ValueError for a line that is not what it should be.
        allow_empty: whether a file without lines is fine.
        faults: where the caller notes what else is wrong; raised with ours at the end.

    Raises:
        InputError: with up to 20 faults: broken or mistyped lines, bytes that are not
            UTF-8, pretty-printed JSON, or an empty file (unless ``allow_empty``).
    """
    faults = faults or FaultList(path)
    empty = True
    with open_input(path) as stream:
        for number, line in numbered_lines(stream, faults):
            if line == b"\n":
                continue
            if number <= _CHECKED and (twice := key_twice(line)):
                faults.add(number, f"has the key {twice!r} twice", "keep one of them")
            try:
                # There may be millions: a line without peculiarities takes the short way.
                record = decode(line.decode())
            except RecursionError:
                faults.add(number, "is nested too deeply", "flatten or remove the line")
                continue
            except ValueError:
                if not line.strip():
                    continue
                empty = False
                try:
                    record = _decode_odd(line, decode)
                except jsonlines.InvalidLineError as error:
                    faults.add(number, *_explain(error, whole=line.endswith(b"\n")))
                    if _is_pretty(error):
                        break  # every further line would be a fault
                    continue
            empty = False
            yield number, record
    faults.raise_if_any()
    if empty and not allow_empty:
        raise InputError.of(
            faults.file, "is empty", "make it again: the export, or the stage before"
        )


def _decode_odd(line: bytes, decode: Callable[[str], Record]) -> Record:
    """Decode a line that ``decode`` alone does not take: it has a byte order mark, or a fault.

    Raises:
        jsonlines.InvalidLineError: with the reason as its cause.
    """
    reader = jsonlines.Reader([line], loads=cast(Any, decode))
    return cast(Record, reader.read(allow_none=True))


def _line_text(error: jsonlines.InvalidLineError) -> str:
    line = error.line
    return line.decode("utf-8", "replace") if isinstance(line, bytes) else line


def _is_pretty(error: jsonlines.InvalidLineError) -> bool:
    """Return whether a line looks like a piece of a record that spreads over several."""
    text = _line_text(error).strip()
    return text in ("{", "[", "}", "]", "},") or text.rstrip(",").endswith('":')


def _explain(error: jsonlines.InvalidLineError, *, whole: bool) -> tuple[str, str]:
    """Describe what is wrong with a line, and what to do, in the user's words."""
    text, cause = _line_text(error), error.__cause__
    shown = text.strip()[:60]
    if isinstance(cause, UnicodeDecodeError):
        return "is not UTF-8 text", "save the file as UTF-8, for example: iconv -f latin1 -t utf-8"
    if isinstance(cause, msgspec.ValidationError):
        return in_words(str(cause)), "see docs/files.md for the fields"
    if _is_pretty(error):
        return (
            f"is pretty-printed JSON, not one record a line ({shown!r})",
            "write one record a line, for example: jq -c",
        )
    if half := _HALF.search(text):
        return (
            f"holds half a character, {half[0]} without its other half",
            "the text was cut in the middle of an emoji; write it whole",
        )
    if "NaN" in text or "Infinity" in text:
        return f"holds NaN or Infinity, which JSON does not have: {shown!r}", "write a number"
    if not whole:
        return f"is cut off in the middle: {shown!r}", "the writer was stopped; run it again"
    return f"is not JSON: {shown!r} ({cause})", "repair or remove the line"


def _decode_item(line: str, *, numeric_ids: bool = False) -> Item:
    """Read an item: ``item_id`` and any texts; numbers and lists become text."""
    fields = msgspec.json.decode(line, type=dict[str, Any])
    item_id = fields.pop("item_id", None)
    if numeric_ids and type(item_id) is int:
        item_id = str(item_id)
    if not isinstance(item_id, str) or not item_id:
        raise msgspec.ValidationError(f"`item_id` must be a non-empty string, not {item_id!r}")
    return Item(item_id, {name: plain_value(value) for name, value in fields.items()})


def plain_value(value: object) -> str:
    """Turn a JSON value into text: null is empty, lists are joined by commas."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(filter(None, map(plain_value, value)))
    if isinstance(value, dict):
        pairs = ((name, plain_value(inner)) for name, inner in value.items())
        return ", ".join(f"{name} {inner}" for name, inner in pairs if inner)
    return str(value)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let nothing search for garbage while millions of objects are made that all stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_items(path: Path | str, *, numeric_ids: bool = False) -> dict[str, Item]:
    """Read `items.jsonl` into a catalogue by id, in file order.

    ``numeric_ids`` lets ids be whole numbers, which become texts.

    Raises:
        InputError: for broken lines, duplicate ids, or an empty file.
    """
    items: dict[str, Item] = {}
    faults = FaultList(path)
    decode = partial(_decode_item, numeric_ids=numeric_ids)
    for line, item in read_lines(path, decode, faults=faults):
        if item.item_id in items:
            faults.add(line, f"item_id {item.item_id!r} stands twice", "keep one of them")
        items[item.item_id] = item
    return items


class _RawSequence(msgspec.Struct):
    user_id: Identifier | int
    items: list[Identifier | int]
    random_candidates: list[Identifier | int] | None = None
    timestamps: list[int | float | str] | None = None


def iter_sequences(path: Path | str) -> Iterator[tuple[int, UserSequence]]:
    """Yield (line, record) of `sequences.jsonl`, one at a time: there may be millions.

    Ids that are written as whole numbers are read as texts.
    """
    for line, raw in read_lines(path, msgspec.json.Decoder(_RawSequence).decode):
        yield (
            line,
            UserSequence(
                user_id=str(raw.user_id),
                items=list(map(str, raw.items)),
                random_candidates=None
                if raw.random_candidates is None
                else list(map(str, raw.random_candidates)),
                timestamps=raw.timestamps,
            ),
        )


def _with_example_id(kind: type[Record]) -> Callable[[str], Record]:
    """Decode ``kind``; where ``example_id`` is left out, the user id takes its place.

    An example of split ``predict`` may leave out candidates and positives.
    """
    fields_of = msgspec.structs.fields(cast(Any, kind))
    needs_user = any(field.name == "user_id" and field.required for field in fields_of)

    def decode(line: str) -> Record:
        fields = msgspec.json.decode(line)
        if isinstance(fields, dict):
            user = fields.get("user_id")
            if user and isinstance(user, str):
                fields.setdefault("example_id", user)
            elif needs_user:
                # The message must be about the wrong user id, not about its stand-in.
                fields.setdefault("example_id", "?")
            if kind is Example and fields.get("split") == PREDICT:
                fields = {"candidates": [], "positives": [], **fields}
        return msgspec.convert(fields, kind)

    return decode


def read_examples(path: Path | str, items: dict[str, Item] | None = None) -> list[Example]:
    """Read `examples.jsonl` into memory; arguments and errors are those of :func:`iter_examples`.

    Stages that may get millions read them with :func:`~trec_cli.core.stored.open_examples`.
    """
    seen: set[str] = set()
    examples: list[Example] = []
    for example in iter_examples(path, items, seen):
        seen.add(example.example_id)
        examples.append(example)
    return examples


def iter_examples(
    path: Path | str, items: dict[str, Item] | None, seen: Container[str]
) -> Iterator[Example]:
    """Yield the examples of `examples.jsonl`, checked that every one makes sense.

    Args:
        path: the file, or ``-``.
        items: the catalogue that histories and candidates must lie in, if given.
        seen: ids of the examples before; whoever reads adds each to them.

    Raises:
        InputError: for broken lines, an ``example_id`` that stands twice, candidates that
            stand twice, no positive (in split ``predict``: a positive), a positive that is
            no candidate, or unknown ids.
    """
    faults = FaultList(path)
    for line, example in read_lines(path, _with_example_id(Example), faults=faults):
        problem = _example_problem(example, seen, items)
        if problem:
            faults.add(line, f"example {example.example_id!r}: {problem[0]}", problem[1])
        yield example


def _example_problem(
    example: Example, seen: Container[str], items: dict[str, Item] | None
) -> tuple[str, str] | None:
    """Return the first thing wrong with an example and its remedy, or None."""
    if example.example_id in seen:
        return "stands twice", "give every example an example_id of its own"
    problem = candidates_problem(
        example.candidates, example.positives, example.missed or (), example.split
    )
    if problem or items is None:
        return problem
    used = (*example.history, *example.candidates, *(example.missed or ()))
    if not all(map(items.__contains__, used)):
        unknown = [i for i in used if i not in items]
        return (
            f"{len(unknown)} ids are not in the items, for example {unknown[0]!r}",
            "run trec prepare with --unknown drop, or add the items",
        )
    return None


def candidates_problem(
    candidates: Sequence[str],
    positives: Sequence[str],
    missed: Sequence[str] = (),
    split: Split = "test",
) -> tuple[str, str] | None:
    """Return what is wrong with a candidate list and its remedy, or None."""
    asks = split == PREDICT
    if not candidates and not asks:
        return "has no candidates", "remove the example"
    if len(set(candidates)) < len(candidates):
        return "has a candidate twice", "list every candidate once"
    if asks:
        return _answered(positives, missed)
    if not positives and not missed:
        return "has no positive", "remove the example, or name the right candidates"
    if len(set(positives)) < len(positives):
        return "has a positive twice", "list every positive once"
    outside = set(positives) - set(candidates)
    if outside:
        return f"positive {min(outside)!r} is not among its candidates", "add it to candidates"
    found = set(missed) & set(candidates)
    if found:
        return f"{min(found)!r} is missed, and yet a candidate", "move it to positives"
    return None


def _answered(positives: Sequence[str], missed: Sequence[str]) -> tuple[str, str] | None:
    """Refuse an answer to a question of split ``predict``."""
    if not positives and not missed:
        return None
    return (
        "has a positive, and split predict asks what nobody knows yet",
        "leave out the positives, or name split test",
    )


def read_summaries(path: Path | str) -> dict[str, Summary]:
    """Read `summaries-MODE.jsonl` into memory, by ``example_id``.

    Raises:
        InputError: see :func:`iter_summaries`.
    """
    summaries: dict[str, Summary] = {}
    for summary in iter_summaries(path, summaries):
        summaries[summary.example_id] = summary
    return summaries


def iter_summaries(path: Path | str, seen: Container[str]) -> Iterator[Summary]:
    """Yield the summaries of `summaries-MODE.jsonl`.

    ``seen`` are the ids of those before; whoever reads adds each to them.

    Raises:
        InputError: for broken lines, an ``example_id`` that stands twice, and blocks or
            attention weights that do not make sense.
    """
    faults = FaultList(path)
    for line, summary in read_lines(path, _with_example_id(Summary), faults=faults):
        if summary.example_id in seen:
            faults.add(line, f"example_id {summary.example_id!r} stands twice", "keep one of them")
        elif problem := _summary_problem(summary):
            faults.add(line, f"example {summary.example_id!r}: {problem}", "correct or remove it")
        yield summary


def _summary_problem(summary: Summary) -> str | None:
    """Return the first thing that is wrong with a summary; None where all is well."""
    attention = summary.attention
    keys = attention.keys if attention else []
    blocks = [(block.start, block.end) for block in summary.blocks]
    for kind, spans in (("block", blocks), ("key", [(key.start, key.end) for key in keys])):
        for number, (start, end) in enumerate(spans, 1):
            if end <= start:
                return f"{kind} {number} ends at item {end}, but starts at item {start}"
    if attention and len(attention.weights) != len(keys):
        return f"attention has {len(attention.weights)} weights for {len(keys)} keys"
    chosen = [index for row in attention.candidates for index, _ in row] if attention else []
    if any(not 0 <= index < len(keys) for index in chosen):
        return f"attention names a key that is none of its {len(keys)}"
    return None


def encode(record: Item | msgspec.Struct | dict[str, Any]) -> bytes:
    """Encode one record as a line with its newline; fields with their default are left out."""
    if isinstance(record, Item):
        body: object = {"item_id": record.item_id, **record.attributes}
    elif isinstance(record, msgspec.Struct):
        fields, usual = msgspec.structs.asdict(record), _defaults(type(record))
        body = {name: value for name, value in fields.items() if value != usual[name]}
    else:
        body = record
    return _encoder.encode(body) + b"\n"


@cache
def _defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Map each field of a record to its default; a required field and a list have none."""
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def content_hash(records: Iterable[Item | msgspec.Struct | dict[str, Any]]) -> str:
    """SHA-256 of records as lines: what a stream held, whose name says nothing of it."""
    digest = hashlib.sha256()
    for line in encode_all(records):
        digest.update(line)
    return digest.hexdigest()


def encode_all(records: Iterable[Item | msgspec.Struct | dict[str, Any]]) -> Iterator[bytes]:
    """Encode records one by one, for :func:`trec_cli.core.outputs.write_lines`."""
    return map(encode, records)
