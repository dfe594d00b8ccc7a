"""A packed row's loss and gradients are those of separate prompts."""

from typing import Any

import pytest
import torch

from samples.tiny_model import build_model
from tests.train.world import YES_NO, gradients, random_trees
from trec_cli.prompts.recommend import PromptTree
from trec_cli.train.lora import add_adapter
from trec_cli.train.loss import LabelledTree, make_targets, summed_loss
from trec_cli.train.settings import LoraSettings, LossName, TrainSettings
from trec_cli.train.trainer import collate, packed_loss, separate_loss

FAMILIES = ["llama", "gpt_neox", "gemma3_text", "gemma2", "mistral", "qwen2", "opt"]


def with_adapter(family: str) -> Any:
    """Give a model with an adapter that does something: its B matrices are not zero."""
    settings = TrainSettings(lora=LoraSettings(dropout=0.0))
    model = add_adapter(build_model(family), settings)
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05, generator=generator)
    return model.eval()


def plain_huggingface_loss(model: Any, trees: list[LabelledTree], loss: LossName) -> torch.Tensor:
    """Sum transformers' own loss over separate examples, answer included in the input."""
    total = torch.zeros(())
    for tree in trees:
        for branch, label in zip(tree.branches, tree.labels, strict=True):
            answer = YES_NO.yes if label else YES_NO.no
            ids = torch.tensor([[*tree.prefix, *branch, answer]])
            labels = ids.clone()
            if loss == "answer":
                labels[:, :-1] = -100
            predicted = int((labels[:, 1:] != -100).sum())
            total = total + model(input_ids=ids, labels=labels).loss * predicted
    return total


@pytest.mark.parametrize("loss", ["answer", "prompt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_loss_and_lora_gradients_equal_those_of_separate_examples(
    family: str, loss: LossName
) -> None:
    model = with_adapter(family)
    trees = random_trees(seed=3, count=3)
    row = collate(trees, answers=YES_NO, loss=loss)["row"]
    found, ours = gradients(model, lambda: packed_loss(model, model, row))
    expected, theirs = gradients(model, lambda: plain_huggingface_loss(model, trees, loss))
    assert found == pytest.approx(expected, rel=1e-5)
    assert ours.keys() == theirs.keys()
    assert all("lora_" in name for name in ours)
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0, name
        difference = (ours[name] - gradient).norm() / gradient.norm()
        assert difference < 1e-5, name


@pytest.mark.parametrize("loss", ["answer", "prompt"])
def test_the_way_without_packing_computes_the_same(loss: LossName) -> None:
    model = with_adapter("llama")
    row = collate(random_trees(seed=4, count=2), answers=YES_NO, loss=loss)["row"]
    packed, ours = gradients(model, lambda: packed_loss(model, model, row))
    separate, theirs = gradients(
        model, lambda: separate_loss(model, model, row, answers=YES_NO, loss=loss)
    )
    assert packed == pytest.approx(separate, rel=1e-5)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() / gradient.norm() < 1e-5, name


def test_answer_targets_stand_at_the_ends_of_the_branches() -> None:
    trees = [
        LabelledTree(PromptTree([10, 11, 12], [[20, 21], [30]]), [True, False]),
        LabelledTree(PromptTree([13], [[40, 41]]), [False]),
    ]
    targets = make_targets(trees, YES_NO, "answer")
    # row: 10 11 12 | 20 21 | 30 || 13 | 40 41
    assert targets.places.tolist() == [4, 5, 8]
    assert targets.tokens.tolist() == [YES_NO.yes, YES_NO.no, YES_NO.no]
    assert targets.weights.tolist() == [1, 1, 1]


def test_prompt_targets_count_the_prefix_once_per_branch() -> None:
    tree = LabelledTree(PromptTree([10, 11, 12], [[20, 21], [30]]), [True, False])
    targets = make_targets([tree], YES_NO, "prompt")
    pairs = list(zip(targets.places.tolist(), targets.tokens.tolist(), strict=True))
    assert pairs == [(0, 11), (1, 12), (2, 20), (3, 21), (4, YES_NO.yes), (2, 30), (5, YES_NO.no)]
    assert targets.weights.tolist() == [2, 2, 1, 1, 1, 1, 1]
    # written out: 10 11 12 20 21 yes (5 predictions) and 10 11 12 30 no (4 predictions)
    assert targets.total == 9


def test_the_loss_is_the_weighted_sum_of_cross_entropies() -> None:
    tree = LabelledTree(PromptTree([1, 2], [[3]]), [True])
    targets = make_targets([tree], YES_NO, "answer")
    logits = torch.zeros(1, 512)
    assert summed_loss(logits, targets).item() == pytest.approx(6.2383, abs=1e-4)  # log 512
