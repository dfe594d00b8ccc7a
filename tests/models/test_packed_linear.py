"""Packed linear layers compute what the plain ones do."""

from typing import Any

import pytest
import torch
from torch import nn

from samples.tiny_model import FAMILIES, VOCABULARY, build_model
from trec_cli.models import packed_linear
from trec_cli.models.generate import GreedyDecoder
from trec_cli.models.packed_linear import PackedLinear, pack_linears
from trec_cli.models.source import Decoding
from trec_cli.models.tree_attention import use_tree_attention

pytestmark = pytest.mark.skipif(
    not packed_linear.available(), reason="torch is built without oneDNN"
)


def some_ids() -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))


def packed_in(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, PackedLinear)]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_computes_the_same_with_packed_layers(family: str) -> None:
    model, ids = build_model(family, initializer_range=0.3), some_ids()
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        count = pack_linears(model, head=True)
        packed = model(input_ids=ids).logits
    assert count == len(packed_in(model)) > 0
    assert plain.std() > 0.1
    assert (packed - plain).abs().max() < 1e-4


def test_the_head_is_packed_where_that_is_asked() -> None:
    model = build_model("llama")
    head, layers = model.get_output_embeddings(), pack_linears(model)
    assert model.get_output_embeddings() is head
    assert layers == 7 * model.config.num_hidden_layers
    assert pack_linears(model, head=True) == 1
    assert isinstance(model.get_output_embeddings(), PackedLinear)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_gives_its_weights_back(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 40, bias=bias)
    packed = PackedLinear(layer)
    assert torch.equal(packed.weight, layer.weight)
    states = torch.linspace(-1, 1, 2 * 5 * 24).reshape(2, 5, 24)
    with torch.inference_mode():
        torch.testing.assert_close(packed(states), layer(states), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_are_the_same_with_packed_layers_and_heads_read_together(family: str) -> None:
    draws = torch.Generator().manual_seed(3)
    head = torch.randint(4, VOCABULARY, (30,), generator=draws).tolist()
    prompts = [head + ids[:n] for n, ids in zip((3, 40, 9), some_ids().tolist() * 2, strict=False)]

    def texts(model: Any) -> list[list[int]]:
        decoder = GreedyDecoder(model, Decoding(12), stops=(), pad=2)
        return [answer.ids for answer in decoder.decode(prompts)]

    model = build_model(family, initializer_range=0.3)
    wanted = texts(model)
    use_tree_attention(model)
    pack_linears(model, head=True)
    assert texts(model) == wanted


def test_new_prompts_come_in_passes_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("llama")
    prompts = [list(range(4, 4 + n)) for n in (30, 28, 27, 26, 25, 5)]
    decoder = GreedyDecoder(model, Decoding(6), stops=(), pad=2)
    wanted = [answer.ids for answer in decoder.decode(prompts)]
    widths: list[tuple[int, ...]] = []
    forward = GreedyDecoder.forward

    def seen(self: Any, ids: torch.Tensor, cache: Any, **inputs: Any) -> torch.Tensor:
        widths.append(tuple(ids.shape))
        return forward(self, ids, cache, **inputs)

    monkeypatch.setattr(GreedyDecoder, "forward", seen)
    monkeypatch.setattr("trec_cli.models.generate._CPU_PASS", 60)
    assert [answer.ids for answer in decoder.decode(prompts)] == wanted
    assert [shape for shape in widths if shape[1] > 1] == [(2, 30), (2, 27), (2, 25)]


def test_bfloat16_is_packed_where_the_processor_has_it_and_computes_the_same() -> None:
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    model, ids = build_model("llama", initializer_range=0.3).to(torch.bfloat16), some_ids()
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        count = 7 * model.config.num_hidden_layers + 1 if supported else 0
        assert pack_linears(model, head=True) == count
        packed = model(input_ids=ids).logits
    assert packed.dtype is torch.bfloat16
    assert (packed - plain).abs().max() < 0.05 * plain.abs().max()


def test_nothing_is_packed_in_float16() -> None:
    assert pack_linears(build_model("llama").to(torch.float16)) == 0


def test_nothing_is_packed_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pack_linears(build_model("llama")) == 0


def test_nothing_is_packed_where_a_product_comes_out_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = packed_linear._product
    monkeypatch.setattr(packed_linear, "_product", lambda *given: true(*given) + 0.1)
    assert pack_linears(build_model("llama", initializer_range=0.3)) == 0


@pytest.mark.parametrize("error", [TypeError, AttributeError, RuntimeError])
def test_nothing_is_packed_where_torch_has_changed_its_operators(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def changed(*_: Any) -> torch.Tensor:
        raise error("takes other arguments now")

    monkeypatch.setattr(packed_linear, "_pack", changed)
    assert pack_linears(build_model("llama")) == 0
