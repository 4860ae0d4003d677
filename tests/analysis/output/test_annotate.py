"""Faces drawn onto pictures: nothing covers anything, everything lies in the frame and is readable."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from mien import Recognizer
from mien.analysis.output.annotate import FaceMarks, annotate, display_size, draw_faces, place_marks
from mien.analysis.output.label_layout import intersection_areas
from mien.analysis.output.style import Style
from mien.core.errors import UsageError
from mien.core.labels import FER2013
from mien.core.pictures import read_picture
from mien.core.types import Face
from tests.conftest import ASTRONAUT


def face(box: tuple, label: int = 3, track: int | None = None, sure: float = 0.8) -> Face:
    probabilities = np.full(7, (1 - sure) / 6, np.float32)
    probabilities[label] = sure
    smoothed = {} if track is None else {"track": track, "smoothed": probabilities, "smoothed_label": FER2013[label]}
    return Face(tuple(float(value) for value in box), 0.9, probabilities, FER2013, **smoothed)


def test_an_expression_may_have_a_color_of_its_own_and_what_is_no_face_is_gray() -> None:
    happy, sad, cup = face((20, 20, 60, 60)), face((90, 20, 130, 60), label=4), face((160, 20, 200, 60))
    cup = replace(cup, is_not_a_face=True, not_a_face=0.9)
    picture = np.zeros((100, 240, 3), np.uint8)
    draw_faces(picture, [happy, sad, cup], Style((0, 255, 0), label_colors=(("happy", (230, 184, 0)),)))
    assert [tuple(picture[50, x]) for x in (20, 90, 160)] == [(230, 184, 0), (0, 255, 0), (150, 150, 150)]


def random_faces(rng: np.random.Generator, size_wh: tuple[int, int], count: int) -> list[Face]:
    """Boxes of any size, also such as stand out of the frame or cover each other."""
    width, height = size_wh
    side = rng.uniform(0.02, 0.5, count) * min(size_wh) + 2
    x, y = rng.uniform(-0.1, 1, (2, count)) * [[width], [height]]
    boxes = np.stack([x, y, x + side, y + side * rng.uniform(1, 1.4, count)], axis=1)
    numbers = rng.permutation(count)
    return [face(box, int(rng.integers(7)), int(n) if n % 4 else None) for box, n in zip(boxes, numbers, strict=True)]


def rectangles(marks: list[FaceMarks]) -> np.ndarray:
    """(N, 4): where all labels and bars lie."""
    found = [((x, y), label.shape) for (x, y), label in (one.label for one in marks if one.label)]
    found += [((x, y), panel.picture.shape) for (x, y), panel in (one.bars for one in marks if one.bars)]
    return np.array([(x, y, x + w, y + h) for (x, y), (h, w, _) in found]).reshape(-1, 4)


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("size_wh", [(1280, 720), (641, 479), (240, 320), (101, 60), (33, 31), (2, 300)])
def test_no_two_labels_or_bars_have_a_pixel_in_common(size_wh: tuple[int, int], bars: bool) -> None:
    rng = np.random.default_rng(sum(size_wh))
    for count in (1, 2, 2, 3, 5, 8, 40):
        faces = random_faces(rng, size_wh, count)
        found = rectangles(place_marks(size_wh, faces, Style(bars=bars, text_size=int(rng.choice([0, 0, 14, 30])))))
        assert (found[:, :2] >= 0).all() and (found[:, 2:] <= size_wh).all()
        for a, b in combinations(found, 2):
            assert intersection_areas(a[None], b[None]).item() == 0


def test_bars_cover_no_face() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        faces = random_faces(rng, (640, 360), 4)
        boxes = np.array([face.box_xyxy for face in faces]).round()
        bars = [mark.bars for mark in place_marks((640, 360), faces, Style(bars=True)) if mark.bars]
        for (x, y), panel in bars:
            place = np.array([[x, y, x + panel.picture.shape[1], y + panel.picture.shape[0]]])
            assert intersection_areas(place, boxes).max() == 0


def test_two_people_side_by_side_keep_their_whole_labels_and_their_bars() -> None:
    faces = [face((270, 170, 380, 300), track=0), face((390, 180, 500, 310), label=5, track=1)]
    one, other = place_marks((1280, 720), faces, Style(bars=True))
    widths = [mark.label[1].shape[1] for mark in (one, other)]
    alone = [place_marks((1280, 720), [each])[0].label[1].shape[1] for each in faces]
    assert widths == alone
    assert one.bars and other.bars


def test_a_label_stands_above_its_box_or_below_it_where_above_is_no_room() -> None:
    style = Style(text_size=14, line_width=2)
    for box, where in (((100, 60, 200, 150), "above"), ((250, 5, 299, 120), "below"), ((5, 2, 290, 198), "inside")):
        ((x, y), label), _ = place_marks((300, 200), [face(box)], style)[0]
        low, high = y, y + label.shape[0]
        assert {"above": high <= box[1], "below": low >= box[3], "inside": box[1] < low and high < box[3]}[where]
        assert 0 <= x and x + label.shape[1] <= 300


def test_text_shrinks_into_narrow_pictures_and_is_left_out_of_tiny_ones() -> None:
    wide, narrow, tiny = (
        place_marks((side, side), [face((2, 2, side - 2, side - 2))], Style(text_size=20))[0].label
        for side in (400, 60, 12)
    )
    assert wide[1].shape[1] > 100 and narrow[1].shape[1] <= 60 and tiny is None


def test_in_a_crowd_a_label_is_shorter_rather_than_absent() -> None:
    """Many people at one place: some labels tell the person alone, in the size of all others."""
    faces = [face((100 + index, 100, 130 + index, 140), track=index) for index in range(30)]
    marks = place_marks((400, 300), faces)
    heights = {mark.label[1].shape[0] for mark in marks if mark.label}
    widths = [mark.label[1].shape[1] for mark in marks if mark.label]
    assert len(heights) == 1 and min(widths) < max(widths) / 2


@pytest.mark.parametrize(
    "box", [(0, 0, 30, 30), (-20, -20, 500, 500), (280, 170, 300, 200), (100, 60, 200, 150), (150, 190, 151, 191)]
)
@pytest.mark.parametrize("shape", [(200, 300), (20, 24), (1, 1)])
def test_pictures_of_any_size_can_be_drawn_on(box: tuple, shape: tuple) -> None:
    picture = np.full((*shape, 3), 90, np.uint8)
    draw_faces(picture, [face(box)], Style(color=(255, 0, 0), line_width=2, bars=True))
    in_sight = box[0] < shape[1] and box[1] < shape[0]
    assert ((255, 0, 0) in {tuple(color) for color in picture.reshape(-1, 3).tolist()}) == in_sight


@pytest.mark.parametrize("background", [0, 90, 255])
@pytest.mark.parametrize("color", [(0, 255, 0), (0, 0, 0), (255, 255, 255), (90, 90, 90), (0, 0, 120)])
def test_boxes_text_and_bars_stand_out_on_every_background(background: int, color: tuple[int, int, int]) -> None:
    """Brightness changes by more than a third of its range along the box's line, in the label and in the bars."""
    picture = np.full((400, 600, 3), background, np.uint8)
    one = face((250, 150, 350, 280), sure=0.7)
    ((mark, bars),) = place_marks((600, 400), [one], Style(color=color, bars=True))
    draw_faces(picture, [one], Style(color=color, bars=True))
    gray = picture @ np.array([0.299, 0.587, 0.114])
    (x, y), label = mark
    (left, top), panel = bars
    across = gray[200, 230:270]  # over the left line of the box
    inside = gray[y : y + label.shape[0], x : x + label.shape[1]]
    happy = gray[top + panel.top + int(3.5 * panel.row), left + panel.left :][: panel.most]
    for part in (across, inside, happy):
        assert np.ptp(part) > 85
    assert np.ptp(happy[: int(0.65 * panel.most)]) < 1 < np.ptp(happy)  # the bar is as long as its share
    assert happy[int(0.72 * panel.most)] < happy[0] - 85


