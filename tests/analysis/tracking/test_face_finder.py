"""Faces followed between searches: where they are, when frames are searched, what is lost and found again."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.analysis.detection.detectors import Detections, Detector, HaarDetector, WholePictureDetector
from mien.analysis.media.yuv import YuvImage
from mien.analysis.tracking.face_finder import MAX_MISSED_S, SEARCH_EVERY_S, FaceFinder, follow_boxes, make_gray_copy
from mien.analysis.tracking.tracker import pairwise_iou
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT

FPS = 30


class Known(Detector):
    """A detector that knows where the face is, and can be told to miss it."""

    name, framing, picture_sides, frame_side = "known", None, (640,), 100_000

    def __init__(self) -> None:
        self.boxes: list[tuple[float, ...]] = []
        self.calls = 0

    def detect(self, picture: np.ndarray) -> Detections:
        self.calls += 1
        boxes = np.array(self.boxes, np.float32).reshape(-1, 4)
        return Detections(boxes, np.full(len(boxes), 0.9, np.float32))


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """The astronaut's face, RGB (120, 120, 3)."""
    picture = read_picture(Path(ASTRONAUT))
    x1, y1, x2, y2 = HaarDetector().detect(picture).boxes_xyxy[0].astype(int)
    return cv2.resize(picture[y1:y2, x1:x2], (120, 120), interpolation=cv2.INTER_AREA)


def scene(face: np.ndarray, x: float, y: float, side: float = 120) -> tuple[np.ndarray, tuple[float, ...]]:
    """A frame (480, 640, 3) with the face at a place between pixels, before a still ground; and its box."""
    ground = cv2.resize(np.random.default_rng(1).integers(60, 200, (24, 32, 3), np.uint8), (640, 480))
    matrix = np.array([[side / 120, 0, x], [0, side / 120, y]])
    cv2.warpAffine(face, matrix, (640, 480), dst=ground, borderMode=cv2.BORDER_TRANSPARENT, flags=cv2.INTER_LINEAR)
    return ground, (x, y, x + side, y + side)


def test_boxes_follow_movement_and_size(face: np.ndarray) -> None:
    first, box = scene(face, 200, 150)
    then, moved = scene(face, 208, 146, 126)
    boxes, alive = follow_boxes(make_gray_copy(first), make_gray_copy(then), np.array([box]) / 2)
    assert alive.all()
    np.testing.assert_allclose(boxes[0] * 2, moved, atol=2.0)


def test_nothing_to_follow_is_said(face: np.ndarray) -> None:
    first, box = scene(face, 200, 150)
    other = np.random.default_rng(2).integers(0, 256, first.shape, np.uint8)
    _, alive = follow_boxes(make_gray_copy(first), make_gray_copy(other), np.array([box]) / 2)
    assert not alive.any()
    boxes, alive = follow_boxes(make_gray_copy(first), make_gray_copy(first), np.empty((0, 4)))
    assert boxes.shape == (0, 4) and alive.shape == (0,)


@pytest.mark.parametrize("size_wh", [(1280, 1280), (1600, 1200), (512, 510)])
def test_frames_as_videos_hold_them_show_the_same_faces(size_wh: tuple[int, int]) -> None:
    """Large ones are searched in a small copy, whose boxes are scaled back."""
    picture = cv2.resize(read_picture(ASTRONAUT), size_wh, interpolation=cv2.INTER_CUBIC)
    of_rgb, of_planes = (
        FaceFinder(HaarDetector()).find_faces(image, 0.0) for image in (picture, YuvImage.from_rgb(picture))
    )
    assert pairwise_iou(of_rgb.boxes_xyxy[:1], of_planes.boxes_xyxy[:1])[0, 0] > 0.85  # the surest of each


def test_a_still_face_is_searched_five_times_a_second_and_never_further_off(face: np.ndarray) -> None:
    detector = Known()
    finder = FaceFinder(detector)
    for index in range(60):
        picture, box = scene(face, 100 + 3 * index, 150)
        detector.boxes = [box]
        found = finder.find_faces(picture, index / FPS)
        assert pairwise_iou(found.boxes_xyxy, np.array([box]))[0, 0] > 0.9
        assert found.scores.tolist() == [pytest.approx(0.9)]
    assert finder.search_count == detector.calls == round(2 / SEARCH_EVERY_S)


def test_a_face_that_moves_far_is_searched_more_often(face: np.ndarray) -> None:
    detector = Known()
    finder = FaceFinder(detector)
    for index in range(20):
        picture, box = scene(face, 20 + 22 * index, 150)  # half its side in three frames
        detector.boxes = [box]
        finder.find_faces(picture, index / FPS)
    assert finder.search_count >= 6


def test_a_new_face_is_found_within_the_stated_time(face: np.ndarray) -> None:
    detector, missing = Known(), 0
    finder = FaceFinder(detector)
    for index in range(40):
        picture, box = scene(face, 300, 200)
        if index < 10:
            picture[:] = 90
        detector.boxes = [box] if index >= 10 else []
        found = finder.find_faces(picture, index / FPS)
        missing += index >= 10 and not len(found)
    assert missing / FPS <= SEARCH_EVERY_S


def test_what_the_detector_misses_is_kept_for_a_moment_only(face: np.ndarray) -> None:
    detector = Known()
    finder, kept = FaceFinder(detector), []
    picture, box = scene(face, 300, 200)
    for index in range(30):
        detector.boxes = [box] if index < 6 or index > 20 else []
        kept.append(len(finder.find_faces(picture, index / FPS)))
    gone = kept.index(0)
    assert kept[:6] == [1] * 6 and 6 / FPS + MAX_MISSED_S >= gone / FPS > 6 / FPS + MAX_MISSED_S / 2
    assert kept[-1] == 1


def test_a_cut_is_searched_at_once(face: np.ndarray) -> None:
    detector = Known()
    finder = FaceFinder(detector)
    for index in range(4):
        picture, box = scene(face, 300, 200)
        detector.boxes = [box]
        finder.find_faces(picture, index / FPS)
    calls, detector.boxes = detector.calls, []
    assert len(finder.find_faces(np.full_like(picture, 250), 4 / FPS)) == 0
    assert finder.was_cut and detector.calls == calls + 1


def test_the_largest_and_no_detector(face: np.ndarray) -> None:
    detector = Known()
    finder = FaceFinder(detector, people=1)
    picture, box = scene(face, 300, 200)
    detector.boxes = [(10, 10, 60, 60), box]
    for index in range(10):
        assert finder.find_faces(picture, index / FPS).boxes_xyxy.round().tolist() == [list(box)]
    whole = FaceFinder(WholePictureDetector())
    for number, shown in enumerate((picture, 255 - picture)):  # the same person, whatever is shown
        assert whole.find_faces(shown, 0.04 * number).boxes_xyxy.tolist() == [[0, 0, 640, 480]] and not whole.was_cut


def test_a_saved_state_goes_on_alike(face: np.ndarray) -> None:
    detector = Known()
    whole, found = FaceFinder(detector), []
    half = whole
    for index in range(30):
        picture, box = scene(face, 100 + 4 * index, 150)
        detector.boxes = [box]
        found.append(whole.find_faces(picture, index / FPS).boxes_xyxy)
        if index == 13:
            half = pickle.loads(pickle.dumps(whole))
            half.detector = detector
        if index > 13:
            np.testing.assert_array_equal(half.find_faces(picture, index / FPS).boxes_xyxy, found[-1])
