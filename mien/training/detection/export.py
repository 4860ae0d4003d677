"""Write a trained face detector to one ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mien.analysis.detection.face_net import KIND, VERSION, FaceNetSession, draw_canvas
from mien.analysis.inference.model_file import METADATA_KEY
from mien.core.errors import ModelError
from mien.core.files import replace_file
from mien.models.face_net import FaceNet
from mien.training.release.export import convert_to_onnx

#: Largest difference of an answer between torch and ONNX Runtime.
MAX_DIFFERENCE = 1e-3


def export_detector(network: FaceNet, path: Path, *, threshold: float, facts: dict[str, Any]) -> float:
    """Write the detector's file; return the largest difference of an answer between torch and ONNX Runtime.

    threshold   minimum score of a face, 0..1
    facts       stored with it: training data, settings, scores

    Raises ModelError, and writes nothing, if the difference is larger than MAX_DIFFERENCE.
    """
    network = network.cpu().eval()
    height, width = torch.export.Dim("height"), torch.export.Dim("width")
    model = convert_to_onnx(
        network,
        torch.zeros(1, 1, 256, 320, dtype=torch.uint8),
        inputs={"luminance": {2: 8 * height, 3: 8 * width}},
        outputs=["answers"],
    )
    values = {"kind": KIND, "version": VERSION, "threshold": threshold, "network": network.arguments, **facts}
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(values)
    with replace_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
        difference = _measure_difference(network, temporary)
        if not difference <= MAX_DIFFERENCE:  # also for NaN
            found = f"differs from the torch network by {difference:.2g} (limit {MAX_DIFFERENCE:g})"
            raise ModelError(path, found, "nothing was written; report this with the settings")
    return difference


@torch.no_grad()
def _measure_difference(network: FaceNet, path: Path) -> float:
    canvas, _ = draw_canvas(np.random.default_rng(0).integers(0, 256, (120, 200), dtype=np.uint8))
    of_torch = network(torch.from_numpy(canvas)[None, None]).numpy()
    return float(np.abs(of_torch - FaceNetSession(path, threads=1).compute_answers(canvas)).max())
