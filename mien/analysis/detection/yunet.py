"""Run the face detector YuNet with ONNX Runtime on pictures of any size."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any, cast

import cv2
import numpy as np

from mien.analysis.inference.model_file import SessionPool, open_cpu_session
from mien.analysis.inference.protobuf import encode_field, read_fields

#: Strides of the network's outputs in pixels; a picture is padded to a multiple of the last.
STRIDES = (8, 16, 32)

#: Fields of ONNX's messages (onnx.proto) that are read or written here.
_MODEL_GRAPH, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SHAPES, _VALUE_NAME = 7, 11, 12, 13, 1


class YuNet:
    """YuNet (Wu, Peng & Yu, "YuNet: A Tiny Millisecond-level Face Detector", 2023) from the bytes of OpenCV Zoo's file.

    OpenCV's FaceDetectorYN gives the same boxes and takes about twice as long (benchmarks/speed.py detect).

    content     bytes of the ONNX file
    threshold   minimum score of a face, 0..1
    overlap     maximum IoU of two faces
    threads     threads of ONNX Runtime; 0: all cores

    Raises onnxruntime's errors and ValueError for other bytes.
    """

    def __init__(self, content: bytes, threshold: float = 0.7, overlap: float = 0.3, threads: int = 0) -> None:
        self._model = remove_fixed_sizes(
            content, [f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox")]
        )
        self._sessions = SessionPool(partial(open_cpu_session, self._model))
        self._threads = threads
        self._sessions.get_session(threads)
        self._threshold, self._overlap = threshold, overlap

    def with_threads(self, threads: int) -> YuNet:
        """Return a detector that runs in ``threads`` threads."""
        twin = copy.copy(self)
        twin._threads = threads
        twin._sessions.get_session(threads)
        return twin

    def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Detect faces in RGB uint8 (H, W, 3) → boxes_xyxy float32 (N, 4) in pixels, scores float32 (N,) in 0..1, best first."""
        height, width = picture.shape[:2]
        down, right = -height % STRIDES[-1], -width % STRIDES[-1]
        if down or right:
            picture = cv2.copyMakeBorder(picture, 0, down, 0, right, cv2.BORDER_CONSTANT)
        # float32 (1, 3, H, W), BGR, 0..255. OpenCV's blobFromImage takes several times as long.
        blob = np.ascontiguousarray(picture[None, ..., ::-1].transpose(0, 3, 1, 2), dtype=np.float32)
        session = self._sessions.get_session(self._threads)
        answers = session.run(None, {session.get_inputs()[0].name: blob})
        parts_by_stride = [
            _decode_cells(
                answers[3 * level][0],
                answers[3 * level + 1][0],
                answers[3 * level + 2][0],
                stride,
                blob.shape[3] // stride,
                self._threshold,
            )
            for level, stride in enumerate(STRIDES)
        ]
        boxes, scores = (np.concatenate(parts) for parts in zip(*parts_by_stride, strict=True))
        if not len(scores):
            return boxes, scores
        sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
        chosen = np.asarray(
            cv2.dnn.NMSBoxes(cast(Any, sizes), cast(Any, scores), self._threshold, self._overlap), np.int64
        ).ravel()
        return boxes[chosen], scores[chosen]


def _decode_cells(
    classes: np.ndarray, objects: np.ndarray, offsets: np.ndarray, stride: int, columns: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Decode the outputs of one stride (M, 1), (M, 1), (M, 4), row by row → boxes (N, 4) and scores (N,) above the threshold."""
    scores = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
    sure = np.flatnonzero(scores >= threshold)
    at = np.stack([sure % columns, sure // columns], axis=1)
    centers, sizes = (at + offsets[sure, :2]) * stride, np.exp(offsets[sure, 2:]) * stride
    boxes = np.concatenate([centers - sizes / 2, centers + sizes / 2], axis=1).astype(np.float32)
    sane = np.isfinite(boxes).all(axis=1) & (sizes.min(axis=1, initial=np.inf) > 1)
    return boxes[sane], scores[sure][sane]


def remove_fixed_sizes(model: bytes, outputs: list[str]) -> bytes:
    """Remove the fixed tensor sizes from the ONNX file of a fully convolutional network, so that it takes pictures of any size.

    model     bytes of the file
    outputs   names of the outputs to keep

    ONNX Runtime enforces the sizes that the file states, although the network works without them.
    """
    return b"".join(
        encode_field(_MODEL_GRAPH, _remove_graph_sizes(cast(memoryview, value), outputs))
        if number == _MODEL_GRAPH
        else raw
        for number, raw, value in read_fields(memoryview(model))
    )


def _remove_graph_sizes(graph: memoryview, outputs: list[str]) -> bytes:
    fields: list[bytes | memoryview] = []
    for number, raw, value in read_fields(graph):
        if number not in (_GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SHAPES):
            fields.append(raw)
        elif number == _GRAPH_INPUT:
            sizes = b"".join(
                encode_field(1, size)
                for size in (b"\x08\x01", b"\x08\x03", encode_field(2, b"h"), encode_field(2, b"w"))
            )
            fields.append(
                encode_field(
                    _GRAPH_INPUT,
                    encode_field(_VALUE_NAME, _read_value_name(cast(memoryview, value)))
                    + _encode_tensor_type(encode_field(2, sizes)),
                )
            )
    fields += [
        encode_field(_GRAPH_OUTPUT, encode_field(_VALUE_NAME, name.encode()) + _encode_tensor_type(b""))
        for name in outputs
    ]
    return b"".join(fields)


def _encode_tensor_type(shape: bytes) -> bytes:
    """Encode ValueInfoProto.type: a float tensor (element type 1), with a shape unless that is empty."""
    return encode_field(2, encode_field(1, b"\x08\x01" + shape))


def _read_value_name(value_info: memoryview) -> bytes:
    return next(bytes(value) for number, _, value in read_fields(value_info) if number == _VALUE_NAME)
