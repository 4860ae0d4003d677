"""Frames as videos hold them, against FFmpeg's own conversion and against the same done in RGB."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from mien.analysis.detection.framing import crop_faces
from mien.analysis.media.yuv import BT709, Area, ColorSpec, YuvImage
from mien.analysis.output.annotate import annotate, annotate_frame
from mien.analysis.output.style import Style
from mien.analysis.tracking.face_finder import FLOW_SIDE_PX, make_gray_copy
from mien.core.labels import FER2013
from mien.core.types import Face


def decoded(matrix: int = 2, size_wh: tuple[int, int] = (640, 360), form: str = "yuv420p") -> av.VideoFrame:
    """A frame of soft colors, as a decoder gives it."""
    rng = np.random.default_rng(3)
    small = rng.integers(30, 220, (5, 8, 3), np.uint8)
    picture = cv2.resize(small, size_wh, interpolation=cv2.INTER_CUBIC)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=form, dst_colorspace=matrix)
    frame.colorspace, frame.color_range = matrix, 1
    return frame


def face(box: tuple[float, float, float, float], track: int) -> Face:
    probabilities = np.full(7, 0.1, np.float32)
    probabilities[3] = 0.4
    return Face(box, 0.9, probabilities, FER2013, track=track)


@pytest.mark.parametrize("matrix", [1, 2, 5, 6])
def test_rgb_is_what_ffmpeg_makes_of_it(matrix: int) -> None:
    """Also of a width whose rows are padded in memory, and of frames that are made here."""
    frame = decoded(matrix, (642, 360))
    planes, name = YuvImage.from_frame(frame), "ITU709" if matrix == 1 else "ITU601"
    assert planes.luma.strides[0] > 642
    expected = frame.reformat(format="rgb24", src_colorspace=name, dst_colorspace=name).to_ndarray().astype(int)
    assert planes.shape == expected.shape == planes.to_rgb().shape
    for rgb in (planes.to_rgb(), planes.copy().to_rgb()):
        assert np.abs(rgb.astype(int) - expected).max() <= 1
    assert np.abs(planes.area_to_rgb(Area(0, 0, 642, 360)).astype(int) - expected).max() <= 4
    inside = planes.area_to_rgb(Area(100, 50, 300, 220)).astype(int)
    assert np.abs(inside - expected[50:220, 100:300]).max() <= 4
    again = YuvImage.from_rgb(planes.to_rgb(), planes.color_spec).to_rgb()
    assert np.abs(again.astype(int) - expected).mean() < 2


@pytest.mark.parametrize(
    ("least", "size_wh"), [(640, (640, 360)), (321, (640, 360)), (320, (320, 180)), (100, (160, 90))]
)
def test_a_small_copy_is_the_whole_one_shrunk(least: int, size_wh: tuple[int, int]) -> None:
    planes = YuvImage.from_frame(decoded(1))
    small, whole = planes.to_small_rgb(least), planes.to_rgb()
    assert small.shape == (size_wh[1], size_wh[0], 3) and small.dtype == np.uint8
    expected = cv2.resize(whole, size_wh, interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(small.astype(int) - expected).max() <= 4


def test_a_frame_too_thin_to_be_halved_stays_a_pixel_wide() -> None:
    assert YuvImage.from_rgb(np.zeros((2, 2560, 3), np.uint8)).to_small_rgb(320).shape == (1, 320, 3)


def test_colors_are_written_as_bt709_says() -> None:
    """White, black, red, green and blue, with the values that ITU-R BT.709 gives them in eight bits."""
    colors = {(255, 255, 255): (235, 128, 128), (0, 0, 0): (16, 128, 128), (255, 0, 0): (63, 102, 240),
               (0, 255, 0): (173, 42, 26), (0, 0, 255): (32, 240, 118)}  # fmt: skip
    for rgb, expected in colors.items():
        planes = YuvImage.from_rgb(np.full((4, 6, 3), rgb, np.uint8))
        assert planes.color_spec == BT709 and planes.luma.shape == (4, 6)
        for plane, value in zip((planes.luma, *planes.chroma), expected, strict=True):
            assert np.abs(plane.astype(int) - value).max() <= 1


def test_what_is_put_back_is_what_was_there() -> None:
    planes, area = YuvImage.from_frame(decoded()), Area(40, 20, 240, 120)
    copy = planes.copy()
    copy.write_rgb(planes.area_to_rgb(area), area)
    for before, after in zip((planes.luma, *planes.chroma), (copy.luma, *copy.chroma), strict=True):
        assert np.abs(before.astype(int) - after).max() <= 1
    copy.write_rgb(np.zeros((100, 200, 3), np.uint8), area)
    assert (copy.luma[20:120, 40:240] == 16).all() and (copy.chroma[0][10:60, 20:120] == 128).all()
    assert (planes.luma[20:120, 40:240] > 20).all(), "a copy has buffers of its own"
    with pytest.raises(ValueError, match="read-only"):
        planes.write_rgb(np.zeros((100, 200, 3), np.uint8), area)


@pytest.mark.parametrize("size", [12, 48, 300])
def test_crops_are_those_of_the_rgb_picture(size: int) -> None:
    planes = YuvImage.from_frame(decoded())
    boxes = np.array([[100, 50, 301, 251], [-40, -30, 90, 100], [560, 300, 700, 420], [11, 13, 31, 33]], np.float32)
    crops, expected = (crop_faces(picture, boxes, None, size) for picture in (planes, planes.to_rgb()))
    assert crops.shape == expected.shape and crops.dtype == np.uint8
    assert np.abs(crops.astype(int) - expected).mean() < 2


def test_the_gray_copy_is_that_of_the_rgb_picture() -> None:
    planes = YuvImage.from_frame(decoded(size_wh=(1280, 720)))
    gray, expected = make_gray_copy(planes), make_gray_copy(planes.to_rgb())
    assert gray.shape == expected.shape == (180, 320) and max(gray.shape) <= FLOW_SIDE_PX
    assert np.abs(gray.astype(int) - expected).max() <= 3


def test_other_kinds_of_frames_are_left_to_ffmpeg() -> None:
    full = decoded()
    full.color_range = 2
    for other in (full, decoded(form="yuv444p"), decoded(form="yuv420p10le"), decoded(9), decoded(size_wh=(641, 360))):
        assert YuvImage.from_frame(other) is None
    assert YuvImage.from_frame(decoded()).color_spec == ColorSpec(2, 2, 2)


@pytest.mark.parametrize("blur", ["off", "blur", "box"])
@pytest.mark.parametrize("matrix", [1, 2])
def test_drawing_on_planes_is_drawing_on_the_picture(matrix: int, blur: str) -> None:
    """Faces that touch each other and the border; with bars, whose panel lets the picture through."""
    planes = YuvImage.from_frame(decoded(matrix))
    before = planes.to_rgb()
    faces = [face((50, 60, 171, 181), 0), face((150, 70, 290, 200), 1), face((590, 300, 655, 371), 2)]
    style = Style(bars=True, blur=blur)
    drawn, expected = annotate_frame(planes, faces, style), annotate(before.copy(), faces, style)
    np.testing.assert_array_equal(planes.to_rgb(), before)
    assert isinstance(drawn, YuvImage) and drawn.color_spec == planes.color_spec
    apart = np.abs(drawn.to_rgb().astype(int) - YuvImage.from_rgb(expected, planes.color_spec).to_rgb()).max(axis=2)
    assert (np.abs(expected.astype(int) - before).max(axis=2) > 30).mean() > 0.03, "much was drawn"
    assert apart.max() <= 8
    np.testing.assert_array_equal(annotate_frame(planes, [], style).to_rgb(), before)


def test_a_scaled_frame_is_drawn_on_after_scaling() -> None:
    drawn = annotate_frame(YuvImage.from_frame(decoded()), [face((50, 60, 171, 181), 0)], Style(display_width=320))
    assert isinstance(drawn, np.ndarray) and drawn.shape == (180, 320, 3)


@pytest.mark.parametrize("line_width", [0, 9])
def test_boxes_beyond_the_picture_and_tiny_frames_are_no_trouble(line_width: int) -> None:
    style, before = Style(line_width=line_width), YuvImage.from_frame(decoded()).to_rgb()
    for box in ((-300, 10, -200, 90), (700, 10, 800, 90), (10, -90, 90, -40), (10, 400, 90, 500), (-50, -50, 700, 400)):
        drawn = annotate_frame(YuvImage.from_frame(decoded()), [face(box, 0)], style)
        expected = YuvImage.from_rgb(annotate(before.copy(), [face(box, 0)], style), drawn.color_spec)
        assert np.abs(drawn.to_rgb().astype(int) - expected.to_rgb()).max() <= 8
    tiny = annotate_frame(YuvImage.from_frame(decoded(size_wh=(2, 2))), [face((0, 0, 2, 2), 0)], style)
    assert tiny.shape == (2, 2, 3)
