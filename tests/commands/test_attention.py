"""Mode attention through the commands: summarize, train, score, with tiny models."""

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner, Result

from tests.commands.test_summarize import example, last_line, make_run, rows_or_none, write_lines
from tests.scores_file import scores_in
from trec_cli.attention.target import find_target, read_vectors
from trec_cli.commands.app import app
from trec_cli.core.errors import OutputFailed
from trec_cli.core.jsonl import read_examples, read_items, read_summaries
from trec_cli.core.manifest import file_hash, read_manifest
from trec_cli.core.records import Block, Key
from trec_cli.prompts.questions import with_summaries
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

SMALL = ["--max-new-tokens", "12", "--device", "cpu"]
Trec = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def trec(tiny_model: Callable[..., Path], tiny_embedder: Path) -> Trec:
    """Give ``trec(command, …)`` with the tiny model (and embedder, where there is a mode)."""

    def call(command: str, *arguments: object, stdin: bytes | None = None) -> Result:
        words = [command, *map(str, arguments), "--model", str(tiny_model())]
        if command == "summarize":
            words += [*SMALL, *([] if "hier" in words else ["--embedder", str(tiny_embedder)])]
        return CliRunner().invoke(app, words, input=stdin)

    return call


def attention(trec: Trec, *arguments: object) -> Result:
    result = trec("summarize", *arguments, "--mode", "attention")
    assert result.exit_code == 0, result.stderr
    return result


def test_the_recent_items_choose_block_summaries_within_the_budget(run: Path, trec: Trec) -> None:
    fields = last_line(attention(trec, run, "--json", "--budget", "20"))
    summaries = read_summaries(run / "summaries-attention.jsonl")
    examples = {e.example_id: e for e in read_examples(run / "examples.jsonl")}
    assert list(summaries) == list(examples)
    for name, record in summaries.items():
        length = len(examples[name].history)
        assert record.attention is not None
        assert record.attention.query == "recent"
        assert record.attention.candidates == []
        assert [(b.start, b.end, b.level) for b in record.blocks] == [
            (start, min(start + 5, length), 0) for start in range(0, length, 5)
        ]
        assert record.attention.keys == [Key(start=b.start, end=b.end) for b in record.blocks]
        assert sum(record.attention.weights) == pytest.approx(1 if length else 0, abs=1e-5)
        assert bool(record.summary) == bool(length)
    assert fields["texts_embedded"] > 0
    assert not (run / "summaries-attention.vectors.safetensors").exists()


def test_one_block_is_the_summary_and_no_history_gives_none(run: Path, trec: Trec) -> None:
    attention(trec, run)
    summaries = list(read_summaries(run / "summaries-attention.jsonl").values())
    empty, one = summaries[:2]
    assert (empty.summary, empty.blocks) == ("", [])
    assert empty.attention is not None
    assert (empty.attention.keys, empty.attention.weights) == ([], [])
    assert one.summary == one.blocks[0].summary
    assert one.attention is not None
    assert one.attention.weights == [1.0]


def test_no_call_is_made_that_hier_has_made(run: Path, trec: Trec) -> None:
    trec("summarize", run, "--mode", "hier")
    fields = last_line(attention(trec, run, "--json"))
    assert fields["calls"] == 0
    assert fields["hits"] > 0
    hier = read_summaries(run / "summaries-hier.jsonl")
    for name, record in read_summaries(run / "summaries-attention.jsonl").items():
        assert record.blocks == [block for block in hier[name].blocks if block.level == 0]
    again = last_line(attention(trec, run, "--json", "--query", "candidate", "--overwrite"))
    assert again["calls"] == 0
    assert again["vectors_found"] >= fields["texts_embedded"]


def test_candidates_have_weights_of_their_own_and_vectors_lie_beside(run: Path, trec: Trec) -> None:
    attention(trec, run, "--query", "candidate", "--temperature", "0.3", "--top-k", "2")
    path = run / "summaries-attention.vectors.safetensors"
    target = read_vectors(path)
    assert (target.settings.temperature, target.settings.top_k) == (0.3, 2)
    assert target.settings.budget == 12
    examples = {e.example_id: e for e in read_examples(run / "examples.jsonl")}
    for name, record in read_summaries(run / "summaries-attention.jsonl").items():
        asked = examples[name]
        assert record.attention is not None
        assert len(record.attention.candidates) == len(asked.candidates)
        weights = target.weights(asked.history, record.blocks, asked.candidates)
        for row, stored in zip(weights, record.attention.candidates, strict=True):
            assert [weight for _, weight in stored] == sorted((w for _, w in stored), reverse=True)
            for place, weight in stored:
                assert weight == pytest.approx(row[place], abs=1e-6)
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest["sha256"] == file_hash(path)
    assert manifest["settings"]["attention"]["query"] == "candidate"


