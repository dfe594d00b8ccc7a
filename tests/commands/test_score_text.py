"""``trec score --ask text``: how much likelier the history makes a text."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.commands.test_score import scored, trec
from tests.score.small_run import make_run
from trec_cli.core.jsonl import read_examples, read_items
from trec_cli.core.runs import RunFolder

TinyModel = Callable[..., Path]
TEXT = ("--mode", "none", "--zero-shot", "--ask", "text", "--attributes", "title")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def model(tiny_model: TinyModel) -> Path:
    return tiny_model("llama")


@torch.inference_mode()
def _likelihood(folder: Path, before: str, text: str) -> float:
    """Write the prompt out as a user would read it; parts are tokenised one by one."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    prefix = [*tokenizer("").input_ids, *_pieces(tokenizer, before)]
    branch = _pieces(tokenizer, text)
    logits = model(input_ids=torch.tensor([[*prefix, *branch]])).logits[0].log_softmax(-1)
    return math.fsum(float(logits[len(prefix) + i - 1, token]) for i, token in enumerate(branch))


def _pieces(tokenizer: object, text: str) -> list[int]:
    """Tokenise the parts that \x00 separates by themselves."""
    encode = tokenizer.encode  # type: ignore[attr-defined]
    return [t for part in text.split("\0") if part for t in encode(part, add_special_tokens=False)]


def _prompt(titles: list[str]) -> str:
    lines = "\0\n\0".join(f"title: {title}" for title in titles)
    end = "\0\n" if titles else ""
    return (
        "Preferences of one user:\n\0unknown\0\n\nWhat the user chose, the newest last:\n\0"
        f"{lines}{end}"
    )


def test_a_score_is_the_likelihood_with_the_history_less_that_without(
    run: Path, model: Path
) -> None:
    result = trec(run, *TEXT, "--recent", 2, "--model", model)
    assert result.exit_code == 0, result.output
    files = RunFolder(run)
    items = read_items(files.items)
    examples = [e for e in read_examples(files.examples) if e.split == "test"]
    records = scored(run / "scores-none-text-zeroshot.jsonl")
    for example, record in zip(examples[:2], records[:2], strict=True):
        titles = [items[item].title for item in example.history[-2:]]
        for candidate, score in list(zip(example.candidates, record.scores, strict=True))[:3]:
            text = f"title: {items[candidate].title}\0\n"
            with_user = _likelihood(model, _prompt(titles), text)
            alone = _likelihood(model, _prompt([]), text)
            assert score == pytest.approx(with_user - alone, abs=1e-4)


def test_without_the_user_a_score_is_the_likelihood_alone(run: Path, model: Path) -> None:
    result = trec(run, *TEXT, "--no-user", "--model", model)
    assert result.exit_code == 0, result.output
    items = read_items(RunFolder(run).items)
    [record, *_] = scored(run / "scores-none-text-zeroshot-no-user.jsonl")
    text = f"title: {items[record.candidates[0]].title}\0\n"
    assert record.scores[0] == pytest.approx(_likelihood(model, _prompt([]), text), abs=1e-4)
    assert all(score < 0 for score in record.scores)


def test_an_empty_history_makes_nothing_likelier(run: Path, model: Path) -> None:
    files = RunFolder(run)
    lines = [json.loads(line) for line in files.examples.read_text().splitlines()]
    for line in lines:
        line["history"] = []
    files.examples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = trec(run, *TEXT, "--model", model)
    assert result.exit_code == 0, result.output
    for record in scored(run / "scores-none-text-zeroshot.jsonl"):
        assert record.scores == pytest.approx([0.0] * len(record.scores), abs=1e-4)


def test_a_part_of_the_questions_gets_the_same_scores(run: Path, model: Path) -> None:
    trec(run, *TEXT, "--model", model)
    whole = (run / "scores-none-text-zeroshot.jsonl").read_bytes().splitlines()
    part = run / "part.jsonl"
    result = trec(run, *TEXT, "--model", model, "--limit", 1, "--out", part)
    assert result.exit_code == 0, result.output
    first = [json.loads(line)["scores"] for line in (whole[0], part.read_bytes().splitlines()[0])]
    assert first[0] == pytest.approx(first[1], abs=1e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--chat-template"], "--chat-template does not go with --ask text"),
        (["--engine", "openai", "--base-url", "http://127.0.0.1:9/v1"], "--engine local alone"),
    ],
)
def test_what_does_not_go_with_it_is_wrong_usage(
    run: Path, model: Path, more: list[str], message: str
) -> None:
    result = trec(run, *TEXT, "--model", model, *more)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.output.split())


def test_old_scores_are_still_finished(run: Path, model: Path) -> None:
    answer = ("--mode", "none", "--zero-shot", "--model", model)
    trec(run, *answer)
    manifest = json.loads((run / "scores-none-zeroshot.jsonl.manifest.json").read_text())
    assert "ask" not in manifest["settings"]["prompt"]


def test_texts_without_the_user_are_kept_for_other_arms(run: Path, model: Path) -> None:
    def arm(recent: int, name: str, *more: object) -> bytes:
        options = ("--recent", recent, "--name", name, "--model", model, *more)
        result = trec(run, *TEXT, *options)
        assert result.exit_code == 0, result.output
        told.append("found in the store" in result.output)
        return (run / f"scores-{name}.jsonl").read_bytes()

    told: list[bool] = []
    apart = run.parent / "apart.sqlite"
    first = arm(2, "first")
    again, other = arm(2, "again"), arm(1, "other")
    assert again == first
    assert other == arm(1, "alone", "--store", apart)
    arm(1, "smaller", "--max-tokens", 300, "--store", apart)  # other passes, other last digits
    assert told == [False, True, True, False, False]
