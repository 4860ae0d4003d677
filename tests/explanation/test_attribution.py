from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.core.errors import MissingExtra, UsageError
from mien.explanation.attribution import METHODS, SIGNED, compute_attributions, compute_importance
from mien.explanation.gradients import compute_target_logits, integrated_gradients
from mien.models import MODELS, build_network
from mien.models.ensemble import Ensemble

GRADIENTS = ["gradient", "normalized-gradient", "smoothgrad", "integrated-gradients", "guided-backprop"]


class Linear(nn.Module):
    """logits_c = Σ w_c x, so that every attribution is known."""

    def __init__(self, channels: int = 1, size: int = 6, classes: int = 3) -> None:
        super().__init__()
        weights = torch.randn(classes, channels, size, size, generator=torch.Generator().manual_seed(1))
        self.weights = nn.Parameter(weights)

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.weights)


class Functional(nn.Module):
    """Two convolutions whose rectifiers are no modules; ``modules`` is the same network with modules."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.second(F.relu(self.first(images))))
        return self.head(maps.mean(dim=(2, 3)))

    def as_modules(self) -> nn.Sequential:
        return nn.Sequential(
            self.first, nn.ReLU(), self.second, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), self.head
        )


def pictures(count: int = 3, channels: int = 2, size: int = 12) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(2))


TARGETS = torch.tensor([0, 2, 1])


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_gradients_of_a_linear_network_are_its_weights() -> None:
    network, x = Linear(channels=2), pictures(size=6)
    weights = network.weights.detach()[TARGETS]  # (3, 2, 6, 6)
    np.testing.assert_allclose(compute_attributions(network, x, TARGETS, "gradient"), weights.abs().amax(1), rtol=1e-6)
    np.testing.assert_allclose(
        compute_attributions(network, x, TARGETS, "smoothgrad"), weights.abs().amax(1), rtol=1e-5
    )
    np.testing.assert_allclose(compute_attributions(network, x, TARGETS, "guided-backprop"), weights.sum(1), rtol=1e-6)
    expected = (x - x.mean(dim=(2, 3), keepdim=True)) * weights
    np.testing.assert_allclose(
        compute_attributions(network, x, TARGETS, "integrated-gradients"), expected.sum(1), atol=1e-5
    )
    black = compute_attributions(network, x, TARGETS, "integrated-gradients", baseline=0.0)
    np.testing.assert_allclose(black, (x * weights).sum(1), atol=1e-5)


def test_the_normalized_gradient_is_r4s() -> None:
    network, x = Linear(), pictures(channels=1, size=6)
    found = compute_attributions(network, x, TARGETS, "normalized-gradient")
    for one, target in zip(found, TARGETS, strict=True):
        g = network.weights.detach()[target, 0].numpy()
        g = (g - g.mean()) / g.std(ddof=1)
        np.testing.assert_allclose(one, g / g.max(), atol=1e-5)
    np.testing.assert_allclose(found.max(axis=(1, 2)), 1, atol=1e-6)


def test_occlusion_of_a_linear_network() -> None:
    network, x = Linear(), pictures(channels=1, size=6)
    change = (x - x.mean(dim=(2, 3), keepdim=True))[:, 0] * network.weights.detach()[TARGETS, 0]  # lost with each pixel
    single = compute_attributions(network, x, TARGETS, "occlusion", window=1, stride=1)
    np.testing.assert_allclose(single, change, atol=1e-5)
    # Squares of 3 at 0, 2 and (the border) 3: pixel (0, 0) lies in one, (2, 2) in four.
    squares = F.unfold(change[:, None], 3).sum(dim=1).view(3, 4, 4)
    found = compute_attributions(network, x, TARGETS, "occlusion", window=3, stride=2)
    np.testing.assert_allclose(found[:, 0, 0], squares[:, 0, 0], atol=1e-5)
    np.testing.assert_allclose(found[:, 2, 2], squares[:, [0, 0, 2, 2], [0, 2, 0, 2]].mean(dim=1), atol=1e-5)
    np.testing.assert_allclose(found[:, 5, 5], squares[:, 3, 3], atol=1e-5)


def test_grad_cam_by_hand() -> None:
    # A¹ = x, A² = −x; logits = mean(A) · head: α¹ = w₁ / 4, α² = w₂ / 4 on 2×2 positions.
    convolution, head = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        head.weight.copy_(torch.tensor([[3.0, 1.0], [0.0, 2.0]]))
    network = nn.Sequential(convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    x = torch.tensor([[[[1.0, 2.0], [-3.0, 0.5]]]])
    np.testing.assert_allclose(
        compute_attributions(network, x, [0], "grad-cam"), [[[0.5, 1], [0, 0.25]]], atol=1e-6
    )  # (3 − 1)/4 · x
    np.testing.assert_allclose(
        compute_attributions(network, x, [1], "grad-cam"), [[[0, 0], [1.5, 0]]], atol=1e-6
    )  # −2/4 · x


def test_guided_backprop_keeps_the_slopes_of_leaky_rectifiers() -> None:
    class Leaky(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.tensor([0.2]))

        def forward(self, images: Tensor) -> Tensor:
            values = F.prelu(F.leaky_relu(images, 0.1), self.slope).flatten(1)
            return torch.stack([values @ torch.tensor([2.0, -1.0, 3.0, 0.0]), values.sum(1)], dim=1)

    x = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    np.testing.assert_allclose(
        compute_attributions(Leaky(), x, [0], "guided-backprop"), [[[2, 0], [3 * 0.2 * 0.1, 0]]], atol=1e-6
    )


# ---- against captum --------------------------------------------------------------------------------------------------


def test_against_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    functional, x = Functional(), pictures()
    network = functional.as_modules().eval()

    def summed(values: Tensor) -> np.ndarray:
        return values.sum(dim=1).detach().numpy()

    def same(method: str, expected: np.ndarray, **options: object) -> None:
        for each in (network, functional):
            np.testing.assert_allclose(compute_attributions(each, x, TARGETS, method, **options), expected, atol=1e-5)

    same("gradient", captum.Saliency(network).attribute(x, target=TARGETS).amax(1).numpy())
    same("guided-backprop", summed(captum.GuidedBackprop(network).attribute(x, target=TARGETS)))
    integrated = captum.IntegratedGradients(network)
    same(
        "integrated-gradients",
        summed(integrated.attribute(x, 0.0, TARGETS, n_steps=40, method="riemann_middle")),
        baseline=0.0,
        steps=40,
        most_steps=40,
    )
    covered = captum.Occlusion(network).attribute(x, (2, 4, 4), (2, 2, 2), baselines=0.0, target=TARGETS)
    same("occlusion", covered[:, 0].detach().numpy(), baseline=0.0, window=4, stride=2)
    cam = captum.LayerGradCam(network, network[3]).attribute(x, TARGETS, relu_attributions=False)
    expected = F.interpolate(cam, size=(12, 12), mode="bilinear", align_corners=False).relu()[:, 0].detach().numpy()
    np.testing.assert_allclose(compute_attributions(network, x, TARGETS, "grad-cam"), expected, atol=1e-5)


def test_lime_finds_the_patch_that_decides() -> None:
    pytest.importorskip("captum")

    class Corner(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            patch = images[:, 0, :12, :12].mean(dim=(1, 2))
            return torch.stack([10 * patch, -10 * patch], dim=1)

    x = torch.zeros(1, 1, 48, 48)
    x[:, :, :12, :12] = 1
    found = compute_attributions(Corner(), x, [0], "lime", baseline=0.0, samples=200, segments=16)
    assert found[0, :11, :11].min() > 10 * np.abs(found[0, 14:, 14:]).max()
    assert found[0, 5, 5] == pytest.approx(10, rel=0.15)  # covering it takes all of the logit
    again = compute_attributions(Corner(), x.repeat(2, 1, 1, 1), [0, 1], "lime", baseline=0.0, samples=200, segments=16)
    np.testing.assert_allclose(again[0], found[0], atol=1e-5)
    np.testing.assert_allclose(again[1], -found[0], atol=1e-4)


# ---- properties ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_integrated_gradients_are_complete_to_one_per_cent() -> None:
    """Σ map = S_c(x) − S_c(b) on the shipped network, for the class that it reads in stripes it was never shown."""
    from mien.training.torch_classifier import open_trained_model
    from tests.conftest import patterns

    trained = open_trained_model("base")
    x = torch.from_numpy(trained.preprocessing.to_tensor(patterns(6).images))
    with torch.no_grad():
        targets = trained.network(x).argmax(dim=1)
        plain = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
        gained = compute_target_logits(trained.network, x, targets) - compute_target_logits(
            trained.network, plain, targets
        )
    found = compute_attributions(trained.network, x, targets, "integrated-gradients").sum(axis=(1, 2))
    np.testing.assert_allclose(found, gained, rtol=0.01)


def test_midpoints_are_used_again_when_their_number_triples() -> None:
    network = Functional().eval()
    x = pictures()
    once = integrated_gradients(network, x, TARGETS, steps=9, most_steps=9)
    grown = integrated_gradients(network, x, TARGETS, steps=3, most_steps=9, tolerance=0)
    torch.testing.assert_close(once, grown, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_does_not_depend_on_its_neighbors(method: str) -> None:
    network, x = Functional().eval(), pictures()
    together = compute_attributions(network, x, TARGETS, method)
    assert together.shape == (3, 12, 12)
    assert together.dtype == np.float32
    alone = [compute_attributions(network, x[n : n + 1], TARGETS[n : n + 1], method)[0] for n in range(3)]
    np.testing.assert_allclose(np.stack(alone), together, atol=1e-5)
    np.testing.assert_allclose(compute_attributions(network, x, TARGETS, method, batch_size=2), together, atol=1e-5)
    if method not in SIGNED:
        assert together.min() >= 0


@pytest.mark.parametrize("name", ["r1-lenet", "r4-cnn", "r5-resnet17", "r1-resnet18"])
def test_the_reference_networks_can_be_explained(name: str) -> None:
    torch.manual_seed(0)
    network = MODELS[name](num_classes=7)
    x = torch.randn(2, 1, 48, 48)
    for method in ("guided-backprop", "grad-cam", "gradient"):
        found = compute_attributions(network, x, [0, 6], method)
        assert found.shape == (2, 48, 48)
        assert np.isfinite(found).all()
    assert network.training


def test_grad_cam_looks_behind_the_last_convolution_and_before_the_pool() -> None:
    from mien.explanation.gradcam import find_last_feature_maps

    def layer(name: str, **arguments: object) -> list[str]:
        return find_last_feature_maps(build_network(name, num_classes=7, **arguments).eval(), torch.zeros(1, 1, 48, 48))

    assert layer("residual") == ["stages"]
    assert layer("r5-vgg10") == ["stages.3.5"]  # the rectifier, not the pool behind it
    assert layer("r4-cnn") == ["stages.3.5"]
    assert layer("r1-lenet") == ["relu2"]


def test_grad_cam_of_an_ensemble_adds_its_members() -> None:
    torch.manual_seed(0)
    network = MODELS["residual"](num_classes=7, widths=(4, 8), blocks=1).eval()
    member = {"mean": [0.5], "std": [0.25], "temperature": 2.0}
    x = torch.rand(2, 1, 16, 16)

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Tensor) -> Tensor:
            return torch.log_softmax(self.network((images - 0.5) / 0.25) / 2, dim=1)

    alone = compute_attributions(Alone(), x, [1, 2], "grad-cam", layer="network.stages")
    np.testing.assert_allclose(
        compute_attributions(Ensemble([network], [member], [1.0]), x, [1, 2], "grad-cam"), alone, atol=1e-6
    )
    inner = Ensemble([network], [member], [1.0])
    nested = Ensemble([inner, network], [{"mean": [0.0], "std": [1.0], "temperature": 1.0}, member], [0.5, 0.5])
    # Members that agree: each has half the gradient, but of its whole self when both hold the same network.
    assert compute_attributions(nested, x, [1, 2], "gradient").shape == (2, 16, 16)


# ---- leaving no trace ------------------------------------------------------------------------------------------------


class Fragile(Functional):
    """Breaks at a given forward pass."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.passes = at, 0

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        self.passes += 1
        if self.passes == self.at:
            raise RuntimeError("broken on purpose")
        return logits


