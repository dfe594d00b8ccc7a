"""A packed row's loss and gradients are those of separate prompts."""

from typing import Any

import pytest
import torch

from samples.tiny_model import build_model
from tests.train.world import YES_NO, gradients, random_trees
from trec_cli.models.packing import separate_prompts
from trec_cli.prompts.recommend import PromptTree
from trec_cli.train.lora import add_adapter
from trec_cli.train.loss import LabelledTree, Objective, make_targets, summed_loss
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


def path_tree() -> LabelledTree:
    """Give a tree of three targets, asked after 90, 30 and 1 tokens of one history."""
    draws = torch.Generator().manual_seed(8)

    def tokens(count: int) -> list[int]:
        return torch.randint(5, 500, (count,), generator=draws).tolist()

    at = (90, 90, 90, 30, 30, 1, 1)
    tree = PromptTree(tokens(90), [tokens(6 + place) for place in range(len(at))], at=at)
    return LabelledTree(tree, [True, True, False, True, False, True, False], [0, 0, 0, 1, 1, 2, 2])


def plain_huggingface_loss(model: Any, trees: list[LabelledTree], loss: LossName) -> torch.Tensor:
    """Sum transformers' own loss over separate examples, answer included in the input."""
    total = torch.zeros(())
    for tree in trees:
        for prompt, label in zip(separate_prompts(tree), tree.labels, strict=True):
            answer = YES_NO.yes if label else YES_NO.no
            ids = torch.tensor([[*prompt, answer]])
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
    trees = [*random_trees(seed=3, count=3), path_tree()]
    objective = Objective(YES_NO, loss)
    row = collate(trees, objective=objective)["row"]
    found, ours = gradients(model, lambda: packed_loss(model, model, row, objective=objective))
    expected, theirs = gradients(model, lambda: plain_huggingface_loss(model, trees, loss))
    assert found == pytest.approx(expected, rel=1e-5)
    assert ours.keys() == theirs.keys()
    assert all("lora_" in name for name in ours)
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0, name
        difference = (ours[name] - gradient).norm() / gradient.norm()
        assert difference < 1e-5, name


@pytest.mark.parametrize("loss", ["answer", "prompt", "listwise"])
def test_the_way_without_packing_computes_the_same(loss: LossName) -> None:
    model = with_adapter("llama")
    objective = Objective(YES_NO, loss, temperature=0.7, pointwise_weight=0.3)
    row = collate([*random_trees(seed=4, count=2), path_tree()], objective=objective)["row"]
    packed, ours = gradients(model, lambda: packed_loss(model, model, row, objective=objective))
    separate, theirs = gradients(
        model, lambda: separate_loss(model, model, row, objective=objective)
    )
    assert packed == pytest.approx(separate, rel=1e-5)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() / gradient.norm() < 1e-5, name


def test_answer_targets_stand_at_the_ends_of_the_branches() -> None:
    trees = [
        LabelledTree(PromptTree([10, 11, 12], [[20, 21], [30]]), [True, False]),
        LabelledTree(PromptTree([13], [[40, 41]]), [False]),
    ]
    targets = make_targets(trees, Objective(YES_NO))
    # row: 10 11 12 | 20 21 | 30 || 13 | 40 41
    assert targets.positions.tolist() == [4, 5, 8]
    assert targets.tokens.tolist() == [YES_NO.yes, YES_NO.no, YES_NO.no]
    assert targets.weights.tolist() == [1, 1, 1]


def test_prompt_targets_count_the_prefix_once_per_branch() -> None:
    tree = LabelledTree(PromptTree([10, 11, 12], [[20, 21], [30]]), [True, False])
    targets = make_targets([tree], Objective(YES_NO, "prompt"))
    pairs = list(zip(targets.positions.tolist(), targets.tokens.tolist(), strict=True))
    assert pairs == [(0, 11), (1, 12), (2, 20), (3, 21), (4, YES_NO.yes), (2, 30), (5, YES_NO.no)]
    assert targets.weights.tolist() == [2, 2, 1, 1, 1, 1, 1]
    # written out: 10 11 12 20 21 yes (5 predictions) and 10 11 12 30 no (4 predictions)
    assert targets.total == 9


