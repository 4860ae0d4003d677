"""Find the faces of a video's frames: detection in some frames, optical flow in between."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, cast

import cv2
import numpy as np

from mien.analysis.detection.detectors import (
    MIN_SIDE_PX,
    Detections,
    Detector,
    box_whole_picture,
    detect_faces,
    keep_largest,
)
from mien.analysis.media.yuv import YuvImage, halve_to_fit
from mien.analysis.tracking.tracker import CutDetector, pairwise_iou

#: Maximum time in seconds between two detections: new and lost faces are found within it.
SEARCH_EVERY_S = 0.2

#: Maximum movement of a face since the last detection, in sides of the face.
SEARCH_AFTER_SIDES = 0.5

#: Three of four detections run at half the size, at a quarter of the cost, while all followed faces have at least this many
#: pixels there. Every fourth one, and those after a lost face, run at full size and find small faces too.
MIN_COARSE_FACE_PX, FINE_EVERY = 28, 4

#: Seconds for which a followed face is kept without detection, since detectors miss faces at times.
MAX_MISSED_S = 0.1

#: Optical flow runs on gray copies, halved until their longest side is at most this many pixels.
FLOW_SIDE_PX = 480

#: The grid of points over the middle of a face that optical flow follows.
_STEPS = np.linspace(0.2, 0.8, 5, dtype=np.float32)
_GRID = np.stack(np.meshgrid(_STEPS, _STEPS), axis=-1).reshape(1, -1, 2)  # (1, G, 2) in sides of a box

#: Options of OpenCV's Lucas-Kanade flow: window, pyramid levels, and stopping criteria.
FLOW_OPTIONS: dict[str, Any] = {
    "winSize": (11, 11),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03),
}

#: Maximum forward-backward error of a point, in pixels of the gray copy.
MAX_RETURN_ERROR_PX = 1.0

#: Weight of a detected box against the followed one: low if they agree (IoU above AGREEMENT_IOU), so that boxes of still faces
#: do not move, else high.
SEARCH_SHARE, AGREED_SEARCH_SHARE, AGREEMENT_IOU = 0.6, 0.2, 0.75


@dataclass
class FaceFinder:
    """Find the faces of consecutive frames.

    Detection is expensive and optical flow is cheap. So a frame is searched only when it is due: after ``search_every_s``
    seconds, when a face has moved far, was lost or missed, and after a cut. In between, a grid of points on each face is
    followed forward and backward (median flow: Kalal, Mikolajczyk & Matas, "Forward-Backward Error", 2010). If too few
    points return to their start, the face is lost, and the frame is searched.

    detector       a ``WholePictureDetector`` returns each frame as a face of the same person
    people         keep only this many faces, the largest; 0: all
    was_cut        whether a new shot started with the last frame
    search_count   number of searched frames
    """

    detector: Detector
    people: int = 0
    search_every_s: float = SEARCH_EVERY_S
    was_cut: bool = False
    search_count: int = 0
    _cuts: CutDetector = field(default_factory=CutDetector)
    _before: np.ndarray | None = None  # gray copy of the last frame
    _found: Detections | None = None
    _missed_s: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (N,): seconds without detection
    _moved_sides: np.ndarray = field(
        default_factory=lambda: np.zeros(0)
    )  # (N,): movement since the last search, in sides of the face
    _time_s: float = 0.0
    _search_s: float = 0.0
    _coarse_searches: int = 0  # searches at half size since the last one at full size

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the detector, which the caller sets after restoring it."""
        return {**self.__dict__, "detector": None}

    def copy(self) -> FaceFinder:
        """Return a copy with the same state."""
        return replace(self, _cuts=replace(self._cuts))  # other fields are not modified in place

    def find_faces(self, picture: np.ndarray | YuvImage, time_s: float) -> Detections:
        """Return the faces of the next frame, RGB uint8 (H, W, 3) or YUV. A followed face keeps its last detection score."""
        if self.detector.is_whole_picture:
            return box_whole_picture(picture)
        gray = make_gray_copy(picture)
        self.was_cut = self._cuts.is_cut(gray, time_s - self._time_s)
        followed, alive = self._follow(gray, picture.shape[1] / gray.shape[1])
        due = (
            not alive.all()
            or self._found is None
            or time_s - self._search_s >= self.search_every_s - 1e-6
            or self._missed_s.any()
            or (self._moved_sides > SEARCH_AFTER_SIDES).any()
        )
        self._found = self._search(picture, time_s, followed, alive) if due else followed
        self._before, self._time_s = gray, time_s
        return self._found

    def _follow(self, gray: np.ndarray, scale: float) -> tuple[Detections, np.ndarray]:
        """Follow the last frame's faces → their boxes, and bool (N,): whether each could be followed."""
        last = self._found
        if last is None or self.was_cut or self._before is None or self._before.shape != gray.shape:
            return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32)), np.zeros(
                int(last is not None), bool
            )
        boxes, alive = follow_boxes(self._before, gray, last.boxes_xyxy / scale)
        boxes *= scale
        sides = np.sqrt(np.maximum((last.boxes_xyxy[:, 2:] - last.boxes_xyxy[:, :2]).prod(axis=1), 1))
        moved = np.hypot(*((boxes - last.boxes_xyxy).reshape(-1, 2, 2).mean(axis=1) / sides[:, None]).T)
        self._moved_sides = self._moved_sides + moved
        return Detections(boxes, last.scores), alive

    def _search(
        self, picture: np.ndarray | YuvImage, time_s: float, followed: Detections, alive: np.ndarray
    ) -> Detections:
        """Return the detected faces, and the followed ones that the detector missed for less than MAX_MISSED_S."""
        side = self.detector.frame_side
        if len(followed) and alive.all() and not self._missed_s.any() and self._coarse_searches < FINE_EVERY - 1:
            smallest = (followed.boxes_xyxy[:, 2:] - followed.boxes_xyxy[:, :2]).min()
            side = side // 2 if smallest * (side // 2) / max(picture.shape[:2]) >= MIN_COARSE_FACE_PX else side
        self._coarse_searches = self._coarse_searches + 1 if side < self.detector.frame_side else 0
        self.search_count += 1
        detected = _detect_shrunk(self.detector, picture, side)
        missed_s = self._missed_s
        elapsed = time_s - self._time_s
        overlap = pairwise_iou(followed.boxes_xyxy, detected.boxes_xyxy)  # (followed, detected)
        boxes, scores, waiting = list(detected.boxes_xyxy), list(detected.scores), [0.0] * len(detected)
        for index in range(len(followed)):
            best = int(overlap[index].argmax()) if len(detected) else -1
            if best >= 0 and overlap[index, best] > 0.5 and alive[index]:
                share = AGREED_SEARCH_SHARE if overlap[index, best] > AGREEMENT_IOU else SEARCH_SHARE
                boxes[best] = followed.boxes_xyxy[index] + share * (
                    detected.boxes_xyxy[best] - followed.boxes_xyxy[index]
                )
            elif (
                alive[index] and (best < 0 or overlap[index, best] < 0.1) and missed_s[index] + elapsed <= MAX_MISSED_S
            ):
                boxes.append(followed.boxes_xyxy[index])
                scores.append(followed.scores[index])
                waiting.append(missed_s[index] + elapsed)
        detections = Detections(np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32))
        largest = keep_largest(detections, self.people)
        if len(largest) < len(detections):
            waiting = [
                waiting[i]
                for i in range(len(detections))
                if (largest.boxes_xyxy == detections.boxes_xyxy[i]).all(axis=1).any()
            ]
        self._missed_s, self._moved_sides, self._search_s = np.array(waiting), np.zeros(len(largest)), time_s
        return largest


