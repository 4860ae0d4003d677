"""Every score of a report beside scikit-learn's, SciPy's, or one computed by hand."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn

from mien.evaluation import confusion_metrics, score
from mien.evaluation.calibration import accuracy_by_confidence, measure_reliability, weighted_calibration_errors
from mien.evaluation.measures import compute_measures, draw_bootstrap_weights
from mien.evaluation.metrics import confusion_matrix
from mien.evaluation.ranking import average_precision, is_in_top_k, precision_recall_curve, roc_auc, roc_curve
from mien.evaluation.tables import format_scores

CLASSES = tuple("abcdefg")


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """(probabilities (400, 7), labels (400,)) with many ties: probabilities in steps of a twentieth."""
    rng = np.random.default_rng(0)
    labels = rng.choice(7, 400, p=[0.14, 0.02, 0.14, 0.3, 0.15, 0.1, 0.15])
    weights = rng.dirichlet(np.full(7, 0.4), 400)
    weights[np.arange(400), labels] += 0.5
    parts = np.array([rng.multinomial(20, row / row.sum()) for row in weights])
    return parts / 20, labels


def test_scores_of_counts_equal_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    predicted = probabilities.argmax(axis=1)
    overall = {name: value for name, (value, _) in compute_measures(*answers, CLASSES, samples=10).overall.items()}
    assert overall["accuracy"] == pytest.approx(sklearn.accuracy_score(labels, predicted), abs=1e-12)
    assert overall["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted), abs=1e-12)
    assert overall["macro_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="macro"), abs=1e-12)
    assert overall["weighted_f1"] == pytest.approx(sklearn.f1_score(labels, predicted, average="weighted"), abs=1e-12)
    assert overall["cohen_kappa"] == pytest.approx(sklearn.cohen_kappa_score(labels, predicted), abs=1e-12)
    assert overall["matthews_correlation"] == pytest.approx(sklearn.matthews_corrcoef(labels, predicted), abs=1e-12)
    assert overall["hamming_distance"] == pytest.approx(sklearn.hamming_loss(labels, predicted), abs=1e-12)
    assert overall["log_loss"] == pytest.approx(sklearn.log_loss(labels, probabilities), abs=1e-12)
    theirs = sklearn.top_k_accuracy_score(labels, probabilities, k=2)
    assert overall["top_2_accuracy"] == pytest.approx(theirs, abs=1e-12)


def test_scores_of_each_class_equal_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    predicted = probabilities.argmax(axis=1)
    for k, row in enumerate(compute_measures(*answers, CLASSES, samples=10).per_class()):
        truth, guess = labels == k, predicted == k
        theirs = {
            "class": CLASSES[k],
            "precision": sklearn.precision_score(truth, guess),
            "recall": sklearn.recall_score(truth, guess),
            "specificity": sklearn.recall_score(truth, guess, pos_label=False),
            "f1": sklearn.f1_score(truth, guess),
            "accuracy": sklearn.accuracy_score(truth, guess),
            "roc_auc": sklearn.roc_auc_score(truth, probabilities[:, k]),
            "average_precision": sklearn.average_precision_score(truth, probabilities[:, k]),
            "support": truth.sum(),
        }
        ours = {name: value for name, value in row.items() if not name.endswith("_interval")}
        assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        ([0, 0, 1, 1, 2], [0, 1, 1, 1, 3]),  # a class never predicted, one never true, one that does not occur
        ([0, 0, 0], [0, 0, 0]),  # one class and nothing else
        ([0, 0, 0], [1, 2, 3]),  # nothing right
        ([0, 1, 2], [2, 2, 2]),
        ([4], [4]),
    ],
)
def test_degenerate_counts_equal_scikit_learn(labels: list[int], predicted: list[int]) -> None:
    matrix = confusion_matrix(np.array(labels), np.array(predicted), 5)
    assert confusion_metrics.balanced_accuracy(matrix) == pytest.approx(
        sklearn.balanced_accuracy_score(labels, predicted)
    )
    assert confusion_metrics.weighted_f1(matrix) == pytest.approx(
        sklearn.f1_score(labels, predicted, average="weighted")
    )
    kappa = sklearn.cohen_kappa_score(labels, predicted, labels=range(5))
    assert confusion_metrics.cohen_kappa(matrix) == pytest.approx(kappa, nan_ok=True)
    assert confusion_metrics.matthews_correlation(matrix) == pytest.approx(sklearn.matthews_corrcoef(labels, predicted))
    for k in range(5):
        truth, guess = np.array(labels) == k, np.array(predicted) == k
        specificity = sklearn.recall_score(truth, guess, pos_label=False, zero_division=0)
        assert confusion_metrics.specificity(matrix)[k] == pytest.approx(specificity)
        assert confusion_metrics.one_vs_rest_accuracy(matrix)[k] == pytest.approx(sklearn.accuracy_score(truth, guess))


def test_many_matrices_are_scored_as_each_alone() -> None:
    matrices = np.random.default_rng(0).integers(0, 50, (6, 4, 4))
    names = ("balanced_accuracy", "weighted_f1", "cohen_kappa", "matthews_correlation", "hamming_distance",
             "specificity", "one_vs_rest_accuracy")  # fmt: skip
    for name in names:
        of = getattr(confusion_metrics, name)
        np.testing.assert_allclose(of(matrices), [of(matrix) for matrix in matrices], atol=1e-15)


@pytest.mark.parametrize("decimals", [1, 2, 17])
def test_curves_and_areas_equal_scikit_learn_with_ties_and_weights(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    scores, positive = rng.uniform(size=300).round(decimals), rng.uniform(size=300) < 0.2
    weights = rng.integers(0, 4, (3, 300)).astype(float)
    x, y, thresholds = sklearn.roc_curve(positive, scores, drop_intermediate=False)
    for ours, theirs in zip(roc_curve(scores, positive), (x, y, thresholds), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    precision, recall, thresholds = sklearn.precision_recall_curve(positive, scores)
    ours = precision_recall_curve(scores, positive)
    for mine, theirs in ((ours.x, recall), (ours.y, precision), (ours.thresholds[1:], thresholds)):
        np.testing.assert_allclose(mine, theirs[::-1], atol=1e-12)
    for of, reference in (
        (roc_auc, sklearn.roc_auc_score),
        (average_precision, sklearn.average_precision_score),
    ):
        assert of(scores, positive) == pytest.approx(reference(positive, scores), abs=1e-12)
        weighted = [reference(positive, scores, sample_weight=row) for row in weights]
        np.testing.assert_allclose(of(scores, positive, weights), weighted, atol=1e-12)


def test_areas_by_hand() -> None:
    scores, positive = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False])
    # pairs: 0.9 beats both negatives, 0.8 ties with one and beats the other: (1 + 1 + ½ + 1) / 4
    assert roc_auc(scores, positive) == 3.5 / 4
    assert average_precision(scores, positive) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_areas_of_classes_that_are_absent_or_alone() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(roc_auc(scores, np.zeros(3, bool)))
        assert math.isnan(roc_auc(scores, np.ones(3, bool)))
        assert average_precision(scores, np.zeros(3, bool)) == 0
        assert average_precision(scores, np.ones(3, bool)) == 1
        assert np.isnan(roc_curve(scores, np.zeros(3, bool)).y[1:]).all()


def test_top_k_takes_ties_as_scikit_learn_does(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    for k in (1, 2, 3):
        theirs = sklearn.top_k_accuracy_score(labels, probabilities, k=k, normalize=False)
        assert is_in_top_k(probabilities, labels, k).sum() == theirs
    assert is_in_top_k(probabilities[:, :2], labels % 2, 2).all()


def test_calibration_error_by_hand() -> None:
    # three faces sure to 0.9 of which two are right, one sure to 0.6 and wrong
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.4, 0.6]])
    labels = np.array([0, 1, 1, 0])
    found = measure_reliability(probabilities, labels)
    assert found.calibration_error == pytest.approx(3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * 0.6)
    assert found.overconfidence == pytest.approx((3 * 0.9 + 0.6) / 4 - 2 / 4)
    assert found.count.sum() == 4
    assert (found.count[8], found.count[13]) == (1, 3)  # 8/15 < 0.6 <= 9/15, 13/15 < 0.9 <= 14/15


def test_calibration_error_equals_a_loop_over_bins(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for low, high in zip(np.linspace(0, 1, 16)[:-1], np.linspace(0, 1, 16)[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert measure_reliability(probabilities, labels).calibration_error == pytest.approx(error, abs=1e-12)
    assert compute_measures(*answers, CLASSES, samples=10).overall["expected_calibration_error"][0] == pytest.approx(
        error
    )
    twice = weighted_calibration_errors(probabilities, labels, np.full((2, 400), 2.0))
    np.testing.assert_allclose(twice, error, atol=1e-12)


def test_accuracy_by_confidence_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]])
    rows = accuracy_by_confidence(probabilities, np.array([0, 1, 1, 1]), steps=10)
    assert rows[0] == {"threshold": 0.0, "coverage": 1.0, "accuracy": 0.5}
    assert rows[8] == {"threshold": 0.8, "coverage": 0.5, "accuracy": 0.5}
    assert rows[9] == {"threshold": 0.9, "coverage": 0.25, "accuracy": 1.0}
    assert rows[10]["coverage"] == 0
    assert math.isnan(rows[10]["accuracy"])


def test_log_loss_of_float32_and_of_certainty_equals_scikit_learn() -> None:
    probabilities = np.array([[1, 0], [0, 1], [1e-9, 1]], np.float32)
    labels = np.array([0, 0, 0])
    theirs = sklearn.log_loss(labels, probabilities.astype(np.float64), labels=[0, 1])
    assert score(probabilities, labels, ("a", "b")).log_loss == pytest.approx(theirs, abs=1e-9)


@pytest.mark.slow
def test_intervals_agree_with_redrawing_faces_one_by_one(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = answers
    rng = np.random.default_rng(1)
    rows = [rng.integers(0, 400, 400) for _ in range(400)]
    ours = compute_measures(probabilities, labels, CLASSES)
    references = {
        "balanced_accuracy": lambda p, y: sklearn.balanced_accuracy_score(y, p.argmax(axis=1)),
        "cohen_kappa": lambda p, y: sklearn.cohen_kappa_score(y, p.argmax(axis=1)),
        "log_loss": lambda p, y: sklearn.log_loss(y, p, labels=range(7)),
        "expected_calibration_error": lambda p, y: measure_reliability(p, y).calibration_error,
    }
    for name, of in references.items():
        value, (low, high) = ours.overall[name]
        draws = np.array([of(probabilities[each], labels[each]) for each in rows])
        if name == "expected_calibration_error":  # which redrawing makes larger
            draws = np.maximum(draws - draws.mean() + value, 0)
        theirs = np.percentile(draws, [2.5, 97.5])
        assert (low, high) == pytest.approx(tuple(theirs), rel=0.06, abs=0.012), name
        assert low < value < high
    value, low, high = (column[3] for column in ours.by_class["roc_auc"])
    theirs = [sklearn.roc_auc_score(labels[each] == 3, probabilities[each, 3]) for each in rows]
    assert (low, high) == pytest.approx(tuple(np.percentile(theirs, [2.5, 97.5])), abs=0.006)


def test_redraws_are_of_n_faces_each() -> None:
    drawn = np.concatenate(list(draw_bootstrap_weights(50, 230, np.random.default_rng(0))))
    assert drawn.shape == (230, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert drawn.var() == pytest.approx(1, abs=0.1)  # nearly Poisson


def test_what_is_undefined_is_null_in_json() -> None:
    values = compute_measures(np.array([[0.6, 0.3, 0.1]] * 4), np.zeros(4, int), tuple("abc"), samples=50).to_json()
    assert values["cohen_kappa"] is None
    assert values["cohen_kappa_interval"] == [None, None]
    assert [row["roc_auc"] for row in values["per_class"]] == [None, None, None]
    assert [row["average_precision"] for row in values["per_class"]] == [1, 0, 0]
    assert values["calibration"]["bins"][0]["accuracy"] is None
    json.dumps(values, allow_nan=False)
    kept = {"count", "accuracy", "accuracy_interval", "macro_f1", "log_loss", "classes", "per_class", "confusion"}
    assert kept <= values.keys()


def test_the_same_seed_gives_the_same_intervals(answers: tuple[np.ndarray, np.ndarray]) -> None:
    one, two = (compute_measures(*answers, CLASSES, samples=50).to_json() for _ in range(2))
    assert one == two


def test_the_interval_of_a_calibration_error_holds_the_error_itself() -> None:
    rng = np.random.default_rng(0)
    for count in (100, 1_000):
        confidence = rng.uniform(0.4, 1, count)
        labels = np.where(rng.random(count) < confidence, 0, 1)  # as right as it is sure: the error is chance alone
        value, (low, high) = compute_measures(
            np.stack([confidence, 1 - confidence], axis=1), labels, ("a", "b"), samples=200
        ).overall["expected_calibration_error"]
        assert 0 <= low < value < high


def test_macro_f1_says_what_it_makes_of_classes_without_faces() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    scores = score(np.eye(3)[predicted], labels, ("happy", "sad", "neutral"))
    assert scores.macro_f1 == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert scores.macro_f1_of_present == pytest.approx((1 + 2 / 3) / 2)
    assert "no faces of neutral: macro-F1 counts neutral as 0; 0.8333 over the classes with faces" in format_scores(
        scores
    )
    unseen = score(np.eye(3)[labels], labels, ("happy", "sad", "neutral"))
    assert "no faces of neutral: macro-F1 leaves them out" in format_scores(unseen)
    assert "no faces" not in format_scores(score(np.eye(2)[labels], labels, ("happy", "sad")))
