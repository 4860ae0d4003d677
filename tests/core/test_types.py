from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

from mien.analysis.api.faces import Faces
from mien.core.errors import DataError, UsageError
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


def happy(**changes: object) -> Face:
    values = {"box_xyxy": (1.0, 2.0, 11.0, 22.0), "score": 0.9, "labels": ("sad", "happy", "fear"),
              "probabilities": np.array([0.2, 0.7, 0.1], np.float32)}  # fmt: skip
    return Face(**values | changes)


def test_faces_compare_and_hash_by_their_values() -> None:
    assert happy() == happy()
    assert hash(happy()) == hash(happy())
    assert len({happy(), happy(), happy(track=1)}) == 2
    changes = {
        "box_xyxy": (0.0, 2.0, 11.0, 22.0), "score": None, "probabilities": np.array([0.3, 0.6, 0.1], np.float32),
        "labels": ("a", "b", "c"), "track": 0, "smoothed": np.array([0.2, 0.7, 0.1], np.float32), "smoothed_label": "sad",
        "unsure_below": 0.5, "not_a_face": 0.1, "is_not_a_face": True,
    }  # fmt: skip
    assert set(changes) == {field.name for field in fields(Face) if field.compare}
    for name, value in changes.items():
        assert happy(**{name: value}) != happy()
    assert happy() != "happy"


def test_a_face_says_its_probabilities_by_label() -> None:
    face = happy(unsure_below=0.8, track=3)
    assert face.probability("sad") == pytest.approx(0.2)
    assert face.probability("happiness") == pytest.approx(0.7)
    with pytest.raises(UsageError, match="`label=bored`: is unknown; choose one of sad, happy, fear"):
        face.probability("bored")
    assert repr(face) == "<Face happy? 0.70 at (1, 2)-(11, 22), track 3>"
    values = json.loads(json.dumps(face.as_dict()))
    assert values["probabilities"] == pytest.approx({"sad": 0.2, "happy": 0.7, "fear": 0.1})
    assert (values["label"], values["is_unsure"], values["box_xyxy"]) == ("happy", True, [1, 2, 11, 22])
    assert (values["track"], values["smoothed"], values["smoothed_label"]) == (3, None, None)


def test_faces_of_a_picture_are_a_sequence_that_compares() -> None:
    faces = Faces([happy(), happy(track=1)])
    assert faces == [happy(), happy(track=1)] == faces and faces == tuple(faces)
    assert faces != faces[:1] and not (faces != Faces(faces))  # noqa: SIM202
    assert hash(faces) == hash(Faces(list(faces)))
    assert repr(Faces()) == "<Faces (0)>"
    assert repr(faces) == "<Faces (2): happy 0.70 at (1, 2)-(11, 22); happy 0.70 at (1, 2)-(11, 22)>"
    assert repr(Faces([happy()] * 6)).endswith(", and 2 more>")
    assert pickle.loads(pickle.dumps(faces)) == faces
