"""Pictures → face boxes, and face boxes → crops framed as the training faces were."""

from __future__ import annotations

import copy
import hashlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np

from mien.analysis.detection.yunet import YuNet
from mien.analysis.inference.model_check import check_model
from mien.analysis.inference.model_file import find_pulled_model
from mien.analysis.media.yuv import Area, YuvImage, crop_area
from mien.core.errors import ModelError, UsageError

DETECTORS = ("auto", "haar", "yunet", "none")

#: OpenCV's files of cascades; its type stubs do not know the folder.
CASCADES = Path(cast(Any, cv2).data.haarcascades)

#: Pictures smaller than this are enlarged to it: the detectors need about 20 pixels of face, better 60.
MIN_SIDE_PX = 240


@dataclass(frozen=True)
class Framing:
    """How a detector's box becomes the square that a training face filled.

    side    the square's side over the box's sqrt(width * height)
    right   how far its center lies to the right of the box's, in box widths
    down    how far its center lies below the box's, in box heights

    A square that reaches over the picture's border is filled with the border's pixels.
    """

    side: float
    right: float
    down: float

    def square(self, box_xyxy: np.ndarray) -> tuple[float, float, float]:
        """(center x, center y, side) in pixels for one box (4,)."""
        x1, y1, x2, y2 = (float(value) for value in box_xyxy)
        width, height = x2 - x1, y2 - y1
        return (
            (x1 + x2) / 2 + self.right * width,
            (y1 + y2) / 2 + self.down * height,
            self.side * math.sqrt(width * height),
        )


@dataclass(frozen=True)
class Detections:
    """boxes_xyxy float32 (N, 4) in pixels, scores float32 (N,) in 0..1; best first."""

    boxes_xyxy: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.scores), 4):
            raise ValueError(f"boxes {self.boxes_xyxy.shape} and scores {self.scores.shape} do not fit")

    def __len__(self) -> int:
        return len(self.scores)


NO_DETECTIONS = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))


def whole_picture(picture: np.ndarray | YuvImage) -> Detections:
    """Without a detector: the picture (H, W[, 3]) is itself the face."""
    height, width = picture.shape[:2]
    return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))


class Detector(Protocol):
    """Finds faces in RGB uint8 (H, W, 3).

    ``name`` goes into the records, and ``framing`` cuts its boxes to crops. Pictures are searched with their longest side
    shrunk to each of ``picture_sides``: first for large faces, then for small ones; frames of a video to ``frame_side``.
    """

    name: str
    framing: Framing
    picture_sides: tuple[int, ...]
    frame_side: int

    def detect(self, picture: np.ndarray) -> Detections:
        """Faces at one scale, as the picture is."""


