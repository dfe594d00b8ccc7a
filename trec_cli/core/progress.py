"""How the library tells what it is doing, without knowing a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: ``advance`` it, and say in a few words how fast it goes."""

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move on by ``amount`` steps; ``note`` replaces the text behind the bar."""


class Progress(Protocol):
    """Where messages and bars go; the commands give one that draws on stderr."""

    def info(self, message: str) -> None:
        """Show something the user may want to know (hidden by ``--quiet``)."""

    def warn(self, message: str) -> None:
        """Show something the user should not miss (shown even with ``--quiet``)."""

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Task]:
        """Open a bar of ``total`` steps, closed at the end of the block."""
        ...


class _SilentTask:
    def advance(self, amount: int = 1, note: str = "") -> None:
        """Do nothing."""


class Silent:
    """A progress that says nothing: the default of every library function."""

    def info(self, message: str) -> None:
        """Do nothing."""

    def warn(self, message: str) -> None:
        """Do nothing."""

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Task]:  # noqa: ARG002
        """Return a bar that nobody sees."""
        yield _SilentTask()
