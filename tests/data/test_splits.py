from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.core.errors import DataError
from mien.core.types import FaceSet
from mien.data import splits
from tests.conftest import patterns


def test_stratified_parts_are_exact_disjoint_and_proportional() -> None:
    labels = np.repeat([0, 1, 2, -1], [500, 300, 150, 50])
    parts = splits.sample_stratified(labels, [333, 100, 567], seed=4)
    assert [len(part) for part in parts] == [333, 100, 567]
    assert sorted(np.concatenate(parts)) == list(range(1000))
    for part in parts:
        shares = [(labels[part] == value).mean() for value in (0, 1, 2, -1)]
        np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=1 / len(part))


def test_the_same_seed_gives_the_same_rows_and_another_does_not() -> None:
    labels = np.arange(100) % 7
    first, again, other = (splits.sample_stratified(labels, [50], seed)[0] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_more_faces_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="sizes 60, 50 add up to 110 of 100 faces"):
        splits.sample_stratified(np.zeros(100, int), [60, 50], 0)


def test_fractions_that_add_up_to_one_use_every_row() -> None:
    assert splits.sizes_from_fractions(103, [0.8, 0.1, 0.1]) == [82, 11, 10]
    for wrong in ([0.5, 0.6], [0.0, 0.5], [-0.1]):
        with pytest.raises(DataError, match="positive numbers that add up to at most 1"):
            splits.sizes_from_fractions(100, wrong)


def test_hold_out_sets_a_stratified_part_aside(faces: FaceSet) -> None:
    rest, held = splits.hold_out_faces(faces, 0.2, seed=0)
    assert held.class_counts().tolist() == [2] * 7
    assert set(rest.names).isdisjoint(held.names)
    assert len(rest) + len(held) == 70


def test_the_five_sizes_of_the_second_reference_system() -> None:
    faces = patterns(2640)
    again = splits.split_stratified(faces, ["train", "validation", "test"], [1188, 735, 717], seed=0)
    assert {name: int((again.split == name).sum()) for name in again.splits} == {
        "train": 1188,
        "validation": 735,
        "test": 717,
    }
    assert len(np.unique(again.names)) == 2640


def test_only_the_named_classes_in_the_named_order(faces: FaceSet) -> None:
    some = splits.filter_classes(faces, ["sadness", "angry"])
    assert (some.classes, some.class_counts().tolist()) == (("sad", "angry"), [10, 10])
    np.testing.assert_array_equal(some.images[some.labels == 1], faces.images[faces.labels == 0])
    with pytest.raises(DataError, match="contempt does not occur"):
        splits.filter_classes(faces, ["contempt"])


def test_official_splits_are_told_from_the_order_of_a_whole_file() -> None:
    count = 32_298
    blank = FaceSet(np.zeros((count, 1, 1), np.uint8), np.zeros(count, np.int64), ("a",), np.arange(count).astype(str),
                    np.full(count, ""))  # fmt: skip
    told = splits.assign_official_splits(blank)
    assert [(told.split == name).sum() for name in ("Training", "PublicTest")] == [28_709, 3_589]
    with pytest.raises(DataError, match=r"needs all of FER2013"):
        splits.assign_official_splits(blank.take(np.arange(100)))


