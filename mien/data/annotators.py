"""Labels out of FER+'s votes: the expression that most raters of a face saw."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from mien.core.errors import DataError
from mien.core.labels import CANONICAL, FERPLUS, FERPLUS_VOTES
from mien.core.types import UNLABELED, FaceSet

#: Whose labels a face can go by: its file's, or its raters'.
GIVEN, RATERS = "given", "raters"


def majority_votes(votes: np.ndarray) -> np.ndarray:
    """uint8 (N, 10) in the order of FERPLUS_VOTES → int64 (N,), an index into it, or -1 where there is no majority.

    As Barsoum et al. count ("Training Deep Networks for Facial Expression Recognition with Crowd-Sourced Label
    Distribution", 2016): what a single rater saw is dropped, and of the votes that are left one answer must have more
    than half, "unknown" and "not a face" counting as answers. So a tie gives no majority.
    """
    counted = np.where(votes > 1, votes, 0).astype(np.int64)
    most = counted.argmax(axis=1)
    return np.where(2 * counted.max(axis=1, initial=0) > counted.sum(axis=1), most, UNLABELED)


def relabel_faces(faces: FaceSet, source: str, known_classes: Collection[str] = CANONICAL) -> FaceSet:
    """The faces with their ``given`` labels, or with those of their ``raters``: FER+'s eight expressions.

    Faces whose raters are divided, or agree on what is not ``known`` (or no expression), are left without a label.
    DataError where the faces have no votes.
    """
    if source == GIVEN:
        return faces
    if faces.votes is None:
        raise DataError(
            "data",
            "holds no FER+ votes, which labels of raters are made of",
            "join them with `ferplus` when the data is read",
        )
    ours = [CANONICAL.index(name) if name in FERPLUS and name in known_classes else UNLABELED for name in FERPLUS_VOTES]
    return replace(faces, labels=np.array([*ours, UNLABELED])[majority_votes(faces.votes)], classes=CANONICAL)
