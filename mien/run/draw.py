"""Faces drawn onto pictures: a box, and a label that is readable on any background and stays inside the frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.core.types import Face


@dataclass(frozen=True)
class Style:
    """Colour (red, green, blue 0..255) of box and label; sizes in pixels, 0 chooses them by the picture's size."""

    colour: tuple[int, int, int] = (0, 255, 0)
    line_width: int = 0
    text_size: int = 0


DEFAULT_STYLE = Style()

#: Box and label of what is probably no face.
GREY = (150, 150, 150)


def draw_faces(picture: np.ndarray, faces: Iterable[Face], style: Style = DEFAULT_STYLE) -> None:
    """Draw onto RGB uint8 (H, W, 3), in place. Unsure labels get a question mark; what is probably no face is grey."""
    height, width = picture.shape[:2]
    line = style.line_width or max(1, round(min(height, width) / 300))
    size = style.text_size or max(11, round(min(height, width) / 32))
    for face in faces:
        x1, y1, x2, y2 = (round(value) for value in face.box_xyxy)
        colour = GREY if face.non_face else style.colour
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, line)
        person = "" if face.track is None else f"{face.track + 1}: "
        chip = _chip(f"{person}{_text(face)}", size, colour)
        above = y1 - line // 2 - chip.shape[0]
        _paste(picture, chip, x1 - line // 2, above if above >= 0 else y1 + line)


def _text(face: Face) -> str:
    """``happy 93%``, ``sad? 41%`` or ``not a face? 99%``."""
    if face.non_face and face.not_a_face is not None:
        return f"not a face? {face.not_a_face:.0%}"
    label, probability = face.shown
    return f"{label}{'?' if face.shown_unsure else ''} {probability:.0%}"


@lru_cache(maxsize=512)
def _chip(text: str, size: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A filled label uint8 (h, w, 3), its text black or white, whichever stands out. Kept: few texts return often."""
    font = ImageFont.load_default(size)
    left, _, right, _ = font.getbbox(text)
    pad = max(2, size // 4)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    _, ascent_top, _, descent_bottom = font.getbbox("Ag")  # one height for all words
    chip = Image.new("RGB", (int(right - left) + 2 * pad, int(descent_bottom - ascent_top) + 2 * pad), colour)
    ink = (0, 0, 0) if luminance > 128 else (255, 255, 255)
    ImageDraw.Draw(chip).text((pad - left, pad - ascent_top), text, font=font, fill=ink)
    return np.asarray(chip)


def _paste(picture: np.ndarray, chip: np.ndarray, left: int, top: int) -> None:
    """Lay the chip over the picture, moved so that it lies inside, and cut where it is larger than the picture."""
    height, width = picture.shape[:2]
    left = min(max(left, 0), max(width - chip.shape[1], 0))
    top = min(max(top, 0), max(height - chip.shape[0], 0))
    visible = chip[: height - top, : width - left]
    picture[top : top + visible.shape[0], left : left + visible.shape[1]] = visible
