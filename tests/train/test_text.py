"""``--ask text``: learning to continue a history, as plain next-token training has it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from typer.testing import CliRunner, Result

from samples.tiny_model import build_tokenizer
from tests.train.test_loss import with_adapter
from tests.train.world import gradients, items, language_model, questions, write_run
from trec_cli.commands.app import app
from trec_cli.models.likelihood import TextScorer
from trec_cli.prompts.learnt import load_settings
from trec_cli.prompts.questions import without_user
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.prompts.settings import PromptSettings
from trec_cli.train.callbacks import read_log
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.loss import LabelledTree, Objective, make_targets
from trec_cli.train.plan import Draw
from trec_cli.train.settings import TargetsName
from trec_cli.train.trainer import collate, packed_loss, separate_loss
from trec_cli.train.validation import TextValidator

TinyModel = Callable[..., Path]
TEXT = Objective(None, "text")


def builder(recent: int = 5) -> PromptBuilder:
    settings = PromptSettings(recent=recent, max_length=512, candidate_tokens=128, ask="text")
    return PromptBuilder(build_tokenizer(chat=False), items(), settings)


def trees(
    targets: TargetsName, positives: int = 1, recent: int = 5, told: int = 0
) -> list[LabelledTree]:
    """Give trees of histories of 0 to 3 items, of which summaries tell some."""
    asked = [replace(q, told=told) for q in questions(8, positives=positives)]
    data = TrainingExamples(
        asked,
        builder(recent),
        negatives_per_positive=0,
        seed=0,
        targets=targets,
        lists=False,
    )
    return [data[Draw(0, index)] for index in range(len(asked))]


def learnt(tree: LabelledTree) -> str:
    """Write out what a tree's targets are."""
    tokenizer: Any = build_tokenizer(chat=False)
    return str(tokenizer.decode(make_targets([tree], TEXT).tokens.tolist()))


def test_the_last_target_is_the_text_of_the_right_answer() -> None:
    asked = questions(8)
    for question, tree in zip(asked, trees("last"), strict=True):
        [right] = question.example.positives
        assert learnt(tree) == f"title: {items()[right].title}\n"
        assert tree.targets == 1


def test_all_targets_are_the_lines_of_the_history_and_the_right_answer() -> None:
    asked = questions(8)
    for question, tree in zip(asked, trees("all"), strict=True):
        lines = [*question.example.history, *question.example.positives]
        assert learnt(tree) == "".join(f"title: {items()[item].title}\n" for item in lines)
        assert tree.targets == len(lines)


def test_only_lines_that_are_shown_are_learnt() -> None:
    assert [tree.targets for tree in trees("all", recent=1)] == [1, 2, 2, 2, 1, 2, 2, 2]


def test_lines_that_the_summary_has_told_are_not_learnt() -> None:
    asked = questions(8)
    for recent, told in ((5, 1), (5, 2), (2, 1), (2, 2)):
        for question, tree in zip(asked, trees("all", recent=recent, told=told), strict=True):
            history = question.example.history
            lines = [*history[max(told, len(history) - recent) :], *question.example.positives]
            assert learnt(tree) == "".join(f"title: {items()[item].title}\n" for item in lines)
            assert tree.targets == len(lines)


@pytest.mark.parametrize("missing", [0, 3, 5, 8, 20])
@pytest.mark.parametrize("told", [0, 6])
def test_a_line_that_was_shortened_is_not_learnt(missing: int, told: int) -> None:
    """Whatever a prompt is short of, whole lines are learnt and counted."""
    history = [f"i{n}" for n in range(12)]
    mine = msgspec.structs.replace(questions(4)[3].example, history=history)
    question = replace(questions(4)[3], example=mine, told=told)
    whole = builder(recent=12).tree(history, question.summary, mine.positives)
    settings = PromptSettings(
        recent=12, max_length=len(whole.prefix) + 128 - missing, candidate_tokens=128, ask="text"
    )
    short = PromptBuilder(build_tokenizer(chat=False), items(), settings)
    data = TrainingExamples(
        [question], short, negatives_per_positive=0, seed=0, targets="all", lists=False
    )
    tree = data[Draw(0, 0)]
    lines = learnt(tree).splitlines()
    titles = [f"title: {items()[item].title}" for item in [*history, *mine.positives]]
    assert lines == titles[-len(lines) :]
    assert tree.targets == len(lines)
    cuts = tree.tree.cuts
    gone = cuts.recent_shortened + cuts.recent_dropped
    assert len(lines) == 12 - max(told, gone) + 1


def test_the_fewest_items_before_a_learnt_one_hold_for_lines_too() -> None:
    data = TrainingExamples(
        questions(8),
        builder(),
        negatives_per_positive=0,
        seed=0,
        targets="all",
        min_history=2,
        lists=False,
    )
    lengths = [len(question.example.history) for question in data.questions]
    assert [data[Draw(0, n)].targets for n in range(8)] == [max(0, k - 2) + 1 for k in lengths]


