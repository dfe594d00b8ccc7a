"""Prompt trees packed into one row: a shared prefix is computed once, exactly.

The prompts of one user differ only in their last part::

    prefix ─┬─ branch 1            row:       p p p p a a b b b c
            ├─ branch 2            position:  0 1 2 3 4 5 4 5 6 4
            └─ branch 3            branch:    0 0 0 0 1 1 2 2 2 3

A branch sees its prefix and itself; its tokens have the positions that they would have in
a prompt of their own.  A causal LM then computes for every branch exactly what it would
compute for ``prefix + branch`` alone, with the prefix's work done once.  Trees of several
users stand one after another in the row and do not see each other.

Nothing here knows about recommendation: a tree is a prefix and its branches, as ids.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from trec_cli.core.errors import ModelError
from trec_cli.models.tree_attention import TREES, Part, carry

FULL, SLIDING = "full_attention", "sliding_attention"


class Tree(Protocol):
    """A prefix and its branches, as token ids."""

    @property
    def prefix(self) -> Sequence[int]:
        """Ids that all branches share."""

    @property
    def branches(self) -> Sequence[Sequence[int]]:
        """Ids of each branch."""


@dataclass(frozen=True)
class PackedTrees:
    """One row of trees; L tokens, of which the first ``cached`` are computed already.

    Attributes:
        input_ids: [1, L - cached].
        position_ids: [1, L - cached]; positions as in prompts of their own.
        ends: [branches]; where each branch's last token stands among ``input_ids``, trees
            and branches in order.
        tree: [L]; number of the tree a token belongs to.
        branch: [L]; 0 in a prefix, else the number of the branch within its tree, from 1.
        positions: [L].
        shapes: of each tree, tokens of its prefix and of all its branches.
        cached: how many tokens lie in the key-value cache.
    """

    input_ids: Tensor
    position_ids: Tensor
    ends: Tensor
    tree: Tensor
    branch: Tensor
    positions: Tensor
    shapes: Sequence[tuple[int, int]]
    cached: int = 0

    def inputs(self, model: Any) -> dict[str, Any]:
        """Give what ``model(**inputs, logits_to_keep=packed.ends)`` needs.

        The mask is one, or a dictionary of them where the model's layers differ in their
        windows.  It is dense (L x L) only where nothing better is known: a model that
        attends by trees gets their parts.

        Raises:
            ModelError: the model attends in a way that no mask can say.
        """
        device = model.device
        windows = attention_windows(model.config)
        masks = {kind: self._mask(model, window) for kind, window in windows.items()}
        return {
            "input_ids": to_device(self.input_ids, device),
            "position_ids": to_device(self.position_ids, device),
            "attention_mask": masks if len(masks) > 1 else next(iter(masks.values())),
            "use_cache": self.cached > 0,
        }

    def _mask(self, model: Any, window: int | None) -> Any:
        """Give the mask in the form that suits how the model attends."""
        way, device = model.config._attn_implementation, model.device
        longest = max(prefix + branches for prefix, branches in self.shapes)
        if way == TREES and not self.cached and (window is None or window >= longest):
            return carry(self.parts(device, model.dtype), torch.empty(0, device=device))
        return self.attention_mask(window, device, model.dtype)

    def parts(self, device: torch.device, dtype: torch.dtype) -> list[Part]:
        """Cut the row into prefixes, each causal, and branches, each tree's with a mask."""
        parts, start = [], 0
        branch = to_device(self.branch, device)
        for prefix, branches in self.shapes:
            middle, end = start + prefix, start + prefix + branches
            own = branch[middle:end]
            seen = torch.ones(branches, prefix + branches, dtype=torch.bool, device=device)
            seen[:, prefix:] = (own[:, None] == own).tril()
            parts += [
                Part(slice(start, middle), slice(start, middle), None),
                Part(slice(middle, end), slice(start, end), _additive(seen, dtype)),
            ]
            start = end
        return parts

    def attention_mask(
        self, window: int | None, device: torch.device, dtype: torch.dtype
    ) -> Tensor:
        """Build the additive mask [1, 1, L - cached, L]: 0 where seen, else the lowest value.

        Args:
            window: how many positions back a token sees, itself included; None sees all.
            device: where it is built.
            dtype: the model's; attention adds the mask to its scores.
        """
        place = torch.arange(len(self.tree), device=device)
        seen = self._rule(window, device)(place[self.cached :, None], place)
        return _additive(seen, dtype)

    def _rule(self, window: int | None, device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
        """Give the function that tells whether the token at a place sees that at another."""
        tree, branch, position = (
            to_device(values, device) for values in (self.tree, self.branch, self.positions)
        )

        def sees(query: Tensor, key: Tensor) -> Tensor:
            seen = (query >= key) & (tree[query] == tree[key])
            seen = seen & ((branch[key] == 0) | (branch[query] == branch[key]))
            return seen if window is None else seen & (position[query] - position[key] < window)

        return sees


def _additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[None, None]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy to the device, to CUDA from pinned memory without waiting for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def pack(trees: Sequence[Tree], *, cached: int = 0) -> PackedTrees:
    """Pack trees into one row, each prefix followed by its branches.

    Args:
        trees: at least one; no prefix or branch is empty.
        cached: how many tokens of the (one) tree's prefix a key-value cache holds.
    """
    ids: list[int] = []
    tree: list[int] = []
    branch: list[int] = []
    position: list[int] = []
    ends: list[int] = []
    for number, (prefix, *branches) in enumerate([t.prefix, *t.branches] for t in trees):
        for place, tokens in enumerate([prefix, *branches]):
            start = len(prefix) if place else 0
            ids.extend(tokens)
            tree.extend([number] * len(tokens))
            branch.extend([place] * len(tokens))
            position.extend(range(start, start + len(tokens)))
            if place:
                ends.append(len(ids) - 1 - cached)
    positions = torch.tensor(position)
    return PackedTrees(
        input_ids=torch.tensor(ids[cached:])[None],
        position_ids=positions[None, cached:],
        ends=torch.tensor(ends),
        tree=torch.tensor(tree),
        branch=torch.tensor(branch),
        positions=positions,
        shapes=[(len(t.prefix), sum(map(len, t.branches))) for t in trees],
        cached=cached,
    )


def attention_windows(config: Any) -> dict[str, int | None]:
    """Tell which kinds of attention layers a model has, and the window of each.

    Raises:
        ModelError: a kind of layer that cannot be masked (recurrent, chunked, …).
    """
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    window = getattr(text, "sliding_window", None)
    if not kinds:
        kinds = {FULL if window is None else SLIDING}
    if unknown := kinds - {FULL, SLIDING}:
        raise ModelError(f"layers of kind {', '.join(sorted(unknown))} cannot share a prefix")
    return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}
