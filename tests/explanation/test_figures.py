from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.explanation.figures import (
    BLANK_COLOR,
    arrange_tiles,
    draw_color_bar,
    draw_grid,
    draw_overlays,
    enlarge_face,
    mask_faces,
)
from mien.explanation.regions import (
    PARTS,
    REGIONS,
    compute_areas,
    compute_shares,
    compute_shares_by_class,
    draw_outlines,
    make_region_map,
)
from mien.explanation.superpixels import compute_superpixels
from tests.conftest import patterns


def test_a_map_of_zeros_leaves_the_face_as_it_is() -> None:
    faces = patterns(2).images
    drawn = draw_overlays(faces, np.zeros((2, 48, 48), np.float32))
    assert (drawn.shape, drawn.dtype) == ((2, 192, 192, 3), np.uint8)
    np.testing.assert_array_equal(drawn, np.stack([enlarge_face(face) for face in faces]))
    color = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(draw_overlays(color, np.zeros((1, 8, 8)), zoom=1), color)


def test_red_speaks_for_and_blue_against_the_class() -> None:
    maps = np.zeros((1, 4, 4), np.float32)
    maps[0, 0, 0], maps[0, 3, 3] = 2, -2
    red, _, blue = draw_overlays(np.full((1, 4, 4), 128, np.uint8), maps, zoom=1)[0, 0, 0].astype(int)
    assert red > blue + 100
    red, _, blue = draw_overlays(np.full((1, 4, 4), 128, np.uint8), maps, zoom=1)[0, 3, 3].astype(int)
    assert blue > red + 80


def test_each_map_has_its_own_scale() -> None:
    faces, maps = patterns(2).images, np.random.default_rng(0).random((2, 48, 48)).astype(np.float32)
    maps[1] = maps[0] * 1000
    drawn = draw_overlays(np.repeat(faces[:1], 2, axis=0), maps)
    np.testing.assert_array_equal(drawn[0], drawn[1])


def test_the_color_bar_shows_what_the_overlay_does() -> None:
    values = np.linspace(1, -1, 5)[:, None].repeat(5, axis=1)[None]
    drawn = draw_overlays(np.full((1, 5, 5), 128, np.uint8), values, zoom=1)
    np.testing.assert_array_equal(draw_color_bar(True, 5, 5), drawn[0])
    assert (draw_color_bar(True, 5, 1)[2] == 128).all()
    assert (draw_color_bar(False, 5, 1)[-1] == 128).all()


def test_faces_and_maps_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        draw_overlays(patterns(2).images, np.zeros((1, 48, 48), np.float32))
    assert draw_overlays(np.empty((0, 48, 48), np.uint8), np.empty((0, 48, 48), np.float32)).shape == (0, 192, 192, 3)


def test_masked_keeps_the_largest_values() -> None:
    faces = patterns(2).images
    maps = np.zeros((2, 48, 48), np.float32)
    maps[0, :12] = np.arange(576).reshape(12, 48)  # a quarter
    shown = mask_faces(faces, maps, keep=0.25)
    blank = (shown == BLANK_COLOR).all(axis=3)
    assert blank.reshape(2, -1).sum(axis=1).tolist() == [1728, 1728]  # also where all values are equal
    np.testing.assert_array_equal(shown[0, :12], np.repeat(faces[0, :12, :, None], 3, axis=2))
    assert not (mask_faces(faces, maps, keep=1.0) == BLANK_COLOR).all(axis=3).any()


def test_a_sheet() -> None:
    tiles = np.arange(3, dtype=np.uint8)[:, None, None].repeat(2, axis=1).repeat(2, axis=2)
    found = arrange_tiles(tiles, 2, gap=1, back=9)
    assert found.tolist() == [[0, 0, 9, 1, 1], [0, 0, 9, 1, 1], [9] * 5, [2, 2, 9, 9, 9], [2, 2, 9, 9, 9]]


def test_a_grid_holds_its_tiles_pixel_by_pixel(tmp_path: Path) -> None:
    tile = draw_overlays(patterns(1).images, np.random.default_rng(0).random((1, 48, 48)))[0]
    draw_grid([[tile, tile]], ["a face\n$x_1$"], ["one", "two"], tmp_path / "grid.png", "title", bars=[True, False])
    with Image.open(tmp_path / "grid.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    windows = np.lib.stride_tricks.sliding_window_view(pixels[:, :, 0], (1, 192))[:, :, 0]
    found = np.argwhere((windows == tile[0, :, 0]).all(axis=2))
    assert len(found) == 8  # two tiles, each pixel four rows high
    for y, x in found[:2]:
        np.testing.assert_array_equal(pixels[y : y + 192, x : x + 192], tile)


# ---- regions ---------------------------------------------------------------------------------------------------------


def test_the_regions_divide_the_picture_alike_on_both_sides() -> None:
    regions = make_region_map(48)
    assert set(np.unique(regions)) == set(range(len(REGIONS)))
    assert compute_areas(48).sum() == pytest.approx(1)
    assert (regions == regions[:, ::-1]).mean() > 0.97
    for name, ellipses in PARTS.items():
        if name != "rest of face":
            for ellipse in ellipses:
                assert REGIONS[regions[int(ellipse.y * 48), int(ellipse.x * 48)]] == name
    assert [REGIONS[regions[y, x]] for y, x in ((0, 0), (47, 47), (5, 24), (24, 8))] == [
        "background", "background", "rest of face", "rest of face",
    ]  # fmt: skip
    np.testing.assert_allclose(compute_areas(48), compute_areas(480), atol=0.01)  # the same at any size


def test_shares_add_up_and_count_both_signs() -> None:
    maps = np.zeros((3, 48, 48), np.float32)
    maps[0, 38, 24], maps[0, 18, 15] = 3, -1  # mouth and eye
    maps[1] = 1
    found = compute_shares(maps)
    assert found[0].tolist() == pytest.approx([0.25, 0, 0, 0.75, 0, 0])
    np.testing.assert_allclose(found[1], compute_areas(48))
    np.testing.assert_allclose(found[2], compute_areas(48))  # nothing is everywhere alike
    by_class = compute_shares_by_class(maps, np.array([0, 2, 2]), ("a", "b", "c"))
    assert list(by_class) == ["all", "a", "c"]
    assert by_class["a"]["mouth"] == 0.75
    assert by_class["c"]["faces"] == 2


def test_the_outlines_are_the_borders() -> None:
    drawn = draw_outlines(np.zeros((48, 48), np.uint8), zoom=4)
    assert drawn.shape == (192, 192, 3)
    assert 0.02 < drawn.any(axis=2).mean() < 0.2
    assert (drawn[160, 96] == 0).all()  # inside the mouth


# ---- superpixels -----------------------------------------------------------------------------------------------------


def test_superpixels_cover_the_picture_in_connected_patches() -> None:
    import cv2

    for face in patterns(3).images:
        labels = compute_superpixels(face, 49)
        numbers, counts = np.unique(labels, return_counts=True)
        assert numbers.tolist() == list(range(len(numbers)))
        assert 30 <= len(numbers) <= 49
        assert counts.min() >= 4
        for number in numbers:
            assert cv2.connectedComponents((labels == number).astype(np.uint8), connectivity=4)[0] == 2


def test_superpixels_follow_edges() -> None:
    picture = np.zeros((48, 48))
    picture[:, 21:] = 1  # no border of the 4×4 grid
    labels = compute_superpixels(picture, 16)
    assert not set(labels[:, :21].ravel()) & set(labels[:, 21:].ravel())
    flat = compute_superpixels(np.zeros((48, 48)), 16)
    assert len(np.unique(flat)) == 16