def test_text_is_dark_on_light_colors_and_light_on_dark() -> None:
    for color, ink in (((255, 255, 0), (0, 0, 0)), ((0, 0, 120), (255, 255, 255))):
        label = place_marks((300, 200), [face((100, 60, 200, 150))], Style(color=color, text_size=24))[0].label[1]
        found = {tuple(value) for value in label.reshape(-1, 3).tolist()}
        assert {color, ink} <= found


def test_drawing_changes_nothing_but_boxes_labels_and_bars() -> None:
    before = read_picture(ASTRONAUT)
    after, one = before.copy(), face((180, 70, 300, 190), track=0)
    assert annotate(after, [one], Style(bars=True), in_place=True) is after
    changed = (after != before).any(axis=2)
    for x1, y1, x2, y2 in [*rectangles(place_marks((512, 512), [one], Style(bars=True))), (176, 66, 304, 194)]:
        changed[y1:y2, x1:x2] = False
    assert not changed.any()
    assert (after[80:180, 190:290] == before[80:180, 190:290]).all()  # the face itself is as it was


@pytest.mark.parametrize("kind", ["gray", "transparent", "pillow", "array"])
def test_whatever_is_read_can_be_drawn_on_and_stays_as_it_is(kind: str) -> None:
    picture = Image.open(ASTRONAUT)
    given = {
        "gray": np.asarray(picture.convert("L")), "transparent": np.asarray(picture.convert("RGBA")),
        "pillow": picture, "array": np.asarray(picture).copy(),
    }[kind]  # fmt: skip
    before = np.array(given)
    drawn = annotate(given, [face((128, 64, 256, 192))])
    assert drawn.shape == (512, 512, 3) and (drawn != read_picture(ASTRONAUT)).any()
    np.testing.assert_array_equal(np.asarray(given), before)


