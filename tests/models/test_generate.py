"""The batched decoder against transformers' own greedy generation, row by row."""

import inspect
from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

from samples.tiny_model import FAMILIES, VOCABULARY, build_model
from trec_cli.core.errors import ModelError
from trec_cli.models.chat import Frame, make_frame
from trec_cli.models.generate import (
    GreedyDecoder,
    _Row,
    common_prefix,
    plan_batches,
    stop_tokens,
)
from trec_cli.models.load import load_model
from trec_cli.models.source import Decoding, ModelSource
from trec_cli.models.tree_attention import TREES, Steps, carry, tree_attention, use_tree_attention

# The longest exceed the sliding window of 64 tokens that some families have.
LENGTHS = (5, 90, 33, 34, 12, 70, 1)
STOP = 1


def make_prompts(lengths: Sequence[int] = LENGTHS) -> list[list[int]]:
    draw = torch.Generator().manual_seed(3)
    return [torch.randint(4, VOCABULARY, (n,), generator=draw).tolist() for n in lengths]


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    stops: Collection[int] = (STOP,),
    max_tokens: int = 8192,
) -> list[list[int]]:
    decoder = GreedyDecoder(model, decoding, stops=stops, pad=2, max_tokens=max_tokens)
    return [a.ids for a in decoder.decode(prompts)]


def reference(model: Any, prompt: list[int], decoding: Decoding) -> list[int]:
    """Let transformers generate one row; the penalty sees the new tokens only."""
    rules = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        penalty = decoding.repetition_penalty
        rules.append(RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=len(prompt)))
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=decoding.max_new_tokens,
        logits_processor=rules,
        eos_token_id=None,
        pad_token_id=2,
    )
    ids: list[int] = output[0, len(prompt) :].tolist()
    return ids


def until(ids: list[int], stops: Collection[int]) -> list[int]:
    return next((ids[:place] for place, token in enumerate(ids) if token in stops), ids)


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_transformers_gives_row_by_row(
    family: str, penalty: float, at_once: int
) -> None:
    model, prompts = build_model(family), make_prompts()
    decoding = Decoding(24, penalty, no_repeat_ngram=0)
    model.generation_config.eos_token_id = None
    wanted = [reference(model, prompt, decoding) for prompt in prompts]
    # Stop tokens that some rows meet early and some late, so that places become free.
    stops = {wanted[0][3], wanted[2][11], wanted[5][17]}
    budget = at_once * (max(LENGTHS) + 24)
    given = decode(model, prompts, decoding, stops, budget)
    assert given == [until(ids, stops) for ids in wanted]


