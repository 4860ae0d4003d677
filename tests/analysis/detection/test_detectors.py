from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.analysis.detection.detectors import (
    Detections,
    Detector,
    HaarDetector,
    detect_faces,
    make_detector,
    suppress_overlaps,
)
from mien.analysis.detection.framing import Framing, crop_faces
from mien.core.errors import ModelError, UsageError
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT, shared, yunet

#: The astronaut's face, by eye: eyes, nose and mouth lie inside.
FACE = np.array([175, 65, 275, 185])


class Spy(Detector):
    """A detector that finds one box, and remembers the sizes it was shown."""

    name, framing, picture_sides, frame_side = "spy", Framing(1.0, 0.0, 0.0), (640, 1280, 2560), 400

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def detect(self, picture: np.ndarray) -> Detections:
        height, width = picture.shape[:2]
        self.sizes.append((width, height))
        box = np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]], np.float32)
        return Detections(box, np.array([0.9], np.float32))


def contains(outer: np.ndarray, inner: np.ndarray) -> bool:
    return bool((outer[:2] <= inner[:2]).all() and (outer[2:] >= inner[2:]).all())


@pytest.mark.parametrize("name", ["haar", "yunet"])
@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.5, 4.0])
def test_the_astronaut_is_found_alone_at_every_size(name: str, factor: float) -> None:
    detector = make_detector(name, yunet() if name == "yunet" else None)
    picture = cv2.resize(read_picture(ASTRONAUT), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    found = detect_faces(detector, picture)
    assert len(found) == 1
    core = FACE * factor + np.array([20, 30, -20, -30]) * factor  # between the eyes and the mouth
    assert contains(found.boxes_xyxy[0], core)
    assert 0 < found.scores[0] <= 1


@pytest.mark.parametrize(("name", "count"), [("portrait-smile", 1), ("portrait-calm", 1), ("two-people", 2)])
def test_yunet_finds_every_face_of_the_photographs_and_no_other(name: str, count: int) -> None:
    found = detect_faces(make_detector("yunet", yunet()), read_picture(shared(f"photos/{name}.jpg")))
    assert len(found) == count


def test_small_faces_of_a_large_picture_are_found() -> None:
    picture = np.full((3000, 4000, 3), 120, np.uint8)
    picture[2000:2128, 3000:3128] = cv2.resize(read_picture(ASTRONAUT), (128, 128), interpolation=cv2.INTER_AREA)
    found = detect_faces(make_detector("yunet", yunet()), picture)
    assert len(found) == 1  # about 25 of 4,000 pixels: at 640 pixels across it would be 4
    assert contains(np.array([3000, 2000, 3128, 2128]), found.boxes_xyxy[0])


@pytest.mark.parametrize(
    ("size_wh", "thorough", "seen"),
    [
        ((640, 480), True, [(640, 480)]),
        ((1000, 500), True, [(640, 320), (1000, 500)]),
        ((4000, 2000), True, [(640, 320), (1280, 640), (2560, 1280)]),
        ((4000, 2000), False, [(400, 200)]),
        ((320, 240), False, [(320, 240)]),
        ((20000, 100), True, [(640, 3), (1280, 6), (2560, 13)]),
        ((48, 48), True, [(240, 240)]),
        ((1, 1), True, [(240, 240)]),
    ],
)
def test_pictures_are_searched_at_sizes_that_suit_the_detector(size_wh, thorough: bool, seen: list) -> None:
    spy = Spy()
    found = detect_faces(spy, np.zeros((size_wh[1], size_wh[0], 3), np.uint8), thorough=thorough)
    assert spy.sizes == seen
    if min(size_wh) > 50:  # the box found at every size is one face, in pixels of the picture
        expected = np.array([0.25, 0.25, 0.75, 0.75]) * [*size_wh, *size_wh]
        np.testing.assert_allclose(found.boxes_xyxy, [expected], rtol=0.01)


def test_one_detector_serves_several_threads() -> None:
    detector, picture = HaarDetector(), read_picture(ASTRONAUT)[::2, ::2].copy()
    pictures = [picture, picture[:, ::-1].copy(), picture[20:150, 50:200].copy()]
    alone = [detector.detect(one).boxes_xyxy.tolist() for one in pictures]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda one: detector.detect(one).boxes_xyxy.tolist(), pictures * 8))
    assert all(alone) and together == alone * 8


