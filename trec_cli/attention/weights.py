"""Attention weights of a query over the blocks of a history, and what they choose.

``a_j = exp(q·k_j / t) / sum_i exp(q·k_i / t)`` with a query *q* and keys *k* of length 1
(scaled dot-product attention, Vaswani et al. 2017, with a temperature *t* instead of
the square root of the size).  Cosines are rounded before anything is compared, so that
equal texts have equal weights whatever the order in which a machine adds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.blocks import Span
from trec_cli.models.vectors import Matrix, unit_rows

Weights = NDArray[np.float64]
"""Shape [keys], not negative, with sum 1 (or no keys)."""

_DECIMALS = 6
_ROUNDING = 1e-9
"""Lets a share that is a whole number be one, whatever the last bit of its weight."""


def block_keys(vectors: Matrix, spans: Sequence[Span], before: int | None = None) -> Matrix:
    """Return the key of every block: the mean of its items' vectors, scaled to length 1.

    Args:
        vectors: of the history, [items, size].
        spans: the blocks.
        before: leave out items from this index on; a block without any other has zeros.

    Returns:
        [blocks, size].
    """
    end = len(vectors) if before is None else before
    means = [vectors[start : min(stop, end)].sum(axis=0) for start, stop in spans]
    return unit_rows(np.array(means).reshape(-1, vectors.shape[1]))


def attention_weights(
    query: NDArray[np.float64], keys: Matrix, temperature: float, seen: Sequence[bool] | None = None
) -> Weights:
    """Return the weight of every key for one query.

    Args:
        query: [size].
        keys: [keys, size].
        temperature: small looks at the best key alone, large at all alike.
        seen: which keys count; the others get 0.  If none does, all do.
    """
    if not len(keys):
        return np.zeros(0)
    scores = np.round(keys @ query, _DECIMALS) / temperature
    mask = np.ones(len(keys), bool) if seen is None else np.asarray(seen, bool)
    if mask.any():
        scores = np.where(mask, scores, -np.inf)
    raised = np.exp(scores - scores.max())
    weights: Weights = raised / raised.sum()
    return weights


def recent_weights(
    vectors: Matrix,
    spans: Sequence[Span],
    recent: int,
    temperature: float,
    seen: Sequence[bool],
    *,
    shown: bool = True,
) -> Weights:
    """Weigh blocks by what the last ``recent`` items are near to (self attention).

    Where the prompt shows these items word for word, they are no part of the keys: a block
    would be near to itself, and a block that consists of them alone gets weight 0, unless
    there is no other.  Where the prompt does not show them, only summaries tell of them.
    """
    asking = max(0, len(vectors) - recent)
    before = asking if shown else len(vectors)
    others = [start < before for start, _ in spans]
    either = [first and second for first, second in zip(seen, others, strict=True)]
    if not any(either):
        before, either = len(vectors), list(seen)
    query = unit_rows(vectors[asking:].sum(axis=0, keepdims=True))[0]
    return attention_weights(query, block_keys(vectors, spans, before), temperature, either)


def strongest(weights: Weights, count: int) -> list[int]:
    """Return the indices of the ``count`` highest weights, highest first; newer ones win ties.

    Weights of 0 are never among them.
    """
    order = sorted(range(len(weights)), key=lambda index: (-weights[index], -index))
    return [index for index in order if weights[index] > 0][:count]


def share_out(
    lengths: Sequence[int], weights: Sequence[float], budget: int, least: int
) -> list[int]:
    """Share a token budget by weight: a text gets ``budget * a_j / sum(a)`` tokens at most.

    What a short text does not need goes to the others.  While a text would be cut below
    ``least`` tokens, the one with the smallest weight (of equal ones the oldest) gets
    nothing, so that no budget is spent on what nobody can read.

    Returns:
        Tokens of each text, at most its length; with sum ``budget`` at most.
    """
    alive = [index for index, length in enumerate(lengths) if length and weights[index] > 0]
    while alive:
        given = _fill([lengths[n] for n in alive], [weights[n] for n in alive], budget)
        if len(alive) == 1 or all(
            tokens >= min(least, lengths[n]) for n, tokens in zip(alive, given, strict=True)
        ):
            taken = dict(zip(alive, given, strict=True))
            return [taken.get(index, 0) for index in range(len(lengths))]
        alive.remove(min(alive, key=lambda index: (weights[index], index)))
    return [0] * len(lengths)


def _fill(lengths: Sequence[int], weights: Sequence[float], budget: int) -> list[int]:
    """Return each its share, the short ones first, so that the rest gets what they leave."""
    order = sorted(range(len(lengths)), key=lambda n: (lengths[n] / weights[n], n))
    given, left = [0] * len(lengths), budget
    for done, index in enumerate(order):
        total = sum(weights[n] for n in order[done:])
        given[index] = min(lengths[index], int(left * weights[index] / total + _ROUNDING))
        left -= given[index]
    return given
