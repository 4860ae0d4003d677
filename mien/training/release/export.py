"""Export a trained network to one ONNX file with its labels and preprocessing; verify it against torch."""

from __future__ import annotations

import copy
import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import METADATA_KEY, METADATA_VERSION
from mien.core.errors import MissingExtra, ModelError
from mien.core.files import replace_file
from mien.core.types import FaceSet
from mien.models.feature_network import FeatureNetwork
from mien.training.runs.checkpoint import TrainedModel
from mien.training.torch_classifier import TorchClassifier, read_log

#: Maximal difference in any probability between torch (fp32) and ONNX Runtime.
MAX_DIFFERENCE = 1e-3


#: How a crop becomes the input, in words, for readers of the metadata without mien.
INPUT_DESCRIPTION = {
    "gray": "round(0.299 R + 0.587 G + 0.114 B), before the resampling",
    "resampling": "cv2.INTER_AREA where both sides are at least the size, else cv2.INTER_LINEAR",
    "scaling": "(pixel / 255 - mean) / std",
    "probabilities": "softmax(logits / temperature)",
}


class _TwoOutputNetwork(nn.Module):
    """A network with the outputs logits and features. Its parameter names start with "network.", which export removes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        network = cast(FeatureNetwork, self.network)
        features = network.features(images)
        return network.head(features), features


def export_model(
    trained: TrainedModel,
    path: Path,
    faces: FaceSet | None = None,
    *,
    scores: dict[str, Any] | None = None,
    license: str = "not stated",
    half: bool = False,
    training: dict[str, Any] | None = None,
) -> float:
    """Write the model file; return the largest difference in probability between torch and ONNX Runtime.

    The difference is measured on ``faces``, or on noise, before the file gets its name: on ModelError nothing is
    written. Initializers keep the parameters' names and nothing is folded, so that `mien.models.load` rebuilds the
    network. ``half`` rounds the weights to 16 bits and stores them so, which halves the file; it still runs in 32 bits.
    """
    if half:
        trained = round_weights(trained)
    model = _convert_to_onnx(trained)
    if half:
        _store_float16(model)
    values = {
        "version": METADATA_VERSION,
        "name": trained.name,
        "labels": list(trained.classes),
        "preprocessing": trained.preprocessing.to_json(),
        "input": INPUT_DESCRIPTION,
        "training": training or {},
        "network": {"name": trained.network_name, "arguments": trained.network_arguments},
        "temperature": trained.temperature,
        "thresholds": {},
        "scores": scores or {},
        "license": license,
        "quantized": False,
        "labels_by": trained.labels_by,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(values)
    with replace_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        difference = measure_difference(trained, temporary, faces)
        if not difference <= MAX_DIFFERENCE:  # also for NaN
            raise ModelError(
                path,
                f"differs from the torch network by {difference:.2g} in probability (limit {MAX_DIFFERENCE:g})",
                "nothing was written; report this with the recipe",
            )
    return difference


def describe_training_faces(run: Path) -> dict[str, Any]:
    """Return the splits and number of the faces that trained a run, for its model file; {} without a log."""
    header = read_log(run if run.is_dir() else run.parent)[0]
    return {"splits": header["splits"], "faces": header["training"], "held_out": header["held_out"]} if header else {}


def round_weights(trained: TrainedModel) -> TrainedModel:
    """Return the model with weights rounded to 16 bits, except vectors (biases, scales, statistics)."""
    network = copy.deepcopy(trained.network)
    with torch.no_grad():
        for weights in network.state_dict().values():
            if weights.ndim > 1:
                weights.copy_(weights.half())
    return replace(trained, network=network)


def measure_difference(trained: TrainedModel, path: Path, faces: FaceSet | None) -> float:
    """Return the largest difference in any probability between the torch network in fp32 and the ONNX file."""
    size = trained.preprocessing.size
    images = (
        np.random.default_rng(0).integers(0, 256, (64, size, size), dtype=np.uint8) if faces is None else faces.images
    )
    of_torch = TorchClassifier(trained).probabilities(images)
    of_onnx = Classifier(path).probabilities(images)
    return float(np.abs(of_torch - of_onnx).max())


def _convert_to_onnx(trained: TrainedModel) -> Any:
    """Return the ONNX graph of a classifier; its initializers have the names of the network's parameters."""
    size, channels = trained.preprocessing.size, trained.preprocessing.channels
    return convert_to_onnx(
        _TwoOutputNetwork(trained.network).eval(),
        torch.zeros(2, channels, size, size),
        inputs={"images": {0: torch.export.Dim("N")}},
        outputs=["logits", "features"],
        drop_prefix="network.",
    )


def convert_to_onnx(
    network: nn.Module, example: Tensor, *, inputs: dict[str, dict[int, Any]], outputs: list[str], drop_prefix: str = ""
) -> Any:
    """Return the ONNX graph of a network: shapes are folded, weights are not, and paths of the exporting machine are removed.

    example       an input with the shape and data type to trace
    inputs        the input's name and its dynamic dimensions
    outputs       names of the outputs
    drop_prefix   is removed from the initializers' names

    Raises MissingExtra without onnx.
    """
    try:
        import onnx_ir
        import onnxscript.optimizer
        from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    except ImportError as error:
        raise MissingExtra("onnx and onnxscript", "train", "to export a model") from error

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision is missing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=tuple(inputs.values()),
                dynamo=True,
                optimize=False,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None  # as without `f`
    model = program.model
    onnxscript.optimizer.fold_constants(model)
    onnxscript.optimizer.remove_unused_nodes(model)
    ClearMetadataAndDocStringPass()(model)
    for name in list(model.graph.initializers):
        model.graph.initializers[name].name = name.removeprefix(drop_prefix)
    proto = onnx_ir.to_proto(model)
    del proto.graph.value_info[:]  # intermediate shapes, which ONNX Runtime infers itself
    return proto


def _store_float16(model: Any) -> None:
    """Store rounded weights as float16 under their names, with casts to float32, which run once when a session opens."""
    import onnx
    from onnx import numpy_helper

    casts, turned = [], {}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            weights = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
            turned[tensor.name] = f"{tensor.name}.float"
            casts.append(
                onnx.helper.make_node(
                    "Cast", [tensor.name], [turned[tensor.name]], name=f"{tensor.name}.cast", to=onnx.TensorProto.FLOAT
                )
            )
    nodes = list(model.graph.node)
    for node in nodes:
        node.input[:] = [turned.get(name, name) for name in node.input]
    del model.graph.node[:]
    model.graph.node.extend(casts + nodes)
