"""Comparisons of two groups, checked against scipy and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mien.evaluation.group_tests import (
    bootstrap_difference,
    bootstrap_mean,
    correct_holm,
    hedges_g,
    permutation_test,
)


def difference(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    return np.abs(a.mean(axis=axis) - b.mean(axis=axis))


@pytest.mark.parametrize("sizes", [(3, 4), (5, 5), (2, 7)])
def test_the_exact_test_is_that_of_scipy(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    a, b = rng.normal(0, 1, sizes[0]), rng.normal(0.8, 1, sizes[1])
    expected = stats.permutation_test((a, b), difference, vectorized=True, alternative="greater", n_resamples=np.inf)
    assert permutation_test(a, b, rng) == pytest.approx(expected.pvalue)


def test_the_test_of_drawn_divisions_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 30), rng.normal(0.5, 1, 25)
    expected = stats.permutation_test(
        (a, b), difference, vectorized=True, alternative="greater", n_resamples=20_000, rng=1
    )
    assert permutation_test(a, b, rng) == pytest.approx(expected.pvalue, abs=0.02)
    assert permutation_test(np.zeros(20), np.ones(20), rng) == pytest.approx(1 / 10_001)


def test_equal_groups_differ_by_chance() -> None:
    assert permutation_test(np.ones(4), np.ones(4), np.random.default_rng(0)) == 1
    assert np.isnan(hedges_g(np.ones(4), np.ones(4)))


def test_the_effect_size_is_worked_out_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 5.0, 6.0])  # variances 1 and 5/3; 5 degrees of freedom
    assert hedges_g(a, b) == pytest.approx(2.5 / np.sqrt((2 * 1 + 3 * 5 / 3) / 5) * (1 - 3 / 19))


def test_holm_is_worked_out_by_hand() -> None:
    np.testing.assert_allclose(correct_holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(correct_holm(np.array([0.9, 0.8])), [1, 1])


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 40), rng.normal(1, 2, 50)
    for found, data, statistic in (
        (bootstrap_mean(a, rng), (a,), np.mean),
        (bootstrap_difference(a, b, rng), (a, b), lambda x, y, axis=-1: y.mean(axis=axis) - x.mean(axis=axis)),
    ):
        limits = stats.bootstrap(data, statistic, method="percentile", n_resamples=10_000, rng=5).confidence_interval
        assert found == pytest.approx(limits, abs=0.03)
