"""Kill every stage at random moments, run the same command again, and compare the bytes.

    python scripts/kill_rounds.py --rounds 50 --seed 1 --out kill-rounds.json

Every stage is run once undisturbed. Then, from the same folder as before that run, it is
killed with -9 and run again with the same arguments: all files must be there with the same
bytes, no other file may be left, and the temporary folder must be empty. Half of the kills
come at a random share of the undisturbed run's time, half at a random one of its file
operations (opened for writing, renamed, removed, made), where a half-written output would be
left; every fifth round is killed twice. Draws come from (seed, stage, round) alone.

The processes are forks of this one, which has imported what takes long: a round takes about
a second. Only POSIX systems can do that. The model is a tiny random one.
"""

import argparse
import atexit
import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

_TWICE = 5
"""Every so many rounds the second run is killed, too."""
_LATE = 1.05
_WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
_TIMES = ("seconds", "_per_second", "started")
"""How fields of manifests end that tell times."""
_OF_THE_LAST_RUN = {
    *("continued_after_users", "resumed_from_step", "way", "weights_kept", "calls", "hits"),
    *("prompt_tokens", "new_tokens", "texts_embedded", "vectors_found"),
}
"""What is kept of a killed run (texts, vectors, batches) is not computed again."""
_STORE = ".sqlite"


@dataclass(frozen=True)
class Stage:
    """One command; ``{run}``, ``{source}`` and ``{model}`` stand for folders.

    Attributes:
        name: in the report.
        arguments: of trec.
        after: the stage on whose folder it works.
    """

    name: str
    arguments: Sequence[str]
    after: str | None = None


_SHORT = ("--item-tokens", "16", "--max-new-tokens", "4", "--prompt-tokens", "512")
_SPLITS = ("--split", "train", "--split", "valid", "--split", "test")
_SUMMARIZE = ("summarize", "{run}", "--model", "{model}", *_SHORT, *_SPLITS, "--mode")
_PREPARE = ("prepare", "{source}", "--out", "{run}", "--min-history", "4", "--predict",
            "--long", "keep-last", "--max-history", "8", "--train-users", "6",
            "--valid-users", "2", "--test-users", "4", "--num-negatives", "5")  # fmt: skip
_TRAIN = ("train", "{run}", "--model", "{model}", "--mode", "hier", "--epochs", "2",
          "--users-per-step", "2", "--save-every", "2", "--eval-every", "3",
          "--valid-users", "2", "--lora-dropout", "0.3")  # fmt: skip
STAGES = (
    Stage("prepare", _PREPARE),
    Stage("hier", (*_SUMMARIZE, "hier"), "prepare"),
    Stage("recurrent", (*_SUMMARIZE, "recurrent"), "prepare"),
    Stage(
        "attention",
        (*_SUMMARIZE, "attention", "--query", "candidate", "--embedder", "llm"),
        "prepare",
    ),
    Stage("train", _TRAIN, "hier"),
    Stage(
        "score",
        ("score", "{run}", "--mode", "hier", "--max-tokens", "700"),
        "train",
    ),
    Stage("bm25", ("score", "{run}", "--scorer", "bm25"), "prepare"),
    Stage("recommend", ("recommend", "{run}"), "prepare"),
    Stage("eval", ("eval", "{run}", "--permutations", "50"), "bm25"),
)


