from __future__ import annotations

import numpy as np
import pytest
import torch

from mien.analysis.detection.detectors import Detections
from mien.analysis.detection.face_net import MAX_FACE_PX, MIN_FACE_PX, REFERENCE_FACE_PX, STRIDE_PX, decode_answers
from mien.training.detection.evaluation import choose_threshold, match_detections
from mien.training.detection.scenes import SCENE_PX, MinedPlace, Scene, SceneComposer, cut_window
from mien.training.detection.targets import compute_loss, make_targets


@pytest.fixture(scope="module")
def composer() -> SceneComposer:
    rng = np.random.default_rng(0)
    photographs = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((90, 300), (400, 500))]
    return SceneComposer(
        rng.integers(0, 256, (40, 48, 48), dtype=np.uint8), photographs, [MinedPlace(1, 0.5, 9, 200)], variety=64
    )


def test_a_scene_depends_on_its_generator_alone(composer: SceneComposer) -> None:
    first, again, other = (composer.compose(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (first.image == again.image).all() and (first.squares == again.squares).all()
    assert (first.image != other.image).any()


def test_scenes_hold_faces_of_all_sizes_and_know_which_are_cut_off(composer: SceneComposer) -> None:
    scenes = [composer.compose(np.random.default_rng(seed)) for seed in range(150)]
    sides = np.concatenate([scene.squares[:, 2] for scene in scenes])
    assert all(scene.image.shape == (SCENE_PX, SCENE_PX) and scene.image.dtype == np.uint8 for scene in scenes)
    assert sides.min() < MIN_FACE_PX and sides.max() > 2 * MAX_FACE_PX
    assert ((sides > MIN_FACE_PX) & (sides < MAX_FACE_PX)).mean() > 0.6
    for scene in scenes:
        for (x, y, side), is_clear in zip(scene.squares, scene.is_clear, strict=True):
            outside = max(-(x - side / 2), -(y - side / 2), x + side / 2 - SCENE_PX, y + side / 2 - SCENE_PX)
            assert not (is_clear and outside > 0.4 * side)


def test_a_window_shows_the_place_that_was_asked_for() -> None:
    photograph = np.zeros((400, 600), np.uint8)
    photograph[200:240, 300:340] = 255  # its center at half the scale is (160, 110)
    window = cut_window(photograph, 0.5, 160, 110, 0.5)
    rows, columns = np.nonzero(window > 128)
    assert abs(rows.mean() - SCENE_PX / 2) < 1.5 and abs(columns.mean() - SCENE_PX / 2) < 1.5
    assert abs(len(rows) - 20 * 20) < 60


def test_targets_decode_to_the_squares_that_they_were_made_from() -> None:
    squares = np.array([[40.3, 61.7, 20.0], [95.0, 30.0, 30.0]], np.float32)
    scene = Scene(np.zeros((SCENE_PX, SCENE_PX), np.uint8), squares, np.ones(2, bool))
    target = make_targets([scene])[0]
    answers = np.concatenate([np.where(target[:1] == 1, 9, -9), target[1:4]]).astype(np.float32)
    decoded, _ = decode_answers(answers, 0.5)
    for square in squares:
        assert np.abs(decoded - square).sum(axis=1).min() < 1e-3
    assert all(np.abs(squares - one).sum(axis=1).min() < 1e-3 for one in decoded)
    cell = tuple(int(value // STRIDE_PX) for value in squares[0, 1::-1])
    assert target[0][cell] == 1 and target[4][cell] == pytest.approx(20 / STRIDE_PX)


@pytest.mark.parametrize(
    ("side", "is_clear", "center"),
    [(20, True, 1), (20, False, -1), (11, True, -1), (40, True, -1), (6, True, 0), (90, True, 0)],
)
def test_a_face_counts_as_face_as_background_or_not_at_all(side: float, is_clear: bool, center: int) -> None:
    scene = Scene(
        np.zeros((SCENE_PX, SCENE_PX), np.uint8), np.array([[60.0, 60.0, side]], np.float32), np.array([is_clear])
    )
    assert make_targets([scene])[0, 0, 7, 7] == center


def test_the_loss_is_lowest_for_the_truth_and_ignores_what_does_not_count() -> None:
    squares = np.array([[40, 60, REFERENCE_FACE_PX], [100, 100, 20]], np.float32)
    scene = Scene(np.zeros((SCENE_PX, SCENE_PX), np.uint8), squares, np.array([True, False]))
    targets = torch.from_numpy(make_targets([scene]))
    right = torch.cat([torch.where(targets[:, :1] == 1, 8.0, -8.0), targets[:, 1:4]], dim=1)
    best = compute_loss(right, targets)
    ignored = right.clone()
    ignored[:, 0][targets[:, 0] == -1] = 8
    assert torch.equal(compute_loss(ignored, targets), best)
    for channel, change in ((0, 12.0), (1, 0.5), (2, 0.5), (3, 0.3)):
        wrong = right.clone()
        wrong[:, channel] += change
        assert compute_loss(wrong, targets) > best + 0.01


def test_detections_are_matched_once_and_those_on_hidden_faces_do_not_count() -> None:
    squares = np.array([[50, 50, 20], [100, 50, 20]], np.float32)
    boxes = np.array([[40, 40, 60, 60], [41, 40, 61, 60], [90, 40, 110, 60], [10, 90, 30, 110]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32))
    right, false = match_detections(found, squares, np.array([True, True]))
    assert np.allclose(right, [0.9, 0.7]) and np.allclose(false, [0.6])
    right, false = match_detections(found, squares, np.array([True, False]))
    assert np.allclose(right, [0.9]) and np.allclose(false, [0.6])
    assert len(match_detections(Detections(boxes[:0], found.scores[:0]), squares, np.array([True, True]))[1]) == 0


def test_the_threshold_allows_as_many_false_detections_as_stated() -> None:
    scores = np.array([0.9, 0.2, 0.5, 0.7, 0.4])
    threshold = choose_threshold(scores, pictures=20, false_per_picture=0.1)
    assert (scores > threshold).sum() == 2
    assert choose_threshold(scores, pictures=200, false_per_picture=0.1) == 0
