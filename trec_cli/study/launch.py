"""Starting one command of a study as a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trec_cli.processes import end_with_parent

_INTERRUPTED = 130
_GRACE = 60.0
"""Seconds in which an interrupted command may finish what it is writing."""


@dataclass(frozen=True)
class Ending:
    """How a command ended: exit code, and its error in words."""

    code: int
    message: str = ""


Launch = Callable[[Sequence[str]], Ending]


def launch(arguments: Sequence[str], *, quiet: bool = False) -> Ending:
    """Run ``trec`` with these arguments; bars and warnings go to our stderr.

    Raises:
        KeyboardInterrupt: the command was interrupted, after it has ended.
    """
    words = [*arguments, "--json", *(["--quiet"] if quiet else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "trec_cli", *words],
        stdout=subprocess.PIPE,
        preexec_fn=end_with_parent(),
    )
    try:
        told, _ = process.communicate()
    except KeyboardInterrupt:
        _let_end(process)
        raise
    if process.returncode == _INTERRUPTED:
        raise KeyboardInterrupt
    return Ending(process.returncode, _error(told))


def _let_end(process: "subprocess.Popen[bytes]") -> None:
    """Wait for a command that was interrupted with us; a second interrupt kills it."""
    try:
        process.wait(_GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()


def _error(told: bytes) -> str:
    """Find the error in the last line of what ``--json`` printed."""
    lines = told.decode("utf-8", "replace").strip().splitlines()
    try:
        message = json.loads(lines[-1]).get("error", "") if lines else ""
    except (json.JSONDecodeError, AttributeError):
        return ""
    return str(message)
