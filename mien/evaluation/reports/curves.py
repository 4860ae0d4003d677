"""The figures of a report, each drawn for light and dark pages."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mien.core.files import replace_file
from mien.evaluation.calibration import Reliability
from mien.evaluation.ranking import precision_recall_curve, roc_curve
from mien.evaluation.rater_agreement import RaterAgreement
from mien.evaluation.selective import RiskCoverage

#: Draws on matplotlib axes and returns a description in words.
Drawing = Callable[[Any], str]

#: (background, foreground) of the two themes, as in templates/page.html.
LIGHT, DARK = ("#ffffff", "#1c2126"), ("#14181c", "#e6eaee")

#: Colors of two series, readable on both backgrounds and with color blindness.
FIRST, SECOND = "#3b87c8", "#e08a2e"


class Figure(NamedTuple):
    """A figure as PNG for light and dark pages; ``alt`` describes it in words."""

    light: bytes
    dark: bytes
    alt: str


def draw_figure(draw: Drawing, path: Path | None = None, size: tuple[float, float] = (6.4, 4.6)) -> Figure:
    """Draw a figure for both themes. The light one is also written to ``path``, if given."""
    pictures = []
    for theme in (LIGHT, DARK):
        with _theme(*theme):
            from matplotlib.figure import Figure as Canvas

            canvas = Canvas(figsize=size, layout="constrained")
            axes = canvas.subplots()
            alt = draw(axes)
            axes.grid(alpha=0.2, axis="y" if len(axes.containers) else "both")  # no vertical lines between bars
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
            buffer = io.BytesIO()
            canvas.savefig(buffer, format="png", dpi=110)
            pictures.append(buffer.getvalue())
    if path is not None:
        with replace_file(path) as temporary:
            temporary.write_bytes(pictures[0])
    return Figure(pictures[0], pictures[1], alt)


@contextmanager
def _theme(background: str, foreground: str) -> Iterator[None]:
    """Use these colors in matplotlib during the block."""
    import matplotlib

    foregrounds = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    backgrounds = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    plain = {"font.size": 11, "text.parse_math": False}  # a $ in a class name is no formula
    settings: dict[Any, Any] = dict.fromkeys(foregrounds, foreground) | dict.fromkeys(backgrounds, background) | plain
    with matplotlib.rc_context(settings):
        yield


def plot_roc(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], areas: np.ndarray) -> Drawing:
    """Draw the ROC curve of each class against the rest. ``areas`` float (K,) are shown in the legend."""

    def draw(axes: Any) -> str:
        for k, name in enumerate(classes):
            if np.isfinite(areas[k]):
                curve = roc_curve(probabilities[:, k], labels == k)
                axes.plot(curve.x, curve.y, label=f"{name} {areas[k]:.3f}", color=f"C{k}", linewidth=1.6)
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray", linewidth=1)
        axes.set(xlabel="false-positive rate", ylabel="true-positive rate", title="ROC, each class against the rest")
        _add_legend(axes, "area", loc="lower right")
        return "ROC curves. Areas: " + _list_values(classes, areas)

    return draw


def plot_precision_recall(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], averages: np.ndarray
) -> Drawing:
    """Draw the precision-recall curve of each class that occurs. ``averages`` float (K,) are shown in the legend."""

    def draw(axes: Any) -> str:
        for k, name in enumerate(classes):
            if (labels == k).any():
                curve = precision_recall_curve(probabilities[:, k], labels == k)
                axes.step(
                    curve.x, curve.y, where="pre", label=f"{name} {averages[k]:.3f}", color=f"C{k}", linewidth=1.6
                )
        axes.set(xlabel="recall", ylabel="precision", title="Precision and recall, each class against the rest",
                 ylim=(0, 1.02))  # fmt: skip
        _add_legend(axes, "average precision", loc="lower left")
        return "Precision-recall curves. Average precision: " + _list_values(classes, averages)

    return draw


def plot_reliability(reliability: Reliability) -> Drawing:
    """Draw accuracy against confidence by bin, with the share of the faces in each bin."""

    def draw(axes: Any) -> str:
        width, some = np.diff(reliability.edges), reliability.count > 0
        left = reliability.edges[:-1]
        axes.bar(left[some], reliability.accuracy[some], width[some], align="edge", color=FIRST, alpha=0.6,
                 label="accuracy")  # fmt: skip
        axes.bar(left + 0.3 * width, reliability.count / reliability.count.sum(), 0.4 * width, align="edge", color="gray",
                 label="share of the faces")  # fmt: skip
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
        axes.plot(
            reliability.confidence[some],
            reliability.accuracy[some],
            "o",
            color=SECOND,
            markersize=4,
            label="mean confidence",
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02),
                 title=f"Reliability: expected calibration error {reliability.calibration_error:.3f}")  # fmt: skip
        _add_legend(axes, loc="upper left")
        tendency = "overconfident" if reliability.overconfidence > 0 else "underconfident"
        return (
            f"Reliability diagram, 15 bins. The expected calibration error is {reliability.calibration_error:.3f}; the model "
            f"is {tendency}, by {abs(reliability.overconfidence):.1%}."
        )

    return draw


def plot_confidence(rows: Sequence[dict[str, float]]) -> Drawing:
    """Draw coverage and accuracy of the faces above a confidence threshold."""

    def draw(axes: Any) -> str:
        x = [row["threshold"] for row in rows]
        axes.plot(x, [row["accuracy"] for row in rows], color=FIRST, marker="o", markersize=4,
                  label="accuracy of these faces")  # fmt: skip
        axes.plot(x, [row["coverage"] for row in rows], color=SECOND, marker="s", markersize=4,
                  label="share of the faces")  # fmt: skip
        axes.set(xlabel="confidence threshold", xlim=(0, 1), ylim=(0, 1.02),
                 title="Accuracy by confidence")  # fmt: skip
        _add_legend(axes, loc="lower left")
        examples = [row for row in rows if row["threshold"] in (0.5, 0.8) and row["coverage"] > 0]
        return "Accuracy by confidence. " + " ".join(
            f"Threshold {row['threshold']:.1f}: {row['coverage']:.0%} of the faces, accuracy {row['accuracy']:.1%}."
            for row in examples
        )

    return draw


def plot_coverage(curve: RiskCoverage, threshold: float | None = None) -> Drawing:
    """Draw the risk-coverage curve: the error rate of the most confident share of the faces.

    A dot marks the confidence ``threshold``, if given.
    """

    def draw(axes: Any) -> str:
        axes.plot(curve.coverage, curve.risk, color=FIRST, linewidth=1.8, label=f"area below {curve.area:.3f}")
        error = float(curve.risk[-1])
        axes.axhline(error, linestyle=":", color="gray", linewidth=1, label=f"all faces: {100 * error:.1f} % wrong")
        description = f"Risk-coverage curve. Of all faces, {error:.1%} are wrong."
        answered = curve.confidence >= threshold if threshold is not None else np.zeros(1, bool)
        if answered.any():
            at = int(np.flatnonzero(answered)[-1])
            share, risk = float(curve.coverage[at]), float(curve.risk[at])
            axes.plot(share, risk, "o", color=SECOND, label=f"confidence {threshold:.2f}: {100 * risk:.1f} % wrong")
            description += (
                f" Above a confidence of {threshold:.2f}: {share:.1%} of the faces, {risk:.1%} of them wrong."
            )
        axes.set(xlabel="coverage: share of the faces, most confident first", ylabel="risk: share of wrong predictions",
                 xlim=(0, 1), ylim=(0, None), title="Risk and coverage")  # fmt: skip
        _add_legend(axes, loc="upper left")
        return description

    return draw


def plot_class_bars(classes: Sequence[str], series: Mapping[str, Sequence[float] | np.ndarray], title: str) -> Drawing:
    """Draw a group of bars for each class. ``series``: name → shares in 0..1, float (K,)."""

    def draw(axes: Any) -> str:
        width = 0.8 / len(series)
        places = np.arange(len(classes))
        for index, (name, values) in enumerate(series.items()):
            shift = (index - (len(series) - 1) / 2) * width
            drawn = axes.bar(places + shift, values, width, label=name, color=(FIRST, SECOND)[index % 2])
            axes.bar_label(drawn, [f"{100 * value:.0f}" if np.isfinite(value) else "" for value in values],
                           fontsize=8, padding=1)  # fmt: skip
        axes.set_xticks(places, classes, rotation=25 if len(classes) > 4 else 0)
        axes.set(ylabel="recall", ylim=(0, 1.08), title=title)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9, ncols=len(series), loc="upper center", bbox_to_anchor=(0.5, 1.0))
        return f"{title}. " + " ".join(
            f"{name}: {_list_values(classes, values, '{:.1%}')}." for name, values in series.items()
        )

    return draw


def plot_rater_agreement(agreement: RaterAgreement) -> Drawing:
    """Draw accuracy by the agreement of the annotators, with the number of faces."""

    def draw(axes: Any) -> str:
        groups = [group for group in agreement.groups if group["count"]]
        names = [f"{100 * group['from']:.0f}–{100 * group['to']:.0f} %" for group in groups]
        values = np.array([group["accuracy"] for group in groups])
        low, high = np.array([group["accuracy_interval"] for group in groups]).T
        bars = axes.bar(names, values, color=FIRST, yerr=np.stack([values - low, high - values]), ecolor="gray",
                        capsize=3)  # fmt: skip
        axes.bar_label(bars, [f"{group['count']:,}" for group in groups], label_type="center", fontsize=8)
        axes.set(xlabel="share of the most frequent vote", ylabel="accuracy", ylim=(0, 1.02),
                 title="Accuracy by agreement of the annotators")  # fmt: skip
        axes.tick_params(axis="x", labelrotation=25)
        return "Accuracy by agreement of the annotators: " + _list_values(names, values, "{:.1%}")

    return draw


def plot_training(history: Sequence[dict[str, Any]], what: str) -> Drawing:
    """Draw the "loss" or "accuracy" of training and validation over the epochs of a training log."""

    def draw(axes: Any) -> str:
        epochs = [row["epoch"] for row in history]
        look = {"marker": "o" if len(epochs) < 6 else None, "markersize": 4}
        ours, theirs = ([row[name] for row in history] for name in (what, f"validation_{what}"))
        axes.plot(epochs, ours, color=FIRST, label="training (augmented)", **look)
        axes.plot(epochs, theirs, color=SECOND, label="validation", **look)
        axes.set(xlabel="epoch", title=f"{what} over the epochs".capitalize())
        _add_legend(axes)
        best = (max if what == "accuracy" else min)(theirs)
        return (
            f"{what} over {len(epochs)} epochs: training ends at {ours[-1]:.3f}, validation at {theirs[-1]:.3f}; "
            f"the best of validation is {best:.3f} in epoch {epochs[theirs.index(best)]}."
        ).capitalize()

    return draw


def _add_legend(axes: Any, title: str | None = None, loc: str = "best") -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title=title, loc=loc, fontsize=9, title_fontsize=9, framealpha=0.8, edgecolor="none")


def _list_values(names: Sequence[str], values: Sequence[float] | np.ndarray, form: str = "{:.3f}") -> str:
    """``"angry 0.912, happy 0.970"``."""
    return ", ".join(
        f"{name} {form.format(value)}" for name, value in zip(names, values, strict=True) if np.isfinite(value)
    )