@pytest.mark.parametrize("at", [1, 0])
@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_as_it_was_also_after_an_error(method: str, at: int) -> None:
    network = Fragile(at)
    network.second.eval()  # a mode of its own
    network.first.bias.requires_grad_(False)
    network.head.weight.grad = torch.full_like(network.head.weight, 7.0)
    before = [(name, module.training) for name, module in network.named_modules()]
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    if at:
        with pytest.raises(RuntimeError, match="broken on purpose"):
            compute_attributions(network, pictures(), TARGETS, method)
    else:
        compute_attributions(network, pictures(), TARGETS, method)
    assert [(name, module.training) for name, module in network.named_modules()] == before
    assert [p.requires_grad for p in network.parameters()] == [True, False, True, True, True, True]
    assert (network.head.weight.grad == 7).all()
    assert all(p.grad is None for name, p in network.named_parameters() if name != "head.weight")
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in network.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_gradients_where_the_caller_has_switched_them_off() -> None:
    network, x = Functional(), pictures()
    expected = compute_attributions(network, x, TARGETS, "guided-backprop")
    with torch.no_grad():
        np.testing.assert_array_equal(compute_attributions(network, x, TARGETS, "guided-backprop"), expected)
        assert not torch.is_grad_enabled()


# ---- wrong input -----------------------------------------------------------------------------------------------------


