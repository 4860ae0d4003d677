from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mien.core.errors import DataError
from mien.core.labels import CANONICAL, FERPLUS_VOTES
from mien.data.annotators import majority_votes, relabel_faces
from tests.conftest import patterns, voted


def of(**named: int) -> np.ndarray:
    return np.array([named.get(name, 0) for name in FERPLUS_VOTES], np.uint8)


@pytest.mark.parametrize(
    ("votes", "seen"),
    [
        (of(happy=10), "happy"),
        (of(sad=6, neutral=4), "sad"),
        (of(sad=5, neutral=5), None),  # a tie
        (of(sad=5, neutral=3, fear=2), None),  # half is not more than half
        (of(sad=5, neutral=2, fear=1, angry=1, disgust=1), "sad"),  # 5 of 7: single votes are dropped first
        (of(sad=4, neutral=3, fear=3), None),
        (of(unknown=6, sad=4), "unknown"),
        (of(not_a_face=8, neutral=2), "not_a_face"),
        (of(sad=4, unknown=4, happy=2), None),  # "unknown" is an answer too
        (of(contempt=6, neutral=4), "contempt"),
        (of(sad=1, happy=1, neutral=1), None),  # nothing is left
        (of(), None),
    ],
)
def test_a_majority_has_more_than_half_of_what_at_least_two_raters_saw(votes: np.ndarray, seen: str | None) -> None:
    (found,) = majority_votes(votes[None])
    assert (FERPLUS_VOTES[found] if found >= 0 else None) == seen


def test_faces_go_by_their_raters_and_the_undecided_lose_their_label() -> None:
    faces = voted(patterns(5), {"sad": 9}, {"contempt": 10}, {"not_a_face": 10}, {"happy": 5, "neutral": 5})
    ours = relabel_faces(faces, "annotators")
    assert ours.classes == CANONICAL
    assert [CANONICAL[label] if label >= 0 else "" for label in ours.labels] == ["sad", "contempt", "", "", ""]
    assert ours.names.tolist() == faces.names.tolist()
    assert relabel_faces(faces, "given") is faces
    assert relabel_faces(faces, "annotators", known_classes=("sad", "happy")).labels.tolist() == [
        CANONICAL.index("sad"),
        -1,
        -1,
        -1,
        -1,
    ]


def test_raters_who_were_never_asked_are_named() -> None:
    with pytest.raises(DataError, match=r"holds no FER\+ votes, which the labels of the annotators are made of"):
        relabel_faces(replace(patterns(4), votes=None), "annotators")
