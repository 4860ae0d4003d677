"""Pictures that a data set holds twice: exact twins by their pixels, near twins by what they show.

A near twin is the same photograph once more: scaled down and up, lighter or darker, with more or less contrast, mirrored,
compressed again, or cut out a few pixels elsewhere. Two pictures of one person are none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mien.core.progress import ProgressBar, progress_bar
from mien.core.types import FaceSet, split_role

#: Correlation from which two pictures are one photograph. Of FER2013's mirrored pairs, whose candidates are nearly all
#: strangers, those above .85 are all true, those from .82 to .85 mostly, those below mostly not.
NEAR = 0.84
#: Correlation of the coarse descriptors from which a pair is looked at closely. Of the near twins that a search down to
#: .59 finds in FER2013 it keeps 93 %, and a tenth of the work.
CANDIDATE = 0.68
#: Gray levels of deviation below which a picture is blank; all blank pictures look alike, so they are no twins.
BLANK = 3.0

_CELLS = 8  # side of the coarse descriptor
_FINE, _TEMPLATE = 24, 18  # sides, in cells, of the picture and of its middle that is looked for in another
_SCALES = (0.92, 0.96, 1.0, 1.04, 1.08)
_BLOCK = 2**23  # correlations held at once: 32 MB
_PAIRS = 256  # pairs verified at once: about 30 MB
_MOST = 50  # candidates of one picture: films of one still face would have as many as there are frames


@dataclass(frozen=True)
class Twins:
    """Pairs of pictures that are one photograph, and the groups that they form.

    pairs       int64 (P, 2), each row ascending. Of k exact twins only the k − 1 pairs with the first are listed, and
                near twins are pairs of such firsts
    similarity  float32 (P,): correlation after alignment, 1 for exact twins
    mirrored    bool (P,): one is the mirror image of the other
    exact       bool (P,): equal pixel by pixel
    groups      int64 (M,) arrays of M ≥ 2 rows that hang together, ascending, in the order of their first rows
    """

    pairs: np.ndarray
    similarity: np.ndarray
    mirrored: np.ndarray
    exact: np.ndarray
    groups: tuple[np.ndarray, ...]


def deviations(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W) → the standard deviation of each picture's gray levels, float64 (N,)."""
    found = np.empty(len(images))
    for start in range(0, len(images), 1_024):  # NumPy takes eight bytes for each pixel on the way
        found[start : start + 1_024] = images[start : start + 1_024].std(axis=(1, 2))
    return found


def find_twins(images: np.ndarray, *, near: bool = True, threshold: float = NEAR, quiet: bool = False) -> Twins:
    """Exact and near twins among uint8 (N, H, W) pictures; blank ones are left aside.

    Near twins: coarse descriptors of all pictures, and of their mirror images, are multiplied block by block; pairs that
    agree are aligned and compared closely. Memory does not grow with N² and time, with N = 32,298, is a minute.
    """
    lively = np.flatnonzero(deviations(images) >= BLANK)
    first = first_alike(images)
    copies = lively[first[lively] != lively]
    found = [np.stack([first[copies], copies], axis=1)]
    similarity, mirrored = [np.ones(len(copies), np.float32)], [np.zeros(len(copies), bool)]
    alone = lively[first[lively] == lively]
    if near and len(alone) > 1:
        pairs, scores, flips = _near_pairs(images, alone, threshold, quiet)
        found.append(pairs)
        similarity.append(scores)
        mirrored.append(flips)
    pairs = np.concatenate(found).astype(np.int64).reshape(-1, 2)
    exact = np.arange(len(pairs)) < len(copies)
    return Twins(pairs, np.concatenate(similarity), np.concatenate(mirrored), exact, connected(len(images), pairs))


def first_alike(images: np.ndarray) -> np.ndarray:
    """int64 (N,): the first row with the same pixels as each row."""
    first: dict[bytes, int] = {}
    keys = (hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images)
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)


