"""Quantize a float model file to int8: static, per channel, calibrated on training pictures, verified before it is kept."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import METADATA_KEY, read_metadata
from mien.core.errors import DataError, MissingExtra, ModelError
from mien.core.files import replace_file
from mien.core.types import FaceSet

#: Number of pictures for calibration, which finds the range of each activation.
CALIBRATION_FACES = 640

#: Maximal loss of accuracy; in small sets, two faces.
MAX_ACCURACY_LOSS = 0.002

#: Operations in int8. Those that only move values are included, to avoid conversions between two convolutions. The
#: layers after the features stay float.
QUANTIZED_OPERATIONS = ("Conv", "Add", "Mul", "Relu", "LeakyRelu", "Clip", "MaxPool", "AveragePool", "Concat", "Reshape",
              "Transpose", "MatMul", "Gemm")  # fmt: skip


@dataclass(frozen=True)
class Agreement:
    """The int8 file compared with the float file on the same faces; accuracies are NaN without labels.

    same          share of the faces with the same predicted label
    difference    mean over faces of the largest difference in any probability
    """

    faces: int
    float_accuracy: float
    accuracy: float
    same: float
    difference: float

    def to_json(self) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in vars(self).items()}


def quantize_model(source: Path, out: Path, training: FaceSet, validation: FaceSet, *, seed: int = 0) -> Agreement:
    """Write the int8 file of ``source``; return its agreement with the float file on ``validation``.

    Weights are quantized symmetrically with one scale per output channel, activations with the range that they have on 640
    of the ``training`` faces, drawn by ``seed`` (Jacob et al., "Quantization and training
    of neural networks for efficient integer-arithmetic-only inference", 2018). Weights use 7 of their 8 bits: processors
    with AVX2 and no VNNI add two products in 16 bits, where 2 · 255 · 127 overflows and 2 · 255 · 64 does not. So the file
    gives the same results on all of them. Outputs keep their names.

    Raises ModelError, and writes nothing, if the accuracy falls by more than 0.2 points.
    """
    floats = Classifier(source, threads=1)
    if floats.info.quantized:
        raise ModelError(source, "is quantized already", "name the float file that it was made from")
    if not len(training):
        raise DataError("training faces", "are missing", "calibration needs some: check `data` and `train_split`")
    rows = np.sort(np.random.default_rng(seed).permutation(len(training))[:CALIBRATION_FACES])
    with tempfile.TemporaryDirectory() as folder, replace_file(out) as temporary:
        _write_int8(source, temporary, floats.preprocessing.to_tensor(training.images[rows]), Path(folder))
        values = read_metadata(_read_metadata_text(source)) | {"quantized": True}
        facts = {
            "from": source.name,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "calibration": {"data": ", ".join(training.splits), "faces": len(rows), "seed": seed},
        }
        write_metadata(temporary, values | {"quantization": facts})
        agreement = measure_agreement(floats, Classifier(temporary), validation)
        lost = agreement.float_accuracy - agreement.accuracy
        if lost > max(MAX_ACCURACY_LOSS, 2 / max(agreement.faces, 1)):
            raise ModelError(
                out, f"would lose {100 * lost:.2f} points of accuracy against {source.name}", "use the float file"
            )
        write_metadata(temporary, values | {"quantization": facts | {"agreement": agreement.to_json()}})
    return agreement


def measure_agreement(floats: Classifier, bytes_: Classifier, faces: FaceSet) -> Agreement:
    """Compare two files of one model on the same faces."""
    a, b = floats.probabilities(faces.images), bytes_.probabilities(faces.images)
    known = faces.is_labeled
    labels = faces.reindex_classes(floats.labels).labels[known]
    right = [float((p[known].argmax(axis=1) == labels).mean()) if known.any() else float("nan") for p in (a, b)]
    same = float((a.argmax(axis=1) == b.argmax(axis=1)).mean())
    return Agreement(len(faces), right[0], right[1], same, float(np.abs(a - b).max(axis=1).mean()))


def write_metadata(path: Path, values: dict[str, Any]) -> None:
    """Replace the metadata of an ONNX file; its graph and weights stay the same."""
    import onnx

    model = onnx.load(str(path))
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(values)
    path.write_bytes(model.SerializeToString())


def _read_metadata_text(path: Path) -> str:
    import onnx

    return next(entry.value for entry in onnx.load(str(path)).metadata_props if entry.key == METADATA_KEY)


def _write_int8(source: Path, out: Path, tensor: np.ndarray, folder: Path) -> None:
    """Fuse batch norms into convolutions, calibrate on tensor (N, C, S, S), and write quantize-dequantize pairs, from which
    ONNX Runtime makes integer kernels."""
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtra("onnx", "train", "to quantize a model") from error

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(np.array_split(tensor, max(1, len(tensor) // 64)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch}

    fused = folder / "fused.onnx"
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns that the model is not pre-processed, although it is
    try:
        quant_pre_process(str(source), str(fused), skip_symbolic_shape=True)
        quantize_static(
            str(fused),
            str(out),
            Batches(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED_OPERATIONS),
            nodes_to_exclude=_find_head_nodes(onnx.load(str(fused)).graph),
            per_channel=True,
            reduce_range=True,  # 7 bits
            # Unsigned activations and signed weights: the kind that VNNI, AMX and ONNX Runtime's kernels multiply.
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibration_providers=["CPUExecutionProvider"],
            extra_options={"WeightSymmetric": True},
        )
    finally:
        root.setLevel(level)


def _find_head_nodes(graph: Any) -> list[str]:
    """Return the names of the nodes after ``features``."""
    known, names = {"features"}, []
    for node in graph.node:  # in the order in which they are computed
        if known & set(node.input):
            known |= set(node.output)
            names.append(node.name)
    return names
