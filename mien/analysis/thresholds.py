"""What a detector found and a network said → faces, with what there is to doubt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.analysis.detection.detectors import Detections
from mien.analysis.inference.classifier import Classifier
from mien.core.types import Face


@dataclass(frozen=True)
class Doubt:
    """Thresholds in 0..1, None for none.

    unsure_below     labels with less probability are unsure
    drop_above       what has a higher not-a-face score is left out
    non_face_above   what has a higher one is marked
    """

    unsure_below: float | None = None
    drop_above: float | None = None
    non_face_above: float | None = None

    @classmethod
    def of(cls, classifier: Classifier, unsure: str | float = "auto", drop_non_faces: str | float = "off") -> Doubt:
        """What is asked for, "auto" being the model's own; UsageError for what makes no sense."""
        return cls(
            classifier.resolve_threshold("unsure", unsure),
            classifier.resolve_threshold("not_a_face", drop_non_faces),
            classifier.info.thresholds.get("not_a_face"),
        )


def make_faces(
    found: Detections,
    probabilities: np.ndarray,
    non_faces: np.ndarray | None,
    labels: tuple[str, ...],
    doubt: Doubt,
    detected: bool = True,
) -> list[Face]:
    """The faces of one picture.

    probabilities   float32 (N, K) for the N boxes
    non_faces       float32 (N,), scores that each is no face, or None where the model gives none
    detected        False: no detector ran, the picture is the face; it has no score and is never left out
    """
    faces = []
    for index, (box, score, row) in enumerate(zip(found.boxes_xyxy, found.scores, probabilities, strict=True)):
        nothing = None if non_faces is None else float(non_faces[index])
        if detected and nothing is not None and doubt.drop_above is not None and nothing > doubt.drop_above:
            continue
        faces.append(
            Face(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                float(score) if detected else None,
                row,
                labels,
                unsure_below=doubt.unsure_below,
                not_a_face=nothing,
                is_not_a_face=nothing is not None
                and doubt.non_face_above is not None
                and nothing > doubt.non_face_above,
            )
        )
    return faces
