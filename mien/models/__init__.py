"""Networks that can be trained. MODELS maps a name to its class; every network gives logits, and features before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mien.analysis.inference.model_file import ModelInfo, find_model
from mien.core.errors import MissingExtra, ModelError
from mien.models.alexnet import AlexNet
from mien.models.ensemble import Ensemble
from mien.models.lenet import LeNet
from mien.models.prelu import R4CNN, R4DNN
from mien.models.residual import ResidualNet
from mien.models.resnet import LeakyResNet, ResNet18
from mien.models.vgg import R3VGG, VGG10, R1Final

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
BUILD_ERRORS = (RuntimeError, ValueError, IndexError, ArithmeticError)


#: More than any network needs; a damaged or crafted file may ask for as much as fills the memory or takes for ever.
MAX_BLOCKS, MAX_STAGES, MAX_WIDTH, MAX_SIZE, MAX_MEMBERS = 100, 16, 16_384, 512, 64


def build_network(name: str, **arguments: Any) -> nn.Module:
    """A fresh network by name; an unknown name lists the choices, an unknown argument is named.

    "ensemble" builds its members too: ``members`` holds each one's name, arguments, mean, std and temperature.
    Raises ModelError for arguments beyond the limits above.
    """
    _check_limits(name, arguments)
    if name == "ensemble":
        if not arguments.get("members"):
            raise ModelError("network 'ensemble'", "has no members", "make one of trained models with 'mien ensemble'")
        members = arguments["members"]
        networks = [build_network(member["name"], **member["arguments"]) for member in members]
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


def _check_limits(name: str, arguments: dict[str, Any]) -> None:
    """ModelError for a network that is larger than any that is used."""
    widths, members = arguments.get("widths", ()), arguments.get("members", ())
    limits = [("blocks", arguments.get("blocks", 0), MAX_BLOCKS), ("size", arguments.get("size", 0), MAX_SIZE)]
    limits += [(key, arguments.get(key, 0), MAX_WIDTH) for key in ("num_classes", "hidden")]
    for key, values, most in (("widths", widths, MAX_STAGES), ("members", members, MAX_MEMBERS)):
        if isinstance(values, Sequence):
            limits.append((f"the number of {key}", len(values), most))
    limits += [("widths", width, MAX_WIDTH) for width in widths] if isinstance(widths, Sequence) else []
    for key, value, most in limits:
        if key == "widths" and (type(value) is not int or value < 1):
            raise ModelError(f"network '{name}'", f"has widths of {value!r}", "give whole numbers from 1")
        if isinstance(value, (int, float)) and value > most:
            raise ModelError(f"network '{name}'", f"has {key} of {value}", f"give at most {most:,}")


def build_network_for_weights(weights: Mapping[str, torch.Tensor], name: str, /, **arguments: Any) -> nn.Module:
    """`build`, with these weights; ValueError before anything large is made where the network has more than them."""
    with torch.device("meta"):
        expected = sum(value.numel() for value in build_network(name, **arguments).state_dict().values())
    if expected > (stored := sum(value.numel() for value in weights.values())) + len(weights) + MAX_BLOCKS**2:
        raise ValueError(f"{name} with {arguments} has {expected:,} weights, the file {stored:,}")
    return build_network(name, **arguments)


def has_fixed_size(name: str) -> bool:
    """Whether a network is built for one side of picture; the others take any."""
    return name in MODELS and "size" in signature(MODELS[name]).parameters


def load(model: str | Path) -> nn.Module:
    """The torch network of a model file (or of a shipped model's name), in evaluation mode.

    Needs the ``train`` extra. Raises ModelError for a file that is not ours, is quantized, or does not hold every
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
    if info.quantized:
        source = info.quantization.get("from", "the float file of the same model")
        raise ModelError(
            path, "is quantized, so its network cannot be rebuilt", f"name {source}, from which it was made"
        )
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in proto.graph.initializer}
    try:
        network = build_network_for_weights(stored, info.network["name"], **info.network["arguments"])
    except (*BUILD_ERRORS, KeyError, TypeError, AttributeError) as error:
        raise ModelError(path, f"names a network that is not inside ({error})", "export it again") from error
    wanted = network.state_dict()
    # What export leaves out because inference does not need it: batch norm's count of the batches it has seen.
    missing = [name for name in wanted if name not in stored and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(path, f"lacks the weights {', '.join(missing[:3])}", "export it again")
    fitting = {name: stored[name] for name in wanted if name in stored}
    if misfit := next((name for name, value in fitting.items() if value.shape != wanted[name].shape), ""):
        raise ModelError(path, f"has weights of another shape ({misfit})", "export it again")
    network.load_state_dict(fitting, strict=False)
    check_finite_weights(network, path)
    return network.eval()


def check_finite_weights(network: nn.Module, path: Path) -> None:
    """ModelError where a weight or a running statistic is NaN or infinite: every answer would be NaN."""
    bad = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        found = f"has weights that are not finite numbers ({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''})"
        raise ModelError(path, found, "train again with a lower learning rate, or name another file")
