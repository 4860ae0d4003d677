from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.core.errors import ModelError
from mien.models import MODELS, build_network, load
from mien.models.residual import SlicedConv2d, conv1x1
from mien.training.torch_classifier import load_run
from tests.conftest import patterns


def test_the_base_network_has_the_parameters_its_layers_say() -> None:
    network = MODELS["residual"](num_classes=7)
    convolutions = 9 * 4 * 64 + 9 * (4 * 64 * 64) + 9 * (64 * 128 + 3 * 128 * 128) + 9 * (128 * 256 + 3 * 256 * 256)
    shortcuts = 64 * 128 + 128 * 256
    norms = 2 * (64 * 5 + 128 * 5 + 256 * 5)  # stem or shortcut, and four in the blocks of each stage
    assert sum(p.numel() for p in network.parameters()) == convolutions + shortcuts + norms + 256 * 7 + 7
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
    assert network.features(torch.zeros(2, 1, 48, 48)).shape == (2, 256)


@pytest.mark.parametrize(
    ("name", "arguments", "trainable", "running"),
    [
        ("r4-cnn", {"num_classes": 7}, 9_970_887, 5_888),
        ("r4-dnn", {"num_classes": 7}, 9_893_255, 512),
        ("r3-vgg", {"num_classes": 5, "channels": 3}, 24_890_373, 2 * (64 + 128 + 256 + 512)),
        ("r1-final", {"num_classes": 7}, 39_636_295, 10_432),
    ],
)
def test_reference_networks_have_the_parameters_that_their_reports_count(
    name: str, arguments: dict, trainable: int, running: int
) -> None:
    network = MODELS[name](**arguments)
    assert sum(p.numel() for p in network.parameters()) == trainable
    assert sum(b.numel() for key, b in network.named_buffers() if "num_batches" not in key) == running


def test_r1s_final_network_by_hand() -> None:
    convolutions = (9 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 256 + 256) + (9 * 256 * 256 + 256)
    linear = (9216 * 4096 + 4096) + (4096 * 256 + 256) + (256 * 256 + 256) + (256 * 7 + 7)
    normed = 32 + 64 + 256 + 256 + 4096 + 256 + 256
    assert convolutions + linear + 2 * normed == 39_636_295  # a scale and a shift each
    assert 2 * normed == 10_432  # a mean and a variance each


@pytest.mark.parametrize(
    ("name", "layers", "features"),
    [
        ("r1-lenet", 4, 128),
        ("r1-alexnet", 8, 1024),
        ("r1-resnet18", 18, 512),
        ("r1-final", 8, 256),
        ("r2-resnet18", 18, 512),
        ("r3-vgg", 8, 256),
        ("r4-cnn", 10, 1024),
        ("r4-dnn", 6, 64),
        ("r5-vgg10", 10, 1024),
        ("r5-resnet17", 17, 256),
        ("r5-resnet25", 25, 256),
    ],
)
def test_reference_networks_have_their_layers_and_shapes(name: str, layers: int, features: int) -> None:
    network = MODELS[name](num_classes=7, channels=1).eval()
    with_weights = [
        part
        for key, part in network.named_modules()
        if isinstance(part, torch.nn.Conv2d | torch.nn.Linear)
        and "shortcut" not in key  # 1×1 shortcuts are not counted
    ]
    assert len(with_weights) == layers
    images = torch.rand(2, 1, 48, 48)
    with torch.no_grad():
        assert network(images).shape == (2, 7)
        assert network.features(images).shape == (2, features)


def test_every_activation_has_a_slope_of_its_own() -> None:
    from mien.models.prelu import ActivationPReLU

    prelu = ActivationPReLU(2, 3)
    slopes = torch.arange(18.0).view(3, 3, 2) / 10  # (H, W, C)
    prelu.slope.data = slopes
    values = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = torch.where(values > 0, values, values * slopes.permute(2, 0, 1))
    torch.testing.assert_close(prelu(values), expected)
    torch.testing.assert_close(prelu(values.contiguous(memory_format=torch.channels_last)), expected)
    assert prelu(values.bfloat16()).dtype == torch.bfloat16


