"""``trec score --scorer recbole:MODEL``, with a stand-in for RecBole's interpreter."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.score.small_run import make_run
from tests.scores_file import scores_in
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples
from trec_cli.core.manifest import read_manifest
from trec_cli.core.records import Scores
from trec_cli.recbole import grids
from trec_cli.recbole.atomic import trained_items, training_rows

STAND_IN = """
import json, os, sys
from pathlib import Path

task = json.loads(Path(sys.argv[1]).read_text())
place = Path(task["data"])
questions = [json.loads(line) for line in (place / "questions.jsonl").open()]
asked = [q for q in questions if q["split"] == task["split"]]
for number, settings in enumerate(task["grid"]):
    out = place / f"trial-{number}.json"
    if out.exists():
        continue
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(f"{number}\\n")
    if os.environ.get("STAND_IN_FAILS") == str(number):
        sys.exit("out of memory")
    answers = [[number + len(q["history"]) + n for n, _ in enumerate(q["candidates"])]
               if q["history"] else None for q in asked]
    model = Path(task["models"][number])
    model.parent.mkdir(exist_ok=True)
    kept = model.exists()
    model.touch()
    result = {"kept": kept, "settings": settings, "valid_mrr": [0.1, 0.4, 0.4, 0.2][number],
              "epoch": 3, "parameters": 7, "seconds": 0.5, "answers": answers}
    out.write_text(json.dumps(result))
    told = {"trial": f"{number + 1} of 4", "epoch": 3, "valid_mrr": result["valid_mrr"]}
    print(json.dumps(told), flush=True)
"""


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an interpreter that says it has RecBole and runs ``STAND_IN`` as its worker."""
    worker = tmp_path / "stand_in.py"
    worker.write_text(STAND_IN)
    found = tmp_path / "python"
    found.write_text(
        '#!/bin/sh\nif [ "$1" = -c ]; then echo 1.2.1; '
        f'else exec {sys.executable} {worker} "$2"; fi\n'
    )
    found.chmod(found.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("TREC_RECBOLE_PYTHON", str(found))
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    return found


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def score(run: Path, *arguments: object) -> Result:
    words = ["score", run, "--scorer", "recbole:SASRec", *arguments]
    return CliRunner().invoke(app, list(map(str, words)))


def scores_of(path: Path) -> list[Scores]:
    return scores_in(path)


def test_the_best_trial_on_validation_gives_the_scores_the_first_of_equals(
    run: Path, python: Path
) -> None:
    result = score(run)
    assert result.exit_code == 0, result.stderr
    examples = read_examples(run / "examples.jsonl")
    trained = trained_items(training_rows(examples))
    for record in scores_of(run / "scores-recbole-SASRec.jsonl"):
        example = next(e for e in examples if e.example_id == record.example_id)
        assert record.candidates == example.candidates
        known = [item for item in example.history if item in trained]
        warm = [s for s, item in zip(record.scores, example.candidates, strict=True)
                if item in trained]  # fmt: skip
        expected = [1 + len(known) + n for n in range(len(warm))] if known else [0] * len(warm)
        assert warm == expected


def test_the_manifest_says_what_was_tried_chosen_and_not_known(run: Path, python: Path) -> None:
    score(run, "--seed", 3)
    manifest: Any = read_manifest(run / "scores-recbole-SASRec.jsonl")
    assert manifest["chosen"] == grids.grid("SASRec")[1]
    assert [trial["valid_mrr"] for trial in manifest["trials"]] == [0.1, 0.4, 0.4, 0.2]
    assert manifest["not_known"]["candidates"] == 30
    assert manifest["settings"]["recbole"] == "1.2.1"
    assert (manifest["settings"]["seed"], manifest["settings"]["train_on"]) == (3, "histories")
    assert not list(run.glob(".scores*.recbole"))


def test_without_tuning_the_first_settings_are_taken(run: Path, python: Path) -> None:
    assert score(run, "--no-tune").exit_code == 0
    manifest: Any = read_manifest(run / "scores-recbole-SASRec.jsonl")
    assert manifest["chosen"] == grids.grid("SASRec")[0]
    assert len(manifest["trials"]) == 1


def test_a_failed_run_says_why_and_the_next_one_keeps_its_finished_trials(
    run: Path, python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "2")
    failed = score(run)
    assert failed.exit_code == 4
    assert "out of memory" in failed.stderr
    monkeypatch.delenv("STAND_IN_FAILS")
    assert score(run).exit_code == 0
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "2", "3"]
    assert "nothing to do" in score(run).stderr


