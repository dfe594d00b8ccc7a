"""SNIPS against worked-out values and a simulated log."""

import numpy as np
import pytest

from trec_cli.core.errors import UsageError
from trec_cli.evaluate.exposure import snips


def test_the_same_policy_has_the_mean_reward() -> None:
    found = snips([1, 0, 1, 0], [0.5] * 4, [0.5] * 4, list("abcd"))
    assert found.value == 0.5
    assert found.effective == 4


def test_weights_are_ratios_of_probabilities() -> None:
    found = snips([1, 0], [0.2, 0.8], [0.6, 0.4], ["a", "b"])
    assert found.value == pytest.approx(3 / 3.5)
    assert found.effective == pytest.approx(3.5**2 / (9 + 0.25))


def test_the_estimate_is_that_of_the_policy_that_was_never_shown() -> None:
    random = np.random.default_rng(0)
    old, new, click = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6]), [0.1, 0.3, 0.5]
    shown = random.choice(3, size=20_000, p=old)
    rewards = random.random(20_000) < np.array(click)[shown]
    found = snips(rewards, old[shown], new[shown], [str(n) for n in range(20_000)])
    truth = float(new @ click)
    assert found.low < truth < found.high
    assert found.value == pytest.approx(truth, abs=0.02)
    assert rewards.mean() < truth - 0.15, "the log itself says something else"


def test_the_interval_draws_users_with_all_their_events() -> None:
    rewards = [1, 1, 1, 0, 0, 0]
    alone = snips(rewards, [0.5] * 6, [0.5] * 6, list("abcdef"))
    two = snips(rewards, [0.5] * 6, [0.5] * 6, list("aaabbb"))
    assert two.high - two.low > alone.high - alone.low


def test_one_user_has_no_interval() -> None:
    assert np.isnan(snips([1, 0], [0.5, 0.5], [0.5, 0.5], ["a", "a"]).low)


@pytest.mark.parametrize(
    ("shown", "wanted", "message"),
    [
        ([0.0, 0.5], [0.5, 0.5], "above 0"),
        ([0.5, 1.5], [0.5, 0.5], "at most 1"),
        ([0.5, 0.5], [0.0, 0.0], "nothing of what was logged"),
        ([0.5], [0.5, 0.5], "differ in number"),
    ],
)
def test_what_is_no_probability_is_refused(
    shown: list[float], wanted: list[float], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        snips([1, 0], shown, wanted, ["a", "b"])
