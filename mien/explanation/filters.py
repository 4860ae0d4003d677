"""Visualize filters: their weights, their outputs, activation maximization, and the faces that activate them most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.core.errors import UsageError
from mien.core.preprocessing import Preprocessing
from mien.explanation.guard import find_module, freeze_network, list_feature_maps, record_outputs, run_until_layer
from mien.training.preparation import normalize


@dataclass(frozen=True)
class ConvLayer:
    """A convolution: its dotted name, its filters, the channels that it reads, its kernel and its output's (H, W)."""

    name: str
    filters: int
    inputs: int
    kernel: tuple[int, int]
    resolution: tuple[int, int]


def list_convolutions(network: nn.Module, images: Tensor) -> list[ConvLayer]:
    """Return the convolutions in the order of execution, for images (N, C, S, S)."""
    modules = dict(network.named_modules())
    with freeze_network(network):
        shapes = list_feature_maps(network, images)
    layers = []
    for name, shape in shapes.items():
        module = modules[name]
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            layers.append(
                ConvLayer(name, module.out_channels, module.in_channels, (height, width), (shape[1], shape[2]))
            )
    return layers


def find_convolution(network: nn.Module, name: str) -> nn.Conv2d:
    """Return a convolution by its name. Raises UsageError for any other module."""
    module = find_module(network, name)
    if not isinstance(module, nn.Conv2d):
        raise UsageError(f"layer '{name}'", f"is no convolution but a {type(module).__name__}",
                         "choose a convolution")  # fmt: skip
    return module


def list_blocks(network: nn.Module, prefix: str = "") -> list[str]:
    """Return the dotted names of the blocks that contain convolutions.

    A stage that only holds other blocks is opened; a sequence of layers, a residual block and a single convolution are
    one each.
    """
    blocks = []
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        if not any(isinstance(module, nn.Conv2d) for module in child.modules()):
            continue
        stage = isinstance(child, nn.Sequential) and all(any(True for _ in each.children()) for each in child)
        if stage or isinstance(child, nn.ModuleList) or isinstance(network, nn.ModuleList):
            blocks += list_blocks(child, f"{path}.")  # an ensemble's list of members, and the members in it
        else:
            blocks.append(path)
    return blocks


def compute_block_outputs(network: nn.Module, image: Tensor) -> dict[str, np.ndarray]:
    """Return the outputs of all blocks for one picture (1, C, S, S): name → float32 (filters, H, W)."""
    names = list_blocks(network)
    with freeze_network(network), torch.no_grad(), record_outputs(network, names) as outputs:
        network(image)
        return {name: outputs[name][0].cpu().numpy() for name in names if name in outputs and outputs[name].ndim == 4}


def compute_layer_output(network: nn.Module, image: Tensor, name: str) -> np.ndarray:
    """Return the output of one layer for one picture (1, C, S, S): float32 (filters, H, W)."""
    with freeze_network(network), torch.no_grad():
        return run_until_layer(network, image, name)[0].cpu().numpy()


def make_white_noise(count: int, preprocessing: Preprocessing, seed: int = 0, spread: float = 0.05) -> Tensor:
    """Return white noise around middle gray in units of 0..1 pixels: float32 (count, C, S, S)."""
    shape = (count, preprocessing.channels, preprocessing.size, preprocessing.size)
    return 0.5 + spread * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Regularization:
    """What keeps pictures that a filter likes from being noise that it likes (Olah et al., "Feature Visualization",
    2017).

    jitter     before each step the picture is moved by up to so many pixels in each direction, so that nothing hangs on
               one place
    blur       standard deviation in pixels of the Gaussian that is laid over it after every fourth step
    decay      share by which each step draws it back to the middle gray
    frequency  weight λ of the penalty ½ λ Σ (difference of neighbors)², whose gradient step is λ times the Laplacian;
               by Parseval's theorem it is the power at each frequency weighted with the frequency's square
    """

    jitter: int = 2
    blur: float = 0.5
    decay: float = 0.01
    frequency: float = 0.05


