"""Packing trees into a row: tokens, positions, ends, and who sees whom."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from samples.tiny_model import FAMILIES, build_model
from trec_cli.core.errors import ModelError
from trec_cli.models.packing import attention_windows, pack, separate_prompts
from trec_cli.models.tree_attention import carry, use_tree_attention


@dataclass
class Plain:
    """A tree of the smallest kind."""

    prefix: list[int]
    branches: list[list[int]]
    at: Sequence[int] = ()


TREE = Plain([1, 2, 3], [[10, 11], [20], [30, 31]])
PATH = Plain([1, 2, 3], [[10, 11], [20], [30, 31]], at=[3, 1, 1])
"""The second and the third branch leave the prefix after its first token."""
CPU = torch.device("cpu")


def visible(packed: Any, window: int | None = None) -> list[str]:
    """Draw the mask: a line per query, x where it sees."""
    mask = packed.attention_mask(window, CPU, torch.float32)[0, 0]
    return ["".join("x" if value == 0 else "." for value in row) for row in mask.tolist()]


def test_a_tree_is_laid_out_with_the_positions_of_separate_prompts() -> None:
    packed = pack([TREE])
    assert packed.input_ids.tolist() == [[1, 2, 3, 10, 11, 20, 30, 31]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 3, 3, 4]]
    assert packed.branch.tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert packed.ends.tolist() == [4, 5, 7]


def test_a_branch_sees_its_prefix_and_itself() -> None:
    assert visible(pack([TREE])) == [
        "x.......",
        "xx......",
        "xxx.....",
        "xxxx....",
        "xxxxx...",
        "xxx..x..",
        "xxx...x.",
        "xxx...xx",
    ]


def test_a_branch_that_leaves_the_prefix_early_goes_on_from_there() -> None:
    packed = pack([PATH])
    assert packed.input_ids.tolist() == [[1, 2, 3, 10, 11, 20, 30, 31]]
    assert packed.position_ids.tolist() == [[0, 1, 2, 3, 4, 1, 1, 2]]
    assert packed.ends.tolist() == [4, 5, 7]
    assert list(separate_prompts(PATH)) == [[1, 2, 3, 10, 11], [1, 20], [1, 30, 31]]


def test_a_branch_that_leaves_the_prefix_early_sees_no_more_of_it() -> None:
    assert visible(pack([PATH])) == [
        "x.......",
        "xx......",
        "xxx.....",
        "xxxx....",
        "xxxxx...",
        "x....x..",
        "x.....x.",
        "x.....xx",
    ]


def test_behind_a_cache_a_branch_that_leaves_early_sees_its_part_of_it() -> None:
    assert visible(pack([PATH], cached=3)) == visible(pack([PATH]))[3:]


def test_trees_of_several_users_do_not_see_each_other() -> None:
    packed = pack([Plain([1], [[2], [3]]), Plain([4, 5], [[6]])])
    assert packed.input_ids.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert packed.position_ids.tolist() == [[0, 1, 1, 0, 1, 2]]
    assert packed.ends.tolist() == [1, 2, 5]
    assert visible(packed) == ["x.....", "xx....", "x.x...", "...x..", "...xx.", "...xxx"]


def test_a_window_counts_positions_not_places_in_the_row() -> None:
    assert visible(pack([TREE]), window=2) == [
        "x.......",
        "xx......",
        ".xx.....",
        "..xx....",
        "...xx...",
        "..x..x..",
        "..x...x.",
        "......xx",
    ]


def test_behind_a_cache_only_the_branches_ask() -> None:
    packed = pack([TREE], cached=3)
    assert packed.input_ids.tolist() == [[10, 11, 20, 30, 31]]
    assert packed.position_ids.tolist() == [[3, 4, 3, 3, 4]]
    assert packed.ends.tolist() == [1, 2, 4]
    assert visible(packed) == visible(pack([TREE]))[3:]


def test_masks_have_the_models_precision() -> None:
    mask = pack([TREE]).attention_mask(None, CPU, torch.bfloat16)
    assert mask.dtype == torch.bfloat16
    assert mask.min() == torch.finfo(torch.bfloat16).min


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", {"full_attention": None}),
        ("mistral", {"sliding_attention": 64}),
        ("qwen2", {"full_attention": None}),
        ("gemma2", {"full_attention": None, "sliding_attention": 64}),
        ("gpt_neox", {"full_attention": None}),
        ("opt", {"full_attention": None}),
    ],
)
def test_windows_are_read_from_the_configuration(
    family: str, expected: dict[str, int | None]
) -> None:
    assert attention_windows(build_model(family).config) == expected


def test_gemma_3_gets_a_mask_for_each_kind_of_layer() -> None:
    model = build_model("gemma3_text", num_hidden_layers=6)
    inputs = pack([TREE]).inputs(model)
    assert set(inputs["attention_mask"]) == {"full_attention", "sliding_attention"}


def test_layers_that_no_mask_can_rule_are_refused() -> None:
    for kind in ("linear_attention", "chunked_attention"):
        config = AutoConfig.for_model("llama")
        config.layer_types = ["full_attention", kind]
        with pytest.raises(ModelError, match=kind):
            attention_windows(config)


def test_inputs_name_all_that_a_model_needs() -> None:
    model = SimpleNamespace(device=CPU, dtype=torch.float32, config=build_model("llama").config)
    inputs = pack([TREE]).inputs(model)
    assert set(inputs) == {"input_ids", "position_ids", "attention_mask", "use_cache"}
    assert inputs["attention_mask"].shape == (1, 1, 8, 8)
    assert inputs["use_cache"] is False


@pytest.mark.parametrize("first", [TREE, PATH])
def test_the_parts_of_a_row_say_the_same_as_the_dense_mask(first: Plain) -> None:
    packed = pack([first, Plain([4, 5], [[6], [7]], at=[2, 1])])
    whole = packed.attention_mask(None, CPU, torch.float32)[0, 0]
    covered = torch.full_like(whole, torch.finfo(torch.float32).min)
    for part in packed.parts(CPU, torch.float32):
        keys = torch.cat([torch.arange(12)[stretch] for stretch in part.keys])
        if part.mask is None:
            causal = torch.ones(len(keys), len(keys)).tril()
            seen = torch.where(causal == 1, 0.0, covered.min())
        else:
            seen = part.mask[0, 0]
        covered[part.queries.start : part.queries.stop, keys] = seen
    assert covered.equal(whole)


@pytest.mark.parametrize(
    ("window", "shape"), [(None, (1, 1, 1, 1)), (5, (1, 1, 1, 1)), (4, (1, 1, 8, 8))]
)
def test_parts_are_given_to_a_model_that_attends_by_trees_unless_a_window_is_narrower(
    window: int | None, shape: tuple[int, ...]
) -> None:
    tree = Plain([1, 2, 3], [[10, 11]])
    rest = Plain([7, 8], [[9]])
    model = build_model("mistral", sliding_window=window)
    use_tree_attention(model)
    assert pack([tree, rest]).inputs(model)["attention_mask"].shape == shape


def test_a_model_that_computes_with_the_carrier_computes_nan() -> None:
    mask = carry([], torch.empty(0))
    assert (torch.zeros(2, 2) + mask).isnan().all()


@pytest.mark.parametrize("by_trees", [True, False])
@pytest.mark.parametrize("at", [([], []), ([90, 90, 41], [12, 3]), ([1, 80, 2], [5, 5])])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_a_packed_row_are_those_of_separate_examples(
    family: str, at: tuple[list[int], list[int]], by_trees: bool
) -> None:
    torch.manual_seed(0)
    trees = [
        Plain(torch.randint(3, 512, (90,)).tolist(), torch.randint(3, 512, (3, 7)).tolist(), at[0]),
        Plain(torch.randint(3, 512, (12,)).tolist(), torch.randint(3, 512, (2, 4)).tolist(), at[1]),
    ]
    labels = torch.tensor([5, 6, 6, 6, 5])
    model = build_model(family, initializer_range=0.2)
    if by_trees:
        use_tree_attention(model)
    packed = pack(trees)
    logits = model(**packed.inputs(model), logits_to_keep=packed.ends).logits[0]
    torch.autograd.backward(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
    together = _take_gradients(model)
    prompts = [prompt for tree in trees for prompt in separate_prompts(tree)]
    for prompt, label in zip(prompts, labels, strict=True):
        last = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        torch.autograd.backward(torch.nn.functional.cross_entropy(last, label))
    separate = _take_gradients(model)
    assert together.keys() == separate.keys()
    for name, gradient in separate.items():
        # the floor is for gradients that are zero but for rounding, as of OPT's key biases
        tolerance = 1e-5 * float(gradient.norm()) + 1e-6
        assert float((together[name] - gradient).norm()) <= tolerance, name


def _take_gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_in_double_precision_a_packed_row_equals_separate_prompts_to_rounding(family: str) -> None:
    torch.manual_seed(1)
    at = [20, 100, 100, 57, 1]
    tree = Plain(torch.randint(3, 512, (100,)).tolist(), torch.randint(3, 512, (5, 6)).tolist(), at)
    model = build_model(family, initializer_range=0.2).double()
    use_tree_attention(model)
    packed = pack([tree])
    with torch.no_grad():
        together = model(**packed.inputs(model), logits_to_keep=packed.ends).logits[0]
        for row, prompt in zip(together, separate_prompts(tree), strict=True):
            alone = model(input_ids=torch.tensor([prompt])).logits[0, -1]
            # some families compute rotary angles or norms in float32 whatever the weights are
            assert float((row - alone).abs().max()) < 1e-6
