"""All five stages, one after another, as a user runs them, on the samples and tiny models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from samples.tiny_model import write_model
from tests.conftest import ROOT
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples, read_items, read_summaries
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.evaluate.scores import read_scores

PREPARE = ["--train-users", "6", "--valid-users", "2", "--test-users", "4", "--num-negatives", "5"]
SHORT = ["--max-new-tokens", "8"]


def trec(*arguments: object, code: int = 0, stdin: str | None = None) -> str:
    """Run one command; give its stdout."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, result.output
    return result.stdout


def last_line(output: str) -> dict[str, Any]:
    """Read the line that --json ends with."""
    fields: dict[str, Any] = json.loads(output.splitlines()[-1])
    return fields


def run_all(run: Path, source: Path, model: Path, mode: str) -> None:
    """Run the five stages."""
    trec("prepare", source, "--out", run, *PREPARE)
    trec("summarize", run, "--mode", mode, "--model", model, *SHORT)
    train = ["--epochs", "1", "--users-per-step", "2", "--max-tokens", "2000"]
    trec("train", run, "--mode", mode, "--model", model, *train)
    trec("score", run, "--mode", mode)
    trec("score", run, "--scorer", "popularity")
    trec("eval", run)


@pytest.mark.parametrize(
    ("family", "mode", "source"),
    [
        ("llama", "hier", "news"),
        ("gpt_neox", "recurrent", "shop"),
        ("gemma3_text", "recurrent", "news"),
        ("qwen2", "none", "shop"),
        ("opt", "hier", "shop"),
    ],
)
def test_all_five_stages_run_with_every_family(
    tmp_path: Path, tiny_model: Callable[..., Path], family: str, mode: str, source: str
) -> None:
    run_all(tmp_path, ROOT / "samples" / source, tiny_model(family), mode)

    items = read_items(tmp_path / "items.jsonl")
    examples = {e.example_id: e for e in read_examples(tmp_path / "examples.jsonl", items)}
    summaries = read_summaries(tmp_path / f"summaries-{mode}.jsonl")
    scores = [record for _, record in read_scores(tmp_path / f"scores-{mode}.jsonl")]
    metrics = json.loads((tmp_path / "metrics.json").read_text())["systems"]

    assert list(summaries) == list(examples)
    assert [s.example_id for s in scores] == [e for e, x in examples.items() if x.split == "test"]
    for record in scores:
        assert record.candidates == examples[record.example].candidates
        assert record.positives == examples[record.example].positives
    assert set(metrics) == {mode, "popularity"}
    assert metrics[mode]["examples"] == 4
    assert 0 <= metrics[mode]["recall@3"]["value"] <= 1
    assert (tmp_path / f"model-{mode}" / "adapter_model.safetensors").is_file()
    assert (tmp_path / "report.html").is_file()