def test_the_language_model_can_be_the_embedder(
    run: Path, trec: Trec, tiny_model: Callable[..., Path]
) -> None:
    attention(trec, run, "--query", "candidate")
    path = run / "summaries-attention.vectors.safetensors"
    before = path.read_bytes()
    words = ["summarize", str(run), "--mode", "attention", "--query", "candidate", "--overwrite"]
    words += ["--embedder", "llm", "--model", str(tiny_model()), *SMALL]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert path.read_bytes() != before


def test_other_settings_of_attention_are_refused_until_overwrite(run: Path, trec: Trec) -> None:
    attention(trec, run)
    assert "already" in attention(trec, run).stderr
    refused = trec("summarize", run, "--mode", "attention", "--temperature", "0.5")
    assert refused.exit_code == 2
    assert "--temperature 0.1 before, 0.5 now" in refused.stderr


@pytest.mark.parametrize("value", ["inf", "nan", "0"])
def test_a_temperature_that_no_file_can_hold_is_refused(run: Path, trec: Trec, value: str) -> None:
    refused = trec("summarize", run, "--mode", "attention", "--temperature", value)
    assert refused.exit_code == 2
    assert "--temperature" in refused.stderr


@pytest.mark.parametrize("option", [["--query", "candidate"], ["--top-k", "1"]])
def test_options_of_attention_are_refused_in_other_modes(
    run: Path, tiny_model: Callable[..., Path], tmp_path: Path, option: list[str]
) -> None:
    words = ["summarize", str(run), "--model", str(tiny_model()), *SMALL]
    refused = CliRunner().invoke(app, [*words, *option])
    assert refused.exit_code == 2
    assert "is for --mode attention, not for hier" in refused.stderr
    # A config file may hold the options of several modes.
    (tmp_path / "trec.toml").write_text('[summarize]\nquery = "candidate"\n')
    config = ["--config", str(tmp_path / "trec.toml"), "--dry-run"]
    assert CliRunner().invoke(app, [*words, *config]).exit_code == 0


def test_a_dry_run_counts_the_blocks_and_needs_no_embedder(run: Path, trec: Trec) -> None:
    before = sorted(run.iterdir())
    options = ("--rewrites", "0", "--json")  # those are not foretold
    planned = last_line(attention(trec, run, "--dry-run", *options))
    assert sorted(run.iterdir()) == before
    assert planned["calls"] == last_line(attention(trec, run, *options))["calls"]


def test_a_candidate_query_through_a_pipe_needs_a_place_for_vectors(
    run: Path, trec: Trec, tmp_path: Path
) -> None:
    words = ["summarize", run, "--mode", "attention", "--query", "candidate", "--out", "-", "-q"]
    refused = trec(*words)
    assert refused.exit_code == 2
    assert "--vectors" in refused.stderr
    piped = trec(*words, "--vectors", tmp_path / "v.safetensors")
    attention(trec, run, "--query", "candidate")
    assert piped.stdout_bytes == (run / "summaries-attention.jsonl").read_bytes()
    beside = (run / "summaries-attention.vectors.safetensors").read_bytes()
    assert (tmp_path / "v.safetensors").read_bytes() == beside


def test_no_such_embedder_ends_with_code_4_and_a_way_out(
    run: Path, tiny_model: Callable[..., Path]
) -> None:
    words = ["summarize", str(run), "--mode", "attention", "--embedder", "models/none-such"]
    result = CliRunner().invoke(app, [*words, "--model", str(tiny_model()), *SMALL])
    assert result.exit_code == 4
    assert "make embedder" in result.stderr


@pytest.mark.parametrize("query", ["recent", "candidate"])
def test_kill_9_and_the_same_command_again_give_the_same_bytes(
    tmp_path: Path,
    trec: Trec,
    tiny_model: Callable[..., Path],
    tiny_embedder: Path,
    query: str,
) -> None:
    killed, quiet = (make_run(tmp_path / name, users=24) for name in ("killed", "undisturbed"))
    options = ["--mode", "attention", "--query", query, "--max-tokens", "700"]
    words = ["summarize", str(killed), *options, "--prompt-tokens", "600", *SMALL]
    words += ["--model", str(tiny_model()), "--embedder", str(tiny_embedder)]
    process = subprocess.Popen([sys.executable, "-m", "trec_cli", *words])
    store = killed / "generations.sqlite"
    while process.poll() is None and not (store.exists() and rows_or_none(store)):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait(600) == -signal.SIGKILL

    options += ["--prompt-tokens", "600"]
    fields = last_line(trec("summarize", killed, *options, "--json"))
    assert trec("summarize", quiet, *options).exit_code == 0
    assert fields["texts_embedded"] == 0
    assert fields["calls"] > 0
    for name in sorted(
        p.name for p in quiet.glob("summaries-attention*") if "manifest" not in p.name
    ):
        assert (killed / name).read_bytes() == (quiet / name).read_bytes()


