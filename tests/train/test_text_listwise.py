"""``--ask text --loss listwise``: texts against texts, less what the base says of them alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from samples.tiny_model import build_tokenizer
from tests.train.test_loss import with_adapter
from tests.train.test_text import builder
from tests.train.world import gradients, items, questions, write_run
from trec_cli.commands.app import app
from trec_cli.core.errors import UsageError
from trec_cli.models.likelihood import TextScorer
from trec_cli.models.load import load_adapted, load_model
from trec_cli.models.source import ModelSource
from trec_cli.prompts.learnt import load_settings
from trec_cli.prompts.questions import SummarizedExample
from trec_cli.prompts.recommend import PromptBuilder
from trec_cli.train.dataset import TrainingExamples
from trec_cli.train.loss import LabelledTree, Objective, make_targets
from trec_cli.train.plan import Draw
from trec_cli.train.settings import TargetsName
from trec_cli.train.trainer import collate, packed_loss, separate_loss
from trec_cli.train.untrained import TEMPERATURES, best_temperature

TinyModel = Callable[..., Path]
ALONE = {item: -3.0 - int(item[1:]) / 7 for item in items()}
TAU, SHARE = 5.0, 0.2
LISTS = Objective(None, "text_listwise", TAU, SHARE, ALONE)


Asked = tuple[list[str], list[str], list[str]]
"""History, right answers and wrong answers."""


def learnt(targets: TargetsName, positives: int = 1) -> tuple[list[LabelledTree], list[Asked]]:
    """Give trees of histories of 0 to 3 items, and what each asks."""
    asked = [SummarizedExample(q.example, "thing") for q in questions(8, positives=positives)]
    data = TrainingExamples(asked, builder(), negatives_per_positive=2, seed=0, targets=targets)
    draws = [Draw(0, index) for index in range(len(asked))]
    plain = [
        (question.example.history[: each.count], list(each.positives), list(each.negatives))
        for question, draw in zip(asked, draws, strict=True)
        for each in (data.every(draw) if targets == "all" else [data.last(draw)])
    ]
    return [data[draw] for draw in draws], plain


def trees(targets: TargetsName) -> list[LabelledTree]:
    return learnt(targets)[0]


def token_losses(model: Any, prompt: list[int], text: int) -> torch.Tensor:
    """Give the cross-entropy of a prompt's last ``text`` tokens, by transformers' own logits."""
    logits = model(input_ids=torch.tensor([prompt])).logits[0]
    losses = torch.nn.functional.cross_entropy(
        logits[:-1], torch.tensor(prompt[1:]), reduction="none"
    )
    return losses[-text:]


def written_out(model: Any, asked: list[Asked]) -> torch.Tensor:
    """Sum the losses of (history, right answers, wrong answers), each prompt by itself."""
    total = torch.zeros(())
    for history, right, wrong in asked:
        tree = builder().tree(history, "thing", [*right, *wrong])
        losses = [token_losses(model, [*tree.prefix, *b], len(b)) for b in tree.branches]
        scores = [
            (-each.sum() - ALONE[item]) / TAU
            for each, item in zip(losses, [*right, *wrong], strict=True)
        ]
        for place in range(len(right)):
            rivals = torch.stack([scores[place], *scores[len(right) :]])
            total = total - torch.log_softmax(rivals, 0)[0] + SHARE * losses[place].mean()
    return total


@pytest.mark.parametrize(("targets", "positives"), [("last", 1), ("last", 2), ("all", 1)])
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "opt"])
def test_loss_and_gradients_are_those_of_separate_prompts(
    family: str, targets: TargetsName, positives: int
) -> None:
    model = with_adapter(family)
    asked, plain = learnt(targets, positives)
    row = collate(asked, objective=LISTS)["row"]
    assert row.targets.total == sum(len(right) for _, right, _ in plain)
    found, ours = gradients(model, lambda: packed_loss(model, model, row, objective=LISTS))
    expected, theirs = gradients(model, lambda: written_out(model, plain))
    assert found == pytest.approx(expected, rel=1e-5)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() / gradient.norm() < 1e-4, name


@pytest.mark.parametrize("targets", ["last", "all"])
def test_the_way_without_packing_computes_the_same(targets: TargetsName) -> None:
    model = with_adapter("llama")
    row = collate(trees(targets), objective=LISTS)["row"]
    with torch.no_grad():
        packed = packed_loss(model, model, row, objective=LISTS)
        separate = separate_loss(model, model, row, objective=LISTS)
    assert float(packed) == pytest.approx(float(separate), rel=1e-5)


def test_a_line_break_before_a_candidate_is_no_token_of_its_text() -> None:
    tokenizer: Any = build_tokenizer(chat=False)
    for tree in trees("all"):
        targets = make_targets([tree], LISTS)
        for branch, item in enumerate(tree.items):
            tokens = targets.tokens[targets.branches == branch].tolist()
            assert tokenizer.decode(tokens) == f"title: {items()[item].title}\n"


def test_a_list_of_one_teaches_nothing_beside_its_text() -> None:
    [tree, *_] = trees("last")
    alone = LabelledTree(tree.tree, [True, True, True], items=tree.items)
    row = collate([alone], objective=LISTS)["row"]
    assert len(row.targets.lists) == 0
    assert row.targets.total == 3, "what rows are divided by does not depend on who shares one"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", train=24, valid=8)
    (folder / "prompts" / "recommend.txt").unlink()
    return folder


def trec(name: str, run: Path, *more: object) -> Result:
    own = [name, str(run), "--mode", "none", "--device", "cpu", "--ask", "text"]
    return CliRunner().invoke(app, [*own, *map(str, more)])


def train(run: Path, model: Path, *more: object) -> Result:
    learn = ["--loss", "listwise", "--targets", "all", "--recent", 5, "--users-per-step", 4]
    return trec("train", run, "--model", model, *learn, "--learning-rate", "0.01", *more)


def read_scores(file: Path) -> dict[str, dict[str, float]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {x["example_id"]: dict(zip(x["candidates"], x["scores"], strict=True)) for x in lines}


def test_what_is_learnt_is_scored_less_what_the_base_says(run: Path, tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    result = train(run, model, "--epochs", 4, "--negatives-per-positive", 2)
    assert result.exit_code == 0, result.output
    assert load_settings(run / "model-none-text").less == "base"
    result = trec("score", run, "--split", "valid")
    assert result.exit_code == 0, result.output
    found = read_scores(run / "scores-none-text-valid.jsonl")

    source = ModelSource(str(model), device="cpu")
    base, adapted = load_model(source), load_adapted(source, run / "model-none-text")
    made = PromptBuilder(base.tokenizer, items(), load_settings(run / "model-none-text").settings)
    for question in questions(8, "valid"):
        example = question.example
        asked, alone = (made.tree(h, "", example.candidates) for h in (example.history, []))
        with torch.no_grad():
            for place, item in enumerate(example.candidates):
                text = asked.branches[place]
                likely = token_losses(adapted.model, [*asked.prefix, *text], len(text))
                before = token_losses(base.model, [*alone.prefix, *text], len(text))
                expected = float(before.sum() - likely.sum())
                assert found[example.example_id][item] == pytest.approx(expected, abs=1e-3)


def test_it_learns_which_texts_are_right(run: Path, tiny_model: TinyModel) -> None:
    result = train(run, tiny_model("llama"), "--epochs", 20, "--negatives-per-positive", 3)
    assert result.exit_code == 0, result.output
    result = trec("score", run, "--split", "valid")
    assert result.exit_code == 0, result.output
    firsts = [
        max(row, key=lambda item: row[item])
        for row in read_scores(run / "scores-none-text-valid.jsonl").values()
    ]
    assert np.mean([int(item[1:]) < 30 for item in firsts]) > 0.8  # one of six candidates is good


def test_without_a_user_only_what_was_learnt_of_items_is_left(
    run: Path, tiny_model: TinyModel
) -> None:
    """Not null as for an untrained model: what is right for everybody counts."""
    assert train(run, tiny_model("llama"), "--epochs", 8).exit_code == 0
    assert trec("score", run, "--split", "valid", "--no-user").exit_code == 0
    rows = read_scores(run / "scores-none-text-no-user-valid.jsonl").values()
    good = [s for row in rows for item, s in row.items() if int(item[1:]) < 30]
    bad = [s for row in rows for item, s in row.items() if int(item[1:]) >= 30]
    assert np.mean(good) > np.mean(bad)


def test_the_base_is_asked_once_for_all_arms(run: Path, tiny_model: TinyModel) -> None:
    model = tiny_model("llama")
    first = train(run, model, "--epochs", 1)
    assert first.exit_code == 0
    weights = (run / "model-none-text" / "adapter_model.safetensors").read_bytes()
    again = train(run, model, "--epochs", 1, "--overwrite", "--out", run / "again")
    assert again.exit_code == 0  # with the store
    assert (run / "again" / "adapter_model.safetensors").read_bytes() == weights
    fresh = train(run, model, "--epochs", 1, "--store", run / "new.sqlite", "--out", run / "other")
    assert fresh.exit_code == 0
    assert (run / "other" / "adapter_model.safetensors").read_bytes() == weights


def test_a_preset_gives_way_to_what_the_adapter_was_trained_with(
    run: Path, tiny_model: TinyModel
) -> None:
    train(run, tiny_model())  # shows another number of titles than the preset
    scored = trec("score", run, "--preset", "text", "--split", "valid", "--dry-run")
    assert scored.exit_code == 0, scored.output
    assert "adapter" in scored.stderr
    refused = trec("score", run, "--preset", "text", "--split", "valid", "--recent", 7)
    assert refused.exit_code == 2, "what is typed must fit"


def test_full_weights_alone_could_not_be_scored(run: Path, tiny_model: TinyModel) -> None:
    result = train(run, tiny_model("llama"), "--merge")
    assert result.exit_code == 2
    assert "--merge does not go with --ask text --loss listwise" in " ".join(result.output.split())


def test_negatives_may_come_from_all_items(run: Path, tiny_model: TinyModel) -> None:
    result = train(run, tiny_model("llama"), "--epochs", 1, "--negatives-from", "catalogue")
    assert result.exit_code == 0, result.output


def test_a_given_temperature_needs_no_wrong_candidates(run: Path, tiny_model: TinyModel) -> None:
    lines = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    for line in lines:
        line["candidates"] = line["positives"]
    (run / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ["--epochs", 1, "--negatives-from", "catalogue"]
    refused = train(run, tiny_model("llama"), *asked)
    assert refused.exit_code == 2
    assert "no question has a wrong candidate" in " ".join(refused.output.split())
    assert train(run, tiny_model("llama"), *asked, "--temperature", 5).exit_code == 0


def test_an_example_without_negatives_is_named(run: Path, tiny_model: TinyModel) -> None:
    lines = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()]
    for line in lines:
        line["candidates"] = line["positives"]
    (run / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = train(run, tiny_model("llama"))
    assert result.exit_code == 3
    assert "its candidates hold no negative" in result.output


def test_the_temperature_is_where_a_softmax_is_right_as_often_as_it_says() -> None:
    """Of two candidates 8 nats apart the better is right 4 times of 5: 8 / tau = log 4."""
    scores = [np.array([8.0, 0.0])] * 5
    marks = [np.array([True, False])] * 4 + [np.array([False, True])]
    assert best_temperature(scores, marks) == pytest.approx(8 / np.log(4), rel=0.1)
    assert best_temperature(scores, marks[:1] * 5) == 1.0  # always right
    assert best_temperature(scores, marks[4:] * 5) == 64.0  # always wrong
    with pytest.raises(UsageError, match="no question has a wrong candidate"):
        best_temperature([np.array([30.0])] * 5, [np.array([True])] * 5)


def test_trees_of_all_targets_share_their_prefix_exactly() -> None:
    """Branches leave it at several tokens; trained prompt by prompt it would be slow."""
    scorer = TextScorer(with_adapter("llama"), 4096)
    scorer.check([each.tree for each in trees("all")])
    assert scorer.fallback == ""


def test_too_many_layers_are_refused_before_anything_is_asked(
    run: Path, tiny_model: TinyModel
) -> None:
    result = train(run, tiny_model("llama"), "--lora-layers", 2, "--dry-run")
    assert result.exit_code == 2
    assert "--lora-layers 2: the model has 2 layers" in " ".join(result.output.split())


def test_the_temperature_that_suits_the_untrained_model_is_taken_and_told(
    run: Path, tiny_model: TinyModel
) -> None:
    model = tiny_model("llama")
    assert train(run, model, "--epochs", 1).exit_code == 0
    manifest = json.loads((run / "model-none-text.manifest.json").read_text())
    assert manifest["settings"]["temperature"] is None
    found = manifest["temperature_used"]
    assert found in TEMPERATURES
    named = ["--temperature", found, "--out", run / "named"]
    assert train(run, model, "--epochs", 1, *named).exit_code == 0
    weights = [
        (run / name / "adapter_model.safetensors").read_bytes()
        for name in ("model-none-text", "named")
    ]
    assert weights[0] == weights[1]
