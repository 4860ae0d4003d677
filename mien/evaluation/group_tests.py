"""Two groups of numbers compared: permutation test, effect size, interval of the difference, correction for many tests."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

from mien.evaluation.metrics import percentile_interval

#: Ways to divide the numbers into two groups that are all tried; of more so many are drawn.
MAX_DIVISIONS = 10_000

#: Differences that are equal but for rounding count as equal.
ROUNDING = 1e-12


def permutation_test(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> float:
    """Return the two-sided p of a difference of means at least as large, if the numbers (N,), (M,) were divided at random.

    Exact where there are few divisions; else of drawn ones, with the given one counted too (Phipson & Smyth, 2010).
    """
    both, size = np.concatenate([a, b]), len(a)
    observed, total = abs(a.mean() - b.mean()) - ROUNDING, both.sum()
    if comb(len(both), size) <= MAX_DIVISIONS:
        firsts = both[np.array(list(combinations(range(len(both)), size)))].sum(axis=1)
        extra = 0
    else:
        firsts = both[rng.random((MAX_DIVISIONS, len(both))).argsort(axis=1)[:, :size]].sum(axis=1)
        extra = 1
    differences = np.abs(firsts / size - (total - firsts) / len(b))
    return float((np.count_nonzero(differences >= observed) + extra) / (len(firsts) + extra))


def hedges_g(a: np.ndarray, b: np.ndarray) -> float:
    """Return b's mean minus a's in pooled standard deviations, corrected for small groups (Hedges, 1981); NaN without variance."""
    freedom = len(a) + len(b) - 2
    variance = (((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum()) / freedom
    if variance <= ROUNDING**2:
        return float("nan")
    return float((b.mean() - a.mean()) / np.sqrt(variance) * (1 - 3 / (4 * freedom - 1)))


def bootstrap_difference(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, draws: int = 10_000
) -> tuple[float, float]:
    """Return the 95 % percentile interval of b's mean minus a's, both groups drawn with replacement."""
    means = [group[rng.integers(0, len(group), (draws, len(group)))].mean(axis=1) for group in (a, b)]
    return percentile_interval(means[1] - means[0])


def bootstrap_mean(a: np.ndarray, rng: np.random.Generator, draws: int = 10_000) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of a group drawn with replacement."""
    return percentile_interval(a[rng.integers(0, len(a), (draws, len(a)))].mean(axis=1))


def correct_holm(p: np.ndarray) -> np.ndarray:
    """Return p (T,) of T tests, corrected so that the chance of any false finding keeps its level (Holm, 1979)."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return corrected