def test_scores_of_the_candidate_query_are_those_of_prompts_built_by_hand(
    run: Path, trec: Trec, tiny_model: Callable[..., Path]
) -> None:
    attention(trec, run, "--query", "candidate", "--top-k", "1")
    result = trec("score", run, "--mode", "attention", "--zero-shot", "--json")
    assert result.exit_code == 0, result.stderr
    assert last_line(result)["way"].startswith("shared prefix")
    model = AutoModelForCausalLM.from_pretrained(tiny_model()).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    items = read_items(run / "items.jsonl")
    builder = PromptBuilder(tokenizer, items, PromptSettings(), target=True)
    summaries = read_summaries(run / "summaries-attention.jsonl")
    examples = {e.example_id: e for e in read_examples(run / "examples.jsonl")}
    records = scores_in(run / "scores-attention-zeroshot.jsonl")
    assert len(records) == 2
    for record in records:
        asked, own = examples[record.example_id], summaries[record.example_id]
        assert own.attention is not None
        for candidate, score, weights in zip(
            record.candidates, record.scores, own.attention.candidates, strict=True
        ):
            text = own.blocks[weights[0][0]].summary
            cut = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)[: 12 - 1])
            recent = "\n".join(items[i].text() for i in asked.history[-3:])
            message = builder.template.fill(
                recent=recent, candidate=items[candidate].text(), evidence=cut
            )
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": message}], tokenize=False, add_generation_prompt=True
            )
            tree = builder.tree(
                asked.history,
                "",
                [candidate],
                evidence=find_one(run, record.example_id, candidate),
            )
            ids = [*tree.prefix, *tree.branches[0]]
            assert tokenizer.decode(ids) == prompt
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            by_hand = float(logits[builder.answers.yes] - logits[builder.answers.no])
            assert score == pytest.approx(by_hand, abs=1e-4)


def find_one(run: Path, example_id: str, candidate: str) -> Any:
    """Give the evidence of one candidate, from the files."""
    file = run / "summaries-attention.jsonl"
    summaries = read_summaries(file)
    target = find_target(summaries, file, None)
    assert target is not None
    asked = {e.example_id: e for e in read_examples(run / "examples.jsonl")}[example_id]
    return target.evidence(asked.history, summaries[example_id].blocks, [candidate])


@pytest.mark.parametrize("query", ["recent", "candidate"])
def test_train_and_score_work_end_to_end(tmp_path: Path, trec: Trec, query: str) -> None:
    run = make_run(tmp_path / "run", users=12)
    many = [f"i{n}" for n in range(1, 9)]
    chosen = [example(n, min(n * 3, 13), candidates=many) for n in range(12)]
    write_lines(run / "examples.jsonl", chosen)
    attention(trec, run, "--query", query)
    learn = ["--mode", "attention", "--epochs", "2", "--users-per-step", "2"]
    trained = trec("train", run, *learn, "--max-tokens", "2000")
    assert trained.exit_code == 0, trained.stderr
    kept = json.loads((run / "model-attention" / "prompt.json").read_text())
    assert ("{evidence}" in kept["template"]) == (query == "candidate")
    scored = trec("score", run, "--mode", "attention")
    assert scored.exit_code == 0, scored.stderr
    assert "adapter" in scored.stderr
    assert len(scores_in(run / "scores-attention.jsonl")) == 4
    vectors = run / "summaries-attention.vectors.safetensors"
    for output in ("model-attention", "scores-attention.jsonl"):
        manifest = read_manifest(run / output)
        assert manifest is not None
        assert (str(vectors) in manifest["inputs"]) == (query == "candidate")


