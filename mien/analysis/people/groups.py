"""Groups of clips compared: what is shown in those of one group, and in those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mien.analysis.people.records import Records
from mien.core.errors import DataError, UsageError
from mien.evaluation.group_tests import (
    bootstrap_difference,
    bootstrap_mean,
    correct_holm,
    hedges_g,
    permutation_test,
)

#: What is measured of each clip, over all its people: the mean smoothed probability, or the share of the time on screen.
MEASURES = ("mean", "share")


def compare_groups(groups: Mapping[str, Sequence[Records]], measure: str = "mean", *, seed: int = 0) -> dict[str, Any]:
    """Return means, differences and tests of two or more groups of clips, as JSON holds them. Each clip counts once.

    measure   one of MEASURES
    clips     group → for each clip its source and its values
    groups    group → label → mean over clips, and its 95 % bootstrap interval
    compared  for each two groups and each label: the difference of means, second − first, with its interval; Hedges' g; p of a
              permutation test; and p corrected for all tests by Holm's method

    Raises UsageError for fewer than two groups, a group with fewer than two clips, or another measure, and DataError for clips of
    models with different labels and clips without people.
    """
    if measure not in MEASURES:
        raise UsageError(f"`measure={measure}`", "is unknown", f"choose from {', '.join(MEASURES)}")
    if len(groups) < 2:
        raise UsageError(
            "`group`", "fewer than two groups", "name two, as in `group=calm=FOLDER` and `group=tense=FOLDER`"
        )
    for name, clips in groups.items():
        if len(clips) < 2:
            raise UsageError(f"`group={name}`", "has fewer than two clips", "a group needs two or more")
    first = next(iter(groups.values()))[0]
    values = {name: np.array([_measure(clip, first, measure) for clip in clips]) for name, clips in groups.items()}
    rng = np.random.default_rng(seed)
    tests: list[dict[str, Any]] = [
        {
            "first": one, "second": other, "label": label,
            "difference": _round(b.mean() - a.mean()), "interval": [_round(limit) for limit in bootstrap_difference(a, b, rng)],
            "hedges_g": _round(hedges_g(a, b)), "p": permutation_test(a, b, rng),
        }
        for one, other in combinations(values, 2)
        for label, a, b in zip(first.labels, values[one].T, values[other].T, strict=True)
    ]  # fmt: skip
    for test, corrected in zip(tests, correct_holm(np.array([test["p"] for test in tests])), strict=True):
        test |= {"p": _round(test["p"]), "p_holm": _round(corrected)}
    return {
        "measure": measure, "labels": list(first.labels),
        "clips": {
            name: [
                {"source": clip.source, **dict(zip(first.labels, map(_round, row), strict=True))}
                for clip, row in zip(groups[name], rows, strict=True)
            ]
            for name, rows in values.items()
        },
        "groups": {
            name: {
                label: {"mean": _round(column.mean()), "interval": [_round(limit) for limit in bootstrap_mean(column, rng)]}
                for label, column in zip(first.labels, rows.T, strict=True)
            }
            for name, rows in values.items()
        },
        "compared": tests,
    }  # fmt: skip


def _measure(clip: Records, first: Records, measure: str) -> np.ndarray:
    """Return the values of a clip, (K,)."""
    if clip.labels != first.labels:
        found = f"has the labels {', '.join(clip.labels)}, {first.path.name} has {', '.join(first.labels)}"
        raise DataError(clip.path, found, "analyze all clips with one model")
    people = clip.people()
    if not people.people:
        raise DataError(clip.path, "nobody is seen in it", "leave it out")
    return people.mean if measure == "mean" else people.share


def _round(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
