"""Log-odds of yes for every branch of prompt trees, with the shared prefix computed once.

Three ways give the same numbers:

* *packed*: whole trees in one row, several users per forward pass;
* *cached*: the prefix's keys and values once, then its branches in chunks over them, so
  that memory is bounded whatever the number of candidates;
* *plain*: one prompt at a time, as everybody would write it: the reference, and the way
  for models for which the others are not exact.

Which one, measured on a 135M Llama with 2 CPU cores (seconds a user, 21 candidates of 30
tokens; a prefix of 300 / of 1,000 tokens): plain 12 / 37, packed 1.66 / 3.27, cached 1.53 /
3.23.  With few candidates and short prefixes packed is ahead (150 tokens and 5 candidates:
0.43 against 0.49), and company in the row changes nothing there; rows of 7,000 tokens are
slower.  So on the CPU rows and chunks stay short (:func:`row_limits`); a GPU, which wants
much work at once, gets ``max_tokens``.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import DynamicCache

from trec_cli.models.answers import AnswerTokens
from trec_cli.models.device import is_shortage, shortage_explained
from trec_cli.models.int8_linear import is_rounded
from trec_cli.models.packing import (
    PackedTrees,
    Tree,
    attachments,
    pack,
    separate_prompts,
    to_device,
)

_CPU_ROW, _CPU_CHUNK = 512, 1024
_ADVICE = "Give a smaller --max-tokens or --max-length."
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-6}
_LOW_PRECISION_TOLERANCE = 0.25

Columns = tuple[int, int]
"""Where yes and no stand among the logits."""


@dataclass(frozen=True)
class RowLimits:
    """Tokens of one forward pass.

    Attributes:
        row: of several trees together; a larger tree goes alone, over its cached prefix.
        chunk: of a chunk of branches over a cached prefix, the prefix included.
        branches: of the chunk's branches alone.
    """

    row: int
    chunk: int
    branches: int


def row_limits(device: torch.device, max_tokens: int) -> RowLimits:
    """Choose the limits for a device; none is over ``max_tokens``."""
    if device.type == "cpu":
        return RowLimits(min(_CPU_ROW, max_tokens), max_tokens, min(_CPU_CHUNK, max_tokens))
    return RowLimits(max_tokens, max_tokens, max_tokens)


def plan_rows(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Group trees into rows of at most ``limit`` tokens, a tree above it alone.

    The largest come first, so that a lack of memory shows at once; ties keep their order.

    Returns:
        Places in ``sizes``, row by row.
    """
    rows: list[list[int]] = []
    room = 0
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        if not rows or sizes[index] > room:
            rows.append([])
            room = limit
        rows[-1].append(index)
        room -= sizes[index]
    return rows


class _AnswerHead(nn.Module):
    """Two rows of an LM head, in float32: bfloat16 logits near 20 come in steps of 1/8."""

    def __init__(self, head: nn.Linear, answers: AnswerTokens) -> None:
        super().__init__()
        rows = [answers.yes, answers.no]
        self.weight = nn.Parameter(head.weight.detach()[rows].float(), requires_grad=False)
        self.bias = None
        if head.bias is not None:
            self.bias = nn.Parameter(head.bias.detach()[rows].float(), requires_grad=False)

    def forward(self, hidden: Tensor) -> Tensor:
        # The Trainer runs the model, validation too, under autocast, which would undo float32.
        with torch.autocast(hidden.device.type, enabled=False):
            return nn.functional.linear(hidden.float(), self.weight, self.bias)


