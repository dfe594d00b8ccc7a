"""A key-value cache whose rows come and go: the memory of continuous batching.

A step computes one token of every row, or several of some, behind one another in one row.

A *slot* holds the keys and values of one running answer; a finished answer's slot is given
to the next prompt.  All slots begin with the tokens that all prompts share (the
instruction): these are computed once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache

try:
    from transformers.cache_utils import DynamicLayer
except ImportError:  # not part of its public interface
    DynamicLayer = None

from trec_cli.models.packing import additive, attention_windows
from trec_cli.models.tree_attention import TREES, Steps, carry

_Layer: Any = DynamicLayer or object


def available() -> bool:
    """Check that this version of transformers has layers of a cache to build on."""
    return DynamicLayer is not None


class _SlotLayer(_Layer):  # type: ignore[misc]
    """One layer of all slots; a row's next tokens go to the row's own end.

    Attributes:
        used: rows in use.
        rows, ends: where each token of the step goes: [tokens].
        width: tokens of the longest row, the step's included.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self._rows, self._capacity = rows, capacity
        self.rows = self.ends = torch.empty(0, dtype=torch.long)
        self.used = self.width = 0

    def load(self, row: int | slice, start: int, states: Sequence[Tensor]) -> None:
        """Write keys and values [heads, tokens, size] into a row (or several), from ``start``."""
        if not self.is_initialized:
            self.lazy_initialization(*states)
            # Zeros, not whatever lies in memory: a masked NaN would still be a NaN.
            self._buffers = [
                s.new_zeros(self._rows, len(s), self._capacity, s.shape[-1]) for s in states
            ]
        for buffer, new in zip(self._buffers, states, strict=True):
            buffer[row, :, start : start + new.shape[-2]] = new

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the step's tokens; give the keys and values of the rows in use."""
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[self.rows, :, self.ends] = states.transpose(1, 2).flatten(0, 1)
        self.keys, self.values = (b[: self.used, :, : self.width] for b in self._buffers)
        return self.keys, self.values

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first ``length`` tokens of a row over another."""
        for buffer in self._buffers:
            buffer[target, :, :length] = buffer[source, :, :length]


class Slots:
    """Slots of one model; those in use are the first ones.

    Attributes:
        cache: what the model gets.
        shared: tokens that all slots begin with.
        lengths: tokens in each slot in use.
        takes_several: whether a step may have several tokens of a slot.
    """

    def __init__(
        self, model: Any, rows: int, capacity: int, shared: DynamicCache | None = None
    ) -> None:
        """Make ``rows`` slots of ``capacity`` tokens, answers included.

        Args:
            model: whose layers they are for.
            rows: how many.
            capacity: tokens of the longest prompt and answer.
            shared: keys and values [1, heads, tokens, size] of what all prompts begin with.

        Raises:
            ModelError: the model attends in a way that no mask can say.
        """
        self._windows = attention_windows(model.config)
        self.takes_several = getattr(model.config, "_attn_implementation", None) == TREES
        self._device, self._dtype = model.device, model.dtype
        # Sliding layers, too, keep every token: the mask hides what is too far back.
        count = len(DynamicCache(config=model.config).layers)
        self._layers = [_SlotLayer(rows, capacity) for _ in range(count)]
        self.cache = Cache(layers=self._layers)
        self.shared = 0
        self.lengths: list[int] = []
        if shared is not None:
            self.shared = shared.get_seq_length()
            self._load(slice(None), 0, [(each.keys[0], each.values[0]) for each in shared.layers])

    def _load(self, row: int | slice, start: int, states: Sequence[tuple[Tensor, Tensor]]) -> None:
        for layer, own in zip(self._layers, states, strict=True):
            layer.load(row, start, own)

    def fill(self, slot: int, computed: DynamicCache, row: int, gap: int) -> None:
        """Write a freshly computed prompt into a slot: a free one, or the one after the last.

        Args:
            slot: its index.
            computed: cache with the shared tokens, padding on the left, the prompt's own.
            row: of the prompt in ``computed``.
            gap: how much padding it has.
        """
        start = self.shared + gap
        states = [(c.keys[row, :, start:], c.values[row, :, start:]) for c in computed.layers]
        self._load(slot, self.shared, states)
        length = computed.get_seq_length() - gap
        self.lengths[slot : slot + 1] = [length]

    def free(self, slot: int) -> None:
        """Free a slot; the last one in use moves to its place."""
        last = self.lengths.pop()
        if slot < len(self.lengths):
            for layer in self._layers:
                layer.copy(len(self.lengths), slot, last)
            self.lengths[slot] = last

    def step(self, counts: Sequence[int]) -> dict[str, Any]:
        """Make room for the next tokens of every slot; give the model's inputs beside them.

        The tokens are [slots, 1] where every slot has one, else [1, tokens], slot by slot.
        What of them is to stay is said to :meth:`keep`.
        """
        most, device = max(counts), self._device
        starts, each = torch.tensor(self.lengths), torch.tensor(counts)
        rows = torch.arange(len(counts)).repeat_interleave(each)
        places = torch.arange(len(rows)) - (each.cumsum(0) - each).repeat_interleave(each)
        ends = starts[rows] + places
        width = int(ends.max()) + 1
        rows, places, ends = rows.to(device), places.to(device), ends.to(device)
        for layer in self._layers:
            layer.rows, layer.ends = rows, ends
            layer.used, layer.width = len(counts), width
        own = (starts[:, None] + torch.arange(most)).to(device)[..., None]
        keys = torch.arange(width, device=device)
        masks = {
            kind: self._mask(keys <= own, own - keys, window)
            for kind, window in self._windows.items()
        }
        if most == 1:
            return {"position_ids": own[..., 0], "attention_mask": _one_or_all(masks)}
        carried = {kind: carry(Steps(rows, places, mask), mask) for kind, mask in masks.items()}
        return {"position_ids": ends[None], "attention_mask": _one_or_all(carried)}

    def _mask(self, seen: Tensor, distance: Tensor, window: int | None) -> Tensor:
        """Return the additive mask [slots, 1, tokens, keys]."""
        near = seen if window is None else seen & (distance < window)
        return additive(near, self._dtype)[:, None]

    def keep(self, counts: Sequence[int]) -> None:
        """Keep so many of the tokens that the step has written into each slot."""
        self.lengths = [length + n for length, n in zip(self.lengths, counts, strict=True)]

    def prompt_inputs(self, width: int, gaps: Sequence[int]) -> dict[str, Any]:
        """Return the model's inputs for prompts after the shared tokens, beside the tokens.

        Args:
            width: tokens of each row, padding on its left included.
            gaps: padding of each row.
        """
        padding = torch.tensor(gaps, device=self._device)[:, None]
        index = torch.arange(self.shared + width, device=self._device)
        # Of the padding the positions mean nothing, but some model may look them up.
        own = (index - padding).clamp(min=0)
        position = torch.where(index < self.shared, index, own)
        real = (index < self.shared) | (index >= self.shared + padding)
        query = slice(self.shared, None)
        seen = (index[query, None] >= index) & real[:, None, :]
        distance = position[:, query, None] - position[:, None, :]
        masks = {kind: self._mask(seen, distance, window) for kind, window in self._windows.items()}
        return {"position_ids": position[:, query], "attention_mask": _one_or_all(masks)}


def _one_or_all(masks: dict[str, Tensor]) -> Any:
    """Return the mask, or all of them by kind where layers differ in their windows."""
    return masks if len(masks) > 1 else next(iter(masks.values()))
