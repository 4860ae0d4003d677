"""Project high-dimensional points to two dimensions, and measure the separation of classes. Needs scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.core.errors import DataError, MienError, MissingExtra, UsageError

#: t-SNE's and UMAP's cost, and that of all distances, is bearable up to so many points of a split for the silhouette.
SILHOUETTE_POINTS = 2000
NEIGHBORS = 5


@dataclass(frozen=True)
class Projection:
    """Points in two dimensions.

    points   float32 (N, 2)
    axes     what the two axes are called
    facts    how they were made: explained variance and the like
    """

    points: np.ndarray
    axes: tuple[str, str]
    facts: dict[str, Any]


def project_points(values: np.ndarray, method: str, fit_on: np.ndarray, seed: int = 0) -> Projection:
    """Project values float (N, D) to two dimensions by a method of METHODS.

    fit_on bool (N,): the rows whose principal axes are taken for ``pca``; the others are projected onto them. t-SNE and
    UMAP place all rows together, since t-SNE has no map for new ones.

    Raises UsageError for an unknown method, DataError for fewer than three rows, MissingExtra without scikit-learn or umap-learn.
    """
    if method not in METHODS:
        raise UsageError(f"`method={method}`", "is unknown", f"choose one of {', '.join(METHODS)}")
    if len(values) < 3:
        raise DataError("data", f"has {len(values)} faces, too few to be laid out", "give more")
    return METHODS[method](np.asarray(values, np.float32), fit_on, seed)


def _project_pca(values: np.ndarray, fit_on: np.ndarray, seed: int) -> Projection:
    """Project onto principal components: eigenvectors of the covariance of the rows fitted on (Pearson, 1901)."""
    some = values[fit_on] if fit_on.sum() > 2 else values
    mean = some.mean(axis=0)
    spectrum, directions = _compute_components(some - mean)
    shares = spectrum[:2] / max(spectrum.sum(), 1e-12)
    axes = directions[:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])  # so that one data set gives one picture
    points = ((values - mean) @ axes).astype(np.float32)
    names = tuple(f"component {index + 1} ({share:.1%} of the variance)" for index, share in enumerate(shares))
    return Projection(points, (names[0], names[1]), {"explained_variance": shares.tolist()})


def _project_tsne(values: np.ndarray, fit_on: np.ndarray, seed: int) -> Projection:
    """Project with t-SNE (van der Maaten & Hinton, 2008) the first 50 principal components, as its authors advise."""
    manifold = _import_sklearn("sklearn.manifold")
    perplexity = min(30.0, (len(values) - 1) / 3)
    reduced = _reduce_dimensions(values, 50)
    model = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    points = model.fit_transform(reduced).astype(np.float32)
    facts = {"perplexity": perplexity, "kl_divergence": float(model.kl_divergence_), "seed": seed}
    return Projection(points, ("t-SNE 1", "t-SNE 2"), facts)


def _project_umap(values: np.ndarray, fit_on: np.ndarray, seed: int) -> Projection:
    """Project with UMAP (McInnes, Healy & Melville, 2018) the first 50 principal components."""
    try:
        import umap
    except ImportError as error:
        raise MissingUmap from error
    neighbors = min(15, len(values) - 1)
    model = umap.UMAP(n_neighbors=neighbors, random_state=seed)
    points = model.fit_transform(_reduce_dimensions(values, 50)).astype(np.float32)
    return Projection(points, ("UMAP 1", "UMAP 2"), {"n_neighbors": neighbors, "seed": seed})


class MissingUmap(MissingExtra):
    """umap-learn belongs to no extra of ours: it brings a compiler of 150 MB along."""

    def __init__(self) -> None:
        MienError.__init__(
            self, "umap-learn", "is not installed and is needed for `method=umap`", "pip install umap-learn"
        )


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, int], Projection]] = {
    "pca": _project_pca,
    "tsne": _project_tsne,
    "umap": _project_umap,
}


def measure_separability(
    values: np.ndarray, labels: np.ndarray, split: np.ndarray, train: str, seed: int = 0
) -> dict[str, Any]:
    """Measure for each split how well the classes are separated among ``values`` (N, D), in all dimensions.

    silhouette    mean over faces of (b − a) / max(a, b), a being the mean distance to faces of the same class and b that
                  to the nearest other class (Rousseeuw, 1987); −1..1, on SILHOUETTE_POINTS faces at most
    knn_accuracy  share of faces whose five nearest neighbors have their class in the majority; neighbors are training
                  faces (for the training split: all others of it), or the split's own where there is no training split
    chance        accuracy of always answering with the split's most frequent class

    None where a split is too small to tell.
    """
    results = {}
    for name in dict.fromkeys(split.tolist()):
        rows = np.flatnonzero((split == name) & (labels >= 0))
        base = np.flatnonzero((split == train) & (labels >= 0)) if (split == train).any() else rows
        counts = np.bincount(labels[rows]) if len(rows) else np.zeros(1, int)
        results[name] = {
            "faces": len(rows),
            "silhouette": _measure_silhouette(values[rows], labels[rows], seed),
            "knn_accuracy": _measure_knn_accuracy(values, labels, base, rows),
            "chance": float(counts.max() / len(rows)) if len(rows) else None,
        }
    return results


def _measure_silhouette(values: np.ndarray, labels: np.ndarray, seed: int) -> float | None:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:SILHOUETTE_POINTS])
    if not 2 <= len(np.unique(labels[chosen])) < len(chosen):
        return None
    return float(_import_sklearn("sklearn.metrics").silhouette_score(values[chosen], labels[chosen]))


def _measure_knn_accuracy(values: np.ndarray, labels: np.ndarray, base: np.ndarray, rows: np.ndarray) -> float | None:
    """Classify each of ``rows`` by its nearest ``base`` rows, never itself; ties go to the class of the nearer row."""
    if len(base) <= NEIGHBORS or not len(rows):
        return None
    search = _import_sklearn("sklearn.neighbors").NearestNeighbors(n_neighbors=NEIGHBORS + 1).fit(values[base])
    neighbors = base[search.kneighbors(values[rows], return_distance=False)]  # (R, 6)
    own = neighbors == rows[:, None]
    own[~own.any(axis=1), -1] = True  # where a row is not among them the farthest goes
    near = labels[neighbors[~own].reshape(len(rows), NEIGHBORS)]
    votes = (near[:, :, None] == near[:, None, :]).sum(axis=2)  # (R, 5): how many vote as each
    answers = near[np.arange(len(near)), votes.argmax(axis=1)]  # the first of equals is the nearest
    return float((answers == labels[rows]).mean())


def _reduce_dimensions(values: np.ndarray, dimensions: int) -> np.ndarray:
    if values.shape[1] <= dimensions:
        return values
    centered = values - values.mean(axis=0)
    return (centered @ _compute_components(centered)[1][:, :dimensions]).astype(np.float32)


def _compute_components(centered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(variances, falling; directions (D, ...)) of rows (N, D) around 0. Of few long rows the rows themselves are decomposed:
    D × D would take minutes."""
    centered = centered.astype(np.float64)
    if len(centered) < centered.shape[1]:
        _, spread, directions = np.linalg.svd(centered, full_matrices=False)
        return spread**2 / max(len(centered) - 1, 1), directions.T
    variances, directions = np.linalg.eigh(centered.T @ centered / max(len(centered) - 1, 1))
    return variances[::-1], directions[:, ::-1]


def _import_sklearn(module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtra(
            "scikit-learn", "report", "to lay out faces and measure how far classes are apart"
        ) from error
