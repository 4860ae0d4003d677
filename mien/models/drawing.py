"""Draw an architecture: its layers as boxes in the order of execution, as PNG, SVG or PDF."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.core.files import replace_file
from mien.models.drawing_layout import (
    GAP,
    JOINS,
    NARROWEST_ROW,
    RADIUS,
    STRIP,
    STRIPS,
    Box,
    Shortcut,
    Shown,
    find_family,
    find_shortcuts,
    place_boxes,
    select_shown_steps,
    split_rows,
)
from mien.models.summary import Layer, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Margin of the drawing, and distance between two levels of shortcuts, in inches.
MARGIN, LEVEL = 0.35, 0.42
#: Maximal length of a title; of a longer one, such as a path, the end is kept.
MAX_TITLE_LENGTH = 56

#: Kind of a step → color, by Okabe and Ito, distinct for all kinds of color vision. In the order of the legend.
COLORS = {
    "picture": "#dddddd",
    "fold": "#999999",
    "convolution": "#56b4e9",
    "linear": "#e69f00",
    "pool": "#009e73",
    "norm": "#f0e442",
    "activation": "#d55e00",
    "dropout": "#cc79a7",
    "other": "#ffffff",
}
EDGE, LINE, PALE = "#222222", "#555555", "#777777"
ARROW = {"arrowstyle": "-|>", "color": LINE, "lw": 1.2, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
#: Readable names of kinds.
NAMES = {
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "ActivationPReLU": "PReLU",
    "MaxPool2d": "max",
    "AvgPool2d": "mean",
    "mean": "mean of all",
    "BatchNorm1d": "batch",
    "BatchNorm2d": "batch",
    "PixelUnshuffle": "pixels into channels",
}
NOTE = "Height of a box: square root of its maps' side (of a vector: logarithm of its length). Width: square root of the channels."


def draw_networks(panels: Sequence[tuple[str, Summary]], path: Path) -> None:
    """Draw networks one below the other, each with its title: boxes from left to right, in as many rows as needed.

    The height of a box is the square root of its maps' side, its width the square root of their channels. The height of
    a vector is the logarithm of its length. Norms, activations and dropout are strips after their layer. A shortcut is a
    line above the layers that it skips. Identities, reshaping and dropout with probability 0 are left out. The suffix of
    ``path`` selects PNG, SVG or PDF.
    """
    from matplotlib.figure import Figure

    drawn = [_Panel(title, summary) for title, summary in panels]
    width = max(panel.width for panel in drawn) + 2 * MARGIN
    height = sum(panel.height for panel in drawn) + 0.4
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    top = height
    for panel in drawn:
        panel.draw(axes, top)
        top -= panel.height
    axes.text(MARGIN, 0.22, NOTE, fontsize=7, color=PALE, va="center")
    with replace_file(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about characters in a title that the font lacks
        figure.savefig(temporary, dpi=150, facecolor="white")


class _Panel:
    """One network: its title, legend and rows, and their size."""

    def __init__(self, title: str, summary: Summary) -> None:
        self.title, self.summary = title, summary
        shown = select_shown_steps(summary.steps)
        shortcuts = find_shortcuts(shown)
        rows = split_rows(place_boxes(summary, shown, shortcuts), shortcuts)
        self.rows = [_Row(boxes, shortcuts, shown) for boxes in rows]
        self.width = max(NARROWEST_ROW, *(row.length for row in self.rows))
        self.legend = _make_legend(shown, self.width)
        self.head = 0.95 + 0.24 * (1 + max((line for _, line, _, _ in self.legend), default=0))
        self.height = self.head + sum(row.above + row.below for row in self.rows)

    def draw(self, axes: Axes, top: float) -> None:
        """Draw everything below y = ``top``."""
        from matplotlib.patches import Rectangle

        summary = self.summary
        shape = " × ".join(str(length) for length in summary.picture)
        totals = (
            f"{summary.parameters:,} parameters and {summary.statistics:,} running statistics; "
            f"{summary.multiply_adds / 1e6:,.1f} million multiply-adds for a picture of {shape}"
        )
        title = self.title if len(self.title) <= MAX_TITLE_LENGTH else f"…{self.title[-MAX_TITLE_LENGTH:]}"
        # A dollar sign would start a formula.
        axes.text(MARGIN, top - 0.3, title.replace("$", r"\$"), fontsize=13, fontweight="bold", va="center")
        axes.text(MARGIN, top - 0.58, totals, fontsize=8.5, va="center", color="#333333")
        for x, line, color, words in self.legend:
            y = top - 0.88 - 0.24 * line
            axes.add_patch(Rectangle((MARGIN + x, y - 0.06), 0.16, 0.12, facecolor=color, edgecolor=EDGE, lw=0.6))
            axes.text(MARGIN + x + 0.22, y, words, fontsize=8, va="center")
        y = top - self.head
        for row in self.rows:
            row.draw(axes, MARGIN, y - row.above)
            y -= row.above + row.below


class _Row:
    """Boxes next to each other, with the size of the boxes, their shortcuts and their labels."""

    def __init__(self, boxes: list[Box], shortcuts: Sequence[Shortcut], shown: Shown) -> None:
        self.boxes, self.shown = boxes, shown
        self.begin = boxes[0].x - (0.0 if boxes[0].family == "picture" else 2 * GAP)
        self.length = boxes[-1].right - self.begin + 2 * GAP
        self.arcs: list[tuple[float, float, float, Shortcut]] = []  # from x, to x, at height, what
        for shortcut in sorted(shortcuts, key=lambda shortcut: shortcut.end - shortcut.start):
            self._add_arc(shortcut)
        tops = [box.height / 2 for box in boxes] + [y + (0.32 if way.steps else 0.1) for _, _, y, way in self.arcs]
        self.above = max(tops) + 0.1
        self.words = max(box.height / 2 + _estimate_label_length(box) for box in boxes) + 0.12
        self.below = self.words + 0.4

    def _add_arc(self, shortcut: Shortcut) -> None:
        """Add a line above the boxes that a shortcut skips, and above shorter shortcuts."""
        around = [box for box in self.boxes if shortcut.start < box.index <= shortcut.end]
        if not around or around[-1].index != shortcut.end:
            return  # it belongs to another row
        left, right = around[0].x - GAP / 2, around[-1].middle
        below = [high + LEVEL for a, b, high, _ in self.arcs if a < right and left < b]
        self.arcs.append((left, right, max([max(box.height for box in around) / 2 + 0.2, *below]), shortcut))

    def draw(self, axes: Axes, x: float, y: float) -> None:
        """Draw the row with its left end at x and its middle at y."""
        x -= self.begin
        line: dict[str, Any] = {"color": LINE, "lw": 1.2, "zorder": 1, "solid_capstyle": "butt"}
        end = x + self.boxes[-1].right
        axes.plot((x + self.begin, end), (y, y), **line)
        axes.annotate("", (end + 2 * GAP, y), (end, y), arrowprops=ARROW)
        for box in self.boxes:
            _draw_box(axes, box, x, y)
        for left, right, high, shortcut in self.arcs:
            axes.plot((x + left, x + left, x + right), (y, y + high, y + high), **line)
            axes.annotate("", (x + right, y + RADIUS), (x + right, y + high), arrowprops=ARROW)
            self._draw_way(axes, shortcut, x + (left + right) / 2, y + high)
        low = y - self.words
        for side, left, right in self._runs():
            ends = (x + left, x + left, x + right, x + right)
            axes.plot(ends, (low + 0.06, low, low, low + 0.06), color="#999999", lw=0.8)
            words = f"{side} × {side}" if side else "vectors"
            axes.text(x + (left + right) / 2, low - 0.06, words, fontsize=8, ha="center", va="top", color="#333333")

    def _draw_way(self, axes: Axes, shortcut: Shortcut, middle: float, y: float) -> None:
        """Draw the layers on a shortcut."""
        steps = [self.shown[index][0] for index in shortcut.steps]
        widths = [STRIP if find_family(step) in STRIPS else 0.28 for step in steps]
        x = middle - sum(widths) / 2
        for step, width in zip(steps, widths, strict=True):
            _draw_rectangle(axes, Box(0, step, find_family(step), x, width, 0.2), 0.0, y)
            x += width
        words = [_format_label(step) for step in steps if find_family(step) not in STRIPS]
        if len(words) == 1:  # several labels do not fit above their boxes
            axes.text(middle, y + 0.14, words[0], fontsize=6.5, ha="center", va="bottom")

    def _runs(self) -> list[tuple[int, float, float]]:
        """Return (side, left, right) of runs of boxes whose maps have the same size."""
        runs: list[tuple[int, float, float]] = []
        for box in self.boxes:
            if runs and runs[-1][0] == box.side:
                runs[-1] = (box.side, runs[-1][1], box.right)
            else:
                runs.append((box.side, box.x, box.right))
        return runs


def _format_label(step: Layer) -> str:
    """Return a label such as ``3×3 conv, 64, /2``: kernel, channels and stride as in He et al. (2016)."""
    if step.kind == "picture":
        return {1: "picture, gray", 3: "picture, RGB"}.get(step.shape[0], "picture")
    size, *rest = step.detail.replace("x", "×").replace("stride ", "/").split(", ")
    family = find_family(step)
    if family == "convolution":
        return ", ".join([f"{size} conv", str(step.shape[0]), *rest])
    if family == "linear":
        return f"linear, {step.shape[-1]}"
    if family == "fold":
        return f"fold {size}, {step.shape[0]}"
    return ", ".join([f"{NAMES.get(step.kind, step.kind)} {size}".strip(), *rest])


def _estimate_label_length(box: Box) -> float:
    """Estimate the length of the label below a box in inches, for font sizes of 8 and 6.5 points."""
    if box.family in (*STRIPS, "join"):
        return 0.0
    return 0.07 + max(0.067 * len(_format_label(box.step)), 0.053 * len(box.step.name))


def _draw_rectangle(axes: Axes, box: Box, x: float, y: float) -> None:
    from matplotlib.patches import Rectangle

    corner, color = (x + box.x, y - box.height / 2), COLORS.get(box.family, COLORS["other"])
    axes.add_patch(Rectangle(corner, box.width, box.height, facecolor=color, edgecolor=EDGE, lw=0.6, zorder=2))


def _draw_box(axes: Axes, box: Box, x: float, y: float) -> None:
    """Draw a box with its label below, and in gray its name in the layer table."""
    from matplotlib.patches import Circle

    if box.family == "join":
        axes.add_patch(Circle((x + box.middle, y), RADIUS, facecolor="white", edgecolor=EDGE, lw=0.9, zorder=2))
        axes.text(x + box.middle, y, JOINS[box.step.kind], fontsize=10, ha="center", va="center_baseline", zorder=3)
        return
    _draw_rectangle(axes, box, x, y)
    if box.family in STRIPS:
        return
    below, side = y - box.height / 2 - 0.07, "right" if box.step.name else "center"
    axes.text(x + box.middle, below, _format_label(box.step), fontsize=8, rotation=90, ha=side, va="top")
    axes.text(x + box.middle + 0.01, below, box.step.name, fontsize=6.5, rotation=90, ha="left", va="top", color=PALE)


def _make_legend(shown: Shown, width: float) -> list[tuple[float, int, str, str]]:
    """Return (x, line, color, text) of each drawn family, in lines of at most ``width``."""
    kinds: dict[str, list[str]] = {}
    for step, _ in shown.values():
        word = step.detail if find_family(step) == "dropout" else NAMES.get(step.kind, step.kind)
        words = kinds.setdefault(find_family(step), [])
        if word not in words:
            words.append(word)
    entries, x, line = [], 0.0, 0
    for family, color in COLORS.items():
        if family not in kinds:
            continue
        text = family if family in ("convolution", "linear") else f"{family} ({', '.join(kinds[family])})"
        length = 0.4 + 0.06 * len(text)
        if x > 0 and x + length > width:
            x, line = 0.0, line + 1
        entries.append((x, line, color, text))
        x += length
    return entries
