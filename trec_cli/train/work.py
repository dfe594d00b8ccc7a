"""The folder of an unfinished training, beside the adapter folder to come.

The Trainer writes a checkpoint's files one after another into their final folder, so a
killed run may leave one that looks real.  When the Trainer says that it has saved, a
marker with the size of every file is put beside them; a folder without a marker, or whose
files have other sizes, is removed before training goes on.
"""

import shutil
from pathlib import Path

import msgspec

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.manifest import manifest_path
from trec_cli.core.outputs import Settings, changed_settings, plain_settings, write_bytes
from trec_cli.core.runs import TRAINING_LOG

BEST_FILE = "best.json"
MARKER = "complete.json"
_PREFIX = "checkpoint-"


class WorkFolder:
    """``.NAME.partial``: checkpoints, the best adapter so far, the log, the settings.

    Use inside :func:`~trec_cli.core.outputs.locked`.
    """

    def __init__(self, out: Path) -> None:
        """Take the adapter folder to come; nothing is made yet."""
        self.out = out
        self.path = out.with_name(f".{out.name}.partial")

    @property
    def best(self) -> Path:
        """The best adapter so far."""
        return self.path / "best"

    @property
    def log(self) -> Path:
        """The training log."""
        return self.path / TRAINING_LOG

    @property
    def _settings(self) -> Path:
        return self.path / "settings.json"

    def open(self, settings: Settings, *, overwrite: bool = False) -> None:
        """Make the folder, or continue in the one that is there.

        An adapter folder without a manifest, beside a work folder of the same settings,
        was put into place by a run killed right then; it will be made again.  With
        ``overwrite`` work of other settings is thrown away; work of these settings is what
        a killed run with ``overwrite`` had done, and is continued.

        Raises:
            SettingsChanged: work with other settings is there, and not ``overwrite``; work
                without a checkpoint is none.
        """
        now = plain_settings(settings)
        if self._settings.is_file():
            old = msgspec.json.decode(self._settings.read_bytes(), type=dict[str, object])
            changed = changed_settings(old, now)
            if not changed:
                return
            if not overwrite and (checkpoint_folders(self.path) or self.best.exists()):
                raise SettingsChanged(self.out, changed)
            self.remove()  # to be replaced, or a run that failed before its first checkpoint
        write_bytes(self._settings, [msgspec.json.encode(now)])

    def is_unfinished(self) -> bool:
        """Tell whether a run was killed after it moved the adapter, before its manifest."""
        return (
            self.out.exists() and not manifest_path(self.out).exists() and self._settings.is_file()
        )

    def read_best(self) -> dict[str, int | float] | None:
        """Read step and metrics of the best adapter so far, or None where none is kept."""
        return read_best(self.best)

    def remove(self) -> None:
        """Remove the folder: the training is finished."""
        shutil.rmtree(self.path, ignore_errors=True)


def read_best(folder: Path) -> dict[str, int | float] | None:
    """Read step and metrics beside a kept adapter, or None where none is kept."""
    path = folder / BEST_FILE
    if not path.is_file():
        return None
    return msgspec.json.decode(path.read_bytes(), type=dict[str, int | float])


def replace_folder(fresh: Path, final: Path) -> None:
    """Move ``fresh`` to ``final``; what stood there goes only once ``fresh`` is complete."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    fresh.rename(final)
    shutil.rmtree(old, ignore_errors=True)


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