def test_an_adapter_of_one_query_refuses_summaries_of_the_other(tmp_path: Path, trec: Trec) -> None:
    run = make_run(tmp_path / "run", users=12)
    attention(trec, run)
    learn = ["--mode", "attention", "--epochs", "1", "--max-tokens", "2000"]
    assert trec("train", run, *learn).exit_code == 0
    attention(trec, run, "--query", "candidate", "--overwrite")
    refused = trec("score", run, "--mode", "attention")
    assert refused.exit_code == 2
    assert "different kinds" in refused.stderr
    assert trec("score", run, "--mode", "attention", "--zero-shot").exit_code == 0


def test_an_adapter_remembers_how_its_evidence_was_chosen(
    tmp_path: Path, trec: Trec, tiny_model: Callable[..., Path]
) -> None:
    run = make_run(tmp_path / "run", users=12)
    asked = ["--mode", "attention", "--query", "candidate"]
    attention(trec, run, "--query", "candidate")
    learn = ["--mode", "attention", "--epochs", "1", "--max-tokens", "2000", "--merge"]
    assert trec("train", run, *learn).exit_code == 0
    kept = json.loads((run / "model-attention" / "prompt.json").read_text())["attention"]
    assert kept.pop("embedder")["pooling"] == "mean"
    assert kept == {"temperature": 0.1, "top_k": 3, "budget": 12}
    assert "| attention top_k | 3 |" in (run / "model-attention" / "README.md").read_text()

    attention(trec, run, "--query", "candidate", "--temperature", "0.5", "--overwrite")
    merged = ["--zero-shot", "--model", str(run / "model-attention-merged")]
    for options in (["--model", str(tiny_model())], merged):
        words = ["score", str(run), "--mode", "attention", *options]
        refused = CliRunner().invoke(app, words)
        assert refused.exit_code == 2, refused.stderr
        assert "--temperature is 0.5 here and 0.1 there" in refused.stderr
        assert "--top-k" not in refused.stderr
    assert trec("score", run, "--mode", "attention", "--zero-shot").exit_code == 0

    words = ["summarize", str(run), *asked, "--embedder", "llm", "--overwrite", *SMALL]
    assert CliRunner().invoke(app, [*words, "--model", str(tiny_model())]).exit_code == 0
    warned = trec("score", run, "--mode", "attention")
    assert warned.exit_code == 0, warned.stderr
    assert "trained on evidence by vectors of" in warned.stderr
    attention(trec, run, "--query", "candidate", "--overwrite")
    assert "vectors of" not in trec("score", run, "--mode", "attention", "--overwrite").stderr


def test_an_adapter_that_says_nothing_of_evidence_is_scored(tmp_path: Path, trec: Trec) -> None:
    run = make_run(tmp_path / "run", users=12)
    attention(trec, run, "--query", "candidate")
    learn = ["--mode", "attention", "--epochs", "1", "--max-tokens", "2000"]
    assert trec("train", run, *learn).exit_code == 0
    file = run / "model-attention" / "prompt.json"
    older = json.loads(file.read_text())
    del older["attention"]
    file.write_text(json.dumps(older))
    assert trec("score", run, "--mode", "attention").exit_code == 0


def test_vectors_elsewhere_are_written_and_never_over_those_of_other_settings(
    run: Path, trec: Trec, tmp_path: Path
) -> None:
    words = ["--query", "candidate"]
    attention(trec, run, *words)
    place = tmp_path / "v.safetensors"
    assert "already" not in attention(trec, run, *words, "--vectors", place).stderr
    before = place.read_bytes()
    other = [*words, "--temperature", "0.5", "--out", tmp_path / "other.jsonl", "--vectors", place]
    for more in ([], ["--out", "-"]):
        refused = trec("summarize", run, "--mode", "attention", *other, *more)
        assert refused.exit_code == 2
        assert "v.safetensors was made with other settings" in refused.stderr
        assert place.read_bytes() == before


def test_inputs_that_grew_renew_summaries_and_vectors_together(
    run: Path, trec: Trec, tmp_path: Path
) -> None:
    fresh = make_run(tmp_path / "fresh")
    attention(trec, run, "--query", "candidate")
    for folder in (run, fresh):
        examples = [example(n, min(n * 3, 13)) for n in range(6)]
        write_lines(folder / "examples.jsonl", [*examples, example(9, 6)])
    again = last_line(attention(trec, run, "--query", "candidate", "--json"))
    assert (again["kept"], again["remade"], again["added"]) == (6, 0, 1)
    attention(trec, fresh, "--query", "candidate")
    for name in ("summaries-attention.jsonl", "summaries-attention.vectors.safetensors"):
        assert (run / name).read_bytes() == (fresh / name).read_bytes()


