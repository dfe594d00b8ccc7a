"""One way through: files, tokenizer and prompts are read, loaded and built once."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from typer.testing import CliRunner

from tests.score.small_run import make_adapter, make_run
from trec_cli.commands.app import app
from trec_cli.core.errors import InputError
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.score import prompting
from trec_cli.score.job import check_there, read_material
from trec_cli.score.options import Asked

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def score(run: Path, *arguments: object) -> None:
    result = CliRunner().invoke(app, ["score", str(run), *map(str, arguments)])
    assert result.exit_code == 0, result.output


def test_nothing_is_read_loaded_or_built_twice(
    tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    make_adapter(run, tiny_model("llama"), run / "model-hier")
    times: Counter[str] = Counter()
    opening, loading, building = Path.open, AutoTokenizer.from_pretrained, PromptBuilder.tree

    def opened(path: Path, *arguments: Any, **more: Any) -> Any:
        times[path.name] += 1
        return opening(path, *arguments, **more)

    def loaded(*arguments: Any, **more: Any) -> Any:
        times["tokenizer"] += 1
        return loading(*arguments, **more)

    def built(builder: PromptBuilder, *arguments: Any, **more: Any) -> Any:
        times["trees"] += 1
        return building(builder, *arguments, **more)

    monkeypatch.setattr(Path, "open", opened)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", loaded)
    monkeypatch.setattr(PromptBuilder, "tree", built)
    score(run)
    assert {name: times[name] for name in ("items.jsonl", "examples.jsonl", "tokenizer")} == {
        "items.jsonl": 1,
        "examples.jsonl": 1,
        "tokenizer": 1,
    }
    assert times["summaries-hier.jsonl"] == 1
    assert times["trees"] == 6  # users of split test
    manifest = read_manifest(run / "scores-hier.jsonl")
    assert manifest is not None
    for name, recorded in manifest["inputs"].items():
        assert recorded == file_hash(Path(name))


def test_trees_that_memory_does_not_hold_are_built_again_to_the_same_scores(
    tmp_path: Path, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    words = ["--zero-shot", "--model", tiny_model("llama"), "--name"]
    score(run, *words, "kept")
    monkeypatch.setattr(prompting, "_KEPT_TOKENS", 0)
    score(run, *words, "built")
    kept, built = ((run / f"scores-{name}.jsonl").read_bytes() for name in ("kept", "built"))
    assert kept == built


def test_a_scorer_that_learns_nothing_keeps_no_other_split(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    asked = Asked(run=run, split="valid", limit=1)
    assert len(read_material(asked, "bm25").everything) == 12
    material = read_material(asked, "llm", run / "summaries-hier.jsonl", learns=False)
    assert [e.example_id for e in material.everything] == ["valid-0"]
    assert material.summaries is not None
    assert material.settings == {"scorer": "llm", "split": "valid", "limit": 1}
    assert material.hashes == {str(path): file_hash(path) for path in material.files}


def test_a_missing_file_is_named_before_the_others_are_read(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (run / "items.jsonl").write_text("broken")
    with pytest.raises(InputError, match=r"summaries-x.jsonl: no such file"):
        read_material(Asked(run=run), "llm", run / "summaries-x.jsonl")


def test_questions_without_candidates_are_counted_with_the_remedy(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    line = b'{"user_id": "u", "split": "predict", "history": ["i1"]}\n'
    (run / "examples.jsonl").write_bytes(line)
    with pytest.raises(InputError, match=r"1 examples of split predict without candidates.*prepar"):
        read_material(Asked(run=run, split="predict"), "bm25")
    with pytest.raises(InputError, match=r"no example of split test; it has predict .*recommend"):
        read_material(Asked(run=run), "bm25")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("items.jsonl", "or run trec prepare first"),
        ("summaries-x.jsonl", "or run trec summarize first"),
        ("gone.txt", r"no such file \(check the name\)$"),
    ],
)
def test_a_missing_file_names_the_stage_that_writes_it(tmp_path: Path, name: str, fix: str) -> None:
    with pytest.raises(InputError, match=fix):
        check_there([tmp_path / name])
