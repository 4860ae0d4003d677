"""The expressions of each person over time, in bins whose number does not grow with the video, and as a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.palette import colors_for_labels
from mien.core.clock import format_axis_time
from mien.evaluation.reports.figures import make_panels, save_figure, without_math_text

#: Bins over the whole video; when they are full, two become one.
MAX_BINS = 1_200

#: In bins: 0.3 / 0.1 is a little less than 3, and a frame at 0.3 s belongs to bin 3 all the same.
ROUNDING = 1e-6

#: Persons that are drawn: those seen longest.
MAX_PERSONS = 6

#: What is unsure, or sure, for more than this share of the time is mostly so.
MOSTLY_SHARE = 0.5

#: Cuts of more shots than this are not drawn: their lines would hide the rest.
MAX_CUTS = 60


@dataclass(repr=False)
class Timeline:
    """Smoothed probabilities of every person, averaged in bins of time whose width doubles as the video goes on.

    Times are the player's.

    start_s   where the first bin begins: when somebody is seen first; None before that
    width_s   seconds of a bin
    bins      track → bin → (K + 2,): the sum of probabilities × seconds, the seconds, and those of them that are unsure
    cuts      the bins in which a new shot begins
    end_s     when somebody is seen last
    """

    labels: tuple[str, ...]
    width_s: float = 0.1
    start_s: float | None = None
    end_s: float = 0.0
    bins: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    cuts: set[int] = field(default_factory=set)

    def __repr__(self) -> str:
        return f"<Timeline: {len(self.bins)} tracks from {self.start_s or 0.0:.2f} to {self.end_s:.2f} s>"

    def update(
        self, track: int, probabilities: np.ndarray, start_s: float, duration_s: float, is_unsure: bool | None = None
    ) -> None:
        """Add a face of a frame, probabilities (K,); a frame longer than a bin fills all the bins that it covers."""
        if self.start_s is None:
            self.start_s = start_s
        self.end_s = max(self.end_s, start_s + duration_s)
        self._widen_bins(self.end_s - self.start_s)
        start_s, end_s = start_s - self.start_s, start_s - self.start_s + duration_s
        first, last = bin_range(start_s, end_s, self.width_s)
        bins = self.bins.setdefault(track, {})
        for place in range(first, last):
            seconds = max(0.0, min(end_s, (place + 1) * self.width_s) - max(start_s, place * self.width_s))
            row = bins.get(place)
            if row is None:
                row = bins[place] = np.zeros(len(self.labels) + 2)
            row[:-2] += probabilities * seconds
            row[-2] += seconds
            row[-1] += seconds if is_unsure else 0.0

    def add_cut(self, time_s: float) -> None:
        """Add the start of a new shot; cuts before the first face are left out."""
        if self.start_s is not None:
            self._widen_bins(time_s - self.start_s)
            self.cuts.add(int((time_s - self.start_s) / self.width_s + ROUNDING))

    def _widen_bins(self, seconds: float) -> None:
        """Make room for so many seconds: as often as it takes, two bins become one."""
        while seconds > self.width_s * (MAX_BINS + ROUNDING):
            self.width_s *= 2
            self.cuts = {place // 2 for place in self.cuts}
            for track, old in self.bins.items():
                new: dict[int, np.ndarray] = {}
                for place, row in old.items():
                    new[place // 2] = new[place // 2] + row if place // 2 in new else row
                self.bins[track] = new

    def mean_probabilities(self, track: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(times at which bins begin (B,), mean probabilities (B, K), share of unsure time (B,)); NaN where nobody is seen."""
        start_s = self.start_s or 0.0
        count = bin_range(0.0, self.end_s - start_s, self.width_s)[1]
        rows = np.full((count, len(self.labels) + 1), np.nan)
        for place, row in self.bins.get(track, {}).items():
            rows[place] = np.append(row[:-2], row[-1]) / max(row[-2], 1e-9)
        return start_s + np.arange(count) * self.width_s, rows[:, :-1], rows[:, -1]

    def cut_times_s(self) -> list[float]:
        """When a new shot begins, to a bin."""
        return [round((self.start_s or 0.0) + place * self.width_s, 3) for place in sorted(self.cuts)]

    def to_json(self, tracks: Iterable[int]) -> dict[str, Any]:
        """Return what pages draw: of each person, only the bins in which they are seen.

        A run of bins without a gap is (index of the first, K mean probabilities of each in thousandths, one after the other,
        1 for each that is mostly unsure).
        """
        return {
            "labels": list(self.labels), "start_s": self.start_s or 0.0, "width_s": self.width_s, "cuts_s": self.cut_times_s(),
            "persons": [
                {"person": track + 1, "track": track, "runs": _make_runs(self.bins.get(track, {}))} for track in tracks
            ],
        }  # fmt: skip

    def merge_tracks(self, tracks: Iterable[int]) -> Timeline:
        """The same bins with these persons together in one, number 0."""
        together: dict[int, np.ndarray] = {}
        for track in tracks:
            for place, row in self.bins[track].items():
                together[place] = together[place] + row if place in together else row
        return replace(self, bins={0: together})


