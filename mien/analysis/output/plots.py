"""Pictures of records: two clips beside each other, and which expression followed which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.palette import colors_for_labels
from mien.analysis.people.baseline import Baseline
from mien.analysis.people.people import PeopleAccumulator
from mien.analysis.people.records import Records
from mien.analysis.people.timeline import MAX_PERSONS, axis_range_s, draw_stacked_probabilities
from mien.core.clock import format_axis_time
from mien.core.errors import DataError
from mien.evaluation.reports.figures import make_figure, make_panels, save_figure, without_math_text

#: Persons whose transitions are drawn, each in a matrix of its own: those seen longest.
MAX_MATRICES = 5

#: Colors of two clips, told apart by most people with a color-vision deficiency.
FIRST, SECOND = "#3b87c8", "#e08a2e"


def check_comparable(first: Records, second: Records) -> None:
    """DataError where the two were read by models with different labels."""
    if first.labels != second.labels:
        problem = f"has the labels {', '.join(second.labels)}, {first.path.name} has {', '.join(first.labels)}"
        raise DataError(second.path, problem, "analyze both clips with one model")


def transition_rates(counts: np.ndarray) -> np.ndarray:
    """Counts (K, K) → the share of each row that went to each column; NaN where a label was never left."""
    left = counts.sum(axis=1, keepdims=True)
    return np.where(left > 0, counts / np.maximum(left, 1), np.nan)


def summarize_records(records: Records, people: PeopleAccumulator) -> dict[str, Any]:
    """A clip, its people and their transitions as JSON; of people the same figures as in ``clip.summary.json``."""
    each = [(person, _transitions_json(person.transitions, person.seen_s)) for person in people.people]
    return {
        "records": str(records.path), "source": records.source, "model": records.model, "detector": records.detector,
        "labels": list(records.labels), **people.to_json(),
        "transitions": {
            "all": _transitions_json(sum_transitions(people), sum(person.seen_s for person in people.people)),
            "persons": [{"person": person.track + 1} | values for person, values in each],
        },
    }  # fmt: skip


def sum_transitions(people: PeopleAccumulator) -> np.ndarray:
    """How often the label shown went from one (row) to another (column), of all persons: int64 (K, K)."""
    return sum(
        (person.transitions for person in people.people), np.zeros((len(people.labels), len(people.labels)), np.int64)
    )


def _transitions_json(counts: np.ndarray, seconds: float) -> dict[str, Any]:
    """Rows are the labels left, columns those that followed; a row of rates is null where its label was never left."""
    shared = [None if np.isnan(row).any() else row.round(4).tolist() for row in transition_rates(counts)]
    seconds = round(seconds, 3)
    per_minute = round(float(counts.sum()) * 60 / seconds, 3) if seconds else 0.0  # of a frame shorter than 0.5 ms
    return {"counts": counts.tolist(), "rates": shared, "changes": int(counts.sum()), "changes_per_minute": per_minute}


def compare_shares(clips: Sequence[Records], people: Sequence[PeopleAccumulator]) -> dict[str, Any]:
    """Share of the time on screen and mean probability of every expression in two clips, and second − first."""
    first, second = clips
    check_comparable(first, second)
    values = {}
    for what in ("share", "mean"):
        a, b = (getattr(one, what) for one in people)
        values[what] = {
            name: {"first": round(float(x), 4), "second": round(float(y), 4), "difference": round(float(y - x), 4)}
            for name, x, y in zip(first.labels, a, b, strict=True)
        }
    return {"first": str(first.path), "second": str(second.path)} | values


@without_math_text
def draw_comparison(people: Sequence[PeopleAccumulator], path: Path, names: Sequence[str], title: str) -> None:
    """Two clips on axes of one scale: everyone's mean over time above, shares of the time on screen and their difference below."""
    labels = people[0].labels
    colors = colors_for_labels(labels)
    figure = make_figure((12, 8.4))
    grid = figure.add_gridspec(3, 2, height_ratios=(1, 1, 1.7), width_ratios=(1.7, 1))
    axes_s = [axis_range_s(one.timeline) for one in people]
    length_s = max(end_s - start_s for start_s, end_s in axes_s)
    for row, (one, name, (start_s, _)) in enumerate(zip(people, names, axes_s, strict=True)):
        axes = figure.add_subplot(grid[row, :])
        draw_stacked_probabilities(axes, one.timeline.merge_tracks(one.names), 0, colors)
        axes.set(xlim=(start_s, start_s + length_s), ylabel="mean of all", xlabel="time (min:s)" if row else "")
        axes.set_title(name, loc="left", fontsize=11)
        axes.xaxis.set_major_formatter(format_axis_time)
        axes.tick_params(labelbottom=bool(row))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    _draw_bars(figure.add_subplot(grid[2, 0]), labels, [one.share for one in people], names)
    below = figure.add_subplot(grid[2, 1])
    _draw_difference(below, labels, people[1].share - people[0].share)
    below.set_title("second − first", loc="left", fontsize=11)
    figure.suptitle(title)
    save_figure(figure, path)


def draw_transitions(people: PeopleAccumulator, path: Path, title: str) -> None:
    """Write the figure of `plot_transitions` as PNG."""
    save_figure(plot_transitions(people, title), path)