def test_overlapping_and_nested_boxes_become_one() -> None:
    boxes = np.array([[0, 0, 100, 100], [10, 10, 110, 110], [30, 30, 60, 60], [200, 0, 300, 100]], np.float32)
    kept = suppress_overlaps(Detections(boxes, np.array([0.8, 0.9, 0.7, 0.6], np.float32)))
    assert kept.boxes_xyxy.tolist() == [[10, 10, 110, 110], [200, 0, 300, 100]]
    assert len(suppress_overlaps(Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32)))) == 0


def test_noise_and_flat_pictures_hold_no_face() -> None:
    rng = np.random.default_rng(0)
    for picture in (np.full((300, 400, 3), 90, np.uint8), rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)):
        assert len(detect_faces(HaarDetector(), picture)) == 0
        assert len(detect_faces(make_detector("yunet", yunet()), picture)) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (7, 5), (20, 2000), (48, 48)])
def test_tiny_and_thin_pictures_are_searched_without_harm(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    for detector in (HaarDetector(), make_detector("yunet", yunet())):
        assert len(detect_faces(detector, picture)) == 0


def test_a_framing_moves_and_scales_the_square() -> None:
    x, y, side = Framing(side=1.5, right=0.1, down=-0.2).face_square(np.array([10, 20, 50, 120]))
    assert (x, y, side) == pytest.approx((30 + 4, 70 - 20, 1.5 * np.sqrt(40 * 100)))


def test_crops_are_cut_where_the_framing_says() -> None:
    picture = np.zeros((100, 200), np.uint8)
    picture[40:60, 100:120] = 255
    crop = crop_faces(picture, np.array([[100, 40, 120, 60]]), Framing(2.0, 0.0, 0.0), 40)[0]
    assert (crop[10:30, 10:30] == 255).all()
    assert crop.sum() == 255 * 400


def test_beyond_the_border_the_edge_goes_on() -> None:
    picture = np.full((50, 50, 3), (1, 2, 3), np.uint8)
    crops = crop_faces(picture, np.array([[-30, -30, 10, 10], [45, 45, 90, 90]], float), Framing(1.5, 0.0, 0.0), 48)
    assert crops.shape == (2, 48, 48, 3)
    assert (crops == np.array([1, 2, 3])).all()


def test_without_a_framing_the_box_is_the_crop() -> None:
    picture = np.arange(48 * 48, dtype=np.uint16).reshape(48, 48).astype(np.uint8)
    np.testing.assert_array_equal(crop_faces(picture, np.array([[0, 0, 48, 48]]), None, 48)[0], picture)
    assert crop_faces(picture, np.empty((0, 4)), None, 48).shape == (0, 48, 48)


def test_detectors_that_are_not_there_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path))
    assert make_detector("auto").name == "haar"
    assert make_detector("none").name == "none"
    with pytest.raises(ModelError, match=r"not on this machine; pull it with 'mien models pull yunet'"):
        make_detector("yunet")
    with pytest.raises(UsageError, match="choose one of auto, haar, yunet, none"):
        make_detector("mtcnn")
    with pytest.raises(UsageError, match="cannot be combined with `detector=haar`"):
        make_detector("haar", yunet())
    with pytest.raises(ModelError, match="does not exist"):
        make_detector("auto", tmp_path / "absent.onnx")
    (tmp_path / "bad.onnx").write_text("no model")
    with pytest.raises(ModelError, match="is not a YuNet file"):
        make_detector("yunet", tmp_path / "bad.onnx")
    (tmp_path / yunet().name).write_bytes(yunet().read_bytes())
    assert make_detector("auto").name == "yunet"
