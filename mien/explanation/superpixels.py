"""Superpixels for small gray faces: connected patches of like brightness, all of about one size."""

from __future__ import annotations

import cv2
import numpy as np


def compute_superpixels(
    picture: np.ndarray, count: int = 64, *, compactness: float = 0.6, iterations: int = 8
) -> np.ndarray:
    """SLIC for one channel (Achanta et al., "SLIC Superpixels", 2012): int64 (H, W), numbered from 0.

    k-means over (brightness, y, x), begun at a grid of ``count`` squares; a pixel joins one of the centers within one
    and a half squares. D² = (Δ brightness / standard deviation)² + 4 (compactness · distance / spacing of the grid)².
    Then each patch keeps its largest connected part, and splinters join a neighbor that they touch.

    Args:
        picture: float or uint8 (H, W).
        count: about how many patches; the nearest square number that fits.
        compactness: 0 follows brightness alone; large values give squares.
    """
    values = picture.astype(np.float64)
    values = (values - values.mean()) / max(float(values.std()), 1e-6)
    height, width = values.shape
    side = max(1, round(np.sqrt(count)))
    y, x = np.mgrid[:height, :width]
    labels = (y * side // height) * side + x * side // width  # the grid
    spacing = max(height, width) / side
    for _ in range(iterations):
        counts = np.maximum(np.bincount(labels.ravel(), minlength=side * side), 1)
        centers = [np.bincount(labels.ravel(), each.ravel(), side * side) / counts for each in (values, y, x)]
        away = np.hypot(y[..., None] - centers[1], x[..., None] - centers[2]) / spacing  # (H, W, patches)
        distance = (values[..., None] - centers[0]) ** 2 + 4 * (compactness * away) ** 2
        labels = np.where(away <= 1.5, distance, distance + 1e6).argmin(axis=2)
    return _connect_labels(labels)


def _connect_labels(labels: np.ndarray) -> np.ndarray:
    """Keep each patch's largest connected part; the other pixels join the nearest patch."""
    connected = np.full(labels.shape, -1, np.int64)
    fresh = 0
    for label in np.unique(labels):
        parts, numbers, facts, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8), connectivity=4)
        if parts > 1:
            connected[numbers == 1 + facts[1:, cv2.CC_STAT_AREA].argmax()] = fresh
            fresh += 1
    while (connected < 0).any():  # grow by one pixel in each direction, until nothing is left
        padded = np.pad(connected, 1, constant_values=-1)
        for near in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
            connected = np.where((connected < 0) & (near >= 0), near, connected)
    return connected
