"""Shards of an output become the output: the bytes, and the manifest, of one whole run.

The examples are read again, in their order, and every one must stand in the shard that it
was dealt to (:mod:`trec_cli.core.shards`), so none can be missing or double.  Neither the
model nor torch is needed, and memory does not grow with the number of users.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from trec_cli.cluster.parts import Part, find_parts
from trec_cli.core.changes import as_typed
from trec_cli.core.errors import InputError, SettingsChanged
from trec_cli.core.jsonl import hashed_while_read, open_input, read_lines
from trec_cli.core.manifest import Provenance, up_to_date
from trec_cli.core.outputs import locked, write_lines
from trec_cli.core.runs import RunFolder
from trec_cli.core.shards import owner
from trec_cli.score.growth import merge_keys
from trec_cli.score.recommendations import Recommendations, write_recommendations
from trec_cli.summarize.engine import Store

_KEPT = ("device", "way", "answers", "store", "quality")
"""Details that are not summed up: they stand in the merged manifest where all shards agree."""

_TIMES = ("seconds", "processor_seconds")


class _Asked(msgspec.Struct):
    """What of an example says whose it is."""

    user_id: str
    split: str
    example_id: str = ""


class _Found(msgspec.Struct):
    """What of a record says whose it is; recommendations name the user alone."""

    user_id: str = ""
    example_id: str = ""


_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_found = msgspec.json.Decoder(_Found).decode
_decode_list = msgspec.json.Decoder(Recommendations).decode


def merge(out: Path, *, overwrite: bool = False) -> int | None:
    """Write an output from its shards, with its manifest.

    Returns:
        How many shards there were; None where the output was there already.

    Raises:
        PartialError: shards are missing or unfinished.
        InputError: shards do not belong together or to the examples, or those are gone.
        SettingsChanged: the output is there with other settings, and not ``overwrite``.
        OutputLocked: another run is writing it.
    """
    parts = find_parts(out)
    first = parts[0]
    settings, inputs = first.settings, first.manifest["inputs"]
    with locked(out):
        if _is_there(out, parts, overwrite=overwrite):
            return None
        command = str(first.manifest["command"])
        own = {name: value for name, value in settings.items() if name != "inputs"}
        provenance = Provenance(command, own, list(inputs), inputs)
        _keep_texts(out, parts)
        with provenance.publish(out) as details:
            details.update(_details(parts))
            _write(out, parts)
    return len(parts)


def _keep_texts(out: Path, parts: Sequence[Part]) -> None:
    """Take the texts of the shards' own stores into the one beside the output."""
    stores = [store for part in parts if (store := part.path.with_suffix(".sqlite")).is_file()]
    if not stores:
        return
    with Store(RunFolder(out.parent).store) as whole:
        for store in stores:
            whole.absorb(store)


def _is_there(out: Path, parts: Sequence[Part], *, overwrite: bool) -> bool:
    """Check for a finished output; one whose inputs have only grown is made again.

    Raises:
        SettingsChanged: it is another output, or has examples that are gone.
    """
    try:
        return up_to_date(out, parts[0].settings, overwrite=overwrite)
    except SettingsChanged as change:
        if not change.only_inputs or _ids(out) - {key for key, _ in _expected(out, parts[0])}:
            raise change.worded(as_typed(change.changed, parts[0].options)) from None
        return False


def _ids(out: Path) -> set[str]:
    """Return whose records an output has; of a table none can be told, so it has a stranger."""
    if out.suffix != ".jsonl":
        return {""}
    found = set()
    with open_input(out) as stream:
        for line in stream:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                record = _decode_found(line)
                found.add(record.example_id or record.user_id)
    return found


def _write(out: Path, parts: Sequence[Part]) -> None:
    """Write the records in the order of the examples, and what the next night needs."""
    settings = parts[0].settings
    top = "count" in settings and parts[0].manifest["command"] == "score"
    with ExitStack() as stack:
        lines = _in_order(out, parts, stack)
        if top:
            write_recommendations(out, map(_decode_list, lines))
        else:
            write_lines(out, lines)
    if parts[0].manifest["command"] == "score":
        merge_keys([part.path for part in parts], out, top=top)


