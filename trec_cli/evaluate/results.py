"""From aligned systems to `metrics.json` and `per_user.jsonl`."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trec_cli.core.jsonl import encode
from trec_cli.core.progress import Progress, Silent
from trec_cli.evaluate.metrics import (
    DEFAULT_KS,
    Floats,
    Ranks,
    all_metrics,
    ambiguous,
    chance_metrics,
    metric_names,
    rank,
)
from trec_cli.evaluate.pooling import pool_runs, split_seed
from trec_cli.evaluate.scores import System
from trec_cli.evaluate.statistics import (
    Intervals,
    UserSums,
    effect_size,
    holm,
    intervals,
    paired_tests,
    ratio,
)

SIGNIFICANT = 0.05
SMALL_SLICE = 30
"""Users below which a slice is marked: its intervals are wide and not to be trusted."""
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
        pool: whether ``NAME@SEED`` are runs of one system NAME.
        slice_by: attributes of items by which examples are sliced.
    """

    ks: tuple[int, ...] = DEFAULT_KS
    replicates: int = 1000
    permutations: int = 10_000
    seed: int = 0
    reference: str | None = None
    pool: bool = True
    slice_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """Every metric of every example and system; a system has a run, or several seeds.

    Attributes:
        runs: one per scores file, aligned: the same examples in the same order.
        ranks: of the positives, by run.
        members: the places of each system's runs, by its name.
        metrics: names, in the order of the tables.
        run_values: ``[runs, examples, metrics]``.
        values: ``[systems, examples, metrics]``, the means over the runs of a system.
        chance: expected value of a random order, ``[examples, metrics]``.
    """

    runs: list[System]
    ranks: list[Ranks]
    members: dict[str, list[int]]
    metrics: list[str]
    run_values: Floats
    values: Floats
    chance: Floats

    @property
    def names(self) -> list[str]:
        """The systems' names."""
        return list(self.members)

    @property
    def examples(self) -> dict[str, int]:
        """The place of every example id."""
        return self.runs[0].examples

    @property
    def users(self) -> list[str]:
        """The examples' user ids."""
        return self.runs[0].users

    def seeds(self, name: str) -> list[str]:
        """The seeds of a system's runs; empty where its name is that of a file."""
        runs = [self.runs[place].name for place in self.members[name]]
        return [] if name in runs else [split_seed(run)[1] or "" for run in runs]


def evaluate_systems(
    runs: Sequence[System], ks: Sequence[int] = DEFAULT_KS, *, pool: bool = True
) -> Evaluation:
    """Compute all metrics of aligned runs (see :func:`trec_cli.evaluate.scores.align`).

    Raises:
        UsageError: as :func:`~trec_cli.evaluate.pooling.pool_runs`.
    """
    members = pool_runs([run.name for run in runs], pool=pool)
    ranks = [rank(run.pools) for run in runs]
    values = np.empty((len(runs), len(runs[0].users), len(metric_names(ks))))
    for place, found in enumerate(ranks):
        np.stack(list(all_metrics(found, ks).values()), axis=1, out=values[place])
    return Evaluation(
        list(runs),
        ranks,
        members,
        metric_names(ks),
        values,
        _pooled(values, members),
        np.stack(list(chance_metrics(ranks[0], ks).values()), axis=1),
    )


def _pooled(values: Floats, members: Mapping[str, Sequence[int]]) -> Floats:
    """Take the mean over the runs of each system; nothing is copied where each has one."""
    places = list(members.values())
    if places == [[place] for place in range(len(values))]:
        return values
    return np.stack([values[of_system].mean(axis=0) for of_system in places])


def summarise(
    evaluation: Evaluation, options: Options, progress: Progress | None = None
) -> Summary:
    """Make the content of `metrics.json`: means, intervals, chance and comparisons.

    A value that is not defined (AUC without negatives, an interval of one user) is None.
    """
    data = UserSums.of(evaluation.values, evaluation.users)
    (progress or Silent()).info(f"resampling {len(data.sums)} users {options.replicates} times")
    reference = evaluation.names.index(options.reference) if options.reference else 0
    bounds = intervals(data, reference, options.replicates, options.seed)
    return {
        "users": len(data.sums),
        "systems": _systems(evaluation, data, bounds),
        "chance": chance_means(evaluation.metrics, evaluation.chance),
        "comparisons": _comparisons(evaluation, data, bounds, reference, options),
    }


def chance_means(metrics: Sequence[str], values: Floats) -> dict[str, float | None]:
    """Give the mean of every metric over examples ``[examples, metrics]``."""
    counted = np.isfinite(values)
    means = ratio(np.where(counted, values, 0.0).sum(axis=0), counted.sum(axis=0).astype(float))
    return {name: _number(mean) for name, mean in zip(metrics, means, strict=True)}


def _systems(evaluation: Evaluation, data: UserSums, bounds: Intervals) -> dict[str, Any]:
    """Give the entry of every system: examples, tie rate, and each metric with its interval.

    A pooled system also has its seeds, and of each metric their means and the standard
    deviation of these.
    """
    measured = with_intervals(evaluation, data, bounds)
    entries: dict[str, Any] = {}
    for name, places in evaluation.members.items():
        ties = [float(ambiguous(evaluation.ranks[place]).mean()) for place in places]
        entry: dict[str, Any] = {
            "examples": len(evaluation.users),
            "tie_rate": sum(ties) / len(ties),
        }
        metrics = measured[name]
        if seeds := evaluation.seeds(name):
            spread = _spread(evaluation, places)
            entry["seeds"] = seeds
            metrics = {metric: {**metrics[metric], **spread[metric]} for metric in metrics}
        entries[name] = {**entry, **metrics}
    return entries


