"""RecBole's own interpreter: is it there, which version, and running the worker with it."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trec_cli.core.errors import ModelError, TrecError, UsageError
from trec_cli.core.processes import end_with_parent
from trec_cli.core.progress import Progress

VARIABLE = "TREC_RECBOLE_PYTHON"
WORKER = Path(__file__).with_name("worker.py")
_VERSION = "from importlib.metadata import version; print(version('recbole'))"
_TOLD = 2_000
_USAGE = 2
_HOW = (
    "RecBole needs an environment of its own: python scripts/recbole_env.py FOLDER makes one; "
    f"then give --recbole-python FOLDER/bin/python, or set {VARIABLE}"
)


def find_version(python: Path | None) -> str:
    """Return the version of RecBole that an interpreter has.

    Raises:
        UsageError: there is no interpreter, or it has no RecBole.
    """
    if python is None:
        raise UsageError(_HOW)
    try:
        done = subprocess.run(
            [python, "-c", _VERSION], capture_output=True, text=True, check=True, env=_variables()
        )
    except OSError as error:
        raise UsageError(f"{python} cannot be run ({error.strerror}). {_HOW}") from None
    except subprocess.CalledProcessError:
        raise UsageError(f"{python} has no RecBole. {_HOW}") from None
    return done.stdout.strip()


def run_worker(python: Path, task: Path, progress: Progress) -> None:
    """Run all trials of a task, and tell of each when the next one has begun.

    Raises:
        ModelError: with the last words of the worker.
        UsageError: RecBole has no such model.
    """
    last: dict[str, Any] = {}
    errors = task.with_name("worker.log")
    with errors.open("w") as log, _started(python, task, log) as worker:
        for line in worker.stdout or ():
            told = json.loads(line) if line.startswith("{") else {}
            if told and last and told["trial"] != last["trial"]:
                _tell(last, progress)
            last = told or last
    if worker.returncode:
        raise _failure(worker.returncode, errors.read_text(errors="replace").strip())
    if last:
        _tell(last, progress)


def _failure(code: int, said: str) -> TrecError:
    """Explain how the worker ended: of a traceback the last line says what was wrong."""
    last = said.splitlines()[-1][-_TOLD:] if said else "it said nothing"
    return UsageError(last) if code == _USAGE else ModelError(f"RecBole failed ({code}): {last}")


def _tell(last: dict[str, Any], progress: Progress) -> None:
    progress.info(
        f"trial {last['trial']}: {last['epoch']} epochs, "
        f"validation MRR {last['valid_mrr']:.3f} at the end"
    )


@contextmanager
def _started(python: Path, task: Path, log: Any) -> Iterator["subprocess.Popen[str]"]:
    """Start the worker; it ends when this block or this program does."""
    worker = subprocess.Popen(
        [python.absolute(), WORKER, task.absolute()],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        cwd=task.parent,
        env=_variables(),
        preexec_fn=end_with_parent(),
    )
    with worker:
        try:
            yield worker
        except BaseException:
            worker.kill()
            raise


def _variables() -> dict[str, str]:
    """Keep our own packages out of the other interpreter."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
