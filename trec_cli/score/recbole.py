"""Scoring with a model that RecBole trains (``--scorer recbole:SASRec``)."""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import ModelError, UsageError
from trec_cli.core.json_file import read_json
from trec_cli.core.jsonl import encode, is_stream
from trec_cli.core.manifest import file_hash
from trec_cli.core.outputs import plain_settings, write_bytes, write_lines
from trec_cli.core.progress import Progress
from trec_cli.core.temporary import temporary_folder
from trec_cli.recbole import grids
from trec_cli.recbole.atomic import trained_items, write_atomic_files
from trec_cli.recbole.environment import WORKER, find_version, run_worker
from trec_cli.recbole.questions import RecboleQuestion, Unknown, ask
from trec_cli.score.job import Job, Material, read_material
from trec_cli.score.kinds import RECBOLE
from trec_cli.score.options import Asked, RecboleOptions

_MAKERS = (WORKER.with_name("atomic.py"), WORKER.with_name("questions.py"))
"""What makes rows of training and questions: other code may train another model."""


class _Trial(msgspec.Struct):
    """The result of one choice of settings, as the worker writes it."""

    settings: dict[str, Any]
    valid_mrr: float
    epoch: int
    parameters: int
    seconds: float
    answers: list[list[float | None] | None]
    kept: bool = False


def make_recbole_job(
    asked: Asked, scorer: str, options: RecboleOptions, progress: Progress, *, tune: bool = True
) -> "RecboleJob":
    """Find RecBole and read the files; without ``tune`` only the first settings are tried.

    Raises:
        UsageError: RecBole is not there, or there is nothing to learn from or to tune on.
        InputError: a file is at fault, or there is no example of the split.
    """
    version = find_version(options.recbole_python)
    material = read_material(asked, scorer)
    for split in ("train", "valid"):
        if not any(example.split == split for example in material.everything):
            raise UsageError(
                f"--scorer {scorer} needs examples of split {split} to "
                f"{'learn from' if split == 'train' else 'choose its settings by'}"
            )
    return RecboleJob(asked, scorer, options, version, material, progress, tune=tune)


