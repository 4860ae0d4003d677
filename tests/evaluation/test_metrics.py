from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sklearn

from mien.core.labels import FER2013
from mien.evaluation import metrics, score
from mien.evaluation.reports.figures import draw_confusion
from mien.evaluation.tables import format_scores, write_predictions, write_scores
from tests.conftest import patterns


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """(probabilities (400, 7), labels (400,)): right a bit more than half of the time."""
    rng = np.random.default_rng(0)
    labels = rng.choice(7, 400, p=[0.14, 0.02, 0.14, 0.3, 0.15, 0.1, 0.15])
    logits = rng.normal(0, 1, (400, 7))
    logits[np.arange(400), labels] += 1.5
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True), labels


def test_everything_equals_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    predicted = probabilities.argmax(axis=1)
    ours = score(probabilities, labels)
    np.testing.assert_array_equal(ours.confusion, sklearn.confusion_matrix(labels, predicted))
    assert ours.accuracy == pytest.approx(sklearn.accuracy_score(labels, predicted), abs=1e-12)
    assert ours.macro_f1 == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert ours.log_loss == pytest.approx(sklearn.log_loss(labels, probabilities), abs=1e-9)
    theirs = sklearn.precision_recall_fscore_support(labels, predicted)
    for name, values in zip(("precision", "recall", "f1", "support"), theirs, strict=True):
        np.testing.assert_allclose([row[name] for row in ours.per_class()], values, atol=1e-12)


def test_absent_classes_count_as_in_scikit_learn() -> None:
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 3])
    ours = score(np.eye(5)[predicted], labels, tuple("abcde"))
    assert ours.macro_f1 == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert [row["precision"] for row in ours.per_class()] == pytest.approx([1, 2 / 3, 0, 0, 0])


def test_precision_by_hand_divides_by_the_predictions_of_the_class() -> None:
    # 3 of class 0 (2 found), 1 of class 1 (found), one of class 0 taken for 1
    matrix = np.array([[2, 1], [0, 1]])
    assert metrics.precision(matrix).tolist() == [1.0, 0.5]
    assert metrics.recall(matrix) == pytest.approx([2 / 3, 1.0])
    assert metrics.f1(matrix) == pytest.approx([0.8, 2 / 3])


def test_precision_is_not_that_of_r3() -> None:
    """R3 divided the right answers of a class by the size of the whole test set: counts of its five classes, 100 each."""
    matrix = np.array([
        [50, 10, 20, 15, 5],
        [5, 80, 10, 3, 2],
        [10, 10, 60, 18, 2],
        [20, 5, 25, 45, 5],
        [5, 10, 10, 5, 70],
    ])  # fmt: skip
    assert matrix.sum(axis=0).tolist() == [90, 115, 125, 86, 84]  # predictions of each class
    assert metrics.precision(matrix) == pytest.approx([50 / 90, 80 / 115, 60 / 125, 45 / 86, 70 / 84], abs=1e-12)
    assert metrics.recall(matrix) == pytest.approx([0.5, 0.8, 0.6, 0.45, 0.7], abs=1e-12)
    assert metrics.f1(matrix) == pytest.approx(
        [100 / 190, 160 / 215, 120 / 225, 90 / 186, 140 / 184], abs=1e-12
    )  # 2 right / (truths + predictions)
    of_r3 = np.diag(matrix) / matrix.sum()
    assert of_r3 == pytest.approx([0.1, 0.16, 0.12, 0.09, 0.14])
    assert (metrics.precision(matrix) > 4 * of_r3 - 0.02).all()  # five classes: it is about five times too small


