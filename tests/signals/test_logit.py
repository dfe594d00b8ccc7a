"""The conditional logit against simulated choices, finite differences and hand-made cases."""

import math

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from trec_cli.signals.logit import ChoiceSets, fit_logit, negative_log_likelihood


def _simulated(questions: int, size: int, truth: list[float], seed: int = 0) -> ChoiceSets:
    draws = np.random.default_rng(seed)
    features = draws.normal(size=(questions, size, len(truth)))
    noise = draws.gumbel(size=(questions, size))
    chosen = np.argmax(features @ truth + noise, axis=1)
    right = np.arange(size) == chosen[:, None]
    ends = np.arange(questions + 1) * size
    return ChoiceSets.of(features.reshape(-1, len(truth)), ends, right.ravel())


def test_known_coefficients_are_recovered_within_their_standard_errors() -> None:
    truth = [1.0, -0.5, 0.0]
    fitted = fit_logit(_simulated(3000, 8, truth), ["a", "b", "c"], penalties=[1e-6])
    deviations = (fitted.weights - truth) / (fitted.errors / fitted.scales)
    assert np.abs(deviations).max() < 3
    assert fitted.errors == pytest.approx(np.full(3, 0.025), rel=0.4)


def test_the_gradient_equals_finite_differences_with_several_right_answers() -> None:
    draws = np.random.default_rng(1)
    ends = np.array([0, 3, 4, 9])
    right = np.array([1, 0, 1, 1, 0, 1, 0, 0, 0], bool)
    choices = ChoiceSets.of(draws.normal(size=(9, 4)), ends, right)
    at = draws.normal(size=4)
    numeric = approx_fprime(at, lambda w: negative_log_likelihood(w, choices)[0], 1e-7)
    np.testing.assert_allclose(negative_log_likelihood(at, choices)[1], numeric, atol=1e-6)


def test_the_likelihood_of_two_candidates_is_worked_out_by_hand() -> None:
    choices = ChoiceSets.of(np.array([[1.0], [0.0]]), np.array([0, 2]), np.array([True, False]))
    loss, gradient = negative_log_likelihood(np.array([math.log(3)]), choices)
    assert loss == pytest.approx(-math.log(3 / 4))
    assert gradient.tolist() == pytest.approx([3 / 4 - 1])


def test_a_question_with_two_right_answers_has_the_mean_of_their_log_probabilities() -> None:
    choices = ChoiceSets.of(
        np.array([[0.0], [0.0], [0.0]]), np.array([0, 3]), np.array([True, True, False])
    )
    assert negative_log_likelihood(np.zeros(1), choices)[0] == pytest.approx(math.log(3))


def test_a_question_without_a_right_answer_is_left_out() -> None:
    features = np.arange(5.0)[:, None]
    right = np.array([False, False, True, False, False])
    choices = ChoiceSets.of(features, np.array([0, 2, 5]), right)
    assert choices.features.ravel().tolist() == [2.0, 3.0, 4.0]
    assert choices.ends.tolist() == [0, 3]


def test_a_single_candidate_teaches_nothing() -> None:
    choices = ChoiceSets.of(np.array([[1.0], [7.0]]), np.array([0, 1, 2]), np.array([True, True]))
    fitted = fit_logit(choices, ["x"])
    assert fitted.coefficients.tolist() == [0.0]
    assert fitted.log_likelihood == 0.0


def test_a_feature_that_is_the_same_everywhere_has_coefficient_zero() -> None:
    plain = _simulated(300, 5, [1.0])
    constant = np.column_stack([plain.features, np.full(len(plain.features), 4.0)])
    fitted = fit_logit(ChoiceSets(constant, plain.ends, plain.right), ["x", "constant"])
    assert fitted.coefficients[1] == 0.0
    assert fitted.coefficients[0] > 0.5


def test_a_shift_that_all_candidates_of_a_question_share_changes_nothing() -> None:
    choices = _simulated(200, 4, [1.0, -1.0])
    shifted = choices.features + np.repeat(np.arange(200.0), 4)[:, None]
    at = np.array([0.3, 0.7])
    moved = ChoiceSets(shifted, choices.ends, choices.right)
    before, after = negative_log_likelihood(at, choices), negative_log_likelihood(at, moved)
    assert after[0] == pytest.approx(before[0])
    np.testing.assert_allclose(after[1], before[1], atol=1e-9)


def test_large_scores_do_not_overflow() -> None:
    choices = ChoiceSets.of(np.array([[1e4], [0.0]]), np.array([0, 2]), np.array([False, True]))
    assert negative_log_likelihood(np.ones(1), choices)[0] == pytest.approx(1e4)


def test_noise_is_fitted_with_a_higher_penalty_than_signal() -> None:
    noise = fit_logit(_simulated(60, 5, [0.0] * 10), [str(n) for n in range(10)])
    signal = fit_logit(_simulated(600, 5, [2.0] * 2), ["a", "b"])
    assert noise.penalty > signal.penalty


def test_fitting_twice_gives_the_same_numbers() -> None:
    first, second = (fit_logit(_simulated(100, 5, [1.0, 0.5]), ["a", "b"]) for _ in range(2))
    assert first.coefficients.tolist() == second.coefficients.tolist()
    assert first.errors.tolist() == second.errors.tolist()
