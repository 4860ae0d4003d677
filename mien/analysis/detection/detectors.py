"""Detect faces in pictures."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np

from mien.analysis.detection.face_net import FaceNetSession, is_face_net_file
from mien.analysis.detection.framing import Framing
from mien.analysis.detection.yunet import YuNet
from mien.analysis.inference.model_check import check_model
from mien.analysis.inference.model_file import find_pulled_model
from mien.analysis.media.yuv import YuvImage
from mien.core.errors import ModelError, UsageError

DETECTORS = ("auto", "haar", "yunet", "none")

#: The folder of OpenCV's cascade files; OpenCV's type stubs lack it.
CASCADES = Path(cast(Any, cv2).data.haarcascades)

#: Smaller pictures are enlarged until their longest side has this length. Detectors need faces of 20 px, better 60 px.
MIN_SIDE_PX = 240


@dataclass(frozen=True)
class Detections:
    """Boxes and scores of the detected faces, highest score first.

    boxes_xyxy   float32 (N, 4) in pixels
    scores       float32 (N,) in 0..1

    Raises ValueError if the shapes do not match.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray

    def __post_init__(self) -> None:
        if self.boxes_xyxy.shape != (len(self.scores), 4):
            raise ValueError(f"boxes {self.boxes_xyxy.shape} and scores {self.scores.shape} do not match")

    def __len__(self) -> int:
        return len(self.scores)


NO_DETECTIONS = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))


class Detector(Protocol):
    """The interface of a face detector.

    name              the name that the records carry
    framing           maps a box to the square crop; None: the box itself is scaled to a square
    picture_sides     for pictures: lengths of the longest side at which the detector runs, in pixels, ascending
    frame_side        the same for frames of a video
    is_whole_picture  True if the detector does not search and returns the whole picture: such faces have no score
    is_gray           True if the detector takes luminance, uint8 (H, W); RGB is converted before it is scaled
    digest            SHA-256 of the detector's file; "" without a file
    """

    name: str
    framing: Framing | None
    picture_sides: tuple[int, ...]
    frame_side: int
    is_whole_picture: bool = False
    is_gray: bool = False
    digest: str = ""

    def detect(self, picture: np.ndarray) -> Detections:
        """Detect faces in RGB uint8 (H, W, 3), or in luminance uint8 (H, W) if ``is_gray``, at its own scale."""
        ...

    def with_threads(self, threads: int) -> Detector:
        """Return a detector that runs in ``threads`` threads; the same detector if it has no such setting."""
        return self


class WholePictureDetector(Detector):
    """Return the whole picture as one face, with score 1: for pictures that are face crops already."""

    name = "none"
    framing = None
    picture_sides: tuple[int, ...] = ()
    frame_side = 0
    is_whole_picture = True

    def detect(self, picture: np.ndarray) -> Detections:
        """Return one box that covers the picture (H, W[, 3])."""
        return box_whole_picture(picture)


def box_whole_picture(picture: np.ndarray | YuvImage) -> Detections:
    """Return one box with score 1 that covers an array (H, W[, 3]) or a YUV image."""
    height, width = picture.shape[:2]
    return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32))


class HaarDetector(Detector):
    """Detect frontal faces with the Haar cascade of Viola & Jones (2001) from OpenCV's wheel; no download is needed.

    The default cascade is "alt". It detects about as many faces as "default", has fewer false positives, and its boxes
    give a higher accuracy (benchmarks/framing.py --cascade).
    """

    name = "haar"
    # The median side is 1.04; wider crops give a higher accuracy.
    framing: Framing | None = Framing(side=1.08, right=0.0, down=0.0)
    picture_sides: tuple[int, ...] = (640,)  # at larger sizes the false positives outnumber the additional faces
    frame_side = 400  # takes half the time of 640; detects faces from 1/16 of the frame's longest side

    def __init__(self, cascade: str = "alt", min_neighbors: int = 3, threshold: float = 0.0) -> None:
        # Python reads the file and passes its text, since OpenCV cannot open every path on Windows.
        self._arguments = (cascade, min_neighbors, threshold)
        file = CASCADES / f"haarcascade_frontalface_{cascade}.xml"
        storage = cv2.FileStorage(file.read_text(encoding="utf-8"), cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        self._cascade = cv2.CascadeClassifier()
        self._cascade.read(storage.getFirstTopLevelNode())
        self._lock = threading.Lock()  # a cascade stores intermediate results, so that it serves one thread at a time
        self._min_neighbors, self._threshold = min_neighbors, threshold

    def __reduce__(self) -> tuple[object, ...]:
        return HaarDetector, self._arguments

    def detect(self, picture: np.ndarray) -> Detections:
        gray = cv2.equalizeHist(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY))
        with self._lock:
            boxes_xywh, counts = self._cascade.detectMultiScale2(
                gray, scaleFactor=1.1, minNeighbors=self._min_neighbors, minSize=(24, 24)
            )
        if len(boxes_xywh) == 0:
            return NO_DETECTIONS
        boxes, windows = np.asarray(boxes_xywh, np.float32), np.asarray(counts, np.float32).ravel()
        boxes[:, 2:] += boxes[:, :2]  # x, y, w, h -> x1, y1, x2, y2
        # The score maps the number of agreeing windows to 0..1; 5 windows give 0.5.
        scores = windows / (windows + 5)
        is_sure = scores >= self._threshold
        return _sort_by_score(boxes[is_sure], scores[is_sure])