@without_math_text
def plot_transitions(people: PeopleAccumulator, title: str) -> Any:
    """Return a figure of how often the label shown went from one expression to another, in all and for the persons seen longest."""
    persons = people.people
    drawn = [(persons[0].short_name if len(persons) == 1 else "all persons", sum_transitions(people))]
    if len(persons) > 1:
        drawn += [(person.short_name, person.transitions) for person in persons[:MAX_MATRICES]]
    columns = min(len(drawn), 3)
    rows = -(-len(drawn) // columns)
    figure, panels = make_panels(rows, columns, figsize=(4.9 * columns + 0.9, 4.7 * rows + 0.5), squeeze=False)
    for axes in panels.flat[len(drawn) :]:
        axes.set_visible(False)
    for axes, (name, counts) in zip(panels.flat, drawn, strict=False):
        image = _draw_matrix(axes, counts, people.labels)
        total = int(counts.sum())
        axes.set_title(f"{name}: {total:,} change{'' if total == 1 else 's'}", fontsize=11)
    figure.colorbar(image, ax=panels, shrink=0.6, label="share of the changes away from the row's expression")
    left = len(persons) - MAX_MATRICES
    more = f"; {left:,} more person{'' if left == 1 else 's'} only in 'all'" if left > 0 else ""
    figure.suptitle(f"{title}: what followed what{more}")
    return figure


@without_math_text
def draw_baseline(people: PeopleAccumulator, baseline: Baseline, path: Path, title: str) -> None:
    """Draw how far the probabilities of people are from their baseline over time; of many the first few that have one."""
    persons = [person for person in people.people if person.track in baseline.means][:MAX_PERSONS]
    figure, panels = make_panels(
        len(persons), 1, figsize=(12, 1.2 + 1.7 * len(persons)), sharex=True, sharey=True, squeeze=False
    )
    colors, timeline = colors_for_labels(people.labels), people.timeline
    for axes, person in zip(panels[:, 0], persons, strict=True):
        starts, means, _ = timeline.mean_probabilities(person.track)
        edges = np.append(starts, starts[-1] + timeline.width_s)
        for values, color, label in zip((means - baseline.means[person.track]).T, colors, people.labels, strict=True):
            axes.stairs(values, edges, baseline=None, color=color, label=label, linewidth=1.2)
        axes.axvspan(baseline.from_s, baseline.to_s, color="0.93", zorder=0)
        axes.axhline(0, color="0.3", linewidth=0.8)
        axes.set(ylabel=person.name)
        axes.spines[["top", "right"]].set_visible(False)
    low, high = axis_range_s(timeline)
    panels[-1, 0].set(xlim=(low, max(high, low + timeline.width_s)), xlabel="time (min:s)")
    panels[-1, 0].xaxis.set_major_formatter(format_axis_time)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    figure.suptitle(f"{title}: smoothed probabilities minus those of the gray period")
    save_figure(figure, path)


#: Colors of groups of clips, in their order.
GROUP_COLORS = (FIRST, SECOND, "#5aa469", "#9467bd", "#8c564b", "#b0b0b0")


@without_math_text
def draw_groups(result: Mapping[str, Any], path: Path) -> None:
    """Draw what `compare_groups` returned: each clip as a point, each group's mean with its interval."""
    labels, count = result["labels"], len(result["groups"])
    figure, panels = make_panels(figsize=(2.5 + 0.5 * count * len(labels), 4.2))
    for index, (name, values) in enumerate(result["groups"].items()):
        color = GROUP_COLORS[index % len(GROUP_COLORS)]
        places = np.arange(len(labels)) + 0.7 * ((index + 0.5) / count - 0.5)
        means = np.array([values[label]["mean"] for label in labels])
        limits = np.array([values[label]["interval"] for label in labels])
        for clip in result["clips"][name]:
            panels.plot(places, [clip[label] for label in labels], ".", color=color, alpha=0.35)
        errors = np.maximum([means - limits[:, 0], limits[:, 1] - means], 0)
        panels.errorbar(
            places, means, errors, fmt="o", color=color, capsize=3, label=f"{name} ({len(result['clips'][name])})"
        )
    panels.set_xticks(range(len(labels)), labels)
    what = "mean smoothed probability" if result["measure"] == "mean" else "share of the time on screen"
    panels.set(ylabel=what, ylim=(0, None), title="Groups of clips: each clip, the mean and its 95 % interval")
    panels.legend(frameon=False)
    panels.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _draw_matrix(axes: Any, counts: np.ndarray, labels: Sequence[str]) -> Any:
    """One matrix: color by share of the row, in each cell the count and, below it, the share."""
    share = np.nan_to_num(transition_rates(counts))
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


def _draw_bars(axes: Any, labels: Sequence[str], values: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Two bars for each expression, in percent of the time on screen."""
    places = np.arange(len(labels))
    for index, (shared, name) in enumerate(zip(values, names, strict=True)):
        bars = axes.bar(places + 0.4 * (index - 0.5), 100 * shared, 0.4, color=(FIRST, SECOND)[index], label=name)
        axes.bar_label(bars, [f"{100 * value:.0f}" for value in shared], fontsize=8, padding=1)
    axes.set_xticks(places, labels, rotation=25)
    axes.set(ylabel="% of the time on screen", ylim=(0, 112 * max(0.01, *(float(each.max()) for each in values))))
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_difference(axes: Any, labels: Sequence[str], values: np.ndarray) -> None:
    """Second − first in percentage points; a bar has the color of the clip in which there is more."""
    places = np.arange(len(labels))[::-1]
    points = 100 * values
    bars = axes.barh(places, points, 0.6, color=[SECOND if value > 0 else FIRST for value in points])
    axes.bar_label(bars, [f"{value:+.0f}" for value in points], fontsize=8, padding=3)
    reach = 1.25 * max(float(np.abs(points).max()), 1.0)
    axes.set_yticks(places, labels)
    axes.set(xlabel="percentage points", xlim=(-reach, reach))
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
