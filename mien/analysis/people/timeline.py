"""The expressions of each person over time, as a picture; what is gathered for it does not grow with the video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.palette import colours_of
from mien.core.files import replacing
from mien.core.types import Face
from mien.evaluation.reports.figures import literally, pyplot

#: Bins over the whole video; when they are full, two become one.
MOST_BINS = 1_200

#: In bins: 0.3 / 0.1 is a little less than 3, and a frame at 0.3 s belongs to bin 3 all the same.
ROUNDING = 1e-6

#: Persons that are drawn: those seen longest.
MOST_PERSONS = 6

#: Cuts of more shots than this are not drawn: their lines would hide the rest.
MOST_CUTS = 60


@dataclass
class Timeline:
    """Smoothed probabilities of every person, averaged in bins of time whose width doubles as the video goes on.

    width_s   seconds of a bin
    bins      track → bin → (K + 1,): the sum of probabilities × seconds, and the seconds
    cuts      the bins in which a new shot begins
    begins_s  what the axis of a picture calls the beginning of the first bin
    """

    labels: tuple[str, ...]
    width_s: float = 0.1
    bins: dict[int, dict[int, np.ndarray]] = field(default_factory=dict)
    cuts: set[int] = field(default_factory=set)
    end_s: float = 0.0
    begins_s: float = 0.0

    def see(self, faces: Sequence[Face], time_s: float, duration_s: float) -> None:
        """Add one frame, which lasts so long; a frame longer than a bin fills all the bins that it covers."""
        end_s = time_s + duration_s
        while end_s > self.width_s * (MOST_BINS + ROUNDING):
            self._halve()
        first, last = bins_of(time_s, end_s, self.width_s)
        for where in range(first, last):
            low, high = max(time_s, where * self.width_s), min(end_s, (where + 1) * self.width_s)
            for face in faces:
                values = face.probabilities if face.smoothed is None else face.smoothed
                row = np.append(values, 1.0) * max(high - low, 0.0)
                track = self.bins.setdefault(face.track, {})
                track[where] = track[where] + row if where in track else row
        self.end_s = max(self.end_s, end_s)

    def cut(self, time_s: float) -> None:
        """A new shot begins with the frame at this time; told before that frame is seen."""
        while time_s >= self.width_s * MOST_BINS:
            self._halve()
        self.cuts.add(int(time_s / self.width_s + ROUNDING))

    def _halve(self) -> None:
        self.width_s *= 2
        self.cuts = {where // 2 for where in self.cuts}
        for number, old in self.bins.items():
            new: dict[int, np.ndarray] = {}
            for where, row in old.items():
                new[where // 2] = new[where // 2] + row if where // 2 in new else row
            self.bins[number] = new

    def of(self, track: int) -> tuple[np.ndarray, np.ndarray]:
        """(seconds at which bins begin (B,), mean probabilities (B, K)); NaN where the person is not seen."""
        count = int(bins_of(0.0, self.end_s, self.width_s)[1])
        means = np.full((count, len(self.labels)), np.nan)
        for where, row in self.bins.get(track, {}).items():
            means[where] = row[:-1] / max(row[-1], 1e-9)
        return np.arange(count) * self.width_s, means


def bins_of(start_s: Any, end_s: Any, width_s: float) -> tuple[Any, Any]:
    """(first, last + 1) of the bins that a time covers, at least one; numbers or arrays."""
    first = np.floor(np.asarray(start_s) / width_s + ROUNDING).astype(np.int64)
    last = np.ceil(np.asarray(end_s) / width_s - ROUNDING).astype(np.int64)
    return first, np.maximum(last, first + 1)


@literally
def draw_timeline(timeline: Timeline, tracks: Sequence[int], path: Path, title: str) -> None:
    """Stacked probabilities of persons, one below the other, as PNG; a gap is where one is not seen.

    tracks: who was seen longest first; of many the first few are drawn.
    """
    plot = pyplot()
    rows = sorted(tracks[:MOST_PERSONS], key=lambda track: min(timeline.bins[track]))  # who came first stands first
    figure, panels = plot.subplots(
        max(len(rows), 1),
        1,
        figsize=(12, 1.2 + 1.5 * max(len(rows), 1)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    colours = colours_of(timeline.labels)
    for axes, track in zip(panels[:, 0], rows, strict=False):
        stack(axes, timeline, track, colours)
        axes.set(ylabel=f"person {track + 1}")
    last = panels[-1, 0]
    last.set(xlim=(0, max(timeline.end_s, timeline.width_s)), xlabel="time (min:s)")
    last.xaxis.set_major_formatter(lambda seconds, _: minutes(seconds + timeline.begins_s))
    more = f"; {len(tracks) - len(rows)} more persons are not drawn" if len(tracks) > len(rows) else ""
    figure.suptitle(f"{title}: smoothed probabilities{more}" if rows else f"{title}: no face was seen")
    if rows:
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plot.close(figure)


def stack(axes: Any, timeline: Timeline, track: int, colours: Sequence[str]) -> None:
    """A person's probabilities stacked over time onto matplotlib axes, with the cuts; (K,) colours."""
    starts, means = timeline.of(track)
    edges = np.append(starts, starts[-1] + timeline.width_s)
    low = np.zeros(len(starts))
    for index, name in enumerate(timeline.labels):
        high = low + np.nan_to_num(means[:, index])
        axes.stairs(high, edges, baseline=low, fill=True, color=colours[index], label=name, linewidth=0)
        low = high
    axes.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    if len(timeline.cuts) <= MOST_CUTS:
        places = [where * timeline.width_s for where in timeline.cuts]
        axes.vlines(places, 0, 1, colors="0.2", linewidth=0.7, linestyle=":")
    axes.spines[["top", "right"]].set_visible(False)


def minutes(seconds: float, _: object = None) -> str:
    """75.0 → ``1:15``, 0.25 → ``0:00.25``: the ticks of an axis of time."""
    hundredths = round(100 * seconds)
    part = f"{hundredths % 100:02d}".rstrip("0")
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}{part and f'.{part}'}"
