"""How sure the numbers are: bootstrap intervals and paired permutation tests over users.

Users are the unit of everything here: several examples of one user are not independent,
so they are drawn, and flipped, together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trec_cli.core.arrays import distinct, let_go, parts, scratch, spans
from trec_cli.core.names import Names
from trec_cli.core.seeds import generator
from trec_cli.evaluate.metrics import Floats, Ints

LEVEL, POWER = 0.95, 0.80
_CELLS = 1 << 20
"""Weights held at once; bounds the memory of resampling …"""
_ROWS = 8
"""… but so many resamples at least: a single one would wait for memory all the time."""
_MANY = 20_000
"""Users above which those with equal numbers are drawn together."""
_PER_KIND = 20
"""Users of equal numbers there must be on average for that to be worth it."""


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
    def of(cls, values: Floats | Sequence[Floats], users: Sequence[str]) -> "UserSums":
        """Sum the values of systems, each ``[examples, metrics]``, over the examples of a user."""
        codes = _codes(users)
        number = int(codes.max(initial=-1)) + 1
        sums = scratch((number, len(values), values[0].shape[1]))
        for index, system in enumerate(values):
            _add_up(codes, system, sums[:, index])
        if all(np.isfinite(part).all() for part in parts(values[0])) and number == len(codes):
            return cls(sums, np.broadcast_to(np.ones(1), (number, sums.shape[2])))
        counts = scratch((number, sums.shape[2]))
        _add_up(codes, values[0], counts, np.isfinite)
        return cls(sums, counts)

    def means(self) -> Floats:
        """Return the mean over examples, ``[systems, metrics]``; NaN where nothing counts."""
        return ratio(total(parts(self.sums)), total(parts(self.counts)))


def total(blocks: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Sum the rows of an array that comes in parts, in the order in which numpy sums the whole."""
    found: NDArray[Any] | None = None
    for block in blocks:
        before = block[:0] if found is None else found[None]
        found = np.concatenate([before, block]).sum(axis=0)
    return np.zeros(0) if found is None else found


def _filled(values: Floats) -> Floats:
    """Fill in 0 where a value is not defined."""
    return np.where(np.isfinite(values), values, 0.0)


def _codes(users: Sequence[str]) -> Ints:
    """Number the users in the order of their ids: no order of lines changes a draw.

    Very many are numbered as they come, and put in order by their numbers in :func:`_kinds`.
    They are told apart by their hashes, of 64 bits.
    """
    hashes = (users if isinstance(users, Names) else Names(users)).hashes
    if len(hashes) > _MANY and len(distinct(hashes)) == len(hashes):
        return np.arange(len(hashes))
    _, first, codes = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    if len(first) <= _MANY:
        ids = [users[place] for place in first[order].tolist()]
        order = order[sorted(range(len(ids)), key=ids.__getitem__)]
    numbers: Ints = np.empty(len(first), dtype=np.int64)
    numbers[order] = np.arange(len(first))
    found: Ints = numbers[codes]
    return found


def _add_up(
    codes: Ints, values: Floats, sums: Floats, look: Callable[[Floats], Floats] = _filled
) -> None:
    """Sum what is seen of the rows of ``values`` ``[examples, metrics]`` that share a code."""
    if len(sums) == len(codes):  # every user has one example
        for span in spans(len(codes)):
            sums[codes[span]] = look(values[span])
            let_go(values)
            let_go(sums)
        return
    for column in range(values.shape[1]):
        weights = np.concatenate([look(part[:, column]) for part in parts(values)])
        sums[:, column] = np.bincount(codes, weights=weights, minlength=len(sums))
        let_go(sums)


def ratio(sums: Floats, counts: Floats) -> Floats:
    """Divide, with NaN where the count is 0."""
    counts = np.broadcast_to(counts, sums.shape)
    out = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=out, where=counts > 0)
    return out


def bootstrap(
    data: UserSums, replicates: int, seed: int, only: Sequence[int] | None = None
) -> Floats:
    """Draw users with replacement and give the means, ``[replicates, systems, metrics]``.

    ``only`` some systems are measured, in this order.  All see the same draws, so differences of
    replicates are paired.  The draws depend on the seed and the number of users; with very many
    users also on which of them have equal numbers (see :func:`_kinds`).
    """
    users, systems, metrics = data.sums.shape
    chosen = list(range(systems) if only is None else only)
    systems = len(chosen)
    if not replicates:
        return np.empty((0, systems, metrics))
    # Most metrics are defined for the same examples; equal counts are resampled once.
    differs = total((part != part[:, :1]) for part in parts(data.counts))
    own = np.flatnonzero(differs).tolist()
    counted = [own.index(c) + 1 if c in own else 0 for c in range(metrics)]
    columns = [0, *own]

    def rows() -> Iterator[Floats]:
        for sums, counts in zip(parts(data.sums), parts(data.counts), strict=True):
            yield np.hstack([sums[:, chosen].reshape(len(sums), -1), counts[:, columns]])

    flat, sizes = _kinds(rows, users)
    random = generator(seed, "bootstrap")
    joined = np.concatenate([drawn @ flat for drawn in _resamples(random, sizes, replicates)])
    sums = joined[:, : systems * metrics].reshape(-1, systems, metrics)
    counts = joined[:, systems * metrics :][:, counted]
    return ratio(sums, counts[:, None])


