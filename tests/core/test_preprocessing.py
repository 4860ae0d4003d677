from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mien.core.preprocessing import Preprocessing, convert_to_gray, resize


def test_a_tensor_is_pixels_minus_mean_over_std() -> None:
    images = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
    tensor = Preprocessing(8, 1, (0.5,), (0.25,)).to_tensor(images)
    assert tensor.shape == (2, 1, 8, 8)
    assert tensor.dtype == np.float32
    np.testing.assert_allclose(tensor[:, 0], (images / 255 - 0.5) / 0.25, atol=1e-5)


def test_color_becomes_gray_as_pillow_makes_it() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    ours = convert_to_gray(picture).astype(int)
    theirs = np.stack([np.array(Image.fromarray(one).convert("L")) for one in picture]).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_three_channels_have_each_their_mean() -> None:
    images = np.full((1, 8, 8, 3), (255, 0, 51), np.uint8)
    tensor = Preprocessing(8, 3, (0.5, 0.5, 0.2), (0.5, 0.5, 1.0), color=True).to_tensor(images)
    np.testing.assert_allclose(tensor[0, :, 4, 4], [1, -1, 0], atol=1e-6)


def test_gray_crops_fill_three_channels_and_other_sizes_are_scaled() -> None:
    tensor = Preprocessing(16, 3, (0.0,) * 3, (1.0,) * 3).to_tensor(np.full((2, 40, 30), 102, np.uint8))
    assert tensor.shape == (2, 3, 16, 16)
    np.testing.assert_allclose(tensor, 0.4, atol=1e-6)


def test_a_network_of_three_channels_that_saw_gray_is_given_gray() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    tensor = Preprocessing(16, 3, (0.0,) * 3, (1.0,) * 3).to_tensor(images)
    np.testing.assert_allclose(tensor, np.repeat(convert_to_gray(images)[:, None] / 255, 3, axis=1), atol=1e-6)
    with pytest.raises(ValueError, match="color needs 3 channels"):
        Preprocessing(16, color=True)


def test_no_crops_give_an_empty_tensor() -> None:
    assert Preprocessing(16).to_tensor(np.empty((0, 40, 30), np.uint8)).shape == (0, 1, 16, 16)


def test_shrinking_averages_areas() -> None:
    checkers = np.indices((96, 96)).sum(axis=0) % 2 * np.uint8(200)
    assert np.ptp(resize(checkers.astype(np.uint8), 48)) == 0


def test_json_and_back() -> None:
    spec = Preprocessing(44, 1, (0.507,), (0.255,), "fer2013")
    assert Preprocessing.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("wrong", [{"channels": 2}, {"size": 4}, {"std": (0.0,)}, {"mean": (0.5, 0.5)}])
def test_impossible_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"needs|need|must"):
        Preprocessing(**wrong)


def test_files_of_an_older_version_are_read() -> None:
    made = Preprocessing(48, 3, (0.5,) * 3, (0.25,) * 3, color=True)
    values = made.to_json()
    values["colour"] = values.pop("color")
    assert Preprocessing.from_json(values) == Preprocessing.from_json(made.to_json())