def macro_f1_by_hand(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean F1 of the classes that occur, as scikit-learn has it, which takes a hundred times as long."""
    f1s = []
    for label in np.union1d(labels, predicted):
        is_label, is_predicted = labels == label, predicted == label
        f1s.append(2 * (is_label & is_predicted).sum() / (is_label.sum() + is_predicted.sum()))
    return float(np.mean(f1s))


def test_bootstrap_agrees_with_resampling_faces_one_by_one(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    predicted, rng = probabilities.argmax(axis=1), np.random.default_rng(1)
    draws = [rng.integers(0, 400, 400) for _ in range(2000)]
    accuracies = [(predicted[rows] == labels[rows]).mean() for rows in draws]
    f1s = [macro_f1_by_hand(labels[rows], predicted[rows]) for rows in draws[:400]]
    assert f1s[0] == pytest.approx(sklearn.f1_score(labels[draws[0]], predicted[draws[0]], average="macro"))
    ours = score(probabilities, labels)
    assert ours.accuracy_interval == pytest.approx(tuple(np.percentile(accuracies, [2.5, 97.5])), abs=0.006)
    assert ours.macro_f1_interval == pytest.approx(tuple(np.percentile(f1s, [2.5, 97.5])), abs=0.02)
    assert ours.accuracy_interval[0] < ours.accuracy < ours.accuracy_interval[1]


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.full((3, 7), 1 / 7), np.zeros(2, int), "are needed"),
        (np.empty((0, 7)), np.empty(0, int), "are needed"),
        (np.full((3, 7), 1 / 7), np.array([0, 7, 1]), "labels must lie in 0..6"),
        (np.full((3, 7), 1 / 7), np.array([0, -1, 1]), "labels must lie in 0..6"),
        (np.full((3, 7), 0.5), np.zeros(3, int), "sum to 1"),
        (np.full((3, 7), np.nan), np.zeros(3, int), "sum to 1"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(probabilities, labels)


def test_files_of_scores(answers: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    scores = score(*answers)
    write_scores(tmp_path, scores, "a title", {"model": "m"})
    values = json.loads((tmp_path / "scores.json").read_text())
    assert (values["model"], values["count"], values["confusion"]) == ("m", 400, scores.confusion.tolist())
    assert np.array(values["confusion_rates"]).sum(axis=1) == pytest.approx(np.ones(7), abs=1e-5)
    text = (tmp_path / "scores.txt").read_text()
    assert text.startswith(f"a title\n\naccuracy  {scores.accuracy:.2%}  (95 % interval ")
    assert text.endswith(format_scores(scores))
    assert Image.open(tmp_path / "confusion.png").size[0] > 1000


def test_predictions_csv_in_input_order_with_truth_where_known(tmp_path: Path) -> None:
    faces = patterns(3, classes=("sad", "happy"))
    probabilities = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    write_predictions(faces, probabilities, ("happy", "sad"), tmp_path / "p.csv")
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "truth", "p_happy", "p_sad"]
    assert [(row["label"], row["truth"], row["p_happy"]) for row in rows] == [
        ("sad", "sad", "0.250000"), ("happy", "happy", "1.000000"), ("happy", "sad", "0.500000")]  # fmt: skip
    write_predictions(replace(faces, labels=np.full(3, -1)), probabilities, ("happy", "sad"), tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_text().splitlines()[0] == "path,label,p_happy,p_sad"


@pytest.mark.parametrize(("count", "named"), [(2, "0"), (7, "angry"), (8, "angry")])
def test_classes_need_not_be_named(count: int, named: str) -> None:
    scores = score(np.full((3, count), 1 / count), np.array([0, 1, count - 1]))
    assert len(scores.classes) == count and scores.classes[0] == named


def test_names_are_one_for_each_class() -> None:
    with pytest.raises(ValueError, match="7 class names for 5"):
        score(np.full((3, 5), 1 / 5), np.zeros(3, int), FER2013)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint64])
def test_labels_of_any_type_of_integers(kind: type) -> None:
    labels = np.arange(400) % 20
    assert score(np.eye(20)[labels], labels.astype(kind)).accuracy == 1


def test_a_dollar_in_a_name_is_drawn(answers: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    probabilities, labels = answers
    names = [f"$a_{k}$ \\frac" for k in range(probabilities.shape[1])]
    draw_confusion(score(probabilities, labels, names), tmp_path / "x.png", r"m$\frac$")
    assert Image.open(tmp_path / "x.png").size[0] > 1000