def _kinds(rows: Callable[[], Iterator[Floats]], users: int) -> tuple[Floats, Ints]:
    """Return the distinct rows of ``[users, columns]``, and how many users have each.

    A million users with 21 candidates each have few different metrics.  How many users of a
    kind are drawn, or flipped, is a multinomial or binomial number, so that drawing kinds
    instead of users gives the same distribution in a fraction of the time.  Where that is not
    worth it every user is a kind.  Of very many users the order is that of their numbers, so
    that it does not depend on the order of lines; of others it is that of their ids.
    """
    if users <= _MANY:
        return np.concatenate(list(rows())), np.ones(users, dtype=np.int64)
    import polars

    counted = polars.DataFrame()
    for block in rows():
        of_block = polars.from_numpy(block).group_by(polars.all()).len()
        both = polars.concat([counted, of_block]) if len(counted) else of_block
        counted = both.group_by(polars.exclude("len")).agg(polars.col("len").sum())
        if len(counted) * _PER_KIND > users:
            return _in_order(rows, users), np.ones(users, dtype=np.int64)
    *columns, sizes = counted.sort(polars.all()).to_numpy().T
    return np.stack(columns, axis=1), sizes.astype(np.int64)


def _in_order(rows: Callable[[], Iterator[Floats]], users: int) -> Floats:
    """Sort rows that come in parts, as ``numpy.lexsort`` does."""
    kept, start = scratch((users, next(rows()).shape[1])), 0
    for block in rows():
        kept[start : start + len(block)] = block
        start += len(block)
        let_go(kept)
    order = np.arange(users)
    for number in range(kept.shape[1]):
        column = np.concatenate([part[:, number] for part in parts(kept)])
        order = order[np.argsort(column[order], kind="stable")]
    found = scratch(kept.shape)
    for span in spans(users):
        found[span] = kept[order[span]]
        let_go(kept)
        let_go(found)
    return found