@contextmanager
def answer_head(model: Any, answers: AnswerTokens) -> Iterator[Columns]:
    """Cut the LM head to two rows, yes and no, while the block runs.

    The model's own forward pass then scales, shifts and caps the two logits as it would
    all of them.  A head that is not a plain linear layer (LoRA on it, quantized, dealt out by
    FSDP) stays.

    Yields:
        The places of yes and no among the logits.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or isinstance(head.weight, DTensor):
        yield answers.yes, answers.no
        return
    model.set_output_embeddings(_AnswerHead(head, answers))
    try:
        yield 0, 1
    finally:
        model.set_output_embeddings(head)


def _without_gradients(model: Any) -> AbstractContextManager[object]:
    """Return the block in which nothing is kept for a backward pass.

    FSDP gathers weights into memory that the next training step writes again, which memory
    of the faster inference mode forbids.
    """
    dealt_out = isinstance(next(model.parameters()), DTensor)
    return torch.no_grad() if dealt_out else torch.inference_mode()


def _log_odds(logits: Tensor, columns: Columns) -> Tensor:
    """Logit of yes less logit of no, in float32: [branches]."""
    yes, no = columns
    return logits[..., yes].float() - logits[..., no].float()


def packed_log_odds(model: Any, trees: Sequence[Tree], columns: Columns) -> Tensor:
    """Score all branches of several trees in one forward pass: [branches], in order."""
    packed = pack(trees)
    keep = to_device(packed.ends, model.device)
    logits = model(**packed.inputs(model), logits_to_keep=keep).logits
    return _log_odds(logits[0], columns)


@dataclass(frozen=True)
class _Part:
    """A tree with some of its branches, each with the tokens of the prefix that it sees."""

    prefix: Sequence[int]
    branches: Sequence[Sequence[int]]
    at: Sequence[int]

    @classmethod
    def of(cls, tree: Tree, chosen: Sequence[int]) -> "_Part":
        """Take the branches with these indices."""
        at = attachments(tree)
        return cls(tree.prefix, [tree.branches[i] for i in chosen], [at[i] for i in chosen])


def cached_log_odds(
    model: Any, tree: Tree, columns: Columns, max_tokens: int, max_branch_tokens: int | None = None
) -> Tensor:
    """Score one tree's branches in chunks over the prefix's key-value cache: [branches].

    A chunk has as many branches as fit ``max_tokens`` together with the prefix (and
    ``max_branch_tokens`` alone), one at least.
    """
    room = min(max_tokens - len(tree.prefix), max_branch_tokens or max_tokens)
    over = OverCache(model, tree)
    found = (over.logits(packed, packed.ends) for _, packed in over.chunks(room))
    return torch.cat([_log_odds(logits, columns) for logits in found])


class OverCache:
    """A tree's branches over the key-value cache of its prefix."""

    def __init__(self, model: Any, tree: Tree) -> None:
        """Compute the prefix, and its logits where branches leave it."""
        self._model, self._tree = model, tree
        self._cache = {_cache_argument(model): DynamicCache()}
        prefix = to_device(torch.tensor([tree.prefix]), model.device)
        ends = sorted(set(attachments(tree)))
        keep = to_device(torch.tensor(ends) - 1, model.device)
        self._ends = {end: place for place, end in enumerate(ends)}
        self._logits = model(
            input_ids=prefix, use_cache=True, logits_to_keep=keep, **self._cache
        ).logits[0]

    def firsts(self, part: Tree) -> Tensor:
        """Return the logits of each branch's first token: [branches, vocabulary]."""
        found: Tensor = self._logits[[self._ends[end] for end in attachments(part)]]
        return found

    def chunks(self, room: int) -> Iterator[tuple[Tree, PackedTrees]]:
        """Yield runs of branches of at most ``room`` tokens, one branch at least."""
        for chosen in _chunks(list(map(len, self._tree.branches)), room):
            part = _Part.of(self._tree, chosen)
            yield part, pack([part], cached=len(self._tree.prefix))

    def logits(self, packed: PackedTrees, places: Tensor) -> Tensor:
        """Compute a chunk's logits at some places of its row: [places, vocabulary]."""
        keep = to_device(places, self._model.device)
        found = self._model(**packed.inputs(self._model), logits_to_keep=keep, **self._cache)
        for layers in self._cache.values():
            layers.crop(-packed.input_ids.shape[1])
        logits: Tensor = found.logits[0]
        return logits


