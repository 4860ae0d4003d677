from __future__ import annotations

import io

import numpy as np
import pytest

from mien.core.errors import UsageError

pytest.importorskip("sklearn")

from mien.explanation.embedding import measure_separability, project_points
from mien.explanation.embedding_page import make_sprite_sheet
from tests.data.test_duplicates import blobs


def clusters(count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return (rng.normal(size=(count, 20)) + 2 * np.eye(3, 20)[labels]).astype(np.float32), labels


def test_pca_is_scikit_learns_up_to_the_sign() -> None:
    from sklearn.decomposition import PCA

    values, _ = clusters()
    fit_on = np.arange(len(values)) < 80
    flat = project_points(values, "pca", fit_on)
    reference = PCA(2).fit(values[:80])
    expected = reference.transform(values)
    signs = np.sign((expected * flat.points).sum(axis=0))
    assert np.allclose(flat.points * signs, expected, atol=1e-4)
    assert flat.facts["explained_variance"] == pytest.approx(reference.explained_variance_ratio_.tolist(), rel=1e-5)


def test_tsne_comes_again_from_its_seed() -> None:
    values, _ = clusters(60)
    everything = np.ones(60, bool)
    first = project_points(values, "tsne", everything, seed=3)
    assert np.array_equal(first.points, project_points(values, "tsne", everything, seed=3).points)
    assert first.facts["perplexity"] == pytest.approx(59 / 3)


def test_an_unknown_method_lists_the_known() -> None:
    with pytest.raises(UsageError, match="pca, tsne, umap"):
        project_points(np.zeros((5, 3)), "lda", np.ones(5, bool))


def test_separability_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier

    values, labels = clusters()
    split = np.where(np.arange(120) < 90, "Training", "PublicTest")
    found = measure_separability(values, labels, split, "Training")
    train, test = split == "Training", split == "PublicTest"
    assert found["PublicTest"]["silhouette"] == pytest.approx(silhouette_score(values[test], labels[test]))
    nearest = np.argsort(((values[test][:, None] - values[train]) ** 2).sum(axis=2), axis=1)[:, :5]
    answers = []
    for row in labels[train][nearest]:
        votes = np.bincount(row)
        answers.append(next(label for label in row if votes[label] == votes.max()))
    assert found["PublicTest"]["knn_accuracy"] == pytest.approx((np.array(answers) == labels[test]).mean())
    clear = KNeighborsClassifier(1).fit(values[train], labels[train]).score(values[train], labels[train])
    assert clear == 1 > found["Training"]["knn_accuracy"]  # a face is no neighbor of its own
    assert found["Training"]["chance"] == pytest.approx(1 / 3)


def test_too_few_or_unlabeled_faces_have_no_figures() -> None:
    values, labels = clusters(6)
    found = measure_separability(values, np.full(6, -1), np.full(6, "test"), "")
    assert found["test"] == {"faces": 0, "silhouette": None, "knn_accuracy": None, "chance": None}
    assert measure_separability(values[:4], labels[:4], np.full(4, ""), "")[""]["knn_accuracy"] is None


def test_the_sheet_holds_every_face_in_its_place() -> None:
    from PIL import Image

    images = blobs(7)
    sheet = np.asarray(Image.open(io.BytesIO(make_sprite_sheet(images, columns=3))))
    assert sheet.shape == (3 * 48, 3 * 48)
    cell = sheet[48:96, 96:144].astype(int)  # row 1, column 2: the sixth
    assert np.abs(cell - images[5]).max() <= 4
