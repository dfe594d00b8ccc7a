"""What a candidate's branch of the prompt carries: a few texts with their weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from trec_cli.attention.weights import share_out

LEAST_TOKENS = 8
"""A text that would be cut shorter than this is left out."""


class Passage(NamedTuple):
    """A block summary and how much it counts."""

    text: str
    weight: float


@dataclass(frozen=True)
class Evidence:
    """Passages in time order, and the tokens that they may have together."""

    passages: Sequence[Passage]
    budget: int

    def shares(self, lengths: Sequence[int], room: int | None = None) -> list[int]:
        """Share the budget (or less, if there is less ``room``) among passages so long."""
        budget = self.budget if room is None else max(0, min(room, self.budget))
        weights = [passage.weight for passage in self.passages]
        return share_out(lengths, weights, budget, LEAST_TOKENS)
