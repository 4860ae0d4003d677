"""What each person shows in a period of rest, subtracted from what they show at other times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.people.people import PeopleAccumulator, values_by_label
from mien.analysis.people.records import Records
from mien.core.csv_cells import CsvWriter
from mien.core.errors import DataError
from mien.core.files import replace_file


@dataclass(frozen=True)
class Baseline:
    """Mean smoothed probabilities of each person in a period; times in seconds as a player shows them.

    means     track → float64 (K,); people who are not seen in the period have none
    seconds   track → how long the person is seen in the period
    """

    labels: tuple[str, ...]
    from_s: float
    to_s: float
    means: dict[int, np.ndarray]
    seconds: dict[int, float]


def measure_baseline(records: Records, people: PeopleAccumulator, from_s: float, to_s: float) -> Baseline:
    """Return the baseline of all people in the frames that begin from ``from_s`` on and before ``to_s``.

    Each frame counts as long as it is shown. Raises DataError where nobody is seen in that period.
    """
    is_inside = (records.player_time_s >= from_s) & (records.player_time_s < to_s)
    means, seconds = {}, {}
    for person in people.people:
        rows = is_inside & (records.track == person.track)
        length_s = float(records.duration_s[rows].sum())
        if length_s > 0:
            means[person.track] = np.average(
                records.smoothed[rows].astype(float), axis=0, weights=records.duration_s[rows]
            )
            seconds[person.track] = length_s
    if not means:
        raise DataError(
            records.path, f"nobody is seen from {from_s:g} s to {to_s:g} s", "choose another period for `baseline`"
        )
    return Baseline(records.labels, from_s, to_s, means, seconds)


def subtract_baseline(records: Records, baseline: Baseline) -> np.ndarray:
    """Return the smoothed probabilities minus the baseline of each row's person, float64 (N, K); NaN for people without one."""
    differences = np.full(records.smoothed.shape, np.nan)
    for track, mean in baseline.means.items():
        rows = records.track == track
        differences[rows] = records.smoothed[rows] - mean
    return differences


def summarize_baseline(records: Records, people: PeopleAccumulator, baseline: Baseline) -> dict[str, Any]:
    """Return the period, and for each person the baseline and the mean difference from it outside the period; None without one."""
    differences = subtract_baseline(records, baseline)
    is_outside = (records.player_time_s < baseline.from_s) | (records.player_time_s >= baseline.to_s)
    persons = []
    for person in people.people:
        rows = is_outside & (records.track == person.track)
        mean, weights = baseline.means.get(person.track), records.duration_s[rows]
        has_both = mean is not None and weights.sum() > 0
        persons.append({
            "person": person.track + 1, "name": person.given_name or None,
            "seconds": round(baseline.seconds.get(person.track, 0.0), 3),
            "baseline": None if mean is None else values_by_label(records.labels, mean),
            "difference": values_by_label(records.labels, np.average(differences[rows], axis=0, weights=weights))
            if has_both else None,
        })  # fmt: skip
    return {"from_s": baseline.from_s, "to_s": baseline.to_s, "persons": persons}


def write_baseline_table(records: Records, people: PeopleAccumulator, baseline: Baseline, path: Path) -> None:
    """Write a CSV with a row for each face of a person: time, ``s_<label>``, and ``d_<label>``, the difference from the baseline."""
    differences = subtract_baseline(records, baseline)
    names = {person.track: person.given_name for person in people.people}
    with replace_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = CsvWriter(file)
        table.writerow(
            [
                "person",
                "name",
                "frame",
                "player_time_s",
                *(f"{kind}_{label}" for kind in "sd" for label in records.labels),
            ]
        )
        for row in np.argsort(records.player_time_s, kind="stable").tolist():
            track = int(records.track[row])
            if track in names:
                smoothed = [round(value, 6) for value in records.smoothed[row].tolist()]
                less = ["" if np.isnan(value) else round(value, 6) for value in differences[row].tolist()]
                table.writerow(
                    [
                        track + 1,
                        names[track],
                        int(records.frame[row]),
                        float(records.player_time_s[row]),
                        *smoothed,
                        *less,
                    ]
                )
