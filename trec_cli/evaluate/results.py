"""From aligned systems to `metrics.json` and `per_user.jsonl`."""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trec_cli.core.arrays import let_go, parts, scratch, spans
from trec_cli.core.errors import UsageError
from trec_cli.core.jsonl import encode
from trec_cli.core.names import Names
from trec_cli.core.progress import Progress, Silent
from trec_cli.core.runs import NO_USER_SUFFIX
from trec_cli.core.text import counted
from trec_cli.evaluate.metrics import (
    Floats,
    Pools,
    Ranks,
    all_metrics,
    ambiguous,
    among,
    chance_metrics,
    metric_names,
    rank,
)
from trec_cli.evaluate.scores import System
from trec_cli.evaluate.settings import DEFAULT_KS, Family, Options
from trec_cli.evaluate.statistics import (
    Intervals,
    UserSums,
    detectable,
    effect_size,
    holm,
    intervals,
    paired_tests,
    ratio,
    total,
)

SIGNIFICANT = 0.05
_LINES = 1 << 12
"""Examples whose lines are made together."""
SMALL_SLICE = 30
"""Users below which a slice is marked: its intervals are wide and not to be trusted."""
_SEEDED = re.compile(r"(?P<system>.+)@(?P<seed>0|[1-9]\d*)")
"""``NAME@SEED``: runs of one system with different seeds."""

Summary = dict[str, Any]
"""The content of `metrics.json`."""


@dataclass(frozen=True)
class Evaluation:
    """Every metric of every example and system; a system has a run, or several seeds.

    Attributes:
        runs: one per scores file, aligned: the same examples in the same order.
        members: the indexes of each system's runs, by its name.
        metrics: names, in the order of the tables.
        run_values: ``[runs, examples, metrics]``.
        values: ``[systems, examples, metrics]``, the means over the runs of a system.
        chance: expected value of a random order, ``[examples, metrics]``.
    """

    runs: list[System]
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
    def ranks(self) -> list[Ranks]:
        """The ranks of the positives, by run."""
        return [run.ranks for run in self.runs]

    @property
    def examples(self) -> Names:
        """The example ids."""
        return self.runs[0].examples

    @property
    def users(self) -> Names:
        """The examples' user ids."""
        return self.runs[0].users

    def seeds(self, name: str) -> list[str]:
        """The seeds of a system's runs; empty where its name is that of a file."""
        runs = [self.runs[index].name for index in self.members[name]]
        return [] if name in runs else [split_seed(run)[1] or "" for run in runs]


def split_seed(name: str) -> tuple[str, str | None]:
    """Part ``hier@2`` into ``hier`` and ``2``; a name without a seed has None."""
    found = _SEEDED.fullmatch(name)
    return (found["system"], found["seed"]) if found else (name, None)


def pool_runs(names: Sequence[str], *, pool: bool = True) -> dict[str, list[int]]:
    """Map each system to the indexes of its runs in ``names``, in the order of their seeds.

    Without ``pool`` every run is a system of its own.

    Raises:
        UsageError: a system has runs with and without a seed in their name.
    """
    if not pool:
        return {name: [index] for index, name in enumerate(names)}
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(split_seed(name)[0], []).append(index)
    for system, indexes in members.items():
        if len(indexes) > 1 and system in names:
            raise UsageError(
                f"{', '.join(names[index] for index in indexes)}: is {system} a seed like the "
                f"others? Then call it {system}@SEED too; else give --no-pool, or another name"
            )
        indexes.sort(key=lambda index: int(split_seed(names[index])[1] or 0))
    return members


@dataclass(frozen=True)
class Blind:
    """What an audit has found of the questions, and a model that never sees the user.

    Attributes:
        summary: for `metrics.json`.
        warnings: why the results are to be read with care.
        pools: the model's scores of the evaluated examples, in their order; None where the
            systems have ranked other candidates than the examples have.
    """

    summary: dict[str, Any]
    warnings: Sequence[str] = ()
    pools: Pools | None = None