def test_the_loss_is_the_weighted_sum_of_cross_entropies() -> None:
    tree = LabelledTree(PromptTree([1, 2], [[3]]), [True])
    targets = make_targets([tree], Objective(YES_NO))
    logits = torch.zeros(1, 512)
    found = summed_loss(logits, targets, Objective(YES_NO)).item()
    assert found == pytest.approx(6.2383, abs=1e-4)  # log 512


def test_prompt_targets_count_a_prefix_token_for_the_branches_behind_it() -> None:
    tree = LabelledTree(PromptTree([10, 11, 12], [[20], [30], [40]], at=(3, 2, 1)), [True] * 3)
    targets = make_targets([tree], Objective(YES_NO, "prompt"))
    # row: 10 11 12 | 20 | 30 | 40; written out: 10 11 12 20, 10 11 30, 10 40, each with its yes
    assert targets.positions.tolist() == [0, 1, 2, 3, 1, 4, 0, 5]
    assert targets.tokens.tolist() == [11, 12, 20, YES_NO.yes, 30, YES_NO.yes, 40, YES_NO.yes]
    assert targets.weights.tolist() == [2, 1, 1, 1, 1, 1, 1, 1]


def test_a_listwise_row_has_a_list_for_each_positive_of_its_target() -> None:
    objective = Objective(YES_NO, "listwise", pointwise_weight=0.5)
    single = LabelledTree(PromptTree([1, 2], [[3], [4]]), [False, True])
    targets = make_targets([path_tree(), single], objective)
    assert targets.lists.tolist() == [[0, 2], [1, 2], [3, 4], [5, 6], [8, 7]]
    assert targets.total == 5
    third, half = pytest.approx(1 / 3), 0.25
    assert targets.weights.tolist() == [third, third, third, half, half, half, half, half, half]


def test_the_listwise_loss_by_hand() -> None:
    """Log-odds 2, 0 and -1, the first right; at temperature 2 they are 1, 0 and -1/2."""
    tree = LabelledTree(PromptTree([1, 2], [[3], [4], [5]]), [True, False, False])
    logits = torch.zeros(3, 512)
    logits[:, YES_NO.yes] = torch.tensor([2.0, 0.0, -1.0])
    for temperature, expected in ((1.0, 0.169846), (2.0, 0.464369)):
        objective = Objective(YES_NO, "listwise", temperature=temperature)
        targets = make_targets([tree], objective)
        assert summed_loss(logits, targets, objective).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_listwise_loss_and_its_gradients_are_those_of_a_plain_computation(family: str) -> None:
    model = with_adapter(family)
    objective = Objective(YES_NO, "listwise", temperature=0.5, pointwise_weight=0.2)
    tree = path_tree()
    row = collate([tree], objective=objective)["row"]

    def plain() -> torch.Tensor:
        ends = [model(input_ids=torch.tensor([p])).logits[0, -1] for p in separate_prompts(tree)]
        odds = [end[YES_NO.yes] - end[YES_NO.no] for end in ends]
        answers = [
            -end.log_softmax(0)[YES_NO.yes if label else YES_NO.no]
            for end, label in zip(ends, tree.labels, strict=True)
        ]
        total = torch.zeros(())
        for question, positives in (([0, 1, 2], [0, 1]), ([3, 4], [3]), ([5, 6], [5])):
            for positive in positives:
                among = [positive, *(b for b in question if not tree.labels[b])]
                total = total - torch.stack([odds[b] / 0.5 for b in among]).log_softmax(0)[0]
                total = total + 0.2 * torch.stack([answers[b] for b in question]).mean()
        return total

    found, ours = gradients(model, lambda: packed_loss(model, model, row, objective=objective))
    expected, theirs = gradients(model, plain)
    assert found == pytest.approx(expected, rel=1e-5)
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() / gradient.norm() < 2e-5, name