def _spread(evaluation: Evaluation, places: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Give each metric's mean of every seed, and their standard deviation."""
    means = UserSums.of(evaluation.run_values[list(places)], evaluation.users).means()
    deviations = means.std(axis=0, ddof=1) if len(places) > 1 else np.full(means.shape[1], np.nan)
    return {
        metric: {"seed_sd": _number(deviation), "by_seed": [_number(value) for value in column]}
        for metric, column, deviation in zip(evaluation.metrics, means.T, deviations, strict=True)
    }


def with_intervals(
    evaluation: Evaluation, data: UserSums, bounds: Intervals
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Give value, low and high by system and metric."""
    means = data.means()
    return {
        name: {
            metric: _with_interval(*numbers)
            for metric, *numbers in zip(
                evaluation.metrics, means[place], bounds.low[place], bounds.high[place], strict=True
            )
        }
        for place, name in enumerate(evaluation.names)
    }


def _with_interval(value: float, low: float, high: float) -> dict[str, float | None]:
    return {"value": _number(value), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _comparisons(
    evaluation: Evaluation, data: UserSums, bounds: Intervals, reference: int, options: Options
) -> list[dict[str, Any]]:
    """Compare every system with the reference; Holm's correction covers the whole list."""
    names = evaluation.names
    others = [place for place in range(len(names)) if place != reference]
    if not others:
        return []
    means = data.means()
    sums = data.sums[:, others] - data.sums[:, [reference]]
    p, corrected, effect = _tests(sums, data.counts, options)
    return [
        {
            "system": names[other],
            "reference": names[reference],
            "metric": metric,
            "difference": _number(means[other, column] - means[reference, column]),
            "low": _number(bounds.low_difference[other, column]),
            "high": _number(bounds.high_difference[other, column]),
            "p": _number(p[row, column]),
            "p_holm": _number(corrected[row, column]),
            "effect_size": _number(effect[row, column]),
        }
        for row, other in enumerate(others)
        for column, metric in enumerate(evaluation.metrics)
    ]


def _tests(sums: Floats, counts: Floats, options: Options) -> tuple[Floats, Floats, Floats]:
    """Give p, corrected p and effect size, each ``[systems but one, metrics]``.

    Without permutations nothing is tested, and both p are NaN.
    """
    users, *shape = sums.shape
    defined = np.where(counts[:, None] > 0, sums, np.nan)
    effect = effect_size(defined.reshape(users, -1)).reshape(shape)
    if not options.permutations:
        return np.full(shape, np.nan), np.full(shape, np.nan), effect
    p = paired_tests(sums, options.permutations, options.seed)
    return p, holm(p.ravel()).reshape(shape), effect


def differs(comparison: Mapping[str, Any]) -> bool:
    """Tell whether a comparison is significant after Holm's correction."""
    p = comparison["p_holm"]
    return p is not None and p < SIGNIFICANT


def too_few_permutations(summary: Summary, permutations: int) -> str | None:
    """Say so where no comparison could be significant, however different the systems are.

    The smallest p is 1 / (permutations + 1), and Holm multiplies it by the number of tests.
    """
    tests = len(summary["comparisons"])
    if not permutations or tests / (permutations + 1) < SIGNIFICANT:
        return None
    return (
        f"with {permutations} permutations none of {tests} tests can be significant: "
        f"take --permutations {math.ceil(tests / SIGNIFICANT) * 2} or more"
    )


def per_user_lines(evaluation: Evaluation) -> Iterator[bytes]:
    """Yield the lines of `per_user.jsonl`: system by system, examples in file order.

    ``ranks`` are the positives' expected ranks, in the order of the file's ``positives``.
    A pooled system has lines for each of its seeds.
    """
    for name, places in evaluation.members.items():
        seeds = evaluation.seeds(name)
        for number, place in enumerate(places):
            whose = {"system": name, **({"seed": seeds[number]} if seeds else {})}
            for start in range(0, len(evaluation.users), _CHUNK):
                yield from _lines(evaluation, place, whose, slice(start, start + _CHUNK))


def _lines(
    evaluation: Evaluation, place: int, whose: Mapping[str, str], chunk: slice
) -> Iterator[bytes]:
    """Yield the lines of some examples of one run."""
    system, ranks = evaluation.runs[place], evaluation.ranks[place]
    expected = ranks.expected
    first = int(ranks.positives[: chunk.start].sum())
    borders = first + np.concatenate([[0], np.cumsum(ranks.positives[chunk])])
    for example, user, candidates, (low, high), values in zip(
        itertools.islice(system.examples, chunk.start, chunk.stop),
        system.users[chunk],
        ranks.candidates[chunk].tolist(),
        itertools.pairwise(borders.tolist()),
        evaluation.run_values[place, chunk].tolist(),
        strict=True,
    ):
        line = {"example_id": example, "user_id": user, **whose}
        places = {"candidates": candidates, "ranks": expected[low:high].tolist()}
        yield encode({**line, **places, **dict(zip(evaluation.metrics, values, strict=True))})