def test_every_output_has_a_manifest_that_tells_its_hash_and_inputs(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    run_all(tmp_path, ROOT / "samples" / "news", tiny_model(), "hier")
    outputs = ["items.jsonl", "examples.jsonl", "summaries-hier.jsonl", "model-hier"]
    outputs += ["scores-hier.jsonl", "scores-popularity.jsonl", "metrics.json"]
    manifests = {name: read_manifest(tmp_path / name) for name in outputs}
    for name, manifest in manifests.items():
        assert manifest is not None, name
        assert manifest["sha256"] == file_hash(tmp_path / name), name
    scores = manifests["scores-hier.jsonl"]
    assert scores is not None
    assert file_hash(tmp_path / "examples.jsonl") in scores["inputs"].values()
    assert file_hash(tmp_path / "summaries-hier.jsonl") in scores["inputs"].values()


def test_the_same_commands_again_do_nothing_and_change_no_byte(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    run_all(tmp_path, ROOT / "samples" / "news", tiny_model(), "hier")
    files = [p for p in sorted(tmp_path.rglob("*")) if p.suffix in {".jsonl", ".safetensors"}]
    before = {path: (path.stat().st_mtime_ns, file_hash(path)) for path in files}
    run_all(tmp_path, ROOT / "samples" / "news", tiny_model(), "hier")
    after = {path: (path.stat().st_mtime_ns, file_hash(path)) for path in files}
    assert before == after


def test_stages_can_be_piped(tmp_path: Path, tiny_model: Callable[..., Path]) -> None:
    model = tiny_model()
    trec("prepare", ROOT / "samples" / "news", "--out", tmp_path, *PREPARE)
    examples = (tmp_path / "examples.jsonl").read_text(encoding="utf-8")
    inputs = ["--items", tmp_path / "items.jsonl", "--examples", "-", "--out", "-"]

    summaries = trec("summarize", "--model", model, *SHORT, *inputs, stdin=examples)
    (tmp_path / "s.jsonl").write_text(summaries, encoding="utf-8")
    trec("summarize", tmp_path, "--model", model, *SHORT)
    assert summaries == (tmp_path / "summaries-hier.jsonl").read_text(encoding="utf-8")

    given = ["--summaries", tmp_path / "s.jsonl", "--zero-shot", "--model", model]
    scores = trec("score", *given, *inputs, stdin=examples)
    trec("score", tmp_path, "--zero-shot", "--model", model)
    assert scores == (tmp_path / "scores-hier-zeroshot.jsonl").read_text(encoding="utf-8")

    out = last_line(trec("eval", "--scores", "-", "--out", tmp_path / "e", "--json", stdin=scores))
    assert out["ok"] is True


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["summarize", "RUN", "--model", "MODEL"], 3),
        (["train", "RUN", "--model", "MODEL"], 3),
        (["score", "RUN", "--scorer", "popularity"], 3),
        (["eval", "RUN"], 3),
        (["prepare", "nowhere", "--out", "RUN"], 3),
        (["score", "--scorer", "popularity"], 2),
        (["score", "RUN", "--scorer", "magic"], 2),
        (["summarize", "RUN", "--mode", "magic"], 2),
        (["train", "RUN", "--no-such-option"], 2),
    ],
)
def test_mistakes_end_with_a_message_and_the_documented_code(
    tmp_path: Path, tiny_model: Callable[..., Path], arguments: list[str], code: int
) -> None:
    places = {"RUN": str(tmp_path / "run"), "MODEL": str(tiny_model())}
    result = CliRunner().invoke(app, [places.get(a, a) for a in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert result.stderr.strip()


def test_a_missing_model_folder_ends_with_code_4(tmp_path: Path) -> None:
    trec("prepare", ROOT / "samples" / "news", "--out", tmp_path, *PREPARE)
    result = CliRunner().invoke(app, ["summarize", str(tmp_path), "--model", "./nowhere"])
    assert result.exit_code == 4
    assert "no model folder ./nowhere" in result.output


def test_a_merged_model_is_scored_with_the_prompt_it_was_trained_on(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    trec("prepare", ROOT / "samples" / "shop", "--out", tmp_path, *PREPARE)
    learn = ["--epochs", "1", "--recent", "1", "--attributes", "title", "--merge"]
    trec("train", tmp_path, "--mode", "none", "--model", tiny_model(), *learn)
    trec("score", tmp_path, "--mode", "none")
    merged = ["--zero-shot", "--model", tmp_path / "model-none-merged"]
    trec("score", tmp_path, "--mode", "none", *merged, "--name", "merged")
    adapter, full = (
        [record.scores for _, record in read_scores(tmp_path / f"scores-{name}.jsonl")]
        for name in ("none", "merged")
    )
    for ours, theirs in zip(adapter, full, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    other = CliRunner().invoke(
        app, ["score", str(tmp_path), "--mode", "none", *map(str, merged), "--recent", "2"]
    )
    assert other.exit_code == 2
    assert "recent is 2 here and 1 there" in other.stderr.replace("\n", " ")


def test_an_adapter_on_other_weights_of_the_same_name_is_warned_of(
    tmp_path: Path, tiny_model: Callable[..., Path]
) -> None:
    trec("prepare", ROOT / "samples" / "shop", "--out", tmp_path, *PREPARE)
    trec("train", tmp_path, "--mode", "none", "--model", tiny_model(), "--epochs", "1")
    other = write_model(tmp_path / "other" / tiny_model().name, "llama", seed=7)
    result = CliRunner().invoke(
        app, ["score", str(tmp_path), "--mode", "none", "--model", str(other)]
    )
    assert result.exit_code == 0
    assert "was trained on other files" in result.stderr.replace("\n", " ")


def test_scores_of_another_split_have_their_own_file_and_do_not_stop_eval(tmp_path: Path) -> None:
    trec("prepare", ROOT / "samples" / "shop", "--out", tmp_path, *PREPARE)
    trec("score", tmp_path, "--scorer", "bm25", "--split", "valid")
    trec("score", tmp_path, "--scorer", "bm25")
    result = CliRunner().invoke(app, ["eval", str(tmp_path), "--no-report"])
    assert result.exit_code == 0
    assert "scores-bm25-valid.jsonl is of another split than test: left out" in result.stderr
    assert set(json.loads((tmp_path / "metrics.json").read_text())["systems"]) == {"bm25"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["RUN"], "RUN"),
        (["RUN", "--split", "valid"], "RUN --split valid"),
        (["RUN", "--out", "RUN/scores-mine.jsonl"], "RUN"),
        (["RUN", "--out", "RUN/y.jsonl"], "RUN --scores RUN/y.jsonl"),
        (["RUN", "--out", "RUN/o/scores-mine.jsonl"], "RUN --scores RUN/o/scores-mine.jsonl"),
        (["FILES", "--out", "RUN/y.jsonl"], "--scores RUN/y.jsonl"),
        (["FILES", "--out", "RUN/scores-mine.jsonl"], "RUN"),
    ],
)
def test_the_command_that_score_says_comes_next_works(
    tmp_path: Path, words: list[str], told: str
) -> None:
    run = tmp_path / "run"
    trec("prepare", ROOT / "samples" / "shop", "--out", run, *PREPARE)
    files = ["--items", str(run / "items.jsonl"), "--examples", str(run / "examples.jsonl")]
    named = [word.replace("RUN", str(run)) for word in words]
    named = [*files, *named[1:]] if words[0] == "FILES" else named
    result = CliRunner().invoke(app, ["score", *named, "--scorer", "popularity"])
    following = result.stderr.rpartition("; next: trec eval ")[2].strip()
    assert following == told.replace("RUN", str(run))
    trec("eval", *following.split(), "--no-report")


def test_questions_without_answers_are_followed_by_no_evaluation(tmp_path: Path) -> None:
    asked = ["--predict", "--candidates", "retrieve:5"]
    trec("prepare", ROOT / "samples" / "shop", "--out", tmp_path, *asked)
    words = ["score", str(tmp_path), "--scorer", "popularity", "--split", "predict"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "next:" not in result.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["summarize"], "--items, --examples and --out"),
        (["summarize", "--mode", "none", "--examples", "e.jsonl"], "--out"),
        (["score", "--scorer", "bm25", "--items", "i.jsonl"], "--examples and --out"),
        (["recommend", "--out", "x.jsonl"], "--items and --examples"),
    ],
)
def test_all_files_that_nothing_names_are_told_by_their_options(
    words: list[str], told: str
) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert f"give the RUN folder, or name files with {told}\n" in result.stderr
