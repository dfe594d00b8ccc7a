"""``--dry-run --profile``: what so many users would cost."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.score.small_run import make_run
from tests.train.world import write_run
from trec_cli.commands.app import app
from trec_cli.models.size import model_size
from trec_cli.models.source import ModelSource

TinyModel = Callable[..., Path]
FLOPS = 1e9


@pytest.fixture
def model(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "slow.toml"
    path.write_text(f"flops = {FLOPS}\nbandwidth = 1e30\nutilisation = 0.5\nprice = 2\n")
    return path


def planned(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--dry-run", "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def weights(model: Path) -> float:
    return model_size(ModelSource(str(model))).weights


def test_scores_cost_two_operations_a_weight_and_token(
    tmp_path: Path, model: Path, profile: Path
) -> None:
    run = make_run(tmp_path / "run")
    given = ("score", run, "--mode", "none", "--zero-shot", "--model", model)
    found = planned(*given, "--profile", profile, "--users", 6000)
    hours = 2 * weights(model) * found["tokens"] * 1000 / (FLOPS * 0.5) / 3600
    assert found["users"] == 6
    assert found["planned_users"] == 6000
    assert found["device_hours"] == pytest.approx(hours)
    assert found["money"] == pytest.approx(2 * hours)
    assert "device_hours" not in planned(*given)


def test_summaries_count_what_is_read_and_written(
    tmp_path: Path, model: Path, profile: Path
) -> None:
    run = make_run(tmp_path / "run")
    given = ("summarize", run, "--model", model, "--max-new-tokens", 12)
    found = planned(*given, "--profile", profile)
    size = model_size(ModelSource(str(model)))
    written = 6 * found["calls"]  # of a list the model writes a half
    read = 2 * size.weights * found["prompt_tokens"]
    writing = 2 * (size.weights + size.head) * written
    assert found["device_hours"] == pytest.approx((read + writing) / (FLOPS * 0.5) / 3600)


def test_training_costs_four_and_with_checkpointing_six(
    tmp_path: Path, model: Path, profile: Path
) -> None:
    run = write_run(tmp_path / "run")
    own = ("--mode", "none", "--model", model, "--prompts", run / "prompts", "--epochs", 2)
    given = ("train", run, *own, "--max-length", 512, "--candidate-tokens", 128)
    found = planned(*given, "--profile", profile)
    hours = 4 * weights(model) * 2 * found["tokens per epoch"] / (FLOPS * 0.5) / 3600
    assert found["device_hours"] == pytest.approx(hours, rel=0.01)
    more = planned(*given, "--profile", profile, "--gradient-checkpointing")
    assert more["device_hours"] == pytest.approx(1.5 * found["device_hours"])


def test_another_model_can_be_planned_with_the_tokens_of_this_one(
    tmp_path: Path, model: Path, profile: Path
) -> None:
    profile.write_text(profile.read_text() + "weights = 7e9\n")
    run = make_run(tmp_path / "run")
    found = planned(
        *("score", run, "--mode", "none", "--zero-shot", "--model", model, "--profile", profile)
    )
    hours = 2 * 7e9 * found["tokens"] / (FLOPS * 0.5) / 3600
    assert found["device_hours"] == pytest.approx(hours)