NO_USER = "no user"
BLEND = "blend"


def audit_entry(
    evaluation: Evaluation, blind: Blind, options: Options, measure: "Measure"
) -> dict[str, Any]:
    """Return the audit for `metrics.json`, with every metric of the model without user.

    ``differences`` compare every system with it, as ``comparisons`` do with the reference.
    """
    if blind.pools is None:
        return blind.summary
    values = np.stack(list(measure(rank(blind.pools)).values()), axis=1)
    wider = replace(evaluation, members={NO_USER: [], **evaluation.members})
    data = UserSums.of([values, *evaluation.values], evaluation.users)
    bounds = intervals(data, 0, options.replicates, options.seed)
    measured = with_intervals(wider, data, bounds)[NO_USER]
    whole = blind.summary.get("questions") in (None, len(evaluation.users))
    return {
        **blind.summary,
        # Of fewer examples than were audited (--common), all metrics are those of these.
        "no_user": {**measured, **(blind.summary["no_user"] if whole else {})},
        "differences": _comparisons(wider, data, bounds, 0, options),
    }


Measure = Callable[[Ranks], dict[str, Floats]]
"""Computes every metric of every example."""


def evaluate_systems(
    runs: Sequence[System],
    ks: Sequence[int] = DEFAULT_KS,
    *,
    pool: bool = True,
    family: Family = "standard",
    catalogue: int | None = None,
) -> Evaluation:
    """Compute all metrics of aligned runs (see :func:`trec_cli.evaluate.scores.align`).

    With ``catalogue``, metrics among so many items are estimated from sampled candidates.

    Raises:
        UsageError: as :func:`pool_runs`; what cannot be estimated.
    """
    members = pool_runs([run.name for run in runs], pool=pool)
    names, number = metric_names(ks, family), len(runs[0].users)
    measure = measure_of(ks, family, catalogue)
    values = scratch((len(runs), number, len(names)))
    for index, run in enumerate(runs):
        _fill(values[index], run.ranks, measure)
    chance = scratch((number, len(names)))

    def luck(ranks: Ranks) -> dict[str, Floats]:
        blind = ranks if catalogue is None else among(ranks, catalogue)
        return chance_metrics(blind, ks, family)

    _fill(chance, runs[0].ranks, luck)
    return Evaluation(list(runs), members, names, values, _pooled(values, members), chance)


def _fill(values: Floats, ranks: Ranks, measure: "Measure") -> None:
    """Write the metrics of all examples into ``[examples, metrics]``."""
    for span, part in ranks.parts():
        np.stack(list(measure(part).values()), axis=1, out=values[span])
        let_go(values)


def measure_of(ks: Sequence[int], family: Family, catalogue: int | None) -> Measure:
    """Return what computes the metrics."""
    if catalogue is None:
        return lambda ranks: all_metrics(ranks, ks, family)
    from trec_cli.evaluate.corrected import corrected_metrics  # loads scipy

    return lambda ranks: corrected_metrics(ranks, catalogue, ks)


def _pooled(values: Floats, members: Mapping[str, Sequence[int]]) -> Floats:
    """Take the mean over the runs of each system; nothing is copied where each has one."""
    indexes = list(members.values())
    if indexes == [[index] for index in range(len(values))]:
        return values
    pooled = scratch((len(indexes), *values.shape[1:]))
    for mean, of_system in zip(pooled, indexes, strict=True):
        for span in spans(len(mean)):
            mean[span] = values[of_system, span].mean(axis=0)
            let_go(values)
            let_go(pooled)
    return pooled


