"""The smoke settings are options that exist, and the samples can be learnt from."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from trec_cli.commands.app import app

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
GROUP: Any = typer.main.get_command(app)


def _trec(*arguments: object, given: bytes | None = None) -> bytes:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=given)
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes


@pytest.mark.parametrize(
    "arguments",
    [
        ["prepare", "samples/shop", "--out", "run"],
        ["summarize", "run"],
        ["train", "run"],
        ["score", "run"],
    ],
)
def test_the_smoke_settings_are_options_of_their_commands(arguments: list[str]) -> None:
    config = SAMPLES / "smoke.toml"
    name, *rest = arguments
    context = GROUP.commands[name].make_context(name, [*rest, "--config", str(config)])
    assert context.default_map


@pytest.mark.parametrize("flavour", ["shop", "news"])
def test_text_and_company_beat_chance_on_the_samples(flavour: str, tmp_path: Path) -> None:
    counts = ("--train-users", 100, "--valid-users", 10, "--test-users", 60)
    filters = ("--min-history", 5, "--max-history", 25, "--long", "keep-last")
    _trec("prepare", SAMPLES / flavour, "--out", tmp_path, *counts, *filters)
    for scorer in ("bm25", "cooccurrence", "popularity", "random"):
        _trec("score", tmp_path, "--scorer", scorer)
    _trec("eval", tmp_path, "--no-report")
    systems = json.loads((tmp_path / "metrics.json").read_bytes())["systems"]
    recall = {name: system["recall@3"]["value"] for name, system in systems.items()}
    chance = 3 / 21
    assert recall["bm25"] > 2 * chance
    assert recall["cooccurrence"] > 2 * chance
    assert recall["popularity"] < recall["cooccurrence"]
    assert recall["random"] < 2 * chance


def test_a_baseline_runs_in_a_pipe_without_run_folder_or_summaries(tmp_path: Path) -> None:
    _trec("prepare", SAMPLES / "shop", "--out", tmp_path, "--min-history", 5)
    examples = (tmp_path / "examples.jsonl").read_bytes()
    items = ("--items", tmp_path / "items.jsonl", "--examples", "-", "--out", "-")
    scores = _trec("score", *items, "--scorer", "bm25", "--quiet", given=examples)
    last = json.loads(_trec("eval", "--scores", "-", "--json", given=scores).splitlines()[-1])
    assert last["ok"]