def _in_order(out: Path, parts: Sequence[Part], stack: ExitStack) -> Iterator[bytes]:
    """Yield the line of every example from the shard that has it.

    Raises:
        InputError: it is not there, or something else stands in its place.
    """
    readers = {
        part.shard: _Reader(part, stack.enter_context(open_input(part.path))) for part in parts
    }
    for place, (example_id, user_id) in enumerate(_expected(out, parts[0])):
        yield readers[owner(place, len(parts))].line_of(example_id, user_id)
    for reader in readers.values():
        reader.check_end()


class _Reader:
    """The lines of a shard, each asked for by whose it is."""

    def __init__(self, part: Part, stream: BinaryIO) -> None:
        self._part, self._stream, self._number = part, stream, 0

    def line_of(self, example_id: str, user_id: str) -> bytes:
        """Return the next line, which must be this example's."""
        line = self._stream.readline()
        self._number += 1
        if not line:
            raise self._wrong(f"ends before example {example_id!r}")
        try:
            found = _decode_found(line)
        except msgspec.MsgspecError as error:
            raise self._wrong(f"is no record: {error}") from None
        if (found.example_id or found.user_id) != (example_id if found.example_id else user_id):
            other = found.example_id or found.user_id
            raise self._wrong(f"has {other!r} where example {example_id!r} should be")
        return line

    def check_end(self) -> None:
        """Refuse what is left over."""
        self._number += 1
        if self._stream.readline():
            raise self._wrong("is of an example that this shard was not asked")

    def _wrong(self, problem: str) -> InputError:
        fix = f"run the same command with --shard {self._part.shard} --overwrite"
        return InputError.of(self._part.path, problem, fix, self._number)


def _expected(out: Path, part: Part) -> Iterator[tuple[str, str]]:
    """Yield ids of example and user of everything that was asked, in the order of the file.

    Raises:
        InputError: the examples are not there, or others than the shards were made of.
    """
    settings = part.settings
    name, recorded = _examples(part)
    path = _find(name, out)
    splits = settings["splits"] if "splits" in settings else [settings["split"]]
    limit, taken = settings["limit"], Counter[str]()
    with hashed_while_read() as hashes:
        for _, one in read_lines(path, _decode_asked):
            if splits and one.split not in splits:
                continue
            taken[one.split] += 1
            if limit is None or taken[one.split] <= limit:
                yield one.example_id or one.user_id, one.user_id
    if hashes.get(str(path)) != recorded:
        fix = "bring back those examples, or run all shards again"
        raise InputError.of(path, "has changed since the shards were made of it", fix)


def _examples(part: Part) -> tuple[str, str]:
    """Return name and hash of the examples among the inputs: behind the items, where read."""
    inputs: dict[str, str] = part.manifest["inputs"]
    reads_items = part.manifest["command"] == "score" or part.settings["mode"] != "none"
    return list(inputs.items())[1 if reads_items else 0]


def _find(name: str, out: Path) -> Path:
    """Find the examples as they were named, or beside the output where RUN has moved."""
    for path in (Path(name), out.with_name(Path(name).name)):
        if path.is_file():
            return path
    raise InputError.of(name, "no such file", "the shards were made of it; bring it back")


def _details(parts: Sequence[Part]) -> dict[str, Any]:
    """Return what the manifest says: counts summed up, all else where it is the same."""
    manifests = [part.manifest for part in parts]
    usual = {"output", "sha256", "command", "arguments", "settings", "inputs", "versions"}
    usual |= {"machine", "started", *_TIMES}
    own = [{n: v for n, v in each.items() if n not in usual} for each in manifests]
    return {
        **_summed(own),
        "shards": len(parts),
        **{f"shard_{n}": round(sum(m.get(n, 0) for m in manifests), 3) for n in _TIMES},
        "arguments": _without_shard(manifests[0].get("arguments", [])),
    }


def _summed(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up counts and seconds; keep what all tables agree on; leave out rates and shares."""
    found: dict[str, Any] = {}
    for name, value in tables[0].items():
        values = [table.get(name) for table in tables]
        if name in _KEPT:
            same = [other for other in values if other == value]
            found |= {name: value} if len(same) == len(values) else {}
        elif all(isinstance(each, int) for each in values) or name.endswith("_seconds"):
            found[name] = sum(each or 0 for each in values)
        elif inner := [each for each in values if isinstance(each, dict)]:
            found[name] = _summed(inner)
    return found


def _without_shard(arguments: Sequence[str]) -> list[str]:
    """Return the command line of a run in one piece, which makes the same output."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--shard" and not argument.startswith("--shard="):
            kept.append(argument)
        skip = argument == "--shard"
    return kept
