"""Random augmentation of a whole batch at once, on the device of the batch.

Every function takes float32 images (B, C, H, W) in 0..1 and a CPU torch.Generator, so that a seed gives the same result on
every device. Only the random numbers are copied to the device, and a GPU does not wait for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.core.preprocessing import TEN_CROP


def sample_uniform(count: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """Draw float32 (count,) uniformly from low..high, on the device of ``like``."""
    return (torch.rand(count, generator=generator) * (high - low) + low).to(like.device, non_blocking=True)


def sample_affine_matrices(
    images: Tensor,
    generator: torch.Generator,
    *,
    flip: float = 0.0,
    vertical_flip: float = 0.0,
    degrees: float = 0.0,
    scale: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
) -> Tensor:
    """Draw random affine maps, float32 (B, 3, 3), from positions in the new picture to positions in the old one, in −1..1.

    They mirror with probability ``flip``, turn upside down with probability ``vertical_flip``, rotate by ±degrees, shear by
    ±shear degrees, scale by 1 ± scale, and shift by ±shift of the side.
    """
    count = len(images)
    angle = sample_uniform(count, -degrees, degrees, generator, images) * (math.pi / 180)
    factor = 1 / (1 + sample_uniform(count, -scale, scale, generator, images))
    move = (
        sample_uniform(2 * count, -shift, shift, generator, images).view(count, 2) * 2
    )  # grid units: the side is 2 long
    mirror = torch.where(sample_uniform(count, 0, 1, generator, images) < flip, -1.0, 1.0)
    cos, sin = factor * angle.cos(), factor * angle.sin()
    matrices = _stack_matrices([[mirror * cos, -sin, move[:, 0]], [mirror * sin, cos, move[:, 1]]])
    if shear:
        slant = (sample_uniform(count, -shear, shear, generator, images) * (math.pi / 180)).tan()
        one, zero = torch.ones_like(slant), torch.zeros_like(slant)
        matrices = matrices @ _stack_matrices([[one, slant, zero], [zero, one, zero]])
    if vertical_flip:
        upside = torch.where(sample_uniform(count, 0, 1, generator, images) < vertical_flip, -1.0, 1.0)
        one, zero = torch.ones_like(upside), torch.zeros_like(upside)
        matrices = matrices @ _stack_matrices([[one, zero, zero], [zero, upside, zero]])
    return matrices


def sample_crop_matrices(
    images: Tensor, generator: torch.Generator, *, min_area: float, aspect: float = 4 / 3
) -> Tensor:
    """Draw random resized crops as maps float32 (B, 3, 3) (Szegedy et al., "Going Deeper with Convolutions", 2015).

    The area of a crop is ``min_area`` to 1 of the picture's. Its width over height is 1/aspect to aspect, on a log scale.
    Sides longer than the picture's are cut.
    """
    count = len(images)
    area = sample_uniform(count, min_area, 1, generator, images).sqrt()
    ratio = sample_uniform(count, -math.log(aspect), math.log(aspect), generator, images).exp().sqrt()
    wide, tall = (area * ratio).clamp(max=1), (area / ratio).clamp(max=1)
    place = sample_uniform(2 * count, -1, 1, generator, images).view(count, 2)
    zero = torch.zeros_like(wide)
    return _stack_matrices([[wide, zero, place[:, 0] * (1 - wide)], [zero, tall, place[:, 1] * (1 - tall)]])


def sample_ten_crop_matrices(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one of the ten crops of ten-crop testing for each picture, as maps float32 (B, 3, 3).

    Training on one random crop costs a tenth of training on all ten, with the same mean gradient.
    """
    count, slack = len(images), 1 - TEN_CROP
    corner = torch.randint(0, 5, (count,), generator=generator)
    places = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    place = places[corner].to(images.device, non_blocking=True) * slack
    mirror = torch.where(sample_uniform(count, 0, 1, generator, images) < 0.5, -TEN_CROP, TEN_CROP)
    side, zero = torch.full_like(mirror, TEN_CROP), torch.zeros_like(mirror)
    return _stack_matrices([[mirror, zero, place[:, 0]], [zero, side, place[:, 1]]])


def _stack_matrices(rows: list[list[Tensor]]) -> Tensor:
    """Stack two rows of three tensors (B,), and the row 0 0 1, to matrices (B, 3, 3)."""
    one = torch.ones_like(rows[0][0])
    zero = torch.zeros_like(one)
    return torch.stack([*rows[0], *rows[1], zero, zero, one], dim=1).view(-1, 3, 3)


def warp_images(images: Tensor, matrices: Tensor) -> Tensor:
    """Resample (B, C, H, W) bilinearly by matrices (B, 3, 3).

    Outside the picture, the edge pixel is repeated, as the runtime does for a crop beyond the border.
    """
    grid = F.affine_grid(matrices[:, :2], list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def jitter_light(
    images: Tensor, generator: torch.Generator, *, brightness: float = 0.0, contrast: float = 0.0
) -> Tensor:
    """Multiply pixels by 1 ± brightness, and their distance from the mean of the picture by 1 ± contrast; clip to 0..1."""
    count = len(images)
    gain = (1 + sample_uniform(count, -brightness, brightness, generator, images)).view(-1, 1, 1, 1)
    stretch = (1 + sample_uniform(count, -contrast, contrast, generator, images)).view(-1, 1, 1, 1)
    images = images * gain
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * stretch + mean).clamp(0, 1)


