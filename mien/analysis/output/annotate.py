"""Faces drawn onto pictures: boxes, and labels and bars that are readable on any background and never cover each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.analysis.media.yuv import Area, YuvImage, image_to_rgb
from mien.analysis.output.label_layout import LabelLayout
from mien.analysis.output.style import DEFAULT_STYLE, Color, Style
from mien.core.pictures import convert_pillow, convert_to_rgb
from mien.core.types import Face

#: Text below this height in pixels is not readable: where a label would need it, there is none.
MIN_TEXT_PX = 8

#: How much of the picture shows through below bars.
PANEL_TRANSPARENCY = 0.2

BLACK, WHITE = (0, 0, 0), (255, 255, 255)

#: What is scaled becomes no larger: WebP's longest side, and pixels that FFmpeg takes in one frame.
MAX_SIDE_PX, MAX_PIXELS = 16_383, 16_383 * 8_192

#: A hidden face keeps so many values along its longer side.
BLUR_CELLS = 6

#: Part of a face's size by which what is hidden is larger on each side: hair, ears and chin.
BLUR_MARGIN = 0.25

#: Box and label of what is probably no face; bars of labels that are not the one shown.
GRAY = (150, 150, 150)


class BarPanel(NamedTuple):
    """The background of bars: names in white on black, RGB uint8 (h, w, 3), with space for bars to their right.

    left, top   pixels at which bars begin, and the first row
    row, most   height of a row, length of a bar of probability 1
    """

    picture: np.ndarray
    left: int
    top: int
    row: int
    most: int


class FaceMarks(NamedTuple):
    """Label and bars of one face, each (upper left corner, picture); None where there is no place."""

    label: tuple[tuple[int, int], np.ndarray] | None
    bars: tuple[tuple[int, int], BarPanel] | None


def annotate(
    picture: np.ndarray | Image.Image,
    faces: Iterable[Face],
    style: Style = DEFAULT_STYLE,
    *,
    in_place: bool = False,
) -> np.ndarray:
    """Return the picture, RGB uint8 (H, W, 3) at the size of the display, with the faces drawn on it.

    ``picture`` is an array or a PIL image as ``Recognizer.analyze`` takes them. Drawn after scaling, so that lines and text
    are crisp. ``in_place``: RGB uint8 that is not scaled is itself drawn on and returned.
    """
    original, faces = picture, list(faces)
    picture = convert_pillow(picture) if isinstance(picture, Image.Image) else convert_to_rgb(picture)
    height, width = picture.shape[:2]
    if style.display_width not in (0, width):
        size_wh = display_size((width, height), style)
        shrinks = style.display_width < width
        picture = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
        factors = np.array([size_wh[0] / width, size_wh[1] / height] * 2)
        faces = [replace(face, box_xyxy=tuple((factors * face.box_xyxy).tolist())) for face in faces]
    elif picture is original or (isinstance(original, np.ndarray) and np.shares_memory(picture, original)):
        picture = picture if in_place else picture.copy()
    draw_faces(picture, faces, style)
    return picture


def annotate_frame(
    image: np.ndarray | YuvImage, faces: Sequence[Face], style: Style = DEFAULT_STYLE
) -> np.ndarray | YuvImage:
    """Return a video's frame at the size of the display with the faces drawn on it.

    Of planes that are not scaled, only what is drawn on is turned to RGB and back; they themselves stay as they are.
    """
    if not isinstance(image, YuvImage) or style.display_width not in (0, image.shape[1]):
        return annotate(image_to_rgb(image), faces, style, in_place=True)
    height, width = image.shape[:2]
    drawn, canvas = image.copy(), np.empty(image.shape, np.uint8)
    layout = place_marks((width, height), faces, style)
    areas = [_drawn_area(face, marks, (width, height), style) for face, marks in zip(faces, layout, strict=True)]
    areas = [area for area in areas if area.left < area.right and area.top < area.bottom]
    for area in areas:
        canvas[area.slices] = image.area_to_rgb(area)
    _draw_marks(canvas, faces, layout, style)
    for area in areas:
        drawn.write_rgb(canvas[area.slices], area)
    return drawn


def _drawn_area(face: Face, marks: FaceMarks, size_wh: tuple[int, int], style: Style) -> Area:
    """Return the area of a picture that is drawn on for a face, in even numbers; empty where all lies outside."""
    out = _line_width(style, size_wh) // 2 + 1
    left, top, right, bottom = _round_box(face.box_xyxy)
    areas = [(left - out, top - out, right + out, bottom + out)]
    if style.blur != "off":
        areas.append(_hidden_area(face, size_wh))
    for mark in marks:
        if mark is not None:
            (x, y), what = mark
            height, width = (what.picture if isinstance(what, BarPanel) else what).shape[:2]
            areas.append((x, y, x + width, y + height))
    lefts, tops, rights, bottoms = zip(*areas, strict=True)
    left, top = (max(0, min(numbers) // 2 * 2) for numbers in (lefts, tops))
    right, bottom = (-(-max(numbers) // 2) * 2 for numbers in (rights, bottoms))
    return Area(left, top, min(right, size_wh[0]), min(bottom, size_wh[1]))


def display_size(size_wh: tuple[int, int], style: Style) -> tuple[int, int]:
    """Return width and height of the annotated picture: smaller than ``display_width`` says where a file could not hold it."""
    width, height = size_wh
    if not style.display_width:
        return size_wh
    most = max(MAX_PIXELS, width * height)
    factor = min(style.display_width / width, MAX_SIDE_PX / max(width, height), math.sqrt(most / (width * height)))
    return max(1, round(width * factor)), max(1, round(height * factor))


def draw_faces(picture: np.ndarray, faces: Iterable[Face], style: Style = DEFAULT_STYLE) -> None:
    """Draw onto RGB uint8 (H, W, 3), in place, at its own size. Unsure labels get a question mark; non-faces are gray."""
    height, width = picture.shape[:2]
    faces = list(faces)
    _draw_marks(picture, faces, place_marks((width, height), faces, style), style)


def _draw_marks(picture: np.ndarray, faces: Sequence[Face], layout: Sequence[FaceMarks], style: Style) -> None:
    line = _line_width(style, (picture.shape[1], picture.shape[0]))
    if style.blur != "off":
        for face in faces:  # all of them first: no mark is hidden with the face of another
            _hide_face(picture, face, style)
    for face in faces:
        box = _round_box(face.box_xyxy)
        color = _face_color(face, style)
        _draw_box(picture, box, line // 2 + 1, line + 1, _text_color(color))  # an edge, seen where the line is not
        _draw_box(picture, box, line // 2, line, color)
    for face, marks in zip(faces, layout, strict=True):
        if marks.bars is not None:
            (x, y), panel = marks.bars
            below = picture[y : y + panel.picture.shape[0], x : x + panel.picture.shape[1]]
            below[:] = cv2.addWeighted(below, PANEL_TRANSPARENCY, panel.picture, 1, 0)
            _draw_bars(below, panel, face, style)
        if marks.label is not None:
            (x, y), chip = marks.label
            picture[y : y + chip.shape[0], x : x + chip.shape[1]] = chip


def _hidden_area(face: Face, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is hidden of a face, inside the picture."""
    x1, y1, x2, y2 = face.box_xyxy
    dx, dy = BLUR_MARGIN * (x2 - x1), BLUR_MARGIN * (y2 - y1)
    left, top = (min(max(math.floor(low), 0), size) for low, size in zip((x1 - dx, y1 - dy), size_wh, strict=True))
    right, bottom = (min(max(math.ceil(high), 0), size) for high, size in zip((x2 + dx, y2 + dy), size_wh, strict=True))
    return left, top, right, bottom


