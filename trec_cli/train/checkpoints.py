"""Checkpoints that survive ``kill -9``: only those that are known to be whole are used.

The Trainer writes a checkpoint's files one after another into their final folder, so a
killed run may leave one that looks real.  When the Trainer says that it has saved, a
marker with the size of every file is put beside them; a folder without a marker, or whose
files have other sizes, is removed before training goes on.
"""

import shutil
from pathlib import Path

import msgspec

from trec_cli.core.outputs import write_bytes

MARKER = "complete.json"
_PREFIX = "checkpoint-"


def checkpoint_folders(folder: Path) -> list[Path]:
    """Give the checkpoint folders, by step, whole or not."""
    found = [
        path
        for path in folder.glob(f"{_PREFIX}*")
        if path.is_dir() and path.name.removeprefix(_PREFIX).isdecimal()
    ]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Give the number of optimizer steps behind a checkpoint."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in checkpoint.rglob("*") if path.is_file() and path.name != MARKER)
    return {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}


def mark_complete(checkpoint: Path) -> None:
    """Say that a checkpoint is whole."""
    write_bytes(checkpoint / MARKER, [msgspec.json.encode(_sizes(checkpoint))])


def is_complete(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was marked and its files are still as they were then."""
    try:
        sizes = msgspec.json.decode((checkpoint / MARKER).read_bytes(), type=dict[str, int])
    except (OSError, msgspec.DecodeError):
        return False
    return sizes == _sizes(checkpoint)


def latest_complete(folder: Path) -> Path | None:
    """Give the newest whole checkpoint, or None."""
    whole = [path for path in checkpoint_folders(folder) if is_complete(path)]
    return whole[-1] if whole else None


def remove_broken(folder: Path) -> list[Path]:
    """Remove checkpoints that are not whole; give their names."""
    broken = [path for path in checkpoint_folders(folder) if not is_complete(path)]
    for path in broken:
        shutil.rmtree(path)
    return broken
