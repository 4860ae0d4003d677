"""The benchmark of planted defects, small: duplicates and their precision, and how it counts labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import planted_errors

from mien.data.duplicates import find_duplicates
from tests.conftest import patterns
from tests.data.test_duplicates import blobs


def test_planted_duplicates_are_found_again() -> None:
    faces = replace(patterns(300), images=blobs(300))
    real = find_duplicates(faces.images, quiet=True)
    copy = planted_errors.plant_errors(faces, planted_errors.crop_photographs(10, 48), flips=20, duplicates=40, seed=1)
    assert len(copy.faces) == 350 and len(copy.flipped) == 20
    assert (copy.faces.labels[copy.flipped] != faces.labels[copy.flipped]).all()
    assert (np.delete(copy.faces.labels[:300], copy.flipped) == np.delete(faces.labels, copy.flipped)).all()
    assert np.unique(copy.kinds, return_counts=True)[1].tolist() == [20, 6, 7, 7]  # exact, lit, mirrored, scaled
    found = planted_errors.score_duplicates(copy, find_duplicates(copy.faces.images, quiet=True), real)
    assert found["recall"] >= 0.95
    assert found["precision"] >= 0.99


def test_a_pair_of_strangers_lowers_precision_and_a_copy_not_found_recall() -> None:
    faces = replace(patterns(40), images=blobs(40))
    copy = planted_errors.plant_errors(faces, planted_errors.crop_photographs(2, 48), flips=2, duplicates=4)
    exact = [row for row, kind in zip(copy.copies, copy.kinds, strict=True) if kind == "exact"]
    real, duplicates = find_duplicates(faces.images, quiet=True), find_duplicates(copy.faces.images, quiet=True)
    is_not_a_face = next(row for row in range(40) if row not in copy.sources)
    wrong = replace(duplicates, pairs=np.concatenate([duplicates.pairs, [[is_not_a_face, exact[0]]]]))
    assert planted_errors.score_duplicates(copy, wrong, real)["precision"] == len(duplicates.pairs) / (
        len(duplicates.pairs) + 1
    )
    nothing = replace(duplicates, groups=())
    assert planted_errors.score_duplicates(copy, nothing, real)["recall"] == 0


def test_flips_are_counted_among_the_most_suspicious() -> None:
    faces = replace(patterns(100), images=blobs(100))
    copy = planted_errors.plant_errors(faces, planted_errors.crop_photographs(1, 48), 4, 2)
    error_score = np.zeros(len(copy.faces))
    error_score[copy.flipped[:3]] = 1
    assert planted_errors.score_labels(copy, error_score, share=3 / len(copy.faces)) == 0.75
