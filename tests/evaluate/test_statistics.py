"""Intervals and tests against exact enumeration and worked-out values."""

import itertools

import numpy as np
import pytest
from scipy import stats

from trec_cli.evaluate import statistics
from trec_cli.evaluate.statistics import (
    UserSums,
    bootstrap,
    detectable,
    effect_size,
    holm,
    interval,
    intervals,
    paired_tests,
    sign_flip_test,
)


def sums(values: list[float], users: list[str] | None = None) -> UserSums:
    names = users or [str(place) for place in range(len(values))]
    return UserSums.of(np.array(values)[None, :, None], names)


def test_examples_of_one_user_are_summed_and_the_mean_is_over_examples() -> None:
    data = sums([1.0, 0.0, 0.5], ["a", "b", "a"])
    assert data.sums[:, 0, 0].tolist() == [1.5, 0.0]
    assert data.counts[:, 0].tolist() == [2, 1]
    assert data.means()[0, 0] == pytest.approx(0.5)


def test_undefined_values_are_left_out_of_the_mean() -> None:
    assert sums([1.0, np.nan, 0.0]).means()[0, 0] == 0.5
    assert np.isnan(sums([np.nan]).means()[0, 0])


def test_bootstrap_means_spread_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).random(400)
    replicates = bootstrap(sums(values.tolist()), 4000, seed=1)[:, 0, 0]
    assert replicates.mean() == pytest.approx(values.mean(), abs=0.002)
    assert replicates.std() == pytest.approx(values.std() / 20, rel=0.05)
    low, high = interval(replicates)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_bootstrap_draws_whole_users() -> None:
    two_users = sums([1.0, 1.0, 1.0, 0.0, 0.0, 0.0], ["a"] * 3 + ["b"] * 3)
    assert set(bootstrap(two_users, 200, seed=0)[:, 0, 0].tolist()) == {0.0, 0.5, 1.0}


def test_bootstrap_depends_on_the_seed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sums([0.1, 0.4, 0.9, 0.3])
    first = bootstrap(data, 50, seed=3)
    monkeypatch.setattr("trec_cli.evaluate.statistics._CELLS", 8)
    assert bootstrap(data, 50, seed=3) == pytest.approx(first, abs=1e-15)
    assert not np.array_equal(bootstrap(data, 50, seed=4), first)


def test_all_systems_see_the_same_resamples() -> None:
    values = np.random.default_rng(0).random((1, 30, 1))
    data = UserSums.of(np.concatenate([values, values + 0.25]), [str(n) for n in range(30)])
    replicates = bootstrap(data, 100, seed=0)
    assert (replicates[:, 1] - replicates[:, 0]) == pytest.approx(0.25)


def test_no_replicates_give_none() -> None:
    assert bootstrap(sums([1.0, 2.0]), 0, seed=0).shape == (0, 1, 1)


def test_the_sign_flip_test_approaches_the_exact_p_value() -> None:
    differences = np.array([0.5, 0.2, -0.1, 0.4, 0.3, -0.2, 0.6, 0.1])
    patterns = np.array(list(itertools.product([1, -1], repeat=8)))
    exact = (np.abs(patterns @ differences) >= abs(differences.sum()) - 1e-12).mean()
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert exact == pytest.approx(theirs.pvalue)
    p = sign_flip_test(differences[:, None], 40_000, seed=0)
    assert p[0] == pytest.approx(exact, abs=0.01)


def test_equal_systems_have_p_one() -> None:
    assert sign_flip_test(np.zeros((5, 2)), 100, seed=0).tolist() == [1.0, 1.0]


def test_p_is_never_zero() -> None:
    assert sign_flip_test(np.ones((200, 1)), 99, seed=0)[0] == pytest.approx(0.01)


def test_under_the_null_small_p_values_are_rare() -> None:
    random = np.random.default_rng(5)
    p = sign_flip_test(random.normal(size=(60, 2000)), 999, seed=1)
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_holm_gives_the_values_worked_out_by_hand() -> None:
    p = np.array([0.01, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.2])) == pytest.approx([0.2])


def test_effect_size_is_mean_over_standard_deviation() -> None:
    differences = np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]])
    found = effect_size(differences)
    assert found[0] == pytest.approx(2.0)
    assert np.isnan(found[1])
    assert np.isnan(effect_size(differences[:1])).all()


