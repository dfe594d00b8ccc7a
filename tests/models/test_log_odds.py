"""Every way of scoring gives the numbers of one prompt at a time."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, set_seed

from samples.tiny_model import FAMILIES, SMALL, build_model
from trec_cli.core.errors import ModelError
from trec_cli.models.answers import AnswerTokens
from trec_cli.models.log_odds import (
    BranchScorer,
    answer_head,
    cached_log_odds,
    packed_log_odds,
    plain_log_odds,
    plan_rows,
)
from trec_cli.models.tree_attention import use_tree_attention

ANSWERS = AnswerTokens(40, 50, "Yes", "No")
WHOLE = (40, 50)


@dataclass
class Plain:
    """A tree of the smallest kind."""

    prefix: list[int]
    branches: list[list[int]]
    at: Sequence[int] = ()

    @property
    def size(self) -> int:
        return len(self.prefix) + sum(map(len, self.branches))


def tree(prefix: int, branches: list[int], seed: int = 0) -> Plain:
    draws = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, 512, (count,), generator=draws).tolist()

    return Plain(tokens(prefix), [tokens(length) for length in branches])


def loud(family: str, **more: Any) -> Any:
    """Build a model whose random weights are large enough to tell prompts apart."""
    return build_model(family, initializer_range=0.3, **more)


TREES = [tree(100, [9, 4, 30], 1), tree(5, [1], 2), tree(70, [3, 3, 3, 3, 3], 3)]
"""Prefixes shorter and longer than the sliding windows of 64 tokens."""

PATH = replace(tree(100, [9, 4, 4, 30], 4), at=[100, 80, 80, 3])
"""Branches that leave their prefix at several tokens."""


@pytest.mark.parametrize("by_trees", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_and_cached_scores_are_those_of_separate_prompts(
    family: str, by_trees: bool
) -> None:
    model = loud(family, num_hidden_layers=6) if family == "gemma3_text" else loud(family)
    with torch.inference_mode():
        plain = torch.cat([plain_log_odds(model, each, WHOLE) for each in [*TREES, PATH]])
        if by_trees:
            use_tree_attention(model)
        with answer_head(model, ANSWERS) as places:
            packed = packed_log_odds(model, [*TREES, PATH], places)
            cached = torch.cat([cached_log_odds(model, t, places, 110) for t in [*TREES, PATH]])
    assert plain.std() > 0.1
    assert (packed - plain).abs().max() < 1e-4
    assert (cached - plain).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text"])
def test_a_prefix_beyond_the_window_is_really_out_of_sight(family: str) -> None:
    """The test above would not see a missing window, were the window without effect."""
    narrow = loud(family, num_hidden_layers=6)
    wide = loud(family, num_hidden_layers=6, sliding_window=4096)
    scores = [plain_log_odds(model, TREES[0], WHOLE) for model in (narrow, wide)]
    assert (scores[0] - scores[1]).abs().max() > 1e-2


def test_the_head_keeps_caps_and_biases() -> None:
    set_seed(0)
    config = AutoConfig.for_model("phi", **SMALL, initializer_range=0.3)
    biased = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    biased.lm_head.bias.data.normal_()
    capped = loud("gemma2", final_logit_softcapping=0.5)
    for model in (biased, capped):
        scorer = BranchScorer(model, ANSWERS, 500)
        plain = plain_log_odds(model, TREES[0], WHOLE)
        assert scorer([TREES[0]])[0] == pytest.approx(plain.tolist(), abs=1e-4)


def test_the_head_is_put_back_even_after_an_error() -> None:
    model = loud("llama")
    head = model.get_output_embeddings()
    with pytest.raises(RuntimeError, match="stop"), answer_head(model, ANSWERS):
        raise RuntimeError("stop")
    assert model.get_output_embeddings() is head


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings:UserWarning")
def test_a_head_with_an_adapter_stays_whole() -> None:
    config = LoraConfig(target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    model = get_peft_model(loud("llama", tie_word_embeddings=False), config).eval()
    with answer_head(model, ANSWERS) as places:
        assert places == WHOLE
    scorer = BranchScorer(model, ANSWERS, 500)
    scorer.check(TREES)
    assert scorer.fallback == ""


LLAMA = loud("llama")
REFERENCE: dict[tuple[int, ...], float] = {}


def reference(prefix: list[int], branch: list[int]) -> float:
    key = (len(prefix), *branch)
    if key not in REFERENCE:
        REFERENCE[key] = plain_log_odds(LLAMA, Plain(prefix, [branch]), WHOLE).item()
    return REFERENCE[key]


@settings(max_examples=25)
@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 40), st.lists(st.integers(1, 12), min_size=1, max_size=6)),
        min_size=1,
        max_size=5,
    ),
    max_tokens=st.integers(1, 200),
    order=st.randoms(use_true_random=False),
)
def test_no_batch_order_or_number_of_candidates_changes_a_score(
    shapes: list[tuple[int, list[int]]], max_tokens: int, order: Any
) -> None:
    trees = [tree(prefix, branches) for prefix, branches in shapes]
    order.shuffle(trees)
    scorer = BranchScorer(LLAMA, ANSWERS, max_tokens)
    for row in plan_rows([each.size for each in trees], scorer.limits.row):
        chosen = [trees[place] for place in row]
        for each, scores in zip(chosen, scorer(chosen), strict=True):
            alone = [reference(each.prefix, branch) for branch in each.branches]
            assert scores == pytest.approx(alone, abs=1e-4)


def test_five_hundred_candidates_fit_a_small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tree(60, [5] * 500)
    seen: list[int] = []
    forward = LLAMA.model.forward

    def watch(*args: Any, **kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        seen.append(kwargs["input_ids"].shape[1] if mask is None else mask.shape[-1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(LLAMA.model, "forward", watch)
    scores = BranchScorer(LLAMA, ANSWERS, 100)([many])[0]
    monkeypatch.undo()
    assert max(seen) == 100
    assert len(seen) == 1 + 63  # the prefix, then 8 branches of 5 tokens at a time
    few = plain_log_odds(LLAMA, Plain(many.prefix, many.branches[::50]), WHOLE)
    assert scores[::50] == pytest.approx(few.tolist(), abs=1e-4)


def test_one_candidate_is_scored_even_if_its_prompt_exceeds_the_budget() -> None:
    one = tree(60, [5])
    scores = BranchScorer(LLAMA, ANSWERS, 10)([one])
    assert scores[0] == pytest.approx(plain_log_odds(LLAMA, one, WHOLE).tolist(), abs=1e-4)


def test_candidates_with_the_same_text_tie_exactly() -> None:
    one = tree(30, [5, 7])
    twice = Plain(one.prefix, [one.branches[0], one.branches[1], one.branches[0]])
    first, middle, last = BranchScorer(LLAMA, ANSWERS, 100)([twice])[0]
    assert first == last != middle


@pytest.mark.parametrize(
    ("sizes", "limit", "rows"),
    [
        ([], 10, []),
        ([3, 9, 4, 3], 10, [[1], [2, 0, 3]]),
        ([50, 2, 60, 2], 10, [[2], [0], [1, 3]]),
        ([5, 5, 5], 10, [[0, 1], [2]]),
    ],
)
def test_rows_hold_what_fits_the_largest_first(
    sizes: list[int], limit: int, rows: list[list[int]]
) -> None:
    assert plan_rows(sizes, limit) == rows


def test_the_same_text_after_another_part_of_the_prefix_is_another_question() -> None:
    scorer = BranchScorer(loud("llama"), ANSWERS, 4096)
    twice = Plain(PATH.prefix, [[7, 8]] * 4, at=[100, 20, 100, 20])
    first, second, third, fourth = scorer([twice])[0]
    assert first == third
    assert second == fourth
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_the_check_is_content_with_models_that_are_exact(family: str) -> None:
    scorer = BranchScorer(loud(family), ANSWERS, 100)
    scorer.check(TREES)
    assert scorer.fallback == ""


def test_a_model_that_ignores_positions_is_scored_plainly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = loud("llama")
    forward = model.forward

    @functools.wraps(forward)
    def deaf(*args: Any, position_ids: Any = None, logits_to_keep: Any = 0, **kwargs: Any) -> Any:
        return forward(*args, logits_to_keep=logits_to_keep, **kwargs)

    monkeypatch.setattr(model, "forward", deaf)
    scorer = BranchScorer(model, ANSWERS, 500)
    scorer.check(TREES)
    assert "log-odds differ by" in scorer.fallback
    plain = plain_log_odds(model, TREES[0], WHOLE)
    assert scorer([TREES[0]])[0] == pytest.approx(plain.tolist(), abs=1e-6)


def test_a_model_with_layers_of_another_kind_is_scored_plainly() -> None:
    model = loud("llama")
    model.config.layer_types = ["full_attention", "linear_attention"]
    scorer = BranchScorer(model, ANSWERS, 500)
    scorer.check(TREES)
    assert scorer.fallback == (
        "this model cannot share a prefix: layers of kind linear_attention cannot share a prefix"
    )
    assert len(scorer([TREES[0]])[0]) == 3


def answer_logits(model: Any) -> torch.Tensor:
    with torch.inference_mode(), answer_head(model, ANSWERS):
        logits: torch.Tensor = model(input_ids=torch.arange(3, 40)[None]).logits
    return logits


def test_answers_in_half_precision_are_finer_than_its_steps() -> None:
    """As bfloat16 logits, many candidates would tie by rounding."""
    model = loud("llama").bfloat16()
    scorer = BranchScorer(model, ANSWERS, 500)
    scorer.check(TREES)
    assert scorer.fallback == ""
    logits = answer_logits(model)
    assert (logits != logits.bfloat16()).any()


def test_autocast_leaves_the_answers_in_float32() -> None:
    """The Trainer runs a model under autocast on a GPU, and validation with it."""
    with torch.autocast("cpu", torch.bfloat16):
        logits = answer_logits(loud("llama"))
    assert (logits != logits.bfloat16()).any()


def test_a_lack_of_memory_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LLAMA.model, "forward", full)
    with pytest.raises(ModelError, match="smaller --max-tokens"):
        BranchScorer(LLAMA, ANSWERS, 500)([TREES[0]])


def test_a_lack_of_memory_on_the_cpu_says_what_to_do_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")

    monkeypatch.setattr(LLAMA.model, "forward", full)
    with pytest.raises(ModelError, match="not enough memory for scoring"):
        BranchScorer(LLAMA, ANSWERS, 500)([TREES[0]])


@pytest.mark.slow
def test_the_real_model_scores_packed_as_one_by_one(real_model: Any) -> None:
    from trec_cli.models.load import load_model
    from trec_cli.models.source import ModelSource

    llm = load_model(ModelSource(str(real_model)))
    scorer = BranchScorer(llm.model, ANSWERS, 4096)
    pair = [tree(80, [20, 30, 25], 5), tree(60, [10, 40], 6)]
    packed = scorer(pair)
    scorer.fallback = "compared"
    for fast, slow in zip(packed, scorer(pair), strict=True):
        assert fast == pytest.approx(slow, abs=1e-3)


def test_where_memory_is_short_less_is_computed_at_once_and_the_scores_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trees = [tree(60, [5] * 20, 4), tree(30, [7, 7], 5)]
    wanted = BranchScorer(LLAMA, ANSWERS, 500)(trees)
    forward = LLAMA.model.forward

    def little(*args: Any, **kwargs: Any) -> Any:
        if kwargs["input_ids"].shape[1] > 60:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    told: list[str] = []
    monkeypatch.setattr(LLAMA.model, "forward", little)
    scorer = BranchScorer(LLAMA, ANSWERS, 500)
    scorer.tell = told.append
    found = scorer(trees)
    assert [len(row) for row in found] == [20, 2]
    for row, expected in zip(found, wanted, strict=True):
        assert row == pytest.approx(expected, abs=1e-5)
    # Together they have 204 tokens; alone over its cached prefix the first still has 100.
    assert scorer.limits.row == 203
    assert scorer.limits.branches == 50
    assert len(told) == 2
    assert "memory is short" in told[0]
    assert scorer(trees) == found
    assert len(told) == 2
