"""Duplicate pictures of a data set: exact duplicates by their pixels, near duplicates by what they show.

Near duplicates show the same photograph. They may differ in scale, brightness, contrast, compression, mirroring, or by a crop
that is shifted by a few pixels. Two photographs of one person are no duplicates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mien.core.progress import ProgressBar, progress_bar
from mien.core.types import FaceSet, split_role

#: Two pictures are near duplicates from this correlation on. Checked on FER2013's mirrored pairs, whose candidates are mostly
#: different photographs: above .85 all pairs are true, from .82 to .85 most, below .82 few.
NEAR_CORRELATION = 0.84
#: A pair is compared closely from this correlation of the coarse descriptors on. On FER2013 it finds 93 % of the near
#: duplicates that a limit of .59 finds, with a tenth of the work.
CANDIDATE_CORRELATION = 0.68
#: A picture is blank below this deviation of its gray levels. Blank pictures are not compared, since all look alike.
BLANK_DEVIATION = 3.0

_COARSE_CELLS = 8  # side of the coarse descriptor
_FINE_CELLS, _TEMPLATE_CELLS = 24, 18  # sides, in cells, of the picture and of the template in its middle
_SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)
_BLOCK_CORRELATIONS = 2**23  # correlations held at once: 32 MB
_PAIRS_AT_ONCE = 256  # pairs verified at once: about 30 MB
_MAX_CANDIDATES = 50  # candidates of one picture: frames of one still face would all be candidates of each other


@dataclass(frozen=True)
class Duplicates:
    """Pairs of duplicate pictures, and the groups that they form.

    pairs        int64 (P, 2), each row ascending. Of k exact duplicates, only the k − 1 pairs with the first are listed.
                 Near duplicates are pairs of such first pictures
    similarity   float32 (P,): correlation after alignment, 1 for exact duplicates
    is_mirrored  bool (P,): one picture is the mirror image of the other
    is_exact     bool (P,): equal pixel by pixel
    groups       int64 (M,) arrays of M ≥ 2 connected rows, ascending, in the order of their first rows
    """

    pairs: np.ndarray
    similarity: np.ndarray
    is_mirrored: np.ndarray
    is_exact: np.ndarray
    groups: tuple[np.ndarray, ...]


def compute_deviations(images: np.ndarray) -> np.ndarray:
    """Compute the standard deviation of the gray levels of each picture: uint8 (N, H, W) → float64 (N,)."""
    deviations = np.empty(len(images))
    for start in range(0, len(images), 1_024):  # NumPy needs eight bytes a pixel for this
        deviations[start : start + 1_024] = images[start : start + 1_024].std(axis=(1, 2))
    return deviations


def find_duplicates(
    images: np.ndarray, *, near: bool = True, threshold: float = NEAR_CORRELATION, quiet: bool = False
) -> Duplicates:
    """Find the exact and near duplicates among pictures. Blank pictures are skipped.

    Coarse descriptors of all pictures and of their mirror images are multiplied block by block. Pairs with a high
    correlation are then aligned and compared closely. Memory does not grow with N², and N = 32,298 takes about a minute.

    Args:
        images: uint8 (N, H, W).
        near: find near duplicates too, not only exact ones.
        threshold: correlation from which a pair is a near duplicate.
    """
    textured = np.flatnonzero(compute_deviations(images) >= BLANK_DEVIATION)
    first = find_first_copies(images)
    copies = textured[first[textured] != textured]
    blocks = [np.stack([first[copies], copies], axis=1)]
    similarity, mirrored = [np.ones(len(copies), np.float32)], [np.zeros(len(copies), bool)]
    unique = textured[first[textured] == textured]
    if near and len(unique) > 1:
        pairs, scores, flips = _find_near_pairs(images, unique, threshold, quiet)
        blocks.append(pairs)
        similarity.append(scores)
        mirrored.append(flips)
    pairs = np.concatenate(blocks).astype(np.int64).reshape(-1, 2)
    exact = np.arange(len(pairs)) < len(copies)
    return Duplicates(
        pairs, np.concatenate(similarity), np.concatenate(mirrored), exact, connected_components(len(images), pairs)
    )


def find_first_copies(images: np.ndarray) -> np.ndarray:
    """Return int64 (N,): for each picture of (N, H, W), the first row with the same pixels."""
    first: dict[bytes, int] = {}
    keys = (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)


def connected_components(count: int, pairs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Group the rows that are connected by pairs int (P, 2), by union-find. ``count`` is the number of all rows.

    Returns groups of at least two rows, int64 (M,) ascending, in the order of their first rows.
    """
    parent = list(range(count))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]  # halve the path
            row = parent[row]
        return row

    for a, b in pairs.tolist():
        a, b = root(a), root(b)
        parent[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for row in np.unique(pairs).tolist():
        members.setdefault(root(row), []).append(row)
    return tuple(np.array(rows, np.int64) for _, rows in sorted(members.items()))


def choose_originals(faces: FaceSet, duplicates: Duplicates) -> np.ndarray:
    """Choose the picture of each group that is kept. The others should be excluded.

    The order of preference is: the test split, the validation split, any other split; then the most frequent label
    of the group; then the first row. So a test picture is never replaced by its duplicate in the training split.

    Returns:
        int64 (N,): for each row to exclude, the row that is kept instead; −1 for rows that are kept.
    """
    originals = np.full(len(faces), -1, np.int64)
    for group in duplicates.groups:
        originals[group] = _choose_original(faces, group)
        originals[originals[group[0]]] = -1
    return originals


def _choose_original(faces: FaceSet, group: np.ndarray) -> int:
    rank = {"test": 0, "validation": 1}
    labels = faces.labels[group]
    votes = np.array([np.sum(labels == label) if label >= 0 else 0 for label in labels])
    order = [(rank.get(split_role(faces.split[row]), 2), -vote, row) for row, vote in zip(group, votes, strict=True)]
    return int(min(order)[2])


def has_label_conflict(faces: FaceSet, group: np.ndarray) -> bool:
    """Return whether the pictures of a group, rows (M,), have different labels."""
    labels = faces.labels[group]
    return len(np.unique(labels[labels >= 0])) > 1


def find_leaked(faces: FaceSet, duplicates: Duplicates) -> np.ndarray:
    """Return bool (N,): validation and test pictures that have a duplicate in the training split."""
    roles = np.array([split_role(name) for name in faces.split.tolist()], dtype=str)
    mask = np.zeros(len(faces), bool)
    for group in duplicates.groups:
        if (roles[group] == "train").any():
            mask[group] = np.isin(roles[group], ("validation", "test"))
    return mask


def standardize_vectors(rows: np.ndarray) -> np.ndarray:
    """Subtract the mean from each vector of (..., D) and scale it to length 1; a constant vector becomes 0."""
    rows = rows - rows.mean(axis=-1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)


def _find_near_pairs(
    images: np.ndarray, rows: np.ndarray, threshold: float, quiet: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (pairs (P, 2), similarity (P,), is_mirrored (P,)) of the near duplicates among these rows."""
    compare = _TemplateMatcher(*images.shape[1:])
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    with progress_bar("duplicates", 2 * len(rows), quiet=quiet) as bar:
        for flip, a, b in _find_candidates(compare.describe_pictures(images, rows), bar):
            scores = compare(images, rows[a], rows[b], flip)
            for pair in np.flatnonzero(scores >= threshold):
                key, score = (int(rows[a[pair]]), int(rows[b[pair]])), float(scores[pair])
                best[key] = max(best.get(key, (0.0, False)), (score, flip))
    keys = sorted(best)
    values = [best[key] for key in keys]
    return (
        np.array(keys, np.int64).reshape(-1, 2),
        np.array([score for score, _ in values], np.float32),
        np.array([flip for _, flip in values], bool),
    )


def _find_candidates(coarse: np.ndarray, bar: ProgressBar) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """Yield (is mirrored, a (P,), b (P,)) with a < b: pairs of similar coarse pictures (N, 8, 8), the mean picture subtracted."""
    vectors = standardize_vectors(coarse.reshape(len(coarse), -1))
    vectors -= vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    mirrors = np.ascontiguousarray(vectors.reshape(coarse.shape)[:, :, ::-1]).reshape(len(coarse), -1)
    block = max(1, _BLOCK_CORRELATIONS // len(coarse))
    for flip, others in ((False, vectors), (True, mirrors)):
        for start in range(0, len(vectors), block):
            agreement = vectors[start : start + block] @ others[start:].T  # (block, N - start)
            height, width = agreement.shape
            agreement[np.tri(height, width, dtype=bool)] = -1  # each pair once, none with itself
            floor = np.full((height, 1), CANDIDATE_CORRELATION, np.float32)
            crowded = np.flatnonzero((agreement > CANDIDATE_CORRELATION).sum(axis=1) > _MAX_CANDIDATES)
            if len(crowded):
                floor[crowded, 0] = np.partition(agreement[crowded], -_MAX_CANDIDATES, axis=1)[:, -_MAX_CANDIDATES]
            a, b = np.nonzero(agreement >= floor)
            bar.advance(height, f"{start + height:,} of {len(vectors):,} pictures{' mirrored' if flip else ''}")
            yield flip, a + start, b + start


class _TemplateMatcher:
    """Searches the middle of one picture in another, at several scales and positions, by normalized cross-correlation.

    First, lighting is removed: the difference from a blurred copy is divided by its local deviation. Only edges remain,
    and all regions have the same weight. The template, 18 × 18 of 24 × 24 cells, is tried at five scales and 49
    positions. The result is the highest correlation (Lewis, "Fast normalized cross-correlation", 1995).
    """

    def __init__(self, height: int, width: int) -> None:
        self.blurs = _gaussian_blur_matrix(height), _gaussian_blur_matrix(width)
        self.coarse = _area_average_matrix(height, _COARSE_CELLS), _area_average_matrix(width, _COARSE_CELLS)
        self.fine = _area_average_matrix(height, _FINE_CELLS), _area_average_matrix(width, _FINE_CELLS)
        self.middles = [
            (_area_average_matrix(height, _TEMPLATE_CELLS, share), _area_average_matrix(width, _TEMPLATE_CELLS, share))
            for share in (scale * _TEMPLATE_CELLS / _FINE_CELLS for scale in _SCALES)
        ]

    def normalize_lighting(self, images: np.ndarray) -> np.ndarray:
        """Divide the detail of pictures by its local deviation: uint8 (N, H, W) → float32 (N, H, W)."""
        pictures = images.astype(np.float32)
        detail = pictures - _apply_separable(self.blurs, pictures)
        variance = pictures.var(axis=(1, 2), keepdims=True)
        # The last two terms prevent that noise in flat regions is amplified.
        return detail / np.sqrt(_apply_separable(self.blurs, detail**2) + 0.03 * variance + 1)

    def describe_pictures(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the coarse pictures of these rows, float32 (len(rows), 8, 8)."""
        parts = [rows[start : start + 1024] for start in range(0, len(rows), 1024)]
        return np.concatenate([_apply_separable(self.coarse, self.normalize_lighting(images[part])) for part in parts])

    def __call__(self, images: np.ndarray, a: np.ndarray, b: np.ndarray, flip: bool) -> np.ndarray:
        """Return float32 (P,): the highest correlation of images[a] with images[b], or with their mirror images for ``flip``."""
        best = [np.empty(0, np.float32)]
        for start in range(0, len(a), _PAIRS_AT_ONCE):
            ours = self.normalize_lighting(images[a[start : start + _PAIRS_AT_ONCE]])
            others = images[b[start : start + _PAIRS_AT_ONCE]]
            theirs = _apply_separable(
                self.fine, self.normalize_lighting(others[:, :, ::-1] if flip else others)
            )  # (P, 24, 24)
            middles = np.stack([_apply_separable(middle, ours) for middle in self.middles], axis=1)  # (P, 5, 18, 18)
            places = np.lib.stride_tricks.sliding_window_view(theirs, (_TEMPLATE_CELLS, _TEMPLATE_CELLS), axis=(1, 2))
            places = standardize_vectors(places.reshape(len(ours), -1, _TEMPLATE_CELLS**2))  # (P, 49, 324)
            middles = standardize_vectors(middles.reshape(len(ours), -1, _TEMPLATE_CELLS**2))  # (P, 5, 324)
            best.append((places @ middles.transpose(0, 2, 1)).max(axis=(1, 2)))
        return np.concatenate(best)


def _apply_separable(operators: tuple[np.ndarray, np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """Apply one linear operator to the rows and one to the columns of pictures (N, H, W)."""
    down, across = operators
    return down @ pictures @ across.T


def _gaussian_blur_matrix(length: int) -> np.ndarray:
    """Return a blur as a matrix, float32 (length, length). Its deviation is length / 12; each row sums to 1."""
    distance = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-0.5 * (distance / (length / 12)) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _area_average_matrix(length: int, cells: int, share: float = 1.0) -> np.ndarray:
    """Return area averages over the middle ``share`` of ``length`` pixels as a matrix, float32 (cells, length)."""
    edges = length / 2 * (1 + share * np.linspace(-1, 1, cells + 1))
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