def _chunks(lengths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Split branches, in order, into runs of at most ``room`` tokens (one branch at least)."""
    chunk: list[int] = []
    size = 0
    for index, length in enumerate(lengths):
        if chunk and size + length > room:
            yield chunk
            chunk, size = [], 0
        chunk.append(index)
        size += length
    yield chunk


def plain_log_odds(model: Any, tree: Tree, columns: Columns) -> Tensor:
    """Score one tree's branches as separate prompts, one at a time: [branches]."""
    keep = {"logits_to_keep": 1} if "logits_to_keep" in _arguments(model) else {}
    scores = []
    for prompt in separate_prompts(tree):
        ids = to_device(torch.tensor([prompt]), model.device)
        logits = model(input_ids=ids, use_cache=False, **keep).logits
        scores.append(_log_odds(logits[:, -1], columns))
    return torch.cat(scores)


def _arguments(model: Any) -> set[str]:
    inner = getattr(model, "get_base_model", lambda: model)()
    return set(inspect.signature(inner.forward).parameters)


def _cache_argument(model: Any) -> str:
    """Name the model's argument for the cache: transformers renamed it within version 5."""
    return "cache" if "cache" in _arguments(model) else "past_key_values"


@dataclass(frozen=True)
class Ways:
    """Two ways of scoring trees that share their prefix.

    Attributes:
        packed: several trees in one forward pass: [branches].
        cached: one tree in chunks over its prefix's cache: [branches].
    """

    packed: Callable[[Sequence[Tree]], Tensor]
    cached: Callable[[Tree], Tensor]


class TreeScorer(ABC):
    """Scores the branches of trees with one model, in the way that suits their size.

    Attributes:
        limits: tokens of a row and of a chunk; plan with ``plan_rows(sizes, limits.row)``.
        fallback: why the plain way is taken; empty where the shared prefix is exact.
        tell: is told where memory is too short for the limits, so that they are lowered.
    """

    what = "scores"

    def __init__(self, model: Any, max_tokens: int) -> None:
        """Score with ``model``, at most ``max_tokens`` (or one prompt) in a forward pass."""
        self._model = model
        self.limits = row_limits(model.device, max_tokens)
        self.fallback = ""
        self.tell: Callable[[str], None] = lambda _: None

    @abstractmethod
    def plain(self, tree: Tree) -> Tensor:
        """Score one tree's branches as separate prompts: [branches]."""

    @abstractmethod
    def ways(self) -> AbstractContextManager[Ways]:
        """Prepare the model for the ways that share the prefix, while the block runs."""

    def tolerance(self, trees: Sequence[Tree]) -> float:  # noqa: ARG002 - texts ask how long
        """Return how far the ways may differ on these trees."""
        return _TOLERANCE[self._model.dtype] if self.is_exact else _LOW_PRECISION_TOLERANCE

    @cached_property
    def is_exact(self) -> bool:
        """Whether the ways differ by no more than the order of float32 sums."""
        return self._model.dtype in _TOLERANCE and not is_rounded(self._model)

    @torch.inference_mode()
    def check(self, trees: Sequence[Tree]) -> None:
        """Compare every way with the plain one on a few trees; set ``fallback`` if they differ.

        Two branches of each tree, the first and the last, are enough to see a wrong mask,
        position or head; one tree should be as long as they come, to reach beyond a sliding
        window.
        """
        few = [_Part.of(tree, sorted({0, len(tree.branches) - 1})) for tree in trees]
        with shortage_explained("checking the way of scoring", _ADVICE):
            self._check(few)

    def _check(self, few: Sequence[_Part]) -> None:
        plain = torch.cat([self.plain(tree) for tree in few])
        try:
            with self.ways() as ways:
                packed = ways.packed(few)
                cached = torch.cat([ways.cached(tree) for tree in few])
        except Exception as error:  # a model may refuse a mask in any way it likes
            if is_shortage(error):
                raise
            self.fallback = f"this model cannot share a prefix: {str(error).splitlines()[0]}"
            return
        worst = max(float((way - plain).abs().max()) for way in (packed, cached))
        tolerance = self.tolerance(few)
        if not worst <= tolerance:  # NaN too
            self.fallback = (
                f"with a shared prefix this model's {self.what} differ by {worst:.2g} "
                f"(tolerance {tolerance})"
            )

    def __call__(self, trees: Sequence[Tree]) -> list[list[float]]:
        """Score every tree's branches.

        Branches with the same tokens are computed once, so that they tie exactly.

        Raises:
            ModelError: there is not enough memory.
        """
        parts = [_distinct(tree) for tree in trees]
        with shortage_explained("scoring", _ADVICE), _without_gradients(self._model):
            scores = self._score([part for part, _ in parts])
        widths = [len(part.branches) for part, _ in parts]
        return [
            [values[index] for index in columns]
            for values, (_, columns) in zip(
                [part.tolist() for part in torch.split(scores, widths)], parts, strict=True
            )
        ]

    def _score(self, trees: Sequence[_Part]) -> Tensor:
        """Score trees with as much at once as memory allows."""
        while True:
            try:
                return self._at_once(trees)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error) or not self._lower_limits(trees):
                    raise

    def _lower_limits(self, trees: Sequence[_Part]) -> bool:
        """Have less computed at once from now on; return whether that is possible.

        First every tree goes alone over its cached prefix, then with half as many branches.
        """
        size = sum(map(_tokens, trees))
        branches = min(self.limits.branches, max(sum(map(len, t.branches)) for t in trees))
        longest = max(len(branch) for tree in trees for branch in tree.branches)
        if self.fallback or (size > self.limits.row and branches <= longest):
            return False
        self.tell("memory is short: less is computed at once; the scores stay the same")
        if size <= self.limits.row:
            self.limits = replace(self.limits, row=size - 1)
        else:
            self.limits = replace(self.limits, branches=max(longest, branches // 2))
        return True

    def _at_once(self, trees: Sequence[_Part]) -> Tensor:
        if self.fallback:
            return torch.cat([self.plain(tree) for tree in trees])
        with self.ways() as ways:
            if sum(map(_tokens, trees)) <= self.limits.row:
                return ways.packed(trees)
            return torch.cat([ways.cached(tree) for tree in trees])


class BranchScorer(TreeScorer):
    """Scores branches by the log-odds of yes at their ends."""

    what = "log-odds"

    def __init__(self, model: Any, answers: AnswerTokens, max_tokens: int) -> None:
        """Score with ``model``; see :class:`TreeScorer`."""
        super().__init__(model, max_tokens)
        self._answers = answers

    def plain(self, tree: Tree) -> Tensor:
        """Score one tree's branches as separate prompts: [branches]."""
        return plain_log_odds(self._model, tree, (self._answers.yes, self._answers.no))

    @contextmanager
    def ways(self) -> Iterator[Ways]:
        """Cut the model's head to the two answers, while the block runs."""
        model, limits = self._model, self.limits
        with answer_head(model, self._answers) as columns:
            yield Ways(
                lambda trees: packed_log_odds(model, trees, columns),
                lambda tree: cached_log_odds(model, tree, columns, limits.chunk, limits.branches),
            )


def _tokens(tree: _Part) -> int:
    return len(tree.prefix) + sum(map(len, tree.branches))


def _distinct(tree: Tree) -> tuple[_Part, list[int]]:
    """Return the tree with each different branch once, and the index of each branch there."""
    first: dict[tuple[int, tuple[int, ...]], int] = {}
    kept: list[int] = []
    order = []
    for index, (at, branch) in enumerate(zip(attachments(tree), tree.branches, strict=True)):
        key = (at, tuple(branch))
        if key not in first:
            first[key] = len(kept)
            kept.append(index)
        order.append(first[key])
    return _Part.of(tree, kept), order
