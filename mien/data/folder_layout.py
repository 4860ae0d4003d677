"""Folders of pictures: ``train/angry/*.png``, ``angry/*.png``, or pictures without labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from mien.core.errors import DataError, MediaError
from mien.core.files import make_folder, replacing
from mien.core.labels import canonical
from mien.core.pictures import PICTURE_SUFFIXES, read_grey
from mien.core.preprocess import resize
from mien.core.types import FaceSet, split_role
from mien.data.rows import RowCollector

#: A folder with one of these names is a split, not a class.
_SPLIT_FOLDERS = ("train", "validation", "test")


def read_folder(path: Path, *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """A tree of pictures → FaceSet. Class names are mapped by labels.canonical, so ``Happiness`` and ``happy`` are one.

    The folder a picture lies in is its class, a folder above it named train, val, test (or a synonym) its split.
    Pictures that lie in no class folder are unlabelled.
    """
    path = _unwrapped(path)
    rows = RowCollector(path, size, skip_bad)
    for file in _pictures(path):
        above = file.relative_to(path).parts[:-1]
        split = next((part for part in above if split_role(part) in _SPLIT_FOLDERS), "")
        names = [part for part in above if split_role(part) not in _SPLIT_FOLDERS]
        try:
            grey = read_grey(file)
        except MediaError as error:
            rows.bad(str(file), error.found, "mend or remove it, or leave broken pictures out with --skip-bad")
            continue
        if grey.shape != (size, size):
            grey = resize(grey, size)
        rows.add(grey.tobytes(), canonical(names[-1]) if names else None, file.relative_to(path).as_posix(), split)
    if not rows.names and not rows.skipped:
        raise DataError(path, "holds no pictures", f"expected {path.name}/train/angry/*.png or {path.name}/angry/*.png")
    return rows.face_set()


def _unwrapped(path: Path) -> Path:
    """Below a folder that holds one other folder and nothing else, as unpacked archives often do."""
    inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    is_wrapper = len(inside) == 1 and inside[0].is_dir() and split_role(inside[0].name) not in _SPLIT_FOLDERS
    if is_wrapper and any(entry.is_dir() for entry in inside[0].iterdir()):
        return _unwrapped(inside[0])
    return path


def _pictures(path: Path) -> Iterator[Path]:
    """Picture files below a folder, sorted, so that the order is the same on every system."""
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
        if file.suffix.lower() in PICTURE_SUFFIXES and not hidden and file.is_file():
            yield file


def write_folder(faces: FaceSet, path: Path) -> None:
    """``split/class/name.png``; unlabelled faces lie directly in their split's folder."""
    make_folder(path)
    if any(path.iterdir()):
        raise DataError(path, "is not empty", "choose another folder with --out")
    for image, label, name, split in zip(faces.images, faces.labels, faces.names, faces.split, strict=True):
        folder = path / str(split) / (faces.classes[label] if label >= 0 else "")
        stem = str(name).replace("/", "_").replace("\\", "_").replace("#", "-")
        with replacing(
            folder / f"{Path(stem).stem if Path(stem).suffix.lower() in PICTURE_SUFFIXES else stem}.png"
        ) as part:
            Image.fromarray(image).save(part)