def _resamples(random: np.random.Generator, sizes: Ints, number: int) -> Iterator[Floats]:
    """Yield chunks ``[n, kinds]`` of how often users of each kind are drawn in each resample."""
    users = int(sizes.sum())
    step = max(_ROWS, _CELLS // len(sizes))
    for start in range(0, number, step):
        rows = min(step, number - start)
        if len(sizes) < users:
            yield random.multinomial(users, sizes / users, size=rows).astype(np.float64)
            continue
        draws = (random.integers(users, size=users, dtype=np.int32) for _ in range(rows))
        yield np.stack([np.bincount(d, minlength=users) for d in draws]).astype(np.float64)


def interval(replicates: Floats) -> tuple[Floats, Floats]:
    """Return the percentile interval of replicates along their first axis.

    A metric that few users have (AUC, where few have a negative) is not defined in the
    replicates that draw none of them.  They are left out; NaN where they are the majority.
    """
    tail = (1 - LEVEL) / 2
    undefined = np.isnan(replicates)
    if not undefined.any():
        low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
        return low, high
    rare = undefined.mean(axis=0) > 0.5
    low, high = np.nanquantile(np.where(rare, 0.0, replicates), [tail, 1 - tail], axis=0)
    return np.where(rare, np.nan, low), np.where(rare, np.nan, high)


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals, each ``[systems, metrics]``; NaN where there are none.

    Attributes:
        low, high: of every system's mean.
        low_difference, high_difference: of its difference to the reference.
    """

    low: Floats
    high: Floats
    low_difference: Floats
    high_difference: Floats


def intervals(data: UserSums, reference: int, replicates: int, seed: int) -> Intervals:
    """Draw users with replacement; one user, or no replicate, says nothing about spread.

    Very many users are drawn for two systems at a time, each with the reference: in the
    metrics of two, far more users are alike than in those of all, and may be drawn together.
    """
    users, systems, metrics = data.sums.shape
    if users < 2 or not replicates:
        return Intervals(*np.full((4, systems, metrics), np.nan))
    if users <= _MANY or systems < 3:
        drawn = bootstrap(data, replicates, seed)
        return Intervals(*interval(drawn), *interval(drawn - drawn[:, [reference]]))
    found = np.zeros((4, systems, metrics))
    for other in range(systems):
        pair = [other] if other == reference else [other, reference]
        drawn = bootstrap(data, replicates, seed, pair)
        both = [*interval(drawn[:, 0]), *interval(drawn[:, 0] - drawn[:, -1])]
        found[:, other] = both
    return Intervals(*found)


def paired_tests(differences: Floats, permutations: int, seed: int) -> Floats:
    """Return the p-values of :func:`sign_flip_test` for several systems, ``[systems, metrics]``.

    Args:
        differences: ``[users, systems, metrics]``, to the reference; as there, all see the
            same sign patterns, but for very many users, of whom those alike in one
            system's differences are flipped together.
        permutations: random sign patterns.
        seed: of the patterns.
    """
    users, systems, metrics = differences.shape
    if users <= _MANY:
        flat = differences.reshape(users, -1)
        return sign_flip_test(flat, permutations, seed).reshape(systems, metrics)
    each = [sign_flip_test(differences[:, n], permutations, seed) for n in range(systems)]
    return np.stack(each)


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
    observed = total(parts(differences))
    # Without the margin, rounding would make patterns equal to the data look milder.
    bound = np.abs(observed) * (1 - 1e-9) - 1e-15
    extreme = np.zeros(differences.shape[1], dtype=np.int64)
    random = generator(seed, "sign flips")
    rows, sizes = _kinds(lambda: parts(differences), len(differences))
    for heads in _flips(random, sizes, permutations):
        flipped = 2 * (heads @ rows) - observed
        extreme += (np.abs(flipped) >= bound).sum(axis=0)
    return (1 + extreme) / (1 + permutations)


def _flips(random: np.random.Generator, sizes: Ints, number: int) -> Iterator[Floats]:
    """Yield chunks ``[n, kinds]`` of how many users of each kind keep their sign."""
    alone = len(sizes) == sizes.sum()
    step = max(_ROWS, _CELLS // len(sizes))
    for start in range(0, number, step):
        shape = (min(step, number - start), len(sizes))
        if alone:
            yield random.integers(2, size=shape, dtype=np.int8).astype(np.float64)
        else:
            yield random.binomial(sizes, 0.5, size=shape).astype(np.float64)


def holm(p: Floats) -> Floats:
    """Correct p-values for their number (Holm 1979): step down, never decreasing."""
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def detectable(sums: Floats, counts: Floats) -> Floats:
    """Return the smallest difference that so many users show, four times of five.

    The minimum detectable effect of a two-sided paired test at 5 % with 80 % power:
    ``(z(.975) + z(.80)) * standard error`` of the mean difference over examples, which is a
    ratio of sums over users: ``SE = sqrt(n / (n - 1) * sum of (s - d c) ** 2) / sum of c``
    for a user's sum s and count c, and the mean difference d.

    Args:
        sums: differences summed over each user's examples, ``[users, systems, metrics]``.
        counts: examples of each user, ``[users, metrics]``.

    Returns:
        ``[systems, metrics]``; NaN for fewer than two users.
    """
    users = total(part > 0 for part in parts(counts))
    examples = total(parts(counts))
    means = ratio(total(parts(sums)), examples)
    both = zip(parts(sums), parts(counts), strict=True)
    squares = total((sum_ - means * count[:, None]) ** 2 for sum_, count in both)
    spread = np.sqrt(squares * users / np.maximum(users - 1, 1))
    wanted = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2) + NormalDist().inv_cdf(POWER)
    return np.where(users > 1, wanted * ratio(spread, examples), np.nan)


def effect_size(differences: Floats) -> Floats:
    """Cohen's d of paired differences ``[users, tests]``: mean over standard deviation.

    Given sums over each user's examples, as the test is, its sign is that of the mean
    difference over examples.  Users whose difference is not defined (NaN) are left out.
    NaN where the differences do not vary, or for fewer than two users.
    """
    out = np.full(differences.shape[1], np.nan)
    number = total(np.isfinite(part) for part in parts(differences))
    means = ratio(total(map(_filled, parts(differences))), number.astype(np.float64))
    squares = total(_filled(part - means) ** 2 for part in parts(differences))
    spread = np.sqrt(squares / np.maximum(number - 1, 1))
    np.divide(means, spread, out=out, where=(number > 1) & (spread > 1e-12))
    return out
