"""Draw attribution maps: over the faces, as a grid with its color bar, and as masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.core.files import replace_file

#: One pixel of a 48×48 face is drawn as so many.
ZOOM = 4

_SEQUENTIAL, _DIVERGING = "inferno", "coolwarm"


def draw_overlays(
    faces: np.ndarray, maps: np.ndarray, *, signed: bool | None = None, zoom: int = ZOOM, opacity: float = 0.85
) -> np.ndarray:
    """Draw each map over its face, RGB uint8 (N, zoom · H, zoom · W, 3).

    A map is scaled by its own largest magnitude (the 99.5th percentile, so that one pixel does not hide all others).
    What is near zero lets the face shine through, what is large covers it: black through red to yellow where maps are
    never negative; where they are signed blue speaks against the class and red for it.

    Args:
        faces: uint8 (N, H, W) gray or (N, H, W, 3) RGB.
        maps: float32 (N, H, W).
        signed: whether the scale has two sides; default: whether any value is negative.
        strength: how much of the face the largest value covers, in 0..1.
    """
    if faces.shape[:3] != maps.shape:
        raise ValueError(f"faces {faces.shape} and maps {maps.shape} do not fit")
    if len(faces) == 0:
        return np.empty((0, zoom * faces.shape[1], zoom * faces.shape[2], 3), np.uint8)
    two_sided = bool((maps < 0).any()) if signed is None else signed
    largest = np.quantile(np.abs(maps), 0.995, axis=(1, 2), keepdims=True)
    largest = np.where(largest > 0, largest, np.abs(maps).max(axis=(1, 2), keepdims=True))
    values = np.clip(maps / np.where(largest > 0, largest, 1), -1, 1)
    return np.stack([_blend_colors(enlarge_face(face, zoom), value.repeat(zoom, 0).repeat(zoom, 1), two_sided, opacity)
                     for face, value in zip(faces, values, strict=True)])  # fmt: skip


def enlarge_face(face: np.ndarray, zoom: int = ZOOM) -> np.ndarray:
    """Enlarge uint8 (H, W[, 3]) to RGB uint8 (zoom · H, zoom · W, 3); every pixel becomes a square."""
    rgb = face if face.ndim == 3 else np.repeat(face[..., None], 3, axis=2)
    return rgb.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _blend_colors(rgb: np.ndarray, values: np.ndarray, two_sided: bool, opacity: float) -> np.ndarray:
    """rgb uint8 (H, W, 3), values in -1..1 (H, W): the more a value differs from zero, the more its color covers."""
    import matplotlib

    table = matplotlib.colormaps[_DIVERGING if two_sided else _SEQUENTIAL]
    colors = table((values + 1) / 2 if two_sided else np.clip(values, 0, 1))[..., :3]
    cover = opacity * np.abs(values[..., None]) ** 0.6
    return np.round(rgb * (1 - cover) + 255 * colors * cover).astype(np.uint8)


def draw_color_bar(two_sided: bool, length: int = 256, width: int = 14) -> np.ndarray:
    """Return the color scale over middle gray, RGB uint8 (length, width, 3), the largest value at the top."""
    values = np.linspace(1, -1 if two_sided else 0, length)[:, None].repeat(width, axis=1)
    return _blend_colors(np.full((length, width, 3), 128, np.uint8), values, two_sided, 0.85)


#: What stands for a pixel that is blanked: pale blue, which no gray face has.
BLANK_COLOR = (214, 226, 240)


def mask_faces(faces: np.ndarray, maps: np.ndarray, keep: float = 0.25) -> np.ndarray:
    """The faces with every pixel below a threshold of their map blanked, RGB uint8 (N, H, W, 3), as R4 shows what a
    network saw.

    Args:
        faces: uint8 (N, H, W) or (N, H, W, 3).
        maps: float32 (N, H, W); of signed maps the pixels that speak most for the class stay.
        keep: the threshold is set so that this share of the pixels stays; among equal values the first ones do.
    """
    flat = maps.reshape(len(maps), -1)
    count = min(flat.shape[1], max(1, round(keep * flat.shape[1])))
    stays = np.zeros(flat.shape, bool)
    np.put_along_axis(stays, np.argsort(-flat, axis=1, kind="stable")[:, :count], True, axis=1)
    shown = faces.copy() if faces.ndim == 4 else np.repeat(faces[..., None], 3, axis=3)
    shown[~stays.reshape(maps.shape)] = BLANK_COLOR
    return shown


def draw_grid(
    rows: Sequence[Sequence[np.ndarray]],
    captions: Sequence[str],
    heads: Sequence[str],
    path: Path,
    title: str,
    *,
    bars: Sequence[bool] = (),
) -> None:
    """Draw tiles RGB uint8 (H, W, 3), all of one size, as a PNG: one row per face with its caption, one column per
    method.

    bars: the color bars to draw at the right, True for the two-sided one.
    """
    from matplotlib.figure import Figure  # without pyplot: no screen is looked for, no figure is left open

    side_y, side_x = rows[0][0].shape[:2]
    gap, margin, bar_width = 8, 14, 92
    lines = max(caption.count("\n") + 1 for caption in captions)
    left = margin + max(10, 7 * max(len(line) for caption in captions for line in caption.split("\n")))
    top = margin + 34 + 15 * max(head.count("\n") + 1 for head in heads)
    step_y = max(side_y, 15 * lines) + gap
    width = left + len(heads) * (side_x + gap) + bar_width * len(bars) + margin
    width = max(width, margin * 2 + round(7.4 * max(len(line) for line in title.split("\n"))))
    least = 200 if bars else 0
    height = max(top + len(rows) * step_y + margin, top + least + 2 * margin)
    canvas = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    text: dict[str, Any] = {"parse_math": False}
    axes.text(margin, margin, title, va="top", size=10, **text)
    for column, head in enumerate(heads):
        axes.text(left + column * (side_x + gap) + side_x / 2, top - 5, head, va="bottom", ha="center", size=9, **text)
    for index, (tiles, caption) in enumerate(zip(rows, captions, strict=True)):
        y = top + index * step_y
        axes.text(left - 8, y + side_y / 2, caption, va="center", ha="right", size=8.5, **text)
        for column, tile in enumerate(tiles):
            x = left + column * (side_x + gap)
            canvas[y : y + side_y, x : x + side_x] = tile
    for number, two_sided in enumerate(bars):
        x, length = left + len(heads) * (side_x + gap) + 10 + number * bar_width, max(140, min(320, height - top - 40))
        canvas[top + 8 : top + 8 + length, x : x + 14] = draw_color_bar(two_sided, length)
        ticks = [(0, "positive"), (0.5, "0"), (1, "negative")] if two_sided else [(0, "largest"), (1, "0")]
        for share, word in ticks:
            axes.text(x + 19, top + 8 + share * length, word, va="center", size=8.5, **text)
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=100)


def arrange_tiles(tiles: np.ndarray, columns: int | None = None, gap: int = 2, back: int = 255) -> np.ndarray:
    """Arrange pictures uint8 (N, H, W[, 3]) in one uint8 (H', W'[, 3]); about as wide as high by default."""
    count, height, width = tiles.shape[:3]
    columns = min(count, columns or math.ceil(math.sqrt(count)))
    lines = math.ceil(count / columns)
    canvas = np.full(
        (lines * (height + gap) - gap, columns * (width + gap) - gap, *tiles.shape[3:]), back, dtype=np.uint8
    )
    for index, tile in enumerate(tiles):
        y, x = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = tile
    return canvas
