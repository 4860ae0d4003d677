"""The figures of a report, each drawn for a light and a dark page."""

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

#: Draws on matplotlib axes, and returns what it shows in words.
Drawing = Callable[[Any], str]

#: (paper, ink) of the two themes; they are the page's own (templates/page.html).
LIGHT, DARK = ("#ffffff", "#1c2126"), ("#14181c", "#e6eaee")

#: Bars of two things side by side, readable on both papers and by those who do not tell red from green.
FIRST, SECOND = "#3b87c8", "#e08a2e"


class Figure(NamedTuple):
    """One figure as PNG for a light page and for a dark one; ``alt`` says in words what it shows."""

    light: bytes
    dark: bytes
    alt: str


def draw_figure(draw: Drawing, path: Path | None = None, size: tuple[float, float] = (6.4, 4.6)) -> Figure:
    """Draw twice. ``draw`` is given matplotlib axes and returns the alt text; the light figure is kept at ``path``."""
    pictures = []
    for theme in (LIGHT, DARK):
        with _theme(*theme):
            from matplotlib.figure import Figure as Canvas

            canvas = Canvas(figsize=size, layout="constrained")
            axes = canvas.subplots()
            alt = draw(axes)
            axes.grid(alpha=0.2, axis="y" if len(axes.containers) else "both")  # bars need no lines between them
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
def _theme(paper: str, ink: str) -> Iterator[None]:
    """matplotlib with this paper and ink, for the time of one figure."""
    import matplotlib

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    papered = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    plain = {"font.size": 11, "text.parse_math": False}  # a $ in a class's name begins no formula
    settings: dict[Any, Any] = dict.fromkeys(inked, ink) | dict.fromkeys(papered, paper) | plain
    with matplotlib.rc_context(settings):
        yield


def plot_roc(probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], areas: np.ndarray) -> Drawing:
    """Draws the ROC curve of every class against the rest; ``areas`` (K,) go into the legend."""

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
    """Draws the precision-recall curve of every class that occurs; ``averages`` (K,) go into the legend."""

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


def plot_reliability(found: Reliability) -> Drawing:
    """Draws accuracy against confidence by bin, with the gap to the diagonal and each bin's share of the faces."""

    def draw(axes: Any) -> str:
        width, some = np.diff(found.edges), found.count > 0
        left = found.edges[:-1]
        axes.bar(left[some], found.accuracy[some], width[some], align="edge", color=FIRST, alpha=0.6,
                 label="accuracy")  # fmt: skip
        axes.bar(left + 0.3 * width, found.count / found.count.sum(), 0.4 * width, align="edge", color="gray",
                 label="share of the faces")  # fmt: skip
        axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
        axes.plot(
            found.confidence[some], found.accuracy[some], "o", color=SECOND, markersize=4, label="mean confidence"
        )
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02),
                 title=f"Reliability: expected calibration error {found.calibration_error:.3f}")  # fmt: skip
        _add_legend(axes, loc="upper left")
        tendency = "surer than it is right" if found.overconfidence > 0 else "less sure than it is right"
        return (
            f"Reliability diagram, 15 bins. The expected calibration error is {found.calibration_error:.3f}; on the whole the model "
            f"is {tendency}, by {abs(found.overconfidence):.1%}."
        )

    return draw


def plot_confidence(rows: Sequence[dict[str, float]]) -> Drawing:
    """Draws accuracy and the share of faces kept, where answers below a confidence are not given."""

    def draw(axes: Any) -> str:
        x = [row["threshold"] for row in rows]
        axes.plot(x, [row["accuracy"] for row in rows], color=FIRST, marker="o", markersize=4,
                  label="accuracy of the answers given")  # fmt: skip
        axes.plot(x, [row["coverage"] for row in rows], color=SECOND, marker="s", markersize=4,
                  label="share of the faces answered")  # fmt: skip
        axes.set(xlabel="answers are given from this confidence on", xlim=(0, 1), ylim=(0, 1.02),
                 title="Accuracy by confidence")  # fmt: skip
        _add_legend(axes, loc="lower left")
        told = [row for row in rows if row["threshold"] in (0.5, 0.8) and row["coverage"] > 0]
        return "Accuracy by confidence. " + " ".join(
            f"From {row['threshold']:.1f} on: {row['coverage']:.0%} of the faces, {row['accuracy']:.1%} right."
            for row in told
        )

    return draw


