"""What a new policy would have earned, from a log of what another one has shown (SNIPS).

``sum of w r / sum of w`` over shown items, where r is the reward (clicked or not) and
``w = probability that the new policy shows it / probability that the old one did``: the
self-normalised inverse-propensity estimator (Swaminathan and Joachims 2015).  It is biased by
less than the plain one varies, and stays within the range of rewards.
"""

from collections.abc import Sequence
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
    """

    value: float
    low: float
    high: float
    effective: float


def snips(
    rewards: ArrayLike,
    shown: ArrayLike,
    wanted: ArrayLike,
    users: Sequence[str],
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> Earned:
    """Estimate the mean reward of a policy from events that another policy has logged.

    Args:
        rewards: of every event.
        shown: probability with which the logging policy showed it; above 0.
        wanted: probability with which the policy to evaluate would show it.
        users: of every event; the bootstrap draws users.
        replicates: of the bootstrap.
        seed: of the draws.

    Raises:
        UsageError: lengths differ, a propensity is not in (0, 1], or no event has a weight.
    """
    columns: list[Floats] = [np.asarray(c, dtype=np.float64) for c in (rewards, shown, wanted)]
    reward, old, new = columns
    if not len(reward) == len(old) == len(new) == len(users):
        raise UsageError("rewards, propensities, probabilities and users differ in number")
    if not len(old) or ((old <= 0) | (old > 1) | (new < 0) | (new > 1)).any():
        raise UsageError("propensities must be above 0, and all probabilities at most 1")
    weights = new / old
    if not weights.any():
        raise UsageError("the policy would have shown nothing of what was logged")
    sums = UserSums.of(np.stack([weights * reward, weights])[:, :, None], users).sums[:, :, 0]
    drawn = bootstrap(UserSums(sums[:, :1, None], sums[:, 1:]), replicates, seed)
    many = len(sums) > 1 and replicates
    low, high = interval(drawn[:, 0, 0]) if many else (np.nan, np.nan)
    total = weights.sum()
    return Earned(
        float((weights * reward).sum() / total),
        float(low),
        float(high),
        float(total**2 / (weights**2).sum()),
    )
