"""What a command says: progress, warnings and errors on stderr, results on stdout."""

import errno
import json
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from trec_cli.core.errors import OutputFailed, TrecError
from trec_cli.core.outputs import discard_stdout
from trec_cli.core.progress import Task
from trec_cli.core.text import printable

_EXIT_BUG = 1
_UNWRAPPED = 100_000
"""Columns of an output that no screen limits."""
_SECONDS_BETWEEN_LINES = 60.0
_EXIT_INTERRUPTED = 130
_EXIT_TERMINATED = 143
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_WRITE_FAILED = (
    "No space left on device",
    "File too large",
    "Disk quota exceeded",
    "Read-only file system",
    "iostream error",
    "PytorchStreamWriter",
    "unexpected pos",
)
"""What safetensors and torch say where a write failed; their errors carry no number."""


class _Bar:
    def __init__(self, bars: Progress, identifier: Any) -> None:
        self._bars, self._identifier = bars, identifier

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Move the bar on and show ``note`` behind it."""
        self._bars.update(self._identifier, advance=amount, note=_plain(note))


class _Lines:
    """A task where there is no terminal: a line now and then, so that a log shows some life."""

    def __init__(self, say: Callable[[str], None], what: str, total: int | None) -> None:
        self._say, self._what, self._total = say, what, total
        self._done, self._began = 0, time.monotonic()
        self._said = self._began

    def advance(self, amount: int = 1, note: str = "") -> None:
        """Count, and tell how far it is once a minute."""
        self._done += amount
        now = time.monotonic()
        if now - self._said < _SECONDS_BETWEEN_LINES:
            return
        self._said, minutes = now, (now - self._began) / 60
        line = f"{self._what}: {self._done:,}"
        if self._total:
            left = minutes * (self._total - self._done) / max(1, self._done)
            line += f" of {self._total:,}, about {left:.0f} min left"
        self._say(f"{line}; {note}" if note else line)


class Terminal:
    """The terminal of one command; it is the library's ``Progress``."""

    def __init__(self, *, quiet: bool, json_line: bool, data_on_stdout: bool = False) -> None:
        """Take what the command's options say of how it speaks.

        Args:
            quiet: only warnings and errors.
            json_line: end with one JSON line.
            data_on_stdout: that line goes to stderr, because stdout has the data.
        """
        self._quiet, self._json_line = quiet, json_line
        self._data_on_stdout = data_on_stdout
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._result: dict[str, Any] = {}

    def info(self, message: str) -> None:
        """Print a message on stderr, unless ``--quiet``."""
        if not self._quiet:
            self._console.print(_plain(message))

    def warn(self, message: str) -> None:
        """Print a message on stderr that should not be missed."""
        self._console.print(f"[yellow]warning:[/] {_plain(message)}")

    def alarm(self, message: str) -> None:
        """Print a message on stderr, in red, that makes the result doubtful."""
        self._console.print(f"[bold red]warning: {_plain(message)}[/]")

    def error(self, message: str) -> None:
        """Print an error on stderr."""
        self._console.print(f"[red]error:[/] {_plain(message)}")

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Task]:
        """Show a bar on stderr while the block runs; without a terminal a line a minute."""
        if self._quiet or not self._console.is_terminal:
            yield _Lines(self.info, what, total)
            return
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        )
        with bars:
            yield _Bar(bars, bars.add_task(_plain(what), total=total, note=""))

    def table(self, table: Table) -> None:
        """Show a table on stderr, unless ``--quiet``: it is for people, not for pipes."""
        if self._quiet:
            return
        _neutralise(table)
        # Rich wraps a caption at the table's width, however narrow that is.
        caption, table.caption = table.caption, None
        self._console.print(table, soft_wrap=False)
        if caption:
            self._console.print(caption, style="dim italic", soft_wrap=False)

    def show(self, shown: RenderableType) -> None:
        """Print data for people on stdout: plain and unwrapped where that is no terminal."""
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_UNWRAPPED)
        if isinstance(shown, Table):
            _neutralise(shown)
        console.print(shown)

    def result(self, **fields: Any) -> None:
        """Note what ``--json`` prints as the last line."""
        self._result.update(fields)

    def print_result(self, fields: Mapping[str, Any]) -> None:
        """Print the machine-readable last line, if asked for."""
        if self._json_line:
            print_json({**self._result, **fields}, to_stderr=self._data_on_stdout)


