"""Two models against each other, and one against its raters; references are SciPy and values computed by hand."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from mien.core.labels import FERPLUS_VOTES
from mien.evaluation.comparison import compare_models, mcnemar_test, paired_bootstrap, reorder_columns
from mien.evaluation.rater_agreement import (
    compare_with_annotators,
    format_votes,
    kl_divergences,
    vote_agreement,
    vote_shares,
)


def answers(seed: int, labels: np.ndarray, strength: float) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(0, 1, (len(labels), 4))
    logits[np.arange(len(labels)), labels] += strength
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (0, 5), (6, 6), (3, 9), (11, 13), (0, 24), (24, 0)])
def test_mcnemar_is_exact_where_few_differ(only_a: int, only_b: int) -> None:
    found = mcnemar_test(only_a, only_b)
    theirs = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert found.p_value == pytest.approx(theirs, abs=1e-12)
    assert found.statistic is None


@pytest.mark.parametrize(("only_a", "only_b"), [(10, 15), (15, 10), (60, 40), (100, 300), (13, 12), (20, 20)])
def test_mcnemar_is_chi_square_where_many_differ(only_a: int, only_b: int) -> None:
    found = mcnemar_test(only_a, only_b)
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / (only_a + only_b)
    assert found.statistic == pytest.approx(statistic, abs=1e-12)
    assert found.p_value == pytest.approx(stats.chi2.sf(statistic, 1), abs=1e-12)


def test_differences_gains_and_losses_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    a, b = np.eye(2)[[0, 0, 1, 1, 0]], np.eye(2)[[0, 1, 0, 1, 1]]
    found = compare_models(a, b, labels, ("x", "y"))
    assert found.differences["accuracy"][0] == pytest.approx(4 / 5 - 3 / 5)
    assert (found.mcnemar.only_a, found.mcnemar.only_b, found.mcnemar.p_value) == (1, 2, 1.0)
    rows = found.per_class()
    assert [(row["support"], row["gained"], row["lost"]) for row in rows] == [(3, 1, 1), (2, 1, 0)]
    assert [row["recall_difference"] for row in rows] == pytest.approx([0, 0.5])
    assert [row["f1_a"] for row in rows] == pytest.approx([4 / 6, 1 / 2])
    assert found.to_json()["same_prediction"] == 2
    json.dumps(found.to_json(), allow_nan=False)


def test_sixty_classes_take_memory_by_the_faces_and_not_by_the_cube_of_classes() -> None:
    labels = np.arange(3_000) % 60
    rng = np.random.default_rng(0)
    a, b = (np.where(rng.random(3_000) < right, labels, rng.integers(0, 60, 3_000)) for right in (0.6, 0.7))
    tracemalloc.start()
    found = paired_bootstrap(labels, a, b, 60, samples=2_000, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6  # 2,000 draws of 60³ cells were 3.5 GB
    for name, of in (("accuracy", accuracy_score), ("macro_f1", lambda y, p: f1_score(y, p, average="macro"))):
        value, (low, high) = found[name]
        assert value == pytest.approx(of(labels, b) - of(labels, a), abs=1e-12)
        assert low < value < high


@pytest.mark.slow
def test_paired_bootstrap_agrees_with_redrawing_faces_one_by_one() -> None:
    labels = np.random.default_rng(0).integers(0, 4, 300)
    a, b = (answers(seed, labels, strength).argmax(axis=1) for seed, strength in ((1, 1.0), (2, 1.4)))
    ours = paired_bootstrap(labels, a, b, 4, samples=2000, seed=0)
    rng = np.random.default_rng(3)
    rows = [rng.integers(0, 300, 300) for _ in range(1000)]
    for name, of in (("accuracy", accuracy_score), ("macro_f1", lambda y, p: f1_score(y, p, average="macro"))):
        theirs = [of(labels[each], b[each]) - of(labels[each], a[each]) for each in rows]
        assert ours[name][0] == pytest.approx(of(labels, b) - of(labels, a), abs=1e-12)
        assert ours[name][1] == pytest.approx(tuple(np.percentile(theirs, [2.5, 97.5])), abs=0.012)


def test_pairing_makes_the_interval_narrower() -> None:
    """Two models that differ on one face in a hundred: their difference is known far better than either accuracy."""
    labels = np.random.default_rng(0).integers(0, 4, 1000)
    a = answers(1, labels, 1.0).argmax(axis=1)
    b = a.copy()
    b[:10] = labels[:10]
    low, high = paired_bootstrap(labels, a, b, 4, samples=2000, seed=0)["accuracy"][1]
    assert high - low < 0.012
    assert paired_bootstrap(labels, a, a, 4, samples=50, seed=0)["accuracy"] == (0, (0, 0))


def test_columns_are_found_by_name() -> None:
    assert reorder_columns(np.array([[0.1, 0.7, 0.2]]), ("a", "b", "c"), ("c", "a", "b")).tolist() == [[0.2, 0.1, 0.7]]


def votes_of(*rows: dict[str, int]) -> np.ndarray:
    votes = np.zeros((len(rows), 10), np.uint8)
    for votes_of_face, row in zip(votes, rows, strict=True):
        for name, count in row.items():
            votes_of_face[FERPLUS_VOTES.index(name)] = count
    return votes


def test_the_crowd_by_hand() -> None:
    votes = votes_of(
        {"sad": 8, "neutral": 2},  # agreed
        {"happy": 5, "neutral": 4, "unknown": 1},
        {"not_a_face": 10},  # no expression: left out
        {"happy": 3, "sad": 3, "contempt": 4},  # no single favorite among the classes
        {},  # not voted on
    )
    classes = ("happy", "sad", "neutral")
    probabilities = np.array([[0.1, 0.7, 0.2], [0.2, 0.2, 0.6], [1, 0, 0], [0.5, 0.4, 0.1], [1, 0, 0]])
    labels = np.array([1, 0, 0, 1, 0])
    found = compare_with_annotators(probabilities, votes, labels, classes)
    assert found is not None
    assert found.count == 3
    q = np.array([[0, 0.8, 0.2], [5 / 9, 0, 4 / 9], [0.5, 0.5, 0]])
    p = probabilities[[0, 1, 3]]
    assert found.divergence == pytest.approx(stats.entropy(q, p, axis=1).mean(), abs=1e-12)
    assert found.correlation == pytest.approx(stats.pearsonr(q.ravel(), p.ravel())[0], abs=1e-12)
    theirs = [stats.pearsonr(q[:, k], p[:, k])[0] for k in range(3)]
    assert found.class_correlation == pytest.approx(theirs, abs=1e-12)
    assert found.majority_accuracy == 0.5  # sad is named, happy is not; the tie is left out
    assert found.label_agreement == 1.0
    assert (found.agreed["count"], found.agreed["accuracy"]) == (1, 1.0)
    assert (found.disputed["count"], found.disputed["accuracy"]) == (2, 0.0)
    assert [group["count"] for group in found.groups] == [0, 1, 1, 0, 0, 1, 0]


def test_agreement_and_shares_of_votes() -> None:
    votes = votes_of({"sad": 8, "neutral": 2}, {"not_a_face": 9, "fear": 1}, {}, {"contempt": 5, "sad": 5})
    np.testing.assert_allclose(vote_agreement(votes), [0.8, 0.1, 0, 0.5])
    shares = vote_shares(votes, ("sad", "happy"))
    np.testing.assert_allclose(shares, [[1, 0], [np.nan, np.nan], [np.nan, np.nan], [1, 0]])
    assert [format_votes(row) for row in votes] == ["sad 8, neutral 2", "not a face 9, fear 1", "", "sad 5, contempt 5"]


def test_divergence_stays_finite_where_a_model_rules_out_what_raters_saw() -> None:
    found = kl_divergences(np.array([[0.5, 0.5], [1, 0]]), np.array([[1.0, 0.0], [1, 0]]))
    assert found[0] == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.5 / np.finfo(float).eps))
    assert found[1] == 0


def test_no_crowd_without_votes_for_the_classes() -> None:
    probabilities, labels = np.array([[0.5, 0.5]]), np.array([0])
    assert compare_with_annotators(probabilities, votes_of({"sad": 3}), labels, ("other", "sad")) is None
    assert compare_with_annotators(probabilities, votes_of({"contempt": 3}), labels, ("happy", "sad")) is None
