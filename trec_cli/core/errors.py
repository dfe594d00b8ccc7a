"""Every error that a user can cause, in one tree.

::

    TrecError
    ├── UsageError            2  the command line asks for something impossible
    │   ├── SettingsChanged   2  output exists that was made with other settings
    │   ├── UsersGone         2  output exists with users whom the inputs do not have any more
    │   └── OutputLocked      2  another run is writing the same output
    ├── InputError            3  a file says something wrong; carries its faults
    ├── ModelError            4  a model or an endpoint failed
    └── PartialError          5  a part is missing; the same command finishes it
        └── OutputFailed      5  the disk is full or the folder not writable

The number is the exit code of the process.  A message says what is wrong and
what to do; it never needs a traceback to be understood.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from trec_cli.core.text import counted, named

MAX_FAULTS = 20
"""How many faults of one input are collected before the reader gives up."""


class TrecError(Exception):
    """Base of all errors with a clear message and a documented exit code."""

    exit_code = 1


class UsageError(TrecError):
    """The command line asks for something impossible or contradictory."""

    exit_code = 2


class SettingsChanged(UsageError):  # noqa: N818 - reads as a statement
    """The output exists already and was made with other settings.

    Attributes:
        path: the output.
        changed: what differs.
        only_inputs: whether the settings are the same and input files alone have changed.
    """

    def __init__(self, path: Path, changed: Sequence[object], *, only_inputs: bool = False) -> None:
        """Name the output, and each setting that differs with its old and new value."""
        self.path, self.changed, self.only_inputs = path, tuple(changed), only_inputs
        names = "; ".join(map(str, changed))
        super().__init__(
            f"{path} was made with other settings ({names}). "
            "Give the same settings to continue, another --out, or --overwrite to start again."
        )

    def worded(self, changed: Sequence[str]) -> "SettingsChanged":
        """Return the error with what differs in other words."""
        return SettingsChanged(self.path, changed, only_inputs=self.only_inputs)


class UsersGone(UsageError):  # noqa: N818
    """The inputs have changed, and users of the output that is there are gone from them."""

    def __init__(self, path: Path, gone: Collection[str], users: int) -> None:
        """Name the output, how many of its users are gone, and the first of them."""
        super().__init__(
            f"{path} has {counted(users, 'user')}, of whom {counted(len(gone), 'is', 'are')} gone "
            f"from the inputs: {named(sorted(gone))}. Give the inputs that have them, another "
            "--out, or --overwrite to lose them."
        )


class OutputLocked(UsageError):  # noqa: N818
    """Another process is writing the same output."""

    def __init__(self, path: Path) -> None:
        """Name the output."""
        super().__init__(
            f"{path} is being written by another trec run. "
            "Wait for it to end, or write to another place with --out."
        )


@dataclass(frozen=True)
class Fault:
    """One thing wrong in one input file.

    Attributes:
        file: the file as the user named it.
        line: 1-based line, or None where the fault is of the whole file.
        problem: what is wrong, with the offending value.
        fix: what to do about it.
    """

    file: str
    line: int | None
    problem: str
    fix: str = ""

    def __str__(self) -> str:
        """Write place, problem and remedy on one line."""
        place = self.file if self.line is None else f"{self.file}, line {self.line}"
        return f"{place}: {self.problem}" + (f" ({self.fix})" if self.fix else "")


_WRITES = {
    "items.jsonl": "trec prepare",
    "examples.jsonl": "trec prepare",
    "summaries-": "trec summarize",
    "model-": "trec train",
    "scores-": "trec score",
    "shortlist": "trec recommend --shortlist",
}
"""How the names of files begin, and the stage that writes them."""
_ALIKE, _NAMED = 5, 3
"""From so many faults that differ in their line alone, so many lines are named."""


class InputError(TrecError):
    """One or more faults in an input file."""

    exit_code = 3

    def __init__(self, faults: Sequence[Fault]) -> None:
        """Take the faults in the order in which they were found, 20 (``MAX_FAULTS``) at most."""
        self.faults = tuple(faults)
        more = len(faults) >= MAX_FAULTS
        tail = [f"… stopped after {MAX_FAULTS} faults"] if more else []
        super().__init__("\n".join([*_messages(self.faults), *tail]))

    @classmethod
    def of(cls, file: object, problem: str, fix: str = "", line: int | None = None) -> "InputError":
        """Build the error of a single fault."""
        return cls([Fault(str(file), line, problem, fix)])

    @classmethod
    def missing(cls, file: object) -> "InputError":
        """Build the error of a file that is not there, naming the stage that writes it."""
        name = PurePath(str(file)).name
        stage = next((stage for start, stage in _WRITES.items() if name.startswith(start)), None)
        fix = f"check the name, or run {stage} first" if stage else "check the name"
        return cls.of(file, "no such file", fix)


def _messages(faults: Sequence[Fault]) -> Iterator[str]:
    """Write every fault; what is wrong in the same way in many lines is said once."""
    alike: dict[Fault, list[int | None]] = {}
    for fault in faults:
        alike.setdefault(replace(fault, line=None), []).append(fault.line)
    for fault, lines in alike.items():
        if len(lines) < _ALIKE or None in lines:
            yield from (str(replace(fault, line=line)) for line in lines)
            continue
        named = ", ".join(map(str, lines[:_NAMED]))
        yield str(
            replace(fault, file=f"{fault.file}, lines {named} and {len(lines) - _NAMED} more")
        )


class ModelError(TrecError):
    """A model could not be loaded or used, or an endpoint failed."""

    exit_code = 4


class PartialError(TrecError):
    """Part of the work is missing; a second run finishes it."""

    exit_code = 5


class OutputFailed(PartialError):  # noqa: N818
    """An output could not be written; nothing half-written was left."""

    def __init__(self, path: Path | str, reason: OSError) -> None:
        """Name the output (or what it was in words), and say what the system said."""
        super().__init__(
            f"cannot write {path}: {reason.strerror or reason}. Nothing half-written was left; "
            "free some space or choose another --out, then run the same command again."
        )
