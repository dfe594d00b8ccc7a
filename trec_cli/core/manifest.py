"""What made a file: `FILE.manifest.json` beside every output.

A manifest holds the command, its settings, the hash of every input and of the output,
model and revision, device, times and token counts.  ``settings`` decide whether an
existing output may be kept (:func:`up_to_date`) and let provenance be followed back.
"""

import hashlib
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from trec_cli import __version__
from trec_cli.core.errors import InputError, SettingsChanged
from trec_cli.core.json_file import read_json
from trec_cli.core.outputs import Settings, changed_settings, plain_settings, write_bytes

MANIFEST_SUFFIX = ".manifest.json"
_PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy")


def manifest_path(output: Path) -> Path:
    """Name the manifest of an output file or folder."""
    return output.with_name(output.name + MANIFEST_SUFFIX)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` gives it; of a folder, over names and files' hashes."""
    if path.is_file():
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_hash(file)}\0".encode())
    return digest.hexdigest()


def _versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it computes with; imports nothing."""
    found = {"trec": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Provenance:
    """Collects what there is to say about a run, from its start to its output.

    Attributes:
        settings: everything that decides the output's bytes, inputs' hashes included.
        details: everything else worth keeping (device, counts, tokens, rates).
        earlier_seconds: that runs took which this one continues, as far as it is known.
    """

    def __init__(
        self,
        command: str,
        settings: Settings,
        inputs: Sequence[Path | str],
        hashes: Mapping[str, str] | None = None,
    ) -> None:
        """Start the clock and hash the inputs (streams are named, not hashed).

        ``hashes`` are those that reading the inputs has found
        (:func:`~trec_cli.core.jsonl.hashed_while_read`); the others are hashed now.
        """
        # The clock on the wall names the moment; it may be set while a run goes on.
        self._started, self._ticks = time.time(), time.monotonic()
        self.earlier_seconds = 0.0
        self.command = command
        known = hashes or {}
        self.inputs = {str(p): known.get(str(p)) or _hash_or_stream(p) for p in inputs}
        listed = list(self.inputs.values())
        self.settings = plain_settings({**settings, "inputs": listed})
        self.details: dict[str, Any] = {}

    @contextmanager
    def publish(self, *outputs: Path) -> Iterator[dict[str, Any]]:
        """Hold the moment in which outputs and their manifests are written.

        Gives a dictionary for what else the manifests should say.  A run that is killed in
        between, or fails when part of it is in place, leaves a note of its settings, by which
        the same command knows that the output is its own and makes it again
        (:func:`up_to_date`).
        """
        details: dict[str, Any] = {}
        before = list(map(_stamp, outputs))
        for output in outputs:
            write_bytes(_note_path(output), [msgspec.json.encode(self.settings)])
        try:
            yield details
            for output in outputs:
                self.write(output, details)
        except BaseException:
            if before != list(map(_stamp, outputs)):
                raise
            _forget(outputs)
            raise
        _forget(outputs)

    def write(self, output: Path, details: Mapping[str, Any] | None = None) -> None:
        """Write the manifest of ``output``, which must be complete.

        ``seconds`` are those since the start by the clock, ``processor_seconds`` those of this
        whole process and of its children that have ended, which other work does not lengthen.
        """
        content = {
            "output": output.name,
            "sha256": file_hash(output),
            "command": self.command,
            "arguments": sys.argv[1:],
            "settings": self.settings,
            "inputs": self.inputs,
            **self.details,
            **(details or {}),
            "versions": _versions(),
            "machine": {"system": platform.platform(), "processor": platform.machine()},
            "started": _iso(self._started),
            "seconds": round(self.earlier_seconds + time.monotonic() - self._ticks, 3),
            "processor_seconds": round(sum(os.times()[:4]), 2),
        }
        body = msgspec.json.format(msgspec.json.encode(content), indent=2)
        write_bytes(manifest_path(output), [body, b"\n"])


def _note_path(output: Path) -> Path:
    return output.with_name(f".{output.name}.writing")


def _forget(outputs: Sequence[Path]) -> None:
    for output in outputs:
        _note_path(output).unlink(missing_ok=True)


def _stamp(output: Path) -> tuple[int, int] | None:
    """Return what distinguishes a file or folder from whatever replaces it."""
    try:
        found = output.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def is_unfinished(output: Path) -> bool:
    """Return whether a run is putting an output into place, or was stopped while it did."""
    return _note_path(output).exists()


def _hash_or_stream(path: Path | str) -> str:
    file = Path(path)
    if str(path) == "-":
        return "stream"
    if not file.exists():
        raise InputError.missing(path)
    return file_hash(file)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def read_manifest(output: Path) -> dict[str, Any] | None:
    """Read the manifest of an output, or None where there is none."""
    path = manifest_path(output)
    if not path.is_file():
        return None
    return _decoded(path, _Shape)


class _Settings(msgspec.Struct, frozen=True):
    """The same of a manifest's settings."""

    inputs: list[str] = []


class _Shape(msgspec.Struct):
    """The types of the fields that trec itself reads back from a manifest."""

    command: str = ""
    sha256: str = ""
    arguments: list[Any] = []
    settings: _Settings = _Settings()
    inputs: dict[str, str] = {}
    counts: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    seconds: float = 0.0


def _decoded(path: Path, shape: Any) -> dict[str, Any]:
    """Read a JSON object whose known fields must have the types of ``shape``."""
    fix = "remove it and run the stage again"
    try:
        content = read_json(path, dict[str, Any])
        msgspec.convert(content, shape)
    except msgspec.DecodeError as error:
        raise InputError.of(path, f"is not a manifest: {error}", fix) from None
    except OSError as error:
        raise InputError.of(path, f"cannot be read: {error.strerror}", fix) from None
    return content


def recorded_settings(output: Path) -> dict[str, Any] | None:
    """Return the settings of the run that made an output, or was killed while publishing it."""
    note = _note_path(output)
    if note.exists():
        return _decoded(note, dict[str, Any])
    manifest = read_manifest(output)
    return None if manifest is None else dict(manifest.get("settings", {}))


def up_to_date(output: Path, settings: Settings, *, overwrite: bool = False) -> bool:
    """Return whether ``output`` exists and was made with exactly these settings.

    An output that was put into place by a run killed right then, before its manifest, is
    not up to date.

    Raises:
        SettingsChanged: it exists with other settings (or without manifest), and not
            ``overwrite``.
    """
    if overwrite or not (output.exists() or is_unfinished(output)):
        return False
    old = recorded_settings(output)
    if old is None:
        raise SettingsChanged(output, ["it has no manifest, so they are unknown"])
    names = list((read_manifest(output) or {}).get("inputs", {}))
    new = plain_settings(settings)
    if changed := changed_settings(old, new, names):
        others = {**old, "inputs": None} != {**new, "inputs": None}
        raise SettingsChanged(output, changed, only_inputs=not others)
    return not is_unfinished(output)
