"""How sure the numbers are: bootstrap intervals and paired permutation tests over users.

Users are the unit of everything here: several examples of one user are not independent,
so they are drawn, and flipped, together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from trec_cli.evaluation.metrics import Floats, Ints
from trec_cli.seeds import generator

LEVEL = 0.95
_CELLS = 1 << 20
"""Weights held at once; bounds the memory of resampling."""


@dataclass(frozen=True)
class UserSums:
    """Sums over the examples of each user.

    Attributes:
        sums: ``[users, systems, metrics]``; undefined values (NaN) count as 0 here …
        counts: ``[users, metrics]`` … and are not counted here.
    """

    sums: Floats
    counts: Floats

    @classmethod
    def of(cls, values: Floats, users: Sequence[str]) -> "UserSums":
        """Sum ``values`` ``[systems, examples, metrics]`` over the examples of each user."""
        codes = _codes(users)
        number = int(codes.max(initial=-1)) + 1
        sums = np.stack(
            [_sum_by(codes, np.nan_to_num(system), number) for system in values], axis=1
        )
        return cls(sums, _sum_by(codes, np.isfinite(values[0]), number))

    def means(self) -> Floats:
        """Give the mean over examples, ``[systems, metrics]``; NaN where nothing counts."""
        return ratio(self.sums.sum(axis=0), self.counts.sum(axis=0))


def _codes(users: Sequence[str]) -> Ints:
    """Number the users in order of appearance."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(user, len(numbers)) for user in users], dtype=np.int64)


def _sum_by(codes: Ints, values: Floats, number: int) -> Floats:
    """Sum the rows of ``values`` ``[examples, metrics]`` that share a code."""
    if number == len(codes):  # codes count up, so every user has one example
        return values.astype(np.float64)
    columns = [np.bincount(codes, weights=column, minlength=number) for column in values.T]
    return cast(Floats, np.stack(columns, axis=1))


def ratio(sums: Floats, counts: Floats) -> Floats:
    """Divide, with NaN where the count is 0."""
    counts = np.broadcast_to(counts, sums.shape)
    out = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=out, where=counts > 0)
    return out


def bootstrap(data: UserSums, replicates: int, seed: int) -> Floats:
    """Draw users with replacement and give the means, ``[replicates, systems, metrics]``.

    All systems see the same draws, so differences of replicates are paired.  The draws
    depend on the seed and the number of users alone.
    """
    users, systems, metrics = data.sums.shape
    # Most metrics are defined for the same examples; equal counts are resampled once.
    first = data.counts[:, 0]
    own = [c for c in range(metrics) if not np.array_equal(data.counts[:, c], first)]
    counted = [own.index(c) + 1 if c in own else 0 for c in range(metrics)]
    flat = np.hstack([data.sums.reshape(users, -1), data.counts[:, [0, *own]]])
    random = generator(seed, "bootstrap")
    totals = [weights @ flat for weights in _resamples(random, users, replicates)]
    joined = np.concatenate([np.empty((0, flat.shape[1])), *totals])
    sums = joined[:, : systems * metrics].reshape(-1, systems, metrics)
    counts = joined[:, systems * metrics :][:, counted]
    return ratio(sums, counts[:, None])


def _resamples(random: np.random.Generator, users: int, number: int) -> Iterator[Floats]:
    """Yield chunks ``[n, users]`` of how often each user is drawn in each resample."""
    step = max(1, _CELLS // users)
    for start in range(0, number, step):
        rows = range(start, min(start + step, number))
        draws = (random.integers(users, size=users, dtype=np.int32) for _ in rows)
        yield np.stack([np.bincount(d, minlength=users) for d in draws]).astype(np.float64)


def interval(replicates: Floats) -> tuple[Floats, Floats]:
    """Give the percentile interval of replicates along their first axis."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
    return low, high


def sign_flip_test(differences: Floats, permutations: int, seed: int) -> Floats:
    """Two-sided paired permutation test of "the mean difference is zero".

    Args:
        differences: ``[users, tests]``, summed over each user's examples.
        permutations: random sign patterns; all tests share them.
        seed: of the patterns.

    Returns:
        p-values ``[tests]``: ``(1 + patterns as extreme as the data) / (1 + patterns)``,
        which is valid for any number of patterns and never 0.
    """
    users = len(differences)
    observed = differences.sum(axis=0)
    # Without the margin, rounding would make patterns equal to the data look milder.
    bound = np.abs(observed) * (1 - 1e-9) - 1e-15
    extreme = np.zeros(differences.shape[1], dtype=np.int64)
    random = generator(seed, "sign flips")
    step = max(1, _CELLS // users)
    for start in range(0, permutations, step):
        size = (min(step, permutations - start), users)
        heads = random.integers(2, size=size, dtype=np.int8).astype(np.float64)
        flipped = 2 * (heads @ differences) - observed
        extreme += (np.abs(flipped) >= bound).sum(axis=0)
    return (1 + extreme) / (1 + permutations)


def holm(p: Floats) -> Floats:
    """Correct p-values for their number (Holm 1979): step down, never decreasing."""
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def effect_size(differences: Floats) -> Floats:
    """Cohen's d of paired differences ``[users, tests]``: mean over standard deviation.

    Users whose difference is not defined (NaN) are left out.  NaN where the differences do
    not vary, or for fewer than two users.
    """
    out = np.full(differences.shape[1], np.nan)
    defined = np.isfinite(differences)
    number = defined.sum(axis=0)
    means = ratio(np.where(defined, differences, 0.0).sum(axis=0), number.astype(np.float64))
    squares = np.where(defined, differences - means, 0.0) ** 2
    spread = np.sqrt(squares.sum(axis=0) / np.maximum(number - 1, 1))
    np.divide(means, spread, out=out, where=(number > 1) & (spread > 1e-12))
    return out