class RecboleJob(Job):
    """A job whose one batch is all examples: the training before takes the time."""

    def __init__(
        self,
        asked: Asked,
        scorer: str,
        options: RecboleOptions,
        version: str,
        material: Material,
        progress: Progress,
        *,
        tune: bool = True,
    ) -> None:
        """Describe the settings; RecBole starts when the examples are scored.

        Args:
            asked: the split and the seed.
            scorer: name of the scorer.
            options: the interpreter, and what to learn from.
            version: of RecBole.
            material: the examples of all splits.
            progress: where to say what goes on.
            tune: whether to try the whole grid, or its first settings alone.
        """
        self.model = scorer.removeprefix(RECBOLE)
        settings = {
            "recbole": version,
            "seed": asked.seed,
            "train_on": options.train_on,
            "grid": grids.grid(self.model)[: None if tune else 1],
            "fixed": grids.fixed(self.model),
            "epochs": grids.EPOCHS,
            "patience": grids.PATIENCE,
            "batch_size": grids.BATCH,
            "worker": file_hash(WORKER),
        }
        super().__init__(scorer.replace(":", "-"), material, settings)
        self.work = self._models = Path()
        self._split, self._options = asked.split, options
        self._items, self._everything = material.items, material.everything
        self._progress = progress
        self._details: dict[str, Any] = {}
        self._unknown = Unknown(0, 0, 0, 0, 0)

    @contextmanager
    def running(self, out: Path) -> Iterator[None]:
        """Hold a folder for RecBole's files and finished trials; it goes when all is written.

        Models stay, for other questions about the same examples; those of others go.  Where
        a part of split valid is asked, training stops by it alone, so these models go, too.
        """
        if is_stream(out):
            with temporary_folder("recbole") as self.work:
                self._models = self.work
                yield
            return
        self.work = self._models = out.with_name(f".{out.name}.recbole")
        if self._split != "valid" or self.settings["limit"] is None:
            self._models = out.with_name(f"learnt-{self.system}")
        yield
        shutil.rmtree(self.work, ignore_errors=True)
        for other in self._models.glob("*.npz") if self._details else ():
            if not other.name.startswith(self._key()):
                other.unlink(missing_ok=True)

    def batches(self) -> list[range]:
        """All examples at once: the training before them is what takes the time."""
        return [range(len(self.examples))]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Train every setting of the grid, and return the scores of the one best on valid.

        Raises:
            ModelError: RecBole failed.
        """
        questions = self._export()
        python = self._options.recbole_python
        assert python is not None  # its version is known
        run_worker(python, self.work / "task.json", self._progress)
        files = [self.work / f"trial-{n}.json" for n in range(len(self.settings["grid"]))]
        trials = [read_json(file, _Trial) for file in files]
        best = max(trials, key=lambda trial: trial.valid_mrr)
        silent = sum(answer is None for answer in best.answers)
        if silent == len(questions):
            raise ModelError(
                f"{self.model} can say nothing about any example: a model of users needs their "
                "histories in training (--train-on histories), one of histories needs histories"
            )
        self._unknown = Unknown.count(questions, best.answers)
        self._details = {
            "chosen": best.settings,
            "trials": [_summary(trial) for trial in trials],
            "not_known": asdict(self._unknown),
        }
        return [questions[index].scores(best.answers[index]) for index in batch]

    def _export(self) -> list[RecboleQuestion]:
        """Write what the worker reads, unless an interrupted run of these settings has."""
        task = self.work / "task.json"
        content = msgspec.json.encode(self._task())
        if not task.is_file() or task.read_bytes() != content:
            shutil.rmtree(self.work, ignore_errors=True)
        train_on = self._options.train_on
        rows = write_atomic_files(self.work, self._items, self._everything, train_on)
        trained = trained_items(rows)
        valid = [e for e in self._everything if e.split == "valid"]
        asked = list(ask(self.examples, trained))
        tuning = [] if self._split == "valid" else list(ask(valid, trained))
        lines = (encode(question.as_dict()) for question in (*tuning, *asked))
        write_lines(self.work / "questions.jsonl", lines)
        write_bytes(task, [content])
        return asked

    def _inputs(self) -> list[str]:
        """Return the hashes of the files that were read."""
        files = [path for path in self.inputs if path.is_file()]
        return [self.hashes.get(str(path)) or file_hash(path) for path in files]

    def _key(self) -> str:
        """Hash what decides a model beside its own settings; the split asked does not."""
        names = ("recbole", "seed", "train_on", "fixed", "epochs", "patience", "batch_size")
        decided = [self.settings[name] for name in (*names, "worker")]
        code = list(map(file_hash, _MAKERS))
        return _hash([self._inputs(), self.settings.get("streamed"), decided, code])

    def _task(self) -> dict[str, Any]:
        names = ("seed", "grid", "fixed", "epochs", "patience", "batch_size")
        folder, key = self._models.absolute(), self._key()
        models = [str(folder / f"{key}-{_hash(chosen)}.npz") for chosen in self.settings["grid"]]
        return {
            "model": self.model,
            "data": str(self.work.absolute()),
            "models": models,
            "split": self._split,
            "use_gpu": False,
            "inputs": self._inputs(),
            **{name: self.settings[name] for name in names},
            "settings": plain_settings(self.settings),
        }

    def details(self) -> dict[str, Any]:
        """Return which settings were tried and chosen, and what the model did not know."""
        return self._details

    def remarks(self) -> list[str]:
        """Return the same in words."""
        if not self._details:
            return []
        chosen = ", ".join(f"{name} {value}" for name, value in self._details["chosen"].items())
        told = [f"{self.model}: best on validation with {chosen}", str(self._unknown)]
        trials = self._details["trials"]
        kept = sum(trial["kept"] for trial in trials)
        if kept:
            told.append(f"{kept} of {len(trials)} models taken from {self._models}")
        if self._split == "valid":
            told.append("chosen by these very examples: their scores are better than new ones'")
        return told


def _hash(content: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:16]


def _summary(trial: _Trial) -> dict[str, Any]:
    fields = msgspec.structs.asdict(trial)
    del fields["answers"]
    return fields
