"""Starting commands of a study as processes of their own, one or several at once."""

import json
import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from trec_cli.core.processes import end_with_parent
from trec_cli.study.places import places

_INTERRUPTED = 130
_GRACE = 60.0
"""Seconds in which an interrupted command may finish what it is writing."""
_PIECE = 1 << 16
_TICK = 0.1
"""Seconds between two looks at whether a command has ended."""


@dataclass(frozen=True)
class Ending:
    """How a command ended: exit code, and its error in words."""

    code: int
    message: str = ""


@dataclass
class _Command:
    """One command at work; ``line`` is what it has begun to say on stderr."""

    name: str
    place: int
    process: "subprocess.Popen[bytes]"
    told: IO[bytes]
    line: bytes = b""


class Crew:
    """Up to ``size`` commands of ``trec`` at work.

    One alone has our stderr, bars and all. Of several each has its share of the machine
    (``places``), and its lines are passed on with its name before them.
    """

    def __init__(self, size: int, say: Callable[[str], None], *, quiet: bool = False) -> None:
        """Hire; ``say`` shows one line to the user."""
        self.size, self._say = size, say
        self._more = ["--json", *(["--quiet"] if quiet else [])]
        self._places = places(size)
        self._free = list(range(size))
        self._working: list[_Command] = []
        self._ears = selectors.DefaultSelector()

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start ``trec`` with these arguments; there must be room for it."""
        place, told = self._free.pop(0), tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        process = subprocess.Popen(
            [sys.executable, "-m", "trec_cli", *arguments, *self._more],
            stdout=told,
            stderr=None if self.size == 1 else subprocess.PIPE,
            env=self._places[place],
            preexec_fn=end_with_parent(),
        )
        command = _Command(name, place, process, told)
        if process.stderr is not None:
            self._ears.register(process.stderr, selectors.EVENT_READ, command)
        self._working.append(command)

    def wait(self) -> tuple[str, Ending]:
        """Wait until one of those at work has ended: its name, and how.

        Raises:
            KeyboardInterrupt: we or a command were interrupted, after all have ended.
        """
        try:
            name, ending = self._end(self._next())
        except KeyboardInterrupt:
            self._let_all_end()
            raise
        if ending.code == _INTERRUPTED:
            self._let_all_end()
            raise KeyboardInterrupt
        return name, ending

    def _next(self) -> _Command:
        """Pass on what is said until a command has ended."""
        if self.size == 1:
            self._working[0].process.wait()
        while True:
            for command in self._working:
                if command.process.poll() is not None:
                    return command
            for key, _ in self._ears.select(_TICK):
                self._listen(key.data)

    def _listen(self, command: _Command) -> None:
        """Pass on the lines that a command has said since."""
        stderr = command.process.stderr
        assert stderr is not None
        heard = os.read(stderr.fileno(), _PIECE)
        if not heard:
            self._ears.unregister(stderr)
        *lines, command.line = (command.line + (heard or b"\n")).split(b"\n")
        for line in lines:
            if shown := line.decode("utf-8", "replace").rstrip():
                self._say(f"[{command.name}] {shown}")

    def _end(self, command: _Command) -> tuple[str, Ending]:
        """Take leave of a command that has ended."""
        self._working.remove(command)
        self._free.append(command.place)
        if (stderr := command.process.stderr) is not None:
            while self._speaks(command):
                self._listen(command)
            if stderr in self._ears.get_map():
                self._ears.unregister(stderr)
            stderr.close()
        with command.told as told:
            told.seek(0)
            return command.name, Ending(command.process.returncode, _error(told.read()))

    def _speaks(self, command: _Command) -> bool:
        """Tell whether something can be heard now; a grandchild may keep the pipe open."""
        return any(key.data is command for key, _ in self._ears.select(0))

    def _let_all_end(self) -> None:
        """Wait for commands that were interrupted with us; a second interrupt kills them."""
        for command in list(self._working):
            try:
                command.process.wait(_GRACE)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                command.process.kill()
                command.process.wait()
            self._end(command)


def _error(told: bytes) -> str:
    """Find the error in the last line of what ``--json`` printed."""
    lines = told.decode("utf-8", "replace").strip().splitlines()
    try:
        message = json.loads(lines[-1]).get("error", "") if lines else ""
    except (json.JSONDecodeError, AttributeError):
        return ""
    return str(message)