def summarise(
    evaluation: Evaluation, options: Options, progress: Progress | None = None
) -> Summary:
    """Make the content of `metrics.json`: means, intervals, chance and comparisons.

    A value that is not defined (AUC without negatives, an interval of one user) is None.
    """
    data = UserSums.of(evaluation.values, evaluation.users)
    (progress or Silent()).info(
        f"resampling {counted(len(data.sums), 'user')} {counted(options.replicates, 'time')}"
    )
    reference = evaluation.names.index(options.reference or usual_reference(evaluation.names))
    bounds = intervals(data, reference, options.replicates, options.seed)
    return {
        "users": len(data.sums),
        "systems": _systems(evaluation, data, bounds),
        "chance": chance_means(evaluation.metrics, evaluation.chance),
        "comparisons": _comparisons(evaluation, data, bounds, reference, options),
        **what_users_add(evaluation, options, progress),
    }


def usual_reference(names: Sequence[str]) -> str:
    """Return the system that the others are compared with where nobody says otherwise.

    The blend of all cheap signals is what everything dearer must beat.
    """
    return BLEND if BLEND in names else next((n for n in names if not sees_no_user(n)), names[0])


def sees_no_user(name: str) -> bool:
    """Check whether a system was asked without its users (``trec score --no-user``)."""
    return name.endswith(NO_USER_SUFFIX)


def what_users_add(
    evaluation: Evaluation, options: Options, progress: Progress | None = None
) -> Summary:
    """Compare every system with itself without the user, where both have scores.

    Holm's correction covers all of these comparisons together.
    """
    names = evaluation.names
    pairs = [(name, f"{name}{NO_USER_SUFFIX}") for name in names]
    found: list[dict[str, Any]] = []
    for pair in (pair for pair in pairs if pair[1] in names):
        (progress or Silent()).info(f"{pair[0]} beside {pair[1]}")
        indexes = [names.index(name) for name in pair]
        of_pair = replace(evaluation, members={name: evaluation.members[name] for name in pair})
        data = UserSums.of([evaluation.values[index] for index in indexes], evaluation.users)
        bounds = intervals(data, 1, options.replicates, options.seed)
        found += _comparisons(of_pair, data, bounds, 1, options)
    together = holm(np.array([np.nan if e["p"] is None else e["p"] for e in found]))
    corrected = [{**e, "p_holm": _number(p)} for e, p in zip(found, together, strict=True)]
    return {"users_add": corrected} if corrected else {}


def chance_means(metrics: Sequence[str], values: Floats) -> dict[str, float | None]:
    """Return the mean of every metric over examples ``[examples, metrics]``."""
    finite = total(np.isfinite(part) for part in parts(values))
    sums = total(np.where(np.isfinite(part), part, 0.0) for part in parts(values))
    means = ratio(sums, finite.astype(float))
    return {name: _number(mean) for name, mean in zip(metrics, means, strict=True)}


def _systems(evaluation: Evaluation, data: UserSums, bounds: Intervals) -> dict[str, Any]:
    """Return the entry of every system: examples, tie rate, and each metric with its interval.

    A pooled system also has its seeds, and of each metric their means and the standard
    deviation of these.
    """
    measured = with_intervals(evaluation, data, bounds)
    entries: dict[str, Any] = {}
    for name, indexes in evaluation.members.items():
        ties = [_tie_rate(evaluation.runs[index]) for index in indexes]
        entry: dict[str, Any] = {
            "examples": len(evaluation.users),
            "tie_rate": sum(ties) / len(ties),
        }
        metrics = measured[name]
        if seeds := evaluation.seeds(name):
            spread = _spread(evaluation, indexes)
            entry["seeds"] = seeds
            metrics = {metric: {**metrics[metric], **spread[metric]} for metric in metrics}
        entries[name] = {**entry, **metrics}
    return entries


def _tie_rate(run: System) -> float:
    """Return the share of examples of which a positive ties with a candidate that is none."""
    return sum(int(ambiguous(part).sum()) for _, part in run.ranks.parts()) / len(run.users)