def _make_runs(bins: dict[int, np.ndarray]) -> list[tuple[int, list[int], list[int]]]:
    """Return the bins of a person as runs without gaps (see `Timeline.to_json`)."""
    runs: list[tuple[int, list[int], list[int]]] = []
    before = -2
    for place in sorted(bins):
        if place != before + 1:
            runs.append((place, [], []))
        row = bins[place]
        seconds = max(float(row[-2]), 1e-9)
        runs[-1][1].extend(np.rint(1000 * row[:-2] / seconds).astype(int).tolist())
        runs[-1][2].append(int(row[-1] / seconds > MOSTLY_SHARE))
        before = place
    return runs


def bin_range(start_s: float, end_s: float, width_s: float) -> tuple[int, int]:
    """Return (first, last + 1) of the bins that a time covers, at least one."""
    first = math.floor(start_s / width_s + ROUNDING)
    return first, max(math.ceil(end_s / width_s - ROUNDING), first + 1)


def draw_timeline(
    timeline: Timeline,
    persons: Mapping[int, str],
    path: Path,
    title: str,
    from_s: float | None = None,
    to_s: float | None = None,
) -> None:
    """Write the figure of `plot_timeline` as PNG."""
    save_figure(plot_timeline(timeline, persons, title, from_s, to_s), path)


@without_math_text
def plot_timeline(
    timeline: Timeline,
    persons: Mapping[int, str],
    title: str,
    from_s: float | None = None,
    to_s: float | None = None,
) -> Any:
    """Return a figure of the stacked probabilities of people, one below the other; gaps: not on screen, pale: unsure.

    persons: track → what is said of them, who was seen longest first; of many the first few are drawn. from_s, to_s: what
    the axis shows, by the player's time; without them from 0, or from the first face of a part, to the last.
    """
    tracks = list(persons)
    rows = sorted(tracks[:MAX_PERSONS], key=lambda track: min(timeline.bins[track]))  # who came first stands first
    count = max(len(rows), 1)
    figure, panels = make_panels(count, 1, figsize=(12, 1.2 + 1.5 * count), sharex=True, squeeze=False)
    colors = colors_for_labels(timeline.labels)
    for axes, track in zip(panels[:, 0], rows, strict=False):
        draw_stacked_probabilities(axes, timeline, track, colors)
        axes.set(ylabel=persons[track])
    last = panels[-1, 0]
    low, high = axis_range_s(timeline) if from_s is None or to_s is None else (from_s, to_s)
    last.set(xlim=(low, max(high, low + timeline.width_s)), xlabel="time (min:s)")
    last.xaxis.set_major_formatter(format_axis_time)
    more = f"; {len(tracks) - len(rows)} more persons are not drawn" if len(tracks) > len(rows) else ""
    figure.suptitle(
        f"{title}: smoothed probabilities, pale where unsure{more}" if rows else f"{title}: no face was seen"
    )
    if rows:
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False)
    return figure


def axis_range_s(timeline: Timeline) -> tuple[float, float]:
    """Return (start, end) of the axis: from 0, or from the first face of a late part, to the last face."""
    start_s = timeline.start_s or 0.0
    return (start_s if start_s > timeline.end_s - start_s else 0.0), timeline.end_s


def draw_stacked_probabilities(axes: Any, timeline: Timeline, track: int, colors: Sequence[str]) -> None:
    """Draw a person's stacked probabilities over time onto matplotlib axes, with the cuts; (K,) colors."""
    starts, means, unsure = timeline.mean_probabilities(track)
    edges = np.append(starts, starts[-1] + timeline.width_s)
    low = np.zeros(len(starts))
    for index, name in enumerate(timeline.labels):
        high = low + np.nan_to_num(means[:, index])
        axes.stairs(high, edges, baseline=low, fill=True, color=colors[index], label=name, linewidth=0)
        low = high
    pale = np.where(np.nan_to_num(unsure) > MOSTLY_SHARE, low, 0.0)
    axes.stairs(pale, edges, fill=True, color="white", alpha=0.6, linewidth=0)
    axes.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    if len(timeline.cuts) <= MAX_CUTS:
        axes.vlines(timeline.cut_times_s(), 0, 1, colors="0.2", linewidth=0.7, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)
