"""Regions of the face in a crop framed like FER2013, and the share of a map on each.

The faces of FER2013 fill their crops alike (they were cut by one detector), so that the parts lie at the same places,
on average: the ellipses here were laid over the mean of the 28,709 training faces. On a single face a part may lie a
few pixels beside its ellipse: the shares are good for many faces, and for one only as a hint. `outlines` draws them, so
that one can check.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ellipse:
    """Center and half-axes in 0..1 of the crop's side; x to the right, y down."""

    x: float
    y: float
    half_width: float
    half_height: float

    def make_mask(self, size: int) -> np.ndarray:
        """Return the pixels whose centers are inside, bool (size, size)."""
        along = (np.arange(size) + 0.5) / size
        across = (along[None] - self.x) / self.half_width
        down = (along[:, None] - self.y) / self.half_height
        return across**2 + down**2 <= 1


#: The parts, left and right as in the picture. Where two overlap, the first one has the pixel.
PARTS: dict[str, tuple[Ellipse, ...]] = {
    "eyes": (Ellipse(0.31, 0.375, 0.135, 0.070), Ellipse(0.69, 0.375, 0.135, 0.070)),
    "brows": (Ellipse(0.30, 0.270, 0.160, 0.060), Ellipse(0.70, 0.270, 0.160, 0.060)),
    "nose": (Ellipse(0.50, 0.520, 0.115, 0.150),),
    "mouth": (Ellipse(0.50, 0.800, 0.220, 0.115),),
    "rest of face": (Ellipse(0.50, 0.480, 0.385, 0.540),),
}

#: All regions; what is in no part is background (and hair).
REGIONS = (*PARTS, "background")


def make_region_map(size: int = 48) -> np.ndarray:
    """Return the index in REGIONS of each pixel's region, int64 (size, size)."""
    regions = np.full((size, size), len(PARTS), np.int64)
    for index, ellipses in reversed(list(enumerate(PARTS.values()))):
        for ellipse in ellipses:
            regions[ellipse.make_mask(size)] = index
    return regions


def compute_areas(size: int = 48) -> np.ndarray:
    """Return the share of the crop that each region covers, float64 (regions,), with sum 1."""
    return np.bincount(make_region_map(size).ravel(), minlength=len(REGIONS)) / size**2


def compute_shares(maps: np.ndarray) -> np.ndarray:
    """Return the share of Σ|map| in each region, float64 (N, regions); rows sum to 1.

    maps: float32 (N, S, S). A map of zeros counts as uniform.
    """
    size = maps.shape[1]
    amounts = np.abs(maps.astype(np.float64)).reshape(len(maps), -1)
    amounts[amounts.sum(axis=1) == 0] = 1
    member = np.eye(len(REGIONS))[make_region_map(size).ravel()]  # (S², regions)
    return amounts @ member / amounts.sum(axis=1, keepdims=True)


def compute_shares_by_class(
    maps: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]
) -> dict[str, dict[str, float | int]]:
    """Return the mean shares over all faces and over each class that occurs, with the numbers of faces."""
    shares = compute_shares(maps)
    groups = {"all": np.ones(len(maps), bool)}
    groups |= {name: targets == index for index, name in enumerate(classes) if (targets == index).any()}
    return {
        name: {"faces": int(rows.sum())} | dict(zip(REGIONS, shares[rows].mean(axis=0).round(4).tolist(), strict=True))
        for name, rows in groups.items()
    }


def draw_outlines(face: np.ndarray, zoom: int = 8) -> np.ndarray:
    """Draw the borders of the regions on a face uint8 (S, S) or (S, S, 3), enlarged ``zoom`` times; returns RGB."""
    from mien.explanation.figures import enlarge_face

    picture = enlarge_face(face, zoom)
    regions = make_region_map(len(picture))
    border = np.zeros(regions.shape, bool)
    border[1:] |= regions[1:] != regions[:-1]
    border[:, 1:] |= regions[:, 1:] != regions[:, :-1]
    border[:-1] |= border[1:]
    border[:, :-1] |= border[:, 1:]
    picture[border] = (255, 210, 0)
    return picture
