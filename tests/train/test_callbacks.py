"""Log, best adapter and the end of a diverged training."""

from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from samples.tiny_model import build_model
from trec_cli.core.errors import ModelError
from trec_cli.train.callbacks import BestAdapter, LogFile, StopWhenDiverged, read_log
from trec_cli.train.lora import add_adapter
from trec_cli.train.settings import TrainSettings
from trec_cli.train.work import read_best


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    state = TrainerState(is_world_process_zero=True, max_steps=10)
    return {"args": arguments, "state": state, "control": TrainerControl()}


def test_the_log_keeps_losses_and_metrics_and_no_times(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    log = LogFile(tmp_path / "log.jsonl")
    state = told["state"]
    state.global_step, state.epoch = 3, 0.5
    log.on_log(**told, logs={"loss": 0.7, "learning_rate": 0.1, "train_runtime": 12.0})
    log.on_log(**told, logs={"eval_loss": 0.6, "eval_mrr@10": 0.2, "epoch": 0.5})
    log.on_log(**told, logs={"train_runtime": 12.0})
    assert read_log(tmp_path / "log.jsonl") == [
        {"step": 3, "epoch": 0.5, "loss": 0.7, "learning_rate": 0.1},
        {"step": 3, "epoch": 0.5, "valid_loss": 0.6, "valid_mrr@10": 0.2},
    ]


def test_a_resumed_training_forgets_what_was_logged_after_its_checkpoint(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step":1,"loss":3}\n{"step":2,"loss":2}\n{"step":3,"loss":1}\n{"st')
    told["state"].global_step = 2
    LogFile(path).on_train_begin(**told)
    assert path.read_text() == '{"step":1,"loss":3}\n{"step":2,"loss":2}\n'


def test_damaged_lines_of_a_log_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(
        b'{"step":1,"loss":2.0}\n\xff\n[]\n{"step":"x"}\n{}\n{"step":2,"loss":1.0}\n{"st'
    )
    assert read_log(path) == [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]


def evaluate(best: BestAdapter, told: dict[str, Any], step: int, mrr: float, loss: float) -> None:
    told["state"].global_step = step
    model = add_adapter(build_model("llama"), TrainSettings())
    best.on_evaluate(**told, metrics={"eval_mrr@10": mrr, "eval_loss": loss}, model=model)


def test_the_best_adapter_is_kept_and_of_equal_ones_that_of_lower_loss(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    folder = tmp_path / "best"
    steps = []
    for step, (mrr, loss) in enumerate(
        [(0.2, 0.7), (0.3, 0.9), (0.3, 0.8), (0.3, 0.8), (0.1, 0.1)]
    ):
        evaluate(BestAdapter(folder, "mrr@10"), told, step, mrr, loss)
        steps.append((read_best(folder) or {})["step"])
    assert steps == [0, 1, 2, 2, 2]
    assert (folder / "adapter_model.safetensors").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_lower_loss_is_better(tmp_path: Path, told: dict[str, Any]) -> None:
    folder = tmp_path / "best"
    best = BestAdapter(folder, "loss")
    evaluate(best, told, 1, mrr=0.1, loss=0.5)
    evaluate(best, told, 2, mrr=0.9, loss=0.6)
    assert read_best(folder) == {"step": 1, "mrr@10": 0.1, "loss": 0.5}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_diverged_training_ends_with_advice(told: dict[str, Any], loss: float) -> None:
    told["state"].global_step = 7
    with pytest.raises(ModelError, match=r"step 7.*--learning-rate"):
        StopWhenDiverged().on_log(**told, logs={"loss": loss})
    StopWhenDiverged().on_log(**told, logs={"loss": 1.0})
    StopWhenDiverged().on_log(**told, logs={"eval_loss": 1.0})
