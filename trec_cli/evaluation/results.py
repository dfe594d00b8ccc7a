"""From aligned systems to `metrics.json` and `per_user.jsonl`."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trec_cli.evaluation.metrics import (
    DEFAULT_KS,
    Floats,
    Ranks,
    all_metrics,
    ambiguous,
    chance,
    metric_names,
    rank,
)
from trec_cli.evaluation.scores import System
from trec_cli.evaluation.statistics import (
    UserSums,
    bootstrap,
    effect_size,
    holm,
    interval,
    ratio,
    sign_flip_test,
)
from trec_cli.jsonl import encode
from trec_cli.progress import Progress, Silent

SIGNIFICANT = 0.05
_CHUNK = 10_000

Summary = dict[str, Any]
"""The content of `metrics.json`."""


@dataclass(frozen=True)
class Options:
    """What decides the numbers, besides the scores.

    Attributes:
        ks: cut-offs of the metrics at K.
        replicates: of the bootstrap.
        permutations: of the paired test.
        seed: of both.
        reference: the system the others are compared with; None is the first.
    """

    ks: tuple[int, ...] = DEFAULT_KS
    replicates: int = 1000
    permutations: int = 10_000
    seed: int = 0
    reference: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Every metric of every example and system.

    Attributes:
        systems: aligned, so that all have the same examples in the same order.
        ranks: of the positives, by system.
        metrics: names, in the order of the tables.
        values: ``[systems, examples, metrics]``.
        chance: expected value of a random order, ``[examples, metrics]``.
    """

    systems: list[System]
    ranks: list[Ranks]
    metrics: list[str]
    values: Floats
    chance: Floats

    @property
    def names(self) -> list[str]:
        """The systems' names."""
        return [system.name for system in self.systems]


def evaluate_systems(systems: Sequence[System], ks: Sequence[int] = DEFAULT_KS) -> Evaluation:
    """Compute all metrics of aligned systems (see :func:`trec_cli.evaluation.scores.align`)."""
    ranks = [rank(system.pools) for system in systems]
    values = np.stack([_table(found, ks) for found in ranks])
    return Evaluation(list(systems), ranks, metric_names(ks), values, _table(chance(ranks[0]), ks))


def _table(ranks: Ranks, ks: Sequence[int]) -> Floats:
    """Give ``[examples, metrics]``."""
    return np.stack(list(all_metrics(ranks, ks).values()), axis=1)


def summarise(
    evaluation: Evaluation, options: Options, progress: Progress | None = None
) -> Summary:
    """Make the content of `metrics.json`: means, intervals, chance and comparisons.

    A value that is not defined (AUC without negatives, an interval of one user) is None.
    """
    data = UserSums.of(evaluation.values, evaluation.systems[0].users)
    (progress or Silent()).info(f"resampling {len(data.sums)} users {options.replicates} times")
    replicates = bootstrap(data, options.replicates, options.seed)
    return {
        "users": len(data.sums),
        "systems": _systems(evaluation, data, replicates),
        "chance": _chance(evaluation),
        "comparisons": _comparisons(evaluation, data, replicates, options),
    }


def _chance(evaluation: Evaluation) -> dict[str, float | None]:
    counted = np.isfinite(evaluation.chance)
    sums = np.where(counted, evaluation.chance, 0.0).sum(axis=0)
    number = counted.sum(axis=0)
    pairs = zip(evaluation.metrics, sums, number, strict=True)
    return {name: float(total / n) if n else None for name, total, n in pairs}


def _systems(evaluation: Evaluation, data: UserSums, replicates: Floats) -> dict[str, Any]:
    """Give the entry of every system: examples, tie rate, and each metric with its interval."""
    low, high = _bounds(data, replicates)
    means = data.means()
    entries: dict[str, Any] = {}
    for place, system in enumerate(evaluation.systems):
        columns = zip(evaluation.metrics, means[place], low[place], high[place], strict=True)
        entries[system.name] = {
            "examples": len(system.users),
            "tie_rate": float(ambiguous(evaluation.ranks[place]).mean()),
            **{name: _with_interval(*numbers) for name, *numbers in columns},
        }
    return entries


def _bounds(data: UserSums, replicates: Floats) -> tuple[Floats, Floats]:
    """Give the intervals; one user, or no replicate, says nothing about spread."""
    if len(data.sums) < 2 or not len(replicates):
        unknown = np.full(replicates.shape[1:], np.nan)
        return unknown, unknown
    return interval(replicates)


def _with_interval(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _comparisons(
    evaluation: Evaluation, data: UserSums, replicates: Floats, options: Options
) -> list[dict[str, Any]]:
    """Compare every system with the reference; Holm's correction covers the whole list."""
    names = evaluation.names
    reference = names.index(options.reference) if options.reference else 0
    others = [place for place in range(len(names)) if place != reference]
    if not others or not options.permutations:
        return []
    means = data.means()
    low, high = _bounds(data, replicates - replicates[:, [reference]])
    sums = data.sums[:, others] - data.sums[:, [reference]]
    p, corrected, effect = _tests(sums, data.counts, options)
    return [
        {
            "system": names[other],
            "reference": names[reference],
            "metric": metric,
            "difference": _number(means[other, column] - means[reference, column]),
            "low": _number(low[other, column]),
            "high": _number(high[other, column]),
            "p": float(p[row, column]),
            "p_holm": float(corrected[row, column]),
            "effect_size": _number(effect[row, column]),
        }
        for row, other in enumerate(others)
        for column, metric in enumerate(evaluation.metrics)
    ]


def _tests(sums: Floats, counts: Floats, options: Options) -> tuple[Floats, Floats, Floats]:
    """Give p, corrected p and effect size, each ``[systems but one, metrics]``."""
    users, *shape = sums.shape
    flat = sums.reshape(users, -1)
    p = sign_flip_test(flat, options.permutations, options.seed)
    effect = effect_size(ratio(sums, counts[:, None]).reshape(users, -1))
    return p.reshape(shape), holm(p).reshape(shape), effect.reshape(shape)


def per_user_lines(evaluation: Evaluation) -> Iterator[bytes]:
    """Yield the lines of `per_user.jsonl`: system by system, examples in file order.

    ``ranks`` are the positives' expected ranks, in the order of the file's ``positives``.
    """
    for place, system in enumerate(evaluation.systems):
        for start in range(0, len(system.users), _CHUNK):
            yield from _lines(evaluation, place, slice(start, start + _CHUNK))


def _lines(evaluation: Evaluation, place: int, chunk: slice) -> Iterator[bytes]:
    """Yield the lines of some examples of one system."""
    system, ranks = evaluation.systems[place], evaluation.ranks[place]
    expected = ranks.expected
    first = int(ranks.positives[: chunk.start].sum())
    borders = first + np.concatenate([[0], np.cumsum(ranks.positives[chunk])])
    for example, user, candidates, (low, high), values in zip(
        itertools.islice(system.examples, chunk.start, chunk.stop),
        system.users[chunk],
        ranks.candidates[chunk].tolist(),
        itertools.pairwise(borders.tolist()),
        evaluation.values[place, chunk].tolist(),
        strict=True,
    ):
        line = {"example_id": example, "user_id": user, "system": system.name}
        places = {"candidates": candidates, "ranks": expected[low:high].tolist()}
        yield encode({**line, **places, **dict(zip(evaluation.metrics, values, strict=True))})
