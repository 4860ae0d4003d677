"""A figure of the faces of one picture: the annotated picture and bars of the probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mien.analysis.output.palette import colors_for_labels
from mien.core.types import Face
from mien.evaluation.reports.figures import make_figure, without_math_text

#: Faces whose bars are drawn: the first ones.
MAX_BARS = 6


@without_math_text
def plot_faces(faces: Sequence[Face], annotated: np.ndarray) -> Any:
    """Return a figure with the annotated picture, RGB uint8 (H, W, 3), and to its right the probabilities of each face."""
    shown = list(faces[:MAX_BARS])
    rows = max(len(shown), 1)
    height, width = annotated.shape[:2]
    tall = max(4.2, 1.1 + 1.7 * rows)
    wide = min(max(4.2 * width / height, 3.0), 9.0)
    figure = make_figure((wide + (3.4 if shown else 0), tall))
    grid = figure.add_gridspec(rows, 2 if shown else 1, width_ratios=(wide, 3.4) if shown else None)
    axes = figure.add_subplot(grid[:, 0])
    axes.imshow(annotated)
    axes.set_axis_off()
    if len(faces) != len(shown):
        axes.set_title(f"bars of {len(shown)} of {len(faces):,} faces", loc="left", fontsize=10)
    for row, face in enumerate(shown):
        _draw_face_bars(figure.add_subplot(grid[row, 1]), face)
    return figure


def _draw_face_bars(axes: Any, face: Face) -> None:
    """Draw a face's probabilities; the label that is shown has the full color."""
    values = face.probabilities if face.smoothed is None else face.smoothed
    places = np.arange(len(face.labels))[::-1]
    bars = axes.barh(places, values, 0.7, color=colors_for_labels(face.labels))
    for bar, name in zip(bars, face.labels, strict=True):
        bar.set_alpha(1.0 if name == face.display_label else 0.45)
    axes.bar_label(bars, [f"{value:.0%}" for value in values], fontsize=8, padding=2)
    axes.set_yticks(places, face.labels, fontsize=8)
    axes.set(xlim=(0, 1.15), xticks=[])
    doubt = "?" if face.is_unsure else ""
    axes.set_title(f"{face.display_label}{doubt} {face.display_probability:.0%}", loc="left", fontsize=10)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
