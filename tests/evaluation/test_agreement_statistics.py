"""Agreement of raters, compared with krippendorff, and with published and stored intraclass correlations."""

from __future__ import annotations

import krippendorff
import numpy as np
import pytest

from mien.evaluation.agreement_statistics import (
    RatingSums,
    count_coincidences,
    intraclass_correlations,
    krippendorff_alpha,
)

#: Six targets, four judges (Shrout & Fleiss, 1979, table 2).
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def icc(ratings: np.ndarray) -> tuple[float, float]:
    absolute, consistent = intraclass_correlations(RatingSums.from_groups([ratings]).weighted(np.ones(1)))
    return float(absolute), float(consistent)


@pytest.mark.parametrize("seed", range(4))
def test_alpha_is_that_of_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 300)
    codes = np.stack([np.where(rng.random(300) < 0.7, truth, rng.integers(0, 4, 300)) for _ in range(2 + seed)], axis=1)
    codes[rng.random(codes.shape) < 0.2] = -1
    data = np.where(codes < 0, np.nan, codes).T
    expected = krippendorff.alpha(reliability_data=data, level_of_measurement="nominal")
    assert krippendorff_alpha(count_coincidences(codes, 4)) == pytest.approx(expected, abs=1e-12)


def test_alpha_of_groups_is_that_of_all_units() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 3, (200, 3))
    parts = np.stack([count_coincidences(part, 3) for part in np.split(codes, [20, 150])])
    np.testing.assert_allclose(parts.sum(axis=0), count_coincidences(codes, 3))


def test_alpha_is_not_defined_where_all_codes_are_the_same() -> None:
    assert np.isnan(krippendorff_alpha(count_coincidences(np.ones((9, 2), int), 3)))
    assert np.isnan(krippendorff_alpha(count_coincidences(np.array([[0, -1], [-1, 1]]), 3)))


def test_correlations_are_those_that_were_published() -> None:
    assert icc(JUDGES) == (pytest.approx(0.29, abs=0.005), pytest.approx(0.71, abs=0.005))


def test_correlations_are_the_two_way_analysis_of_variance() -> None:
    """Written out, unit by unit, for a probability and a code of 0 or 1."""
    rng = np.random.default_rng(1)
    code = (rng.random(80) < 0.4).astype(float)
    x = np.column_stack([np.clip(0.6 * code + 0.4 * rng.random(80), 0, 1), code])
    n, k = x.shape
    unit, rater, mean = x.mean(axis=1, keepdims=True), x.mean(axis=0, keepdims=True), x.mean()
    between = k * ((unit - mean) ** 2).sum() / (n - 1)
    among = n * ((rater - mean) ** 2).sum() / (k - 1)
    error = ((x - unit - rater + mean) ** 2).sum() / ((n - 1) * (k - 1))
    absolute = (between - error) / (between + (k - 1) * error + k * (among - error) / n)
    assert icc(x) == (pytest.approx(absolute), pytest.approx((between - error) / (between + (k - 1) * error)))


def test_sums_of_groups_are_those_of_all_units() -> None:
    sums = RatingSums.from_groups([JUDGES[:2], JUDGES[2:]])
    absolute, consistent = intraclass_correlations(sums.weighted(np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])))
    twice = np.concatenate([JUDGES[:2], JUDGES[:2]])
    for index, rows in enumerate((JUDGES, twice, JUDGES[2:])):
        assert (absolute[index], consistent[index]) == pytest.approx(icc(rows))


def test_correlations_are_not_defined_without_variance() -> None:
    for ratings in (np.ones((5, 2)), np.zeros((0, 2)), np.ones((1, 2))):
        assert np.isnan(icc(ratings)).all()
