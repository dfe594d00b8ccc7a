"""A key-value cache whose rows come and go: the memory of continuous batching.

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

_Layer: Any = DynamicLayer or object


def available() -> bool:
    """Check that this version of transformers has layers of a cache to build on."""
    return DynamicLayer is not None


class _SlotLayer(_Layer):  # type: ignore[misc]
    """One layer of all slots; a row's next token goes to the row's own end.

    Attributes:
        ends: [rows]; where each row's next token goes.
        width: tokens of the longest row, the next one included.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self._rows, self._capacity = rows, capacity
        self.ends, self.width = torch.empty(0, dtype=torch.long), 0

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
        """Write one token per row; give the keys and values of the rows in use."""
        rows = torch.arange(len(key_states), device=key_states.device)
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[rows, :, self.ends] = states[:, :, 0]
        self.keys, self.values = (b[: len(rows), :, : self.width] for b in self._buffers)
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

    def step(self) -> dict[str, Any]:
        """Make room for one token per slot; give the model's inputs beside the tokens."""
        ends = torch.tensor(self.lengths, device=self._device)
        width = max(self.lengths) + 1
        for layer in self._layers:
            layer.ends, layer.width = ends, width
        self.lengths = [length + 1 for length in self.lengths]
        keys = torch.arange(width, device=self._device)
        seen = keys <= ends[:, None]
        masks = {
            kind: additive(
                seen if window is None else seen & (ends[:, None] - keys < window), self._dtype
            )[:, None, None]
            for kind, window in self._windows.items()
        }
        return {"position_ids": ends[:, None], "attention_mask": _one_or_all(masks)}

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
        masks = {
            kind: additive(seen if window is None else seen & (distance < window), self._dtype)[
                :, None
            ]
            for kind, window in self._windows.items()
        }
        return {"position_ids": position[:, query], "attention_mask": _one_or_all(masks)}


def _one_or_all(masks: dict[str, Tensor]) -> Any:
    """Return the mask, or all of them by kind where layers differ in their windows."""
    return masks if len(masks) > 1 else next(iter(masks.values()))