def test_effect_size_leaves_undefined_differences_out() -> None:
    differences = np.array([[1.0], [np.nan], [2.0], [3.0]])
    assert effect_size(differences)[0] == pytest.approx(2.0)
    assert np.isnan(effect_size(np.array([[1.0], [np.nan]]))[0])


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw users of equal numbers together from eleven users on."""
    monkeypatch.setattr(statistics, "_MANY", 10)


@pytest.mark.usefixtures("few_are_many")
def test_users_of_equal_numbers_are_drawn_together_with_the_same_spread() -> None:
    values = np.repeat([0.0, 0.25, 1.0], [200, 120, 80])
    np.random.default_rng(0).shuffle(values)
    replicates = bootstrap(sums(values.tolist()), 4000, seed=1)[:, 0, 0]
    assert replicates.mean() == pytest.approx(values.mean(), abs=0.001)
    assert replicates.std() == pytest.approx(values.std() / 20, rel=0.05)
    theirs = stats.bootstrap((values,), np.mean, method="percentile", rng=np.random.default_rng(3))
    assert interval(replicates) == pytest.approx(theirs.confidence_interval, abs=0.004)


@pytest.mark.usefixtures("few_are_many")
def test_systems_see_the_same_resamples_where_users_are_drawn_together() -> None:
    values = np.repeat([0.0, 0.5, 0.75], [100, 50, 50])[None, :, None]
    both = np.concatenate([values, 1 - values])
    replicates = bootstrap(UserSums.of(both, [str(n) for n in range(200)]), 50, seed=0)
    assert replicates.sum(axis=1) == pytest.approx(1.0)
    assert replicates[:, 0].std() > 0


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("better", [30, 36, 40])
def test_signs_flipped_together_give_the_p_value_of_the_binomial_test(better: int) -> None:
    differences = np.repeat([1.0, -1.0], [better, 60 - better])[:, None]
    exact = stats.binomtest(better, 60).pvalue
    assert sign_flip_test(differences, 40_000, seed=0)[0] == pytest.approx(exact, abs=0.01)


@pytest.mark.usefixtures("few_are_many")
def test_examples_of_one_user_stay_together_where_users_are_drawn_together() -> None:
    names = [f"u{n // 2}" for n in range(80)]
    replicates = bootstrap(sums([0.0, 1.0] * 40, names), 100, seed=0)
    assert replicates[:, 0, 0].tolist() == [0.5] * 100


def test_users_who_all_differ_are_drawn_one_by_one_however_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2))
    values = values[np.lexsort(values.T)]  # the order of very many users
    data = UserSums.of(values.T[:, :, None], [f"{n:02}" for n in range(50)])
    before = bootstrap(data, 20, seed=0), sign_flip_test(values, 99, seed=0)
    monkeypatch.setattr(statistics, "_MANY", 10)
    after = bootstrap(data, 20, seed=0), sign_flip_test(values, 99, seed=0)
    for found, expected in zip(after, before, strict=True):
        assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("alike", [True, False])
def test_no_order_of_very_many_users_changes_a_draw(alike: bool) -> None:
    random = np.random.default_rng(1)
    values = random.integers(0, 3, 400) / 2 if alike else random.random(400)
    order = random.permutation(400)
    names = np.array([f"u{n // 2}" for n in range(400)])
    one = bootstrap(sums(values.tolist(), names.tolist()), 30, seed=0)
    two = bootstrap(sums(values[order].tolist(), names[order].tolist()), 30, seed=0)
    assert two == pytest.approx(one, abs=1e-12)
    p = [sign_flip_test(v[:, None] - 0.5, 99, seed=0) for v in (values, values[order])]
    assert p[0].tolist() == p[1].tolist()


def _three_systems(users: int) -> UserSums:
    """Metrics of 0, 0.5 and 1, so that many users are alike in two systems."""
    values = np.random.default_rng(5).integers(0, 3, (3, users, 2)) / 2
    values[2] = np.minimum(values[2] + values[0], 1)  # correlated with the first
    return UserSums.of(values, [str(n) for n in range(users)])


def test_intervals_two_by_two_are_those_of_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _three_systems(2000)
    together = intervals(data, 0, 3000, seed=0)
    monkeypatch.setattr(statistics, "_MANY", 10)
    apart = intervals(data, 0, 3000, seed=0)
    for name in ("low", "high", "low_difference", "high_difference"):
        # The spread of a mean is about 0.01; a quantile of 3,000 draws is sure to a fifth of it.
        assert getattr(apart, name) == pytest.approx(getattr(together, name), abs=0.002)
    assert apart.low_difference[0].tolist() == apart.high_difference[0].tolist() == [0, 0]
    width = apart.high_difference[2] - apart.low_difference[2]
    alone = np.hypot(apart.high[2] - apart.low[2], apart.high[0] - apart.low[0])
    assert (width < 0.9 * alone).all()  # drawn in pairs, not each by itself


def test_paired_tests_of_very_many_users_are_those_of_each_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = _three_systems(1000)
    differences = data.sums[:, 1:] - data.sums[:, [0]]
    together = paired_tests(differences, 20_000, seed=0)
    monkeypatch.setattr(statistics, "_MANY", 10)
    apart = paired_tests(differences, 20_000, seed=0)
    assert apart == pytest.approx(together, abs=0.015)
    assert apart.shape == (2, 2)


def test_one_user_or_no_replicate_gives_no_interval() -> None:
    assert np.isnan(intervals(sums([0.5]), 0, 100, seed=0).low).all()
    assert np.isnan(intervals(sums([0.5, 1.0]), 0, 0, seed=0).high_difference).all()


def test_the_detectable_difference_is_that_of_a_paired_test() -> None:
    random = np.random.default_rng(0)
    differences = random.normal(0.1, 0.5, size=400)
    found = detectable(differences[:, None, None], np.ones((400, 1)))
    expected = 2.801585 * differences.std(ddof=1) / np.sqrt(400)
    assert found[0, 0] == pytest.approx(expected, rel=1e-6)


def test_four_of_five_samples_show_the_detectable_difference() -> None:
    random = np.random.default_rng(1)
    effect = 2.801585 / np.sqrt(200)
    samples = random.normal(effect, 1.0, size=(2000, 200))
    z = samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / np.sqrt(200))
    assert (np.abs(z) > 1.96).mean() == pytest.approx(0.80, abs=0.03)


def test_examples_of_one_user_are_one_observation() -> None:
    once = np.array([1.0, -1.0, 0.5, 0.0])
    alone = detectable(once[:, None, None], np.ones((4, 1)))
    five_times = detectable(5 * once[:, None, None], np.full((4, 1), 5.0))
    assert five_times == pytest.approx(alone), "repeating a user's question adds nothing"


def test_one_user_shows_no_difference() -> None:
    assert np.isnan(detectable(np.ones((1, 1, 1)), np.ones((1, 1)))).all()
