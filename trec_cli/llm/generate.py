"""Batched greedy decoding of a causal LM: many prompts at once, as little padding as can be.

``transformers`` can generate in batches too; what is added here is what makes thousands of
short answers cheap: batches bounded in tokens and sorted by length (:func:`plan_batches`),
rows that leave the batch when they are finished, and a cache with room for the answer, so
that a step writes one token and does not copy all that came before.
"""

import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)
from transformers.cache_utils import DynamicLayer

from trec_cli.errors import ModelError
from trec_cli.llm.load import LanguageModel
from trec_cli.prompts.chat import Frame

_LEAVE_SHARE = 8
"""Finished rows leave once they are one in this many: each leaving copies the cache."""


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen: greedily, so that the same prompt gives the same text.

    Attributes:
        max_new_tokens: the longest answer, in tokens.
        repetition_penalty: divides the odds of tokens already in the answer (the prompt's
            words may be used freely); 1 is off.
        no_repeat_ngram: no sequence of so many tokens comes twice in an answer; 0 is off.
    """

    max_new_tokens: int = 64
    repetition_penalty: float = 1.1
    no_repeat_ngram: int = 0


@dataclass(frozen=True)
class Decoded:
    """The answer to one prompt.

    Attributes:
        ids: the new tokens, without the stop token.
        stopped: whether the model ended by itself; False where the limit ended it.
        steps: tokens computed, the stop token included.
    """

    ids: list[int]
    stopped: bool
    steps: int


def plan_batches(
    lengths: Sequence[int], *, max_new_tokens: int, max_tokens: int
) -> list[list[int]]:
    """Group prompts into batches whose padded size, answers included, is at most ``max_tokens``.

    Args:
        lengths: tokens of each prompt.

    Returns:
        Indices of each batch, longest prompts first (so that memory trouble shows at once);
        equal lengths keep their order.  A prompt that is too long alone is a batch alone.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    for index in order:
        # The first of a batch is its longest: every row is padded to it.
        width = lengths[batches[-1][0]] + max_new_tokens if batches else 0
        if batches and width * (len(batches[-1]) + 1) <= max_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def stop_tokens(llm: LanguageModel, frame: Frame) -> frozenset[int]:
    """Collect the tokens that end an answer: the model's, the tokenizer's, the chat's.

    A chat template closes a turn with a special token (``<|im_end|>``, ``<end_of_turn>``)
    that not every model lists among its end tokens.
    """
    configured = getattr(llm.model.generation_config, "eos_token_id", None)
    stops = set(configured if isinstance(configured, list | tuple) else [configured])
    stops.add(llm.tokenizer.eos_token_id)
    special = {*llm.tokenizer.all_special_ids, *llm.tokenizer.added_tokens_decoder}
    stops.update(token for token in frame.tail[:1] if token in special)
    return frozenset(token for token in stops if token is not None)


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers is untyped here
    """A full-attention cache layer with room for ``room`` more tokens than the prompt has."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._length = 0
        self._buffers = [self._allocate(key_states), self._allocate(value_states)]

    def _allocate(self, states: torch.Tensor) -> torch.Tensor:
        rows, heads, length, size = states.shape
        return states.new_empty(rows, heads, length + self._room, size)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self._length = self._length, self._length + key_states.shape[-2]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self._length] = states
        self._show()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._buffers = [buffer.index_select(0, indices) for buffer in self._buffers]
        self._show()

    def _show(self) -> None:
        self.keys, self.values = (buffer[:, :, : self._length] for buffer in self._buffers)


class GreedyDecoder:
    """Greedy decoding of one model with fixed settings."""

    def __init__(self, model: Any, decoding: Decoding, *, stops: Collection[int], pad: int) -> None:
        """Take a model in eval mode, the tokens that end an answer, and any id to pad with."""
        self._model, self._decoding, self._pad = model, decoding, pad
        self._device = next(model.parameters()).device
        self._stops = torch.tensor(sorted(stops), dtype=torch.long, device=self._device)
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._processors = _processors(decoding)

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Sequence[int]]) -> list[Decoded]:
        """Answer all prompts in one batch; the order of the answers is that of the prompts.

        Raises:
            ModelError: the device has not enough memory, or the model computes NaN.
        """
        with _explained():
            batch = _Batch(prompts, self._pad, self._device)
            cache = self._new_cache()
            inputs: torch.Tensor = batch.ids
            for _ in range(self._decoding.max_new_tokens):
                tokens = self._next(batch, inputs, cache)
                batch.append(tokens, torch.isin(tokens, self._stops))
                kept = batch.leave()
                if not len(batch):
                    break
                if kept is not None:
                    cache.batch_select_indices(kept)
                inputs = batch.last
            return batch.results()

    def _new_cache(self) -> Any:
        cache = DynamicCache(config=self._model.config)
        room = self._decoding.max_new_tokens
        cache.layers = [
            _RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers
        ]
        return cache

    def _next(self, batch: "_Batch", inputs: torch.Tensor, cache: Any) -> torch.Tensor:
        """Run the model over ``inputs`` [rows, new] and choose one token per row.

        The cache has two names, by the version of transformers.
        """
        wanted = {
            "input_ids": inputs,
            "attention_mask": batch.mask,
            "position_ids": batch.positions[:, -inputs.shape[1] :],
            "cache": cache,
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": 1,
        }
        given = {name: value for name, value in wanted.items() if name in self._accepted}
        output = self._model(**given)
        logits = self._processors(batch.answers, output.logits[:, -1].float())
        best, tokens = torch.max(logits, dim=-1)
        if not bool(torch.isfinite(best).all()):
            raise ModelError("the model computed NaN or infinity; try --dtype float32")
        return tokens


def _processors(decoding: Decoding) -> LogitsProcessorList:
    """Build the rules on repetition; they are shown the answer only, never the prompt."""
    rules = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        rules.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.no_repeat_ngram:
        rules.append(NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram))
    return rules


class _Batch:
    """Rows being decoded, left-padded, and the answers of those that have left.

    ``mask`` and ``positions`` are [rows, tokens so far + 1 being computed]; ``answers`` is
    [rows, new tokens]; ``rows`` says which prompt each row answers.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> None:
        width = max(map(len, prompts))
        gaps = [width - len(prompt) for prompt in prompts]
        padded = [[pad] * gap + list(p) for gap, p in zip(gaps, prompts, strict=True)]
        self.ids = torch.tensor(padded, dtype=torch.long, device=device)
        columns = torch.arange(width, device=device)
        gap_sizes = torch.tensor(gaps, device=device)[:, None]
        self.mask = (columns >= gap_sizes).long()
        self.positions = (columns - gap_sizes).clamp(min=0)
        self.answers = self.ids[:, :0]
        self._rows = list(range(len(prompts)))
        self._done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
        self._results: dict[int, Decoded] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def last(self) -> torch.Tensor:
        """The newest token of every row, [rows, 1]."""
        return self.answers[:, -1:]

    def append(self, tokens: torch.Tensor, stopped: torch.Tensor) -> None:
        """Add one token per row; a row that has ended keeps its result from that moment."""
        ending = (stopped & ~self._done).tolist()
        for place, ends in enumerate(ending):
            if ends:
                ids = self.answers[place].tolist()
                self._results[self._rows[place]] = Decoded(ids, True, len(ids) + 1)
        self._done |= stopped
        self.answers = torch.cat([self.answers, tokens[:, None]], dim=1)
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self), 1)], dim=1)
        self.positions = torch.cat([self.positions, self.positions[:, -1:] + 1], dim=1)

    def leave(self) -> torch.Tensor | None:
        """Let finished rows go once enough are finished; give the places that stay, or None."""
        finished = int(self._done.sum())
        if finished < len(self) and finished * _LEAVE_SHARE < len(self):
            return None
        kept = torch.nonzero(~self._done)[:, 0]
        self._rows = [self._rows[place] for place in kept.tolist()]
        self.answers, self.mask = self.answers[kept], self.mask[kept]
        self.positions, self._done = self.positions[kept], self._done[kept]
        return kept

    def results(self) -> list[Decoded]:
        """Give all answers in prompt order; rows still running met the limit."""
        for row, ids in zip(self._rows, self.answers.tolist(), strict=True):
            self._results.setdefault(row, Decoded(ids, False, len(ids)))
        return [self._results[row] for row in sorted(self._results)]


@contextmanager
def _explained() -> Iterator[None]:
    """Turn running out of memory into a sentence that says what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(f"not enough device memory; lower --max-tokens ({error})") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise ModelError(f"not enough memory; lower --max-tokens ({error})") from error