def _hide_face(picture: np.ndarray, face: Face, style: Style) -> None:
    """Hide a face in place: what is left of it are means of BLUR_CELLS × BLUR_CELLS cells, from which nothing can be recovered."""
    left, top, right, bottom = _hidden_area(face, (picture.shape[1], picture.shape[0]))
    width, height = right - left, bottom - top
    if width < 1 or height < 1:
        return
    below = picture[top:bottom, left:right]
    if style.blur == "box":
        below[:] = 0
        return
    cells = BLUR_CELLS / max(width, height)
    small_wh = max(1, round(cells * width)), max(1, round(cells * height))
    small = cv2.resize(np.ascontiguousarray(below), small_wh, interpolation=cv2.INTER_AREA)
    below[:] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def place_marks(size_wh: tuple[int, int], faces: Sequence[Face], style: Style = DEFAULT_STYLE) -> list[FaceMarks]:
    """Place label and bars of every face, in order, inside a picture of this size and without overlap.

    Labels come first, by the number of the person, so that they stay where they are from frame to frame. Where a label
    has no space, a shorter one is tried; bars without space are left out.
    """
    size = style.text_size or max(11, round(min(size_wh) / 32))
    line = _line_width(style, size_wh)
    layout = LabelLayout(size_wh, np.array([_round_box(face.box_xyxy) for face in faces]), line // 2 + 1)
    order = sorted(range(len(faces)), key=lambda index: (faces[index].track is None, faces[index].track or 0, index))
    labels = {
        index: _place_label(layout, index, faces[index], size, _face_color(faces[index], style)) for index in order
    }
    bars = {}
    for index in order if style.bars else ():
        panel = _render_panel(faces[index].labels, max(9, round(0.7 * size)))
        place = layout.place_bars(index, (panel.picture.shape[1], panel.picture.shape[0]))
        bars[index] = None if place is None else (place, panel)
    return [FaceMarks(labels[index], bars.get(index)) for index in range(len(faces))]


def _place_label(
    layout: LabelLayout, index: int, face: Face, size: int, color: Color
) -> tuple[tuple[int, int], np.ndarray] | None:
    """Return the longest label that has a place, with its corner; smaller text where the picture is too narrow."""
    label, probability = _label_text(face)
    person = "" if face.track is None else f"{face.track + 1}"
    full = f"{person}: {label}" if person else label
    for words in ((full, f"{probability:.0%}"), (full,), (person,) if person else ()):
        smaller = size
        while words and smaller >= min(size, MIN_TEXT_PX):
            chip = np.hstack([_render_label(word, smaller, color, number > 0) for number, word in enumerate(words)])
            place = layout.place_label(index, (chip.shape[1], chip.shape[0]))
            if place is not None:
                return place, chip
            if chip.shape[1] <= layout.size_wh[0] and chip.shape[0] <= layout.size_wh[1]:
                break  # it would fit, but for others: then rather fewer words than small ones
            smaller = smaller * 7 // 8
    return None


def _face_color(face: Face, style: Style) -> Color:
    return GRAY if face.is_not_a_face else dict(style.label_colors).get(face.display_label, style.color)


def _label_text(face: Face) -> tuple[str, float]:
    """``happy`` and .93, ``sad?`` and .41 where that is unsure, ``not a face?`` and .99."""
    if face.is_not_a_face and face.not_a_face is not None:
        return "not a face?", face.not_a_face
    return f"{face.display_label}{'?' if face.is_display_unsure else ''}", face.display_probability


def _draw_box(picture: np.ndarray, box_xyxy: tuple[int, int, int, int], out: int, line: int, color: Color) -> None:
    """The lines of a box, so many pixels wide, which begin ``out`` pixels outside it; whole also at the picture's edge."""
    height, width = picture.shape[:2]
    left, right = max(box_xyxy[0] - out, 0), min(box_xyxy[2] + out, width)
    top, bottom = max(box_xyxy[1] - out, 0), min(box_xyxy[3] + out, height)
    if left < right and top < bottom:
        picture[top : top + line, left:right] = picture[max(bottom - line, top) : bottom, left:right] = color
        picture[top:bottom, left : left + line] = picture[top:bottom, max(right - line, left) : right] = color


def _line_width(style: Style, size_wh: tuple[int, int]) -> int:
    least = 1 if min(size_wh) < 200 else 2  # video keeps color at half its size: of a single pixel's little is left
    return style.line_width or max(least, round(min(size_wh) / 300))


def _round_box(box_xyxy: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = box_xyxy
    return round(x1), round(y1), round(x2), round(y2)


def _text_color(color: Color) -> Color:
    """Black or white, whichever stands out on a color."""
    return BLACK if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 128 else WHITE


@lru_cache(maxsize=1024)
def _render_label(text: str, size: int, color: Color, continues: bool) -> np.ndarray:
    """A filled label uint8 (h, w, 3). Kept, since few texts return often; ``continues``: another stands left of it."""
    font = ImageFont.load_default(size)
    left, _, right, _ = font.getbbox(text)
    pad = max(2, size // 4)
    before = 0 if continues else pad
    _, top, _, bottom = font.getbbox("Ag")  # one height for all words
    chip = Image.new("RGB", (int(right - left) + before + pad, int(bottom - top) + 2 * pad), color)
    ImageDraw.Draw(chip).text((before - left, pad - top), text, font=font, fill=_text_color(color))
    return np.asarray(chip)


@lru_cache(maxsize=64)
def _render_panel(labels: tuple[str, ...], size: int) -> BarPanel:
    """The panel for a model's labels at a text size."""
    font = ImageFont.load_default(size)
    row, pad, most = round(1.3 * size), max(3, size // 3), 4 * size
    names = max(int(font.getbbox(name)[2]) + 1 for name in labels)
    picture = Image.new("RGB", (names + most + 3 * pad, len(labels) * row + pad), BLACK)
    pen = ImageDraw.Draw(picture)
    for index, name in enumerate(labels):
        pen.text((pad, pad // 2 + index * row + row / 2), name, font=font, fill=WHITE, anchor="lm")
    return BarPanel(np.asarray(picture), names + 2 * pad, pad // 2, row, most)


def _draw_bars(below: np.ndarray, panel: BarPanel, face: Face, style: Style) -> None:
    """Bars of the probabilities that are shown, onto the panel's place in place; the shown label's has the style's color."""
    shown = face.display_label
    values = face.probabilities if face.smoothed is None else face.smoothed
    color = dict(style.label_colors).get(shown, style.color)
    color = color if _text_color(color) == BLACK else WHITE  # a dark bar would not be seen on a dark panel
    for index, name in enumerate(face.labels):
        top = panel.top + index * panel.row + panel.row // 4
        length = max(1, round(float(values[index]) * panel.most))
        below[top : top + (panel.row + 1) // 2, panel.left : panel.left + length] = color if name == shown else GRAY