#: YuNet's default minimum score of a face, and the lowest that can be chosen.
YUNET_THRESHOLD, MIN_YUNET_THRESHOLD = 0.7, 0.05


class YuNetDetector(Detector):
    """Detect faces with YuNet (Wu, Peng & Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023).

    file        the ONNX file of OpenCV Zoo
    threshold   minimum score of a face, 0..1; 0: YUNET_THRESHOLD
    threads     threads of ONNX Runtime; 0: all cores

    Raises ModelError for a file that is not a YuNet model.
    """

    name = "yunet"
    framing: Framing | None = Framing(side=1.10, right=0.0, down=-0.01)
    picture_sides: tuple[int, ...] = (640, 1280, 2560)
    frame_side = 640

    def __init__(self, file: Path, threshold: float = 0.0, threads: int = 0) -> None:
        threshold = max(threshold, MIN_YUNET_THRESHOLD) if threshold else YUNET_THRESHOLD
        try:
            content = file.read_bytes()
            check_model(content)
            self._network = YuNet(content, threshold, threads=threads)
        except Exception as error:
            hint = "pull it with 'mien models pull yunet'"
            raise ModelError(file, "is not a YuNet file that ONNX Runtime can run", hint) from error
        self.digest = hashlib.sha256(content).hexdigest()

    def with_threads(self, threads: int) -> YuNetDetector:
        """Return a detector that runs the same model in ``threads`` threads."""
        twin = copy.copy(self)
        twin._network = self._network.with_threads(threads)
        return twin

    def detect(self, picture: np.ndarray) -> Detections:
        return Detections(*self._network(picture))


class MienDetector(Detector):
    """Detect faces with a network that `mien train-detector` trained.

    file        an ONNX file of `mien train-detector`
    threshold   minimum score of a face, 0..1; 0: the one that the file states
    threads     threads of ONNX Runtime; 0: all cores

    One pass finds faces of all sizes from MIN_FACE_PX up. Raises ModelError for a file that is no such model.
    """

    name = "mien"
    framing: Framing | None = Framing(side=1.0, right=0.0, down=0.0)
    picture_sides: tuple[int, ...] = (1280,)
    frame_side = 640
    is_gray = True

    def __init__(self, file: Path, threshold: float = 0.0, threads: int = 0) -> None:
        self._session = FaceNetSession(file, threads)
        self._threshold = threshold or self._session.threshold
        self.digest = self._session.digest

    def with_threads(self, threads: int) -> MienDetector:
        """Return a detector that runs the same model in ``threads`` threads."""
        twin = copy.copy(self)
        twin._session = self._session.with_threads(threads)
        return twin

    def detect(self, picture: np.ndarray) -> Detections:
        """Detect faces in luminance uint8 (H, W)."""
        return suppress_overlaps(Detections(*self._session.detect(picture, self._threshold)))


def make_detector(
    name: str = "auto", file: str | Path | None = None, threads: int = 0, threshold: float = 0.0
) -> Detector:
    """Create a detector by its name, one of DETECTORS.

    name        "auto" is the detector of ``file``, else YuNet if it was downloaded, else Haar; "none" returns the whole picture
    file        a file of YuNet or of `mien train-detector`, whichever it is
    threads     threads of the network; 0: all cores
    threshold   minimum score of a face, 0..1; 0: the detector's default

    Raises UsageError for an unknown name and for a file that the detector cannot use, ModelError for a missing file.
    """
    if name not in DETECTORS:
        raise UsageError(f"`detector={name}`", "is unknown", f"choose one of {', '.join(DETECTORS)}")
    if file is not None and name in ("haar", "none"):
        raise UsageError("`detector_model`", f"cannot be combined with `detector={name}`", "use `detector=auto`")
    if name == "none":
        return WholePictureDetector()
    if file is not None:
        return _open_detector_file(Path(file), name, threshold, threads)
    pulled = find_pulled_model("yunet")
    if name == "haar" or (name == "auto" and pulled is None):
        return HaarDetector(threshold=threshold)
    if pulled is None:
        raise ModelError(
            "detector 'yunet'",
            "is not on this machine",
            "pull it with 'mien models pull yunet', or give its file as `detector_model`",
        )
    return YuNetDetector(pulled, threshold, threads)


def select_detector_file(name: str, file: Path | None) -> Path | None:
    """Return ``file`` if a detector of this name runs it, else None: for callers whose file need not fit the name."""
    return file if file is not None and name in ("auto", _name_detector_of(file)) else None


