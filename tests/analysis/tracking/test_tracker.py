"""Tracks on made-up boxes whose truth is known; cuts; smoothing."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from mien.analysis.media.yuv import YuvImage
from mien.analysis.tracking.smoothing import Smoother
from mien.analysis.tracking.tracker import (
    CutDetector,
    Tracker,
    appearance_embeddings,
    boxes_to_places,
    pairwise_iou,
    places_to_boxes,
)
from mien.core.pictures import read_picture
from tests.conftest import ASTRONAUT

FPS = 30

Path = Callable[[float], tuple[float, float, float] | None]


def test_frames_beside_a_hole_in_the_times_do_not_hurl_a_face_away() -> None:
    box = np.array([[100.0, 100.0, 160.0, 160.0]])
    tracker, rng = Tracker(), np.random.default_rng(0)
    times = [0.0, 0.04, 0.08, 0.08 + 1 / 90_000, 0.12, 0.16]
    numbers = [tracker.update(box + rng.normal(0, 1.5, 4), time_s)[0] for time_s in times]
    assert numbers == [0] * len(times)


def run(paths: list[Path], seconds: float, noise: float = 1.5, miss: float = 0.05, seed: int = 0) -> tuple[float, int]:
    """(MOTA, id switches) of a Tracker on faces that move along ``paths``: time → (x, y, side), or None while unseen.

    Detections tremble by ``noise`` pixels and are missed at random; the truth counts every face that is in sight
    (Bernardin & Stiefelhagen, "Evaluating Multiple Object Tracking Performance", 2008).
    """
    rng = np.random.default_rng(seed)
    tracker, last, switches, missed, truths = Tracker(), {}, 0, 0, 0
    for frame in range(int(seconds * FPS)):
        time_s, boxes, owners = frame / FPS, [], []
        for owner, path in enumerate(paths):
            place = path(time_s)
            if place is None:
                continue
            truths += 1
            if rng.random() < miss:
                missed += 1
                continue
            x, y, side = np.asarray(place) + rng.normal(0, noise, 3)
            boxes.append((x - side / 2, y - side / 2, x + side / 2, y + side / 2))
            owners.append(owner)
        order = rng.permutation(len(boxes))  # a detector gives them in any order
        numbers = tracker.update(np.array(boxes).reshape(-1, 4)[order], time_s)
        assert len(set(numbers)) == len(numbers)
        for index, number in zip(order, numbers, strict=True):
            owner = owners[index]
            switches += last.get(owner, number) != number
            last[owner] = number
    return 1 - (missed + switches) / truths, switches


def test_a_face_that_walks_keeps_its_number() -> None:
    mota, switches = run([lambda t: (100 + 300 * t, 200, 80)], 3)
    assert switches == 0
    assert mota > 0.9


def test_faces_that_never_meet_never_swap() -> None:
    for seed in range(20):
        paths: list[Path] = [
            lambda t: (200 + 60 * np.sin(3 * t), 200, 90),
            lambda t: (500 + 60 * np.cos(2 * t), 220, 100),
            lambda t: (350, 500 + 40 * np.sin(t), 60 + 10 * t),
        ]
        assert run(paths, 5, seed=seed)[1] == 0


def test_people_who_cross_keep_their_numbers() -> None:
    # One passes a little below the other, at 250 pixels a second each.
    assert run([lambda t: (100 + 250 * t, 200, 80), lambda t: (900 - 250 * t, 235, 90)], 3)[1] == 0


def test_a_short_occlusion_is_bridged_and_a_long_absence_is_not() -> None:
    assert run([lambda t: None if 1 < t < 1.6 else (100 + 200 * t, 200, 80)], 3)[1] == 0
    assert run([lambda t: None if 1 < t < 2.5 else (300, 200, 80)], 4)[1] == 1


def test_a_face_that_comes_nearer_keeps_its_number() -> None:
    assert run([lambda t: (300, 300, 40 * 2**t)], 3)[1] == 0


def test_numbers_follow_time_not_frames() -> None:
    """At a third of the frame rate the same walk is the same track."""
    tracker, seen = Tracker(), set()
    for time_s in np.arange(0, 3, 0.1):
        x = 100 + 300 * time_s
        seen.update(tracker.update(np.array([[x - 40, 160, x + 40, 240]]), time_s))
    assert seen == {0}


def test_a_cut_ends_all_tracks() -> None:
    tracker = Tracker()
    box = np.array([[10.0, 10, 90, 90]])
    assert tracker.update(box, 0.0) == [0]
    assert tracker.update(box, 0.1) == [0]
    tracker.start_shot()
    assert tracker.update(box, 0.2) == [1]
    assert tracker.update(np.empty((0, 4)), 0.3) == []


def test_a_box_far_away_or_of_another_size_is_another_face() -> None:
    tracker = Tracker()
    tracker.update(np.array([[0.0, 0, 80, 80]]), 0.0)
    assert tracker.update(np.array([[200.0, 0, 280, 80]]), 0.03) == [1]
    tracker = Tracker()
    tracker.update(np.array([[0.0, 0, 80, 80]]), 0.0)
    assert tracker.update(np.array([[30.0, 30, 60, 60]]), 0.03) == [1]


def test_overlap_and_places_by_hand() -> None:
    a, b = np.array([[0.0, 0, 4, 2]]), np.array([[2.0, 0, 6, 2], [10, 10, 12, 12], [0, 0, 4, 2]])
    assert pairwise_iou(a, b).tolist() == [[pytest.approx(4 / 12), 0.0, 1.0]]
    np.testing.assert_allclose(places_to_boxes(boxes_to_places(b)), b)


def test_cuts_are_found_and_movement_is_not_one() -> None:
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (3, 4, 6), dtype=np.uint8)
    scenes = [cv2.resize(one, (640, 360), interpolation=cv2.INTER_CUBIC) for one in rough]
    finder, found = CutDetector(), []
    for frame in range(90):
        scene = np.roll(scenes[frame // 30], 2 * frame, axis=1)  # the camera pans
        flicker = np.clip(scene.astype(int) + (10 if frame % 2 else -10), 0, 255).astype(np.uint8)
        if finder.is_cut(flicker):
            found.append(frame)
    assert found == [30, 60]


def portrait(seed: int) -> np.ndarray:
    """Gray uint8 (360, 360), rough as a picture is."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 5), dtype=np.uint8)
    return cv2.resize(rough, (360, 360), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("way", ["as it is", "dark", "narrow", "small and dark"])
def test_cuts_are_found_in_dark_footage_and_between_black_bars(way: str) -> None:
    finder, found = CutDetector(), []
    for frame in range(40):
        picture = portrait(frame // 10 % 2)
        picture = np.roll(picture, frame, axis=0)
        if "dark" in way:
            picture = (0.2 * picture + 16).astype(np.uint8)
        if way != "as it is" and way != "dark":
            side = 360 if way == "narrow" else 200
            whole = np.full((360, 640), 16, np.uint8)
            whole[:side, 140 : 140 + side] = cv2.resize(picture, (side, side))
            picture = whole
        if finder.is_cut(picture):
            found.append(frame)
    assert found == [10, 20, 30]


def test_a_flash_or_a_fade_is_no_cut() -> None:
    finder = CutDetector()
    light = [1.0, 1.0, 2.5, 1.0, 0.9, 0.5, 0.2, 0.0, 0.2, 1.0]
    assert not any(
        finder.is_cut(np.clip(100 + share * (portrait(0) - 128.0) / 3, 0, 255).astype(np.uint8)) for share in light
    )
    assert not any(finder.is_cut(np.clip(share * (portrait(0) / 3), 0, 255).astype(np.uint8)) for share in light)


def answers(rng: np.random.Generator, label: int, frames: int) -> np.ndarray:
    """(frames, 7) noisy answers about a face that shows one expression, not far ahead of another."""
    logits = rng.normal(0, 0.6, (frames, 7))
    logits[:, label] += 1.6
    logits[:, (label + 3) % 7] += 1.2
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)


def changes(labels: list[int]) -> int:
    return int((np.diff(labels) != 0).sum())


def test_a_noisy_still_flickers_at_least_five_times_less() -> None:
    raw, smooth = 0, 0
    for seed in range(5):
        given = answers(np.random.default_rng(seed), 3, 60 * FPS)
        smoother = Smoother()
        shown = [smoother.update(0, row, frame / FPS).label for frame, row in enumerate(given)]
        raw += changes(given.argmax(axis=1).tolist())
        smooth += changes(shown)
    assert raw / 5 > 200  # a minute of it
    assert smooth * 5 <= raw


def test_a_true_change_is_seen_within_four_tenths_of_a_second() -> None:
    for fps in (10, 25, 60):
        for seed in range(20):
            rng, smoother = np.random.default_rng(seed), Smoother()
            given = [*answers(rng, 3, 2 * fps), *answers(rng, 4, 2 * fps)]
            sure = [
                row * 0.2 + np.eye(7, dtype=np.float32)[3 if n < 2 * fps else 4] * 0.8 for n, row in enumerate(given)
            ]
            shown = [smoother.update(0, row, n / fps).label for n, row in enumerate(sure)]
            assert shown.index(4) / fps - 2 <= 0.4


def test_smoothing_is_its_formula_and_depends_on_time_alone() -> None:
    a, b = np.eye(7, dtype=np.float32)[0], np.eye(7, dtype=np.float32)[1]
    smoother = Smoother(time_constant_s=0.5)
    for time_s in np.arange(0, 5, 0.1):
        smoother.update(0, a, time_s)
    state = smoother.update(0, b, 5.0)
    assert state.probabilities[1] == pytest.approx(1 - np.exp(-0.1 / 0.5), rel=1e-3)
    assert state.probabilities.sum() == pytest.approx(1)
    off = Smoother(time_constant_s=0)
    off.update(0, a, 0.0)
    assert off.update(0, b, 0.01).label == 1
    smoother.forget_tracks(before_s=6.0)
    assert smoother.tracks == {}


def patches(count: int) -> np.ndarray:
    """Faces that do not look alike, RGB uint8 (count, 80, 80, 3)."""
    rng = np.random.default_rng(4)
    return np.stack([cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (80, 80)) for _ in range(count)])


