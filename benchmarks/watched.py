"""Run a command and watch what it takes: processor seconds and memory of the process tree."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_EVERY = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes:
        cpu_seconds: user and system time of the command and its children.
        seconds: by the clock.
        peak_mib: the most memory that the tree had resident at one moment (RSS, summed).
    """

    cpu_seconds: float
    seconds: float
    peak_mib: float


def watch(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end, and return what it took.

    Raises:
        CalledProcessError: it failed.
    """
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen(command, env=None if environment is None else dict(environment))
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process.pid))
        time.sleep(_EVERY)
    after = os.times()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return Watched(round(used, 2), round(time.perf_counter() - started, 2), round(peak / 2**20, 1))


def _resident(pid: int) -> int:
    """Sum the resident memory of a process and all below it, as Linux says it."""
    total, left = 0, [pid]
    while left:
        folder = Path(f"/proc/{left.pop()}")
        with suppress(OSError, ValueError):  # it may have ended
            total += int((folder / "statm").read_text("ascii").split()[1]) * _PAGE
            for children in folder.glob("task/*/children"):
                left += map(int, children.read_text("ascii").split())
    return total
