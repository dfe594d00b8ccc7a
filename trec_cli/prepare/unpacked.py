"""The temporary folder for what is unpacked: bounded, and gone afterwards.

What a run left that was killed outright goes when the next one starts.
"""

import gzip
import hashlib
import lzma
import re
import shutil
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from trec_cli.core.errors import InputError
from trec_cli.core.temporary import NOT_WRITABLE, make_folder, no_room, remove_leftovers
from trec_cli.core.unpacking import bounded

_KIND = "prepare"
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, gzip.BadGzipFile, struct.error),
    *(EOFError, KeyError, RuntimeError, ValueError),
)
_LONGEST_NAME = 100
_PEEKED = 4096


class UnpackedFolder:
    """Made when it is first needed."""

    def __init__(self) -> None:
        """Make nothing yet; remove what killed runs left."""
        self._folder: Path | None = None
        remove_leftovers(_KIND)

    def path_of(self, file: Path, inside: str | None, name: str, *, unpack_gz: bool) -> Path:
        """Return where a member of an archive lies unpacked; it is unpacked where it is not yet.

        Args:
            file: the file on disk.
            inside: the name within it, where it is a .zip.
            name: as the user knows it.
            unpack_gz: whether a .gz is unpacked too.

        Raises:
            InputError: it is damaged, or expands too far.
            PartialError: there is no room.
        """
        base = PurePosixPath(inside or file.name).name
        base = base.removesuffix(".gz") if unpack_gz else base
        key = hashlib.sha256(f"{file}\\0{inside}\\0{unpack_gz}".encode()).hexdigest()[:16]
        plain = re.sub(r"[^\w.-]", "_", base, flags=re.ASCII)[-_LONGEST_NAME:]
        path = self.made() / f"{key}-{plain}"
        if not path.exists():
            self._write(path, file, inside, name, unpack_gz)
        return path

    def spool(self, stream: BinaryIO) -> Path:
        """Copy standard input to a file whose ending says what it looks like."""
        start = stream.read(_PEEKED)
        ending = "parquet" if start.startswith(b"PAR1") else "csv"
        ending = "jsonl" if start.lstrip().startswith(b"{") else ending
        path = self.made() / f"stdin.{ending}"
        try:
            with path.open("wb") as target:
                target.write(start)
                shutil.copyfileobj(stream, target)
        except OSError as error:
            raise no_room("unpack standard input", path.parent, error) from None
        return path

    def remove(self) -> None:
        """Remove the folder."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def made(self) -> Path:
        """Return the folder, made when it is not there yet."""
        if self._folder is None:
            try:
                self._folder = make_folder(_KIND)
            except OSError as error:
                place = Path(error.filename or "a temporary folder").parent
                raise no_room("unpack the source", place, error) from None
        return self._folder

    def _write(
        self, path: Path, file: Path, inside: str | None, name: str, unpack_gz: bool
    ) -> None:
        try:
            with path.open("wb") as target:
                if inside is None:
                    _copy_gz(file.open("rb"), target, file.stat().st_size, name)
                else:
                    _copy_member(file, inside, target, name, unpack_gz)
        except (*_DAMAGED, OSError) as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
                raise no_room(f"unpack {name}", path.parent, error) from None
            raise InputError.of(
                name, f"the compressed file is damaged: {error}", "fetch it again"
            ) from None
        except InputError:
            path.unlink(missing_ok=True)
            raise


def _copy_gz(packed: BinaryIO, target: BinaryIO, size: int, name: str) -> None:
    with packed, gzip.open(packed) as stream:
        shutil.copyfileobj(bounded(cast(BinaryIO, stream), size, name), target)


def _copy_member(file: Path, inside: str, target: BinaryIO, name: str, unpack_gz: bool) -> None:
    with zipfile.ZipFile(file) as archive, archive.open(inside) as packed:
        size = archive.getinfo(inside).compress_size
        stream = bounded(cast(BinaryIO, packed), size, name)
        if unpack_gz:
            _copy_gz(stream, target, size, name)
        else:
            shutil.copyfileobj(stream, target)
