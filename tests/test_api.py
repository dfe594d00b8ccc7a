"""The Python API does what the commands do, and its page and notebook are true."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from trec_cli import api
from trec_cli.core.errors import SettingsChanged, UsageError

SIZES: dict[str, Any] = {"train_users": "16", "valid_users": "4", "test_users": "12"}


def _prepared(run: Path, **choices: Any) -> api.PrepareOptions:
    return api.PrepareOptions(
        source=ROOT / "samples" / "shop", out=run, choices=api.Choices(**choices), **SIZES
    )


def _trec(*arguments: object) -> None:
    command = [sys.executable, "-m", "trec_cli", *map(str, arguments), "--quiet"]
    subprocess.run(command, check=True, cwd=ROOT)


def test_the_public_names_are_those_of_all() -> None:
    public = {name for name in vars(api) if not name.startswith("_")}
    tree = ast.parse(Path(api.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    own = public - imported
    options = {
        name for name in imported if re.search(r"(Options|Settings|Source|Asked|Choices)$", name)
    }
    assert own | options == set(api.__all__)
    assert api.__all__ == sorted(api.__all__)


def test_importing_the_api_imports_nothing_heavy() -> None:
    heavy = ("torch", "scipy", "polars", "peft", "typer")
    code = f"import sys, trec_cli.api; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_functions_and_commands_write_the_same_bytes(tmp_path: Path) -> None:
    by_api, by_command = tmp_path / "api", tmp_path / "command"
    items, examples = api.prepare(_prepared(by_api))
    scores = api.score(api.ScoreOptions(scorer="bm25", asked=api.Asked(run=by_api)))
    summary = api.evaluate(api.EvalOptions(run=by_api))
    sizes = [word for name, n in SIZES.items() for word in (f"--{name.replace('_', '-')}", n)]
    _trec("prepare", "samples/shop", "--out", by_command, *sizes)
    _trec("score", by_command, "--scorer", "bm25")
    _trec("eval", by_command)
    for name in ("items.jsonl", "examples.jsonl", "scores-bm25.jsonl", "metrics.json"):
        assert (by_api / name).read_bytes() == (by_command / name).read_bytes(), name
    asked = [e for e in examples if e.split == "test"]
    assert list(scores) == [e.example_id for e in asked]
    assert all(item in items for e in asked for item in e.candidates)
    assert summary == json.loads((by_api / "metrics.json").read_text())
    assert 0 <= summary["systems"]["bm25"]["mrr@10"]["value"] <= 1


def test_what_is_finished_stays_and_what_was_made_otherwise_is_refused(tmp_path: Path) -> None:
    api.prepare(_prepared(tmp_path))
    before = (tmp_path / "examples.jsonl").stat().st_mtime_ns
    api.prepare(_prepared(tmp_path))
    assert (tmp_path / "examples.jsonl").stat().st_mtime_ns == before
    with pytest.raises(SettingsChanged, match="seed"):
        api.prepare(_prepared(tmp_path, seed=1))
    api.prepare(_prepared(tmp_path, seed=1), overwrite=True)


def test_options_of_another_format_are_refused_as_on_the_command_line(tmp_path: Path) -> None:
    options = _prepared(tmp_path)
    with pytest.raises(UsageError, match="--locale: not an option of the format jsonl"):
        api.prepare(
            api.PrepareOptions(
                source=options.source, out=tmp_path, read=api.ReadOptions(locale="DE")
            )
        )


def test_a_model_summarises_learns_and_scores(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    model = api.ModelSource(str(tiny_model()))
    _, examples = api.prepare(_prepared(tmp_path))
    summaries = api.summarize(api.SummarizeOptions(run=tmp_path, mode="none"))
    assert list(summaries) == [e.example_id for e in examples]
    folder = api.train(
        api.TrainOptions(
            run=tmp_path,
            mode="none",
            model=model,
            prompt=api.PromptSettings(max_length=768, candidate_tokens=256),
            training=api.TrainSettings(epochs=1, users_per_step=8, valid_users=4),
        )
    )
    assert (folder / "adapter_model.safetensors").is_file()
    scores = api.score(api.ScoreOptions(mode="none", asked=api.Asked(run=tmp_path)))
    assert len(scores) == 12


def test_recommendations_are_written(tmp_path: Path) -> None:
    api.prepare(_prepared(tmp_path, predict=True))
    out = api.recommend(api.RecommendOptions(run=tmp_path, top=3))
    lists = [json.loads(line) for line in out.read_text().splitlines()]
    assert lists
    assert all(len(one["items"]) == 3 for one in lists)


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    program = tmp_path / "notebook.py"
    program.write_text("\n\n".join(cells), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TREC_NOTEBOOK_RUN": str(tmp_path / "run")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "bm25" in done.stdout
