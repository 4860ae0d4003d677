from __future__ import annotations

import hashlib
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien import Face, MienError, Recognizer
from mien.core.errors import MediaError, UsageError
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT, patterns, shared, yunet


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


def assert_same(ours: list[Face], theirs: list[Face]) -> None:
    assert len(ours) == len(theirs) == 1
    assert ours[0].box_xyxy == pytest.approx(theirs[0].box_xyxy, abs=1)
    np.testing.assert_allclose(ours[0].probabilities, theirs[0].probabilities, atol=0.02)


def test_paths_arrays_and_pillow_pictures_read_alike(recognizer: Recognizer) -> None:
    expected = recognizer.analyze(ASTRONAUT)
    picture = read_picture(ASTRONAUT)
    for given in (str(ASTRONAUT), picture, picture / 255, picture.astype(np.uint16) * 257, Image.open(ASTRONAUT),
                  np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)]),
                  Image.fromarray(picture).convert("RGBA")):  # fmt: skip
        assert_same(recognizer.analyze(given), expected)


def test_a_gray_array_reads_like_the_color_it_was(recognizer: Recognizer) -> None:
    gray = np.array(Image.open(ASTRONAUT).convert("L"))
    assert_same(recognizer.analyze(gray), recognizer.analyze(ASTRONAUT))


def test_a_face_says_everything(recognizer: Recognizer) -> None:
    (face,) = recognizer.analyze(ASTRONAUT)
    assert face.labels == recognizer.labels
    assert face.label == "happy"
    assert face.confidence == face.probabilities.max()
    assert face.probabilities.sum() == pytest.approx(1, abs=1e-5)
    x1, y1, x2, y2 = face.box_xyxy
    assert 120 < x1 < 200 < 250 < x2 < 330
    assert 20 < y1 < 90 < 140 < y2 < 240


def test_pictures_without_a_face_give_an_empty_list(recognizer: Recognizer) -> None:
    for shape in ((300, 300, 3), (1, 1, 3), (1, 500), (37, 2)):
        assert recognizer.analyze(np.full(shape, 77, np.uint8)) == []


def test_without_a_detector_the_whole_picture_is_the_face() -> None:
    recognizer, images = Recognizer("base", detector="none"), patterns(3).images
    faces = [recognizer.analyze(image)[0] for image in images]
    assert [face.box_xyxy for face in faces] == [(0, 0, 48, 48)] * 3
    assert faces[0].score is None
    np.testing.assert_allclose([face.probabilities for face in faces], recognizer.classify(images), atol=1e-5)
    assert recognizer.analyze(np.zeros((1, 1), np.uint8))[0].box_xyxy == (0, 0, 1, 1)


def test_crops_are_an_array_or_a_list_of_one_size(recognizer: Recognizer) -> None:
    crops = patterns(3).images
    np.testing.assert_array_equal(recognizer.classify(list(crops)), recognizer.classify(crops))
    assert recognizer.classify([]).shape == (0, 7)
    with pytest.raises(ValueError, match=r"crops have one size, not \(24, 24\), \(48, 48\): resize them"):
        recognizer.classify([crops[0], crops[1][::2, ::2]])


@pytest.mark.parametrize("people", ["largest", -1, 1.5])
def test_people_is_a_number(people: object) -> None:
    with pytest.raises(UsageError, match="is no number of faces"):
        Recognizer("base", people=people)


def test_several_pictures_at_once_read_as_one_by_one(recognizer: Recognizer) -> None:
    picture, blank = read_picture(ASTRONAUT), np.zeros((100, 100, 3), np.uint8)
    together = recognizer.analyze_frames([blank, picture, blank, picture[:, ::-1]], thorough=True)
    assert [len(faces) for faces in together] == [0, 1, 0, 1]
    assert_same(together[1], recognizer.analyze(picture))
    assert recognizer.analyze_frames([]) == []


def test_the_smile_reads_happy() -> None:
    recognizer = Recognizer("base", detector="yunet", detector_model=yunet())
    (face,) = recognizer.analyze(shared("photos/portrait-smile.jpg"))
    assert face.label == "happy"
    assert face.confidence > 0.5


