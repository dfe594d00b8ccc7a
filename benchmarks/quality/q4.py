"""Q4_1 blocks of a GGUF file to weights, with numpy alone."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 32
_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def dequantised(raw: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return weights [rows, columns] of Q4_1 rows: per 32 weights scale, minimum, 16 bytes."""
    rows = raw.shape[0]
    blocks = raw.reshape(-1, 4 + _BLOCK // 2)
    scale, least = blocks[:, :4].copy().view(np.float16).astype(np.float32).T
    nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    weights = nibbles.astype(np.float32) * scale[:, None] + least[:, None]
    found: NDArray[np.float32] = weights.reshape(rows, -1)
    return found


def permuted_back(
    name: str, weights: NDArray[np.float32], config: Mapping[str, Any]
) -> NDArray[np.float32]:
    """Undo GGUF's interleaving of the rotary halves of query and key weights."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    key = next((config[field] for part, field in heads.items() if part in name), None)
    if key is None:
        return weights
    size = weights.shape[0] // key // 2
    return weights.reshape(key, size, 2, -1).swapaxes(1, 2).reshape(weights.shape)


def llama_name(name: str) -> str | None:
    """Return the name of a GGUF tensor in transformers' Llama without head; None for others."""
    if name in ("token_embd.weight", "output_norm.weight"):
        return {"token_embd.weight": "model.embed_tokens.weight"}.get(name, "model.norm.weight")
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if found is None or found[2] not in _NAMES:
        return None
    return f"model.layers.{found[1]}.{_NAMES[found[2]]}.weight"
