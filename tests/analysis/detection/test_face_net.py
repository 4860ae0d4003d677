from __future__ import annotations

import numpy as np
import pytest

from mien.analysis.detection.face_net import (
    MAX_CANDIDATES,
    MAX_FACE_PX,
    MIN_FACE_PX,
    REFERENCE_FACE_PX,
    STRIDE_PX,
    decode_answers,
    draw_canvas,
    restore_boxes,
)


@pytest.mark.parametrize("shape", [(360, 640), (640, 360), (100, 101), (17, 900), (16, 16), (1, 1), (33, 33)])
def test_a_canvas_holds_the_picture_and_its_halved_copies_apart(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    canvas, copies = draw_canvas(picture)
    assert canvas.shape[0] % STRIDE_PX == canvas.shape[1] % STRIDE_PX == 0
    covered = np.zeros(canvas.shape, int)
    for left, top, factor in copies:
        height, width = max(1, shape[0] // factor), max(1, shape[1] // factor)
        assert top + height <= canvas.shape[0] and left + width <= canvas.shape[1]
        covered[max(0, top - 8) : top + height + 8, max(0, left - 8) : left + width + 8] += 1
        if factor == 1:
            assert (canvas[top : top + height, left : left + width] == picture).all()
    assert covered.max() == 1  # 8 pixels around each copy, half of the gap, are its own
    assert canvas.size <= 1.9 * picture.size + 16000


def test_the_smallest_copy_shows_a_face_that_fills_the_picture_at_a_size_that_the_network_answers_to() -> None:
    assert MAX_FACE_PX > 2 * MIN_FACE_PX  # else faces between two scales are lost
    for side in range(40, 2000, 37):
        _, copies = draw_canvas(np.zeros((side, side), np.uint8))
        assert side // copies[-1][2] <= MAX_FACE_PX


def test_a_square_at_every_scale_comes_back_where_it_was() -> None:
    picture = np.zeros((300, 500), np.uint8)
    canvas, copies = draw_canvas(picture)
    wanted = np.array([120.0, 80.0, 200.0, 160.0])
    for left, top, factor in copies[:4]:
        center = np.array([160, 120]) / factor + (left, top)
        square = np.array([[*center, 80 / factor]], np.float32)
        boxes, scores = restore_boxes(square, np.array([0.9], np.float32), copies, picture.shape)
        assert np.allclose(boxes, wanted[None], atol=2 * factor) and scores == np.float32(0.9)
    between = np.array([[canvas.shape[1] + 5, 5, 20]], np.float32)
    assert len(restore_boxes(between, np.array([0.9], np.float32), copies, picture.shape)[0]) == 0


def test_answers_are_decoded_as_documented() -> None:
    answers = np.zeros((4, 6, 9), np.float32)
    answers[0] = -9
    answers[:, 2, 5] = [np.log(3), 0.25, -0.5, np.log(2)]
    squares, scores = decode_answers(answers, 0.5)
    assert np.allclose(squares, [[(5 + 0.5 + 0.25) * STRIDE_PX, (2 + 0.5 - 0.5) * STRIDE_PX, 2 * REFERENCE_FACE_PX]])
    assert np.allclose(scores, [0.75])


def test_only_the_best_cells_are_decoded_where_very_many_answer() -> None:
    answers = np.random.default_rng(0).normal(3, 1, (4, 60, 60)).astype(np.float32)
    _, scores = decode_answers(answers, 0.05)
    best = np.sort(1 / (1 + np.exp(-answers[0].ravel())))[::-1][:MAX_CANDIDATES]
    assert np.allclose(np.sort(scores)[::-1], best)