def maximize_activations(
    network: nn.Module,
    layer: str,
    filters: Sequence[int],
    preprocessing: Preprocessing,
    *,
    regularization: Regularization | None = None,
    steps: int = 64,
    step: float = 0.02,
    seed: int = 0,
    batch_size: int = 32,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Maximize the activation of filters by gradient ascent from white noise.

    Each step adds ``step`` · g / rms(g), with g the gradient of the filter's mean activation with respect to the
    picture and rms its root mean square: R4's plain rule. With a regularization the picture also stays in 0..1 and
    smooth.

    Args:
        layer: a convolution; its own output counts, before norm and rectifier.
        filters: which of its filters; each has a picture of its own.
        step: in units of 0..1 pixels.
        batch_size: filters at a time; a picture does not depend on the others.

    Returns:
        pictures float32 (F, C, S, S) in units of 0..1 pixels, and activations float32 (F, 2): of the noise, and of the
        picture.
    """
    find_convolution(network, layer)
    pictures, activations = [], []
    noise = make_white_noise(max(filters, default=-1) + 1, preprocessing, seed)
    with freeze_network(network):
        for start in range(0, len(filters), batch_size):
            some = torch.as_tensor(filters[start : start + batch_size])
            ascended = noise[some]  # a filter's noise is its own, whichever filters are asked for
            before = _compute_activations(network, layer, some, ascended, preprocessing)[0]
            generator = torch.Generator().manual_seed(seed + 1)
            for number in range(steps):
                ascended = _ascend_step(
                    network, layer, some, ascended, preprocessing, step, regularization, number, generator
                )
            after = _compute_activations(network, layer, some, ascended, preprocessing)[0]
            pictures.append(ascended)
            activations.append(torch.stack([before, after], dim=1))
            if advance is not None:
                advance(len(some))
    return torch.cat(pictures).numpy(), torch.cat(activations).numpy()


def _compute_activations(
    network: nn.Module, layer: str, filters: Tensor, pixels: Tensor, preprocessing: Preprocessing
) -> tuple[Tensor, Tensor]:
    """Return the mean activation of each picture's filter (F,), and its gradient (F, C, S, S)."""
    pixels = pixels.detach().requires_grad_()
    output = run_until_layer(network, normalize(pixels, preprocessing), layer)
    means = output[torch.arange(len(filters)), filters].mean(dim=(1, 2))
    return means.detach(), torch.autograd.grad(means.sum(), pixels)[0]


def _ascend_step(
    network: nn.Module,
    layer: str,
    filters: Tensor,
    pixels: Tensor,
    preprocessing: Preprocessing,
    step: float,
    regularization: Regularization | None,
    number: int,
    generator: torch.Generator,
) -> Tensor:
    if regularization is None:
        gradient = _compute_activations(network, layer, filters, pixels, preprocessing)[1]
        return pixels + step * gradient / (gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-8)
    reach = regularization.jitter
    moved = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
    gradient = _compute_activations(network, layer, filters, pixels.roll(moved, (2, 3)), preprocessing)[1]
    gradient = gradient.roll([-moved[0], -moved[1]], (2, 3))
    gradient = gradient / (gradient.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-8)
    pixels = pixels + step * gradient + regularization.frequency * compute_laplacian(pixels)
    pixels = (0.5 + (1 - regularization.decay) * (pixels - 0.5)).clamp(0, 1)
    return _blur_pixels(pixels, regularization.blur) if number % 4 == 3 else pixels


def compute_laplacian(pixels: Tensor) -> Tensor:
    """Return the sum of the differences to the four neighbors, (N, C, H, W); border pixels are repeated."""
    padded = F.pad(pixels, [1] * 4, mode="replicate")
    around = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return around - 4 * pixels


def _blur_pixels(pixels: Tensor, sigma: float) -> Tensor:
    if sigma <= 0:
        return pixels
    distance = torch.arange(-2, 3, dtype=pixels.dtype)
    kernel = torch.exp(-((distance / sigma) ** 2) / 2)
    kernel = (kernel / kernel.sum()).expand(pixels.shape[1], 1, -1)
    padded = F.pad(pixels, [2] * 4, mode="replicate")
    groups = pixels.shape[1]
    return F.conv2d(F.conv2d(padded, kernel[:, :, :, None], groups=groups), kernel[:, :, None], groups=groups)


def standardize_pictures(pictures: np.ndarray) -> np.ndarray:
    """Standardize each picture (F, C, S, S) to mean 0 and standard deviation 1, as R4 shows them."""
    mean = pictures.mean(axis=(1, 2, 3), keepdims=True)
    return (pictures - mean) / np.maximum(pictures.std(axis=(1, 2, 3), keepdims=True), 1e-8)


def find_strongest_pictures(
    network: nn.Module,
    layer: str,
    filters: Sequence[int],
    images: np.ndarray,
    preprocessing: Preprocessing,
    *,
    count: int = 4,
    batch_size: int = 128,
    advance: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the pictures of a data set, uint8 (N, H, W[, 3]), with the largest mean activation of each filter.

    Returns rows int64 (F, count) and activations float32 (F, count), the strongest first; fewer where there are fewer
    pictures.
    """
    find_convolution(network, layer)
    parts = []
    with freeze_network(network), torch.no_grad():
        for start in range(0, len(images), batch_size):
            some = torch.from_numpy(preprocessing.to_tensor(images[start : start + batch_size]))
            parts.append(run_until_layer(network, some, layer).mean(dim=(2, 3))[:, list(filters)].numpy())
            if advance is not None:
                advance(len(some))
    activations = np.concatenate(parts)  # (N, F)
    rows = np.argsort(-activations, axis=0, kind="stable")[:count].T
    return rows, np.take_along_axis(activations.T, rows, axis=1)
