from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mien.data import augmentation as augment


@pytest.fixture
def images() -> Tensor:
    """float32 (64, 1, 48, 48): a bright spot right of and above the center on a dark ramp."""
    picture = torch.linspace(0, 0.4, 48).repeat(48, 1)
    picture[14:19, 32:37] = 1.0
    return picture.expand(64, 1, 48, 48).clone()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spot(images: Tensor) -> Tensor:
    """Mean (row, column) of pixels above .7; (B, 2)."""
    weight = (images[:, 0] > 0.7).float()
    grid = torch.stack(torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij"))
    return (weight[:, None] * grid).sum(dim=(2, 3)) / weight.sum(dim=(1, 2))[:, None]


def test_no_strength_changes_nothing(images: Tensor) -> None:
    assert torch.equal(augment.Augmentation()(images, generator()), images)
    torch.testing.assert_close(augment.Augmentation()(images, generator()), images, atol=1e-5, rtol=0)


def test_a_sure_flip_is_the_mirror_image(images: Tensor) -> None:
    torch.testing.assert_close(augment.Augmentation(flip=1.0)(images, generator()), images.flip(3), atol=1e-5, rtol=0)


def test_flips_come_as_often_as_asked(images: Tensor) -> None:
    flipped = augment.Augmentation(flip=0.25)(images.repeat(32, 1, 1, 1), generator())
    assert (spot(flipped)[:, 1] < 24).float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_rotation_keeps_the_distance_from_the_center_and_stays_in_range(images: Tensor) -> None:
    offset = spot(augment.Augmentation(degrees=30)(images.repeat(8, 1, 1, 1), generator())) - 23.5
    torch.testing.assert_close(offset.norm(dim=1), torch.full((512,), float(np.hypot(7.5, 10.5))), atol=0.6, rtol=0)
    angles = torch.rad2deg(torch.atan2(offset[:, 0], offset[:, 1])) - np.degrees(np.arctan2(-7.5, 10.5))
    assert angles.abs().max() < 33
    assert angles.min() < -25
    assert angles.max() > 25


def test_scale_and_shift_stay_in_range(images: Tensor) -> None:
    scaled = (spot(augment.Augmentation(scale=0.2)(images, generator())) - 23.5)[:, 1] / 10.5
    assert 0.75 < scaled.min() < 0.9  # half a pixel of 10.5 is 5 %
    assert 1.1 < scaled.max() < 1.25
    shifted = spot(augment.Augmentation(shift=0.1)(images, generator())) - torch.tensor([16.0, 34.0])
    assert shifted.abs().max() < 4.8 + 0.5
    assert shifted.abs().max() > 4


def test_beyond_the_edge_the_edge_goes_on() -> None:
    flat = torch.full((8, 1, 48, 48), 0.7)
    torch.testing.assert_close(augment.Augmentation(degrees=45, scale=0.3, shift=0.3)(flat, generator()), flat)


def test_light_multiplies_brightness_and_stretches_contrast() -> None:
    images = torch.tensor([0.2, 0.6]).view(1, 1, 1, 2).expand(500, 1, 1, 2)
    bright = augment.jitter_light(images, generator(), brightness=0.3)
    ratio = bright / images
    torch.testing.assert_close(ratio[..., 0], ratio[..., 1])
    assert 0.69 < ratio.min() < 0.72
    assert 1.28 < ratio.max() < 1.31
    stretched = augment.jitter_light(images, generator(), contrast=0.3)
    torch.testing.assert_close(stretched.mean(dim=3), images.mean(dim=3))


def test_erased_rectangles_have_the_asked_share_and_frequency() -> None:
    images = torch.zeros(2000, 1, 48, 48)
    erased = augment.erase_rectangles(images, generator(), probability=0.5, area=(0.02, 0.2), value=1.0)
    share = erased.mean(dim=(1, 2, 3))
    touched = share > 0
    assert touched.float().mean().item() == pytest.approx(0.5, abs=0.04)
    assert 0.01 < share[touched].min()
    assert share.max() < 0.22
    assert share[touched].mean().item() == pytest.approx(0.11, abs=0.01)
    one = erased[touched][0, 0]
    rows, columns = one.any(dim=1), one.any(dim=0)
    assert torch.equal(one.bool(), rows[:, None] & columns[None, :])  # it is one whole rectangle


def test_the_same_generator_state_gives_the_same_batch(images: Tensor) -> None:
    everything = augment.Augmentation(
        flip=0.5, degrees=15, scale=0.15, shift=0.1, brightness=0.3, contrast=0.3, erasing=0.5
    )
    assert torch.equal(everything(images, generator(5)), everything(images, generator(5)))
    assert not torch.equal(everything(images, generator(5)), everything(images, generator(6)))
    assert everything(images, generator(5)).min() >= 0
    assert everything(images, generator(5)).max() <= 1


def test_mixup_blends_pictures_and_targets_by_the_same_weight() -> None:
    images = torch.arange(16.0).view(16, 1, 1, 1)
    targets = torch.eye(16)
    mixed, blended = augment.mixup(images, targets, 0.4, generator(1))
    torch.testing.assert_close(blended.sum(dim=1), torch.ones(16))
    torch.testing.assert_close(blended @ torch.arange(16.0), mixed.flatten())


def test_mixup_weights_follow_their_beta_distribution() -> None:
    state = generator(0)
    targets = torch.eye(2)
    weights = [augment.mixup(targets[:, None, None], targets, 0.5, state)[1].max().item() for _ in range(600)]
    expected = np.random.default_rng(0).beta(0.5, 0.5, 100_000)
    folded = np.maximum(expected, 1 - expected)
    # with two pictures, half of the draws pair each with itself: the weight is then 1
    assert np.mean([weight for weight in weights if weight < 1 - 1e-6]) == pytest.approx(folded.mean(), abs=0.03)


def test_a_vertical_flip_is_the_picture_upside_down(images: Tensor) -> None:
    turned = augment.Augmentation(vertical_flip=1.0)(images, generator())
    torch.testing.assert_close(turned, images.flip(2), atol=1e-5, rtol=0)


def test_shear_moves_the_top_against_the_bottom(images: Tensor) -> None:
    ramp = torch.linspace(0, 1, 48).repeat(48, 1).expand(64, 1, 48, 48)
    sheared = augment.Augmentation(shear=20)(ramp, generator())[:, 0, :, 24]  # middle column: its value tells the shift
    slope = (sheared[:, 40] - sheared[:, 8]) / 32 * 47  # columns moved for each row
    assert slope.abs().max() <= np.tan(np.radians(20)) + 0.01
    assert slope.abs().max() > np.tan(np.radians(15))
    assert slope.min() < 0 < slope.max()


def test_resized_crops_have_the_asked_area_and_stay_inside() -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 48), indexing="ij")
    places = torch.stack([x, y]).expand(400, 2, 48, 48)
    cropped = augment.Augmentation(crop=0.5)(places, generator())
    left, right = cropped[:, 0, 24, 0], cropped[:, 0, 24, -1]
    top, bottom = cropped[:, 1, 0, 24], cropped[:, 1, -1, 24]
    area = (right - left) * (bottom - top) / 4
    assert 0.45 < area.min() < 0.6
    assert area.max() > 0.9
    assert min(left.min(), top.min()) >= -1.001
    assert max(right.max(), bottom.max()) <= 1.001


