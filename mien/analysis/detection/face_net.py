"""mien's own face detector: a small fully convolutional network on the luminance of a picture, at several scales in one pass."""

from __future__ import annotations

import copy
import hashlib
import json
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from mien.analysis.inference.model_check import check_model
from mien.analysis.inference.model_file import METADATA_KEY, SessionPool, open_cpu_session
from mien.core.errors import ModelError

#: What the metadata of such a file state as its kind, and the newest version that is read here.
KIND, VERSION = "face detector", 1

#: Pixels between two answers of the network.
STRIDE_PX = 8

#: Sides of the faces in pixels that the network answers to. Larger faces are found in halved copies of the picture, so the
#: largest side has to be more than twice the smallest.
MIN_FACE_PX, MAX_FACE_PX = 13.0, 34.0

#: The side of a face is decoded relative to this one.
REFERENCE_FACE_PX = 21.0

#: At most so many cells of a canvas, those with the highest scores, are decoded: four or five of them see the same face.
MAX_CANDIDATES = 1000

#: Gray between the copies of a picture in the canvas, in pixels, and its value: the middle of the range, 0 for the network.
_GAP_PX, _GAP_VALUE = 16, 128


def draw_canvas(luminance: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Lay a picture and its halved copies beside each other, so that one pass of the network finds faces of all sizes.

    luminance   uint8 (H, W)

    Returns the canvas, uint8 (H', W') with sides that are multiples of STRIDE_PX, and of each copy (left, top, factor): a
    pixel of the copy is ``factor`` pixels of the picture. The copies end where a face that fills the picture is small enough.
    """
    copies = [luminance]
    while max(copies[-1].shape) > MAX_FACE_PX and min(copies[-1].shape) >= 2 * STRIDE_PX:
        height, width = copies[-1].shape
        copies.append(cv2.resize(copies[-1], (max(1, width // 2), max(1, height // 2)), interpolation=cv2.INTER_AREA))
    height, width = luminance.shape
    is_wide = (
        width >= height
    )  # the copies go below each other beside a tall picture, beside each other below a wide one
    places, along = [(0, 0)], 0
    across = _round_up((height if is_wide else width) + _GAP_PX)
    for small in copies[1:]:
        places.append((along, across) if is_wide else (across, along))
        along = _round_up(along + small.shape[1 if is_wide else 0] + _GAP_PX)
    right = max(left + small.shape[1] for (left, _), small in zip(places, copies, strict=True))
    bottom = max(top + small.shape[0] for (_, top), small in zip(places, copies, strict=True))
    canvas = np.full((_round_up(bottom), _round_up(right)), _GAP_VALUE, np.uint8)
    for (left, top), small in zip(places, copies, strict=True):
        canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas, [(left, top, 2**level) for level, (left, top) in enumerate(places)]


def _round_up(pixels: int) -> int:
    return -(-pixels // STRIDE_PX) * STRIDE_PX


def decode_answers(answers: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Decode the network's answers → squares float32 (N, 3), center x, center y and side in pixels, and scores (N,) in 0..1.

    answers     float32 (4, H / STRIDE_PX, W / STRIDE_PX): logit of a face, offset of its center from the cell's center in
                cells, right and down, and the logarithm of its side over REFERENCE_FACE_PX
    threshold   minimum score
    """
    scores = 1 / (1 + np.exp(-np.clip(answers[0], -30, 30)))
    if np.count_nonzero(scores >= threshold) > MAX_CANDIDATES:  # an untrained network, or a picture of many faces
        threshold = np.partition(scores, -MAX_CANDIDATES, axis=None)[-MAX_CANDIDATES]
    rows, columns = np.nonzero(scores >= threshold)
    _, right, down, size = answers[:, rows, columns]
    side = REFERENCE_FACE_PX * np.exp(np.clip(size, -2, 2))
    squares = np.stack([(columns + 0.5 + right) * STRIDE_PX, (rows + 0.5 + down) * STRIDE_PX, side], axis=1)
    return squares.astype(np.float32), scores[rows, columns].astype(np.float32)


def restore_boxes(
    squares: np.ndarray, scores: np.ndarray, copies: list[tuple[int, int, int]], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Map squares on a canvas back to the picture → boxes_xyxy float32 (N, 4) in its pixels, and scores (N,).

    squares   float32 (N, 3) of ``decode_answers``
    copies    of ``draw_canvas``
    shape     height and width of the picture

    Squares whose center lies in no copy are dropped.
    """
    boxes, kept = [np.empty((0, 4), np.float32)], [np.empty(0, np.float32)]
    for left, top, factor in copies:
        height, width = max(1, shape[0] // factor), max(1, shape[1] // factor)
        x, y, half = squares[:, 0] - left, squares[:, 1] - top, squares[:, 2] / 2
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        corners = np.stack([x - half, y - half, x + half, y + half], axis=1)[inside]
        # Halving drops the last row or column of an odd size, so the factor is not exactly 2 for each copy.
        boxes.append((corners * np.array([shape[1] / width, shape[0] / height] * 2)).astype(np.float32))
        kept.append(scores[inside])
    return np.concatenate(boxes), np.concatenate(kept)


def is_face_net_file(path: Path) -> bool:
    """Return whether an ONNX file states that it is a detector of mien; it is not opened for that."""
    return KIND.encode() in path.read_bytes()


class FaceNetSession:
    """The network in ONNX Runtime.

    file      an ONNX file of `mien train-detector`
    threads   threads of ONNX Runtime; 0: all cores

    Raises ModelError for another or a damaged file.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        try:
            content = file.read_bytes()
            check_model(content)
            self._sessions = SessionPool(partial(open_cpu_session, content))
            metadata = self._sessions.get_session(threads).get_modelmeta().custom_metadata_map
            values = json.loads(metadata[METADATA_KEY])
            if values["kind"] != KIND or values["version"] > VERSION:
                raise ValueError(f"{values['kind']} of version {values['version']}")
            self.threshold = float(values["threshold"])
        except Exception as error:  # ONNX Runtime raises a dozen kinds
            found = "is not a face detector of mien that ONNX Runtime can run"
            raise ModelError(file, found, "train it again with 'mien train-detector', or update mien") from error
        self.digest = hashlib.sha256(content).hexdigest()
        self._threads = threads

    def with_threads(self, threads: int) -> FaceNetSession:
        """Return a twin that runs in ``threads`` threads."""
        twin = copy.copy(self)
        twin._threads = threads
        return twin

    def detect(self, luminance: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes of uint8 (H, W), float32 (N, 4), and their scores; boxes of one face overlap."""
        canvas, copies = draw_canvas(luminance)
        return restore_boxes(*decode_answers(self.compute_answers(canvas)[0], threshold), copies, luminance.shape)

    def compute_answers(self, canvas: np.ndarray) -> np.ndarray:
        """Return the network's answers for a canvas of `draw_canvas`: float32 (1, 4, H / STRIDE_PX, W / STRIDE_PX)."""
        answers: np.ndarray = self._sessions.get_session(self._threads).run(None, {"luminance": canvas[None, None]})[0]
        return answers