def test_vectors_of_another_runs_summaries_are_never_replaced(
    run: Path, trec: Trec, tmp_path: Path
) -> None:
    vectors = ["--query", "candidate", "--vectors", tmp_path / "shared.safetensors"]
    attention(trec, run, *vectors)
    other = make_run(tmp_path / "other", users=7)
    refused = trec("summarize", other, "--mode", "attention", *vectors)
    assert refused.exit_code == 2
    assert "other content now in examples.jsonl" in refused.stderr


def test_lost_vectors_are_made_again_by_the_same_command(run: Path, trec: Trec) -> None:
    attention(trec, run, "--query", "candidate")
    place = run / "summaries-attention.vectors.safetensors"
    before = place.read_bytes()
    place.unlink()
    fields = last_line(attention(trec, run, "--query", "candidate", "--json"))
    assert (fields["calls"], fields["texts_embedded"]) == (0, 0)
    assert place.read_bytes() == before


def test_a_full_disk_between_vectors_and_summaries_leaves_no_pair_that_is_none(
    run: Path, trec: Trec, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--mode", "attention", "--query", "candidate"]
    attention(trec, run, "--query", "candidate")
    before = (run / "summaries-attention.jsonl").read_bytes()
    changed = [*words, "--temperature", "0.9"]

    def full(path: Path, lines: object) -> None:
        raise OutputFailed(path, OSError(errno.ENOSPC, "No space left on device"))

    with monkeypatch.context() as patch:
        patch.setattr("trec_cli.summarize.run.write_lines", full)
        assert trec("summarize", run, *changed, "--overwrite").exit_code == 5
    assert (run / "summaries-attention.jsonl").read_bytes() == before
    refused = trec("score", run, "--mode", "attention", "--zero-shot")
    assert refused.exit_code == 3
    assert "is not finished" in refused.stderr
    again = trec("summarize", run, *changed)
    assert again.exit_code == 0, again.stderr
    assert trec("score", run, "--mode", "attention", "--zero-shot").exit_code == 0


def test_summaries_of_other_examples_are_warned_of(run: Path, trec: Trec) -> None:
    attention(trec, run)
    words = ["score", run, "--mode", "attention", "--zero-shot"]
    assert "another version" not in trec(*words).stderr
    shorter = [example(n, min(n * 3, 12)) for n in range(6)]
    write_lines(run / "examples.jsonl", shorter)
    shown = CliRunner().invoke(app, ["summarize", str(run), "--mode", "attention", "--show", "u1"])
    assert "another version of examples.jsonl" in shown.stderr
    shifted = [example(n, min(n * 3, 13), positives=["i1"]) for n in range(6)]
    write_lines(run / "examples.jsonl", shifted)
    warned = trec(*words, "--overwrite")
    assert warned.exit_code == 0, warned.stderr
    assert "another version of examples.jsonl" in warned.stderr


def test_examples_with_items_that_have_no_vector_are_named(run: Path, trec: Trec) -> None:
    attention(trec, run, "--query", "candidate")
    changed = [example(n, min(n * 3, 13), candidates=["i20", "i2"]) for n in range(6)]
    write_lines(run / "examples.jsonl", changed)
    refused = trec("score", run, "--mode", "attention", "--zero-shot")
    assert refused.exit_code == 3
    assert "items without a vector" in refused.stderr


def test_lost_vectors_say_how_to_make_them_again(run: Path, trec: Trec) -> None:
    attention(trec, run, "--query", "candidate")
    (run / "summaries-attention.vectors.safetensors").unlink()
    refused = trec("score", run, "--mode", "attention", "--zero-shot")
    assert refused.exit_code == 3
    assert "--query candidate again" in refused.stderr


def test_joined_questions_build_trees_with_evidence(
    run: Path, trec: Trec, tiny_model: Callable[..., Path]
) -> None:
    attention(trec, run, "--query", "candidate")
    file = run / "summaries-attention.jsonl"
    summaries, items = read_summaries(file), read_items(run / "items.jsonl")
    target = find_target(summaries, file, None)
    questions = with_summaries(
        read_examples(run / "examples.jsonl", items), summaries, "test", file=file, target=target
    )
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    builder = PromptBuilder(tokenizer, items, PromptSettings(), target=True)
    question = questions[1]
    assert all(isinstance(block, Block) for block in question.blocks)
    whole = question.tree(builder)
    alone = question.tree(builder, question.example.candidates[1:])
    assert whole.prefix == alone.prefix
    assert whole.branches[1:] == alone.branches
    with safe_open(run / "summaries-attention.vectors.safetensors", "numpy") as vectors:
        assert vectors.get_tensor("vectors").shape[1] == 32
