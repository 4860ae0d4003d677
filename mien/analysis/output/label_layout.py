"""Places for labels and bars in a picture: inside the frame, without overlap, near their face."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: A label may stand so far from its face, in sides of the face, where nothing nearer is free.
MAX_DISTANCE = 1.0

#: Pixels between two labels, so that those of one color do not run together.
GAP_PX = 2

#: Up to so many faces, places are tried one by one first.
MAX_FACES_ONE_BY_ONE = 12


class LabelLayout:
    """The free area of a picture: rectangles are placed one after the other, each where none is yet.

    All rectangles are (x1, y1, x2, y2) in whole pixels, x2 and y2 being the first ones outside.

    Args:
        size_wh: of the picture.
        boxes_xyxy: (N, 4), the faces.
        line: pixels that a box's line stands out over the box.
    """

    def __init__(self, size_wh: tuple[int, int], boxes_xyxy: np.ndarray, line: int) -> None:
        self.size_wh, self.line = size_wh, line
        limits = np.array([*size_wh, *size_wh], np.int64)
        self.faces = np.asarray(boxes_xyxy, np.int64).reshape(-1, 4).clip(0, limits)
        self._taken = np.empty((0, 4), np.int64)

    def place_label(self, face: int, size_wh: tuple[int, int]) -> tuple[int, int] | None:
        """Place a label (w, h) of face number ``face``; return its upper left corner, or None where nothing near is free.

        Above the box, below it, inside it, beside it; the first of these that covers no other face, else the one that covers
        least. Where all of them are taken, the nearest free place within REACH.
        """
        w, h = size_wh
        x1, y1, x2, y2 = self.faces[face].tolist()
        out = self.line
        left, right = x1 - out, x2 + out - w
        corners = [
            (left, y1 - out - h), (right, y1 - out - h), (left, y2 + out), (right, y2 + out),
            (left, y1 + out), (left, y2 - out - h), (x2 + out, y1), (x1 - out - w, y1),
        ]  # fmt: skip
        return self._place(corners, size_wh, face, spare_faces=False) or self._place_near(face, size_wh)

    def place_bars(self, face: int, size_wh: tuple[int, int]) -> tuple[int, int] | None:
        """Place bars (w, h) right or left of the box, below or above it, over no face; return the corner, else None."""
        w, h = size_wh
        x1, y1, x2, y2 = self.faces[face].tolist()
        out = self.line + 1
        lowest = max(self.size_wh[1] - h, 0)  # beside a face they may move up and down, so as to lie in the frame
        corners = [
            *((x, min(max(y, 0), lowest)) for y in (y1, y2 - h) for x in (x2 + out, x1 - out - w)),
            *((x, y) for y in (y2 + out, y1 - out - h) for x in (x1, x2 - w)),
        ]
        return self._place(corners, size_wh, face, spare_faces=True)

    def _place(
        self, corners: Sequence[tuple[int, int]], size_wh: tuple[int, int], face: int, *, spare_faces: bool
    ) -> tuple[int, int] | None:
        """Place a rectangle at the best of these corners.

        With few faces the first corner is mostly free, which a loop finds faster than arrays do.
        """
        if len(self.faces) <= MAX_FACES_ONE_BY_ONE:
            (width, height), (w, h) = self.size_wh, size_wh
            others = [box for index, box in enumerate(self.faces.tolist()) if spare_faces or index != face]
            others += self._taken.tolist()
            for x, y in corners:
                x = min(max(x, 0), max(width - w, 0))
                inside = w <= width and 0 <= y <= height - h
                if inside and not any(x < c and a < x + w and y < d and b < y + h for a, b, c, d in others):
                    return self._occupy(x, y, size_wh)
        return self._place_best(self._keep_inside(corners, size_wh), size_wh, face, spare_faces=spare_faces)

    def _occupy(self, x: int, y: int, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Mark a rectangle and a margin around it as occupied; return its corner."""
        around = np.array([[x - GAP_PX, y - GAP_PX, x + size_wh[0] + GAP_PX, y + size_wh[1] + GAP_PX]])
        self._taken = np.concatenate([self._taken, around])
        return x, y

    def _keep_inside(self, corners: Sequence[tuple[int, int]], size_wh: tuple[int, int]) -> np.ndarray:
        """Return corners (C, 2), moved sideways into the frame; those above or below it are left out."""
        places = np.array(corners, np.int64)
        (width, height), (w, h) = self.size_wh, size_wh
        places[:, 0] = places[:, 0].clip(0, max(width - w, 0))
        return places[(places[:, 1] >= 0) & (places[:, 1] <= height - h) & (w <= width)]

    def _place_best(
        self, corners: np.ndarray, size_wh: tuple[int, int], face: int, *, spare_faces: bool
    ) -> tuple[int, int] | None:
        """Place a rectangle at the first free corner; where all cover another face, at the one that covers least.

        spare_faces: only where it covers no face at all, its own included.
        """
        rectangles = np.concatenate([corners, corners + np.array(size_wh)], axis=1)
        rectangles = rectangles[~(intersection_areas(rectangles, self._taken) > 0).any(axis=1)]
        if not len(rectangles):
            return None
        covered = intersection_areas(rectangles, self.faces)
        if not spare_faces:
            covered = np.delete(covered, face, axis=1)
        covered = covered.sum(axis=1)
        best = int(covered.argmin())  # of equals the first
        if spare_faces and covered[best] > 0:
            return None
        return self._occupy(int(rectangles[best, 0]), int(rectangles[best, 1]), size_wh)

    def _place_near(self, face: int, size_wh: tuple[int, int]) -> tuple[int, int] | None:
        """The free place nearest to the face's center, searched in steps of half a label, within REACH of the box."""
        (width, height), (w, h) = self.size_wh, size_wh
        x1, y1, x2, y2 = self.faces[face].tolist()
        reach = int(MAX_DISTANCE * max(x2 - x1, y2 - y1)) + h
        xs = np.arange(max(0, x1 - reach - w), min(width - w, x2 + reach) + 1, max(1, w // 2))
        ys = np.arange(max(0, y1 - reach - h), min(height - h, y2 + reach) + 1, max(1, h // 2))
        corners = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        center = np.array([x1 + x2 - w, y1 + y2 - h]) / 2
        nearest = np.hypot(*(corners - center).T).argsort(kind="stable")
        rectangles = np.concatenate([corners, corners + np.array(size_wh)], axis=1)[nearest]
        free = rectangles[~(intersection_areas(rectangles, self._taken) > 0).any(axis=1)]
        return self._place_best(free[:1, :2], size_wh, face, spare_faces=False) if len(free) else None


def intersection_areas(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Return the pixels that rectangles (A, 4) and (B, 4) have in common, int64 (A, B)."""
    a, b = a_xyxy[:, None], b_xyxy[None]
    return np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None).prod(axis=-1)
