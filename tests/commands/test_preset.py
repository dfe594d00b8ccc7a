"""``--preset NAME``: options that come with trec, under a config file and the command line."""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from trec_cli.commands.app import app
from trec_cli.commands.config import preset_names

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def _parsed(name: str, *arguments: str) -> dict[str, Any]:
    with COMMANDS[name].make_context(name, list(arguments)) as context:
        return dict(context.params)


def test_the_presets_are_named() -> None:
    assert preset_names() == ["paper", "text"]


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_names_options_that_exist(name: str) -> None:
    content = tomllib.loads(
        (resources.files("trec_cli") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    )
    for command, values in content.items():
        flags = {flag for p in COMMANDS[command].params for flag in (*p.opts, *p.secondary_opts)}
        assert {f"--{option}" for option in values} <= flags


def test_training_of_the_paper() -> None:
    found = _parsed("train", "run", "--preset", "paper")
    assert found["loss"] == "prompt"
    assert (found["epochs"], found["users_per_step"]) == (5, 32)
    assert (found["lora_rank"], found["lora_alpha"], found["lora_dropout"]) == (8, 16, 0.05)


def test_negatives_of_the_paper_come_from_the_whole_catalogue() -> None:
    found = _parsed("prepare", "source", "--out", "run", "--preset", "paper")
    assert (found["population"], found["negatives"], found["num_negatives"]) == (
        "catalogue", "uniform", 20,
    )  # fmt: skip


def test_the_repair_of_texts_is_off_in_the_paper() -> None:
    assert _parsed("summarize", "run", "--preset", "paper")["repair"] is False


def test_summaries_of_the_paper_are_prose() -> None:
    assert _parsed("summarize", "run", "--preset", "paper")["domain"] == "sentences"


def test_texts_are_learnt_listwise_and_scored_as_such() -> None:
    learnt = _parsed("train", "run", "--preset", "text")
    assert (learnt["mode"], learnt["ask"], learnt["loss"]) == ("none", "text", "listwise")
    assert (learnt["targets"], learnt["recent"], learnt["attributes"]) == ("all", 10, "title")
    scored = _parsed("score", "run", "--preset", "text")
    assert (scored["mode"], scored["ask"]) == ("none", "text")
    assert (scored["recent"], scored["attributes"]) == (learnt["recent"], learnt["attributes"])


@pytest.mark.parametrize("order", [("--preset", "--config"), ("--config", "--preset")])
def test_a_config_file_wins_over_the_preset_and_the_command_line_over_both(
    order: tuple[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("epochs = 7\nlora-rank = 4\n", encoding="utf-8")
    values = {"--preset": "paper", "--config": str(file)}
    arguments = [part for flag in order for part in (flag, values[flag])]
    found = _parsed("train", "run", *arguments, "--lora-rank", "2")
    assert (found["epochs"], found["lora_rank"], found["loss"]) == (7, 2, "prompt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "run", "--preset", "paper"], "paper has settings for prepare, summarize and tr"),
        (["eval", "run", "--preset", "text"], "text has settings for train and score, none for ev"),
        (["merge", "run", "--preset", "text"], "none for merge"),
    ],
)
def test_a_preset_without_settings_for_the_command_is_wrong_usage(
    arguments: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_a_name_that_does_not_exist_is_wrong_usage() -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", "run", "--preset", "none"])
    assert result.exit_code == 2
    assert "no preset none; there are paper, text" in result.output
