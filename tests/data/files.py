"""What the tests of data files share: files of every layout, and whether two sets of faces are the same."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from mien.core.types import FaceSet, concatenate_faces
from tests.conftest import patterns


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def text_of(image: np.ndarray) -> str:
    return " ".join(map(str, image.ravel()))


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def both_splits() -> FaceSet:
    return concatenate_faces([patterns(21), patterns(14, seed=1, split="PublicTest")])


def assert_same(a: FaceSet, b: FaceSet) -> None:
    np.testing.assert_array_equal(a.images, b.images)
    assert [a.classes[label] for label in a.labels] == [b.classes[label] for label in b.labels]
    assert a.split.tolist() == b.split.tolist()