def test_every_right_answer_is_learnt_after_the_same_history_once() -> None:
    one, two = trees("all")[3], trees("all", positives=2)[3]
    assert two.targets == one.targets + 1
    assert sum(map(len, two.branches)) + len(two.prefix) == two.tree.size


def plain_huggingface_loss(model: Any, asked: list[LabelledTree]) -> torch.Tensor:
    """Sum transformers' own loss over texts written out, with what is no target masked."""
    total = torch.zeros(())
    for tree in asked:
        ids = torch.tensor([[*tree.prefix, *tree.branches[0]]])
        labels = ids.clone()
        labels[:, : tree.lines.start if tree.lines else len(tree.prefix)] = -100
        count = int((labels[:, 1:] != -100).sum())
        total = total + model(input_ids=ids, labels=labels).loss * count
    return total


@pytest.mark.parametrize("targets", ["last", "all"])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "opt"])
def test_loss_and_gradients_are_those_of_plain_next_token_training(
    family: str, targets: TargetsName
) -> None:
    model, asked = with_adapter(family), trees(targets)
    row = collate(asked, objective=TEXT)["row"]
    found, ours = gradients(model, lambda: packed_loss(model, model, row, objective=TEXT))
    expected, theirs = gradients(model, lambda: plain_huggingface_loss(model, asked))
    assert found == pytest.approx(expected, rel=1e-5)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() / gradient.norm() < 1e-5, name


@pytest.mark.parametrize("positives", [1, 2])
def test_the_way_without_packing_computes_the_same(positives: int) -> None:
    model = with_adapter("llama")
    row = collate(trees("all", positives), objective=TEXT)["row"]
    with torch.no_grad():
        packed = packed_loss(model, model, row, objective=TEXT)
        separate = separate_loss(model, model, row, objective=TEXT)
    assert float(packed) == pytest.approx(float(separate), rel=1e-5)


def test_validation_ranks_by_how_much_likelier_the_user_makes_a_text() -> None:
    model, asked = language_model(initializer_range=0.3).model, questions(6, "valid")
    scorer = TextScorer(model, 4096)
    found = TextValidator(asked, builder(), scorer)(model)
    hits, losses, tokens = 0.0, 0.0, 0
    for question in asked:
        tree, alone = question.tree(builder()), without_user(question).tree(builder())
        with torch.no_grad():
            likely, base = scorer.plain(tree), scorer.plain(alone)
        right = question.example.candidates.index(question.example.positives[0])
        lift = likely - base
        if bool((lift == 0).all()):  # without a history nothing is likelier
            hits += 1 / len(lift)
        else:
            hits += float(lift.argmax() == right)
        losses -= float(likely[right])
        tokens += len(tree.branches[right])
    assert found["loss"] == pytest.approx(losses / tokens, rel=1e-4)
    empty = [q for q in asked if not q.example.history]
    if not empty:
        assert found["recall@1"] == pytest.approx(hits / len(asked))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run")
    (folder / "prompts" / "recommend.txt").unlink()
    return folder


def trec(name: str, run: Path, *more: object) -> Result:
    own = [name, str(run), "--mode", "none", "--device", "cpu", "--ask", "text"]
    return CliRunner().invoke(app, [*own, *map(str, more)])


def test_an_adapter_of_texts_has_its_own_name_and_is_found(
    run: Path, tiny_model: TinyModel
) -> None:
    model = tiny_model("llama")
    options = ["--model", model, "--targets", "all", "--recent", 5, "--users-per-step", 4]
    result = trec("train", run, *options, "--epochs", 6, "--learning-rate", "0.01")
    assert result.exit_code == 0, result.output
    assert load_settings(run / "model-none-text").settings.ask == "text"
    assert f"trec score {run} --mode none --ask text" in " ".join(result.output.split())
    log = read_log(run / "model-none-text" / "training-log.jsonl")
    losses = [line["valid_loss"] for line in log if "valid_loss" in line]
    assert losses[-1] < losses[0]
    again = trec("train", run, *options, "--epochs", 6, "--learning-rate", "0.01")
    assert "nothing to do" in again.output
    result = trec("score", run, "--split", "valid")
    assert result.exit_code == 0, result.output
    [line, *_] = (run / "scores-none-text-valid.jsonl").read_text().splitlines()
    assert len(json.loads(line)["scores"]) == len(json.loads(line)["candidates"])


def test_a_loss_on_answers_does_not_go_with_texts(run: Path, tiny_model: TinyModel) -> None:
    result = trec("train", run, "--model", tiny_model("llama"), "--loss", "prompt")
    assert result.exit_code == 2
    assert "--loss prompt does not go with --ask text" in " ".join(result.output.split())


def test_an_example_without_negatives_can_be_learnt(run: Path, tiny_model: TinyModel) -> None:
    lines = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    for line in lines:
        line["candidates"] = line["positives"]
    (run / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = trec("train", run, "--model", tiny_model("llama"), "--epochs", 1)
    assert result.exit_code == 0, result.output
