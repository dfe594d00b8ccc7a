"""``trec score --scorer sequence``: trains once, is kept, repeats to the byte."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.score.small_run import make_run
from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.manifest import read_manifest

SMALL = ["--width", "8", "--epochs", "2", "--layers", "1", "--device", "cpu"]


def score(run: Path, embedder: Path, *more: str) -> Result:
    arguments = ["score", run, "--scorer", "sequence", "--embedder", embedder, *SMALL, *more]
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_it_trains_once_and_is_taken_again(tmp_path: Path, tiny_embedder: Path) -> None:
    run = make_run(tmp_path / "run")
    assert score(run, tiny_embedder).exit_code == 0
    details = read_manifest(run / "scores-sequence.jsonl")
    assert details is not None
    model = run / "model-sequence.safetensors"
    before = model.stat().st_mtime_ns
    result = score(run, tiny_embedder, "--split", "valid", "--json")
    assert result.exit_code == 0, result.output
    assert model.stat().st_mtime_ns == before
    assert not list(run.glob("*.partial"))
    assert len(scores_in(run / "scores-sequence-valid.jsonl")) == 2


def test_two_runs_write_the_same_bytes(tmp_path: Path, tiny_embedder: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    for run in runs:
        assert score(run, tiny_embedder).exit_code == 0
    for name in ("scores-sequence.jsonl", "model-sequence.safetensors"):
        first, second = [(run / name).read_bytes() for run in runs]
        assert first == second


def test_neither_the_order_of_files_nor_ids_decide(tmp_path: Path, tiny_embedder: Path) -> None:
    run, turned = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    for name in ("items.jsonl", "examples.jsonl"):
        lines = (turned / name).read_text().splitlines(keepends=True)
        (turned / name).write_text("".join(reversed(lines)))
    for folder in (run, turned):
        assert score(folder, tiny_embedder).exit_code == 0
    first = {line["example_id"]: line["scores"] for line in lines_of(run)}
    second = {line["example_id"]: line["scores"] for line in lines_of(turned)}
    assert first.keys() == second.keys()
    for name, found in first.items():
        assert found == pytest.approx(second[name], abs=1e-4)


def lines_of(run: Path) -> list[dict[str, Any]]:
    text = (run / "scores-sequence.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_split_train_is_refused(tmp_path: Path, tiny_embedder: Path) -> None:
    result = score(make_run(tmp_path / "run"), tiny_embedder, "--split", "train")
    assert result.exit_code == 2
    assert "has learnt the answers of split train" in result.output


def test_without_histories_to_learn_from_it_says_what_to_do(
    tmp_path: Path, tiny_embedder: Path
) -> None:
    result = score(make_run(tmp_path / "run", {"test": 3}), tiny_embedder)
    assert result.exit_code == 2
    assert "no user there has two items" in " ".join(result.output.split())


def test_other_settings_are_another_model(tmp_path: Path, tiny_embedder: Path) -> None:
    run = make_run(tmp_path / "run")
    assert score(run, tiny_embedder).exit_code == 0
    kept = (run / "model-sequence.safetensors").read_bytes()
    assert score(run, tiny_embedder, "--ids", "--name", "with-ids").exit_code == 0
    assert (run / "model-sequence.safetensors").read_bytes() != kept
