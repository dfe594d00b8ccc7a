# ruff: noqa: ARG002 - the Trainer calls every callback with all of these arguments
"""What happens beside the training: log, best adapter, whole checkpoints, bar, trackers."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from trec_cli.core.errors import ModelError, UsageError
from trec_cli.core.json_file import decode_json
from trec_cli.core.outputs import write_bytes
from trec_cli.core.progress import Task
from trec_cli.train.lora import gathered, save_adapter
from trec_cli.train.work import (
    BEST_FILE,
    SPENT_FILE,
    Spent,
    mark_complete,
    read_best,
    replace_folder,
)

VALID_PREFIX = "eval_"
_TENSORBOARD_FOLDER = "TENSORBOARD_LOGGING_DIR"
LOGGED = ("loss", "grad_norm", "learning_rate")


class ValidateAtEnd(TrainerCallback):  # type: ignore[misc]
    """Validates after the last step, which older versions of the Trainer do not by themselves."""

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a validation."""
        if state.global_step >= state.max_steps:
            control.should_evaluate = True


class EpochShare(TrainerCallback):  # type: ignore[misc]
    """Counts epochs: to the Trainer the whole plan is one."""

    def __init__(self, epochs: int) -> None:
        """Take the number of epochs in the plan."""
        self._epochs = epochs

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Stretch the share of the plan that is done to epochs."""
        state.epoch = self._epochs * state.global_step / state.max_steps


class LogFile(TrainerCallback):  # type: ignore[misc]
    """Appends a line per step and per validation to the training log.

    There are no times in it, so that a resumed run writes the bytes of an undisturbed one.
    """

    def __init__(self, path: Path) -> None:
        """Take the log's path; its folder must be there."""
        self._path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what was logged after the checkpoint that training continues from."""
        if not state.is_world_process_zero:
            return
        lines = read_log(self._path)
        kept = [line for line in lines if line["step"] <= state.global_step]
        write_bytes(self._path, [msgspec.json.encode(line) + b"\n" for line in kept])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write the loss of a step, or the metrics of a validation."""
        line = _log_line(logs or {})
        if not line or not state.is_world_process_zero:
            return
        head = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 6)}
        with self._path.open("ab") as stream:
            stream.write(msgspec.json.encode({**head, **line}) + b"\n")


def _log_line(logs: Mapping[str, float]) -> dict[str, float]:
    valid = {
        f"valid_{name.removeprefix(VALID_PREFIX)}": value
        for name, value in logs.items()
        if name.startswith(VALID_PREFIX)
    }
    return valid or {name: logs[name] for name in LOGGED if name in logs}


def read_log(path: Path) -> list[dict[str, float]]:
    """Read a training log; a last line that was cut off, or one damaged, is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    lines = map(_read_line, whole.splitlines())
    return [line for line in lines if line and "step" in line]


def _read_line(line: bytes) -> dict[str, float]:
    try:
        return decode_json(line, dict[str, int | float])
    except msgspec.DecodeError:
        return {}


class BestAdapter(TrainerCallback):  # type: ignore[misc]
    """Keeps the adapter with the best validation metric; of equal ones that of lower loss."""

    def __init__(self, folder: Path, metric: str) -> None:
        """Continue with the best adapter of an earlier, killed run, if there is one.

        Args:
            folder: where the adapter is kept.
            metric: that decides; the loss is better when it is lower.
        """
        self._folder, self._metric = folder, metric
        self._best = read_best(folder)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        model: Any = None,
        **_: Any,
    ) -> None:
        """Save the adapter if it is better than all before."""
        found = {name.removeprefix(VALID_PREFIX): v for name, v in (metrics or {}).items()}
        if not self._is_better(found):
            return
        self._best = {"step": state.global_step, **found}
        weights = gathered(model)
        if not state.is_world_process_zero:
            return
        fresh = self._folder.with_name(f"{self._folder.name}-{state.global_step}")
        save_adapter(model, fresh, weights)
        write_bytes(fresh / BEST_FILE, [msgspec.json.encode(self._best)])
        mark_complete(fresh)
        replace_folder(fresh, self._folder)

    def _is_better(self, found: Mapping[str, float]) -> bool:
        return self._best is None or self._merit(found) > self._merit(self._best)

    def _merit(self, metrics: Mapping[str, float]) -> tuple[float, float]:
        value, loss = metrics[self._metric], metrics["loss"]
        return (-loss if self._metric == "loss" else value), -loss


class StopWhenDiverged(TrainerCallback):  # type: ignore[misc]
    """Ends a training whose loss is no number any more."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Raise :class:`ModelError` if the loss is infinite or not a number."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss became {loss} in step {state.global_step}: the training diverged. "
                "Lower --learning-rate, or train with --dtype float32."
            )


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Marks every checkpoint as whole once the Trainer has written it."""

    def __init__(self, spent: Callable[[], Spent]) -> None:
        """Take what tells, asked by all processes, what was computed until now."""
        self._spent = spent

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write what was spent and the marker into the checkpoint of this step."""
        spent = self._spent()
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
            write_bytes(folder / SPENT_FILE, [msgspec.json.encode(spent)])
            mark_complete(folder)


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """Moves the bar and tells the loss behind it."""

    def __init__(self, bar: Task) -> None:
        """Take a bar with a step for every optimizer step."""
        self._bar = bar
        self._notes: dict[str, str] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Skip the steps of an earlier run."""
        self._bar.advance(state.global_step)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count a step."""
        self._bar.advance(1, self._note())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show the newest loss and ranking metric."""
        shown = {"loss": "loss", f"{VALID_PREFIX}loss": "valid loss"}
        shown[f"{VALID_PREFIX}mrr@10"] = "valid mrr@10"
        for name, value in (logs or {}).items():
            if name in shown:
                self._notes[shown[name]] = f"{value:.3f}"
        self._bar.advance(0, self._note())

    def _note(self) -> str:
        return " · ".join(f"{name} {value}" for name, value in self._notes.items())


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not installed or that the Trainer does not know.

    Raises:
        UsageError: naming those that can be used here.
    """
    here = get_available_reporting_integrations()
    absent = [name for name in names if name not in (*here, "all")]
    if absent:
        raise UsageError(
            f"--report-to {','.join(absent)}: not installed, or not known to transformers. "
            f"Usable here: {', '.join(here) or 'none'}; training-log.jsonl is always written"
        )


def keep_events(out: Path) -> None:
    """Let TensorBoard write beside the adapter: the work folder does not last.

    A folder that the user names in ``TENSORBOARD_LOGGING_DIR`` wins.
    """
    os.environ.setdefault(_TENSORBOARD_FOLDER, str(out.with_name(f"tensorboard-{out.name}")))