def erase_rectangles(
    images: Tensor,
    generator: torch.Generator,
    *,
    probability: float,
    area: tuple[float, float] = (0.02, 0.2),
    aspect: tuple[float, float] = (0.3, 3.3),
    value: float = 0.5,
) -> Tensor:
    """Overwrite a random rectangle with ``value`` (Zhong et al., "Random Erasing Data Augmentation", 2017).

    Each picture is changed with the given ``probability``. ``area`` is the range of the rectangle's share of the picture,
    ``aspect`` the range of its height over its width, on a log scale.
    """
    count, _, height, width = images.shape
    side = sample_uniform(count, *area, generator, images).sqrt()
    ratio = sample_uniform(count, math.log(aspect[0]), math.log(aspect[1]), generator, images).exp().sqrt()
    tall, wide = (side * ratio).clamp(max=1) * height, (side / ratio).clamp(max=1) * width
    top = sample_uniform(count, 0, 1, generator, images) * (height - tall)
    left = sample_uniform(count, 0, 1, generator, images) * (width - wide)
    chosen = sample_uniform(count, 0, 1, generator, images) < probability
    y = torch.arange(height, device=images.device) + 0.5
    x = torch.arange(width, device=images.device) + 0.5
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])  # (B, H)
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])  # (B, W)
    inside = rows[:, None, :, None] & columns[:, None, None, :] & chosen[:, None, None, None]  # (B, 1, H, W)
    return images.masked_fill(inside, value)


def add_noise(
    images: Tensor, generator: torch.Generator, *, probability: float, deviation: tuple[float, float] = (0.01, 0.12)
) -> Tensor:
    """Add normal noise, as of a sensor in low light, to each picture with the given probability.

    All channels get the same noise. Its deviation is drawn uniformly from ``deviation``. The result is not clipped.
    """
    count = len(images)
    chosen = sample_uniform(count, 0, 1, generator, images) < probability
    strength = sample_uniform(count, *deviation, generator, images) * chosen
    noise = torch.randn(count, 1, *images.shape[2:], generator=generator).to(images.device, non_blocking=True)
    return images + noise * strength.view(-1, 1, 1, 1)


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of a recipe, in a fixed order. A strength of 0 disables a step.

    Crops and affine maps are combined to one resampling.
    """

    flip: float = 0.0
    vertical_flip: float = 0.0
    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    shear: float = 0.0
    crop: float = 0.0
    ten_crop: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment images float32 (B, C, H, W) in 0..1; the result has the same shape."""
        matrices = []
        if self.ten_crop:
            matrices.append(sample_ten_crop_matrices(images, generator))
        if self.crop:
            matrices.append(sample_crop_matrices(images, generator, min_area=self.crop))
        affine = ("flip", "vertical_flip", "degrees", "scale", "shift", "shear")
        if any(getattr(self, name) for name in affine):
            matrices.append(sample_affine_matrices(images, generator, **{name: getattr(self, name) for name in affine}))
        if matrices:
            images = warp_images(images, reduce(torch.matmul, matrices))
        if self.brightness or self.contrast:
            images = jitter_light(images, generator, brightness=self.brightness, contrast=self.contrast)
        if self.erasing:
            images = erase_rectangles(images, generator, probability=self.erasing)
        return images


def mixup(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each picture and its target with another one of the batch (Zhang et al., "mixup", 2018).

    images float32 (B, C, H, W), targets float32 (B, K) probabilities. One weight λ ~ Beta(alpha, alpha) for the batch.
    """
    weight = _sample_beta(alpha, generator)
    other = torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)
    return torch.lerp(images[other], images, weight), torch.lerp(targets[other], targets, weight)


def cutmix(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Replace a rectangle of each picture by that of another one, and mix the targets in proportion to the areas.

    images float32 (B, C, H, W), targets float32 (B, K) probabilities. One rectangle for the batch, with the area 1 − λ,
    λ ~ Beta(alpha, alpha), clipped to the picture.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers", 2019.
    """
    height, width = images.shape[2:]
    side = math.sqrt(1 - _sample_beta(alpha, generator))
    y, x = (int(torch.randint(0, size, (), generator=generator)) for size in (height, width))
    rows = slice(max(0, y - round(side * height / 2)), y + round(side * height / 2))
    columns = slice(max(0, x - round(side * width / 2)), x + round(side * width / 2))
    other = torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[other][:, :, rows, columns]
    kept_share = 1 - mixed[0, 0, rows, columns].numel() / (height * width)
    return mixed, torch.lerp(targets[other], targets, kept_share)


def _sample_beta(alpha: float, generator: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha). The distribution of torch takes no generator."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
