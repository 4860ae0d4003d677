from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mien.explanation.sanity import (
    CONTROLS,
    blur_images,
    bootstrap_difference,
    compute_area,
    compute_curves,
    compute_rank_correlation,
    make_random_maps,
    randomize_network,
    rank_pixels,
)
from mien.models import MODELS


class OnePixel(nn.Module):
    """logit of class 0: 20 · the pixel (1, 2), of class 1: 0."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: Tensor) -> Tensor:
        pixel = self.scale * images[:, 0, 1, 2]
        return torch.stack([pixel, torch.zeros_like(pixel)], dim=1)


def test_the_area_is_that_of_trapezoids() -> None:
    np.testing.assert_allclose(compute_area(np.array([[1.0, 0.5, 0.0], [1.0, 1.0, 1.0]])), [0.5, 1.0])
    heights = np.random.default_rng(0).random((3, 17))
    np.testing.assert_allclose(compute_area(heights), np.trapezoid(heights, dx=1 / 16, axis=1))


def test_equal_values_go_in_a_random_order_and_others_by_size() -> None:
    maps = np.zeros((2, 4, 4), np.float32)
    maps[0, 1, 2], maps[0, 3, 3], maps[1] = 5, 4, np.arange(16).reshape(4, 4)
    first, second = rank_pixels(maps)
    assert first[:2].tolist() == [6, 15]
    assert sorted(first.tolist()) == list(range(16))
    assert first[2:].tolist() != sorted(first[2:].tolist())
    assert second.tolist() == list(range(15, -1, -1))


def test_the_pixel_that_decides_makes_the_steps() -> None:
    x = torch.zeros(1, 1, 24, 24)
    x[0, 0, 1, 2] = 1
    best, worst = np.zeros((1, 24, 24), np.float32), np.zeros((1, 24, 24), np.float32)
    best[0, 1, 2], worst[0, 1, 2] = 1, -1
    network, target = OnePixel(), torch.tensor([0])
    gray, veiled = (1 / (1 + np.exp(-20 * value)) for value in (1 / 576, float(blur_images(x)[0, 0, 1, 2])))
    drawn, late = (compute_curves(network, x, target, maps, steps=16) for maps in (best, worst))
    np.testing.assert_allclose(drawn.deletion[0], [1] + 16 * [gray], atol=1e-4)
    np.testing.assert_allclose(drawn.insertion[0], [veiled] + 16 * [1], atol=1e-4)
    np.testing.assert_allclose(late.deletion[0], 16 * [1] + [gray], atol=1e-4)
    np.testing.assert_allclose(late.insertion[0], 16 * [veiled] + [1], atol=1e-4)
    assert drawn.compute_areas()[0] < late.compute_areas()[0]
    assert drawn.compute_areas()[1] > late.compute_areas()[1]
    warm = compute_curves(network, x, target, best, steps=16, temperature=20.0)
    np.testing.assert_allclose(warm.deletion[0, 0], 1 / (1 + np.exp(-1)), atol=1e-6)
    assert network.training


def test_a_curve_does_not_depend_on_its_neighbors() -> None:
    torch.manual_seed(0)
    network = MODELS["residual"](num_classes=7, widths=(4, 8), blocks=1)
    x, targets = torch.randn(5, 1, 16, 16), torch.tensor([0, 1, 2, 3, 4])
    maps = make_random_maps(5, 16, "random blobs")
    whole, parts = compute_curves(network, x, targets, maps), compute_curves(network, x, targets, maps, batch_size=2)
    np.testing.assert_allclose(whole.deletion, parts.deletion, atol=1e-6)
    np.testing.assert_allclose(whole.insertion, parts.insertion, atol=1e-6)
    np.testing.assert_allclose(whole.deletion[:, 0], whole.insertion[:, -1], atol=1e-6)  # both are the picture


def test_blurring_keeps_a_constant_and_spreads_a_point_as_a_gaussian() -> None:
    torch.testing.assert_close(blur_images(torch.full((1, 2, 48, 48), 3.0)), torch.full((1, 2, 48, 48), 3.0))
    point = torch.zeros(1, 1, 48, 48)
    point[0, 0, 24, 24] = 1
    spread = blur_images(point)[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-5)
    assert spread[24, 28] / spread[24, 24] == pytest.approx(np.exp(-0.5), rel=1e-4)  # 4 pixels are one deviation


@pytest.mark.parametrize("kind", CONTROLS)
def test_random_maps_are_seeded_and_know_nothing(kind: str) -> None:
    maps = make_random_maps(50, 48, kind)
    assert (maps.shape, maps.dtype) == ((50, 48, 48), np.float32)
    assert maps.min() >= 0
    assert maps.max() <= 1
    np.testing.assert_array_equal(maps, make_random_maps(50, 48, kind))
    assert np.abs(maps - make_random_maps(50, 48, kind, seed=1)).max() > 0.5
    neighbors = np.mean([np.corrcoef(one[:, 1:].ravel(), one[:, :-1].ravel())[0, 1] for one in maps])
    assert (neighbors > 0.9) == (kind == "random blobs")


@pytest.mark.parametrize("name", ["residual", "r4-cnn"])
def test_a_randomized_network_is_another_one_and_the_original_stays(name: str) -> None:
    torch.manual_seed(0)
    network = MODELS[name](num_classes=7).eval()
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0, 0.02)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    x = torch.randn(2, 1, 48, 48)
    state = torch.random.get_rng_state()
    fresh = randomize_network(network, seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    for (key, ours), theirs in zip(network.named_parameters(), fresh.parameters(), strict=True):
        assert not torch.equal(ours, theirs), key
    assert torch.equal(fresh(x), randomize_network(network, seed=4)(x))
    assert not torch.equal(fresh(x), randomize_network(network, seed=5)(x))


def test_the_rank_correlation_is_spearmans() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(3, 6, 6)), rng.normal(size=(3, 6, 6))
    one[0, :3] = 0  # ties
    expected = [stats.spearmanr(np.abs(a).ravel(), np.abs(b).ravel()).statistic for a, b in zip(one, two, strict=True)]
    np.testing.assert_allclose(compute_rank_correlation(one, two), expected)
    np.testing.assert_allclose(compute_rank_correlation(one, -one), 1)
    np.testing.assert_allclose(compute_rank_correlation(np.zeros((1, 2, 2)), one[:1, :2, :2]), 0)


def test_the_paired_interval_holds_its_mean_and_narrows() -> None:
    rng = np.random.default_rng(0)
    control = rng.random(400)
    found = bootstrap_difference(control - 0.1 + rng.normal(0, 0.2, 400), control)
    assert found["low"] < found["difference"] < found["high"] < 0
    half = 1.96 * 0.2 / np.sqrt(400)
    assert found["high"] - found["low"] == pytest.approx(2 * half, rel=0.15)
    assert bootstrap_difference(control, control) == {"difference": 0.0, "low": 0.0, "high": 0.0}
