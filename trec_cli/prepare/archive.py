"""Finding a collection's files by name: in a folder, beside a file, in a .zip, as .gz.

Names are compared without ``.gz``, wherever in the folder or the archive they lie.
"""

import gzip
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from types import TracebackType

from trec_cli.core.errors import InputError, OutputFailed

_FETCH = "fetch it again"


@dataclass(frozen=True)
class Member:
    """One file of a source.

    Attributes:
        name: its path in the source, ``/`` between folders, without ``.gz``.
        file: the file on disk: itself, or the .zip it lies in.
        inside: its name within the .zip, or None.
    """

    name: str
    file: Path
    inside: str | None = None

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
        return f"{self.file}:{self.inside}" if self.inside else str(self.file)


class Source:
    """The files of what the user named; use it as a context, it may unpack to a temporary folder.

    Attributes:
        path: what the user named.
        members: all files, each name once: a plain file goes before its .gz and its .zip.
        chosen: the file the user named, where it is a plain file.
    """

    def __init__(self, path: Path) -> None:
        """List the files.

        Raises:
            InputError: there is nothing at ``path``, or a .zip cannot be read.
        """
        if not path.exists():
            raise InputError.of(path, "no such file or folder", "check the name")
        self.path = path
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.members = _each_once(_list(path))
        self.chosen = next((m for m in self.members if m.file == path and not m.inside), None)

    def __enter__(self) -> "Source":
        """Give the source itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove what was unpacked."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def find(self, pattern: str) -> list[Member]:
        """Give the files whose name matches ``pattern`` wholly; only the named one if it does."""
        found = [m for m in self.members if re.fullmatch(pattern, m.base)]
        return [self.chosen] if self.chosen in found else found

    @contextmanager
    def reading(self, member: Member, *, plain: bool = False) -> Iterator[Path]:
        """Give a path to read ``member`` from; faults found there name it as the user knows it.

        ``plain`` unpacks a .gz too; otherwise the reader does that on the way.
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
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="trec-prepare-")
        name = f"{'plain-' * unpack}{member.file.stem}-{member.name}"
        suffix = ".gz" if member.compressed and not unpack else ""
        path = Path(self._temporary.name) / (re.sub(r"[^\w.-]", "_", name) + suffix)
        if not path.exists():
            _extract(member, path, unpack)
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
        place = file.relative_to(path)
        if not file.is_file() or not _wanted(place.as_posix()):
            continue
        if file.suffix == ".zip":
            members += _list_zip(file, PurePosixPath(place.parent.as_posix()))
        else:
            members.append(_plain(file, path))
    return members


def _plain(file: Path, root: Path) -> Member:
    return Member(file.relative_to(root).as_posix().removesuffix(".gz"), file)


def _list_zip(file: Path, folder: PurePosixPath) -> list[Member]:
    """List a .zip; what lies at its top gets its name as folder, as if it were unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [i.filename for i in archive.infolist() if not i.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError.of(file, f"is not a readable .zip: {error}", _FETCH) from None
    members = []
    for name in filter(_wanted, names):
        place = folder / (name if "/" in name else f"{file.stem}/{name}")
        members.append(Member(str(place).removesuffix(".gz"), file, name))
    return members


def _wanted(name: str) -> bool:
    """Leave out hidden files and what macOS puts into archives."""
    return not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _each_once(members: list[Member]) -> list[Member]:
    """Keep one file of each name: plain before .gz before .zip."""
    chosen: dict[str, Member] = {}
    for member in sorted(members, key=lambda m: (m.inside is not None, m.compressed)):
        chosen.setdefault(member.name, member)
    return sorted(chosen.values(), key=lambda m: m.name)


def _extract(member: Member, path: Path, unpack: bool) -> None:
    """Copy a member to ``path``, out of its .zip, and out of its .gz if ``unpack``."""
    try:
        with path.open("wb") as target:
            if member.inside is None:
                with gzip.open(member.file) as stream:
                    shutil.copyfileobj(stream, target)
                return
            with (
                zipfile.ZipFile(member.file) as archive,
                archive.open(member.inside) as packed,
                gzip.open(packed) if unpack else packed as inner,
            ):
                shutil.copyfileobj(inner, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, RuntimeError) as error:
        path.unlink(missing_ok=True)
        raise InputError.of(member, f"the compressed file is damaged: {error}", _FETCH) from None
    except OSError as error:
        raise OutputFailed(path, error) from None
