"""Random changes to a batch of faces, made for the whole batch at once on the device where it lies.

Every function takes float32 images (B, C, H, W) in 0..1 and a CPU torch.Generator, so that one seed gives one result
on every device. Only the random numbers, a few for each picture, travel, and a GPU does not wait for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(count: int, low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    """float32 (count,) drawn evenly from low..high, on the device of ``like``."""
    return (torch.rand(count, generator=generator) * (high - low) + low).to(like.device, non_blocking=True)


def random_affine(
    images: Tensor,
    generator: torch.Generator,
    *,
    flip: float = 0.0,
    degrees: float = 0.0,
    scale: float = 0.0,
    shift: float = 0.0,
) -> Tensor:
    """Mirror (with probability ``flip``), rotate by ±degrees, scale by 1 ± scale, shift by ±shift of the side.

    One bilinear resampling does all four. Beyond the edge the edge pixel is repeated, as the runtime does for a crop
    that reaches over the picture's border.
    """
    count = len(images)
    angle = uniform(count, -degrees, degrees, generator, images) * (math.pi / 180)
    factor = 1 / (1 + uniform(count, -scale, scale, generator, images))
    move = uniform(2 * count, -shift, shift, generator, images).view(count, 2) * 2  # grid units: the side is 2 long
    mirror = torch.where(uniform(count, 0, 1, generator, images) < flip, -1.0, 1.0)
    cos, sin = factor * angle.cos(), factor * angle.sin()
    matrix = torch.stack([mirror * cos, -sin, move[:, 0], mirror * sin, cos, move[:, 1]], dim=1).view(count, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def random_light(
    images: Tensor, generator: torch.Generator, *, brightness: float = 0.0, contrast: float = 0.0
) -> Tensor:
    """Multiply pixels by 1 ± brightness, then their distance from the picture's mean by 1 ± contrast; stay in 0..1."""
    count = len(images)
    gain = (1 + uniform(count, -brightness, brightness, generator, images)).view(-1, 1, 1, 1)
    stretch = (1 + uniform(count, -contrast, contrast, generator, images)).view(-1, 1, 1, 1)
    images = images * gain
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * stretch + mean).clamp(0, 1)


def random_erasing(
    images: Tensor,
    generator: torch.Generator,
    *,
    probability: float,
    area: tuple[float, float] = (0.02, 0.2),
    aspect: tuple[float, float] = (0.3, 3.3),
    value: float = 0.5,
) -> Tensor:
    """Overwrite one rectangle of a picture with ``value`` (Zhong et al., "Random Erasing Data Augmentation", 2017).

    ``area`` is the rectangle's share of the picture, ``aspect`` its height over its width, drawn on a log scale.
    """
    count, _, height, width = images.shape
    side = uniform(count, *area, generator, images).sqrt()
    ratio = uniform(count, math.log(aspect[0]), math.log(aspect[1]), generator, images).exp().sqrt()
    tall, wide = (side * ratio).clamp(max=1) * height, (side / ratio).clamp(max=1) * width
    top = uniform(count, 0, 1, generator, images) * (height - tall)
    left = uniform(count, 0, 1, generator, images) * (width - wide)
    chosen = uniform(count, 0, 1, generator, images) < probability
    y = torch.arange(height, device=images.device) + 0.5
    x = torch.arange(width, device=images.device) + 0.5
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])  # (B, H)
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])  # (B, W)
    inside = rows[:, None, :, None] & columns[:, None, None, :] & chosen[:, None, None, None]  # (B, 1, H, W)
    return images.masked_fill(inside, value)


@dataclass(frozen=True)
class Augmentation:
    """The random changes of one recipe, applied in a fixed order; a strength of 0 leaves its step out."""

    flip: float = 0.0
    degrees: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """float32 (B, C, H, W) in 0..1 → the same, changed."""
        if self.flip or self.degrees or self.scale or self.shift:
            images = random_affine(
                images, generator, flip=self.flip, degrees=self.degrees, scale=self.scale, shift=self.shift
            )
        if self.brightness or self.contrast:
            images = random_light(images, generator, brightness=self.brightness, contrast=self.contrast)
        if self.erasing:
            images = random_erasing(images, generator, probability=self.erasing)
        return images


def mixup(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each picture and its target blended with another of the batch (Zhang et al., "mixup", 2018).

    images (B, C, H, W), targets (B, K) probabilities; one weight λ ~ Beta(alpha, alpha) a batch.
    """
    seed = int(torch.randint(2**62, (), generator=generator))  # torch's own Beta takes no generator
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    other = torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)
    return torch.lerp(images[other], images, weight), torch.lerp(targets[other], targets, weight)
