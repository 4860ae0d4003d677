"""Crop faces from pictures with the framing of the training faces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mien.analysis.media.yuv import Area, YuvImage, crop_area


@dataclass(frozen=True)
class Framing:
    """Map a detector's box to a square with the framing of the training faces.

    side    side of the square, as a multiple of the box's sqrt(width * height)
    right   shift of the square's center to the right, in box widths
    down    shift of the square's center downwards, in box heights

    Pixels beyond the border of the picture repeat the border.
    """

    side: float
    right: float
    down: float

    def face_square(self, box_xyxy: np.ndarray) -> tuple[float, float, float]:
        """Return (center x, center y, side) in pixels for one box (4,)."""
        x1, y1, x2, y2 = (float(value) for value in box_xyxy)
        width, height = x2 - x1, y2 - y1
        return (
            (x1 + x2) / 2 + self.right * width,
            (y1 + y2) / 2 + self.down * height,
            self.side * math.sqrt(width * height),
        )


def crop_faces(
    picture: np.ndarray | YuvImage, boxes_xyxy: np.ndarray, framing: Framing | None, size: int
) -> np.ndarray:
    """Crop boxes (N, 4) of RGB uint8 (H, W, 3), gray uint8 (H, W) or YUV → uint8 (N, size, size[, 3]).

    framing   maps each box to a square, see ``Framing``; None: the box itself is scaled to a square
    """
    crops = [_crop_face(picture, box, framing, size) for box in boxes_xyxy]
    return np.stack(crops) if crops else np.empty((0, size, size, *picture.shape[2:]), np.uint8)


def _crop_face(picture: np.ndarray | YuvImage, box: np.ndarray, framing: Framing | None, size: int) -> np.ndarray:
    if framing is None:
        left, top, right, bottom = (round(float(value)) for value in box)
    else:
        x, y, side = framing.face_square(box)
        left, top, right, bottom = round(x - side / 2), round(y - side / 2), round(x + side / 2), round(y + side / 2)
    area = Area(left, top, max(right, left + 1), max(bottom, top + 1))
    return picture.crop(area, size) if isinstance(picture, YuvImage) else crop_area(picture, area, size)
