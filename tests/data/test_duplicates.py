from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mien.core.types import FaceSet
from mien.data.duplicates import (
    choose_originals,
    connected_components,
    find_duplicates,
    find_first_copies,
    find_leaked,
    has_label_conflict,
)
from tests.conftest import patterns


def blobs(count: int, seed: int = 0) -> np.ndarray:
    """Made-up pictures that differ as photographs do: smooth noise, uint8 (count, 48, 48)."""
    rng = np.random.default_rng(seed)
    noise = [cv2.GaussianBlur(rng.normal(size=(48, 48)), (0, 0), 2.5) for _ in range(count)]
    return np.stack([np.clip(128 + 45 * (each - each.mean()) / each.std(), 0, 255) for each in noise]).astype(np.uint8)


def scaled(image: np.ndarray) -> np.ndarray:
    return cv2.resize(cv2.resize(image, (26, 26), interpolation=cv2.INTER_AREA), (48, 48))


def lit(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 1.2 + 20.0, 0, 255).astype(np.uint8)


def compressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_GRAYSCALE)


def cut_elsewhere(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image[2:47, 1:46], (48, 48))


def mirrored(image: np.ndarray) -> np.ndarray:
    return image[:, ::-1].copy()


@pytest.mark.parametrize("change", [scaled, lit, compressed, cut_elsewhere, mirrored])
def test_changed_copies_are_found_and_strangers_are_not(change) -> None:
    originals = blobs(120)
    copies = np.stack([change(image) for image in originals[:20]])
    duplicates = find_duplicates(np.concatenate([originals, copies]), quiet=True)
    assert duplicates.pairs.tolist() == [[row, 120 + row] for row in range(20)]
    assert (duplicates.is_mirrored == (change is mirrored)).all()
    assert not duplicates.is_exact.any()
    assert (duplicates.similarity >= 0.84).all()


def test_exact_copies_are_named_once_for_the_first_and_blank_pictures_are_left_aside() -> None:
    originals = blobs(5)
    images = np.concatenate([originals, originals[[1, 1]], np.zeros((3, 48, 48), np.uint8)])
    duplicates = find_duplicates(images, quiet=True)
    assert duplicates.pairs.tolist() == [[1, 5], [1, 6]]
    assert duplicates.is_exact.all() and (duplicates.similarity == 1).all()
    assert [group.tolist() for group in duplicates.groups] == [[1, 5, 6]]
    assert find_first_copies(images).tolist() == [0, 1, 2, 3, 4, 1, 1, 7, 7, 7]


def test_only_exact_copies_are_looked_for_where_near_ones_are_not_asked_for() -> None:
    originals = blobs(4)
    images = np.concatenate([originals, originals[:1], mirrored(originals[1])[None]])
    assert find_duplicates(images, near=False, quiet=True).pairs.tolist() == [[0, 4]]


def test_the_order_of_pictures_and_the_size_of_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    originals = blobs(60)
    images = np.concatenate([originals, np.stack([scaled(image) for image in originals[:6]])])
    order = np.random.default_rng(0).permutation(len(images))
    whole = {tuple(sorted(order[list(pair)].tolist())) for pair in find_duplicates(images[order], quiet=True).pairs}
    monkeypatch.setattr("mien.data.duplicates._BLOCK_CORRELATIONS", 7 * len(images))
    assert {tuple(pair) for pair in find_duplicates(images, quiet=True).pairs.tolist()} == whole


def test_a_film_of_one_still_picture_stays_one_group() -> None:
    rng = np.random.default_rng(0)
    still = blobs(1)[0].astype(int)
    frames = np.stack([np.clip(still + rng.integers(-3, 4, still.shape), 0, 255) for _ in range(130)]).astype(np.uint8)
    duplicates = find_duplicates(np.concatenate([frames, blobs(20, seed=1)]), quiet=True)
    assert [len(group) for group in duplicates.groups] == [130]


def test_connected_joins_pairs_as_scipy_does() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    pairs = np.random.default_rng(0).integers(0, 300, (140, 2))
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    graph = sparse.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(300, 300))
    _, which = sparse.csgraph.connected_components(graph, directed=False)
    expected = {tuple(np.flatnonzero(which == k)) for k in range(which.max() + 1) if (which == k).sum() > 1}
    assert {tuple(group) for group in connected_components(300, pairs)} == expected


def _set_of(images: np.ndarray, split: list[str], labels: list[int]) -> FaceSet:
    base = patterns(len(images))
    return replace(base, images=images, split=np.array(split), labels=np.array(labels, np.int64))


def test_a_test_picture_never_gives_way_to_its_training_twin() -> None:
    images = blobs(3)[[0, 0, 0, 1, 1, 1, 2]]
    split = ["Training", "PublicTest", "PrivateTest", "Training", "Training", "Training", "Training"]
    faces = _set_of(images, split, [0, 0, 0, 3, 4, 4, 1])
    duplicates = find_duplicates(faces.images, quiet=True)
    assert choose_originals(faces, duplicates).tolist() == [2, 2, -1, 4, -1, 4, -1]  # the label of most, then the first
    assert find_leaked(faces, duplicates).tolist() == [False, True, True, False, False, False, False]
    assert [has_label_conflict(faces, group) for group in duplicates.groups] == [False, True]
