"""Calibrate a trained model, set its thresholds, add the not-a-face score and quantize it to int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import METADATA_KEY, int8_path, read_metadata
from mien.core.errors import DataError, MissingExtra, ModelError
from mien.core.files import replace_file
from mien.core.types import FaceSet
from mien.evaluation.calibration import apply_temperature, cross_fit_temperature, fit_temperature, measure_reliability
from mien.evaluation.measures import replace_nan
from mien.evaluation.metrics import log_losses
from mien.evaluation.selective import (
    TARGET_ACCURACY,
    cross_validate_threshold,
    find_threshold,
    measure_threshold,
    risk_coverage,
)
from mien.training.release.quantize import quantize_model, write_metadata

#: Minimal number of validation faces above a threshold. With fewer, the threshold is unreliable and is not used.
MIN_ANSWERED = 10


@dataclass(frozen=True)
class ReleaseOptions:
    """Options of `finish_model`.

    goal        target accuracy of the labels that are not marked as unsure
    non_faces   whether to train the score ``not_a_face``
    int8        whether to write the int8 file next to the float file
    """

    goal: float = TARGET_ACCURACY
    non_faces: bool = True
    int8: bool = True
    seed: int = 0
    quiet: bool = False


def finish_model(
    source: Path, out: Path, training: FaceSet | None, validation: FaceSet, options: ReleaseOptions = ReleaseOptions()
) -> dict[str, Any]:
    """Write ``out`` (and out.int8.onnx) from the float file ``source``; return the metadata's ``uncertainty``, with
    ``no_int8`` as the reason if there is no int8 file because its accuracy would be too low.

    Temperature and thresholds are fitted on the labeled ``validation`` faces. Reported figures are cross-validated on
    halves of these faces. The network's weights do not change, bit by bit. ``training`` faces are needed for the
    not-a-face score and for int8. Raises ModelError or DataError; nothing is written then.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx", "train", "to finish a model") from error
    classifier = Classifier(source)
    if classifier.info.quantized:
        raise ModelError(source, "is quantized", "finish the float file that it was made from")
    if (training is None or not len(training)) and (options.non_faces or options.int8):
        raise DataError(
            "training faces",
            "are not given",
            "give their file as `data`, or set `non_faces=False` and `int8=False`",
        )
    all_validation = validation  # pictures that annotators call no face have no label
    validation = validation.take(validation.is_labeled).reindex_classes(classifier.labels)
    if len(validation) < 2:
        raise DataError("validation faces", "have no labels to fit a temperature", "give labeled faces")
    logits = classifier.logits(validation.images)
    temperature, values, thresholds = _fit_confidence(logits, validation, options)
    model = onnx.load(str(source))
    weights = _read_weights(model)
    if options.non_faces:
        assert training is not None
        from mien.training.release.not_a_face import add_head, fit_head

        head, thresholds["not_a_face"], values["not_a_face"] = fit_head(
            classifier, training, all_validation, seed=options.seed, quiet=options.quiet
        )
        add_head(model, head)
    elif "not_a_face" in classifier.info.thresholds:  # an earlier score is kept
        thresholds["not_a_face"] = classifier.info.thresholds["not_a_face"]
        values["not_a_face"] = classifier.info.uncertainty.get("not_a_face", {})
    if any(_read_weights(model).get(name) != stored for name, stored in weights.items()):
        raise ModelError(source, "would lose weights of its network", "nothing was written; report this")
    metadata = read_metadata(next(entry.value for entry in model.metadata_props if entry.key == METADATA_KEY))
    metadata |= {"temperature": temperature, "thresholds": thresholds,
                 "uncertainty": values}  # fmt: skip
    with replace_file(out) as temporary:
        onnx.save(model, str(temporary))
        write_metadata(temporary, metadata)
    int8_path(out).unlink(missing_ok=True)  # an earlier one may have other weights
    if options.int8:
        assert training is not None
        try:
            quantize_model(out, int8_path(out), training, validation, seed=options.seed)
        except ModelError as error:
            return values | {"no_int8": error.problem}
    return values


def _fit_confidence(
    logits: np.ndarray, faces: FaceSet, options: ReleaseOptions
) -> tuple[float, dict[str, Any], dict[str, float]]:
    """Return the temperature, cross-validated figures of it and of the threshold, and the thresholds.

    logits: float32 (N, K) of labeled faces. The temperature is 1 if fitting does not improve the cross-validated log loss.
    """
    labels = faces.labels

    def log_loss(probabilities: np.ndarray) -> float:
        return float(log_losses(probabilities[np.arange(len(labels)), labels]).mean())

    temperature = fit_temperature(logits, labels)
    before, (after, temperatures) = apply_temperature(logits, 1), cross_fit_temperature(logits, labels, options.seed)
    fits = log_loss(after) < log_loss(before)
    if not fits:
        temperature, after = 1.0, before
    fitted = apply_temperature(logits, temperature)
    threshold = find_threshold(fitted, labels, options.goal)
    measured = measure_threshold(fitted, labels, threshold)
    promised = cross_validate_threshold(logits, labels, options.goal, options.seed, fit_temperatures=fits)
    values: dict[str, Any] = {
        "data": ", ".join(name for name in faces.splits if name) or "validation faces",
        "faces": len(faces),
        "calibration": {
            "temperatures_of_halves": temperatures,
            "error_before": measure_reliability(before, labels).calibration_error,
            "error": measure_reliability(after, labels).calibration_error,
            "log_loss_before": log_loss(before),
            "log_loss": log_loss(after),
            "bins": [row for row in measure_reliability(after, labels).to_json() if row["count"]],
        },
        "unsure": {
            "goal": options.goal,
            "answered": measured.coverage,
            "right": measured.accuracy,
            "answered_elsewhere": promised.coverage,
            "right_elsewhere": promised.accuracy,
            "risk_coverage_area": risk_coverage(after, labels).area,
        },
    }
    answers = round(measured.coverage * len(labels)) >= MIN_ANSWERED
    return temperature, replace_nan(values), {"unsure": min(threshold, 1.0) if answers else 1.0}


def _read_weights(model: Any) -> dict[str, bytes]:
    """Return the network's own weights: name → bytes."""
    from onnx import numpy_helper

    tensors = (tensor for tensor in model.graph.initializer if not tensor.name.startswith("not_a_face"))
    return {tensor.name: numpy_helper.to_array(tensor).tobytes() for tensor in tensors}