@pytest.mark.parametrize(
    ("width", "size_wh"), [(0, (512, 512)), (512, (512, 512)), (800, (800, 800)), (123, (123, 123))]
)
def test_the_display_size_scales_the_picture_and_not_the_lines(width: int, size_wh: tuple[int, int]) -> None:
    picture, style = read_picture(ASTRONAUT), Style(color=(255, 0, 255), line_width=3, display_width=width)
    drawn = annotate(picture.copy(), [face((128, 64, 256, 192))], style)
    assert display_size((512, 512), style) == size_wh == drawn.shape[1::-1]
    scale = size_wh[0] / 512
    middle = (drawn[round(128 * scale)] == (255, 0, 255)).all(axis=1)
    columns = np.flatnonzero(middle)
    assert len(columns) == 6  # two lines of three pixels, in the pure color: drawn after scaling
    assert columns.mean() == pytest.approx(192 * scale - 0.5, abs=1)
    assert display_size((1281, 721), Style(display_width=640)) == (640, 360)


@pytest.mark.parametrize("size_wh", [(16, 16), (1, 5000), (5000, 1), (40, 400), (20_000, 20_000)])
def test_what_is_scaled_stays_within_what_files_can_hold(size_wh: tuple[int, int]) -> None:
    wide, high = display_size(size_wh, Style(display_width=16_383))
    assert 1 <= max(wide, high) <= 16_383
    assert wide * high <= 1.001 * max(16_383 * 8_192, size_wh[0] * size_wh[1])
    assert wide / high == pytest.approx(size_wh[0] / size_wh[1], rel=0.2)


def test_trying_places_one_by_one_finds_what_arrays_find(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        faces = random_faces(rng, (500, 400), int(rng.integers(1, 8)))
        found = rectangles(place_marks((500, 400), faces, Style(bars=True)))
        with monkeypatch.context() as patch:
            patch.setattr("mien.analysis.output.label_layout.MAX_FACES_ONE_BY_ONE", -1)
            assert (rectangles(place_marks((500, 400), faces, Style(bars=True))) == found).all()


@pytest.mark.parametrize("blur", ["blur", "box"])
def test_a_hidden_face_cannot_be_found_again(blur: str) -> None:
    recognizer, picture = Recognizer("base", detector="haar"), read_picture(ASTRONAUT)
    faces = recognizer.analyze(picture)
    assert len(faces) == 1
    assert len(recognizer.analyze(annotate(picture, faces, Style(blur=blur)))) == 0
    small = annotate(
        picture, faces, Style(blur=blur, display_width=300)
    )  # hidden where the face is in the scaled picture
    assert len(recognizer.analyze(small)) == 0


def test_of_a_blurred_face_only_means_of_cells_are_left() -> None:
    """Two faces that differ in every pixel, but not on average, become the same; what lies around them stays."""
    picture, other = np.full((2, 240, 240, 3), 120, np.uint8)
    checkers = (np.add.outer(np.arange(120), np.arange(120)) % 2)[..., None].astype(np.uint8)
    picture[60:180, 60:180] += 60 * checkers
    other[60:180, 60:180] += 60 * (1 - checkers)
    faces, style = (
        [face((80, 80, 160, 160), track=0), face((-90, 10, -5, 90)), face((230, 230, 300, 300))],
        Style(blur="blur"),
    )
    drawn, changed = annotate(picture, faces, style), annotate(other, faces, style)
    assert np.abs(drawn.astype(int) - changed).max() <= 1
    assert (drawn[:60, 100:] == picture[:60, 100:]).all()  # beyond the margin of 20 pixels, where no label is


def test_a_face_is_filled_with_black_and_its_marks_are_drawn_over_it() -> None:
    picture = np.full((240, 240, 3), 200, np.uint8)
    style = Style(blur="box", bars=True, text_size=12)
    drawn = annotate(picture, [face((80, 80, 160, 160)), face((100, 90, 170, 170))], style)
    assert (drawn[62:75, 62:178] == 0).mean() > 0.5 and (drawn[58] == 200).any()
    green = (drawn == style.color).all(axis=2)
    assert green[80:160, 80].any() and green[90:170, 100].any()  # neither box is hidden by the other face
    with pytest.raises(UsageError, match="`blur=mosaic`: is unknown; choose from off, blur, box"):
        Style(blur="mosaic")
    assert Style.from_dict(style.to_dict()) == style