def _plain(message: str) -> str:
    """Write a message so that neither markup nor control characters in it are obeyed."""
    return escape(printable(message))


def _neutralise(table: Table) -> None:
    """Make the cells, headings and title of a table safe to show."""
    for column in table.columns:
        column.header = _safe(column.header)
        column._cells = [_safe(cell) for cell in column._cells]
    table.title = _safe(table.title)
    table.caption = _safe(table.caption)


def _safe(content: Any) -> Any:
    return printable(content) if isinstance(content, str) else content


def print_json(fields: Mapping[str, Any], *, to_stderr: bool = False) -> None:
    """Print one JSON line, on stdout unless data stand there."""
    line = json.dumps(fields, ensure_ascii=False)
    print(line, file=sys.stderr if to_stderr else sys.stdout, flush=True)


class _Terminated(BaseException):
    """SIGTERM has arrived; unwinds the stack, so that temporary files are removed."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an exception while a stage runs, and Ctrl-C back into Python's own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise _Terminated

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stage(
    command: str,
    *,
    quiet: bool = False,
    json_line: bool = False,
    debug: bool = False,
    data_on_stdout: bool = False,
) -> Iterator[Terminal]:
    """Run a command's body: errors become one message and the documented exit code.

    With ``--json`` the last line on stdout is an object with ``command``, ``ok``,
    ``exit_code``, what the command reported, and ``error`` where there was one.  Where the
    command writes its data to stdout (``--out -``) that line is the last on stderr.
    """
    terminal = Terminal(quiet=quiet, json_line=json_line, data_on_stdout=data_on_stdout)
    code, message = 0, ""
    try:
        with _terminable():
            yield terminal
    except (typer.Exit, typer.Abort):
        raise
    except KeyboardInterrupt:
        code, message = _EXIT_INTERRUPTED, "interrupted; the same command again continues"
    except _Terminated:
        code, message = _EXIT_TERMINATED, "ended by SIGTERM; the same command again continues"
    except BrokenPipeError:
        discard_stdout()
        code = _EXIT_BUG
    except TrecError as error:
        if debug:
            traceback.print_exc()
        code, message = error.exit_code, str(error)
    except Exception as error:
        if debug:
            raise
        code, message = _unexpected(error)
    _close(terminal, command, code, message)


def _unexpected(error: Exception) -> tuple[int, str]:
    """Return exit code and message of an error that no part of trec has explained."""
    if not isinstance(error, OSError) and any(text in str(error) for text in _WRITE_FAILED):
        error = OSError(errno.ENOSPC, "the disk is full or not writable")
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        failed = OutputFailed(error.filename or "an output", error)
        return failed.exit_code, str(failed)
    return _EXIT_BUG, (
        f"unexpected {type(error).__name__}: {error}. This is a fault of trec; "
        "please report it with the output of the same command and --debug."
    )


def _close(terminal: Terminal, command: str, code: int, message: str) -> None:
    """Print the error and the last line, and leave with the code."""
    if message:
        terminal.error(message)
    ending = {"command": command, "ok": code == 0, "exit_code": code}
    try:
        terminal.print_result({**ending, "error": message} if message else ending)
    except OSError as error:
        discard_stdout()
        failed = OutputFailed("standard output", error)
        code = code or failed.exit_code
        if not isinstance(error, BrokenPipeError):
            terminal.error(str(failed))
    if code:
        raise typer.Exit(code)
