"""Networks that can be trained. MODELS maps a name to its class; every network gives logits, and features before them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.core.errors import MissingExtra, ModelError
from mien.models.alexnet import AlexNet
from mien.models.ensemble import Ensemble
from mien.models.lenet import LeNet
from mien.models.prelu import R4CNN, R4DNN
from mien.models.residual import ResidualNet
from mien.models.resnet import LeakyResNet, ResNet18
from mien.models.vgg import R3VGG, VGG10, R1Final
from mien.run.weights import ModelInfo, find_model

#: Name → what builds it. Call with ``num_classes`` and the network's own arguments: ``MODELS["r4-cnn"](num_classes=7)``.
#: Every network is ``head(features(images))``: logits (N, K) from features (N, D), for images (N, channels, S, S).
MODELS: dict[str, Callable[..., nn.Module]] = {
    "residual": ResidualNet,
    "r1-lenet": LeNet,
    "r1-alexnet": AlexNet,
    "r1-resnet18": partial(ResNet18, stem="7x7"),
    "r1-final": R1Final,
    "r2-resnet18": partial(ResNet18, stem="3x3"),
    "r3-vgg": R3VGG,
    "r4-cnn": R4CNN,
    "r4-dnn": R4DNN,
    "r5-vgg10": VGG10,
    "r5-resnet17": partial(LeakyResNet, blocks=1),
    "r5-resnet25": partial(LeakyResNet, blocks=2),
}


#: What torch says of pictures and arguments that fit nowhere, when a network is built or first asked.
MISFITS = (RuntimeError, ValueError, IndexError, ArithmeticError)


def build(name: str, **arguments: Any) -> nn.Module:
    """A fresh network by name; an unknown name lists the choices, an unknown argument is named.

    "ensemble" builds its members too: ``members`` holds each one's name, arguments, mean, std and temperature.
    """
    if name == "ensemble":
        if not arguments.get("members"):
            raise ModelError("network 'ensemble'", "has no members", "make one of trained models with 'mien ensemble'")
        members = arguments["members"]
        networks = [build(member["name"], **member["arguments"]) for member in members]
        return Ensemble(networks, members, arguments["weights"])
    if name not in MODELS:
        raise ModelError(f"network '{name}'", "is unknown", f"choose one of {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**arguments)
    except TypeError as error:
        known = ", ".join(signature(MODELS[name]).parameters)
        found = f"does not take these arguments ({error})"
        raise ModelError(
            f"network '{name}'", found, f"it knows {known}; 'mien networks show {name}' says more"
        ) from error


def takes_size(name: str) -> bool:
    """Whether a network is built for one side of picture; the others take any."""
    return name in MODELS and "size" in signature(MODELS[name]).parameters


def load(model: str | Path) -> nn.Module:
    """The torch network of a model file (or of a shipped model's name), in evaluation mode.

    Needs the ``train`` extra. Raises ModelError for a file that is not ours, is quantised, or does not hold every
    parameter of the network that it names.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtra("onnx", "train", "to rebuild a network from a model file") from error
    path = find_model(model)
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds for damaged files
        raise ModelError(
            path, "is not an ONNX file that can be read; it may be damaged", "export or download it again"
        ) from error
    info = ModelInfo.from_metadata({entry.key: entry.value for entry in proto.metadata_props}, path)
    if info.quantised:
        source = info.quantisation.get("from", "the float file of the same model")
        raise ModelError(
            path, "is quantised, so its network cannot be rebuilt", f"name {source}, from which it was made"
        )
    network = build(info.network["name"], **info.network["arguments"])
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in proto.graph.initializer}
    wanted = network.state_dict()
    # What export leaves out because inference does not need it: batch norm's count of the batches it has seen.
    missing = [name for name in wanted if name not in stored and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(path, f"lacks the weights {', '.join(missing[:3])}", "export it again")
    network.load_state_dict({name: stored[name] for name in wanted if name in stored}, strict=False)
    return network.eval()