def test_excluded_rows_are_left_out_and_unknown_ones_are_named(faces: FaceSet, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,why\nTraining/00003.png,blank\nTraining/00004.png,twin\n")
    names = splits.read_names(tmp_path / "x.csv")
    assert len(splits.exclude_faces(faces, names)) == 68
    with pytest.raises(DataError, match="'no such row' first"):
        splits.exclude_faces(faces, names | {"no such row"})
    (tmp_path / "y.csv").write_text("name\na\n")
    with pytest.raises(DataError, match="has no column 'path'"):
        splits.read_names(tmp_path / "y.csv")


def test_in_order_takes_the_first_rows_and_then_the_next(faces: FaceSet) -> None:
    divided = splits.split_in_order(faces, ["train", "test"], [50, 15])
    assert divided.names.tolist() == faces.names[:65].tolist()
    assert divided.split.tolist() == ["train"] * 50 + ["test"] * 15
    np.testing.assert_array_equal(divided.images, faces.images[:65])
    assert len(splits.split_in_order(faces, ["all"], [70])) == 70
    with pytest.raises(DataError, match="sizes 60, 11 add up to 71 of 70 faces; ask for fewer"):
        splits.split_in_order(faces, ["train", "test"], [60, 11])
    with pytest.raises(DataError, match="sizes 60, -1: a part cannot have fewer than 0 faces"):
        splits.split_in_order(faces, ["train", "test"], [60, -1])


def test_counts_of_each_class_are_exact_and_parts_disjoint(faces: FaceSet) -> None:
    parts = {"train": {"happy": 6, "angry": 3}, "test": {"Anger": 2, "happy": 4}}
    drawn = splits.split_by_class_counts(faces, parts, seed=1)
    assert drawn.classes == ("angry", "happy")  # in the order of the data
    assert drawn.select_split("train").class_counts().tolist() == [3, 6]
    assert drawn.select_split("test").class_counts().tolist() == [2, 4]
    assert len(set(drawn.names)) == 15
    labels = {name: faces.classes[label] for name, label in zip(faces.names, faces.labels, strict=True)}
    assert [labels[name] for name in drawn.names] == [drawn.classes[label] for label in drawn.labels]


def test_counts_are_drawn_by_the_seed(faces: FaceSet) -> None:
    first, again, other = (
        splits.split_by_class_counts(faces, {"train": {"sad": 5, "fear": 5}}, seed) for seed in (1, 1, 2)
    )
    assert first.names.tolist() == again.names.tolist()
    assert set(first.names) != set(other.names)


def test_counts_that_the_data_does_not_have_are_refused(faces: FaceSet) -> None:
    with pytest.raises(DataError, match="'test' asks for 5 faces of sad, 4 are left; ask for fewer"):
        splits.split_by_class_counts(faces, {"train": {"sad": 6}, "test": {"sad": 5}}, seed=0)
    with pytest.raises(DataError, match="contempt does not occur; the data has angry, disgust"):
        splits.split_by_class_counts(faces, {"train": {"sad": 6, "contempt": 5}}, seed=0)


def unlike(count: int = 200) -> FaceSet:
    """Faces of classes that occur 100 : 60 : 40 times, with votes, of which every tenth is unlabeled."""
    labels = np.repeat([0, 1, 2], [count // 2, count * 3 // 10, count // 5])
    labels[::10] = -1
    votes = np.full((count, 10), 7, np.uint8)
    return replace(patterns(count, classes=("happy", "sad", "fear"), split="Training"), labels=labels, votes=votes)


def test_labels_are_kept_by_a_stratified_share() -> None:
    faces = unlike()
    bare = splits.remove_labels(faces, 0.25, seed=0)
    assert faces.class_counts().tolist() == [90, 54, 36]
    assert bare.class_counts().sum() == 45  # a quarter of the 180 that were known
    np.testing.assert_allclose(bare.class_counts(), [22.5, 13.5, 9], atol=1)
    assert bare.names.tolist() == faces.names.tolist()
    np.testing.assert_array_equal(bare.labels[bare.is_labeled], faces.labels[bare.is_labeled])
    assert not bare.is_labeled[::10].any()


def test_votes_go_with_the_label_that_they_would_tell() -> None:
    faces = unlike()
    bare = splits.remove_labels(faces, 0.25, seed=0)
    lost = faces.is_labeled & ~bare.is_labeled
    assert not bare.votes[lost].any()
    assert (bare.votes[~lost] == 7).all()
    assert (faces.votes == 7).all()  # what was given is as it was


def test_labels_are_kept_by_the_seed() -> None:
    first, again, other = (splits.remove_labels(unlike(), 0.5, seed).labels.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_only_training_faces_lose_their_labels() -> None:
    faces = replace(unlike(), split=np.array(["Training", "val"] * 100))
    bare = splits.remove_training_labels(faces, 0.2, seed=0)
    was, now = faces.select_split("val"), bare.select_split("validation")
    np.testing.assert_array_equal(now.labels, was.labels)
    np.testing.assert_array_equal(now.votes, was.votes)
    assert bare.select_split("train").is_labeled.sum() == round(0.2 * faces.select_split("train").is_labeled.sum())
    nowhere = replace(unlike(), split=np.full(200, ""))
    assert splits.remove_training_labels(nowhere, 0.5, seed=0).is_labeled.sum() == 90


def test_labels_cannot_be_removed_from_nothing_nor_from_a_whole_class() -> None:
    with pytest.raises(DataError, match="finds no training split; the data has: PublicTest"):
        splits.remove_training_labels(patterns(70, split="PublicTest"), 0.5, seed=0)
    with pytest.raises(DataError, match=r"0.006 leaves no label of sad, fear; keep a larger share"):
        splits.remove_training_labels(unlike(), 0.006, seed=0)
    bare = replace(unlike(), labels=np.full(200, -1))
    with pytest.raises(DataError, match="finds no label among the training faces"):
        splits.remove_training_labels(bare, 0.5, seed=0)


def test_one_class_against_all_others(faces: FaceSet) -> None:
    labels = faces.labels.copy()
    labels[0] = -1
    two = splits.make_one_vs_rest(replace(faces, labels=labels), "Happiness")
    assert two.classes == ("other", "happy")
    expected = [-1, *(int(name == "happy") for name in np.array(faces.classes)[faces.labels[1:]])]
    assert two.labels.tolist() == expected
    assert two.class_counts().tolist() == [59, 10]
    np.testing.assert_array_equal(two.images, faces.images)
    with pytest.raises(DataError, match="contempt does not occur"):
        splits.make_one_vs_rest(faces, "contempt")


def test_shares_that_are_no_numbers_are_refused() -> None:
    for wrong in ([float("nan"), 0.5], [0.5, float("nan")], [float("inf")]):
        with pytest.raises(DataError, match="positive numbers that add up to at most 1"):
            splits.sizes_from_fractions(100, wrong)


def test_one_name_for_all_of_fer2013_is_no_division() -> None:
    whole = FaceSet(np.zeros((32_298, 1, 1), np.uint8), np.zeros(32_298, np.int64), ("a",),
                    np.array([str(row) for row in range(32_298)]), np.full(32_298, "dev"))  # fmt: skip
    divided = splits.assign_official_splits(whole)
    assert [len(divided.select_split(name)) for name in ("Training", "PublicTest")] == [28_709, 3_589]
    some = whole.take(np.arange(10))
    assert splits.assign_official_splits(some).splits == ("dev",)


def test_no_part_is_empty_without_a_word() -> None:
    with pytest.raises(DataError, match="of 12 faces leave a part empty"):
        splits.sizes_from_fractions(12, [0.97, 0.01, 0.02])


def test_a_list_of_names_with_a_short_row_is_refused_and_blanks_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,path\nangry\n")
    with pytest.raises(DataError, match=r"a.csv line 2: has no field for the column 'path'"):
        splits.read_names(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("label,path\nangry,\nsad,x#1\n")
    assert splits.read_names(tmp_path / "b.csv") == {"x#1"}
