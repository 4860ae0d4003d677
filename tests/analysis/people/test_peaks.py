"""When an expression peaks."""

from __future__ import annotations

import numpy as np
import pytest

from mien.analysis.people.peaks import MIN_PROBABILITY, Peak, PeakFinder, PeakRule
from mien.analysis.people.people import Observation, PeopleAccumulator

LABELS = ("sad", "happy")


def observations(times_s: np.ndarray, happy: np.ndarray, tracks: np.ndarray | None = None) -> list[Observation]:
    tracks = np.zeros(len(times_s), int) if tracks is None else tracks
    return [
        Observation(
            index, time_s + 7, time_s, 0.1, track, int(p > 0.5), int(p > 0.5), np.array([1 - p, p], np.float32),
            (1.0, 1, 9, 9), p < 0.6, None, None,
        )
        for index, (time_s, p, track) in enumerate(zip(times_s.tolist(), happy.tolist(), tracks.tolist(), strict=True))
    ]  # fmt: skip


def peaks(
    times_s: np.ndarray, happy: np.ndarray, rule: PeakRule, tracks: np.ndarray | None = None, **which: int
) -> list[Peak]:
    people = PeopleAccumulator(LABELS, rule).update_all(observations(times_s, happy, tracks))
    return people.peaks("happy", **which)


def test_peaks_by_comparing_everything_with_everything() -> None:
    rng = np.random.default_rng(0)
    for count, gap in ((0, 1.0), (1, 1.0), (2, 0.0), (60, 0.0), (200, 0.7), (200, 3.0), (333, 50.0)):
        times = np.cumsum(rng.uniform(0.01, 0.2, count))
        values = rng.random(count).round(1)  # with many equals
        near = np.abs(times[:, None] - times[None]) < gap
        earlier = np.arange(count)[:, None] > np.arange(count)[None]
        reference = [
            index
            for index in range(count)
            if values[index] >= MIN_PROBABILITY
            and (values[near[index]] <= values[index]).all()
            and not (values[near[index] & earlier[index]] == values[index]).any()  # of equal ones the earliest
        ]
        found = peaks(times, values, PeakRule(gap, max_peaks=999))
        assert sorted(peak.frame for peak in found) == reference
        assert [peak.rank for peak in found] == sorted(peak.rank for peak in found)


def test_peaks_are_the_highest_and_lie_apart() -> None:
    times = np.arange(0, 60, 0.04)
    happy = 0.55 + 0.4 * np.exp(-((times - 10) ** 2)) + 0.3 * np.exp(-((times - 30) ** 2)) - 0.5 * (times > 45)
    found = peaks(times, happy, PeakRule(4.0, max_peaks=3))
    assert [round(one.player_time_s, 2) for one in found[:2]] == [10.0, 30.0]
    assert [round(one.time_s, 2) for one in found[:2]] == [17.0, 37.0]
    assert found[0].probability == pytest.approx(0.95, abs=1e-4)
    assert all(one.player_time_s <= 45 for one in peaks(times, happy, PeakRule(0.5, max_peaks=99)))
    many = peaks(times, happy + np.random.default_rng(0).uniform(0, 1e-3, len(times)), PeakRule(4.0, max_peaks=99))
    assert len(many) > 3 and np.diff(sorted(one.player_time_s for one in many)).min() >= 4 - 1e-5


def test_a_slope_and_a_plateau_have_one_peak() -> None:
    times = np.arange(0, 20, 0.1)
    rule = PeakRule(2.0)
    assert [one.player_time_s for one in peaks(times, 0.6 + times / 100, rule)] == [pytest.approx(19.9)]
    assert [one.player_time_s for one in peaks(times, np.full(200, 0.9), rule)] == [0.0]


def test_persons_peak_at_the_same_time_and_one_can_be_asked_for() -> None:
    times, tracks = np.repeat(np.arange(0, 10, 0.1), 2), np.tile([0, 5], 100)
    happy = np.where(tracks == 0, 0.9 - 0.01 * np.abs(times - 5), 0.8 - 0.01 * np.abs(times - 5))
    found = peaks(times, happy, PeakRule(20), tracks)
    assert [(one.track, round(one.player_time_s, 1)) for one in found] == [(0, 5.0), (5, 5.0)]
    (only,) = peaks(times, happy, PeakRule(20), tracks, track=5)
    assert only.track == 5
    assert only.to_json() == {
        "label": "happy", "track": 5, "person": 6, "time_s": pytest.approx(12), "player_time_s": pytest.approx(5),
        "frame": 101, "probability": pytest.approx(0.8), "unsure": False, "box": [1, 1, 9, 9],
    }  # fmt: skip


def test_lower_peaks_are_found_when_asked_for() -> None:
    times = np.arange(0, 10, 0.1)
    low = 0.1 + 0.2 * np.exp(-((times - 4) ** 2))
    assert peaks(times, low, PeakRule()) == []
    (only,) = peaks(times, low, PeakRule(min_probability=0.2))
    assert only.player_time_s == pytest.approx(4)


def test_what_is_kept_does_not_grow_with_the_video() -> None:
    finder, rng = PeakFinder(PeakRule(0.5, max_peaks=5)), np.random.default_rng(0)
    times = np.arange(0, 500, 0.1)
    for one in observations(times, rng.uniform(0.4, 1, len(times))):
        finder.update("happy", float(one.probabilities[1]), one)
        assert len(finder.found) <= 5 and len(finder._window) <= 5
    assert [peak.rank for peak in finder.peaks()] == sorted(peak.rank for peak in finder.peaks())
