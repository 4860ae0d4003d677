"""Figures as PNG: training curves and confusion matrices."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from mien.core.files import replace_file
from mien.evaluation.metrics import Scores

P = ParamSpec("P")
R = TypeVar("R")

#: Pixels per inch of figures in notebooks.
NOTEBOOK_DPI = 80


def without_math_text(draw: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that draws: text is drawn literally. By default matplotlib reads text between two $ as a formula."""

    @wraps(draw)
    def drawing(*arguments: P.args, **options: P.kwargs) -> R:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*arguments, **options)

    return drawing


def make_panels(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **options: Any) -> tuple[Any, Any]:
    """Return a new figure and its axes, as `matplotlib.pyplot.subplots` returns them.

    Without pyplot: no screen is looked for, no figure stays open, a notebook's own plots are left alone, and threads can draw.
    """
    figure = make_figure(figsize)
    return figure, figure.subplots(rows, columns, **options)


def make_figure(figsize: tuple[float, float]) -> Any:
    """Return a new empty figure, ``figsize`` inches wide and high, whose panels are laid out when it is drawn."""
    from matplotlib.figure import Figure

    class PngFigure(Figure):
        def _repr_png_(self) -> bytes:
            """Show the figure in a notebook, also in one that has not imported pyplot."""
            content = io.BytesIO()
            self.savefig(content, format="png", dpi=NOTEBOOK_DPI)
            return content.getvalue()

    return PngFigure(figsize=figsize, layout="constrained")


def save_figure(figure: Any, path: Path, dpi: int = 110) -> None:
    """Write a figure as a picture; it appears under its name when it is whole."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=dpi)


@without_math_text
def draw_curves(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Draw loss and accuracy of training and validation, and the learning rate, over the epochs of a training log."""
    epochs = [row["epoch"] for row in history]
    figure, (left, right, rate) = make_panels(1, 3, figsize=(13, 4))
    marker = "o" if len(epochs) == 1 else None
    left.plot(epochs, [row["loss"] for row in history], label="training (augmented)", marker=marker)
    left.plot(epochs, [row["validation_loss"] for row in history], label="validation", marker=marker)
    left.set(title="loss", xlabel="epoch")
    left.legend()
    right.plot(epochs, [100 * row["accuracy"] for row in history], label="training (augmented)", marker=marker)
    right.plot(epochs, [100 * row["validation_accuracy"] for row in history], label="validation", marker=marker)
    right.plot(
        epochs, [100 * row["validation_macro_f1"] for row in history], label="validation macro-F1 × 100", marker=marker
    )
    right.set(title="accuracy (%) and macro-F1", xlabel="epoch")
    right.legend()
    rate.plot(epochs, [row["lr"] for row in history], marker=marker)
    rate.set(title="learning rate at the epoch's end", xlabel="epoch", ylim=(0, None))
    for axes in (left, right, rate):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    save_figure(figure, path)


def draw_confusion(scores: Scores, path: Path, title: str) -> None:
    """Write the figure of `plot_confusion` as PNG."""
    save_figure(plot_confusion(scores, title), path)


@without_math_text
def plot_confusion(scores: Scores, title: str) -> Any:
    """Return a figure of the confusion matrix in counts and in rates of the true class."""
    names = list(scores.classes)
    figure, panels = make_panels(1, 2, figsize=(14, 6.2))
    drawn = (
        (panels[0], scores.confusion, "faces", "{:,.0f}"),
        (panels[1], scores.confusion_rates, "share of the true class", "{:.2f}"),
    )
    for axes, values, what, form in drawn:
        image = axes.imshow(
            scores.confusion_rates, cmap="Blues", vmin=0, vmax=1
        )  # both are colored by rate, so that rare classes are visible
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="predicted", ylabel="true", title=what)
        for (row, column), value in np.ndenumerate(values):
            axes.text(
                column,
                row,
                form.format(value),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if scores.confusion_rates[row, column] > 0.55 else "black",
                in_layout=False,  # it lies inside its panel: measuring it for the layout takes a third of the drawing
            )
    figure.colorbar(image, ax=panels, shrink=0.8, label="share of the true class")
    figure.suptitle(f"{title}: accuracy {scores.accuracy:.2%}, macro-F1 {scores.macro_f1:.3f}, {scores.count:,} faces")
    return figure


@without_math_text
def draw_run_curves(histories: dict[str, list[dict[str, Any]]], path: Path, title: str) -> None:
    """Draw training and validation loss and accuracy of several runs over the epochs, a color for each run.

    histories: name → the rows of a run's log. Training is dashed, validation solid.
    """
    figure, (loss, accuracy) = make_panels(1, 2, figsize=(12, 4.2))
    for index, (name, history) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in history]
        for axes, what, factor in ((loss, "loss", 1), (accuracy, "accuracy", 100)):
            look = {"color": f"C{index}", "marker": "o" if len(epochs) < 6 else None, "markersize": 4}
            axes.plot(epochs, [factor * row[what] for row in history], linestyle="--", alpha=0.6, **look)
            axes.plot(epochs, [factor * row[f"validation_{what}"] for row in history], label=name, **look)
    for axes, what in ((loss, "loss"), (accuracy, "accuracy (%)")):
        axes.set(title=f"{what}: validation solid, training dashed", xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    accuracy.legend()
    figure.suptitle(title)
    save_figure(figure, path, dpi=90)


@without_math_text
def draw_points(
    series: dict[str, list[tuple[float, list[float]]]], path: Path, title: str, xlabel: str, ylabel: str
) -> None:
    """Draw lines through the means of repeated measurements, with a point for each measurement.

    series: name → (x, measurements at x), x ascending.
    """
    figure, axes = make_panels(figsize=(7, 4.2))
    for index, (name, points) in enumerate(series.items()):
        color = f"C{index}"
        axes.plot([x for x, _ in points], [np.mean(values) for _, values in points], color=color, label=name)
        axes.scatter(
            [x for x, values in points for _ in values],
            [value for _, values in points for value in values],
            color=color,
            s=18,
        )
    axes.set(
        title=title, xlabel=xlabel, ylabel=ylabel, xticks=sorted({x for points in series.values() for x, _ in points})
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    save_figure(figure, path, dpi=90)