def _spread(evaluation: Evaluation, indexes: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return each metric's mean of every seed, and their standard deviation."""
    means = UserSums.of([evaluation.run_values[i] for i in indexes], evaluation.users).means()
    deviations = means.std(axis=0, ddof=1) if len(indexes) > 1 else np.full(means.shape[1], np.nan)
    return {
        metric: {"seed_sd": _number(deviation), "by_seed": [_number(value) for value in column]}
        for metric, column, deviation in zip(evaluation.metrics, means.T, deviations, strict=True)
    }


def with_intervals(
    evaluation: Evaluation, data: UserSums, bounds: Intervals
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return value, low and high by system and metric."""
    means = data.means()
    return {
        name: {
            metric: _with_interval(*numbers)
            for metric, *numbers in zip(
                evaluation.metrics, means[index], bounds.low[index], bounds.high[index], strict=True
            )
        }
        for index, name in enumerate(evaluation.names)
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
    others = [index for index in range(len(names)) if index != reference]
    if not sees_no_user(names[reference]) and names[reference] != NO_USER:
        # Asked without users, a system is compared with itself alone: see what_users_add.
        others = [index for index in others if not sees_no_user(names[index])]
    if not others:
        return []
    means = data.means()
    sums = scratch((len(data.sums), len(others), data.sums.shape[2]))
    for span in spans(len(sums)):
        sums[span] = data.sums[span][:, others] - data.sums[span][:, [reference]]
        let_go(data.sums)
        let_go(sums)
    p, corrected, effect = _tests(sums, data.counts, options)
    visible = detectable(sums, data.counts)
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
            "detectable": _number(visible[row, column]),
        }
        for row, other in enumerate(others)
        for column, metric in enumerate(evaluation.metrics)
    ]


def _tests(sums: Floats, counts: Floats, options: Options) -> tuple[Floats, Floats, Floats]:
    """Return p, corrected p and effect size, each ``[systems but one, metrics]``.

    Without permutations nothing is tested, and both p are NaN.
    """
    users, *shape = sums.shape
    defined = scratch((users, math.prod(shape)))
    for span in spans(users):
        here = np.where(counts[span, None] > 0, sums[span], np.nan)
        defined[span] = here.reshape(len(here), -1)
        let_go(defined)
    effect = effect_size(defined).reshape(shape)
    if not options.permutations:
        return np.full(shape, np.nan), np.full(shape, np.nan), effect
    p = paired_tests(sums, options.permutations, options.seed)
    return p, holm(p.ravel()).reshape(shape), effect


def differs(comparison: Mapping[str, Any]) -> bool:
    """Check whether a comparison is significant after Holm's correction."""
    p = comparison["p_holm"]
    return p is not None and p < SIGNIFICANT


def too_few_permutations(summary: Summary, permutations: int) -> str | None:
    """Return advice where no comparison could be significant, however different the systems are.

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
    for name, indexes in evaluation.members.items():
        seeds = evaluation.seeds(name)
        for number, index in enumerate(indexes):
            whose = {"system": name, **({"seed": seeds[number]} if seeds else {})}
            run, of_run = evaluation.runs[index], evaluation.run_values[index]
            ids = zip(run.examples, run.users, strict=True)
            for span, ranks in run.ranks.parts(_LINES):
                values = of_run[span].tolist()
                let_go(of_run)
                here = itertools.islice(ids, len(values))
                yield from _lines(here, ranks, values, evaluation.metrics, whose)


def _lines(
    ids: Iterable[tuple[str, str]],
    ranks: Ranks,
    values: Iterable[Sequence[float]],
    metrics: Sequence[str],
    whose: Mapping[str, str],
) -> Iterator[bytes]:
    """Yield the lines of some examples of one run."""
    expected = ranks.expected
    borders = np.concatenate([[0], np.cumsum(ranks.positives)]).tolist()
    of_ranks = zip(ranks.candidates.tolist(), itertools.pairwise(borders), strict=True)
    for (example, user), row, (candidates, (low, high)) in zip(ids, values, of_ranks, strict=True):
        line = {"example_id": example, "user_id": user, **whose}
        standing = {"candidates": candidates, "ranks": expected[low:high].tolist()}
        yield encode({**line, **standing, **dict(zip(metrics, row, strict=True))})
