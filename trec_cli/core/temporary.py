"""Folders in TMPDIR: gone afterwards, those of killed runs too; where it is full, it is named.

A killed run cannot clean up; the next one that needs such a folder does it. So the names
tell the process that made them.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trec_cli.core.errors import PartialError
from trec_cli.core.processes import is_running

NOT_WRITABLE = {*(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)}


@contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Yield a new folder ``trec-KIND-PID-…``, which is removed at the end."""
    remove_leftovers(kind)
    folder = make_folder(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_folder(kind: str) -> Path:
    """Make a folder whose name tells this process.

    Raises:
        OSError: there is no room, or TMPDIR is not writable.
    """
    return Path(tempfile.mkdtemp(prefix=f"{_prefix(kind)}{os.getpid()}-"))


def remove_leftovers(kind: str) -> None:
    """Remove the folders of runs that were killed."""
    prefix = _prefix(kind)
    with suppress(OSError):
        for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
            pid = left.name.removeprefix(prefix).split("-", 1)[0]
            if pid.isdecimal() and not is_running(int(pid)):
                shutil.rmtree(left, ignore_errors=True)


def _prefix(kind: str) -> str:
    return f"trec-{kind}-"


@contextmanager
def room_explained(doing: str) -> Iterator[None]:
    """Turn a failed write below TMPDIR into an error that names it, not the output.

    Args:
        doing: what was done, as in ``keep the candidates``.

    Raises:
        PartialError: no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        raise no_room(doing, Path(tempfile.gettempdir()), error) from None


def no_room(doing: str, folder: Path, error: OSError) -> PartialError:
    """Build the error of a write that failed in a temporary folder."""
    return PartialError(
        f"cannot {doing} in {folder}: {error.strerror or error}. Free some space "
        "or set TMPDIR to another folder, then run the same command again."
    )
