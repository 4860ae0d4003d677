from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mien.core.errors import DataError
from mien.core.types import Face, FaceSet, concatenate_faces, split_role
from tests.conftest import patterns


def test_a_face_set_checks_itself(faces: FaceSet) -> None:
    with pytest.raises(ValueError, match="uint8"):
        replace(faces, images=faces.images.astype(float))
    with pytest.raises(ValueError, match="labels must have shape"):
        replace(faces, labels=faces.labels[:-1])
    with pytest.raises(ValueError, match="7 classes"):
        replace(faces, labels=faces.labels + 1)
    with pytest.raises(ValueError, match="votes"):
        replace(faces, votes=np.zeros((70, 9), np.uint8))


def test_counts_leave_out_unlabeled_faces(faces: FaceSet) -> None:
    labels = faces.labels.copy()
    labels[:7] = -1
    assert replace(faces, labels=labels).class_counts().tolist() == [9] * 7


@pytest.mark.parametrize(
    ("name", "role"), [("Training", "train"), ("PublicTest", "validation"), ("val", "validation"), ("PrivateTest", "test"), ("Training Set", "train"),
                     ("private_test", "test"), ("FER2013Train", "train"), ("val-images", "validation"), ("odd Set", "odd set")]
)  # fmt: skip
def test_split_names_have_roles(name: str, role: str) -> None:
    assert split_role(name) == role


def test_a_role_takes_every_split_that_plays_it() -> None:
    faces = concatenate_faces(
        [patterns(7, split="test"), patterns(14, seed=1, split="PrivateTest"), patterns(7, seed=2)]
    )
    assert (len(faces.select_split("test")), len(faces.select_role("test")), len(faces.select_split("testing"))) == (
        7,
        21,
        21,
    )


def test_a_split_is_found_by_its_name_or_its_role() -> None:
    both = concatenate_faces([patterns(7), patterns(14, split="PublicTest")])
    assert len(both.select_split("PublicTest")) == len(both.select_split("validation")) == 14
    assert len(both.select_split("train")) == 7
    with pytest.raises(DataError, match=r"split 'test': does not occur; the data has: Training, PublicTest"):
        both.select_split("test")


def test_labels_follow_their_names_into_another_order(faces: FaceSet) -> None:
    backwards = faces.reindex_classes(faces.classes[::-1])
    assert [backwards.classes[label] for label in backwards.labels] == [faces.classes[label] for label in faces.labels]


def test_a_class_the_model_does_not_know_is_named(faces: FaceSet) -> None:
    with pytest.raises(DataError, match="the data has neutral, the model knows angry"):
        faces.reindex_classes(faces.classes[:-1])


def test_sets_of_different_classes_are_joined_by_name() -> None:
    joined = concatenate_faces(
        [patterns(4, classes=("happy", "sad")), patterns(4, classes=("sad", "awe"), split="val")]
    )
    assert joined.classes == ("happy", "sad", "awe")
    assert joined.class_counts().tolist() == [2, 4, 2]


def test_the_same_picture_twice_is_refused(faces: FaceSet) -> None:
    with pytest.raises(DataError, match="same picture"):
        concatenate_faces([faces, faces])


def test_a_face_knows_its_label() -> None:
    face = Face((1, 2, 11, 22), 0.9, np.array([0.2, 0.7, 0.1], np.float32), ("sad", "happy", "fear"))
    assert (face.label, round(face.confidence, 6), str(face)) == ("happy", 0.7, "happy 0.70 at (1, 2)-(11, 22)")
    with pytest.raises(ValueError, match="x1 < x2"):
        replace(face, box_xyxy=(1, 2, 1, 22))
