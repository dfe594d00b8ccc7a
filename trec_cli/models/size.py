"""How large a model is, from its configuration alone: no weights are loaded."""

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from trec_cli.core.cost import ModelSize
from trec_cli.models.load import load_config
from trec_cli.models.source import ModelSource

_HALF_BYTES = 2


def model_size(source: ModelSource, *, weight_bytes: float = _HALF_BYTES) -> ModelSize:
    """Count the weights of a model built without memory (torch's meta device).

    Raises:
        ModelError: the configuration is not there.
    """
    config = load_config(source)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=source.trust_remote_code)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    apart = {id(part.weight): part.weight.numel() for part in (head, embedding) if part is not None}
    total = sum(parameter.numel() for parameter in model.parameters())
    return ModelSize(
        weights=total - sum(apart.values()),
        head=0 if head is None else head.weight.numel(),
        cache_bytes=_HALF_BYTES * _cached_values(config),
        weight_bytes=weight_bytes,
    )


def _cached_values(config: Any) -> int:
    """Return how many numbers the keys and values of one token are, over all layers."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    groups = getattr(text, "num_key_value_heads", None) or heads
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * text.num_hidden_layers * groups * size)