class HaarDetector:
    """Viola & Jones' cascade (2001), from OpenCV's own wheel: works offline, frontal faces only.

    Of the wheel's frontal cascades it is "alt": it finds about as many faces as "default" does, with boxes that cost less
    accuracy (benchmarks/framing.py --cascade), and takes fewer other things for faces.
    """

    name = "haar"
    framing = Framing(side=1.08, right=0.0, down=0.0)  # the median is 1.04; a little wider reads better
    picture_sides: tuple[int, ...] = (640,)  # finer, it takes more things for faces than it finds
    frame_side = 400  # half the time of 640; finds faces from about a sixteenth of the frame's longer side

    def __init__(self, cascade: str = "alt", min_neighbors: int = 3, threshold: float = 0.0) -> None:
        # Read by Python and handed over as text: OpenCV cannot open every path that Windows has.
        self._arguments = (cascade, min_neighbors, threshold)
        file = CASCADES / f"haarcascade_frontalface_{cascade}.xml"
        storage = cv2.FileStorage(file.read_text(encoding="utf-8"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        self._cascade = cv2.CascadeClassifier()
        self._cascade.read(storage.getFirstTopLevelNode())
        self._one_at_a_time = threading.Lock()  # OpenCV's cascade keeps what it computes of a picture in itself
        self._min_neighbors, self._threshold = min_neighbors, threshold

    def __reduce__(self) -> tuple[object, ...]:
        return HaarDetector, self._arguments

    def detect(self, picture: np.ndarray) -> Detections:
        gray = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        with self._one_at_a_time:
            found, counts = self._cascade.detectMultiScale2(
                gray, scaleFactor=1.1, minNeighbors=self._min_neighbors, minSize=(24, 24)
            )
        if len(found) == 0:
            return NO_DETECTIONS
        boxes, windows = np.asarray(found, np.float32), np.asarray(counts, np.float32).ravel()
        boxes[:, 2:] += boxes[:, :2]  # x, y, w, h -> x1, y1, x2, y2
        # How many windows agreed, squeezed into 0..1: 5 of them give 0.5.
        scores = windows / (windows + 5)
        is_sure = scores >= self._threshold
        return _sort_by_score(boxes[is_sure], scores[is_sure])


#: Scores below which YuNet's boxes are left out: unless another is chosen, and at least.
YUNET_THRESHOLD, LEAST_THRESHOLD = 0.7, 0.05


class YuNetDetector:
    """YuNet (Wu, Peng & Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023), a file from OpenCV Zoo."""

    name = "yunet"
    framing = Framing(side=1.10, right=0.0, down=-0.01)
    picture_sides: tuple[int, ...] = (640, 1280, 2560)
    frame_side = 640

    def __init__(self, file: Path, threshold: float = 0.0, threads: int = 0) -> None:
        threshold = max(threshold, LEAST_THRESHOLD) if threshold else YUNET_THRESHOLD
        try:
            content = file.read_bytes()
            check_model(content)
            self._network = YuNet(content, threshold, threads=threads)
        except Exception as error:
            hint = "pull it with 'mien models pull yunet'"
            raise ModelError(file, "is not a YuNet file that ONNX Runtime can run", hint) from error
        self.digest = hashlib.sha256(content).hexdigest()

    def in_threads(self, threads: int) -> YuNetDetector:
        """Another that runs the same file in so many threads."""
        twin = copy.copy(self)
        twin._network = self._network.in_threads(threads)
        return twin

    def detect(self, picture: np.ndarray) -> Detections:
        return Detections(*self._network(picture))


def make_detector(
    name: str = "auto", file: str | Path | None = None, threads: int = 0, threshold: float = 0.0
) -> Detector | None:
    """A detector by name; None for "none", where the whole picture is taken for a face.

    ``auto`` is YuNet where its file is given or was pulled, else Haar. ``threads`` are YuNet's; 0: all cores.
    Faces with a score below ``threshold`` are left out; 0: the detector's own threshold. Raises ModelError where YuNet is asked for and
    its file is not there.
    """
    if name not in DETECTORS:
        raise UsageError(f"detector '{name}'", "is unknown", f"choose one of {', '.join(DETECTORS)}")
    if file is not None and name in ("haar", "none"):
        raise UsageError("--detector-model", f"does not go with --detector {name}", "use --detector yunet")
    if name == "none":
        return None
    if file is not None:
        if not Path(file).is_file():
            raise ModelError(file, "does not exist", "check the path, or pull it with 'mien models pull yunet'")
        return YuNetDetector(Path(file), threshold, threads)
    pulled = find_pulled_model("yunet")
    if name == "haar" or (name == "auto" and pulled is None):
        return HaarDetector(threshold=threshold)
    if pulled is None:
        raise ModelError(
            "detector 'yunet'",
            "is not on this machine",
            "pull it with 'mien models pull yunet', or give its file with --detector-model",
        )
    return YuNetDetector(pulled, threshold, threads)


def detect_faces(
    detector: Detector, picture: np.ndarray, *, thorough: bool = True, sides: tuple[int, ...] = ()
) -> Detections:
    """Faces in RGB uint8 (H, W, 3), boxes in its pixels.

    ``thorough`` (pictures): large ones are searched at several scales, from a shrunk copy in which large faces have the
    size the detectors know up to a fine one for small faces. Otherwise (video frames) at one scale alone; or at ``sides``,
    the lengths to which the longest side is shrunk.
    """
    sides = sides or (detector.picture_sides if thorough else (detector.frame_side,))
    found = [_detect_at_scale(detector, picture, scale) for scale in _search_scales(picture, sides)]
    boxes = np.concatenate([detections.boxes_xyxy for detections in found])
    scores = np.concatenate([detections.scores for detections in found])
    return _suppress_overlaps(_clip_boxes(Detections(boxes, scores), picture))


def _search_scales(picture: np.ndarray, sides: tuple[int, ...]) -> Iterator[float]:
    """Factors by which a picture is searched: so that its longest side is each of ``sides``, as long as that shrinks it."""
    longest = max(picture.shape[:2])
    if longest < MIN_SIDE_PX:
        yield MIN_SIDE_PX / longest
        return
    for side in sides:
        yield min(1.0, side / longest)
        if side >= longest:
            return


def _detect_at_scale(detector: Detector, picture: np.ndarray, scale: float) -> Detections:
    if scale == 1:
        return detector.detect(picture)
    height, width = picture.shape[:2]
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    while picture.shape[1] >= 4 * size_wh[0] and picture.shape[0] >= 4 * size_wh[1]:  # halving is many times quicker
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    resized = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    found = detector.detect(resized)
    factors = np.array([width / size_wh[0], height / size_wh[1]] * 2, np.float32)
    return Detections(found.boxes_xyxy * factors, found.scores)


def _sort_by_score(boxes: np.ndarray, scores: np.ndarray) -> Detections:
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order].astype(np.float32))