def test_every_network_gives_logits_from_its_features() -> None:
    torch.manual_seed(0)
    for name in MODELS:
        network = build_network(name, num_classes=5, channels=3).eval()
        images = torch.rand(3, 3, 48, 48)
        logits = network(images)
        torch.testing.assert_close(network.head(network.features(images)), logits)
        assert logits.min() < 0  # neither a softmax nor a ReLU stands at the end


def test_unknown_names_and_arguments_list_what_is_known() -> None:
    with pytest.raises(ModelError, match=r"network 'resnet': is unknown; choose one of r1-alexnet, .*residual"):
        build_network("resnet", num_classes=7)
    with pytest.raises(ModelError, match="unexpected keyword argument 'depth'"):
        build_network("residual", num_classes=7, depth=3)
    with pytest.raises(ModelError, match="network 'ensemble': has no members"):
        build_network("ensemble")


@pytest.mark.parametrize("arguments", [{"blocks": 10**6}, {"widths": [8] * 1_000}, {"widths": [10**9]}])
def test_a_network_beyond_all_use_is_refused_before_it_is_built(arguments: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"network 'residual': has .* of \d+; give at most"):
        build_network("residual", num_classes=7, **arguments)


def test_narrow_shortcuts_give_the_same_numbers_without_a_strided_convolution() -> None:
    narrow = conv1x1(4, 5, 2)
    plain = torch.nn.Conv2d(4, 5, 1, 2, bias=False)
    plain.load_state_dict(narrow.state_dict())
    images = torch.randn(3, 4, 9, 9, generator=torch.Generator().manual_seed(0), requires_grad=True)
    ours = narrow(images)
    theirs = torch.einsum("oc,nchw->nohw", plain.weight[:, :, 0, 0], images[:, :, ::2, ::2])
    torch.testing.assert_close(ours, theirs)
    assert isinstance(narrow, SlicedConv2d)
    assert type(conv1x1(8, 16, 2)) is torch.nn.Conv2d


def test_a_narrow_network_trains_on_pictures_in_channels_last() -> None:
    network = build_network("residual", num_classes=7, widths=[4, 5, 6], blocks=1).to(memory_format=torch.channels_last)
    images = torch.randn(28, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        network(images.contiguous(memory_format=torch.channels_last)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


def test_a_model_file_rebuilds_its_network(run_folder: Path, model_file: Path) -> None:
    rebuilt, trained = load(model_file), load_run(run_folder)
    theirs = trained.network.state_dict()
    for name, weights in rebuilt.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(weights, theirs[name]), name
    tensor = torch.from_numpy(trained.preprocessing.to_tensor(patterns(14).images))
    torch.testing.assert_close(rebuilt(tensor), trained.network(tensor))


def test_a_rebuilt_network_has_gradients(model_file: Path) -> None:
    tensor = torch.zeros(1, 1, 48, 48, requires_grad=True)
    load(model_file)(tensor)[0, 3].backward()
    assert tensor.grad.abs().sum() > 0


def test_files_that_cannot_be_rebuilt_say_why(model_file: Path, tmp_path: Path) -> None:
    proto = onnx.load(str(model_file))
    (entry,) = proto.metadata_props
    entry.value = entry.value.replace('"quantized": false', '"quantized": true')
    onnx.save(proto, str(tmp_path / "int8.onnx"))
    with pytest.raises(ModelError, match="is quantized, so its network cannot be rebuilt"):
        load(tmp_path / "int8.onnx")
    entry.value = entry.value.replace('"quantized": true', '"quantized": false')
    next(tensor for tensor in proto.graph.initializer if tensor.name == "head.weight").name = "other"
    onnx.save(proto, str(tmp_path / "lacking.onnx"))
    with pytest.raises(ModelError, match=r"lacks the weights head\.weight"):
        load(tmp_path / "lacking.onnx")
    (tmp_path / "damaged.onnx").write_bytes(model_file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="may be damaged"):
        load(tmp_path / "damaged.onnx")


def test_the_shipped_model_rebuilds_its_network() -> None:
    from mien.analysis.inference.classifier import Classifier

    classifier, network = Classifier("base", precision="float"), load("base")
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 48), dtype=np.uint8)
    tensor = torch.from_numpy(classifier.info.preprocessing.to_tensor(images))
    with torch.no_grad():
        of_torch = (network(tensor) / classifier.info.temperature).softmax(dim=1).numpy()
    np.testing.assert_allclose(of_torch, classifier.probabilities(images), atol=1e-3)
