"""Detections and probabilities → faces, with those marked that are unsure or probably no face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.analysis.detection.detectors import Detections
from mien.analysis.inference.classifier import Classifier
from mien.core.types import Face


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of one recognizer, each in 0..1 or None for none.

    unsure_below       labels with a lower probability are unsure
    drop_above         faces with a higher not-a-face score are left out
    not_a_face_above   faces with a higher one are marked
    """

    unsure_below: float | None = None
    drop_above: float | None = None
    not_a_face_above: float | None = None

    @classmethod
    def from_classifier(
        cls, classifier: Classifier, unsure: str | float = "auto", drop_non_faces: str | float = "off"
    ) -> Thresholds:
        """Return the thresholds that are asked for; "auto" is the model's own, "off" none.

        Raises UsageError for what is neither of these nor a number in 0..1.
        """
        return cls(
            classifier.resolve_threshold("unsure", unsure),
            classifier.resolve_threshold("not_a_face", drop_non_faces),
            classifier.info.thresholds.get("not_a_face"),
        )


def make_faces(
    detections: Detections,
    probabilities: np.ndarray,
    not_a_face_scores: np.ndarray | None,
    labels: tuple[str, ...],
    thresholds: Thresholds,
    has_detector: bool = True,
) -> list[Face]:
    """Return the faces of one picture.

    found              N boxes
    probabilities      float32 (N, K)
    not_a_face_scores  float32 (N,), or None where the model has no such score
    has_detector       False: the whole picture is the face; it has no score and is never left out
    """
    faces = []
    for index, (box, score, row) in enumerate(
        zip(detections.boxes_xyxy, detections.scores, probabilities, strict=True)
    ):
        nothing = None if not_a_face_scores is None else float(not_a_face_scores[index])
        if (
            has_detector
            and nothing is not None
            and thresholds.drop_above is not None
            and nothing > thresholds.drop_above
        ):
            continue
        faces.append(
            Face(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                float(score) if has_detector else None,
                row,
                labels,
                unsure_below=thresholds.unsure_below,
                not_a_face=nothing,
                is_not_a_face=nothing is not None
                and thresholds.not_a_face_above is not None
                and nothing > thresholds.not_a_face_above,
            )
        )
    return faces