def _detect_shrunk(detector: Detector, picture: np.ndarray | YuvImage, side: int) -> Detections:
    """Detect faces with the longest side scaled down to ``side``; boxes are in pixels of the picture."""
    if isinstance(picture, YuvImage):
        shrink = picture.to_small_gray if detector.is_gray else picture.to_small_rgb
        small = shrink(max(side, MIN_SIDE_PX))
    else:
        small = picture
    detections = detect_faces(detector, small, sides=(side,))
    factors = np.array([picture.shape[1] / small.shape[1], picture.shape[0] / small.shape[0]] * 2, np.float32)
    return Detections(detections.boxes_xyxy * factors, detections.scores)


def make_gray_copy(picture: np.ndarray | YuvImage) -> np.ndarray:
    """Convert RGB uint8 (H, W, 3) or YUV to gray uint8 (h, w), halved until no side is longer than FLOW_SIDE_PX."""
    if isinstance(picture, YuvImage):
        return picture.to_gray(FLOW_SIDE_PX)
    return halve_to_fit(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), FLOW_SIDE_PX)


def follow_boxes(before: np.ndarray, now: np.ndarray, boxes_xyxy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow boxes (N, 4) from one gray uint8 (H, W) to the next → float32 (N, 4), and bool (N,): whether that succeeded.

    A box moves by the median displacement of its points and grows by the median ratio of their distances.
    """
    count = len(boxes_xyxy)
    if not count:
        return np.empty((0, 4), np.float32), np.zeros(0, bool)
    boxes = boxes_xyxy.astype(np.float32)
    points = boxes[:, None, :2] + _GRID * (boxes[:, None, 2:] - boxes[:, None, :2])  # (N, G, 2)
    start = points.reshape(-1, 1, 2)
    there, seen, _ = cv2.calcOpticalFlowPyrLK(before, now, start, cast(Any, None), **FLOW_OPTIONS)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(now, before, there, cast(Any, None), **FLOW_OPTIONS)
    missed_by = np.abs(back - start).max(axis=(1, 2))
    good = ((np.asarray(seen) & np.asarray(returned)).ravel().astype(bool) & (missed_by < MAX_RETURN_ERROR_PX)).reshape(
        count, -1
    )  # (N, G)
    moved, alive = _move_boxes(boxes, points, there.reshape(points.shape), good), good.mean(axis=1) >= 0.5
    moved = np.where(alive[:, None], moved, boxes)
    centers = (moved[:, :2] + moved[:, 2:]) / 2
    height, width = now.shape
    inside = ((centers >= 0) & (centers < (width, height))).all(axis=1)
    moved = np.clip(moved, 0, np.array([width, height] * 2, np.float32))
    return moved, alive & inside & ((moved[:, 2:] - moved[:, :2]).min(axis=1) >= 2)


def _move_boxes(boxes: np.ndarray, starts: np.ndarray, ends: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Move boxes (N, 4) by their points (N, G, 2), of which only the good ones, bool (N, G), count."""
    middles = _masked_medians(np.concatenate([starts, ends, ends - starts], axis=2), good)[:, None]  # (N, 1, 6)
    far = np.abs(starts - middles[..., :2]).sum(axis=2)  # (N, G)
    outer = good & (
        far > _masked_medians(far[..., None], good) / 2
    )  # points near the middle carry no information about size
    ratio = np.abs(ends - middles[..., 2:4]).sum(axis=2) / np.maximum(far, 1e-3)
    growth = np.where(outer.any(axis=1), np.clip(_masked_medians(ratio[..., None], outer)[:, 0], 0.9, 1.1), 1.0)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 + middles[:, 0, 4:]
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 * growth[:, None]
    return np.concatenate([centers - half, centers + half], axis=1).astype(np.float32)


def _masked_medians(values: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Return the medians (N, D) of values (N, G, D) where ``good`` (N, G); 0 without any."""
    ordered = np.sort(np.where(good[..., None], values, np.inf), axis=1)
    count, rows = good.sum(axis=1), np.arange(len(values))
    low, high = ordered[rows, np.maximum(count - 1, 0) // 2], ordered[rows, np.minimum(count // 2, good.shape[1] - 1)]
    return np.where(count[:, None] > 0, (low + high) / 2, 0.0)
