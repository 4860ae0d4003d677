"""Data sets of faces: readers, splits, duplicates, augmentation."""

from mien.core.types import FaceSet
from mien.data.readers import load_faces

__all__ = ["FaceSet", "load_faces"]