@dataclass
class Count:
    """What came of the rounds of one stage.

    Attributes:
        rounds: how many there were.
        killed: processes that were killed in time.
        kept: rounds whose killed run had left a file behind for the next to continue from.
        wrong: what differed, by round.
    """

    rounds: int = 0
    killed: int = 0
    kept: int = 0
    wrong: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """The folders of one stage: its path must stay the same, since manifests name it."""

    folder: Path
    model: Path

    @property
    def run(self) -> Path:
        """Where the stage works."""
        return self.folder / "run"

    @property
    def temporary(self) -> Path:
        """The process's TMPDIR."""
        return self.folder / "tmp"

    def words(self, stage: Stage) -> list[str]:
        """Return the arguments of a stage."""
        source = ROOT / "samples" / "news"
        names = {"run": self.run, "source": source, "model": self.model}
        return [word.format(**names) for word in stage.arguments]

    def left(self) -> list[Path]:
        """Return what lies in TMPDIR, but for the 4 bytes by which Python itself tries it."""
        found = self.temporary.iterdir()
        return [path for path in found if not path.is_file() or path.read_bytes() != b"blat"]

    def reset(self, before: Path | None) -> None:
        """Put the folder back to what it was before the stage."""
        for folder in (self.run, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        if before is not None:
            shutil.copytree(before, self.run)


def _import_slow_things() -> None:
    """Import once what every fork needs; no thread may start here."""
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import polars  # noqa: F401
    import pydantic.json_schema  # noqa: F401
    import scipy.optimize  # noqa: F401
    import torch  # noqa: F401
    import transformers
    import transformers.models.llama.modeling_llama  # noqa: F401
    from transformers import Trainer  # noqa: F401

    from trec_cli.commands import app  # noqa: F401
    from trec_cli.train import trainer  # noqa: F401


def _fork(words: Sequence[str], temporary: Path, prepare: Callable[[], None]) -> int:
    """Run a command of trec in a fork; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.environ["TMPDIR"] = str(temporary)
        tempfile.tempdir = None
        quiet = os.open(temporary.with_name("stderr.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.argv = ["trec", *words]
        prepare()
        code = _run_app()
    finally:
        os._exit(code)


def _run_app() -> int:
    from trec_cli.commands.app import main

    code = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _on_writes(folders: Sequence[Path], seen: Callable[[], None]) -> None:
    """Call ``seen`` before every file operation below the folders that changes something."""
    below = tuple(f"{folder}{os.sep}" for folder in folders)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            if not (flags or 0) & (os.O_WRONLY | os.O_RDWR) and not set(mode or "") & set("wax+"):
                return
        elif event in _WRITES or event == "sqlite3.connect":
            path = arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and str(os.fspath(path)).startswith(below):
            seen()

    sys.addaudithook(hook)


def undisturbed(stage: Stage, place: Place) -> tuple[float, int]:
    """Run a stage to its end; return its seconds and how many file operations it has made.

    Raises:
        RuntimeError: it failed.
    """
    counted = place.folder / "operations"
    counted.unlink(missing_ok=True)
    log = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    folders = (place.run, place.temporary)
    start = time.monotonic()
    pid = _fork(
        place.words(stage), place.temporary, lambda: _on_writes(folders, lambda: _mark(log))
    )
    code = _wait(pid)
    seconds = time.monotonic() - start
    os.close(log)
    if code:
        said = (place.folder / "stderr.txt").read_text(encoding="utf-8")
        raise RuntimeError(f"{stage.name} ended with {code}:\n{said[-2000:]}")
    return seconds, counted.stat().st_size


def _mark(log: int) -> None:
    os.write(log, b".")


def kill_once(
    stage: Stage, place: Place, draw: random.Random, seconds: float, operations: int
) -> bool:
    """Start a stage and kill it at a random moment; return whether it still ran by then."""
    if draw.random() < 1 / 2:
        return _kill_at_time(stage, place, draw.uniform(0, _LATE * seconds))
    return _kill_at_operation(stage, place, draw.randint(1, operations))


def _kill_at_time(stage: Stage, place: Place, moment: float) -> bool:
    pid = _fork(place.words(stage), place.temporary, lambda: None)
    time.sleep(moment)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return _wait(pid) == -signal.SIGKILL


def _kill_at_operation(stage: Stage, place: Place, number: int) -> bool:
    left = number

    def seen() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    folders = (place.run, place.temporary)
    pid = _fork(place.words(stage), place.temporary, lambda: _on_writes(folders, seen))
    return _wait(pid) == -signal.SIGKILL


def contents(folder: Path) -> dict[str, Any]:
    """Return every file below a folder with what must be the same in every run."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _content(path) for path in files}


def _content(path: Path) -> Any:
    if path.name.endswith(".manifest.json"):
        return _timeless(json.loads(path.read_bytes()))
    if path.suffix == _STORE:
        return _rows(path)
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    """Leave out what tells times and how often a run was continued."""
    if isinstance(value, dict):
        return {
            name: _timeless(inner)
            for name, inner in value.items()
            if not name.endswith(_TIMES) and name not in _OF_THE_LAST_RUN
        }
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _rows(path: Path) -> Any:
    """Read a store's tables: the order of its pages is no matter."""
    import sqlite3

    with contextlib.closing(sqlite3.connect(path)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master ORDER BY 1")]
        return {n: sorted(database.execute(f"SELECT * FROM {n}"), key=repr) for n in names}


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Name the files that are missing, too many, or other than they should be."""
    missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    more = [f"{name} is left" for name in sorted(found.keys() - expected.keys())]
    other = [n for n in sorted(expected.keys() & found.keys()) if expected[n] != found[n]]
    return [*missing, *more, *(_difference(name, expected[name], found[name]) for name in other)]


def _difference(name: str, old: Any, new: Any) -> str:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return f"{name} differs"
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return f"{name} differs in {', '.join(keys)}"


def rounds(stage: Stage, place: Place, before: Path | None, count: int, seed: int) -> Count:
    """Kill and repeat a stage ``count`` times; its folder ends as the undisturbed run left it."""
    place.reset(before)
    seconds, operations = undisturbed(stage, place)
    expected = contents(place.run)
    kept = place.folder / f"after-{stage.name}"
    shutil.copytree(place.run, kept, dirs_exist_ok=True)
    result = Count(rounds=count)
    for number in range(count):
        draw = random.Random(f"{seed}-{stage.name}-{number}")
        place.reset(before)
        for _ in range(2 if number % _TWICE == _TWICE - 1 else 1):
            result.killed += kill_once(stage, place, draw, seconds, operations)
        result.kept += any(place.run.rglob(".*.partial"))
        code = _wait(_fork(place.words(stage), place.temporary, lambda: None))
        wrong = [f"exit code {code}"] if code else []
        wrong += differences(expected, contents(place.run))
        wrong += [f"{path.name} is left in TMPDIR" for path in place.left()]
        if wrong:
            result.wrong[number] = wrong
    place.reset(kept)
    return result


def run_stages(
    folder: Path, model: Path, names: Sequence[str], count: int, seed: int
) -> Iterator[tuple[str, Count]]:
    """Yield what came of every stage that is asked for."""
    place = Place(folder, model)
    after: dict[str, Path] = {}
    for stage in STAGES:
        after[stage.name] = folder / f"after-{stage.name}"
        if stage.name not in names and after[stage.name].exists():
            continue
        before = None if stage.after is None else after[stage.after]
        result = rounds(stage, place, before, count if stage.name in names else 0, seed)
        if stage.name in names:
            yield stage.name, result


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [stage.name for stage in STAGES]
    parser.add_argument("--rounds", type=int, default=5, help="kills of every stage")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage", action="append", choices=names, help="only this; repeatable")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary one by default")
    parser.add_argument("--out", type=Path, help="JSON with the counts of every stage")
    return parser.parse_args()


def _report(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kill the stages that are asked for, say and keep what came of it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model"
    if not (model / "config.json").exists():  # in a fork: torch's threads must not start here
        _wait(_fork_model(model))
    _import_slow_things()
    names = arguments.stage or [stage.name for stage in STAGES]
    report: dict[str, Any] = {}
    for name, count in run_stages(folder, model, names, arguments.rounds, arguments.seed):
        report[name] = vars(count)
        right = count.rounds - len(count.wrong)
        print(f"{name}: {right} of {count.rounds} equal; {count.killed} killed", flush=True)
        for number, wrong in count.wrong.items():
            print(f"  round {number}: {'; '.join(wrong)}", flush=True)
        if arguments.out:
            arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def main() -> int:
    """Return 1 where any round ended with other bytes."""
    arguments = _arguments()
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
        os.environ.setdefault(threads, "1")  # threads and forks do not go together
    made = arguments.folder or Path(tempfile.mkdtemp(prefix="kill-rounds-"))
    try:
        report = _report(made.resolve(), arguments)
    finally:  # by hand: a TemporaryDirectory would end with the first fork that ends
        if arguments.folder is None:
            shutil.rmtree(made)
    return int(any(count["wrong"] for count in report.values()))


def _fork_model(model: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        from samples.tiny_model import write_model

        write_model(model)
        code = 0
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
