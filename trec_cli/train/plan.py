"""Which examples form one optimizer step, and how they are packed into rows.

The examples of all epochs, each epoch in an order of its own, are one long stream; every
``users_per_step`` of them form a step.  A step's users are spread over the same number of
rows in every step (the Trainer accumulates a fixed number), balanced by length, as few as
keep a row within ``max_tokens``.  The plan depends on nothing but its arguments, so a
resumed run sees exactly the rows that it would have seen.
"""

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from trec_cli.core.seeds import generator
from trec_cli.train.dataset import Draw

Row = list[Draw]


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
        stream = [
            Draw(epoch, int(index))
            for epoch in range(epochs)
            for index in generator(seed, "order", epoch).permutation(len(sizes))
        ]
        chunks = [
            stream[start : start + users_per_step]
            for start in range(0, len(stream), users_per_step)
        ]
        if len(chunks) > 1 and len(chunks[-1]) < processes:
            chunks.pop()
        self._steps = chunks
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
        """Give the number of rows of a step: a multiple of the processes, none empty."""
        return self._processes * max(1, min(per_process, len(step) // self._processes))

    def _count_rows(self, max_tokens: int) -> int:
        """Give the fewest rows per process with which no row is too long."""
        most = max(1, max(map(len, self._steps), default=1) // self._processes)
        for count in range(1, most):
            if all(self._fits(step, count, max_tokens) for step in self._steps):
                return count
        return most

    def _fits(self, step: Row, per_process: int, max_tokens: int) -> bool:
        """Tell whether a step's rows are short enough, or cannot be more."""
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