def test_trials_of_other_settings_are_not_taken(
    run: Path, python: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    score(run)
    monkeypatch.delenv("STAND_IN_FAILS")
    assert score(run, "--seed", 1).exit_code == 0
    assert (tmp_path / "log").read_text().split() == ["0", "1", "0", "1", "2", "3"]


def test_scores_go_to_stdout_and_leave_nothing_behind(run: Path, python: Path) -> None:
    before = set(run.iterdir())
    result = score(run, "--out", "-", "--quiet")
    assert [json.loads(line)["example_id"] for line in result.stdout.splitlines()] == [
        f"test-{n}" for n in range(6)
    ]
    assert set(run.iterdir()) == before


def test_other_questions_find_the_models_and_other_examples_do_not(run: Path, python: Path) -> None:
    assert score(run).exit_code == 0
    assert len(list((run / "learnt-recbole-SASRec").glob("*.npz"))) == 4
    for more in (("--split", "valid"), ("--limit", 2, "--name", "few")):
        result = score(run, *more)
        assert result.exit_code == 0, result.stderr
        assert "4 of 4 models taken from" in " ".join(result.stderr.split())
    limited = score(run, "--split", "valid", "--limit", 1, "--name", "stopped-by-others")
    assert "models taken from" not in limited.stderr
    assert "4 of 4 models taken from" in " ".join(score(run, "--overwrite").stderr.split())
    make_run(run, {"train": 5, "valid": 2, "test": 3})
    assert "models taken from" not in score(run, "--overwrite").stderr
    assert len(list((run / "learnt-recbole-SASRec").glob("*.npz"))) == 4


def test_other_code_that_makes_rows_trains_other_models(
    run: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert score(run).exit_code == 0
    other = tmp_path / "atomic.py"
    other.write_text("")
    monkeypatch.setattr("trec_cli.score.recbole._MAKERS", (other,))
    assert "models taken from" not in score(run, "--overwrite").stderr


def test_a_command_with_nothing_to_do_leaves_the_models_of_others(run: Path, python: Path) -> None:
    assert score(run).exit_code == 0
    assert score(run, "--seed", 1, "--name", "seed-1").exit_code == 0
    models = set((run / "learnt-recbole-SASRec").iterdir())
    assert "nothing to do" in score(run).stderr
    assert set((run / "learnt-recbole-SASRec").iterdir()) == models


def test_without_an_environment_the_message_says_how_to_make_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TREC_RECBOLE_PYTHON", raising=False)
    assert "scripts/recbole_env.py" in score(run).stderr
    assert score(run).exit_code == 2
    assert score(run, "--recbole-python", "/nowhere/python").exit_code == 2
    assert "has no RecBole" in score(run, "--recbole-python", sys.executable).stderr


@pytest.mark.parametrize("split", ["train", "valid"])
def test_without_train_or_valid_there_is_nothing_to_do(
    split: str, tmp_path: Path, python: Path
) -> None:
    left: Any = {s: n for s, n in {"train": 4, "valid": 2, "test": 3}.items() if s != split}
    result = score(make_run(tmp_path / "less", left))
    assert result.exit_code == 2
    assert f"examples of split {split}" in result.stderr


def test_a_dry_run_writes_nothing(run: Path, python: Path) -> None:
    before = set(run.iterdir())
    assert "would score 6 examples" in score(run, "--dry-run").stderr
    assert set(run.iterdir()) == before


@pytest.mark.slow
@pytest.mark.parametrize("model", [*grids.PAPER, "Pop"])
def test_the_real_recbole_trains_and_scores(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not os.environ.get("TREC_RECBOLE_PYTHON"):
        pytest.skip("no RecBole (set TREC_RECBOLE_PYTHON)")
    monkeypatch.setattr(grids, "EPOCHS", 2)
    monkeypatch.setattr(grids, "RATES", (0.001,))
    run = make_run(tmp_path / "run", {"train": 40, "valid": 8, "test": 9})
    result = score(run, "--scorer", f"recbole:{model}")
    assert result.exit_code == 0, result.stderr
    scores = run / f"scores-recbole-{model}.jsonl"
    first = scores_of(scores)
    assert len(first) == 9
    again = score(run, "--scorer", f"recbole:{model}", "--overwrite")
    trials = len(grids.grid(model))
    assert f"{trials} of {trials} models taken from" in again.stderr
    assert scores_of(scores) == first
