"""Which examples each step learns from, and in which rows.

The examples of all epochs, each epoch in an order of its own, are one long stream; every
``users_per_step`` of them form a step.  A step's users are spread over the same number of
rows in every step (the Trainer accumulates a fixed number), balanced by length, as few as
keep a row within ``max_tokens``.  The plan depends on nothing but its arguments, so a
resumed run sees exactly the rows that it would have seen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from trec_cli.core.seeds import generator
from trec_cli.core.shelves import Slices


@dataclass(frozen=True)
class Draw:
    """An example (by its index) with the negatives of an epoch."""

    epoch: int
    index: int


Row = list[Draw]


class _Steps(Slices[Row]):
    """The draws of every step: the epochs one after the other, each in an order of its own."""

    def __init__(self, examples: int, epochs: int, size: int, seed: int) -> None:
        """Draw the orders (8 bytes a draw); a step has ``size`` draws, the last maybe fewer."""
        orders = [generator(seed, "order", epoch).permutation(examples) for epoch in range(epochs)]
        self._order: npt.NDArray[np.int64] = np.concatenate([np.empty(0, np.int64), *orders])
        self._examples, self._size = examples, size

    def __len__(self) -> int:
        """Count the steps."""
        return -(-len(self._order) // self._size)

    def at(self, index: int) -> Row:
        """Return the draws of a step."""
        start = index * self._size
        drawn = self._order[start : start + self._size].tolist()
        return [Draw((start + n) // self._examples, example) for n, example in enumerate(drawn)]


class StepPlan(Sampler[Row]):
    """Yields rows; ``rows_per_step`` times ``processes`` of them are one optimizer step."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        epochs: int,
        users_per_step: int,
        max_tokens: int,
        seed: int,
        processes: int = 1,
    ) -> None:
        """Plan the whole training.

        Args:
            sizes: the most tokens that each example's tree can have.
            epochs: how often each example is seen.
            users_per_step: examples in a step, at least ``processes``.
            max_tokens: tokens of a row; an example longer than that gets its own.
            seed: of the order.
            processes: how many processes share a step's rows evenly.
        """
        self._sizes, self._processes = sizes, processes
        self._steps: Sequence[Row] = _Steps(len(sizes), epochs, users_per_step, seed)
        if len(self._steps) > 1 and len(self._steps[-1]) < processes:
            self._steps = self._steps[:-1]
        self.rows_per_step = self._count_rows(max_tokens)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole training."""
        return len(self._steps)

    def __len__(self) -> int:
        """Count the rows of all steps and processes."""
        return sum(self._rows_of(step, self.rows_per_step) for step in self._steps)

    def __iter__(self) -> Iterator[Row]:
        """Yield every row, step by step; of each step the processes' rows in turn."""
        for step in self._steps:
            yield from self._spread(step, self._rows_of(step, self.rows_per_step))

    def _rows_of(self, step: Row, per_process: int) -> int:
        """Return the number of rows of a step: a multiple of the processes, none empty."""
        return self._processes * max(1, min(per_process, len(step) // self._processes))

    def _count_rows(self, max_tokens: int) -> int:
        """Return the fewest rows per process with which no row is too long."""
        most = max(1, max(map(len, self._steps), default=1) // self._processes)
        for count in range(1, most):
            if all(self._fits(step, count, max_tokens) for step in self._steps):
                return count
        return most

    def _fits(self, step: Row, per_process: int, max_tokens: int) -> bool:
        """Return whether a step's rows are short enough, or cannot be more."""
        if per_process >= len(step) // self._processes:
            return True
        rows = self._spread(step, self._rows_of(step, per_process))
        return all(
            len(row) == 1 or sum(self._sizes[d.index] for d in row) <= max_tokens for row in rows
        )

    def _spread(self, step: Row, count: int) -> list[Row]:
        """Spread draws over ``count`` rows, longest first, each to the emptiest row."""
        rows: list[Row] = [[] for _ in range(count)]
        filled = [0] * count
        for draw in sorted(step, key=lambda draw: -self._sizes[draw.index]):
            lightest = filled.index(min(filled))
            rows[lightest].append(draw)
            filled[lightest] += self._sizes[draw.index]
        return rows
