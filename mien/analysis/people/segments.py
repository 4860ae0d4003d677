"""What records say of people: who was seen for how long, which expression followed which, and when."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mien.analysis.people.records import Records
from mien.analysis.people.timeline import MOST_BINS, ROUNDING, Timeline, bins_of
from mien.analysis.tracking.tracker import MEMORY_S


class Spell(NamedTuple):
    """A time in which one person was shown with one label: its index, where it begins and ends, in seconds."""

    label: int
    start_s: float
    end_s: float


def tracks_by_time(records: Records) -> list[int]:
    """The persons' tracks, who was seen longest first."""
    tracks, where = np.unique(records.track, return_inverse=True)
    seen = np.bincount(where, records.durations_s)
    return [int(track) for track in tracks[np.lexsort((tracks, -seen.round(6)))]]


def spells(records: Records, track: int) -> list[Spell]:
    """A person's spells in order of time. A label goes on while the person is out of sight for a moment, not for longer."""
    rows = _rows_of(records, track)
    times, shown = records.time_s[rows], records.shown[rows]
    ends = times + records.durations_s[rows]
    away = times[1:] - ends[:-1] > MEMORY_S
    begins = np.flatnonzero(np.append(True, (shown[1:] != shown[:-1]) | away))
    last = np.append(begins[1:], len(rows)) - 1
    return [Spell(int(shown[a]), float(times[a]), float(ends[b])) for a, b in zip(begins, last, strict=True)]


def transitions(records: Records, track: int) -> np.ndarray:
    """How often a person's label went from one (row) to another (column): int64 (K, K), its diagonal 0.

    Spells are counted, not frames: how long an expression lasts does not weigh.
    """
    counts = np.zeros((len(records.labels), len(records.labels)), np.int64)
    order = [spell.label for spell in spells(records, track)]
    np.add.at(counts, (order[:-1], order[1:]), 1)
    np.fill_diagonal(counts, 0)  # of who went away and came back with the same
    return counts


def rates(counts: np.ndarray) -> np.ndarray:
    """Counts (K, K) → the share of each row that went to each column; NaN where a label was never left."""
    left = counts.sum(axis=1, keepdims=True)
    return np.where(left > 0, counts / np.maximum(left, 1), np.nan)


def shares(records: Records, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
    """Of the time on screen in these rows: (share with each label shown (K,), mean smoothed probabilities (K,))."""
    weights = records.durations_s[rows]
    shown = np.bincount(records.shown[rows], weights, len(records.labels))
    return shown / weights.sum(), weights @ records.smoothed[rows].astype(np.float64) / weights.sum()


def people_of(records: Records) -> list[dict[str, Any]]:
    """The table of people, who was seen longest first: the same figures as in ``summary.json``."""
    lengths, table = records.durations_s, []
    for track in tracks_by_time(records):
        rows = _rows_of(records, track)
        shown, mean = shares(records, rows)
        found = spells(records, track)
        longest: dict[str, dict[str, float]] = {}
        for spell in found:
            name, seconds = records.labels[spell.label], round(spell.end_s - spell.start_s, 3)
            if seconds > longest.get(name, {"seconds": 0.0})["seconds"]:
                longest[name] = {"start_s": round(spell.start_s, 3), "seconds": seconds}
        table.append({
            "person": track + 1, "track": track,
            "first_s": round(found[0].start_s, 3), "last_s": round(found[-1].end_s, 3),
            "on_screen_s": round(float(lengths[rows].sum()), 3), "frames": len(rows),
            "changes": sum(before.label != after.label for before, after in pairwise(found)),
            "share": _named(records, shown), "mean": _named(records, mean), "longest": longest,
        })  # fmt: skip
    return table


def timeline_of(records: Records) -> Timeline:
    """The same bins that the timeline of the analysis has; its time is the records'.

    Where they begin later than they last, as those of a broadcast or of a film's last part, it begins with them.
    """
    starts, lengths = records.time_s, records.durations_s
    begins_s = float(starts.min()) if starts.min() > np.ptp(starts) or starts.min() < 0 else 0.0
    timeline, starts = Timeline(records.labels, begins_s=begins_s), starts - begins_s
    timeline.end_s = float((starts + lengths).max())
    while timeline.end_s > timeline.width_s * (MOST_BINS + ROUNDING):
        timeline.width_s *= 2
    first, last = bins_of(starts, starts + lengths, timeline.width_s)
    rows = np.repeat(np.arange(len(records)), last - first)  # a row for each bin that a frame covers
    where = first[rows] + np.arange(len(rows)) - np.searchsorted(rows, rows)
    low = np.maximum(starts[rows], where * timeline.width_s)
    high = np.minimum((starts + lengths)[rows], (where + 1) * timeline.width_s)
    seconds = np.clip(high - low, 0, None)[:, None]
    values = np.concatenate([records.smoothed[rows] * seconds, seconds], axis=1)
    places, group = np.unique(np.stack([records.track[rows], where]), axis=1, return_inverse=True)
    sums = np.zeros((places.shape[1], values.shape[1]))
    np.add.at(sums, group.reshape(-1), values)
    for (track, place), row in zip(places.T.tolist(), sums, strict=True):
        timeline.bins.setdefault(track, {})[place] = row
    return timeline


def summary_of(records: Records) -> dict[str, Any]:
    """All of these as JSON: the clip, its people, and their transitions."""
    table = people_of(records)
    each = {row["track"]: transitions(records, row["track"]) for row in table}
    shown, mean = shares(records)
    return {
        "records": str(records.path), "source": records.source, "model": records.model, "detector": records.detector,
        "labels": list(records.labels), "share": _named(records, shown), "mean": _named(records, mean), "people": table,
        "transitions": {
            "all": _matrix(sum(each.values()), sum(row["on_screen_s"] for row in table)),
            "persons": [{"person": row["person"]} | _matrix(each[row["track"]], row["on_screen_s"]) for row in table],
        },
    }  # fmt: skip


def _matrix(counts: np.ndarray, seconds: float) -> dict[str, Any]:
    """Rows are the labels left, columns those that followed; a row of rates is null where its label was never left."""
    shared = [None if np.isnan(row).any() else row.round(4).tolist() for row in rates(counts)]
    per_minute = round(float(counts.sum()) * 60 / seconds, 3) if seconds else 0.0  # of a frame shorter than 0.5 ms
    return {"counts": counts.tolist(), "rates": shared, "changes": int(counts.sum()), "changes_per_minute": per_minute}


def _named(records: Records, values: np.ndarray) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(records.labels, values, strict=True)}


def _rows_of(records: Records, track: int) -> np.ndarray:
    """Indices of a person's rows in order of time."""
    rows = np.flatnonzero(records.track == track)
    return rows[records.time_s[rows].argsort(kind="stable")]