def _clip_boxes(found: Detections, picture: np.ndarray) -> Detections:
    """Boxes cut at the picture's border; what is left of less than a pixel is dropped."""
    height, width = picture.shape[:2]
    boxes = np.clip(found.boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    keep = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1 if len(boxes) else np.zeros(0, bool)
    return Detections(boxes[keep], found.scores[keep])


def _suppress_overlaps(found: Detections, overlap: float = 0.4) -> Detections:
    """One box a face: of boxes that share more than ``overlap`` (union), or lie mostly in each other, the surest stays."""
    found = _sort_by_score(found.boxes_xyxy, found.scores)
    boxes, areas = found.boxes_xyxy, np.prod(found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2], axis=1)
    kept: list[int] = []
    for index in range(len(found)):
        top_left = np.maximum(boxes[index, :2], boxes[kept, :2])
        bottom_right = np.minimum(boxes[index, 2:], boxes[kept, 2:])
        shared = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
        union = areas[index] + areas[kept] - shared
        inside = shared / np.minimum(areas[index], areas[kept])
        if not ((shared / union > overlap) | (inside > 0.7)).any():
            kept.append(index)
    return Detections(boxes[kept], found.scores[kept])


def keep_largest(found: Detections, most: int) -> Detections:
    """The ``most`` largest faces, in the order in which they were; all of them for 0."""
    if not most or len(found) <= most:
        return found
    areas = (found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]).prod(axis=1)
    kept = np.sort(np.argsort(-areas, kind="stable")[:most])
    return Detections(found.boxes_xyxy[kept], found.scores[kept])


def crop_faces(
    picture: np.ndarray | YuvImage, boxes_xyxy: np.ndarray, framing: Framing | None, size: int
) -> np.ndarray:
    """Cut boxes (N, 4) out of RGB uint8 (H, W, 3), a frame's planes or gray (H, W) → uint8 (N, size, size[, 3]).

    With a framing, each box becomes the square that a training face would have filled; without, the box itself is
    scaled to the square.
    """
    crops = [_crop_face(picture, box, framing, size) for box in boxes_xyxy]
    return np.stack(crops) if crops else np.empty((0, size, size, *picture.shape[2:]), np.uint8)


def _crop_face(picture: np.ndarray | YuvImage, box: np.ndarray, framing: Framing | None, size: int) -> np.ndarray:
    if framing is None:
        left, top, right, bottom = (round(float(value)) for value in box)
    else:
        x, y, side = framing.square(box)
        left, top, right, bottom = round(x - side / 2), round(y - side / 2), round(x + side / 2), round(y + side / 2)
    area = Area(left, top, max(right, left + 1), max(bottom, top + 1))
    return picture.cut(area, size) if isinstance(picture, YuvImage) else crop_area(picture, area, size)
