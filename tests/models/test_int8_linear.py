"""Linear layers in 8 bits: values by hand, and what a whole model makes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from samples.tiny_model import FAMILIES, VOCABULARY, build_model, write_model
from trec_cli.core.errors import UsageError
from trec_cli.models import int8_linear
from trec_cli.models.device import choose_device
from trec_cli.models.embedder import EmbedderSource
from trec_cli.models.generate import GreedyDecoder
from trec_cli.models.int8_linear import Int8Linear, _turned, round_linears
from trec_cli.models.load import load_model, speed_up
from trec_cli.models.source import Decoding, ModelSource


def a_layer(weights: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights), bias=bias is not None)
    layer.weight.data = torch.tensor(weights)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def test_values_are_rounded_to_127ths_of_the_largest_of_their_row() -> None:
    # three values cannot be turned
    layer = Int8Linear(a_layer([[1.27, 0.104, 0.0], [0.0, 0.0, 0.0]], bias=[0.0, 5.0]))
    # steps of .01: 127 and 10 of them; a row of zeros stays zero
    torch.testing.assert_close(layer.weight, torch.tensor([[1.27, 0.1, 0.0], [0.0, 0.0, 0.0]]))
    # the states in steps of .02: 127 and -25 (of -25.4)
    found = layer(torch.tensor([[2.54, -0.508, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[2.54 * 1.27 - 0.5 * 0.1, 5.0]]))


def test_a_row_comes_out_the_same_to_the_bit_whatever_is_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    layer, rows = Int8Linear(nn.Linear(32, 24, bias=False)), torch.randn(3, 7, 32)
    rows[1] *= 100
    together = layer(rows)
    alone = torch.stack([layer(row[None]) for row in rows.reshape(-1, 32)])
    assert torch.equal(together.reshape(-1, 24), alone.reshape(-1, 24))
    monkeypatch.setattr(int8_linear, "_ROWS", 4)
    assert torch.equal(layer(rows), together)


def test_turning_two_values_by_hand() -> None:
    # (5, 1) turned is (6, 4) / sqrt 2, so steps of 6 / sqrt 2 / 127: 127 and 84.7, rounded to 85
    layer = Int8Linear(a_layer([[5.0, 1.0]]))
    step = 6 / 127 / 2
    torch.testing.assert_close(layer.weight, torch.tensor([[212 * step, 42 * step]]))


@pytest.mark.parametrize("size", [1, 2, 7, 16, 24, 576])
def test_turning_is_orthogonal_and_its_own_inverse(size: int) -> None:
    draws = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, 5, size, generator=draws)
    torch.testing.assert_close(_turned(_turned(one)), one)
    torch.testing.assert_close(_turned(one) @ _turned(other).T, one @ other.T, rtol=1e-4, atol=1e-4)


def test_a_single_large_state_leaves_the_others_their_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    plain, rows = nn.Linear(64, 32, bias=False), torch.randn(20, 64)
    rows[:, 5] *= 100

    def off() -> float:
        with torch.inference_mode():
            return float((Int8Linear(plain)(rows) - plain(rows)).norm())

    turned = off()
    monkeypatch.setattr(int8_linear, "_TURNED", 1)
    assert turned < 0.6 * off()


def test_rounding_changes_little() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(576, 200)
    rows = torch.randn(50, 576)
    with torch.inference_mode():
        difference = Int8Linear(plain)(rows) - plain(rows)
        assert difference.norm() < 0.02 * plain(rows).norm()


def test_other_dtypes_stay_what_they_are() -> None:
    layer = Int8Linear(nn.Linear(16, 8, bias=False))
    assert layer(torch.ones(2, 16, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_what_is_no_number_is_not_hidden(odd: float) -> None:
    layer, rows = Int8Linear(nn.Linear(16, 8)), torch.ones(2, 16)
    rows[0, 3] = odd
    found = layer(rows)
    assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_of_a_model_but_the_head(family: str) -> None:
    model = build_model(family, initializer_range=0.3)
    ids = torch.randint(4, VOCABULARY, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = model(input_ids=ids).logits
        count = round_linears(model)
        rounded = model(input_ids=ids).logits
    assert count > 0
    assert type(model.get_output_embeddings()) is nn.Linear
    assert {type(m) for m in model.modules() if hasattr(m, "in_features")} == {
        nn.Linear,
        Int8Linear,
    }
    assert 0 < (rounded - plain).norm() < 0.2 * plain.norm()


def test_texts_do_not_depend_on_what_is_written_beside_them(tmp_path: Path) -> None:
    write_model(tmp_path)
    llm = load_model(ModelSource(str(tmp_path), device="cpu", dtype="int8"))
    assert llm.placement.precision == "int8"
    assert "int8 as asked" in llm.placement.reason
    speed_up(llm, head=True)
    assert isinstance(llm.model.get_output_embeddings(), Int8Linear)
    draws = torch.Generator().manual_seed(3)
    prompts = [torch.randint(4, 90, (n,), generator=draws).tolist() for n in (30, 4, 17)]

    def texts(asked: list[list[int]]) -> list[Any]:
        decoder = GreedyDecoder(llm.model, Decoding(12), stops=(), pad=2)
        return [answer.ids for answer in decoder.decode(asked)]

    assert texts(prompts) == [texts([prompt])[0] for prompt in prompts]


def test_it_is_for_the_cpu_and_the_reason_says_where_it_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match=r"--dtype int8 is for the CPU; leave it out on meta"):
        choose_device("meta", "int8")
    monkeypatch.setattr(int8_linear, "is_fast", lambda: False)
    assert choose_device("cpu", "int8").reason.endswith(
        "; slow here, as this processor has no VNNI"
    )
    monkeypatch.setattr(int8_linear, "is_fast", lambda: True)
    assert choose_device("cpu", "int8").reason.endswith("float32 outside of linear layers")


def test_vectors_are_made_in_float32() -> None:
    source = EmbedderSource("llm", ModelSource("any", dtype="int8"))
    assert source.model.dtype == "float32"
    assert EmbedderSource("llm", ModelSource("any", dtype="bfloat16")).model.dtype == "bfloat16"
