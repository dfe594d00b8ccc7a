"""Starting commands of a study as processes of their own, one or several at once."""

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from trec_cli.core.processes import end_with_parent

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
    slot: int
    process: "subprocess.Popen[bytes]"
    told: IO[bytes]
    line: bytes = b""


class Crew:
    """Up to ``size`` commands of ``trec`` at work.

    One alone has our stderr, bars and all. Of several each has its share of the machine
    (:func:`environments`), and its lines are passed on with its name before them.
    """

    def __init__(self, size: int, say: Callable[[str], None], *, quiet: bool = False) -> None:
        """Hire; ``say`` shows one line to the user."""
        self.size, self._say = size, say
        self._more = ["--json", *(["--quiet"] if quiet else [])]
        self._environments = environments(size)
        self._free = list(range(size))
        self._working: list[_Command] = []
        self._ears = selectors.DefaultSelector()

    def start(self, name: str, arguments: Sequence[str]) -> None:
        """Start ``trec`` with these arguments; there must be room for it."""
        slot, told = self._free.pop(0), tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
        process = subprocess.Popen(
            [sys.executable, "-m", "trec_cli", *arguments, *self._more],
            stdout=told,
            stderr=None if self.size == 1 else subprocess.PIPE,
            env=self._environments[slot],
            preexec_fn=end_with_parent(),
        )
        command = _Command(name, slot, process, told)
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
        self._free.append(command.slot)
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
        """Check whether there is output to read now; a grandchild may keep the pipe open."""
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


def environments(number: int) -> list[dict[str, str]]:
    """Return the environment of each of ``number`` commands that run at once.

    Alone, a command has the whole machine. Of several each has its share of the CPU's
    threads (more threads than cores slow all of them down many times), unless the user has
    set ``OMP_NUM_THREADS``, and sees one GPU, the GPUs being given out in turn.
    """
    mine = dict(os.environ)
    if number == 1:
        return [mine]
    threads = str(max(1, _cores() // number))
    shared = {"OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false", **mine}
    cards = gpus()
    return [
        {**shared, **({"CUDA_VISIBLE_DEVICES": cards[index % len(cards)]} if cards else {})}
        for index in range(number)
    ]


def gpus() -> list[str]:
    """Name the GPUs that a command would see, as ``CUDA_VISIBLE_DEVICES`` does.

    Torch is not asked: it takes seconds to import, and would hold memory on every GPU.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    program = shutil.which("nvidia-smi")
    with suppress(OSError, subprocess.SubprocessError):
        if program:
            listed = subprocess.run(
                [program, "-L"], capture_output=True, text=True, timeout=30, check=True
            ).stdout
            number = sum(line.startswith("GPU ") for line in listed.splitlines())
            return [str(index) for index in range(number)]
    return []


def _cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
