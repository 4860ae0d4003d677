from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien.core.errors import ModelError
from mien.learn.inference import load_run
from mien.models import MODELS, build, load
from tests.conftest import patterns


def test_the_base_network_has_the_parameters_its_layers_say() -> None:
    network = MODELS["residual"](num_classes=7)
    convolutions = 9 * 4 * 64 + 9 * (4 * 64 * 64) + 9 * (64 * 128 + 3 * 128 * 128) + 9 * (128 * 256 + 3 * 256 * 256)
    shortcuts = 64 * 128 + 128 * 256
    norms = 2 * (64 * 5 + 128 * 5 + 256 * 5)  # stem or shortcut, and four in the blocks of each stage
    assert sum(p.numel() for p in network.parameters()) == convolutions + shortcuts + norms + 256 * 7 + 7
    assert network(torch.zeros(2, 1, 48, 48)).shape == (2, 7)
    assert network.features(torch.zeros(2, 1, 48, 48)).shape == (2, 256)


def test_every_network_gives_logits_from_its_features() -> None:
    for name in MODELS:
        network = build(name, num_classes=5, channels=3).eval()
        images = torch.rand(3, 3, 48, 48)
        logits = network(images)
        torch.testing.assert_close(network.head(network.features(images)), logits)
        assert logits.min() < 0  # neither a softmax nor a ReLU stands at the end


def test_unknown_names_and_arguments_list_what_is_known() -> None:
    with pytest.raises(ModelError, match="network 'resnet': is unknown; choose one of residual"):
        build("resnet", num_classes=7)
    with pytest.raises(ModelError, match="unexpected keyword argument 'depth'"):
        build("residual", num_classes=7, depth=3)


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
    entry.value = entry.value.replace('"quantised": false', '"quantised": true')
    onnx.save(proto, str(tmp_path / "int8.onnx"))
    with pytest.raises(ModelError, match="is quantised, so its network cannot be rebuilt"):
        load(tmp_path / "int8.onnx")
    entry.value = entry.value.replace('"quantised": true', '"quantised": false')
    next(tensor for tensor in proto.graph.initializer if tensor.name == "head.weight").name = "other"
    onnx.save(proto, str(tmp_path / "lacking.onnx"))
    with pytest.raises(ModelError, match=r"lacks the weights head\.weight"):
        load(tmp_path / "lacking.onnx")
    (tmp_path / "damaged.onnx").write_bytes(model_file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="may be damaged"):
        load(tmp_path / "damaged.onnx")


def test_the_shipped_model_rebuilds_its_network() -> None:
    from mien.run.classify import Classifier

    classifier, network = Classifier("base"), load("base")
    images = np.random.default_rng(0).integers(0, 256, (16, 48, 48), dtype=np.uint8)
    tensor = torch.from_numpy(classifier.info.preprocessing.to_tensor(images))
    with torch.no_grad():
        of_torch = network(tensor).softmax(dim=1).numpy()
    np.testing.assert_allclose(of_torch, classifier.probabilities(images), atol=1e-3)
