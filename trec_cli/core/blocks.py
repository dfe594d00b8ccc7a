"""Cutting a history into blocks, and block summaries into groups that fit one prompt."""

from collections.abc import Sequence

Span = tuple[int, int]
"""A range of places, end excluded."""


def split_blocks(length: int, size: int) -> list[Span]:
    """Cut a history of ``length`` items into blocks of ``size``, oldest first.

    Every item lies in exactly one block; only the last block may be shorter (LLM-TRSR,
    section 3.2).  An empty history has no blocks.
    """
    return [(start, min(start + size, length)) for start in range(0, length, size)]


def group_consecutive(lengths: Sequence[int], budget: int) -> list[Span]:
    """Group neighbours whose lengths together are at most ``budget``, from the left.

    Filling from the left keeps all groups but the last ones unchanged when a history
    grows, so that their merges are found in the store.  A group has one member only if
    its neighbour does not fit beside it, or at the end.
    """
    groups: list[Span] = []
    start, filled = 0, 0
    for place, length in enumerate(lengths):
        if place > start and filled + length > budget:
            groups.append((start, place))
            start, filled = place, 0
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
    for place, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - place)
        if length > share:
            return max(0, share)
        left -= length
    return max(lengths, default=0)
