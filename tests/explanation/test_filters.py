from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mien.core.errors import UsageError
from mien.core.preprocessing import Preprocessing
from mien.explanation.filters import (
    Regularization,
    compute_block_outputs,
    compute_laplacian,
    compute_layer_output,
    find_convolution,
    find_strongest_pictures,
    list_blocks,
    list_convolutions,
    make_white_noise,
    maximize_activations,
    standardize_pictures,
)
from mien.models import MODELS, build_network
from tests.conftest import patterns

INPUT = Preprocessing(size=16, mean=(0.5,), std=(0.25,))


def small() -> nn.Module:
    torch.manual_seed(0)
    return MODELS["residual"](num_classes=7, widths=(4, 8), blocks=1)


def test_the_convolutions_in_their_order() -> None:
    found = list_convolutions(small(), torch.zeros(1, 1, 16, 16))
    assert [layer.name for layer in found] == [
        "stem.1", "stages.0.0.conv1", "stages.0.0.conv2",
        "stages.1.0.conv1", "stages.1.0.conv2", "stages.1.0.shortcut.0",
    ]  # fmt: skip
    assert (found[0].filters, found[0].inputs, found[0].kernel, found[0].resolution) == (4, 4, (3, 3), (8, 8))
    assert (found[-1].kernel, found[-1].resolution) == ((1, 1), (4, 4))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("residual", ["stem", "stages.0.0", "stages.0.1", "stages.1.0", "stages.1.1", "stages.2.0", "stages.2.1"]),
        ("r1-lenet", ["conv1", "conv2"]),
        ("r1-final", ["conv1", "conv2", "conv3"]),
        ("r4-cnn", ["stages.0", "stages.1", "stages.2", "stages.3"]),
        ("r5-resnet17", ["stem", "stages.0", "stages.1", "stages.2", "stages.3"]),
    ],
)
def test_blocks_are_those_of_the_author(name: str, expected: list[str]) -> None:
    network = MODELS[name](num_classes=7)
    assert list_blocks(network) == expected
    outputs = compute_block_outputs(network, torch.zeros(1, 1, 48, 48))
    assert list(outputs) == expected
    assert all(values.ndim == 3 for values in outputs.values())
    assert network.training


def test_blocks_of_an_ensemble_are_those_of_its_members() -> None:
    member = {"name": "r1-lenet", "arguments": {"num_classes": 7}, "mean": [0.5], "std": [0.3], "temperature": 1.0}
    network = build_network("ensemble", members=[member, member], weights=[0.5, 0.5])
    expected = ["networks.0.conv1", "networks.0.conv2", "networks.1.conv1", "networks.1.conv2"]
    assert list(compute_block_outputs(network, torch.zeros(1, 1, 48, 48))) == expected


def test_a_layers_output_is_what_it_gives_in_a_whole_pass() -> None:
    network, seen = small().eval(), []
    handle = network.stages[0][0].conv2.register_forward_hook(lambda m, i, output: seen.append(output))
    x = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        network(x)
    handle.remove()
    np.testing.assert_array_equal(compute_layer_output(network, x, "stages.0.0.conv2"), seen[0][0].numpy())


class Sums(nn.Module):
    """Filter 0 has the mean pixel as its output, filter 1 its negative; more layers behind must not run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        self.conv(images)
        raise AssertionError("what lies behind the layer is not needed")


def test_plain_ascent_by_hand() -> None:
    """The gradient is constant, so that each step adds (or takes) ``step`` everywhere."""
    noise = make_white_noise(2, INPUT, seed=3)
    made, activations = maximize_activations(Sums(), "conv", [0, 1], INPUT, steps=5, step=0.01, seed=3)
    np.testing.assert_allclose(made[0], noise[0].numpy() + 0.05, atol=1e-5)
    np.testing.assert_allclose(made[1], noise[1].numpy() - 0.05, atol=1e-5)
    means = [(float(noise[0].mean()) - 0.5) / 0.25, -(float(noise[1].mean()) - 0.5) / 0.25]
    np.testing.assert_allclose(activations[:, 0], means, atol=1e-5)
    np.testing.assert_allclose(activations[:, 1] - activations[:, 0], 0.05 / 0.25, atol=1e-5)


@pytest.mark.parametrize("regularization", [None, Regularization()])
def test_ascent_excites_and_does_not_depend_on_the_batch(regularization: Regularization | None) -> None:
    network, layer = small(), "stages.1.0.conv1"
    options = {"regularization": regularization, "steps": 12}
    made, activations = maximize_activations(network, layer, range(8), INPUT, **options)
    assert made.shape == (8, 1, 16, 16)
    gained = activations[:, 1] - activations[:, 0]
    assert gained.min() > 0 if regularization is None else gained.mean() > 0.01
    some, _ = maximize_activations(network, layer, [5, 2], INPUT, batch_size=1, **options)
    np.testing.assert_allclose(some, made[[5, 2]], atol=1e-4)
    again, _ = maximize_activations(network, layer, range(8), INPUT, **options)
    np.testing.assert_array_equal(again, made)
    other, _ = maximize_activations(network, layer, range(8), INPUT, seed=1, **options)
    assert np.abs(other - made).max() > 0.01
    assert network.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_regularized_pictures_are_smoother_and_stay_pictures() -> None:
    network = small()
    plain, _ = maximize_activations(network, "stem.1", range(4), INPUT, steps=24)
    smooth, _ = maximize_activations(network, "stem.1", range(4), INPUT, steps=24, regularization=Regularization())
    roughness = [np.abs(np.diff(standardize_pictures(made), axis=3)).mean() for made in (plain, smooth)]
    assert roughness[1] < 0.9 * roughness[0]
    assert smooth.min() >= 0
    assert smooth.max() <= 1


def test_the_laplacian_is_the_gradient_of_the_penalty() -> None:
    pixels = torch.randn(1, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    down, right = pixels.diff(dim=2), pixels.diff(dim=3)
    penalty = ((down**2).sum() + (right**2).sum()) / 2
    torch.testing.assert_close(-torch.autograd.grad(penalty, pixels)[0], compute_laplacian(pixels.detach()))


def test_the_most_exciting_faces_are_those_of_a_full_pass() -> None:
    network, faces = small(), patterns(40)
    given = Preprocessing(mean=(0.5,), std=(0.25,))
    rows, values = find_strongest_pictures(
        network, "stages.0.0.conv1", [3, 0], faces.images, given, count=3, batch_size=7
    )
    outputs = np.stack(
        [compute_layer_output(network, torch.from_numpy(given.to_tensor(face[None])), "stages.0.0.conv1") for face in faces.images]
    )  # fmt: skip
    means = outputs.mean(axis=(2, 3))[:, [3, 0]].T  # (filters, faces)
    np.testing.assert_array_equal(rows, np.argsort(-means, axis=1)[:, :3])
    np.testing.assert_allclose(values, np.sort(means, axis=1)[:, ::-1][:, :3], atol=1e-5)


def test_wrong_layers() -> None:
    with pytest.raises(UsageError, match=r"layer 'conv9': is not in this network; choose one of stem.1,"):
        find_convolution(small(), "conv9")
    with pytest.raises(UsageError, match=r"layer 'head': is no convolution but a Linear"):
        find_convolution(small(), "head")


def test_hooks_are_gone_after_an_error() -> None:
    network = small()
    with pytest.raises(RuntimeError):
        compute_layer_output(network, torch.zeros(1, 3, 16, 16), "stages.0.0.conv1")
    assert not any(module._forward_hooks for module in network.modules())
    assert network.training
