"""The shards of an output: found, and checked to belong together."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trec_cli.core.changes import as_typed
from trec_cli.core.errors import Fault, InputError, PartialError
from trec_cli.core.files import check_folder
from trec_cli.core.manifest import file_hash, is_unfinished, read_manifest
from trec_cli.core.options import Declared, declared
from trec_cli.core.outputs import changed_settings
from trec_cli.core.shards import SUFFIX, Shard
from trec_cli.score.options import ScoreOptions
from trec_cli.summarize.settings import SummarizeOptions

_TRACE = re.compile(r"\.?([0-9]{1,9})-of-([0-9]{1,9})\..+")
_NAMED = 8


@dataclass(frozen=True)
class Part:
    """A finished shard: which, its file, and what its manifest says."""

    shard: Shard
    path: Path
    manifest: Mapping[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """What decided its records, but for which part it is."""
        settings = dict(self.manifest["settings"])
        settings.pop("shard", None)
        return settings

    @property
    def options(self) -> list[Declared]:
        """The options of the command that made it."""
        scored = self.manifest["command"] == "score"
        return list(declared(ScoreOptions if scored else SummarizeOptions))


def outputs_of(run: Path) -> list[Path]:
    """Return every output in a folder that has shards, by name.

    Raises:
        InputError: there is none, or no folder.
    """
    check_folder(run, "give it as --out FILE")
    folders = sorted(path for path in run.glob(f"*{SUFFIX}") if path.is_dir())
    if not folders:
        fix = f"run a stage with --shard first, or name the output whose {SUFFIX} folder is there"
        raise InputError.of(run, "holds no shards to merge", fix)
    return [folder.with_name(folder.name.removesuffix(SUFFIX)) for folder in folders]


def find_parts(out: Path) -> list[Part]:
    """Return all shards of an output, in their order.

    Raises:
        PartialError: some are missing or unfinished.
        InputError: they do not belong together, or have changed since they were made.
    """
    folder = out.with_name(out.name + SUFFIX)
    count, begun = _count(folder)
    shards = [Shard(index, count) for index in range(1, count + 1)]
    parts = [part for shard in shards if (part := _finished(shard, out))]
    missing = sorted(set(shards) - {part.shard for part in parts})
    if missing:
        raise PartialError(_incomplete(folder, missing, begun))
    if faults := [fault for part in parts for fault in _faults(part, parts[0])]:
        raise InputError(faults)
    return parts


def _count(folder: Path) -> tuple[int, set[Shard]]:
    """Return how many shards there are to be, and which have left a trace.

    Raises:
        InputError: there are none, or some of 4 and some of 8.
    """
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found = [match for name in names if (match := _TRACE.fullmatch(name))]
    begun = {Shard(int(match[1]), int(match[2])) for match in found}
    counts = sorted({shard.count for shard in begun})
    if not counts:
        raise InputError.of(folder, "holds no shards", "run the stage with --shard first")
    if len(counts) > 1:
        listed = " and of ".join(map(str, counts))
        raise InputError.of(folder, f"holds shards of {listed}", "remove those of the other run")
    return counts[0], begun


def _finished(shard: Shard, out: Path) -> Part | None:
    path = shard.out(out)
    manifest = read_manifest(path)
    if manifest is None or not path.is_file() or is_unfinished(path):
        return None
    return Part(shard, path, manifest)


def _incomplete(folder: Path, missing: Sequence[Shard], begun: set[Shard]) -> str:
    """Say which shards are missing, which are unfinished, and what to do."""
    states = {
        "missing": [shard for shard in missing if shard not in begun],
        "unfinished": [shard for shard in missing if shard in begun],
    }
    told = "; ".join(f"{state}: {_listed(some)}" for state, some in states.items() if some)
    return (
        f"{folder}: {len(missing)} of {missing[0].count} shards are not there yet ({told}). "
        f"Run the same command with --shard {missing[0]} and so on; one that is running still, "
        "wait for"
    )


def _listed(shards: Sequence[Shard]) -> str:
    more = ", …" if len(shards) > _NAMED else ""
    return ", ".join(map(str, shards[:_NAMED])) + more


def _faults(part: Part, first: Part) -> Iterator[Fault]:
    """Yield in what a shard is not what it should be."""
    again = f"run the same command with --shard {part.shard} --overwrite"
    held = part.manifest["settings"].get("shard")
    if held != str(part.shard):
        problem = f"is {f'shard {held}' if held else 'no shard'} by its manifest"
        yield Fault(str(part.path), None, problem, f"remove it, and {again}")
    elif file_hash(part.path) != part.manifest.get("sha256"):
        yield Fault(str(part.path), None, "has changed since it was made", again)
    elif changed := _differences(part, first):
        problem = f"was made with other settings than {first.shard} ({'; '.join(changed)})"
        yield Fault(str(part.path), None, problem, again)


def _differences(part: Part, first: Part) -> list[str]:
    """Name the settings in which a shard differs from the first."""
    if part.manifest.get("command") != first.manifest.get("command"):
        return ["another command"]
    names = list(first.manifest.get("inputs", {}))
    words = f"in {first.shard}", f"in {part.shard}"
    changed = changed_settings(first.settings, part.settings, names, words)
    return as_typed(changed, first.options)
