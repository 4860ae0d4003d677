from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mien.core.errors import DataError
from mien.core.types import FaceSet
from mien.data import splits
from tests.conftest import patterns


def test_stratified_parts_are_exact_disjoint_and_proportional() -> None:
    labels = np.repeat([0, 1, 2, -1], [500, 300, 150, 50])
    parts = splits.stratified(labels, [333, 100, 567], seed=4)
    assert [len(part) for part in parts] == [333, 100, 567]
    assert sorted(np.concatenate(parts)) == list(range(1000))
    for part in parts:
        shares = [(labels[part] == value).mean() for value in (0, 1, 2, -1)]
        np.testing.assert_allclose(shares, [0.5, 0.3, 0.15, 0.05], atol=1 / len(part))


def test_the_same_seed_gives_the_same_rows_and_another_does_not() -> None:
    labels = np.arange(100) % 7
    first, again, other = (splits.stratified(labels, [50], seed)[0] for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_more_faces_than_there_are_is_refused() -> None:
    with pytest.raises(DataError, match="sizes 60, 50 add up to 110 of 100 faces"):
        splits.stratified(np.zeros(100, int), [60, 50], 0)


def test_fractions_that_add_up_to_one_use_every_row() -> None:
    assert splits.fraction_sizes(103, [0.8, 0.1, 0.1]) == [82, 11, 10]
    for wrong in ([0.5, 0.6], [0.0, 0.5], [-0.1]):
        with pytest.raises(DataError, match="positive numbers that add up to at most 1"):
            splits.fraction_sizes(100, wrong)


def test_hold_out_sets_a_stratified_part_aside(faces: FaceSet) -> None:
    rest, held = splits.hold_out(faces, 0.2, seed=0)
    assert held.counts().tolist() == [2] * 7
    assert set(rest.names).isdisjoint(held.names)
    assert len(rest) + len(held) == 70


def test_the_five_sizes_of_the_second_reference_system() -> None:
    faces = patterns(2640)
    again = splits.resplit(faces, ["train", "validation", "test"], [1188, 735, 717], seed=0)
    assert {name: int((again.split == name).sum()) for name in again.splits} == {
        "train": 1188,
        "validation": 735,
        "test": 717,
    }
    assert len(np.unique(again.names)) == 2640


def test_only_the_named_classes_in_the_named_order(faces: FaceSet) -> None:
    some = splits.only_classes(faces, ["sadness", "angry"])
    assert (some.classes, some.counts().tolist()) == (("sad", "angry"), [10, 10])
    np.testing.assert_array_equal(some.images[some.labels == 1], faces.images[faces.labels == 0])
    with pytest.raises(DataError, match="contempt does not occur"):
        splits.only_classes(faces, ["contempt"])


def test_official_splits_are_told_from_the_order_of_a_whole_file() -> None:
    count = 32_298
    blank = FaceSet(np.zeros((count, 1, 1), np.uint8), np.zeros(count, np.int64), ("a",), np.arange(count).astype(str),
                    np.full(count, ""))  # fmt: skip
    told = splits.official_splits(blank)
    assert [(told.split == name).sum() for name in ("Training", "PublicTest")] == [28_709, 3_589]
    with pytest.raises(DataError, match=r"needs all of FER2013"):
        splits.official_splits(blank.take(np.arange(100)))


def test_excluded_rows_are_left_out_and_unknown_ones_are_named(faces: FaceSet, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,why\nTraining/00003.png,blank\nTraining/00004.png,twin\n")
    names = splits.read_names(tmp_path / "x.csv")
    assert len(splits.without(faces, names)) == 68
    with pytest.raises(DataError, match="'no such row' first"):
        splits.without(faces, names | {"no such row"})
    (tmp_path / "y.csv").write_text("name\na\n")
    with pytest.raises(DataError, match="has no column 'path'"):
        splits.read_names(tmp_path / "y.csv")