def passes(
    model: Any, prompts: Sequence[Sequence[int]], decoding: Decoding, stops: Collection[int]
) -> tuple[list[list[int]], int]:
    """Decode, and count the passes of the model."""
    count = 0
    forward = model.forward

    def counted(*given: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return forward(*given, **named)

    counted.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    model.forward = counted
    try:
        return decode(model, prompts, decoding, stops, 3 * (max(map(len, prompts)) + 40)), count
    finally:
        model.forward = forward


@pytest.mark.parametrize("penalty", [1.0, 1.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_guessing_gives_the_same_texts_in_fewer_passes(family: str, penalty: float) -> None:
    model, decoding = build_model(family), Decoding(40, penalty, no_repeat_ngram=0)
    model.generation_config.eos_token_id = None
    texts = [reference(model, prompt, decoding) for prompt in make_prompts()]
    # A prompt that holds the answer, so that a part of the guesses is right and a part is not.
    prompts = [[*text[:30], *prompt] for text, prompt in zip(texts, make_prompts(), strict=True)]
    wanted = [reference(model, prompt, decoding) for prompt in prompts]
    stops = {wanted[1][20], wanted[4][33]}
    plain, before = passes(model, prompts, decoding, stops)
    use_tree_attention(model)
    guessed, after = passes(model, prompts, decoding, stops)
    assert guessed == plain == [until(ids, stops) for ids in wanted]
    if model.config._attn_implementation == TREES:
        assert after < before


def test_the_next_tokens_of_several_texts_see_each_its_own_text() -> None:
    draws = torch.Generator().manual_seed(0)

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draws)

    # Two texts, one and three next tokens, 4 heads that share 2 keys; values of another size.
    key, value, query = made(2, 2, 9, 8), made(2, 2, 9, 6), made(1, 4, 4, 8)
    rows, places = torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 2])
    ends = torch.tensor([4, 6, 7, 8])  # the place of each token in its text
    own = torch.tensor([[4, 5, 6], [6, 7, 8]])[..., None]
    mask = torch.zeros(2, 1, 3, 9).masked_fill((torch.arange(9) > own)[:, None], -1e9)
    found, _ = tree_attention(None, query, key, value, carry(Steps(rows, places, mask), mask))
    assert found.shape == (1, 4, 4, 6)
    for token, (row, end) in enumerate(zip(rows, ends, strict=True)):
        for head in range(4):
            keys, values = (s[row, head // 2, : end + 1] for s in (key, value))
            weights = (query[0, head, token] @ keys.T / 8**0.5).softmax(dim=0)
            torch.testing.assert_close(found[0, token, head], weights @ values)


def test_what_follows_the_newest_pair_of_tokens_is_guessed() -> None:
    row = _Row(0)
    row.read([5, 6, 7, 8, 9, 5, 6])
    assert row.guess(3) == [7, 8, 9]
    assert row.guess(0) == []
    assert row.guess(9) == [7, 8, 9, 5, 6]
    row.read([4, 5, 6])  # the latest place counts, and a pair does not find itself
    assert row.guess(3) == [4, 5, 6]
    row.read([1])
    assert row.guess(3) == []


def test_guessing_ends_where_the_answer_may_be_no_longer() -> None:
    row = _Row(0)
    row.read([3, 3, 3])  # the pair (3, 3) is followed by 3
    assert row.guess(5) == [3]
    model = build_model("llama")
    use_tree_attention(model)
    for most in (1, 2, 3, 7):
        decoder = GreedyDecoder(model, Decoding(most, no_repeat_ngram=0), stops=(), pad=2)
        (answer,) = decoder.decode([[4, 5] * 9])
        assert (len(answer.ids), answer.steps, answer.stopped) == (most, most, False)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_that_all_prompts_begin_with_are_computed_once(family: str) -> None:
    model = build_model(family)
    [head] = make_prompts([70])  # reaches beyond the sliding window
    prompts = [head + prompt for prompt in make_prompts((3, 9, 1, 30, 4))]
    decoding = Decoding(9, 1.1, no_repeat_ngram=0)
    model.generation_config.eos_token_id = None
    wanted = [reference(model, prompt, decoding) for prompt in prompts]
    assert common_prefix(prompts) == head
    assert decode(model, prompts, decoding, stops=[], max_tokens=250) == wanted


def test_a_common_beginning_leaves_every_prompt_a_token_and_is_long_enough() -> None:
    head = list(range(20))
    assert common_prefix([head, [*head, 7, 8]]) == head[:19]
    assert common_prefix([[*head, 5], [*head, 7], [*head, 6]]) == head
    assert common_prefix([head]) == ()
    assert common_prefix([[*head[:9], 5, 6], [*head[:9], 7]]) == ()


def test_a_model_whose_attention_no_mask_can_say_answers_one_by_one() -> None:
    model, prompts = build_model("llama"), make_prompts()
    decoding = Decoding(max_new_tokens=5)
    wanted = decode(model, prompts, decoding)
    model.config.layer_types = ["chunked_attention"]
    decoder = GreedyDecoder(model, decoding, stops=[STOP], pad=2)
    assert "chunked_attention" in decoder.fallback
    del model.config.layer_types
    assert [answer.ids for answer in decoder.decode(prompts)] == wanted


def test_without_a_private_class_of_transformers_prompts_are_answered_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, prompts = build_model("llama", initializer_range=0.3), make_prompts()
    wanted = [
        answer.ids for answer in GreedyDecoder(model, Decoding(5), stops=(), pad=0).decode(prompts)
    ]
    monkeypatch.setattr("trec_cli.models.slots.DynamicLayer", None)
    decoder = GreedyDecoder(model, Decoding(5), stops=(), pad=0)
    assert "no layers of a cache" in decoder.fallback
    assert [answer.ids for answer in decoder.decode(prompts)] == wanted


def test_batching_and_order_do_not_change_a_text() -> None:
    model, prompts = build_model("llama"), make_prompts()
    decoding = Decoding(max_new_tokens=12)
    alone = [decode(model, [prompt], decoding)[0] for prompt in prompts]
    assert decode(model, prompts, decoding) == alone
    assert decode(model, prompts[::-1], decoding) == alone[::-1]


def test_the_limit_and_the_stop_are_told_apart() -> None:
    model, [prompt] = build_model("llama"), make_prompts([9])
    decoding = Decoding(6, 1.3, no_repeat_ngram=0)
    ids = reference(model, prompt, decoding)
    [limited] = GreedyDecoder(model, decoding, stops=[], pad=2).decode([prompt])
    assert (limited.ids, limited.stopped, limited.steps) == (ids, False, 6)
    place = ids.index(ids[3])
    [ended] = GreedyDecoder(model, decoding, stops=[ids[3]], pad=2).decode([prompt])
    assert (ended.ids, ended.stopped, ended.steps) == (ids[:place], True, place + 1)


def test_no_sequence_comes_twice_where_that_is_asked() -> None:
    model, prompts = build_model("llama"), make_prompts()
    decoding = Decoding(max_new_tokens=30, repetition_penalty=1.0, no_repeat_ngram=2)
    for ids in decode(model, prompts, decoding, stops=[]):
        pairs = list(pairwise(ids))
        assert len(set(pairs)) == len(pairs)


def test_the_penalty_leaves_the_prompts_own_words_alone() -> None:
    model, every_token = build_model("llama"), list(range(VOCABULARY))
    [[plain]] = decode(model, [every_token], Decoding(1, 1.0), stops=[])
    [[penalised]] = decode(model, [every_token], Decoding(1, 1e6), stops=[])
    assert plain == penalised


def test_a_model_that_computes_nan_is_an_error() -> None:
    model = build_model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="--dtype float32"):
        decode(model, make_prompts([3]), Decoding(2))


def test_running_out_of_memory_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("llama")
    decoder = GreedyDecoder(model, Decoding(2), stops=[STOP], pad=2)

    def fail(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(decoder, "model", SimpleWrapper(model, fail))
    with pytest.raises(ModelError, match="--max-tokens"):
        decoder.decode(make_prompts([3]))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_where_memory_is_short_fewer_texts_are_written_at_once_and_they_are_the_same(
    most: int,
) -> None:
    model, prompts, told = build_model("llama"), make_prompts(), list[str]()
    wanted = decode(model, prompts, Decoding(12))
    decoder = GreedyDecoder(model, Decoding(12), stops=[STOP], pad=2, tell=told.append)
    forward = decoder.forward

    def little(ids: torch.Tensor, cache: Any, **inputs: Any) -> torch.Tensor:
        if ids.shape[0] > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(ids, cache, **inputs)

    decoder.forward = little  # type: ignore[method-assign]
    assert [answer.ids for answer in decoder.decode(prompts)] == wanted
    assert told
    assert "memory is short" in told[0]
    told.clear()
    assert [answer.ids for answer in decoder.decode(prompts)] == wanted
    assert not told


class SimpleWrapper:
    """Calls ``forward`` instead of the model, and has its configuration."""

    def __init__(self, model: Any, forward: Callable[..., Any]) -> None:
        self.config, self._forward = model.config, forward
        self.device, self.dtype = model.device, model.dtype

    def __call__(self, **inputs: Any) -> Any:
        return self._forward(**inputs)


def test_stop_tokens_are_those_of_model_tokenizer_and_chat(
    tiny_model: Callable[..., Path],
) -> None:
    llm = load_model(ModelSource(str(tiny_model()), device="cpu"))
    frame = make_frame(llm.tokenizer)
    llm.model.generation_config.eos_token_id = [7, 9]
    assert stop_tokens(llm, frame) == {1, 7, 9}
    llm.tokenizer.eos_token = None
    assert stop_tokens(llm, frame) == {1, 7, 9}
    assert stop_tokens(llm, Frame((), (), chat=False)) == {7, 9}
    # A turn that is closed by ordinary words ends no answer.
    assert stop_tokens(llm, Frame((), (300,), chat=True)) == {7, 9}


def test_a_batch_is_four_times_what_runs_at_once_and_begins_with_the_longest() -> None:
    lengths = [3, 10, 4, 10, 9, 8, 2, 1, 7, 6]
    batches = plan_batches(lengths, max_new_tokens=2, max_tokens=24)
    assert batches == [[1, 3, 4, 5, 8, 9, 2, 0], [6, 7]]


def test_a_prompt_too_long_for_the_budget_runs_alone() -> None:
    assert plan_batches([50, 1, 2, 3, 4], max_new_tokens=2, max_tokens=10) == [[0, 4, 3, 2], [1]]
    assert plan_batches([], max_new_tokens=2, max_tokens=10) == []


@settings(max_examples=60)
@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 9), st.integers(60, 300))
def test_batches_hold_every_prompt_once(lengths: list[int], new: int, budget: int) -> None:
    batches = plan_batches(lengths, max_new_tokens=new, max_tokens=budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.integers(20, 120))
def test_no_more_tokens_are_held_than_the_budget_allows(lengths: list[int], budget: int) -> None:
    model, prompts = build_model("llama"), make_prompts(lengths)
    decoder = GreedyDecoder(model, Decoding(4), stops=[], pad=2, max_tokens=budget)
    widest = 0
    forward = decoder.forward

    def watch(ids: torch.Tensor, cache: Any, **inputs: Any) -> torch.Tensor:
        nonlocal widest
        logits = forward(ids, cache, **inputs)
        keys = cache.layers[0].keys
        widest = max(widest, keys.shape[0] * keys.shape[2])
        return logits

    decoder.forward = watch  # type: ignore[method-assign]
    decoder.decode(prompts)
    assert widest <= max(budget, max(lengths) + 4)
