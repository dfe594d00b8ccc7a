"""The folder of an unfinished training, beside the adapter folder to come.

The Trainer writes a checkpoint's files one after another into their final folder, so a
killed run may leave one that looks real.  When the Trainer has saved, a marker with the hash
of every file is put beside them; a folder without a marker, or whose files are not those, is
removed before training goes on.  What cannot be read at all, settings or the best adapter, is
no work: training begins again.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import msgspec

from trec_cli.core.errors import SettingsChanged
from trec_cli.core.json_file import read_json
from trec_cli.core.manifest import file_hash, manifest_path
from trec_cli.core.outputs import (
    Settings,
    changed_settings,
    partial_path,
    plain_settings,
    write_bytes,
)
from trec_cli.core.runs import TRAINING_LOG

BEST_FILE = "best.json"
SPENT_FILE = "spent.json"
MARKER = "complete.json"
_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Spent:
    """What a training has taken, over all processes and all runs that its work comes from.

    Attributes:
        prompts, targets: learnt; a target is a right answer.
        tokens: computed.
        separate_tokens: the same with every prompt written out by itself.
        seconds: of training.
        validation_seconds: of validation.
    """

    prompts: int = 0
    targets: int = 0
    tokens: int = 0
    separate_tokens: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        """Sum up, kind by kind."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Spent(*(mine + theirs for mine, theirs in pairs))


def read_spent(checkpoint: Path | None) -> Spent:
    """Read what a checkpoint's training had taken; nothing where nobody has written it down."""
    if checkpoint is None or not (checkpoint / SPENT_FILE).is_file():
        return Spent()
    return read_json(checkpoint / SPENT_FILE, Spent)


class WorkFolder:
    """``.NAME.partial``: checkpoints, the best adapter so far, the log, the settings.

    Use inside :func:`~trec_cli.core.outputs.locked`.
    """

    def __init__(self, out: Path) -> None:
        """Take the adapter folder to come; nothing is made yet."""
        self.out = out
        self.path = partial_path(out)

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

    def open(
        self,
        settings: Settings,
        *,
        overwrite: bool = False,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make the folder, or continue in the one that is there.

        An adapter folder without a manifest, beside a work folder of the same settings,
        was put into place by a run killed right then; it will be made again.  With
        ``overwrite`` work of other settings is thrown away; work of these settings is what
        a killed run with ``overwrite`` had done, and is continued.  Damaged work is thrown away.

        Raises:
            SettingsChanged: work with other settings is there, and not ``overwrite``; work
                without a checkpoint is none.
        """
        if self._is_damaged():
            warn(f"{self.path} is damaged; training begins again")
            self.remove()
        elif self.path.exists():
            if not self._changed(settings):
                return
            if not overwrite:
                self.check(settings)
            self.remove()  # to be replaced, or a run that failed before its first checkpoint
        write_bytes(self._settings, [msgspec.json.encode(plain_settings(settings))])

    def check(self, settings: Settings) -> None:
        """Refuse unfinished work of other settings; damaged work is none.

        Raises:
            SettingsChanged: work with other settings is there, with a checkpoint.
        """
        learnt = checkpoint_folders(self.path) or self.best.exists()
        if learnt and not self._is_damaged() and (changed := self._changed(settings)):
            raise SettingsChanged(self.out, changed)

    def _is_damaged(self) -> bool:
        """Check for work that cannot be continued, whatever its settings."""
        lost = self._recorded() is None or not is_whole(self.best, strict=False)
        return self.path.exists() and lost

    def _changed(self, settings: Settings) -> Sequence[object]:
        """Say what differs from the settings of the work that is there."""
        return changed_settings(self._recorded() or {}, plain_settings(settings))

    def _recorded(self) -> dict[str, object] | None:
        """Read the settings of the work that is there; None where they cannot be read."""
        try:
            return read_json(self._settings, dict[str, object])
        except (OSError, msgspec.DecodeError):
            return None

    def is_unfinished(self) -> bool:
        """Return whether a run was killed after it moved the adapter, before its manifest."""
        return (
            self.out.exists() and not manifest_path(self.out).exists() and self._settings.is_file()
        )

    def read_best(self) -> dict[str, int | float] | None:
        """Read step and metrics of the best adapter so far, or None where none is kept."""
        return read_best(self.best)

    def remove(self) -> None:
        """Remove the folder: the training is finished, or begins again."""
        if self.path.is_file():
            self.path.unlink()
        shutil.rmtree(self.path, ignore_errors=True)


def read_best(folder: Path) -> dict[str, int | float] | None:
    """Read step and metrics beside a kept adapter, or None where none is kept."""
    path = folder / BEST_FILE
    if not path.is_file():
        return None
    try:
        return read_json(path, dict[str, int | float])
    except msgspec.DecodeError:
        return None


def replace_folder(fresh: Path, final: Path) -> None:
    """Move ``fresh`` to ``final``; what stood there goes only once ``fresh`` is complete."""
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    fresh.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def checkpoint_folders(folder: Path) -> list[Path]:
    """Return the checkpoint folders, by step, whole or not."""
    found = [
        path
        for path in folder.glob(f"{_PREFIX}*")
        if path.is_dir() and path.name.removeprefix(_PREFIX).isdecimal()
    ]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the number of optimizer steps behind a checkpoint."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name != MARKER)


def mark_complete(folder: Path) -> None:
    """Record that a folder is whole: the hash of every file."""
    hashes = {str(path.relative_to(folder)): file_hash(path) for path in _files(folder)}
    write_bytes(folder / MARKER, [msgspec.json.encode(hashes)])


def is_whole(folder: Path, *, strict: bool = True) -> bool:
    """Return whether a folder was marked and its files are still those of then.

    Not ``strict``, a folder that is not there, or has no marker, is as it should be: earlier
    versions marked checkpoints alone, and these with the files' sizes.
    """
    if not strict and not (folder / MARKER).exists():
        return True
    try:
        marked = read_json(folder / MARKER, dict[str, str | int])
        there = {str(path.relative_to(folder)): path for path in _files(folder)}
        return there.keys() == marked.keys() and all(
            marked[name] in (file_hash(path), path.stat().st_size) for name, path in there.items()
        )
    except (OSError, msgspec.DecodeError):
        return False


def latest_complete(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, or None."""
    newest_first = reversed(checkpoint_folders(folder))
    return next((path for path in newest_first if is_whole(path)), None)


def remove_broken(folder: Path) -> list[Path]:
    """Remove checkpoints that are not whole; return their names."""
    broken = [path for path in checkpoint_folders(folder) if not is_whole(path)]
    for path in broken:
        shutil.rmtree(path)
    return broken