def test_wrong_input() -> None:
    network, x = Functional(), pictures()
    with pytest.raises(UsageError, match="method 'gradcam': is unknown; choose from gradient, normalized-gradient,"):
        compute_attributions(network, x, TARGETS, "gradcam")
    with pytest.raises(ValueError, match=r"needs inputs \(N, C, H, W\) and targets \(N,\)"):
        compute_attributions(network, x, TARGETS[:2], "gradient")
    with pytest.raises(UsageError, match="grad-cam: needs a convolution, and this network has none"):
        compute_attributions(Linear(2), pictures(size=6), TARGETS, "grad-cam")
    with pytest.raises(UsageError, match=r"layer 'third': is not in this network; choose one of first, second$"):
        compute_attributions(network, x, TARGETS, "grad-cam", layer="third")
    with pytest.raises(UsageError, match="layer 'head': gives no feature map"):
        compute_attributions(network, x, TARGETS, "grad-cam", layer="head")


def test_lime_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtra, match=r"captum: is not installed .* pip install 'mien\[explain\]'"):
        compute_attributions(Functional(), pictures(), TARGETS, "lime")


def test_no_faces() -> None:
    for method in GRADIENTS:
        assert compute_attributions(Functional(), pictures(0), TARGETS[:0], method).shape == (0, 12, 12)


def test_importance() -> None:
    maps = np.array([[[-2.0, 1.0]]], np.float32)
    assert compute_importance(maps, "guided-backprop").tolist() == [[[2, 1]]]
    assert compute_importance(maps, "normalized-gradient").tolist() == [[[-2, 1]]]
