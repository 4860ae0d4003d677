"""One color for each expression, the same in every picture and page of footage."""

from __future__ import annotations

#: Told apart by most people with a color-vision deficiency (after Okabe & Ito, 2008), on light and on dark paper.
COLORS = {
    "angry": "#d55e00", "disgust": "#009e73", "fear": "#cc79a7", "happy": "#e6b800", "sad": "#0072b2",
    "surprise": "#56b4e9", "neutral": "#b0b0b0", "contempt": "#7b4173",
}  # fmt: skip

#: For labels of a model's own, in the order in which it lists them.
OTHER_COLORS = ("#8c564b", "#9467bd", "#17becf", "#bcbd22", "#e377c2", "#637939", "#843c39", "#3182bd")


def colors_for_labels(labels: tuple[str, ...]) -> list[str]:
    """``#rrggbb`` of each label, in order."""
    return [COLORS.get(name, OTHER_COLORS[index % len(OTHER_COLORS)]) for index, name in enumerate(labels)]