def _name_detector_of(file: Path) -> str:
    return "mien" if is_face_net_file(file) else "yunet"


def _open_detector_file(path: Path, name: str, threshold: float, threads: int) -> Detector:
    """Open a file of YuNet or of `mien train-detector`. Raises ModelError for other files, UsageError if it is not ``name``'s."""
    if not path.is_file():
        raise ModelError(path, "does not exist", "check the path, or pull YuNet with 'mien models pull yunet'")
    kind = _name_detector_of(path)
    if name not in ("auto", kind):
        found = f"cannot be combined with {path.name}, which is a file of another detector"
        raise UsageError(f"`detector={name}`", found, "use `detector=auto`")
    return MienDetector(path, threshold, threads) if kind == "mien" else YuNetDetector(path, threshold, threads)


def detect_faces(
    detector: Detector, picture: np.ndarray, *, thorough: bool = True, sides: tuple[int, ...] = ()
) -> Detections:
    """Detect the faces of RGB uint8 (H, W, 3), or gray (H, W) for a detector that ``is_gray``; boxes are in its pixels.

    thorough   True (pictures): the detector runs at all of its ``picture_sides`` that are smaller than the picture.
               False (frames of a video): it runs at its ``frame_side`` only
    sides      lengths of the longest side at which the detector runs instead, in pixels, ascending
    """
    if detector.is_whole_picture:
        return detector.detect(picture)
    if detector.is_gray and picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    sides = sides or (detector.picture_sides if thorough else (detector.frame_side,))
    by_scale = [_detect_at_scale(detector, picture, scale) for scale in _search_scales(picture, sides)]
    boxes = np.concatenate([detections.boxes_xyxy for detections in by_scale])
    scores = np.concatenate([detections.scores for detections in by_scale])
    return suppress_overlaps(_clip_boxes(Detections(boxes, scores), picture))


def _search_scales(picture: np.ndarray, sides: tuple[int, ...]) -> Iterator[float]:
    """Yield the scale factors that give the longest side each length of ``sides``, up to the size of the picture."""
    longest = max(picture.shape[:2])
    if longest < MIN_SIDE_PX:
        yield MIN_SIDE_PX / longest
        return
    for side in sides:
        yield min(1.0, side / longest)
        if side >= longest:
            return


def _detect_at_scale(detector: Detector, picture: np.ndarray, scale: float) -> Detections:
    """Detect faces in the scaled picture; the boxes are in pixels of the unscaled one."""
    if scale == 1:
        return detector.detect(picture)
    height, width = picture.shape[:2]
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    while picture.shape[1] >= 4 * size_wh[0] and picture.shape[0] >= 4 * size_wh[1]:  # halving is much faster
        picture = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    resized = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    detections = detector.detect(resized)
    factors = np.array([width / size_wh[0], height / size_wh[1]] * 2, np.float32)
    return Detections(detections.boxes_xyxy * factors, detections.scores)


def _sort_by_score(boxes: np.ndarray, scores: np.ndarray) -> Detections:
    order = np.argsort(-scores, kind="stable")
    return Detections(boxes[order], scores[order].astype(np.float32))


def _clip_boxes(detections: Detections, picture: np.ndarray) -> Detections:
    """Clip boxes to the picture, and drop those of less than a pixel."""
    height, width = picture.shape[:2]
    boxes = np.clip(detections.boxes_xyxy, 0, np.array([width, height, width, height], np.float32))
    keep = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= 1 if len(boxes) else np.zeros(0, bool)
    return Detections(boxes[keep], detections.scores[keep])


def suppress_overlaps(detections: Detections, overlap: float = 0.4) -> Detections:
    """Suppress boxes that overlap one with a higher score: IoU above ``overlap``, or 70 % of the smaller box inside."""
    detections = _sort_by_score(detections.boxes_xyxy, detections.scores)
    boxes, areas = detections.boxes_xyxy, np.prod(detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2], axis=1)
    chosen: list[int] = []
    for index in range(len(detections)):
        top_left = np.maximum(boxes[index, :2], boxes[chosen, :2])
        bottom_right = np.minimum(boxes[index, 2:], boxes[chosen, 2:])
        shared = np.prod(np.clip(bottom_right - top_left, 0, None), axis=1)
        union = areas[index] + areas[chosen] - shared
        inside = shared / np.minimum(areas[index], areas[chosen])
        if not ((shared / union > overlap) | (inside > 0.7)).any():
            chosen.append(index)
    return Detections(boxes[chosen], detections.scores[chosen])


def keep_largest(detections: Detections, count: int) -> Detections:
    """Keep the ``count`` largest faces in their order; 0 keeps all."""
    if not count or len(detections) <= count:
        return detections
    areas = (detections.boxes_xyxy[:, 2:] - detections.boxes_xyxy[:, :2]).prod(axis=1)
    largest = np.sort(np.argsort(-areas, kind="stable")[:count])
    return Detections(detections.boxes_xyxy[largest], detections.scores[largest])