def test_ten_crop_in_training_draws_the_crops_of_testing() -> None:
    from mien.analysis.inference.classifier import make_views
    from mien.core.preprocessing import resize

    rng = np.random.default_rng(0)
    smooth = resize(rng.integers(0, 256, (6, 6), dtype=np.uint8), 48)
    ten = np.stack([resize(view[0], 48) for view in make_views(smooth[None], "ten-crop")]) / 255
    drawn = augment.Augmentation(ten_crop=True)(
        torch.from_numpy(smooth / 255).float().expand(200, 1, 48, 48), generator()
    )
    difference = np.abs(drawn[:, 0].numpy()[:, None] - ten[None]).mean(axis=(2, 3))  # (200, 10)
    assert difference.min(axis=1).max() < 0.01
    assert np.bincount(difference.argmin(axis=1), minlength=10).min() > 8


def test_cutmix_takes_a_rectangle_and_its_share_of_the_target() -> None:
    images = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 48, 48)
    shares = []
    for seed in range(40):
        mixed, blended = augment.cutmix(images, torch.eye(8), 1.0, generator(seed))
        torch.testing.assert_close(blended.sum(dim=1), torch.ones(8))
        torch.testing.assert_close(blended @ torch.arange(8.0), mixed.mean(dim=(1, 2, 3)))
        moved = (mixed != images)[:, 0].any(dim=0)
        assert torch.equal(moved, moved.any(dim=1)[:, None] & moved.any(dim=0)[None, :])
        shares.append(moved.float().mean().item())
    assert min(shares) < 0.2
    assert max(shares) > 0.5


def test_noise_has_the_asked_frequency_and_deviation_and_no_color() -> None:
    images = torch.full((400, 3, 24, 24), 0.5)
    noisy = augment.add_noise(images, generator(), probability=0.25, deviation=(0.02, 0.1))
    torch.testing.assert_close(noisy[:, 0], noisy[:, 2])
    deviation = (noisy - images)[:, 0].flatten(1).std(dim=1)
    touched = deviation > 0
    assert touched.float().mean().item() == pytest.approx(0.25, abs=0.06)
    assert 0.018 < deviation[touched].min()
    assert deviation[touched].max() < 0.11
    assert deviation[touched].mean().item() == pytest.approx(0.06, abs=0.01)
    assert (noisy - images)[touched].mean().abs() < 0.001
