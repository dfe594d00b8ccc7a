"""Sizes of models without their weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from trec_cli.models.size import model_size
from trec_cli.models.source import ModelSource


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
def test_linear_weights_are_counted_without_embedding_and_head(
    tiny_model: Callable[..., Path], family: str
) -> None:
    folder = tiny_model(family)
    model = AutoModelForCausalLM.from_pretrained(folder)
    outside = ("embed", "lm_head")
    inside = [p for n, p in model.named_parameters() if not any(part in n for part in outside)]
    size = model_size(ModelSource(str(folder)))
    assert size.weights == sum(weights.numel() for weights in inside)
    assert size.head == model.get_output_embeddings().weight.numel()
    # two numbers (key, value) of two bytes, for each layer and place in its heads
    config = model.config
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert size.cache_bytes == 2 * 2 * config.num_hidden_layers * groups * width
