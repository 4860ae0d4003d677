"""Pictures of records: two clips beside each other, and which expression followed which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.palette import colours_of
from mien.analysis.people.records import Records
from mien.analysis.people.segments import rates, shares, timeline_of, tracks_by_time, transitions
from mien.analysis.people.timeline import Timeline, draw_timeline, minutes, stack
from mien.core.errors import DataError
from mien.core.files import replacing
from mien.evaluation.reports.figures import literally, pyplot

#: Persons whose transitions are drawn, each in a matrix of its own: those seen longest.
MOST_MATRICES = 5

#: Colours of two clips, told apart by most people with a colour-vision deficiency.
FIRST, SECOND = "#3b87c8", "#e08a2e"


@literally
def draw_expressions(records: Records, path: Path, title: str) -> None:
    """The expressions of each person over time, as the analysis draws them, from records."""
    draw_timeline(timeline_of(records), tracks_by_time(records), path, title)


def check_comparable(first: Records, second: Records) -> None:
    """DataError where the two were read by models with different labels."""
    if first.labels != second.labels:
        found = f"has the labels {', '.join(second.labels)}, {first.path.name} has {', '.join(first.labels)}"
        raise DataError(second.path, found, "analyse both clips with one model")


def compare_shares(first: Records, second: Records) -> dict[str, Any]:
    """Share of the time on screen and mean probability of every expression in both clips, and second − first."""
    check_comparable(first, second)
    values = {}
    for index, what in enumerate(("share", "mean")):
        a, b = shares(first)[index], shares(second)[index]
        values[what] = {
            name: {"first": round(float(x), 4), "second": round(float(y), 4), "difference": round(float(y - x), 4)}
            for name, x, y in zip(first.labels, a, b, strict=True)
        }
    return {"first": str(first.path), "second": str(second.path)} | values


@literally
def draw_comparison(first: Records, second: Records, path: Path, names: Sequence[str], title: str) -> None:
    """Two clips on the same axes: everyone's mean over time above, shares of the time on screen and their difference below."""
    check_comparable(first, second)
    plot = pyplot()
    labels, colours = first.labels, colours_of(first.labels)
    figure = plot.figure(figsize=(12, 8.4), layout="constrained")
    grid = figure.add_gridspec(3, 2, height_ratios=(1, 1, 1.7), width_ratios=(1.7, 1))
    timelines = [_everyone(timeline_of(records)) for records in (first, second)]
    end = max(timeline.end_s for timeline in timelines)
    for row, (timeline, name) in enumerate(zip(timelines, names, strict=True)):
        axes = figure.add_subplot(grid[row, :])
        stack(axes, timeline, 0, colours)
        axes.set(xlim=(0, end), ylabel="mean of all", xlabel="time (min:s)" if row else "")
        axes.set_title(name, loc="left", fontsize=11)
        axes.xaxis.set_major_formatter(minutes)
        axes.tick_params(labelbottom=bool(row))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    _bars(figure.add_subplot(grid[2, 0]), labels, (shares(first)[0], shares(second)[0]), names)
    below = figure.add_subplot(grid[2, 1])
    _difference(below, labels, shares(second)[0] - shares(first)[0])
    below.set_title("second − first", loc="left", fontsize=11)
    figure.suptitle(title)
    _save(plot, figure, path)


@literally
def draw_transitions(records: Records, path: Path, title: str) -> None:
    """How often the label shown went from one expression to another, in all and for the persons seen longest."""
    plot = pyplot()
    tracks = tracks_by_time(records)
    each = {track: transitions(records, track) for track in tracks}
    drawn = [("all persons" if len(tracks) > 1 else f"person {tracks[0] + 1}", sum(each.values()))]
    if len(tracks) > 1:
        drawn += [(f"person {track + 1}", each[track]) for track in tracks[:MOST_MATRICES]]
    columns = min(len(drawn), 3)
    rows = -(-len(drawn) // columns)
    figure, panels = plot.subplots(
        rows, columns, figsize=(4.9 * columns + 0.9, 4.7 * rows + 0.5), squeeze=False, layout="constrained"
    )
    for axes in panels.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, (name, counts) in zip(panels.flat, drawn, strict=False):
        image = _matrix(axes, counts, records.labels)
        total = int(counts.sum())
        axes.set_title(f"{name}: {total:,} change{'' if total == 1 else 's'}", fontsize=11)
    figure.colorbar(image, ax=panels, shrink=0.6, label="share of the changes away from the row's expression")
    left = len(tracks) - MOST_MATRICES
    more = f"; {left:,} more person{'' if left == 1 else 's'} only in 'all'" if left > 0 else ""
    figure.suptitle(f"{title}: what followed what{more}")
    _save(plot, figure, path)


def _matrix(axes: Any, counts: np.ndarray, labels: Sequence[str]) -> Any:
    """One matrix: colour by share of the row, in each cell the count and, below it, the share."""
    share = np.nan_to_num(rates(counts))
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="to", ylabel="from")
    for (row, column), count in np.ndenumerate(counts):
        if row == column:
            axes.fill([column - 0.5, column + 0.5, column + 0.5, column - 0.5],
                      [row - 0.5, row - 0.5, row + 0.5, row + 0.5], facecolor="0.93", linewidth=0)  # fmt: skip
        elif count:
            ink = "white" if share[row, column] > 0.55 else "black"
            axes.text(
                column, row, f"{count:,}\n{share[row, column]:.0%}", ha="center", va="center", fontsize=8, color=ink
            )
    return image


def _bars(axes: Any, labels: Sequence[str], values: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Two bars for each expression, in percent of the time on screen."""
    places = np.arange(len(labels))
    for index, (shared, name) in enumerate(zip(values, names, strict=True)):
        bars = axes.bar(places + 0.4 * (index - 0.5), 100 * shared, 0.4, color=(FIRST, SECOND)[index], label=name)
        axes.bar_label(bars, [f"{100 * value:.0f}" for value in shared], fontsize=8, padding=1)
    axes.set_xticks(places, labels, rotation=25)
    axes.set(ylabel="% of the time on screen", ylim=(0, 112 * max(float(each.max()) for each in values)))
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _difference(axes: Any, labels: Sequence[str], values: np.ndarray) -> None:
    """Second − first in percentage points; a bar has the colour of the clip in which there is more."""
    places = np.arange(len(labels))[::-1]
    points = 100 * values
    bars = axes.barh(places, points, 0.6, color=[SECOND if value > 0 else FIRST for value in points])
    axes.bar_label(bars, [f"{value:+.0f}" for value in points], fontsize=8, padding=3)
    reach = 1.25 * max(float(np.abs(points).max()), 1.0)
    axes.set_yticks(places, labels)
    axes.set(xlabel="percentage points", xlim=(-reach, reach))
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def _everyone(timeline: Timeline) -> Timeline:
    """The same bins with all persons in one, number 0."""
    together: dict[int, np.ndarray] = {}
    for bins in timeline.bins.values():
        for where, row in bins.items():
            together[where] = together[where] + row if where in together else row
    return Timeline(timeline.labels, timeline.width_s, {0: together}, end_s=timeline.end_s)


def _save(plot: Any, figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plot.close(figure)
