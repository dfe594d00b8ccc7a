"""Cutting a history into blocks, and block summaries into groups that fit one prompt."""

from collections.abc import Sequence
from itertools import pairwise

Span = tuple[int, int]
"""A range of places, end excluded."""


def split_blocks(length: int, size: int, start: int = 0) -> list[Span]:
    """Cut a history of ``length`` items into blocks of ``size``, oldest first.

    Only the last block may be shorter (LLM-TRSR, section 3.2).  An empty history has no
    blocks.

    Borders lie at multiples of ``size`` in the user's whole history, of which ``start``
    older items were left out here.  So blocks stay what they are while a capped history
    moves on.  What is left of a block whose oldest items are gone would change with every
    new item: it is left out as well, unless no whole block follows.

    Returns:
        Spans of the ``length`` items at hand.
    """
    first = -start % size
    borders = [*range(first, length, size), length] if length else [0]
    if first and length - first < size:
        borders = [0, *(border for border in borders if border)]
    return list(pairwise(borders))


def group_consecutive(lengths: Sequence[int], budget: int) -> list[Span]:
    """Group neighbours whose lengths together are at most ``budget``, from the left.

    Filling from the left keeps all groups but the last ones unchanged when a history
    grows, so that their merges are found in the store.  A group has one member only if
    its neighbour does not fit beside it, or at the end.
    """
    groups: list[Span] = []
    start, filled = 0, 0
    for index, length in enumerate(lengths):
        if index > start and filled + length > budget:
            groups.append((start, index))
            start, filled = index, 0
        filled += length
    if lengths:
        groups.append((start, len(lengths)))
    return groups


def even_cap(lengths: Sequence[int], budget: int) -> int:
    """Return the largest cap with which texts of these lengths fit into ``budget`` together.

    Short texts stay whole and leave their share to the long ones; with a cap of c the
    texts take ``sum(min(length, c))``.  0 where not even one token each fits.
    """
    left = budget
    for index, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - index)
        if length > share:
            return max(0, share)
        left -= length
    return max(lengths, default=0)
