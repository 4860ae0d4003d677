"""What people show at rest, subtracted: figures worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.people.baseline import (
    measure_baseline,
    subtract_baseline,
    summarize_baseline,
    write_baseline_table,
)
from mien.analysis.people.records import Records, read_clip
from mien.core.errors import DataError
from tests.analysis.made_records import LABELS, write_clip_records

#: The second person is not seen in the first two seconds.
SHOWN = {0: ["neutral"] * 50 + ["happy"] * 50, 1: [None] * 50 + ["angry"] * 50}


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return read_clip(write_clip_records(tmp_path / "clip", SHOWN))


def test_the_mean_of_a_period_is_subtracted(records: Records) -> None:
    baseline = measure_baseline(records, records.people(), 0.0, 2.0)
    assert list(baseline.means) == [0] and baseline.seconds == {0: pytest.approx(2.0)}
    first = records.track == 0
    rest = records.smoothed[first][:50].astype(float)
    np.testing.assert_allclose(baseline.means[0], rest.mean(axis=0), atol=1e-9)
    differences = subtract_baseline(records, baseline)
    np.testing.assert_allclose(differences[first][:50].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(differences[first] + rest.mean(axis=0), records.smoothed[first], atol=1e-6)
    assert np.isnan(differences[~first]).all()


def test_frames_count_as_long_as_they_are_shown(records: Records) -> None:
    records.duration_s[:10] = 0.4
    baseline = measure_baseline(records, records.people(), 0.0, 2.0)
    expected = np.average(records.smoothed[:50], axis=0, weights=[10] * 10 + [1] * 40)
    np.testing.assert_allclose(baseline.means[0], expected, atol=1e-6)


def test_the_summary_and_the_table_keep_both(records: Records, tmp_path: Path) -> None:
    people = records.people()
    baseline = measure_baseline(records, people, 0.0, 2.0)
    first, second = summarize_baseline(records, people, baseline)["persons"]
    outside = records.smoothed[(records.track == 0) & (records.player_time_s >= 2.0)].astype(float).mean(axis=0)
    assert list(first["difference"].values()) == pytest.approx((outside - baseline.means[0]).tolist(), abs=1e-4)
    assert (second["person"], second["seconds"], second["baseline"], second["difference"]) == (2, 0.0, None, None)
    write_baseline_table(records, people, baseline, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "person", "name", "frame", "player_time_s", *(f"{kind}_{label}" for kind in "sd" for label in LABELS)
    ]  # fmt: skip
    assert len(rows) == 150
    for row in rows:
        for index, label in enumerate(LABELS):
            expected = "" if row["person"] == "2" else float(row[f"s_{label}"]) - baseline.means[0][index]
            assert row[f"d_{label}"] == expected or float(row[f"d_{label}"]) == pytest.approx(expected, abs=1e-6)


def test_a_period_without_anybody_is_refused(records: Records) -> None:
    with pytest.raises(DataError, match="nobody is seen from 50 s to 60 s; choose another period for `baseline`"):
        measure_baseline(records, records.people(), 50.0, 60.0)
