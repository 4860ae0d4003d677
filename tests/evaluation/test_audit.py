from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.core.errors import DataError
from mien.data.duplicates import find_duplicates
from mien.evaluation.audit.findings import collect_findings, find_outliers, write_tables
from mien.evaluation.audit.label_errors import LabelErrors, find_label_errors, read_probabilities
from mien.evaluation.audit.non_faces import make_non_faces, oriented_gradients, score_non_faces
from tests.conftest import patterns
from tests.data.test_duplicates import blobs


def test_confident_learning_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.65, 0.35]])
    labels = np.array([0, 0, 0, 1, 1])
    found = find_label_errors(probabilities, labels)
    assert found.thresholds == pytest.approx([(0.9 + 0.8 + 0.1) / 3, (0.7 + 0.35) / 2])  # .6 and .525
    # 0.9 and 0.8 are confidently class 0; 0.9 of the third, labeled 0, confidently class 1; .7 class 1; .65 class 0
    assert found.confident_joint.tolist() == [[2, 1], [1, 1]]
    assert found.is_flagged.tolist() == [False, False, True, False, True]
    assert found.error_score == pytest.approx([0.1, 0.2, 0.9, 0.3, 0.65])
    assert found.suggested.tolist() == [0, 0, 1, 1, 0]


def test_confident_learning_finds_planted_flips() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 5, 2000)
    probabilities = rng.dirichlet(np.ones(5), 2000) * 0.4
    probabilities[np.arange(2000), truth] += 0.6
    labels = truth.copy()
    flips = rng.permutation(2000)[:100]
    labels[flips] = (labels[flips] + rng.integers(1, 5, 100)) % 5
    found = find_label_errors(probabilities, labels)
    assert np.isin(flips, np.argsort(-found.error_score)[:100]).all()
    assert found.is_flagged.sum() > 40  # those of more than the mean probability of their class
    assert np.isin(np.flatnonzero(found.is_flagged), flips).all()


def test_unknown_labels_are_never_suspicious() -> None:
    found = find_label_errors(np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]]), np.array([-1, 1, 1]))
    assert found.error_score[0] == 0 and not found.is_flagged[0]
    assert found.thresholds[0] == 1  # nothing is labeled 0


