"""The files of a stage: found in RUN by name, or named one by one."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

from trec_cli.core.database import IN_MEMORY
from trec_cli.core.errors import InputError, UsageError
from trec_cli.core.jsonl import is_stream
from trec_cli.core.options import Option
from trec_cli.core.records import MODES
from trec_cli.core.runs import RunFolder
from trec_cli.core.text import listed

PANEL = "Files (each overrides the one found in RUN)"
BEHAVIOUR = "Output and behaviour"

Run = Annotated[
    Path | None,
    Option("Run folder: inputs are found and outputs written there by name.", argument=True),
]
Items = Annotated[Path | None, Option("items.jsonl", panel=PANEL)]
Examples = Annotated[Path | None, Option("examples.jsonl; - is stdin.", panel=PANEL)]
Summaries = Annotated[Path | None, Option("summaries-MODE.jsonl; - is stdin.", panel=PANEL)]
Out = Annotated[
    Path | None, Option("Where to write; - is stdout.", panel=PANEL, names=("--out", "-o"))
]
Store = Annotated[
    Path | None,
    Option(
        "Store of all texts and vectors made (SQLite); several runs may share one.", panel=PANEL
    ),
]
Vectors = Annotated[
    Path | None,
    Option(
        "Item vectors of --mode attention --query candidate; beside the summaries by default.",
        panel=PANEL,
    ),
]
Mode = Annotated[
    str,
    Option(
        "Which summaries: hier, recurrent, attention, none, or any name for those of --summaries.",
        panel=PANEL,
    ),
]
Seed = Annotated[int, Option("Every random draw comes from it.", panel=BEHAVIOUR)]
Limit = Annotated[
    int | None, Option("Use the first N examples per split.", panel=BEHAVIOUR, minimum=1)
]


_INPUTS = ("items", "examples")


def check_named(run: Path | None, files: Mapping[str, Path | None]) -> None:
    """Refuse files that neither an option nor RUN names, all of them at once.

    Args:
        run: the folder, if one was given.
        files: what was given, by option.

    Raises:
        UsageError: RUN was not given, or is a file; names the options that could.
    """
    missing = [option for option, file in files.items() if file is None]
    if missing and (run is None or run.is_file()):
        told = f"{run} is a file: " if run else ""
        raise UsageError(f"{told}give the RUN folder, or name files with {listed(missing)}")


def check_folder(run: Path, fix: str) -> None:
    """Refuse a RUN that is not there, or is a file; ``fix`` says how a file is given.

    Raises:
        InputError: saying so.
    """
    if not run.exists():
        raise InputError.of(run, "no such folder", "check the name")
    if not run.is_dir():
        raise InputError.of(run, "is a file", fix)


def resolve(
    given: Path | None, run: Path | None, name: str, *arguments: str, option: str = ""
) -> Path:
    """Return the path of an input or output.

    ``name`` is a property or method of :class:`~trec_cli.core.runs.RunFolder`
    (``items``, ``summaries``), which gets ``arguments``.

    Raises:
        UsageError: neither the option nor RUN was given, or RUN is a file; ``option`` is the
            option, where it is not ``--items``, ``--examples`` or ``--out``.
    """
    if given is not None:
        return given
    check_named(run, {option or f"--{name if name in _INPUTS else 'out'}": given})
    found = getattr(RunFolder(run or Path()), name)
    path: Path = found(*arguments) if callable(found) else found
    return path


def find_summaries(mode: str, given: Path | None, run: Path | None) -> Path | None:
    """Return the file of a mode's summaries; None for mode ``none``, which has no summaries.

    A mode that trec does not write is known by its file: the one given, or
    ``RUN/summaries-MODE.jsonl``.

    Raises:
        UsageError: mode ``none`` with a file, a mode without one, or neither file nor RUN.
    """
    if mode == "none":
        if given is not None:
            raise UsageError(
                "--mode none takes no summaries: leave --summaries out, or give them a --mode"
            )
        return None
    if not mode or Path(mode).name != mode:
        raise UsageError(f"--mode {mode} becomes part of file names: choose a name without slashes")
    if mode in MODES or given is not None:
        return resolve(given, run, "summaries", mode, option="--summaries")
    own = None if run is None else RunFolder(run).summaries(mode)
    if own is None or not own.is_file():
        raise UsageError(
            f"--mode {mode}: choose one of {', '.join(MODES)}, or name the file of summaries "
            "made elsewhere with --summaries"
        )
    return own


def require(paths: Iterable[Path | None]) -> None:
    """Refuse inputs that are not there, before anything large is imported or read.

    Raises:
        InputError: naming the first.
    """
    for path in paths:
        if path is not None and not is_stream(path) and not path.exists():
            raise InputError.missing(path)


def store_file(given: Path | None, run: Path | None) -> Path:
    """Return the store: the one given, that of RUN, or one in memory."""
    return given or (IN_MEMORY if run is None else RunFolder(run).store)


class FilesOfRun:
    """Settings that name a catalogue and examples, or find them in RUN."""

    run: Path | None
    items: Path | None
    examples: Path | None

    @property
    def items_file(self) -> Path:
        """The catalogue: named, or that of RUN."""
        self._check_named()
        return resolve(self.items, self.run, "items")

    @property
    def examples_file(self) -> Path:
        """The examples: named, or those of RUN."""
        self._check_named()
        return resolve(self.examples, self.run, "examples")

    def _check_named(self) -> None:
        check_named(self.run, {"--items": self.items, "--examples": self.examples})
