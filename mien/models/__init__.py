"""Networks that can be trained. MODELS maps a name to its class; all networks have features and logits."""

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

#: Name → constructor. Call it with ``num_classes`` and the network's own arguments: ``MODELS["r4-cnn"](num_classes=7)``.
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


#: Errors of torch for arguments and inputs that do not fit, when a network is built or first called.
BUILD_ERRORS = (RuntimeError, ValueError, IndexError, ArithmeticError)


#: Limits above all real networks; a damaged or crafted file could fill the memory or run endlessly.
MAX_BLOCKS, MAX_STAGES, MAX_WIDTH, MAX_SIZE, MAX_MEMBERS = 100, 16, 16_384, 512, 64


def build_network(name: str, **arguments: Any) -> nn.Module:
    """Build a new network by name.

    "ensemble" builds its members, too: ``members`` holds the name, arguments, mean, std and temperature of each.
    Raises ModelError for an unknown name or argument, and for arguments beyond the limits above.
    """
    _check_limits(name, arguments)
    if name == "ensemble":
        if not arguments.get("members"):
            raise ModelError("network 'ensemble'", "has no members", "create it from trained models")
        members = arguments["members"]
        networks = [build_network(member["name"], **member["arguments"]) for member in members]
        return Ensemble(networks, members, arguments["weights"])
    if name not in MODELS:
        raise ModelError(f"network '{name}'", "is unknown", f"choose one of {', '.join(sorted(MODELS))}")
    try:
        return MODELS[name](**arguments)
    except TypeError as error:
        known = ", ".join(signature(MODELS[name]).parameters)
        problem = f"does not take these arguments ({error})"
        raise ModelError(f"network '{name}'", problem, f"its arguments are {known}") from error


def _check_limits(name: str, arguments: dict[str, Any]) -> None:
    """Raise ModelError for a network larger than the limits."""
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
    """Build a network for these weights. Raises ValueError before allocation if it has more weights than given."""
    with torch.device("meta"):
        expected = sum(value.numel() for value in build_network(name, **arguments).state_dict().values())
    if expected > (stored := sum(value.numel() for value in weights.values())) + len(weights) + MAX_BLOCKS**2:
        raise ValueError(f"{name} with {arguments} has {expected:,} weights, the file {stored:,}")
    return build_network(name, **arguments)


def has_fixed_size(name: str) -> bool:
    """Return whether a network is built for one size of pictures; the others take any size."""
    return name in MODELS and "size" in signature(MODELS[name]).parameters


def load(model: str | Path) -> nn.Module:
    """Load the torch network of a model file (or of a shipped model's name), in evaluation mode.

    Needs the ``train`` extra. Raises ModelError for a file that is not from mien, is quantized, or lacks a parameter of
    its network.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise MissingExtra("onnx", "train", "to rebuild a network from a model file") from error
    path = find_model(model)
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own types for damaged files
        raise ModelError(
            path, "is not a readable ONNX file; it may be damaged", "export or download it again"
        ) from error
    info = ModelInfo.from_metadata({entry.key: entry.value for entry in proto.metadata_props}, path)
    if info.quantized:
        source = info.quantization.get("from", "the float file of the same model")
        raise ModelError(
            path, "is quantized, so its network cannot be rebuilt", f"use {source}, from which it was made"
        )
    stored = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in proto.graph.initializer}
    try:
        network = build_network_for_weights(stored, info.network["name"], **info.network["arguments"])
    except (*BUILD_ERRORS, KeyError, TypeError, AttributeError) as error:
        raise ModelError(path, f"does not hold the network that it describes ({error})", "export it again") from error
    expected = network.state_dict()
    # Export leaves out batch norm's count of batches, which inference does not need.
    missing = [name for name in expected if name not in stored and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(path, f"lacks the weights {', '.join(missing[:3])}", "export it again")
    fitting = {name: stored[name] for name in expected if name in stored}
    if misfit := next((name for name, value in fitting.items() if value.shape != expected[name].shape), ""):
        raise ModelError(path, f"has weights of another shape ({misfit})", "export it again")
    network.load_state_dict(fitting, strict=False)
    check_finite_weights(network, path)
    return network.eval()


def check_finite_weights(network: nn.Module, path: Path) -> None:
    """Raise ModelError if a weight or a running statistic is NaN or infinite: all outputs would be NaN."""
    bad = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        problem = f"has weights that are not finite numbers ({', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''})"
        raise ModelError(path, problem, "train again with a lower learning rate, or use another file")
