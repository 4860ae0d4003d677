from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.analysis.detection.detectors import YuNetDetector
from mien.analysis.detection.yunet import YuNet
from mien.core.errors import ModelError
from mien.core.pictures import read_picture
from tests.conftest import shared, yunet


def of_opencv(picture: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = picture.shape[:2]
    network = cv2.FaceDetectorYN.create(str(yunet()), "", (width, height), threshold, 0.3)
    _, rows = network.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    boxes = rows[:, :4].copy()
    boxes[:, 2:] += boxes[:, :2]
    return boxes, rows[:, 14]


@pytest.mark.parametrize("size_wh", [(640, 640), (640, 427), (333, 251), (1280, 900)])
def test_it_finds_what_opencv_finds(size_wh: tuple[int, int]) -> None:
    picture = cv2.resize(read_picture(shared("photos/two-people.jpg")), size_wh, interpolation=cv2.INTER_AREA)
    for threshold in (0.7, 0.3):
        boxes, scores = YuNet(yunet().read_bytes(), threshold)(picture)
        theirs, their_scores = of_opencv(picture, threshold)
        assert len(boxes) >= 2
        np.testing.assert_allclose(boxes, theirs, atol=1e-2)
        np.testing.assert_allclose(scores, their_scores, atol=1e-5)


def test_nothing_is_found_in_gray_and_in_a_sliver() -> None:
    network = YuNet(yunet().read_bytes(), threads=1)
    for shape in ((240, 320, 3), (1, 500, 3), (500, 1, 3)):
        boxes, scores = network(np.full(shape, 128, np.uint8))
        assert boxes.shape == (0, 4) and scores.shape == (0,)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    content, file = yunet().read_bytes(), tmp_path / "detector.onnx"
    for damaged in (b"", b"\x03", b"hello", content[:1000], content[: len(content) // 2], bytes(len(content))):
        file.write_bytes(damaged)
        with pytest.raises(ModelError, match="is not a YuNet file"):
            YuNetDetector(file)
