"""What a new policy would have earned, from a log of what another one has shown (SNIPS).

``sum of w r / sum of w`` over shown items, where r is the reward (clicked or not) and
``w = probability that the new policy shows it / probability that the old one did``: the
self-normalised inverse-propensity estimator (Swaminathan and Joachims 2015).  It is biased by
less than the plain one varies, and stays within the range of rewards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from trec_cli.core.errors import UsageError
from trec_cli.evaluate.metrics import Floats
from trec_cli.evaluate.statistics import UserSums, bootstrap, interval


@dataclass(frozen=True)
class Earned:
    """An estimate with its 95 % interval over users.

    Attributes:
        value, low, high: the estimate; bounds are NaN for one user.
        effective: number of equally weighted events that would vary as much: ``(sum w)**2 /
            sum w**2``.  Where it is far below the number of events, few of them decide.
        difference, low_difference, high_difference: from the mean reward of the log.
        events: number of events that the policy would have shown, too.
        largest: the highest weight.
        clipped: number of weights that were cut.
        total: sum of the weights.
    """

    value: float
    low: float
    high: float
    effective: float
    difference: float = np.nan
    low_difference: float = np.nan
    high_difference: float = np.nan
    events: int = 0
    largest: float = np.nan
    clipped: int = 0
    total: float = 0.0


def snips(
    rewards: ArrayLike,
    shown: ArrayLike,
    wanted: ArrayLike,
    users: Sequence[str],
    *,
    clip: float | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> Earned:
    """Estimate the mean reward of a policy from events that another policy has logged.

    Args:
        rewards: of every event.
        shown: probability with which the logging policy showed it; above 0.
        wanted: probability with which the policy to evaluate would show it.
        users: of every event; the bootstrap draws users.
        clip: cut weights above this; less variance, for a bias towards the log.
        replicates: of the bootstrap.
        seed: of the draws.

    Raises:
        UsageError: lengths differ, a propensity is not in (0, 1], or no event has a weight.
    """
    policies = {"": np.asarray(wanted, dtype=np.float64)}
    found = earned(rewards, shown, policies, users, clip=clip, replicates=replicates, seed=seed)
    return found[""]


def earned(
    rewards: ArrayLike,
    shown: ArrayLike,
    policies: Mapping[str, Floats],
    users: Sequence[str],
    *,
    clip: float | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Earned]:
    """Estimate the mean reward of several policies, in the same draws of users.

    Args and errors are those of :func:`snips`, with the probabilities of every policy by name.
    """
    reward, old = (np.asarray(column, dtype=np.float64) for column in (rewards, shown))
    for new in policies.values():
        _check(reward, old, new, users)
    whole = np.stack([new / old for new in policies.values()])
    weights = whole if clip is None else np.minimum(whole, clip)
    joined = np.concatenate([weights, np.ones((1, len(reward)))])  # the log is a policy, too
    sums = UserSums.of(np.stack([joined.T * reward[:, None], joined.T]), users).sums
    drawn = _drawn(sums, replicates, seed)
    low, high = interval(drawn)
    low_difference, high_difference = interval(drawn - drawn[:, -1:])
    values = (joined @ reward) / joined.sum(axis=1)
    return {
        name: Earned(
            value=float(values[index]),
            low=float(low[index]),
            high=float(high[index]),
            effective=float(weights[index].sum() ** 2 / (weights[index] ** 2).sum()),
            difference=float(values[index] - values[-1]),
            low_difference=float(low_difference[index]),
            high_difference=float(high_difference[index]),
            events=int((weights[index] > 0).sum()),
            largest=float(weights[index].max()),
            clipped=int((whole[index] > weights[index]).sum()),
            total=float(weights[index].sum()),
        )
        for index, name in enumerate(policies)
    }


def group_means(
    rewards: ArrayLike,
    groups: Sequence[str],
    users: Sequence[str],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Earned]:
    """Return the mean reward of each group, and its difference from the first one.

    Both have intervals by bootstrap over all users; groups are in the order of their names.

    Args:
        rewards: of every event.
        groups: of every event.
        users: of every event.
        replicates: of the bootstrap.
        seed: of the draws.
    """
    reward, names = np.asarray(rewards, dtype=np.float64), sorted(set(groups))
    own = np.array([[group == name for group in groups] for name in names], dtype=np.float64)
    sums = UserSums.of(np.stack([own.T * reward[:, None], own.T]), users).sums
    drawn = _drawn(sums, replicates, seed)
    low, high = interval(drawn)
    low_difference, high_difference = interval(drawn - drawn[:, :1])
    values, events = (own @ reward) / own.sum(axis=1), own.sum(axis=1)
    return {
        name: Earned(
            value=float(values[index]),
            low=float(low[index]),
            high=float(high[index]),
            effective=float(events[index]),
            difference=float(values[index] - values[0]),
            low_difference=float(low_difference[index]),
            high_difference=float(high_difference[index]),
            events=int(events[index]),
            largest=1.0,
            total=float(events[index]),
        )
        for index, name in enumerate(names)
    }


def _drawn(sums: Floats, replicates: int, seed: int) -> Floats:
    """Return the estimates of every draw of users, ``[replicates, policies]``.

    ``sums`` are those of weighted rewards and of weights, ``[users, 2, policies]``.
    """
    if len(sums) < 2 or not replicates:
        return np.full((1, sums.shape[2]), np.nan)
    return bootstrap(UserSums(sums[:, :1], sums[:, 1]), replicates, seed)[:, 0]


def _check(reward: Floats, old: Floats, new: Floats, users: Sequence[str]) -> None:
    if not len(reward) == len(old) == len(new) == len(users):
        raise UsageError("rewards, propensities, probabilities and users differ in number")
    if not len(old) or ((old <= 0) | (old > 1) | (new < 0) | (new > 1)).any():
        raise UsageError("propensities must be above 0, and all probabilities at most 1")
    if not new.any():
        raise UsageError("the policy would have shown nothing of what was logged")