def test_probabilities_are_read_by_name_and_refused_where_rows_are_absent(tmp_path: Path) -> None:
    faces = patterns(4, classes=("angry", "happy"))
    rows = [f"{name},happy,{0.75 - 0.1 * k},{0.25 + 0.1 * k}" for k, name in enumerate(faces.names)]
    path = tmp_path / "p.csv"
    path.write_text("\n".join(["path,label,p_happy,p_angry", *reversed(rows)]))
    expected = [[0.25, 0.75], [0.35, 0.65], [0.45, 0.55], [0.55, 0.45]]
    assert read_probabilities(path, faces) == pytest.approx(np.array(expected), abs=1e-6)
    for text, message in (
        ("\n".join(["path,label,p_happy,p_angry", *rows[:2]]), "no row for 2 of the faces"),
        ("path,label,p_happy\n", "no column 'p_angry'"),
        ("path,p_happy,p_angry\nx,a,b\n", "not a CSV of probabilities"),
        ("\n".join(["path,p_happy,p_angry", *(f"{name},7,8" for name in faces.names)]), "no probabilities"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_probabilities(path, faces)


def test_oriented_gradients_see_direction_and_not_light() -> None:
    _, x = np.mgrid[:48, :48]
    upright = (128 + 60 * np.sin(x / 2)).astype(np.uint8)
    rows = oriented_gradients(np.stack([upright, (upright * 0.5).astype(np.uint8), upright.T]))
    assert rows.shape == (3, 900)
    assert np.corrcoef(rows[0], rows[1])[0, 1] > 0.99
    assert np.corrcoef(rows[0], rows[2])[0, 1] < 0.5


def test_unmade_faces_are_pictures_and_come_again_from_a_seed() -> None:
    images = blobs(30)
    made = make_non_faces(images, 24, np.random.default_rng(1))
    assert made.shape == (24, 48, 48) and made.dtype == np.uint8
    assert np.array_equal(made, make_non_faces(images, 24, np.random.default_rng(1)))


def test_pictures_unlike_the_others_are_no_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.evaluation.audit.non_faces._TRAINING_PICTURES", 1200)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    ordinary = []  # an oval with two eyes and a mouth, everywhere a little different
    for _ in range(600):
        dx, dy, wide = *rng.normal(0, 1, 2).tolist(), rng.uniform(0.9, 1.1)
        face = 60 + 110 * (((x - 24 - dx) / (17 * wide)) ** 2 + ((y - 24 - dy) / 21) ** 2 < 1)
        for cx, cy, w, h in ((16, 18, 4, 2), (32, 18, 4, 2), (24, 34, 7, 2)):
            face = np.where(((x - cx - dx) / w) ** 2 + ((y - cy - dy) / h) ** 2 < 1, 40, face)
        ordinary.append(np.clip(face + rng.normal(0, 8, face.shape), 0, 255).astype(np.uint8))
    score = score_non_faces(np.concatenate([np.stack(ordinary), blobs(40)]), quiet=True)
    assert (score[600:] > 0).mean() >= 0.8
    assert (score[:600] > 0).mean() <= 0.02


def test_odd_light_is_named_and_ordinary_light_is_not() -> None:
    rng = np.random.default_rng(0)
    images = 128 + (blobs(200) - 128.0) * rng.uniform(0.4, 1, (200, 1, 1)) + rng.uniform(-40, 40, (200, 1, 1))
    images[0] *= 0.03
    images[1] = 128 + (images[1] - 128) * 0.02
    images[2] = np.clip(rng.normal(128, 30, (48, 48)), 0, 255)
    found = find_outliers(np.clip(images, 0, 255).astype(np.uint8), np.ones(200, bool))
    assert found[:3].tolist() == ["flat", "flat", "noisy"]
    assert (found[3:] == "").all()


def test_tables_name_rows_that_exclude_understands(tmp_path: Path) -> None:
    from mien.data.splits import exclude_faces, read_names

    base = patterns(8)
    images = np.concatenate([blobs(5), blobs(5)[[0, 1]], np.zeros((1, 48, 48), np.uint8)])
    split = np.array(["Training"] * 5 + ["PublicTest", "Training", "Training"])
    votes = np.zeros((8, 10), np.uint8)
    votes[3, 9] = 6
    faces = replace(base, images=images, split=split, votes=votes)
    findings = collect_findings(faces, find_duplicates(images, quiet=True))
    write_tables(findings, tmp_path)
    assert read_names(tmp_path / "duplicates.csv") == {str(faces.names[0]), str(faces.names[6])}
    assert read_names(tmp_path / "leaked.csv") == {str(faces.names[5])}
    assert read_names(tmp_path / "nonfaces.csv") == {str(faces.names[3]), str(faces.names[7])}
    assert len(exclude_faces(faces, read_names(tmp_path / "audit.csv"))) == 4
    assert not (tmp_path / "labels.csv").exists()
    with (tmp_path / "audit.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["reasons"], first["duplicate_of"], first["duplicate_of_split"]) == (
        "duplicate",
        str(faces.names[5]),
        "PublicTest",
    )
    counts = findings.counts()
    assert counts["groups"] == {
        "groups": 2, "rows": 4, "surplus": 2, "within_one_split": 1, "across_splits": 1, "contradictory": 2,
    }  # fmt: skip
    assert counts["leaked"] == {"Training": 0, "PublicTest": 1}


def test_of_the_flagged_labels_the_most_suspicious_are_taken() -> None:
    faces, nothing = patterns(20), np.zeros((7, 7))
    flagged = np.arange(20) >= 14
    suspicion = LabelErrors(np.linspace(1, 0, 20, dtype=np.float32), flagged, faces.labels, nothing, nothing[0])
    found = collect_findings(faces, find_duplicates(faces.images), label_errors=suspicion, share=0.15)
    assert np.flatnonzero(found.has_label_error).tolist() == [14, 15, 16]
