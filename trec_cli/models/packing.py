"""Prompt trees packed into one row: a shared prefix is computed once, exactly.

The prompts of one user differ only in their last part::

    prefix ─┬─ branch 1            row:       p p p p a a b b b c
            ├─ branch 2            position:  0 1 2 3 4 5 4 5 6 4
            └─ branch 3            branch:    0 0 0 0 1 1 2 2 2 3

A branch sees its prefix and itself; its tokens have the positions that they would have in
a prompt of their own.  A causal LM then computes for every branch exactly what it would
compute for ``prefix + branch`` alone, with the prefix's work done once.  Trees of several
users stand one after another in the row and do not see each other.

A branch may leave the prefix before its end, and then sees no more of it than is before::

    p0 ─ p1 ─┬─ p2 ─ p3 ─┬─ branch 1   row:       p p p p a a b b
             └─ branch 2 └─            position:  0 1 2 3 4 5 2 3

One pass over a history thus answers a question after each of its items.

Nothing here knows about recommendation: a tree is a prefix and its branches, as ids.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
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


def attachments(tree: Tree) -> Sequence[int]:
    """Return how many tokens of the prefix each branch sees: ``tree.at``, else all of them."""
    return getattr(tree, "at", ()) or [len(tree.prefix)] * len(tree.branches)


def separate_prompts(tree: Tree) -> Iterator[list[int]]:
    """Yield the prompts of a tree, each written out by itself."""
    for branch, at in zip(tree.branches, attachments(tree), strict=True):
        yield [*tree.prefix[:at], *branch]


@dataclass(frozen=True)
class Run:
    """Branches that stand side by side in a row and leave the prefix at the same token."""

    at: int
    tokens: int


@dataclass(frozen=True)
class PackedTrees:
    """One row of trees; L tokens, of which the first ``cached`` are computed already.

    Attributes:
        input_ids: [1, L - cached].
        position_ids: [1, L - cached]; positions as in prompts of their own.
        ends: [branches]; index of each branch's last token among ``input_ids``, trees and
            branches in order.
        tree: [L]; number of the tree a token belongs to.
        branch: [L]; 0 in a prefix, else the number of the branch within its tree, from 1.
        positions: [L].
        reach: [L]; how many tokens of its tree's prefix a token may see.
        shapes: of each tree, tokens of its prefix and the runs of its branches.
        cached: how many tokens lie in the key-value cache.
    """

    input_ids: Tensor
    position_ids: Tensor
    ends: Tensor
    tree: Tensor
    branch: Tensor
    positions: Tensor
    reach: Tensor
    shapes: Sequence[tuple[int, Sequence[Run]]]
    cached: int = 0

    def inputs(self, model: Any) -> dict[str, Any]:
        """Return what ``model(**inputs, logits_to_keep=packed.ends)`` needs.

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
        """Build the mask in the form that suits how the model attends."""
        way, device = model.config._attn_implementation, model.device
        longest = max(prefix + sum(run.tokens for run in runs) for prefix, runs in self.shapes)
        if way == TREES and not self.cached and (window is None or window >= longest):
            return carry(self.parts(device, model.dtype), torch.empty(0, device=device))
        return self.attention_mask(window, device, model.dtype)

    def parts(self, device: torch.device, dtype: torch.dtype) -> list[Part]:
        """Cut the row into prefixes, each causal, and runs of branches, each with a mask."""
        parts, start = [], 0
        branch = to_device(self.branch, device)
        for prefix, runs in self.shapes:
            middle = start + prefix
            parts.append(Part(slice(start, middle), (slice(start, middle),), None))
            for run in runs:
                end = middle + run.tokens
                own = branch[middle:end]
                seen = torch.ones(run.tokens, run.at + run.tokens, dtype=torch.bool, device=device)
                seen[:, run.at :] = (own[:, None] == own).tril()
                keys = _joined(slice(start, start + run.at), slice(middle, end))
                parts.append(Part(slice(middle, end), keys, additive(seen, dtype)[None, None]))
                middle = end
            start = middle
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
        tree, branch, position, reach = (
            to_device(values, device)
            for values in (self.tree, self.branch, self.positions, self.reach)
        )
        index = torch.arange(len(tree), device=device)
        query = slice(self.cached, None)
        of_prefix = (branch == 0) & (position < reach[query, None])
        seen = of_prefix | (branch[query, None] == branch)
        seen &= (index[query, None] >= index) & (tree[query, None] == tree)
        if window is not None:
            seen &= position[query, None] - position < window
        return additive(seen, dtype)[None, None]


def _joined(prefix: slice, own: slice) -> tuple[slice, ...]:
    """Join two slices of a row where one follows the other: one needs no copy of its keys."""
    return (slice(prefix.start, own.stop),) if prefix.stop == own.start else (prefix, own)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """Write what may be seen as a mask to add to logits: 0, else the least number."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)


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
    numbers: dict[str, list[int]] = {"tree": [], "branch": [], "positions": [], "reach": []}
    ends: list[int] = []
    for number, tree in enumerate(trees):
        pieces = [(tree.prefix, 0, len(tree.prefix))]
        pieces += [(b, at, at) for b, at in zip(tree.branches, attachments(tree), strict=True)]
        for branch, (tokens, start, reach) in enumerate(pieces):
            ids.extend(tokens)
            numbers["tree"] += [number] * len(tokens)
            numbers["branch"] += [branch] * len(tokens)
            numbers["positions"] += range(start, start + len(tokens))
            numbers["reach"] += [reach] * len(tokens)
            if branch:
                ends.append(len(ids) - 1 - cached)
    tensors = {name: torch.tensor(values) for name, values in numbers.items()}
    return PackedTrees(
        input_ids=torch.tensor(ids[cached:])[None],
        position_ids=tensors["positions"][None, cached:],
        ends=torch.tensor(ends),
        shapes=[(len(tree.prefix), list(_runs(tree))) for tree in trees],
        cached=cached,
        **tensors,
    )


Prediction = tuple[int, int]
"""A place in a row of trees, and the token that should follow it."""


def branch_predictions(trees: Sequence[Tree]) -> Iterator[list[Prediction]]:
    """Yield, branch by branch, where each of its tokens is predicted in the packed row.

    The first follows the prefix, every other the one before it.
    """
    start = 0
    for tree in trees:
        end = start + len(tree.prefix)
        for branch, at in zip(tree.branches, attachments(tree), strict=True):
            places = [start + at - 1, *range(end, end + len(branch) - 1)]
            yield list(zip(places, branch, strict=True))
            end += len(branch)
        start = end


def _runs(tree: Tree) -> Iterator[Run]:
    """Yield the runs of a tree's branches, in order."""
    lengths = map(len, tree.branches)
    pairs = zip(attachments(tree), lengths, strict=True)
    for at, run in groupby(pairs, key=lambda pair: pair[0]):
        yield Run(at, sum(length for _, length in run))


def attention_windows(config: Any) -> dict[str, int | None]:
    """Return the kinds of attention layers of a model, and the window of each.

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