def seen(tracker: Tracker, time_s: float, *people: tuple[np.ndarray, float, float]) -> list[int]:
    """Show a frame with these faces at (x, y) to the tracker."""
    picture = np.full((480, 900, 3), 120, np.uint8)
    boxes = np.array([[x, y, x + 80, y + 80] for _, x, y in people], np.float64).reshape(-1, 4)
    for face, x, y in people:
        picture[int(y) : int(y) + 80, int(x) : int(x) + 80] = face
    return tracker.update(boxes, time_s, appearance_embeddings(picture, boxes))


def test_who_comes_back_is_known_by_place_size_and_look() -> None:
    tom, eve, ann = patches(3)
    tracker = Tracker()
    for index in range(10):
        assert seen(tracker, index / 10, (tom, 100, 100), (eve, 500, 100)) == [0, 1]
    assert seen(tracker, 5.0) == []  # both out of sight for longer than the tracker goes on looking
    darker = (eve * 0.8).astype(np.uint8)
    assert seen(tracker, 6.0, (darker, 560, 120), (ann, 110, 100)) == [1, 2]  # somebody else where Tom was
    assert seen(tracker, 6.1, (darker, 560, 120), (ann, 110, 100), (tom, 100, 300)) == [1, 2, 0]


def test_a_cut_and_back_again_keeps_everybody_but_never_takes_one_for_another() -> None:
    tom, eve, ann = patches(3)
    tracker = Tracker()
    for index in range(10):
        seen(tracker, index / 10, (tom, 100, 100), (eve, 500, 100))
    tracker.start_shot()
    assert seen(tracker, 1.0, (ann, 300, 100)) == [2]
    tracker.start_shot()
    assert seen(tracker, 2.0, (eve, 500, 100), (tom, 100, 100)) == [1, 0]
    tracker.start_shot()
    assert seen(tracker, 3.0, (tom, 500, 100), (eve, 100, 100)) == [0, 1]  # the same crops, wherever they are
    assert seen(tracker, 50.0, (ann, 300, 100)) == [3]  # too long ago


