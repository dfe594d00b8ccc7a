"""Scoring with a model that RecBole trains (``--scorer recbole:SASRec``)."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from trec_cli.core.errors import ModelError, UsageError
from trec_cli.core.jsonl import encode, read_examples, read_items
from trec_cli.core.manifest import file_hash
from trec_cli.core.outputs import plain_settings, write_bytes, write_lines
from trec_cli.core.progress import Progress
from trec_cli.core.records import Example, Item
from trec_cli.recbole import TRAIN_ON, TrainOn, grids
from trec_cli.recbole.atomic import trained_items, write_atomic_files
from trec_cli.recbole.environment import WORKER, find_version, run_worker
from trec_cli.recbole.questions import Question, Unknown, ask
from trec_cli.score.names import RECBOLE
from trec_cli.score.request import ScoreRequest
from trec_cli.score.writing import Cost


class _Trial(msgspec.Struct):
    """The result of one choice of settings, as the worker writes it."""

    settings: dict[str, Any]
    valid_mrr: float
    epoch: int
    parameters: int
    seconds: float
    answers: list[list[float | None] | None]


def make_recbole_job(request: ScoreRequest, work: Path, progress: Progress) -> "RecboleJob":
    """Read the files, find RecBole and make the job; ``work`` is its folder while it lasts.

    Raises:
        UsageError: RecBole is not there, or there is nothing to learn from or to tune on.
        InputError: as the readers raise it.
    """
    if request.train_on not in TRAIN_ON:
        raise UsageError(f"--train-on {request.train_on}: choose one of {', '.join(TRAIN_ON)}")
    version = find_version(request.recbole_python)
    items = read_items(request.items)
    everything = read_examples(request.examples, items)
    for split in ("train", "valid"):
        if not any(example.split == split for example in everything):
            raise UsageError(
                f"--scorer {request.scorer} needs examples of split {split} to "
                f"{'learn from' if split == 'train' else 'choose its settings by'}"
            )
    return RecboleJob(
        request,
        items,
        everything,
        work,
        settings={**request.settings(items, everything), "recbole": version},
        progress=progress,
    )


class RecboleJob:
    """A :class:`~trec_cli.score.writing.Job` whose one batch is all examples."""

    def __init__(
        self,
        request: ScoreRequest,
        items: Mapping[str, Item],
        everything: Sequence[Example],
        work: Path,
        *,
        settings: Mapping[str, Any],
        progress: Progress,
    ) -> None:
        """Choose the examples; RecBole starts when they are scored.

        Args:
            request: the scorer's name, split, seed and what to learn from.
            items: the catalogue.
            everything: all examples of the file.
            work: folder for RecBole's files and finished trials.
            settings: what else decides the scores, such as RecBole's version.
            progress: where to say what goes on.

        Raises:
            InputError: there is no example of the split.
        """
        self.model = request.scorer.removeprefix(RECBOLE)
        self.examples = request.choose(everything)
        self.inputs = [request.items, request.examples]
        self.work = work
        self._request, self._items, self._everything = request, items, everything
        self._progress = progress
        self._details: dict[str, Any] = {}
        self._unknown = Unknown(0, 0, 0, 0, 0)
        self.settings = {
            **settings,
            "seed": request.seed,
            "train_on": request.train_on,
            "grid": grids.grid(self.model),
            "fixed": grids.fixed(self.model),
            "epochs": grids.EPOCHS,
            "patience": grids.PATIENCE,
            "batch_size": grids.BATCH,
            "worker": file_hash(WORKER),
        }

    def batches(self) -> list[range]:
        """All examples at once: the training before them is what takes the time."""
        return [range(len(self.examples))]

    def score(self, batch: Sequence[int]) -> list[list[float]]:
        """Train every setting of the grid, and give the scores of the one best on valid.

        Raises:
            ModelError: RecBole failed.
        """
        questions = self._export()
        python = self._request.recbole_python
        assert python is not None
        run_worker(python, self.work / "task.json", self._progress)
        trials = [self._trial(number) for number in range(len(self.settings["grid"]))]
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
        return [questions[place].scores(best.answers[place]) for place in batch]

    def _export(self) -> list[Question]:
        """Write what the worker reads, unless an interrupted run of these settings has."""
        task = self.work / "task.json"
        content = msgspec.json.encode(self._task())
        if not task.is_file() or task.read_bytes() != content:
            shutil.rmtree(self.work, ignore_errors=True)
        train_on: TrainOn = "train" if self._request.train_on == "train" else "histories"
        rows = write_atomic_files(self.work, self._items, self._everything, train_on)
        trained = trained_items(rows)
        valid = [e for e in self._everything if e.split == "valid"]
        asked = list(ask(self.examples, trained))
        tuning = [] if self._request.split == "valid" else list(ask(valid, trained))
        lines = (encode(question.as_dict()) for question in (*tuning, *asked))
        write_lines(self.work / "questions.jsonl", lines)
        write_bytes(task, [content])
        return asked

    def _task(self) -> dict[str, Any]:
        names = ("seed", "grid", "fixed", "epochs", "patience", "batch_size")
        inputs = [file_hash(path) for path in self.inputs if path.is_file()]
        return {
            "model": self.model,
            "data": str(self.work.absolute()),
            "split": self._request.split,
            "use_gpu": False,
            "inputs": inputs,
            **{name: self.settings[name] for name in names},
            "settings": plain_settings(self.settings),
        }

    def _trial(self, number: int) -> _Trial:
        return msgspec.json.decode((self.work / f"trial-{number}.json").read_bytes(), type=_Trial)

    def cost(self, place: int) -> Cost:
        """Count an example; it has no tokens."""
        return Cost(users=1, candidates=len(self.examples[place].candidates))

    def details(self) -> dict[str, Any]:
        """Say which settings were tried and chosen, and what the model did not know."""
        return self._details

    def remarks(self) -> list[str]:
        """Say the same in words."""
        if not self._details:
            return []
        chosen = ", ".join(f"{name} {value}" for name, value in self._details["chosen"].items())
        told = [f"{self.model}: best on validation with {chosen}", str(self._unknown)]
        if self._request.split == "valid":
            told.append("chosen by these very examples: their scores are better than new ones'")
        return told


def _summary(trial: _Trial) -> dict[str, Any]:
    fields = msgspec.structs.asdict(trial)
    del fields["answers"]
    return fields
