"""The folder of an unfinished training, beside the adapter folder to come."""

import shutil
from pathlib import Path

import msgspec

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.manifest import manifest_path
from trec_cli.core.outputs import Settings, changed_settings, plain_settings, write_bytes
from trec_cli.core.runs import TRAINING_LOG
from trec_cli.train.checkpoints import checkpoint_folders

BEST_FILE = "best.json"


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
