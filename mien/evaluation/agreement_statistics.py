"""Agreement of raters beyond chance: Krippendorff's alpha and the intraclass correlation. Cohen's kappa is in confusion_metrics.py.

All are computed from sums over units, so that those of groups of units may be added: bootstrap draws of whole groups need no
second look at the units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def count_coincidences(codes: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the coincidence matrix float (K, K) of codes int (N, R), -1 where a rater has none (Krippendorff, 2011).

    Each pair of different raters of a unit is counted in both orders, divided by the raters of that unit less one. Units with
    fewer than two raters are left out.
    """
    counts = np.stack([(codes == label).sum(axis=1) for label in range(num_classes)], axis=1).astype(float)
    raters = counts.sum(axis=1)
    counts, raters = counts[raters > 1], raters[raters > 1]
    weights = 1 / (raters - 1)
    return (counts * weights[:, None]).T @ counts - np.diag((counts * weights[:, None]).sum(axis=0))


def krippendorff_alpha(coincidences: np.ndarray) -> np.ndarray:
    """Compute alpha for nominal data, 1 − observed / expected disagreement, from (..., K, K) → (...).

    NaN if all codes are the same class, so that no disagreement is expected.
    """
    totals = coincidences.sum(axis=-1)
    count = totals.sum(axis=-1)
    observed = count - np.trace(coincidences, axis1=-2, axis2=-1)
    expected = count**2 - (totals**2).sum(axis=-1)
    ratio = np.divide(observed * (count - 1), expected, out=np.full(np.shape(count), np.nan), where=expected > 0)
    return 1 - ratio


@dataclass(frozen=True)
class RatingSums:
    """Sums over units of ratings by the same R raters, of which the intraclass correlation is a function; (...) of draws.

    count        units (...)
    raters       sum of each rater's ratings (..., R)
    squares      sum of all squared ratings (...)
    unit_squares sum of each unit's squared sum of ratings (...)
    """

    count: np.ndarray
    raters: np.ndarray
    squares: np.ndarray
    unit_squares: np.ndarray

    @classmethod
    def from_groups(cls, ratings: list[np.ndarray]) -> RatingSums:
        """Return the sums of each group of units: ratings (N_g, R) of G groups → (G)."""
        return cls(
            np.array([float(len(rows)) for rows in ratings]),
            np.array([rows.sum(axis=0) for rows in ratings], float),
            np.array([(rows**2).sum() for rows in ratings], float),
            np.array([(rows.sum(axis=1) ** 2).sum() for rows in ratings], float),
        )

    def weighted(self, weights: np.ndarray) -> RatingSums:
        """Return the sums with each group counted ``weights`` (..., G) times."""
        return RatingSums(
            weights @ self.count, weights @ self.raters, weights @ self.squares, weights @ self.unit_squares
        )


def intraclass_correlations(sums: RatingSums) -> tuple[np.ndarray, np.ndarray]:
    """Compute (ICC(2,1) of absolute agreement, ICC(3,1) of consistency), each (...) (Shrout & Fleiss, 1979).

    They are ratios of the mean squares of a two-way analysis of variance: of units, raters and the rest. NaN with fewer than two
    units or where all ratings are the same.
    """
    units, raters = sums.count, sums.raters.shape[-1]
    total = sums.raters.sum(axis=-1)
    correction = _divide_or_nan(total**2, units * raters)
    of_units = sums.unit_squares / raters - correction
    of_raters = _divide_or_nan((sums.raters**2).sum(axis=-1), units) - correction
    rest = np.maximum(sums.squares - correction - of_units - of_raters, 0.0)
    between = _divide_or_nan(of_units, units - 1)
    among = of_raters / (raters - 1)
    error = _divide_or_nan(rest, (units - 1) * (raters - 1))
    scale = np.maximum(np.abs(sums.squares), 1.0)
    absolute = between + (raters - 1) * error + raters * _divide_or_nan(among - error, units)
    consistent = between + (raters - 1) * error
    return _ratio(between - error, absolute, scale), _ratio(between - error, consistent, scale)


def _ratio(top: np.ndarray, bottom: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Divide; NaN where the divisor is 0 but for rounding."""
    return np.divide(top, bottom, out=np.full(np.shape(bottom), np.nan), where=bottom > 1e-12 * scale)


def _divide_or_nan(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.divide(a, b, out=np.full(np.shape(b), np.nan), where=np.asarray(b) > 0)
