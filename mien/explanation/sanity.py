"""Sanity checks of maps: deletion and insertion of pixels in their order, against random maps and a random network.

A map with bright spots on eyes and mouth looks convincing even if it is wrong. Two tests: does the class's probability
fall faster when the map's pixels go first than when pixels go at random (Petsiuk et al., "RISE", 2018)? And
does the map change when the network's weights are replaced by random ones (Adebayo et al., "Sanity Checks for Saliency
Maps", 2018)?
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.explanation.gradients import make_baseline
from mien.explanation.guard import freeze_network

#: Maps that do not depend on the face: single pixels, and blobs as coarse as a last feature map. Which one is the fair
#: control depends on the method: single pixels taken from everywhere ruin a picture sooner than any patch does.
CONTROLS = ("random pixels", "random blobs")

#: How far the blobs' grid is from the pixels': 6×6 values are drawn out to the size of the picture.
_BLOBS = 6


@dataclass(frozen=True)
class Curves:
    """Probabilities of the target after each step, float32 (N, steps + 1); at step i a share i / steps of the pixels
    has changed.

    deletion: from the picture to a plain gray, the map's largest values first; insertion: from a blurred copy to the
        picture.
    """

    deletion: np.ndarray
    insertion: np.ndarray

    def compute_areas(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the areas below both curves by trapezoids, each (N,) in 0..1. For a good map the first is small, the
        second large."""
        return compute_area(self.deletion), compute_area(self.insertion)


def compute_area(curves: np.ndarray) -> np.ndarray:
    """Return the area under each curve (N, steps + 1) by the trapezoidal rule: (N,)."""
    return ((curves[:, 1:] + curves[:, :-1]) / 2).mean(axis=1)


def compute_curves(
    network: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    maps: np.ndarray,
    *,
    steps: int = 16,
    temperature: float = 1.0,
    batch_size: int = 64,
    advance: Callable[[int], None] | None = None,
) -> Curves:
    """Compute deletion and insertion curves of maps float32 (N, H, W) for inputs (N, C, H, W) and targets int64 (N,).

    Deleted pixels take the picture's mean, inserted ones come into a copy blurred by a twelfth of its side. Equal
    values of a map are taken in a random order, the same for every picture.
    """
    with freeze_network(network), torch.no_grad():
        parts = []
        for start in range(0, len(inputs), batch_size):
            rows = slice(start, start + batch_size)
            order = torch.from_numpy(rank_pixels(maps[rows]))
            ends = make_baseline(inputs[rows], None), blur_images(inputs[rows])
            walks = ((inputs[rows], ends[0]), (ends[1], inputs[rows]))  # from what to what
            parts.append([_replace_pixels(network, *walk, targets[rows], order, steps, temperature) for walk in walks])
            if advance is not None:
                advance(len(order))
    deletion, insertion = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Curves(deletion, insertion)


def rank_pixels(maps: np.ndarray) -> np.ndarray:
    """Return each map's pixels from the largest to the smallest value, ties in random order: int64 (N, H·W)."""
    flat = maps.reshape(len(maps), -1)
    shuffled = np.random.default_rng(0).permutation(flat.shape[1])
    return shuffled[np.argsort(-flat[:, shuffled], axis=1, kind="stable")]


def blur_images(images: Tensor) -> Tensor:
    """Blur (N, C, H, W) with a Gaussian whose standard deviation is a twelfth of the side, borders mirrored."""
    sigma = images.shape[-1] / 12
    reach = min(round(2.5 * sigma), images.shape[-1] - 1)
    distance = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-((distance / sigma) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, -1)  # (C, 1, taps)
    channels = images.shape[1]
    padded = F.pad(images, [reach] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel[:, :, None], groups=channels), kernel[:, :, :, None], groups=channels)


def _replace_pixels(
    network: nn.Module, here: Tensor, there: Tensor, targets: Tensor, order: Tensor, steps: int, temperature: float
) -> np.ndarray:
    """Return probabilities (N, steps + 1) from one set of pictures to another, pixels changing in ``order`` (N, H·W)."""
    count, pixels = order.shape
    shape = here.shape[2:]
    device = next(network.parameters()).device
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(pixels).expand(count, -1))
    columns = []
    for step in range(steps + 1):
        changed = (rank < round(step / steps * pixels)).view(count, 1, *shape)
        logits = network(torch.where(changed, there, here).to(device)).cpu()
        columns.append(torch.softmax(logits / temperature, dim=1).gather(1, targets[:, None])[:, 0])
    return torch.stack(columns, dim=1).numpy()


def make_random_maps(count: int, size: int, kind: str, seed: int = 0) -> np.ndarray:
    """Return random maps, float32 (count, size, size) in 0..1; ``kind`` is one of CONTROLS."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "random pixels":
        return torch.rand(count, size, size, generator=generator).numpy()
    coarse = torch.rand(count, 1, _BLOBS, _BLOBS, generator=generator)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[:, 0].clamp(0, 1).numpy()


def randomize_network(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return a copy with random weights: layers are reset, or their weights shuffled if they cannot be reset."""
    fresh = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in fresh.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                continue
            for parameter in module.parameters(recurse=False):
                shuffled = parameter.flatten()[torch.randperm(parameter.numel(), generator=generator)]
                parameter.copy_(shuffled.view_as(parameter))
    return fresh


def compute_rank_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Spearman's correlation of |values| of maps (N, H, W), picture by picture: (N,) in -1..1; 0 for a constant map."""
    one, two = (np.stack([_rank_values(np.abs(each).ravel()) for each in maps]) for maps in (first, second))
    one, two = one - one.mean(axis=1, keepdims=True), two - two.mean(axis=1, keepdims=True)
    norms = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    return (one * two).sum(axis=1) / np.where(norms > 0, norms, 1)


def _rank_values(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0; equal values share their mean rank."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[which]


def bootstrap_difference(values: np.ndarray, control: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Return the mean of values − control over the same faces, with its 95 % bootstrap interval (2,000 draws of faces)."""
    differences = values.astype(np.float64) - control
    rng = np.random.default_rng(seed)
    drawn = differences[rng.integers(0, len(differences), (2000, len(differences)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "difference": round(float(differences.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
    }
