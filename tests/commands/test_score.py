"""``trec score`` as a command."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from tests.conftest import ROOT
from tests.score.small_run import make_adapter, make_run
from trec_cli.commands.app import app
from trec_cli.core.jsonl import read_examples, read_items, read_summaries
from trec_cli.core.manifest import Provenance, read_manifest
from trec_cli.core.outputs import Journal, locked
from trec_cli.core.runs import RunFolder
from trec_cli.evaluate.scores import ScoresLine, read_scores
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

TinyModel = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def model(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


def trec(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["score", *map(str, arguments)], input=stdin)


def scored(path: Path) -> list[ScoresLine]:
    return [record for _, record in read_scores(path)]


def last_line(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_every_candidate_of_the_split_gets_the_log_odds_of_yes(run: Path, model: Path) -> None:
    result = trec(run, "--mode", "hier", "--zero-shot", "--model", model)
    assert result.exit_code == 0, result.output
    records = scored(run / "scores-hier-zeroshot.jsonl")
    files = RunFolder(run)
    examples = [e for e in read_examples(files.examples) if e.split == "test"]
    assert [r.example_id for r in records] == [e.example_id for e in examples]
    assert [r.candidates for r in records] == [e.candidates for e in examples]
    assert [r.positives for r in records] == [e.positives for e in examples]
    tokenizer = AutoTokenizer.from_pretrained(model)
    lm = AutoModelForCausalLM.from_pretrained(model)
    builder = PromptBuilder(tokenizer, read_items(files.items), PromptSettings())
    summaries = read_summaries(files.summaries("hier"))
    for example, record in zip(examples, records, strict=True):
        summary = summaries[example.example_id].summary
        tree = builder.tree(example.history, summary, example.candidates)
        for branch, score in zip(tree.branches, record.scores, strict=True):
            logits = lm(input_ids=torch.tensor([[*tree.prefix, *branch]])).logits[0, -1].tolist()
            yes, no = logits[builder.answers.yes], logits[builder.answers.no]
            assert score == pytest.approx(yes - no, abs=1e-5)


def test_without_the_user_every_prompt_lacks_summary_and_history(run: Path, model: Path) -> None:
    result = trec(run, "--mode", "hier", "--zero-shot", "--model", model, "--no-user")
    assert result.exit_code == 0, result.output
    out = RunFolder(run).scores("hier-zeroshot-no-user")
    by_item: dict[str, list[float]] = {}
    for line in scored(out):
        for item, score in zip(line.candidates, line.scores, strict=True):
            by_item.setdefault(item, []).append(score)
    assert max(map(len, by_item.values())) > 1
    assert all(max(found) - min(found) < 1e-4 for found in by_item.values()), "whoever is asked"
    seen = trec(run, "--mode", "hier", "--zero-shot", "--model", model, "--no-user", "--dry-run")
    assert "unknown" in seen.output
    assert "Likes a." not in seen.output
    manifest = read_manifest(out)
    assert manifest is not None
    assert manifest["settings"]["no_user"] is True


def test_the_manifest_tells_speed_cuts_device_and_way(run: Path, model: Path) -> None:
    trec(run, "--zero-shot", "--model", model, "--max-length", 480, "--candidate-tokens", 200)
    manifest = read_manifest(run / "scores-hier-zeroshot.jsonl")
    assert manifest is not None
    assert manifest["users"] == 6
    assert manifest["candidates"] == 30
    assert 0.5 < manifest["tokens_saved_by_sharing"] < 0.8
    assert manifest["tokens_per_second"] > 0
    assert manifest["cuts"]["examples"] > 0
    assert manifest["device"].startswith("cpu")
    assert manifest["way"] == "shared prefix, checked against one prompt at a time"
    assert manifest["answers"] == {"Yes": 275, "No": 274}
    assert manifest["settings"]["prompt"]["max_length"] == 480


@pytest.mark.parametrize("family", ["mistral", "qwen2", "gemma2", "gemma3_text", "gpt_neox", "opt"])
def test_mode_none_needs_no_summaries_with_any_family(
    run: Path, tiny_model: TinyModel, family: str
) -> None:
    (run / "summaries-hier.jsonl").unlink()
    folder = tiny_model(family, chat=False)
    result = trec(run, "--mode", "none", "--zero-shot", "--model", folder, "--json")
    assert result.exit_code == 0, result.output
    assert last_line(result)["way"].startswith("shared prefix")
    assert all(
        math.isfinite(s) for r in scored(run / "scores-none-zeroshot.jsonl") for s in r.scores
    )


def test_missing_summaries_are_counted_with_the_remedy(run: Path, model: Path) -> None:
    path = run / "summaries-hier.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    result = trec(run, "--zero-shot", "--model", model)
    assert result.exit_code == 3
    assert "2 of 6 examples of split test have no summary (test-4, test-5)" in result.stderr
    assert "trec summarize" in result.stderr


def test_the_runs_adapter_is_taken_and_named(run: Path, model: Path) -> None:
    adapter = make_adapter(run, model, run / "model-hier", recent=1)
    trec(run, "--zero-shot", "--model", model)
    result = trec(run)
    assert result.exit_code == 0, result.output
    assert f"adapter {adapter} on {model}" in result.stderr
    with_adapter, without = scored(run / "scores-hier.jsonl"), run / "scores-hier-zeroshot.jsonl"
    pairs = zip(with_adapter, scored(without), strict=True)
    assert all(one.scores != other.scores for one, other in pairs)
    manifest = read_manifest(run / "scores-hier.jsonl")
    assert manifest is not None
    assert manifest["settings"]["prompt"]["recent"] == 1
    assert str(adapter / "adapter_model.safetensors") in manifest["inputs"]


def test_without_an_adapter_the_base_model_is_scored_with_a_warning(run: Path, model: Path) -> None:
    result = trec(run, "--model", model)
    assert result.exit_code == 0
    assert "no adapter of mode hier is there" in result.stderr
    (run / ".model-hier.partial").mkdir()
    unfinished = trec(run, "--model", model, "--mode", "hier", "--dry-run")
    assert f"the training of {run / 'model-hier'} is not finished" in unfinished.stderr
    assert (run / "scores-hier-zeroshot.jsonl").exists()


def test_an_adapter_is_scored_with_its_own_prompt_only(run: Path, model: Path) -> None:
    make_adapter(run, model, run / "model-hier", recent=2)
    result = trec(run, "--recent", 5, "--max-length", 2048, "--no-chat-template")
    assert result.exit_code == 2
    assert "--recent is 5 here and 2 there" in result.stderr
    assert "--chat-template is False here and True there" in result.stderr
    assert "--max-length" not in result.stderr
    result = trec(run, "--prompts", run)
    assert result.exit_code == 2
    assert "--prompts cannot be used with" in result.stderr


def test_an_adapter_of_another_base_model_is_refused(
    run: Path, model: Path, tiny_model: TinyModel
) -> None:
    make_adapter(run, model, run / "model-hier")
    other = tiny_model("qwen2")
    result = trec(run, "--model", other)
    assert result.exit_code == 2
    assert str(other) in result.stderr
    assert str(model) in result.stderr


def test_the_base_model_may_have_moved(run: Path, model: Path, tmp_path: Path) -> None:
    make_adapter(run, model, run / "model-hier")
    moved = tmp_path / "elsewhere" / model.name
    moved.parent.mkdir()
    moved.symlink_to(model)
    assert trec(run, "--model", moved).exit_code == 0


def test_an_adapter_that_does_not_fit_is_a_model_error(
    run: Path, model: Path, tiny_model: TinyModel, tmp_path: Path
) -> None:
    adapter = make_adapter(run, model, tmp_path / "adapter")
    config = adapter / "adapter_config.json"
    content = json.loads(config.read_text())
    content["base_model_name_or_path"] = str(tiny_model("gpt_neox"))
    config.write_text(json.dumps(content))
    result = trec(run, "--adapter", adapter)
    assert result.exit_code == 4
    assert "does not fit model" in result.stderr


def test_an_adapter_with_a_flipped_byte_is_warned_of(run: Path, model: Path) -> None:
    folder = make_adapter(run, model, run / "model-hier")
    Provenance("train", {}, []).write(folder)
    assert "changed or damaged" not in trec(run).stderr
    weights = folder / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    result = trec(run, "--overwrite")
    assert result.exit_code == 0, result.output
    assert "are not those that trec train wrote: they were changed or damaged since" in (
        " ".join(result.stderr.split())
    )


def test_a_damaged_adapter_is_an_input_error(run: Path, model: Path) -> None:
    folder = run / "model-hier"
    result = trec(run, "--adapter", run / "nowhere")
    assert result.exit_code == 3
    assert "no such adapter folder" in result.stderr
    folder.mkdir()
    assert "adapter_config.json: no such file" in trec(run).stderr
    make_adapter(run, model, folder)
    (folder / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors: no such file" in trec(run).stderr
    (folder / "adapter_model.safetensors").write_bytes(b"cut off")
    damaged = trec(run)
    assert damaged.exit_code == 4
    assert "are damaged" in damaged.stderr
    (folder / "adapter_config.json").write_text("{}")
    assert "names no base model" in trec(run).stderr
    (folder / "adapter_config.json").write_text("{")
    assert "is not JSON" in trec(run).stderr


def test_missing_summaries_are_told_before_a_model_is_looked_for(run: Path) -> None:
    (run / "summaries-hier.jsonl").unlink(missing_ok=True)
    result = trec(run, "--mode", "hier", "--zero-shot", "--model", "nobody/has-this")
    assert result.exit_code == 3
    assert "summaries-hier.jsonl: no such file" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--zero-shot", "--adapter", "x"], "exclude each other"),
        (["--mode", "cnn"], "choose one of hier, recurrent, attention, none"),
        (["--scorer", "random", "--name", "a/b"], "cannot hold a slash"),
        (["--scorer", "luck"], "choose one of llm, embedding, popularity"),
        (["--scorer", "random", "--zero-shot"], "--zero-shot is for --scorer llm"),
        (["--examples", "-", "--summaries", "-"], "cannot both be standard input"),
        (["--device", "cuda:99", "--zero-shot"], "cannot be used here"),
        (["--zero-shot", "--max-length", "9999"], "more than the model's limit of 4096"),
        (["--zero-shot", "--attributes", "titel"], "no item has titel; use kind, title"),
    ],
)
def test_impossible_wishes_are_wrong_usage(
    run: Path, model: Path, options: list[str], message: str
) -> None:
    named = [] if "--scorer" in options else ["--model", model]
    result = trec(run, *options, *named)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_split_without_examples_is_an_input_error(tmp_path: Path, model: Path) -> None:
    run = make_run(tmp_path, {"test": 2})
    result = trec(run, "--split", "valid", "--model", model)
    assert result.exit_code == 3
    assert "holds no example of split valid" in result.stderr


def test_a_finished_output_is_left_alone_and_other_settings_are_refused(
    run: Path, model: Path
) -> None:
    arguments = [run, "--zero-shot", "--model", model]
    trec(*arguments)
    out = run / "scores-hier-zeroshot.jsonl"
    before = out.stat().st_mtime_ns
    again = trec(*arguments, "--json")
    assert again.exit_code == 0
    assert last_line(again)["done_before"] is True
    assert out.stat().st_mtime_ns == before
    changed = trec(*arguments, "--recent", 1)
    assert changed.exit_code == 2
    assert "--recent 3 before, 1 now" in changed.stderr
    assert trec(*arguments, "--recent", 1, "--overwrite").exit_code == 0


def test_two_runs_do_not_write_the_same_file(run: Path, model: Path) -> None:
    with locked(run / "scores-hier-zeroshot.jsonl"):
        result = trec(run, "--zero-shot", "--model", model)
    assert result.exit_code == 2
    assert "another trec run" in result.stderr


def test_tokens_of_a_forward_pass_change_no_score(run: Path, model: Path) -> None:
    arguments = [run, "--zero-shot", "--model", model]
    trec(*arguments)
    trec(*arguments, "--max-tokens", 50, "--name", "narrow")
    wide, narrow = scored(run / "scores-hier-zeroshot.jsonl"), scored(run / "scores-narrow.jsonl")
    for one, other in zip(wide, narrow, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_limit_takes_the_first_examples_of_the_split(run: Path) -> None:
    trec(run, "--scorer", "random", "--limit", 2, "--split", "train")
    records = scored(run / "scores-random-train.jsonl")
    assert [r.example_id for r in records] == ["train-0", "train-1"]


def test_streams_go_in_and_out(run: Path, model: Path) -> None:
    trec(run, "--zero-shot", "--model", model)
    examples = (run / "examples.jsonl").read_bytes()
    result = trec(
        run, "--zero-shot", "--model", model, "--examples", "-", "--out", "-", stdin=examples
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes == (run / "scores-hier-zeroshot.jsonl").read_bytes()


def test_another_stream_is_not_taken_for_the_same(run: Path) -> None:
    lines = (run / "examples.jsonl").read_bytes().splitlines(keepends=True)
    arguments = [run, "--scorer", "random", "--examples", "-"]
    assert trec(*arguments, stdin=b"".join(lines)).exit_code == 0
    assert trec(*arguments, stdin=b"".join(lines)).exit_code == 0
    result = trec(*arguments, stdin=b"".join(lines[:-1]))
    assert result.exit_code == 2
    assert "streamed" in result.stderr


@pytest.mark.parametrize("scorer", ["llm", "bm25"])
def test_items_on_stdin_are_known_by_their_content(
    run: Path, tiny_model: Callable[..., Path], scorer: str
) -> None:
    items = (run / "items.jsonl").read_bytes()
    model = ["--model", str(tiny_model())] if scorer == "llm" else []
    words = ["score", str(run), "--scorer", scorer, "--items", "-", *model]
    assert CliRunner().invoke(app, words, input=items).exit_code == 0
    assert "finished already" in CliRunner().invoke(app, words, input=items).stderr
    refused = CliRunner().invoke(app, words, input=items.replace(b"Thing", b"Other"))
    assert refused.exit_code == 2
    assert "streamed: " in refused.stderr


def test_a_dry_run_shows_the_prompt_and_the_cost_and_writes_nothing(run: Path, model: Path) -> None:
    before = sorted(run.iterdir())
    result = trec(run, "--zero-shot", "--model", model, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert sorted(run.iterdir()) == before
    assert "Preference summary:\nLikes a." in result.stderr
    assert "<|im_start|>assistant" in result.stderr
    found = last_line(result)
    assert found["users"] == 6
    assert found["candidates"] == 30
    assert found["tokens"] < found["separate_tokens"]
    baseline = trec(run, "--scorer", "popularity", "--dry-run")
    assert "would score 6 examples" in baseline.stderr
    assert sorted(run.iterdir()) == before


def test_a_model_that_gives_no_numbers_is_a_model_error(
    run: Path, model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    lm = AutoModelForCausalLM.from_pretrained(model)
    lm.model.norm.weight.data.fill_(float("nan"))
    lm.save_pretrained(broken)
    AutoTokenizer.from_pretrained(model).save_pretrained(broken)
    result = trec(run, "--zero-shot", "--model", broken)
    assert result.exit_code == 4
    assert "a score that is no number" in result.stderr
    assert not (run / "scores-hier-zeroshot.jsonl").exists()


def test_a_missing_model_is_a_model_error(run: Path, tmp_path: Path) -> None:
    result = trec(run, "--zero-shot", "--model", tmp_path / "nowhere")
    assert result.exit_code == 4
    assert "no model folder" in result.stderr


def test_broken_input_names_file_and_line(run: Path) -> None:
    (run / "examples.jsonl").write_text('{"example_id": "x"\n')
    result = trec(run, "--scorer", "random")
    assert result.exit_code == 3
    assert "examples.jsonl, line 1" in result.stderr


def test_options_may_stand_in_a_file(run: Path, tmp_path: Path) -> None:
    config = tmp_path / "score.toml"
    config.write_text('[score]\nscorer = "random"\nname = "dice"\nseed = 3\n')
    assert trec(run, "--config", config).exit_code == 0
    assert (run / "scores-dice.jsonl").exists()


def test_baselines_score_without_importing_torch(run: Path) -> None:
    code = (
        "import sys\n"
        "from trec_cli.commands.app import app\n"
        "try:\n    app()\n"
        "finally:\n    assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    arguments = [sys.executable, "-c", code, "score", str(run), "--scorer", "bm25"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(scored(run / "scores-bm25.jsonl")) == 6


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, model: Path) -> None:
    run = make_run(tmp_path, {"test": 60})
    arguments = [run, "--zero-shot", "--model", model, "--max-tokens", 400]
    assert trec(*arguments, "--name", "undisturbed").exit_code == 0
    partial = run / ".scores-killed.jsonl.partial"
    command = [sys.executable, "-m", "trec_cli", "score", *map(str, arguments), "--name", "killed"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **threads}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 600
    while not partial.exists() or partial.read_bytes().count(b"\n") < 8:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = partial.read_bytes().splitlines(keepends=True)
    partial.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    again = trec(*arguments, "--name", "killed", "--json")
    assert again.exit_code == 0, again.output
    assert 0 < last_line(again)["continued_after_users"] < 60
    assert (run / "scores-killed.jsonl").read_bytes() == (
        run / "scores-undisturbed.jsonl"
    ).read_bytes()
    assert not partial.exists()


def test_what_a_run_killed_at_its_very_end_left_goes_with_the_next(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(Journal, "discard", lambda _: None)
        assert trec(run, "--scorer", "bm25").exit_code == 0
    partial = run / ".scores-bm25.jsonl.partial"
    assert partial.exists()
    again = trec(run, "--scorer", "bm25")
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert not partial.exists()


def test_a_config_file_may_hold_options_of_the_model_for_a_baseline(
    run: Path, tmp_path: Path
) -> None:
    config = tmp_path / "settings.toml"
    config.write_text('[score]\nmodel = "somewhere"\nrecent = 2\n')
    assert trec(run, "--scorer", "random", "--config", config).exit_code == 0


def test_a_reader_that_has_enough_ends_the_command_quietly(tmp_path: Path) -> None:
    run = make_run(tmp_path, {"train": 2000})
    words = ["score", str(run), "--scorer", "random", "--split", "train", "--out", "-", "--quiet"]
    command = [sys.executable, "-m", "trec_cli", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["example_id"] == "train-0"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
