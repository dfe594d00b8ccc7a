"""Batched greedy decoding of a causal LM: many prompts at once, as little padding as can be.

``transformers`` can generate in batches too; what is added here is what makes thousands of
short answers cheap: the tokens that all prompts begin with are computed once; a finished
answer's place is taken by the next prompt at once (continuous batching); prompts begin by
length, so that those computed together need little padding; and the cache has room for the
answers, so that a step writes one token and does not copy all that came before.

A summary copies much of its prompt.  So where its last two tokens stand in prompt or answer,
the tokens after them are computed in the same step, and those that the model chooses itself
are kept (prompt lookup, Saxena 2023; speculative decoding, Leviathan et al. 2023, of a draft
that costs nothing).  The answer is the same, in fewer steps.
"""

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
)

from trec_cli.core.errors import ModelError
from trec_cli.models import slots
from trec_cli.models.chat import Frame
from trec_cli.models.device import is_shortage, shortage_explained
from trec_cli.models.load import LanguageModel
from trec_cli.models.packing import attention_windows
from trec_cli.models.source import Decoding

_LEAST_SHARED = 16
"""Fewer common tokens are not worth a pass of their own."""
_JOIN_SHARE = 8
"""On a GPU new prompts wait until one in this many places is free."""
_TURNS = 4
"""Prompts of one call, in multiples of what runs at once: what a kill can lose."""
_DRAFT = 3
"""Tokens that are guessed in a step; more are seldom all right and cost more."""
_CPU_PASS = 1024
"""Tokens of new prompts in one pass on the CPU: more do not fit its caches and are slower."""


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
    """Group prompts into what one call of :meth:`GreedyDecoder.decode` should get.

    Enough that places rarely stand empty, few enough that a killed run loses little.

    Args:
        lengths: tokens of each prompt.
        max_new_tokens: of an answer.
        max_tokens: tokens of all running answers together.

    Returns:
        Indices of each batch, longest prompts first (so that memory trouble shows at once);
        equal lengths keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        at_once = max(1, max_tokens // (lengths[order[start]] + max_new_tokens))
        batches.append(order[start : start + _TURNS * at_once])
        start += _TURNS * at_once
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


@dataclass
class _Row:
    """A running answer: which prompt, and its tokens so far.

    Attributes:
        known: prompt and answer, where tokens are guessed from them.
        after: where the latest text after each pair of tokens starts in ``known``.
        found: the same of the newest pair, but for itself; None where it is new.
    """

    prompt: int
    ids: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)
    after: dict[tuple[int, int], int] = field(default_factory=dict)
    found: int | None = None

    def read(self, tokens: Iterable[int]) -> None:
        """Read tokens of the prompt or the answer, to guess from them."""
        for token in tokens:
            self.known.append(token)
            if len(self.known) > 1:
                pair = self.known[-2], token
                self.found = self.after.get(pair)
                self.after[pair] = len(self.known)

    def guess(self, most: int) -> list[int]:
        """Guess the next tokens, ``most`` at most."""
        if self.found is None or most <= 0:
            return []
        return self.known[self.found : self.found + most]


class GreedyDecoder:
    """Greedy decoding of one model with fixed settings.

    Attributes:
        model, decoding, pad, max_tokens: as given.
        fallback: why prompts are answered one at a time; empty where they are not.
    """

    def __init__(
        self,
        model: Any,
        decoding: Decoding,
        *,
        stops: Collection[int],
        pad: int,
        max_tokens: int = 8192,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Prepare to decode.

        Args:
            model: in eval mode.
            decoding: how tokens are chosen.
            stops: tokens that end an answer.
            pad: any id to pad with.
            max_tokens: tokens of all running answers together, prompts included.
            tell: is told where memory is too short for so many.
        """
        self._tell = tell
        self.model, self.decoding, self.pad = model, decoding, pad
        self._stops, self.max_tokens = frozenset(stops), max_tokens
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._rules = _rules(decoding)
        self.fallback = _why_one_by_one(model.config)

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Sequence[int]]) -> list[Decoded]:
        """Answer all prompts; the order of the answers is that of the prompts.

        As many run at once as fit ``max_tokens`` (one at least); the longest begin.

        Raises:
            ModelError: the device has not enough memory, or the model computes NaN.
        """
        with shortage_explained("writing", "Lower --max-tokens."):
            if self.fallback:
                return [self._alone(prompt) for prompt in prompts]
            done: dict[int, Decoded] = {}
            while left := [index for index in range(len(prompts)) if index not in done]:
                found = self._finished([prompts[index] for index in left])
                done.update({left[index]: answer for index, answer in found.items()})
            return [done[index] for index in range(len(prompts))]

    def _finished(self, prompts: Sequence[Sequence[int]]) -> dict[int, Decoded]:
        """Answer prompts; where memory runs out, those that were finished by then."""
        run: _Run | None = None
        try:
            run = _Run(self, prompts)
            run.work()
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error) or not self._lower_limit(prompts):
                raise
        return run.done if run else {}

    def _lower_limit(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Have half as many answers run at once from now on; return whether that is possible."""
        most, capacity = self.most_at_once(prompts)
        if most == 1:
            return False
        self._tell("memory is short: fewer texts are written at once; they stay the same")
        self.max_tokens = capacity * (most // 2)
        return True

    def most_at_once(self, prompts: Sequence[Sequence[int]]) -> tuple[int, int]:
        """Return how many of these prompts run at once, and the tokens of the longest."""
        capacity = max(map(len, prompts)) + self.decoding.max_new_tokens
        return max(1, min(len(prompts), self.max_tokens // capacity)), capacity

    def forward(
        self, ids: torch.Tensor, cache: Any, *, last: int = 1, **inputs: Any
    ) -> torch.Tensor:
        """Run the model over ``ids`` [rows, tokens].

        The cache has two names, by the version of transformers.

        Returns:
            Logits of each row's ``last`` tokens: [rows * last, vocabulary].
        """
        wanted = {
            "input_ids": ids,
            "cache": cache,
            "past_key_values": cache,
            "use_cache": True,
            "logits_to_keep": last,
            **inputs,
        }
        given = {name: value for name, value in wanted.items() if name in self._accepted}
        logits: torch.Tensor = self.model(**given).logits[:, -last:].flatten(0, 1).float()
        return logits

    def choose(self, logits: torch.Tensor, answers: Sequence[list[int]]) -> list[int]:
        """Choose one token per row, given the answers so far.

        Raises:
            ModelError: the model computed NaN or infinity.
        """
        for rows, ids in _by_length(answers):
            if ids.shape[1]:
                logits[rows] = self._rules(ids.to(logits.device), logits[rows])
        best, tokens = torch.max(logits, dim=-1)
        if not bool(torch.isfinite(best).all()):
            raise ModelError("the model computed NaN or infinity; try --dtype float32")
        chosen: list[int] = tokens.tolist()
        return chosen

    def finished(self, row: "_Row") -> Decoded | None:
        """Return the answer if its last token ended it."""
        if row.ids[-1] in self._stops:
            return Decoded(row.ids[:-1], True, len(row.ids))
        if len(row.ids) == self.decoding.max_new_tokens:
            return Decoded(row.ids, False, len(row.ids))
        return None

    def _alone(self, prompt: Sequence[int]) -> Decoded:
        """Answer one prompt, with whatever cache its model has."""
        cache, row = DynamicCache(config=self.model.config), _Row(0)
        ids = torch.tensor([list(prompt)], device=self.model.device)
        while True:
            row.ids += self.choose(self.forward(ids, cache), [row.ids])
            if answer := self.finished(row):
                return answer
            ids = torch.tensor([row.ids[-1:]], device=self.model.device)


class _Run:
    """One call of :meth:`GreedyDecoder.decode`: who waits, who runs, who is done."""

    def __init__(self, decoder: GreedyDecoder, prompts: Sequence[Sequence[int]]) -> None:
        self._decoder, self._prompts = decoder, prompts
        self._model: Any = decoder.model
        order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
        self._waiting = deque(order)
        self._most, capacity = decoder.most_at_once(prompts)
        common = common_prefix(prompts)
        self._shared = self._compute(common) if common else None
        self._slots = slots.Slots(self._model, self._most, capacity, self._shared)
        self._guesses = self._slots.takes_several
        self._rows: list[_Row] = []
        self.done: dict[int, Decoded] = {}
        # A GPU computes many new prompts as fast as one; a CPU has nothing to wait for.
        self._on_cpu = self._model.device.type == "cpu"
        self._together = 1 if self._on_cpu else max(1, self._most // _JOIN_SHARE)

    def work(self) -> None:
        """Answer everything."""
        while self._waiting or self._rows:
            free = self._most - len(self._rows)
            if self._waiting and (free >= self._together or not self._rows):
                self._join(min(free, len(self._waiting)))
            if self._rows:
                self._step()

    def _compute(self, ids: Sequence[int]) -> DynamicCache:
        """Compute keys and values of what all prompts begin with."""
        cache = DynamicCache()
        self._decoder.forward(torch.tensor([list(ids)], device=self._model.device), cache)
        return cache

    def _join(self, count: int) -> None:
        """Compute the next ``count`` prompts in padded passes, and let them run."""
        indices = [self._waiting.popleft() for _ in range(count)]
        while indices:
            width = max(1, len(self._prompts[indices[0]]) - self._slots.shared)
            together = max(1, _CPU_PASS // width) if self._on_cpu else count
            self._begin(indices[:together])
            indices = indices[together:]
        self._settle()

    def _begin(self, indices: Sequence[int]) -> None:
        """Compute some prompts in one padded pass; each gets a slot and its first token."""
        count = len(indices)
        own = [self._prompts[index][self._slots.shared :] for index in indices]
        width = max(map(len, own))
        gaps = [width - len(ids) for ids in own]
        padded = [[self._decoder.pad] * gap + list(ids) for gap, ids in zip(gaps, own, strict=True)]
        cache = self._started(count)
        logits = self._decoder.forward(
            torch.tensor(padded, device=self._model.device),
            cache,
            **self._slots.prompt_inputs(width, gaps),
        )
        tokens = self._decoder.choose(logits, [[] for _ in indices])
        for row, (index, gap, token) in enumerate(zip(indices, gaps, tokens, strict=True)):
            self._slots.fill(len(self._rows), cache, row, gap)
            answer = _Row(index)
            if self._guesses:
                answer.read(self._prompts[index])
            self._rows.append(answer)
            self._take(answer, [token])

    def _started(self, rows: int) -> DynamicCache:
        """Make a cache that holds the shared tokens for ``rows`` prompts."""
        if self._shared is None:
            return DynamicCache()
        cache = DynamicCache()
        for number, layer in enumerate(self._shared.layers):
            keys, values = (s.expand(rows, -1, -1, -1) for s in (layer.keys, layer.values))
            cache.update(keys, values, number)
        return cache

    def _step(self) -> None:
        """Write the next token of every running answer, and those that were guessed right."""
        guesses = [self._guess(row) for row in self._rows]
        asked = [[row.ids[-1], *guess] for row, guess in zip(self._rows, guesses, strict=True)]
        counts = list(map(len, asked))
        several = max(counts) > 1
        ids = torch.tensor([list(chain(*asked))] if several else asked, device=self._model.device)
        logits = self._decoder.forward(
            ids,
            self._slots.cache,
            last=ids.shape[1],
            **self._slots.step(counts),
        )
        pairs = list(zip(self._rows, guesses, strict=True))
        answers = [row.ids + guess[:n] for row, guess in pairs for n in range(len(guess) + 1)]
        chosen = iter(self._decoder.choose(logits, answers))
        kept = []
        for row, guess in pairs:
            tokens = list(islice(chosen, len(guess) + 1))
            right = next((n for n, token in enumerate(guess) if token != tokens[n]), len(guess))
            kept.append(self._take(row, tokens[: right + 1]))
        self._slots.keep(kept)
        self._settle()

    def _guess(self, row: _Row) -> list[int]:
        left = self._decoder.decoding.max_new_tokens - len(row.ids) - 1
        return row.guess(min(_DRAFT, left)) if self._guesses else []

    def _take(self, row: _Row, tokens: Sequence[int]) -> int:
        """Add chosen tokens to an answer, up to its end; return how many."""
        for number, token in enumerate(tokens, start=1):
            row.ids.append(token)
            if self._decoder.finished(row):
                return number
        if self._guesses:
            row.read(tokens)
        return len(tokens)

    def _settle(self) -> None:
        """Take out the answers that are finished, from the last, so that indices stay valid."""
        for index in reversed(range(len(self._rows))):
            row = self._rows[index]
            answer = self._decoder.finished(row)
            if answer is None:
                continue
            self.done[row.prompt] = answer
            self._slots.free(index)
            final = self._rows.pop()
            if index < len(self._rows):
                self._rows[index] = final


def _why_one_by_one(config: Any) -> str:
    """Return why a model's prompts cannot be answered in batches; empty where they can."""
    if not slots.available():
        return "this version of transformers has no layers of a cache to build on"
    try:
        attention_windows(config)
    except ModelError as error:
        return str(error)
    return ""


def common_prefix(prompts: Sequence[Sequence[int]]) -> Sequence[int]:
    """Return the tokens with which all prompts begin, if there are enough to be worth sharing.

    At least one token of every prompt is left to it: its logits give the first token.
    """
    first, last = min(map(list, prompts)), max(map(list, prompts))
    most = min(map(len, prompts)) - 1
    # In the order of lists all prompts lie between these two, token by token.
    same = next((index for index in range(most) if first[index] != last[index]), most)
    return first[:same] if len(prompts) > 1 and same >= _LEAST_SHARED else ()


def _rules(decoding: Decoding) -> LogitsProcessorList:
    """Build the rules on repetition; they are shown the answer only, never the prompt."""
    rules = LogitsProcessorList()
    if decoding.repetition_penalty != 1:
        rules.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty))
    if decoding.no_repeat_ngram:
        rules.append(NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram))
    return rules


def _by_length(answers: Sequence[list[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Group answers of equal length: indices, and ids [indices, length]."""
    indices: dict[int, list[int]] = {}
    for index, ids in enumerate(answers):
        indices.setdefault(len(ids), []).append(index)
    for rows in indices.values():
        yield rows, torch.tensor([answers[row] for row in rows], dtype=torch.long)
