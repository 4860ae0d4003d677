"""Labels from the votes of the FER+ annotators: the expression of the majority."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mien.core.errors import DataError
from mien.core.labels import CANONICAL, FERPLUS, FERPLUS_VOTES
from mien.core.types import UNLABELED, FaceSet

#: Sources of labels: the file of the data, or the majority of the annotators.
GIVEN, ANNOTATORS = "given", "annotators"


def rename_label_source(source: str) -> str:
    """Return the present name of a source of labels. Files of version 0.1 say ``raters`` for the annotators."""
    return ANNOTATORS if source == "raters" else source


def majority_votes(votes: np.ndarray) -> np.ndarray:
    """Return the majority of votes uint8 (N, 10) as int64 (N,): an index into FERPLUS_VOTES, or -1 without a majority.

    Answers with a single vote are dropped. A majority has more than half of the remaining votes. "unknown" and "not a face"
    are answers too. A tie has no majority.

    Source: Barsoum et al., "Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", 2016.
    """
    counted = np.where(votes > 1, votes, 0).astype(np.int64)
    most = counted.argmax(axis=1)
    return np.where(2 * counted.max(axis=1, initial=0) > counted.sum(axis=1), most, UNLABELED)


def relabel_faces(faces: FaceSet, source: str, known_classes: Collection[str] = CANONICAL) -> FaceSet:
    """Return the faces with their ``given`` labels, or with the majority of their ``annotators`` (eight FER+ expressions).

    A face gets no label if its annotators have no majority, or if the majority is not in ``known_classes``.
    Raises DataError if the faces have no votes.
    """
    if source == GIVEN:
        return faces
    if faces.votes is None:
        raise DataError(
            "data",
            "holds no FER+ votes, which the labels of the annotators are made of",
            "join them with `ferplus` when the data is read",
        )
    ours = [CANONICAL.index(name) if name in FERPLUS and name in known_classes else UNLABELED for name in FERPLUS_VOTES]
    return replace(faces, labels=np.array([*ours, UNLABELED])[majority_votes(faces.votes)], classes=CANONICAL)