def plot_coverage(found: RiskCoverage, threshold: float | None = None) -> Drawing:
    """Draws the risk-coverage curve: how often answers are wrong when only the surest share of the faces is answered; with
    a dot at a confidence ``threshold``."""

    def draw(axes: Any) -> str:
        axes.plot(found.coverage, found.risk, color=FIRST, linewidth=1.8, label=f"area below {found.area:.3f}")
        error = float(found.risk[-1])
        axes.axhline(error, linestyle=":", color="gray", linewidth=1, label=f"all answered: {100 * error:.1f} % wrong")
        told = f"Risk-coverage curve. With every face answered {error:.1%} of the answers are wrong."
        answered = found.confidence >= threshold if threshold is not None else np.zeros(1, bool)
        if answered.any():
            at = int(np.flatnonzero(answered)[-1])
            share, risk = float(found.coverage[at]), float(found.risk[at])
            axes.plot(share, risk, "o", color=SECOND, label=f"confidence {threshold:.2f}: {100 * risk:.1f} % wrong")
            told += f" From a confidence of {threshold:.2f} on: {share:.1%} answered, {risk:.1%} of them wrong."
        axes.set(xlabel="share of the faces that is answered, surest first", ylabel="share of the answers that is wrong",
                 xlim=(0, 1), ylim=(0, None), title="Risk and coverage")  # fmt: skip
        _add_legend(axes, loc="upper left")
        return told

    return draw


def plot_class_bars(classes: Sequence[str], series: Mapping[str, Sequence[float] | np.ndarray], title: str) -> Drawing:
    """Draws one group of bars a class; ``series``: name → a share 0..1 of each class."""

    def draw(axes: Any) -> str:
        width = 0.8 / len(series)
        places = np.arange(len(classes))
        for index, (name, values) in enumerate(series.items()):
            shift = (index - (len(series) - 1) / 2) * width
            drawn = axes.bar(places + shift, values, width, label=name, color=(FIRST, SECOND)[index % 2])
            axes.bar_label(drawn, [f"{100 * value:.0f}" if np.isfinite(value) else "" for value in values],
                           fontsize=8, padding=1)  # fmt: skip
        axes.set_xticks(places, classes, rotation=25 if len(classes) > 4 else 0)
        axes.set(ylabel="share found (recall)", ylim=(0, 1.08), title=title)
        if len(series) > 1:
            axes.legend(frameon=False, fontsize=9, ncols=len(series), loc="upper center", bbox_to_anchor=(0.5, 1.0))
        return f"{title}. " + " ".join(
            f"{name}: {_list_values(classes, values, '{:.1%}')}." for name, values in series.items()
        )

    return draw


def plot_rater_agreement(found: RaterAgreement) -> Drawing:
    """Draws accuracy by how far the raters agree, with the number of faces."""

    def draw(axes: Any) -> str:
        groups = [group for group in found.groups if group["count"]]
        names = [f"{100 * group['from']:.0f}–{100 * group['to']:.0f} %" for group in groups]
        values = np.array([group["accuracy"] for group in groups])
        low, high = np.array([group["accuracy_interval"] for group in groups]).T
        bars = axes.bar(names, values, color=FIRST, yerr=np.stack([values - low, high - values]), ecolor="gray",
                        capsize=3)  # fmt: skip
        axes.bar_label(bars, [f"{group['count']:,}" for group in groups], label_type="center", fontsize=8)
        axes.set(xlabel="votes for the raters' favorite", ylabel="accuracy", ylim=(0, 1.02),
                 title="Accuracy by the raters' agreement")  # fmt: skip
        axes.tick_params(axis="x", labelrotation=25)
        return "Accuracy by the raters' agreement: " + _list_values(names, values, "{:.1%}")

    return draw


def plot_training(history: Sequence[dict[str, Any]], what: str) -> Drawing:
    """Draws "loss" or "accuracy" of training and validation over the epochs of a run's log."""

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
