"""Drawing negatives without replacement, by (seed, user) alone."""

from collections.abc import Set
from typing import Any

import numpy as np
import numpy.typing as npt

_ROUNDS = 8


class Sampler:
    """Draws items of a catalogue, all alike or in proportion to their counts.

    Draws go by the items' rank in sorted order, never by their place in a file.
    """

    def __init__(self, ids: Set[str], counts: dict[str, int] | None = None) -> None:
        """Prepare the draw; with ``counts``, items without count are never drawn."""
        self._ids = sorted(item for item in ids if counts is None or counts.get(item))
        self._weights: npt.NDArray[np.float64] | None = None
        self._sums: npt.NDArray[np.int64] | None = None
        if counts is not None:
            self._weights = np.array([counts[item] for item in self._ids], dtype=np.float64)
            self._sums = np.cumsum([counts[item] for item in self._ids], dtype=np.int64)

    def draw(self, rng: np.random.Generator, number: int, banned: Set[str]) -> list[str]:
        """Draw ``number`` distinct items outside ``banned``, or all there are if fewer.

        Draws with replacement and throws repeats away, which gives the distribution of
        drawing without replacement; where that takes too long, the rest is drawn from a
        list of what is left.
        """
        chosen: dict[str, None] = {}
        for _ in range(_ROUNDS if len(self._ids) > number else 0):
            for index in self._indexes(rng, number):
                item = self._ids[index]
                if item not in banned and len(chosen) < number:
                    chosen[item] = None
            if len(chosen) == number:
                return list(chosen)
        return [*chosen, *self._from_the_rest(rng, number - len(chosen), banned | chosen.keys())]

    def _indexes(self, rng: np.random.Generator, number: int) -> list[int]:
        if self._sums is None:
            return _listed(rng.integers(len(self._ids), size=number))
        places = rng.integers(self._sums[-1], size=number)
        return _listed(np.searchsorted(self._sums, places, side="right"))

    def _from_the_rest(self, rng: np.random.Generator, number: int, banned: Set[str]) -> list[str]:
        left = [index for index, item in enumerate(self._ids) if item not in banned]
        number = min(number, len(left))
        if not number:
            return []
        shares = None
        if self._weights is not None:
            shares = self._weights[left] / self._weights[left].sum()
        return [self._ids[i] for i in _listed(rng.choice(left, number, replace=False, p=shares))]


def _listed(indexes: npt.NDArray[Any]) -> list[int]:
    listed: list[int] = indexes.tolist()
    return listed