def test_what_is_no_picture_is_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a picture has shape"):
        recognizer.analyze(np.zeros((4, 4, 7)))
    with pytest.raises(MienError, match="does not exist"):
        recognizer.analyze(tmp_path / "absent.jpg")


def test_what_cannot_be_meant_is_refused_at_once(recognizer: Recognizer) -> None:
    with pytest.raises(UsageError, match="choose one of none, flip, ten-crop"):
        Recognizer("base", tta="zz")
    for crops in (np.zeros((48, 48, 3), np.uint8), np.zeros((2, 48, 48)), np.zeros(48, np.uint8)):
        with pytest.raises(ValueError, match=r"crops must be uint8 \(N, H, W\) or \(N, H, W, 3\)"):
            recognizer.classify(crops)


def test_its_twin_for_footage_answers_alike_and_keeps_what_was_set() -> None:
    recognizer = Recognizer("base", detector="yunet", detector_model=yunet(), people=1)
    recognizer.detector.frame_side = 320
    twin = recognizer.for_streaming()
    assert (twin.options.people, twin.detector.frame_side, twin.fingerprint()) == (1, 320, recognizer.fingerprint())
    ours, theirs = recognizer.analyze(ASTRONAUT), twin.analyze(ASTRONAUT)
    np.testing.assert_allclose(theirs[0].probabilities, ours[0].probabilities, atol=1e-6)
    np.testing.assert_allclose(theirs[0].box_xyxy, ours[0].box_xyxy, atol=1e-3)
    recognizer.options = replace(recognizer.options, people=2)
    later = recognizer.for_streaming()
    assert (later.options.people, twin.options.people) == (2, 1)
    assert later.classifier._session is twin.classifier._session, "networks are opened once, not for every video"


def test_what_its_answers_depend_on_names_the_detectors_file() -> None:
    file = yunet()
    described = Recognizer("base", detector_model=file).fingerprint()
    assert described["detector_file"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert Recognizer("base", detector="haar").fingerprint()["detector_file"] == ""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("detector", ["haar", "yunet"])
def test_a_recognizer_is_sent_to_other_processes(method: str, detector: str) -> None:
    file = yunet() if detector == "yunet" else None
    recognizer = Recognizer("nano", detector=detector, detector_model=file, threads=1)
    expected = recognizer.analyze(ASTRONAUT)
    with multiprocessing.get_context(method).Pool(1) as pool:
        (found,) = pool.map(recognizer.analyze, [str(ASTRONAUT)])
    assert_same(found, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_recognizer_that_was_used_before_a_fork_is_used_after_it() -> None:
    """The threads of ONNX Runtime stay behind; a child that waits for them never ends."""
    recognizer = Recognizer("nano", detector="none")
    picture = np.zeros((48, 48), np.uint8)
    label = recognizer.analyze(picture)[0].label
    queue = multiprocessing.get_context("fork").SimpleQueue()

    def answer() -> None:
        queue.put(recognizer.analyze(picture)[0].label)

    child = multiprocessing.get_context("fork").Process(target=answer)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert queue.get() == label


def test_a_list_of_pictures_gives_a_list_for_each(recognizer: Recognizer) -> None:
    empty = np.zeros((60, 60), np.uint8)
    found = recognizer.analyze([ASTRONAUT, empty, Image.open(ASTRONAUT)])
    assert [len(faces) for faces in found] == [1, 0, 1]
    assert_same(found[2], recognizer.analyze(ASTRONAUT))
    assert recognizer.analyze(empty.tolist()) == []  # rows of numbers are one picture
    with pytest.raises(ValueError, match="an empty list holds no picture: give a path"):
        recognizer.analyze([])
    with pytest.raises(ValueError, match="give several pictures as a list"):
        recognizer.analyze(np.zeros((2, 8, 8, 3), np.uint8))


def test_a_video_given_to_analyze_says_where_videos_go(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.2)
    with pytest.raises(MediaError, match=r"clip.mp4: is a video, not a picture; use `mien.analyze_video`"):
        recognizer.analyze(tmp_path / "clip.mp4")
