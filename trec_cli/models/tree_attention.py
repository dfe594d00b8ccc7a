"""Attention over packed trees without an L x L mask.

A dense mask makes attention compute every pair of tokens of a row.  Most are not needed:
a prefix is plain causal attention, for which there are fast kernels; only the branches
need a mask, of their own tokens by those of their tree.  The result is the same.

transformers lets a library add a way to compute attention; ours takes over from ``sdpa``
(:func:`use_tree_attention`) and is ``sdpa`` itself for all other inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

TREES = "trec_trees"
"""The name of this way among transformers' attention implementations."""


@dataclass(frozen=True)
class Part:
    """Some of a row's tokens and the tokens that they may see.

    Attributes:
        queries: where they stand in the row.
        keys: where the tokens stand that they may see, one or several stretches.
        mask: additive, [1, 1, queries, keys]; None where each sees those up to itself.
    """

    queries: slice
    keys: tuple[slice, ...]
    mask: Tensor | None


@dataclass(frozen=True)
class Steps:
    """The next tokens of several texts, one behind the other in a single row.

    Attributes:
        rows: to which text each token belongs: [tokens].
        places: which of its text's next tokens it is, from 0: [tokens].
        mask: additive, [texts, 1, most tokens of a text, keys].
    """

    rows: Tensor
    places: Tensor
    mask: Tensor


def carry(parts: Sequence[Part] | Steps, like: Tensor) -> Tensor:
    """Make a mask that carries parts or steps through a model to :func:`tree_attention`.

    It holds NaN: a model that computes with it, instead of handing it on, gives no wrong
    numbers but none, which the check at the start of every run sees.
    """
    mask: Any = like.new_full((1, 1, 1, 1), torch.nan)
    mask.parts = parts
    return mask  # type: ignore[no-any-return]


def tree_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **more: Any
) -> tuple[Tensor, None]:
    """Attend part by part where the mask carries parts, else as ``sdpa`` does.

    Args:
        module: the attention layer.
        query, key, value: [1, heads, tokens, size]; with steps keys and values are
            [texts, heads, keys, size].
        attention_mask: what the model was given, or made.
        more: scaling, dropout and the like.

    Returns:
        [1, tokens, heads, size], and no weights.
    """
    parts: Sequence[Part] | Steps | None = getattr(attention_mask, "parts", None)
    if isinstance(parts, Steps):
        return _steps(query, key, value, parts, more.get("scaling")), None
    if parts is None and _is_step(query, key, attention_mask):
        return _step(query, key, value, attention_mask, more.get("scaling")), None
    if parts is None:
        whole: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **more)[0]
        return whole, None
    done = [
        sdpa_attention_forward(
            module,
            query[:, :, part.queries],
            _stretches(key, part.keys),
            _stretches(value, part.keys),
            part.mask,
            **more,
        )[0]
        for part in parts
    ]
    return torch.cat(done, dim=1), None


def _stretches(states: Tensor, where: Sequence[slice]) -> Tensor:
    """Take stretches of tokens out of [1, heads, tokens, size]; a single one is a view."""
    taken = [states[:, :, stretch] for stretch in where]
    return taken[0] if len(taken) == 1 else torch.cat(taken, dim=2)


def _is_step(query: Tensor, key: Tensor, mask: Any) -> bool:
    """Return whether it is one new token per row, and heads that share keys and values."""
    return query.shape[2] == 1 and query.shape[1] > key.shape[1] and isinstance(mask, Tensor)


def _step(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: Any) -> Tensor:
    """Attend with one token per row: heads that share keys are read as tokens of one head.

    Their keys and values are then read once, not once per head.
    """
    rows, heads, _, size = query.shape
    together = query.reshape(rows, key.shape[1], -1, size)
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(together, key, value, mask, scale=scale).reshape(rows, 1, heads, size)


def _steps(query: Tensor, key: Tensor, value: Tensor, steps: Steps, scale: Any) -> Tensor:
    """Attend with the next tokens of several texts; heads that share keys as in :func:`_step`."""
    _, heads, _, size = query.shape
    texts, _, most, keys = steps.mask.shape
    groups = heads // key.shape[1]
    padded = query.new_zeros(texts, heads, most, size)
    padded[steps.rows, :, steps.places] = query[0].transpose(0, 1)
    together = padded.view(texts, key.shape[1], groups * most, size)
    mask = steps.mask[:, :, None].expand(-1, -1, groups, -1, -1).reshape(texts, 1, -1, keys)
    attend = torch.nn.functional.scaled_dot_product_attention
    found = attend(together, key, value, mask, scale=scale).view(texts, heads, most, -1)
    return found[steps.rows, :, steps.places][None]


def use_tree_attention(model: Any) -> None:
    """Let a model that attends by ``sdpa`` attend by parts where it is given parts."""
    if getattr(model.config, "_attn_implementation", None) == "sdpa":
        model.set_attn_implementation(TREES)


AttentionInterface.register(TREES, tree_attention)
AttentionMaskInterface.register(TREES, sdpa_mask)