def connected(count: int, pairs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Groups of two rows or more that pairs int (P, 2) join, by union-find; rows ascend, groups by their first row."""
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


def kept_instead(faces: FaceSet, twins: Twins) -> np.ndarray:
    """int64 (N,): for each row that should be left out the twin that stays in its place, −1 for rows that stay.

    One picture of a group stays: of the test split before the validation split before any other, so that no test
    picture gives way to its training twin; among those one with the label that most of the group have; then the first.
    """
    kept = np.full(len(faces), -1, np.int64)
    for group in twins.groups:
        kept[group] = _best(faces, group)
        kept[kept[group[0]]] = -1
    return kept


def _best(faces: FaceSet, group: np.ndarray) -> int:
    rank = {"test": 0, "validation": 1}
    labels = faces.labels[group]
    votes = np.array([np.sum(labels == label) if label >= 0 else 0 for label in labels])
    order = [(rank.get(split_role(faces.split[row]), 2), -vote, row) for row, vote in zip(group, votes, strict=True)]
    return int(min(order)[2])


def contradicting(faces: FaceSet, group: np.ndarray) -> bool:
    """Whether the pictures of a group have different labels."""
    labels = faces.labels[group]
    return len(np.unique(labels[labels >= 0])) > 1


def leaked(faces: FaceSet, twins: Twins) -> np.ndarray:
    """bool (N,): pictures of validation and test splits that have a twin among the training pictures."""
    roles = np.array([split_role(name) for name in faces.split.tolist()], dtype=str)
    mask = np.zeros(len(faces), bool)
    for group in twins.groups:
        if (roles[group] == "train").any():
            mask[group] = np.isin(roles[group], ("validation", "test"))
    return mask


def standardized(rows: np.ndarray) -> np.ndarray:
    """Each vector of (..., D) minus its mean, of length 1; one that is constant stays 0."""
    rows = rows - rows.mean(axis=-1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)


def _near_pairs(
    images: np.ndarray, rows: np.ndarray, threshold: float, quiet: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(pairs (P, 2) of these rows, similarity (P,), mirrored (P,)) of near twins."""
    compare = _Comparison(*images.shape[1:])
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    with progress_bar("twins", 2 * len(rows), quiet=quiet) as bar:
        for flip, a, b in _candidates(compare.describe(images, rows), bar):
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


def _candidates(coarse: np.ndarray, bar: ProgressBar) -> Iterator[tuple[bool, np.ndarray, np.ndarray]]:
    """(mirrored, a (P,), b (P,)), a < b, whose coarse pictures (N, 8, 8) agree after what all have in common is taken off."""
    vectors = standardized(coarse.reshape(len(coarse), -1))
    vectors -= vectors.mean(axis=0)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    mirrors = np.ascontiguousarray(vectors.reshape(coarse.shape)[:, :, ::-1]).reshape(len(coarse), -1)
    block = max(1, _BLOCK // len(coarse))
    for flip, others in ((False, vectors), (True, mirrors)):
        for start in range(0, len(vectors), block):
            agreement = vectors[start : start + block] @ others[start:].T  # (block, N - start)
            height, width = agreement.shape
            agreement[np.tri(height, width, dtype=bool)] = -1  # each pair once, none with itself
            floor = np.full((height, 1), CANDIDATE, np.float32)
            crowded = np.flatnonzero((agreement > CANDIDATE).sum(axis=1) > _MOST)
            if len(crowded):
                floor[crowded, 0] = np.partition(agreement[crowded], -_MOST, axis=1)[:, -_MOST]
            a, b = np.nonzero(agreement >= floor)
            bar.advance(height, f"{start + height:,} of {len(vectors):,} pictures{' mirrored' if flip else ''}")
            yield flip, a + start, b + start


class _Comparison:
    """Looks for the middle of one picture in another, at several sizes and places, by normalized cross-correlation.

    Pictures are first freed of light: the difference from a blurred copy, over its local deviation, so that only edges
    count and each region as much as every other. The middle, 18 × 18 of 24 × 24 cells, is tried at five sizes and 49
    places; the best correlation counts (Lewis, "Fast normalized cross-correlation", 1995).
    """

    def __init__(self, height: int, width: int) -> None:
        self.blurs = _gauss(height), _gauss(width)
        self.coarse = _area(height, _CELLS), _area(width, _CELLS)
        self.fine = _area(height, _FINE), _area(width, _FINE)
        self.middles = [
            (_area(height, _TEMPLATE, share), _area(width, _TEMPLATE, share))
            for share in (scale * _TEMPLATE / _FINE for scale in _SCALES)
        ]

    def lightless(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, H, W) → float32 (N, H, W): detail over the local deviation of detail."""
        pictures = images.astype(np.float32)
        detail = pictures - _apply(self.blurs, pictures)
        variance = pictures.var(axis=(1, 2), keepdims=True)
        # The sum's last parts keep noise in flat regions from being blown up to detail.
        return detail / np.sqrt(_apply(self.blurs, detail**2) + 0.03 * variance + 1)

    def describe(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """float32 (len(rows), 8, 8): the coarse pictures."""
        parts = [rows[start : start + 1024] for start in range(0, len(rows), 1024)]
        return np.concatenate([_apply(self.coarse, self.lightless(images[part])) for part in parts])

    def __call__(self, images: np.ndarray, a: np.ndarray, b: np.ndarray, flip: bool) -> np.ndarray:
        """float32 (P,): the best correlation of images[a] with images[b], or with the mirror images of images[b]."""
        best = [np.empty(0, np.float32)]
        for start in range(0, len(a), _PAIRS):
            ours = self.lightless(images[a[start : start + _PAIRS]])
            others = images[b[start : start + _PAIRS]]
            theirs = _apply(self.fine, self.lightless(others[:, :, ::-1] if flip else others))  # (P, 24, 24)
            middles = np.stack([_apply(middle, ours) for middle in self.middles], axis=1)  # (P, 5, 18, 18)
            places = np.lib.stride_tricks.sliding_window_view(theirs, (_TEMPLATE, _TEMPLATE), axis=(1, 2))
            places = standardized(places.reshape(len(ours), -1, _TEMPLATE**2))  # (P, 49, 324)
            middles = standardized(middles.reshape(len(ours), -1, _TEMPLATE**2))  # (P, 5, 324)
            best.append((places @ middles.transpose(0, 2, 1)).max(axis=(1, 2)))
        return np.concatenate(best)


def _apply(operators: tuple[np.ndarray, np.ndarray], pictures: np.ndarray) -> np.ndarray:
    """A linear operator on the rows and one on the columns of pictures (N, H, W)."""
    down, across = operators
    return down @ pictures @ across.T


def _gauss(length: int) -> np.ndarray:
    """float32 (length, length): blur with a deviation of a twelfth of the length; weights are scaled up at the borders."""
    distance = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-0.5 * (distance / (length / 12)) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _area(length: int, cells: int, share: float = 1.0) -> np.ndarray:
    """float32 (cells, length): area averages over the middle ``share`` of ``length`` pixels."""
    edges = length / 2 * (1 + share * np.linspace(-1, 1, cells + 1))
    pixels = np.arange(length)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)
