"""``trec train``: files, messages, resume after kill -9, several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from tests.conftest import ROOT
from tests.train.world import example, write_run
from trec_cli.commands.app import app
from trec_cli.core.jsonl import encode_all, read_examples
from trec_cli.core.manifest import Provenance, file_hash, read_manifest
from trec_cli.core.outputs import locked, write_lines
from trec_cli.prompts.learnt import load_settings
from trec_cli.train.callbacks import read_log
from trec_cli.train.work import checkpoint_folders, is_whole

PEFT_WARNS = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
"""peft asks transformers 5.24 by an old name; here the test itself loads with peft."""

TinyModel = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def command(run: Path, model: Path, *more: object) -> list[str]:
    own = ["--mode", "none", "--model", model, "--prompts", run / "prompts"]
    sizes = [
        "--max-length",
        512,
        "--candidate-tokens",
        128,
        "--users-per-step",
        8,
        "--device",
        "cpu",
    ]
    return ["train", *map(str, [run, *own, *sizes, *more])]


def trec(run: Path, model: Path, *more: object, text: str | None = None) -> Result:
    return CliRunner().invoke(app, command(run, model, *more), input=text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def plain(text: str) -> str:
    """Take the frame around a message away."""
    return " ".join(text.translate(str.maketrans("", "", "│╭╮╰╯─")).split())


def last_line(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_the_adapter_folder_holds_what_the_contract_says(run: Path, tiny_model: TinyModel) -> None:
    result = trec(run, tiny_model(), "--epochs", 2, "--json")
    assert result.exit_code == 0, result.output
    out = run / "model-none"
    assert names(out) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "prompt.json",
        "training-log.jsonl",
    ]
    config = json.loads((out / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_model())
    assert load_settings(out).settings.max_length == 512
    assert [line["step"] for line in read_log(out / "training-log.jsonl") if "loss" in line] == [
        *range(1, 7)
    ]
    manifest = read_manifest(out) or {}
    assert manifest["sha256"] == file_hash(out)
    assert manifest["settings"]["loss"] == "answer"
    assert manifest["steps"] == 6
    assert not [name for name in names(run) if "partial" in name]
    line = last_line(result)
    assert line["ok"]
    assert line["out"] == str(out)
    assert line["best"]["step"] in (3, 6)
    assert "cpu" in result.stderr


@PEFT_WARNS
def test_peft_and_transformers_load_the_adapter(run: Path, tiny_model: TinyModel) -> None:
    from peft import AutoPeftModelForCausalLM

    assert trec(run, tiny_model(), "--epochs", 1).exit_code == 0
    model = AutoPeftModelForCausalLM.from_pretrained(str(run / "model-none"))
    assert any("lora_B" in name and p.abs().max() > 0 for name, p in model.named_parameters())


def test_the_same_command_again_does_nothing(run: Path, tiny_model: TinyModel) -> None:
    assert trec(run, tiny_model(), "--epochs", 1).exit_code == 0
    before = (run / "model-none.manifest.json").read_bytes()
    again = trec(run, tiny_model(), "--epochs", 1, "--json")
    assert again.exit_code == 0
    assert "finished already" in again.stderr
    assert last_line(again)["done_before"] is True
    assert (run / "model-none.manifest.json").read_bytes() == before


def test_other_settings_are_refused_unless_overwritten(run: Path, tiny_model: TinyModel) -> None:
    assert trec(run, tiny_model(), "--epochs", 1).exit_code == 0
    refused = trec(run, tiny_model(), "--epochs", 1, "--seed", 1)
    assert refused.exit_code == 2
    assert "--seed 0 before, 1 now" in refused.stderr
    assert trec(run, tiny_model(), "--epochs", 1, "--seed", 1, "--overwrite").exit_code == 0
    assert (read_manifest(run / "model-none") or {})["settings"]["seed"] == 1


def test_a_list_of_modules_is_the_same_setting_again(run: Path, tiny_model: TinyModel) -> None:
    asked = ("--epochs", 1, "--target-modules", "q_proj,v_proj", "--attributes", "title")
    assert trec(run, tiny_model(), *asked).exit_code == 0
    assert "finished already" in trec(run, tiny_model(), *asked).stderr


def test_a_dry_run_shows_a_prompt_with_its_label_and_writes_nothing(
    run: Path, tiny_model: TinyModel
) -> None:
    before = names(run)
    result = trec(run, tiny_model(), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert "Likes unknown. Had" in result.stderr
    assert "good" in result.stderr
    for part in ("instruction", "preference summary", "recent items", "candidate", "label"):
        assert part in result.stderr
    line = last_line(result)
    assert line["training examples"] == 24
    assert line["prompts per epoch"] == 48
    assert line["optimizer steps"] == 9
    assert line["tokens per epoch"] < line["tokens per epoch, every prompt by itself"]
    assert line["tokens of a validation"] > 0
    assert "tokens asked of the base model" not in line
    assert line["refused"] is None
    assert names(run) == before


def test_a_dry_run_tells_of_what_would_be_refused(run: Path, tiny_model: TinyModel) -> None:
    trec(run, tiny_model(), "--epochs", 1)
    same = trec(run, tiny_model(), "--epochs", 1, "--dry-run", "--json")
    assert last_line(same)["refused"] is None
    other = trec(run, tiny_model(), "--epochs", 2, "--dry-run", "--json")
    assert other.exit_code == 0, "what it shows is still worth seeing"
    assert "without --dry-run this would be refused" in other.stderr
    assert "epochs" in last_line(other)["refused"]
    again = trec(run, tiny_model(), "--epochs", 2, "--dry-run", "--json", "--overwrite")
    assert last_line(again)["refused"] is None


def test_a_dry_run_counts_what_the_base_model_is_asked(run: Path, tiny_model: TinyModel) -> None:
    texts = ("--ask", "text", "--loss", "listwise", "--dry-run", "--json")
    chosen = last_line(trec(run, tiny_model(), *texts))["tokens asked of the base model"]
    given = last_line(trec(run, tiny_model(), *texts, "--temperature", 5))
    assert 0 < given["tokens asked of the base model"] < chosen


def test_all_targets_of_the_histories_are_learnt_and_scored_with(
    run: Path, tiny_model: TinyModel
) -> None:
    asked = ("--targets", "all", "--recent", 20, "--loss", "listwise", "--epochs", 1)
    catalogue = ("--negatives-from", "catalogue", "--negatives-per-positive", 3)
    shown = trec(run, tiny_model(), *asked, *catalogue, "--dry-run", "--json")
    result = trec(run, tiny_model(), *asked, *catalogue, "--json")
    assert result.exit_code == 0, result.output
    line = last_line(result)
    # of 24 users a quarter each has 0, 1, 2 and 3 items of history
    assert last_line(shown)["targets per epoch"] == line["targets"] == 24 + 6 * (1 + 2)
    assert line["prompts"] == 4 * line["targets"]
    settings = (read_manifest(run / "model-none") or {})["settings"]
    assert (settings["targets"], settings["negatives_from"]) == ("all", "catalogue")
    assert "min_history" not in settings, "at its default it is what there was before"
    assert "finished already" in trec(run, tiny_model(), *asked, *catalogue).stderr
    scored = CliRunner().invoke(
        app, ["score", str(run), "--mode", "none", "--split", "valid", "--device", "cpu"]
    )
    assert scored.exit_code == 0, scored.output


@PEFT_WARNS
def test_merging_writes_full_weights_that_say_the_same(run: Path, tiny_model: TinyModel) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert trec(run, tiny_model(), "--epochs", 1, "--learning-rate", 0.01).exit_code == 0
    merged = trec(run, tiny_model(), "--epochs", 1, "--learning-rate", 0.01, "--merge")
    assert merged.exit_code == 0, merged.output
    folder = run / "model-none-merged"
    origin = json.loads((folder / "merged.json").read_bytes())
    assert origin["adapter_sha256"] == file_hash(run / "model-none")
    assert {"config.json", "model.safetensors", "tokenizer.json", "prompt.json"} <= set(
        names(folder)
    )
    ids = torch.tensor([[5, 6, 7, 8]])
    base = AutoModelForCausalLM.from_pretrained(tiny_model())
    plain = base(ids).logits.detach()
    adapted = PeftModel.from_pretrained(base, str(run / "model-none")).eval()(ids).logits
    whole = AutoModelForCausalLM.from_pretrained(folder)(ids).logits
    torch.testing.assert_close(whole, adapted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole, plain, atol=1e-5)
    again = trec(run, tiny_model(), "--epochs", 1, "--learning-rate", 0.01, "--merge")
    assert "model-none-merged is finished already" in again.stderr


def test_examples_may_come_through_a_pipe(run: Path, tiny_model: TinyModel) -> None:
    lines = (run / "examples.jsonl").read_text()
    piped = trec(run, tiny_model(), "--epochs", 1, "--examples", "-", text=lines)
    assert piped.exit_code == 0, piped.output
    fewer = "".join(lines.splitlines(keepends=True)[1:])
    refused = trec(run, tiny_model(), "--epochs", 1, "--examples", "-", text=fewer)
    assert refused.exit_code == 2
    assert "records" in refused.stderr


def test_a_config_file_gives_the_options(run: Path, tiny_model: TinyModel, tmp_path: Path) -> None:
    file = tmp_path / "train.toml"
    file.write_text('[train]\nepochs = 1\nlora-rank = 2\nbest-by = "loss"\n')
    assert trec(run, tiny_model(), "--config", file).exit_code == 0
    assert json.loads((run / "model-none" / "adapter_config.json").read_text())["r"] == 2


def test_without_a_valid_split_the_last_adapter_is_kept(run: Path, tiny_model: TinyModel) -> None:
    examples = [e for e in read_examples(run / "examples.jsonl") if e.split == "train"]
    write_lines(run / "examples.jsonl", encode_all(examples))
    result = trec(run, tiny_model(), "--epochs", 1)
    assert result.exit_code == 0, result.output
    assert "no examples of split valid" in result.stderr
    assert "Not validated" in (run / "model-none" / "README.md").read_text()


BAD_OPTIONS = [
    (["--loss", "strange"], "'strange' is not one of 'answer', 'prompt'"),
    (["--best-by", "mrr"], "'mrr' is not one of 'mrr@10'"),
    (["--report-to", "paper"], "--report-to paper: not installed"),
    (["--users-per-step", "0"], "Invalid value for '--users-per-step'"),
    (["--quantize", "2bit"], "'2bit' is not one of '4bit', '8bit'"),
    (["--mode", "best"], "--mode best: choose one of"),
    (["--max-targets", "3"], "--max-targets is for --targets all, not for last"),
    (["--temperature", "2"], "--temperature is for --loss listwise, not for answer"),
    (["--store", "s.sqlite"], "--store is for --ask text --loss listwise"),
    (
        ["--ask", "text", "--targets", "all", "--max-targets", "3"],
        "--max-targets is for --loss listwise; without it texts are learnt by themselves",
    ),
    (["--out", "-"], "cannot go to standard output"),
    (["--target-modules", "q_prj"], "--target-modules q_prj: the model has no such module"),
    (["--device", "cuda:3"], "CUDA_VISIBLE_DEVICES=3"),
    (["--dtype", "int8"], "--dtype int8 cannot be trained; it is for summarize and score"),
    (["--max-length", "9999"], "--max-length 9999 is more than the model's limit"),
    (["--attributes", "titel"], "--attributes: no item has titel; use title"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_wrong_usage_is_explained(
    run: Path, tiny_model: TinyModel, options: list[str], message: str
) -> None:
    result = trec(run, tiny_model(), "--epochs", 1, *options)
    assert result.exit_code == 2, result.output
    assert message in plain(result.stderr)
    assert "Traceback" not in result.stderr
    assert not (run / "model-none").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
def test_quantization_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    result = trec(tmp_path / "absent", tmp_path / "no-model", "--quantize", "4bit")
    assert result.exit_code == 2
    assert "--quantize 4bit needs an NVIDIA GPU" in result.stderr


def test_a_collection_without_training_examples_is_refused(
    run: Path, tiny_model: TinyModel
) -> None:
    write_lines(run / "examples.jsonl", encode_all([example(1, "test")]))
    result = trec(run, tiny_model())
    assert result.exit_code == 3
    assert "no examples of split train" in result.stderr


def test_examples_without_negatives_are_named(run: Path, tiny_model: TinyModel) -> None:
    write_lines(run / "examples.jsonl", encode_all([example(1), example(2, negatives=0)]))
    result = trec(run, tiny_model())
    assert result.exit_code == 3
    assert "'e2': its candidates hold no negative" in result.stderr


def test_questions_whose_answer_was_missed_are_left_out(run: Path, tiny_model: TinyModel) -> None:
    asked = example(3)
    missed = msgspec.structs.replace(
        asked,
        candidates=[c for c in asked.candidates if c not in asked.positives],
        positives=[],
        missed=asked.positives,
    )
    write_lines(run / "examples.jsonl", encode_all([example(1), example(2), missed]))
    result = trec(run, tiny_model(), "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert "1 example has no positive among the candidates" in plain(result.stderr)
    assert last_line(result)["training examples"] == 2


def test_missing_summaries_are_counted_with_the_remedy(run: Path, tiny_model: TinyModel) -> None:
    record = {"user_id": "u0", "split": "train", "mode": "hier", "summary": "s", "blocks": []}
    write_lines(
        run / "summaries-hier.jsonl", encode_all([{"example_id": "e0", **record, "model": "m"}])
    )
    result = trec(run, tiny_model(), "--mode", "hier")
    assert result.exit_code == 3
    assert "23 of 24 examples of split train have no summary" in result.stderr
    assert "trec summarize" in result.stderr


def test_summaries_of_other_examples_are_warned_of(run: Path, tiny_model: TinyModel) -> None:
    summaries = run / "summaries-hier.jsonl"
    record = {"mode": "hier", "summary": "s", "blocks": [], "model": "m"}
    examples = read_examples(run / "examples.jsonl")
    about = [{"example_id": e.example_id, "user_id": e.user_id, "split": e.split} for e in examples]
    write_lines(summaries, encode_all([entry | record for entry in about]))
    Provenance("summarize", {}, [run / "items.jsonl", run / "examples.jsonl"]).write(summaries)
    arguments = ("--mode", "hier", "--dry-run")
    assert "another version" not in trec(run, tiny_model(), *arguments).stderr
    with (run / "examples.jsonl").open("a") as stream:
        stream.write("\n")
    result = trec(run, tiny_model(), *arguments)
    assert result.exit_code == 0, result.output
    said = plain(result.stderr)
    assert "summaries-hier.jsonl was made from another version of examples.jsonl" in said
    assert "items.jsonl;" not in said


def test_a_summary_file_that_is_not_there_is_an_input_error(
    run: Path, tiny_model: TinyModel
) -> None:
    result = trec(run, tiny_model(), "--mode", "hier")
    assert result.exit_code == 3
    assert "summaries-hier.jsonl: no such file" in result.stderr


def test_a_missing_model_is_a_model_error(run: Path, tmp_path: Path) -> None:
    result = trec(run, tmp_path / "no-model")
    assert result.exit_code == 4
    assert "no model folder" in result.stderr


def test_a_second_run_on_the_same_folder_is_refused(run: Path, tiny_model: TinyModel) -> None:
    with locked(run / "model-none"):
        result = trec(run, tiny_model())
    assert result.exit_code == 2
    assert "being written by another trec run" in result.stderr


def test_an_adapter_left_without_its_manifest_is_made_again(
    run: Path, tiny_model: TinyModel
) -> None:
    """A run killed between moving the folder and writing the manifest."""
    assert trec(run, tiny_model(), "--epochs", 1).exit_code == 0
    wanted = load_file(run / "model-none" / "adapter_model.safetensors")
    settings = (read_manifest(run / "model-none") or {})["settings"]
    (run / "model-none.manifest.json").unlink()
    work = run / ".model-none.partial"
    work.mkdir()
    (work / "settings.json").write_bytes(msgspec.json.encode(settings))
    assert trec(run, tiny_model(), "--epochs", 1).exit_code == 0
    found = load_file(run / "model-none" / "adapter_model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in wanted.items())
    assert not work.exists()


def process(run: Path, model: Path, *more: object) -> list[str]:
    return [sys.executable, "-m", "trec_cli", *command(run, model, *more)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def kill_after(arguments: list[str], seen: Callable[[], bool]) -> None:
    """Start a process and kill it with -9 as soon as ``seen``; fail if it ends before."""
    started = subprocess.Popen(arguments, env=ENVIRONMENT, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not seen():
        assert started.poll() is None, started.stderr and started.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert started.stderr
    started.stderr.close()


def test_killed_and_run_again_the_adapter_is_that_of_an_undisturbed_run(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    """Dropout is on, so the state of the random generators counts."""
    steps = ("--epochs", 3, "--save-every", 2, "--eval-every", 3)
    options = (*steps, "--lora-dropout", 0.3, "--learning-rate", 0.01)
    undisturbed, killed = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert trec(undisturbed, tiny_model(), *options).exit_code == 0
    work = killed / ".model-none.partial"

    def whole() -> list[Path]:
        return [folder for folder in checkpoint_folders(work) if is_whole(folder)]

    kill_after(process(killed, tiny_model(), *options), lambda: len(whole()) > 1)
    assert work.is_dir()
    assert not (killed / "model-none").exists()
    optimizer = whole()[-1] / "optimizer.pt"
    optimizer.write_bytes(bytes(optimizer.stat().st_size))
    half_written = work / "checkpoint-8"
    half_written.mkdir(exist_ok=True)
    (half_written / "adapter_model.safetensors").write_bytes(b"half")
    again = trec(killed, tiny_model(), *options)
    assert again.exit_code == 0, again.output
    assert "continuing after step" in again.stderr
    assert "checkpoint-8 was not written to its end" in again.stderr
    assert f"{optimizer.parent.name} was not written to its end, or is damaged" in again.stderr
    first, second = (folder / "model-none" for folder in (undisturbed, killed))
    expected = load_file(first / "adapter_model.safetensors")
    found = load_file(second / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)
    log = "training-log.jsonl"
    assert (first / log).read_bytes() == (second / log).read_bytes()
    once, twice = read_manifest(first) or {}, read_manifest(second) or {}
    assert twice["resumed_from_step"] > 0
    for name in ("prompts", "targets", "tokens", "tokens_saved_by_sharing"):
        assert once[name] == twice[name], "what a training took is counted over all its runs"


def test_a_killed_run_with_other_settings_is_not_continued(
    run: Path, tiny_model: TinyModel
) -> None:
    work = run / ".model-none.partial"
    work.mkdir()
    (work / "settings.json").write_text('{"seed": 7}')
    (work / "checkpoint-5").mkdir()
    result = trec(run, tiny_model(), "--epochs", 1)
    assert result.exit_code == 2
    assert "--seed 7 before, 0 now" in result.stderr


def launched(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run trec in two processes.

    The port is one that torchrun finds free: a fixed one may be taken, by this very test
    elsewhere.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "-m", "trec_cli", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def assert_same_training(one: Path, other: Path, name: str = "model-none") -> None:
    """Compare adapters and loss curves: equal up to the order in which numbers are added."""
    expected = load_file(one / name / "adapter_model.safetensors")
    found = load_file(other / name / "adapter_model.safetensors")
    assert found.keys() == expected.keys()
    for part, weight in expected.items():
        torch.testing.assert_close(found[part], weight, rtol=1e-3, atol=1e-5)
    losses = [
        [line["loss"] for line in read_log(run / name / "training-log.jsonl") if "loss" in line]
        for run in (one, other)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path, tiny_model: TinyModel) -> None:
    """The same steps, spread over two processes: the same adapter but for rounding."""
    options = ("--epochs", 2, "--lora-dropout", 0, "--learning-rate", 0.01)
    alone, together = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    assert trec(alone, tiny_model(), *options).exit_code == 0
    done = launched(command(together, tiny_model(), *options))
    assert done.returncode == 0, done.stderr
    assert_same_training(alone, together)
    assert (read_manifest(together / "model-none") or {})["prompts"] == 2 * 48


@pytest.mark.slow
def test_two_processes_ask_the_base_once_and_learn_texts_as_one_does(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    learn = ("--ask", "text", "--loss", "listwise", "--targets", "all")
    options = (*learn, "--epochs", 1, "--lora-dropout", 0)
    alone, together = write_run(tmp_path / "a"), write_run(tmp_path / "b")
    for run in (alone, together):
        (run / "prompts" / "recommend.txt").unlink()
    assert trec(alone, tiny_model(), *options).exit_code == 0
    done = launched(command(together, tiny_model(), *options))
    assert done.returncode == 0, done.stderr
    assert_same_training(alone, together, "model-none-text")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "fsdp_version: 2"),
        ({"ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "ZeRO stage 3 is not supported"),
    ],
)
def test_other_ways_to_deal_out_weights_are_refused(
    run: Path,
    tiny_model: TinyModel,
    monkeypatch: pytest.MonkeyPatch,
    more: dict[str, str],
    told: str,
) -> None:
    for name, value in more.items():
        monkeypatch.setenv(name, value)
    result = trec(run, tiny_model())
    assert (result.exit_code, told in plain(result.stderr)) == (2, True)