@pytest.mark.parametrize("step_s", [1 / 30, 0.2, 1.0])
def test_where_the_tiles_of_a_video_call_change_places_appearance_decides(step_s: float) -> None:
    people, rng = patches(8), np.random.default_rng(0)
    tracker, places = (
        Tracker(memory_s=max(1.0, 1.5 * step_s)),
        [(20 + 100.0 * (n % 4), 120.0 * (n // 4)) for n in range(8)],
    )
    for frame in range(60):
        if frame % 10 == 0:
            order = rng.permutation(8)
        faces = [(people[who], places[tile][0] + rng.normal(0, 1), places[tile][1] + 50 + rng.normal(0, 1))
                 for tile, who in enumerate(order)]  # fmt: skip
        numbers = seen(tracker, frame * step_s, *faces)
        if not frame:
            of = dict(zip(order.tolist(), numbers, strict=True))
        assert numbers == [of[who] for who in order]
        assert (tracker.moved_count > 1) == (frame % 10 == 0 and frame > 0)
    assert tracker.next_number == 8


def test_somebody_new_in_the_place_of_another_is_another() -> None:
    tom, eve, ann = patches(3)
    tracker = Tracker()
    for frame in range(10):
        seen(tracker, frame / 10, (tom, 100, 100), (eve, 500, 100))
    assert seen(tracker, 1.0, (ann, 100, 100), (eve, 500, 100)) == [2, 1]  # one tile of a call, and no cut
    assert seen(tracker, 1.1, (tom, 100, 100), (eve, 500, 100)) == [0, 1]


def test_a_face_that_changes_from_frame_to_frame_keeps_its_number() -> None:
    """Noise in the dark, a head that turns: its look says nothing of who it is."""
    tracker, rng = Tracker(), np.random.default_rng(0)
    for frame in range(30):
        noise = rng.integers(100, 140, (80, 80, 3), np.uint8)
        assert seen(tracker, frame / 10, (noise, 100, 100)) == [0]


def test_looks_are_alike_in_rgb_and_in_planes() -> None:
    picture = read_picture(ASTRONAUT)
    boxes = np.array([[175, 65, 275, 165], [10, 10, 110, 110]])
    of_rgb, of_planes = appearance_embeddings(picture, boxes), appearance_embeddings(YuvImage.from_rgb(picture), boxes)
    assert (of_rgb * of_planes).sum(axis=1).min() > 0.99


def test_looks_do_not_see_light_but_see_faces() -> None:
    tom, eve = patches(2)
    boxes = np.array([[0, 0, 80, 80]])
    bright = np.clip(tom * 1.2 + 20.0, 0, 255).astype(np.uint8)
    a, b, c = (appearance_embeddings(face, boxes)[0] for face in (tom, bright, eve))
    assert np.linalg.norm(a) == pytest.approx(1, abs=1e-5)
    assert a @ b > 0.95 and a @ c < 0.5
    assert appearance_embeddings(np.zeros((9, 9, 3), np.uint8), np.array([[0, 0, 9, 9]]))[0].tolist() == [0.0] * 144
    assert appearance_embeddings(tom, np.empty((0, 4))).shape == (0, 144)
