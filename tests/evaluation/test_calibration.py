"""Temperature, thresholds for doubt and the risk-coverage curve, beside SciPy, values computed by hand, and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from mien.evaluation.calibration import apply_temperature, cross_fit_temperature, fit_temperature, measure_reliability
from mien.evaluation.selective import cross_validate_threshold, find_threshold, measure_threshold, risk_coverage


def drawn_from(temperature: float, count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 5), and labels drawn from their softmax at a temperature: the logits are wrong by exactly that."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (count, 5))
    cumulated = apply_temperature(logits, temperature).cumsum(axis=1)
    return logits, (rng.random((count, 1)) > cumulated).sum(axis=1)


@pytest.mark.parametrize("truth", [0.5, 1.0, 2.5])
def test_the_temperature_by_which_logits_are_wrong_is_found(truth: float) -> None:
    logits, labels = drawn_from(truth)

    def log_loss(log_temperature: float) -> float:
        probabilities = apply_temperature(logits, np.exp(log_temperature))
        return -np.log(probabilities[np.arange(len(labels)), labels]).mean()

    best = minimize_scalar(log_loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-8})
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(best.x), rel=1e-4)
    assert fit_temperature(logits, labels) == pytest.approx(truth, rel=0.1)


def test_a_temperature_changes_no_answer_and_no_shift_of_logits_changes_it() -> None:
    logits, labels = drawn_from(2.0, 500)
    assert (apply_temperature(logits, 3.0).argmax(axis=1) == logits.argmax(axis=1)).all()
    shifted = logits + np.random.default_rng(1).normal(size=(len(logits), 1))
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def test_each_half_is_tempered_by_the_other() -> None:
    logits, labels = drawn_from(2.0)
    probabilities, temperatures = cross_fit_temperature(logits, labels)
    by_either = [apply_temperature(logits, temperature) for temperature in temperatures]
    first = np.isclose(probabilities, by_either[0]).all(axis=1)
    second = np.isclose(probabilities, by_either[1]).all(axis=1)
    assert (first ^ second).all() and first.sum() == len(labels) // 2
    assert fit_temperature(logits[second], labels[second]) == pytest.approx(temperatures[0], rel=1e-6)
    assert (
        measure_reliability(probabilities, labels).calibration_error
        < 0.5 * measure_reliability(apply_temperature(logits, 1), labels).calibration_error
    )


def test_the_risk_coverage_curve_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])  # two faces of one confidence
    curve = risk_coverage(probabilities, np.array([0, 0, 0, 1]))  # right, right, wrong, wrong
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 1 / 3, 0.5])
    assert curve.area == pytest.approx((0 + 1 / 3 + 1 / 3 + 0.5) / 4)


def test_a_threshold_keeps_what_it_promises_and_no_lower_one_does() -> None:
    logits, labels = drawn_from(1.0)
    probabilities = apply_temperature(logits, 1.0)
    for goal in (0.8, 0.9):
        threshold = find_threshold(probabilities, labels, goal)
        assert measure_threshold(probabilities, labels, threshold).accuracy >= goal
        lower = np.unique(probabilities.max(axis=1))
        lower = lower[lower < threshold]
        assert all(measure_threshold(probabilities, labels, value).accuracy < goal for value in lower)
        elsewhere = cross_validate_threshold(3 * logits, labels, goal)  # whatever their scale
        assert elsewhere.accuracy == pytest.approx(goal, abs=0.02)
    assert find_threshold(probabilities, labels, 0.0) == probabilities.max(axis=1).min()


def test_where_no_answer_is_right_none_is_given() -> None:
    probabilities, labels = np.array([[0.9, 0.1], [0.7, 0.3]]), np.array([1, 1])
    threshold = find_threshold(probabilities, labels, 0.5)
    assert threshold > 1
    assert measure_threshold(probabilities, labels, threshold).coverage == 0
