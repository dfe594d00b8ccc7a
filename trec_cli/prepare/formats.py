"""What a format is: how its files are found, what it takes by default, how it is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trec_cli.core.errors import InputError
from trec_cli.core.progress import Progress
from trec_cli.prepare.archive import Member, Source
from trec_cli.prepare.collection import Collection, Defaults, ReadOptions

Files = Mapping[str, list[Member]]
"""The files of a collection by what they hold, for example ``{"items": [...]}``."""


def one_of_each(source: Source, *names: str, ending: str) -> Files | None:
    """Find a file of each name; None where one of them is not there.

    Args:
        source: to look into.
        names: of the files, without their ending.
        ending: a regular expression.

    Raises:
        InputError: there are several of one name.
    """
    files = {name: source.find(name + ending) for name in names}
    if not all(files.values()):
        return None
    for members in files.values():
        if len(members) > 1:
            raise InputError.of(
                source.path, f"holds several: {', '.join(map(str, members))}", "name one folder"
            )
    return files


@dataclass(frozen=True)
class Format:
    """A format of collections.

    Attributes:
        name: as ``--format`` says it.
        looks_for: the names of its files, in words for people.
        find: gives its files in a source, or None; raises InputError where they are ambiguous.
        defaults: what it takes where the user says nothing.
        options: the options of the command line that only this format has.
        read: gives the collection; what it reads lazily must be used before the source closes.
    """

    name: str
    looks_for: str
    find: Callable[[Source], Files | None]
    defaults: Defaults
    read: Callable[[Source, Files, ReadOptions, Progress], Collection]
    options: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """A format found in a source, with its files."""

    format: Format
    files: Files

    @property
    def inputs(self) -> list[Path]:
        """The files on disk, each once, in an order of their own."""
        return list(dict.fromkeys(m.file for members in self.files.values() for m in members))

    def __str__(self) -> str:
        """Name the format and its files."""
        names = ", ".join(str(m) for members in self.files.values() for m in members)
        return f"{self.format.name} ({names})"
