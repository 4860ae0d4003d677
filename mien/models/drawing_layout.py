"""Layout of a network's drawing: boxes from left to right in rows, and shortcuts above them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from mien.models.summary import PICTURE, Layer, Summary

# All lengths are in inches, so that text fits for any network.
TALLEST, NARROWEST, WIDEST, STRIP, RADIUS = 2.0, 0.12, 0.8, 0.085, 0.1
GAP, WIDEST_GAP = 0.17, 0.6
#: Minimal distance between the middles of two labeled boxes.
PITCH = 0.36
#: Minimal length of a run of one resolution, for the text below it.
NARROWEST_GROUP = 0.6
#: Approximate maximal length of a row; a network shorter than the second value is stretched.
WIDEST_ROW, NARROWEST_ROW = 11.5, 7.2

FAMILIES = {
    "convolution": ("Conv1d", "Conv2d", "ConvTranspose2d"),
    "linear": ("Linear",),
    "pool": ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "mean", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"),
    "fold": ("PixelUnshuffle", "PixelShuffle"),
    "norm": ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "GroupNorm"),
    "activation": ("ReLU", "LeakyReLU", "PReLU", "ActivationPReLU", "ELU", "GELU", "SiLU", "Sigmoid", "Tanh", "Hardswish",
                   "relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "sigmoid", "tanh", "hardswish"),
    "dropout": ("Dropout", "Dropout1d", "Dropout2d"),
    "": ("Identity", "Flatten", "Unflatten"),
}  # fmt: skip
_FAMILY = {kind: family for family, kinds in FAMILIES.items() for kind in kinds}
#: Drawn as narrow strips directly after their layer.
STRIPS = ("norm", "activation", "dropout")
#: Kind of a join → the sign in its circle.
JOINS = {"add": "+", "iadd": "+", "mul": "×", "imul": "×", "cat": "‖", "concat": "‖"}

#: Index in Summary.steps → a drawn step, and the drawn steps that are its inputs.
Shown: TypeAlias = dict[int, tuple[Layer, tuple[int, ...]]]


@dataclass
class Box:
    """A step with its position: x is its left side, from the start of the first row; its middle is at y = 0.

    ``side`` is the height of its feature maps; 0 for vectors.
    """

    index: int
    step: Layer
    family: str
    x: float
    width: float
    height: float
    side: int = 0

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Shortcut:
    """A path above the boxes, from the output of step ``start`` to the join ``end``; ``steps`` are the layers on it."""

    start: int
    end: int
    steps: tuple[int, ...]


def find_family(step: Layer) -> str:
    """Return how a step is drawn: a key of FAMILIES, "join" or "other"; "" if it is left out."""
    if step.kind in JOINS and len(step.inputs) > 1:
        return "join"
    if step.kind.startswith("Dropout") and step.detail == "0":
        return ""
    return _FAMILY.get(step.kind, "other" if step.name else "")


def select_shown_steps(steps: Sequence[Layer]) -> Shown:
    """Return the steps that are drawn. A step that is left out passes its input on."""
    stands_for, shown = {PICTURE: PICTURE}, {}
    for index, step in enumerate(steps):
        sources = tuple(dict.fromkeys(stands_for[source] for source in step.inputs)) or (PICTURE,)
        family = find_family(step)
        stands_for[index] = sources[0]
        if family and not (family == "join" and len(sources) == 1):
            shown[index] = (step, sources)
            stands_for[index] = index
    return shown


def find_shortcuts(shown: Shown) -> list[Shortcut]:
    """Return the shortcuts: of the paths into each join, the longest stays in the row and the others are shortcuts."""
    ancestors: dict[int, set[int]] = {PICTURE: {PICTURE}}  # step → itself and all steps before it
    shortcuts = []
    for index, (_, sources) in shown.items():
        ancestors[index] = {index}.union(*(ancestors[source] for source in sources))
        if len(sources) < 2:
            continue
        alone = {s: ancestors[s].difference(*(ancestors[other] for other in sources if other != s)) for s in sources}
        main = max(sources, key=lambda source: (len(alone[source]), source))
        for source in sources:
            if source != main:
                start = max(ancestors[source] & ancestors[main])
                shortcuts.append(Shortcut(start, index, tuple(sorted(alone[source]))))
    return shortcuts


def place_boxes(summary: Summary, shown: Shown, shortcuts: Sequence[Shortcut]) -> list[Box]:
    """Place the picture and all steps that are on no shortcut in one long row."""
    aside = {index for shortcut in shortcuts for index in shortcut.steps}
    boxes = _place_row(summary, shown, aside, GAP)
    missing = NARROWEST_ROW - 2 * GAP - boxes[-1].right
    if missing > 0:
        gaps = sum(box.family not in STRIPS for box in boxes)
        boxes = _place_row(summary, shown, aside, min(WIDEST_GAP, GAP + missing / gaps))
    return boxes


def _place_row(summary: Summary, shown: Shown, aside: set[int], gap: float) -> list[Box]:
    size = summary.picture[-1]
    picture = Layer("", "picture", "", summary.picture, 0, 0, 0, ())
    boxes = [Box(PICTURE, picture, "picture", 0.0, _compute_width("picture", picture), TALLEST, size)]
    labeled = group = boxes[0]
    for index, (step, _) in shown.items():
        if index in aside:
            continue
        before, family = boxes[-1], find_family(step)
        side = step.shape[-1] if len(step.shape) == 3 else 0
        box = Box(index, step, family, before.right, _compute_width(family, step), _compute_height(step, size), side)
        if family == "join" or (family in STRIPS and before.family == "join"):
            box.x += GAP / 2
        elif family in STRIPS:
            box.height, box.side = before.height, before.side  # also after a Flatten
        else:
            box.x += gap
            box.x += max(0.0, labeled.middle + PITCH - box.middle)
            if box.side != group.side:
                box.x = max(box.x, group.x + NARROWEST_GROUP)
                group = box
            labeled = box
        boxes.append(box)
    return boxes


def _compute_height(step: Layer, size: int) -> float:
    if len(step.shape) == 3:
        return TALLEST * math.sqrt(min(1.0, step.shape[-1] / size))
    return TALLEST * min(1.0, math.log2(1 + math.prod(step.shape)) / 13)


def _compute_width(family: str, step: Layer) -> float:
    if family in STRIPS:
        return STRIP
    if family == "join":
        return 2 * RADIUS
    if family in ("convolution", "other", "picture") and len(step.shape) == 3:
        return min(WIDEST, max(NARROWEST, 0.025 * math.sqrt(step.shape[0])))
    return 0.16 if family == "linear" else NARROWEST


def split_rows(boxes: list[Box], shortcuts: Sequence[Shortcut]) -> list[list[Box]]:
    """Split the boxes into rows of similar length, not inside a shortcut, preferably where the resolution changes."""
    length = boxes[-1].right
    count = math.ceil(length / WIDEST_ROW)
    places = []  # (index of a box that could start a row, cost)
    for number, (before, box) in enumerate(pairwise(boxes), start=1):
        inside = any(shortcut.start < before.index and box.index <= shortcut.end for shortcut in shortcuts)
        if not inside and box.family not in STRIPS:
            places.append((number, 0.0 if before.side != box.side else 2.0))
    begins = [0]
    for row in range(1, count):
        ideal_x = length * row / count
        later = [(abs(boxes[number].x - ideal_x) + cost, number) for number, cost in places if number > begins[-1]]
        begins += [min(later)[1]] if later else []
    return [boxes[start:end] for start, end in pairwise([*begins, len(boxes)])]
