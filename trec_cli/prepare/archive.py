"""Finding a collection's files by name: in a folder, beside a file, in a .zip, as .gz.

Names are compared without ``.gz``, wherever in the folder or the archive they lie.
"""

import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType

from trec_cli.core.errors import InputError
from trec_cli.core.jsonl import is_stream
from trec_cli.prepare.hub import is_dataset, spool_dataset
from trec_cli.prepare.space import Space
from trec_cli.prepare.unpacked import UnpackedFolder

_FETCH = "fetch it again"
_ENCRYPTED = 1


@dataclass(frozen=True)
class Member:
    """One file of a source.

    Attributes:
        name: its path in the source, ``/`` between folders, without ``.gz``.
        file: the file on disk: itself, or the .zip it lies in.
        inside: its name within the .zip, or None.
        source: what the user named, where the file was made of it: ``-`` or ``hf:NAME``.
    """

    name: str
    file: Path
    inside: str | None = None
    source: str | None = None

    @property
    def base(self) -> str:
        """The name without folders."""
        return PurePosixPath(self.name).name

    @property
    def compressed(self) -> bool:
        """Whether it is a .gz (in a .zip or not)."""
        return (self.inside or self.file.name).endswith(".gz")

    def __str__(self) -> str:
        """Name the file, and what lies inside it."""
        if self.source is not None:
            return self.source
        return f"{self.file}:{self.inside}" if self.inside else str(self.file)


class Source:
    """The files of what the user named; use it as a context, it may unpack to a temporary folder.

    Attributes:
        path: what the user named; ``-`` is standard input, ``hf:NAME`` a data set.
        members: all files, each name once: a plain file goes before its .gz and its .zip.
        chosen: the file the user named, where it is a plain file.
        items: the table of items the user named, where it lies somewhere else.
        columns: the columns the user named, by ``user``, ``item``, ``time`` and ``rating``.
        space: where a reader may put what it reads.
    """

    def __init__(
        self,
        path: Path,
        *,
        items: Path | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        """List the files.

        Raises:
            InputError: there is nothing at ``path``, or a .zip cannot be read.
        """
        self.path = path
        self.columns = dict(columns or {})
        self._unpacked = UnpackedFolder()
        self.space = Space()
        self.items: Member | None = None
        if items is not None:
            self.items = Member(items.name.removesuffix(".gz"), _there(items))
        if is_stream(path):
            spooled = self._unpacked.spool(sys.stdin.buffer)
            self.members = [Member(spooled.name, spooled, source="standard input")]
            self.chosen: Member | None = self.members[0]
        elif is_dataset(path):
            self.members = [
                Member(file.name, file, source=name)
                for file, name in spool_dataset(path, self._unpacked.made())
            ]
            self.chosen = None
        else:
            self.members = _each_once(_list(_there(path)))
            self.chosen = next((m for m in self.members if m.file == path and not m.inside), None)

    def __enter__(self) -> "Source":
        """Return the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was unpacked, and what lies in between."""
        self.space.close()
        self._unpacked.remove()

    def work_on_disk(self) -> None:
        """Let readers put what they read into the temporary folder."""
        self.space = Space(self._unpacked.made)

    def as_named(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Replace temporary files by what the user named, from which they were made."""
        names = {str(m.file): m.source for m in self.members if m.source is not None}
        return {names.get(file, file): digest for file, digest in inputs.items()}

    def find(self, pattern: str) -> list[Member]:
        """Return the files whose name matches ``pattern`` wholly; only the named one if it does."""
        found = [m for m in self.members if re.fullmatch(pattern, m.base)]
        return [self.chosen] if self.chosen in found else found

    @contextmanager
    def reading(self, member: Member, *, plain: bool = False) -> Iterator[Path]:
        """Yield a path to read ``member`` from; faults found there name it as the user knows it.

        ``plain`` unpacks a .gz too; otherwise the reader does that on the way.

        Raises:
            InputError: the faults found, or it cannot be unpacked.
        """
        path = self._path_of(member, plain)
        try:
            yield path
        except InputError as error:
            faults = [replace(f, file=str(member)) for f in error.faults if f.file == str(path)]
            raise InputError(faults or error.faults) from None

    def _path_of(self, member: Member, plain: bool) -> Path:
        unpack = plain and member.compressed
        if member.inside is None and not unpack:
            return member.file
        return self._unpacked.path_of(member.file, member.inside, str(member), unpack_gz=unpack)


def _there(path: Path) -> Path:
    if not path.exists():
        raise InputError.of(path, "no such file or folder", "check the name")
    return path


def _list(path: Path) -> list[Member]:
    """List the files in a folder, in a .zip, or beside a file."""
    if path.is_file():
        if path.suffix == ".zip":
            return _list_zip(path, PurePosixPath())
        return [
            _plain(file, path.parent)
            for file in sorted(path.parent.iterdir())
            if file == path or (file.is_file() and file.suffix != ".zip" and _wanted(file.name))
        ]
    members: list[Member] = []
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if not file.is_file() or not _wanted(inner.as_posix()):
            continue
        if file.suffix == ".zip":
            members += _list_zip(file, PurePosixPath(inner.parent.as_posix()))
        else:
            members.append(_plain(file, path))
    return members


def _plain(file: Path, root: Path) -> Member:
    return Member(file.relative_to(root).as_posix().removesuffix(".gz"), file)


def _list_zip(file: Path, folder: PurePosixPath) -> list[Member]:
    """List a .zip; what lies at its top gets its name as folder, as if it were unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            inside = [info for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, OSError) as error:
        raise InputError.of(file, f"is not a readable .zip: {error}", _FETCH) from None
    names = [info.filename for info in inside if _wanted(info.filename)]
    if any(info.flag_bits & _ENCRYPTED for info in inside):
        raise InputError.of(file, "is encrypted", "unpack it with its password first")
    members = []
    for name in names:
        inner = folder / (name if "/" in name else f"{file.stem}/{name}")
        members.append(Member(str(inner).removesuffix(".gz"), file, name))
    return members


def _wanted(name: str) -> bool:
    """Exclude hidden files and what macOS puts into archives."""
    return not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _each_once(members: list[Member]) -> list[Member]:
    """Keep one file of each name: plain before .gz before .zip."""
    chosen: dict[str, Member] = {}
    for member in sorted(members, key=lambda m: (m.inside is not None, m.compressed)):
        chosen.setdefault(member.name, member)
    return sorted(chosen.values(), key=lambda m: m.name)
