"""Folders of pictures: ``train/angry/*.png``, ``angry/*.png``, or pictures without labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from mien.core.errors import DataError, MediaError
from mien.core.files import escape_file_name, make_folder, replace_folder, walk_files
from mien.core.labels import is_expression, normalize_label
from mien.core.picture_formats import PICTURE_SUFFIXES
from mien.core.pictures import read_gray
from mien.core.preprocessing import resize
from mien.core.types import SPLIT_ROLES, FaceSet, split_role
from mien.data.layouts.rows import RowCollector, infer_split

#: Letters of the short forms of expressions in some data sets. They may also be names of persons.
MAX_SHORT_FORM = 2


def read_folder(path: Path, *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """Read a tree of pictures. Class names are normalized, so that ``Happiness`` and ``happy`` are one class.

    The class is the nearest folder above the picture whose name is an expression, or else the folder of the picture.
    The split is a folder above that is named train, val or test (or a synonym), or lies beside such folders. Otherwise it
    is inferred from the name of ``path``. Pictures outside of class folders are unlabeled.
    """
    split_of_tree = infer_split(path)
    path = _unwrap_folder(path)
    rows = RowCollector(path, size, skip_bad)
    files = {
        file: [escape_file_name(part) for part in file.relative_to(path).parts[:-1]] for file in _list_pictures(path)
    }
    divided = _find_divided_folders(files.values())
    for file, above in files.items():
        split, folders = _separate_split(above, divided)
        folder = _find_class_folder(folders)
        if folder.isdigit():
            raise DataError(
                path,
                f"has a class folder named '{folder}', and numbers mean other expressions in every data set",
                "name it by its expression (angry, disgust, fear, happy, sad, surprise, neutral)",
            )
        name = escape_file_name(file.relative_to(path).as_posix())
        try:
            gray = read_gray(file)
        except MediaError as error:
            hint = "correct or remove it, or skip broken pictures with `skip_bad=True`"
            rows.reject_row(str(file), error.problem, error.hint if error.code == "missing_extra" else hint)
            continue
        if gray.shape != (size, size):
            gray = resize(gray, size)
        rows.add_row(gray.tobytes(), normalize_label(folder) if folder else None, split or split_of_tree, name)
    if not rows.names and not rows.skipped:
        expected = f"expected {path.name}/train/angry/*.png or {path.name}/angry/*.png"
        raise DataError(path, "holds no pictures", expected)
    return rows.build_face_set()


def _is_split(folder: str) -> bool:
    return split_role(folder) in SPLIT_ROLES


def _find_divided_folders(trees: Iterable[list[str]]) -> set[tuple[str, ...]]:
    """Return the folders, as path parts, that contain folders of splits."""
    folders = set()
    for above in trees:
        place = next((place for place, part in enumerate(above) if _is_split(part)), None)
        if place is not None:
            folders.add(tuple(above[:place]))
    return folders


def _separate_split(above: list[str], divided: set[tuple[str, ...]]) -> tuple[str, list[str]]:
    """Separate the folders above a picture into (its split or "", the other folders)."""
    rest = [part for part in above if not _is_split(part)]
    if len(rest) < len(above):
        return next(part for part in above if _is_split(part)), rest
    for place in range(len(above) - 1):  # a folder beside splits is a split too, if it has subfolders
        if tuple(above[:place]) in divided:
            return above[place], above[:place] + above[place + 1 :]
    return "", above


def _find_class_folder(folders: list[str]) -> str:
    """Return the innermost folder whose name is an expression, or else the innermost folder; "" without any.

    Full names take precedence over short forms (An, Ha, Su), which may be names of persons.
    """
    named = sorted(
        (name for name in reversed(folders) if is_expression(name)), key=lambda name: len(name) <= MAX_SHORT_FORM
    )
    return named[0] if named else folders[-1] if folders else ""


def _unwrap_folder(path: Path) -> Path:
    """Descend into folders that only contain one other folder, as unpacked archives do. Class folders are not skipped."""
    inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
    is_wrapper = len(inside) == 1 and inside[0].is_dir() and not _is_split(inside[0].name)
    is_wrapper = is_wrapper and not is_expression(inside[0].name)
    if is_wrapper and any(entry.is_dir() for entry in inside[0].iterdir()):
        return _unwrap_folder(inside[0])
    return path


def _list_pictures(path: Path) -> Iterator[Path]:
    """Yield the picture files in a folder and its subfolders, sorted. Pictures annotated by mien are skipped."""
    for file in sorted(walk_files(path)):
        ours = file.stem.endswith(".annotated")
        if file.suffix.lower() in PICTURE_SUFFIXES and not ours and file.is_file():
            yield file


def write_folder(faces: FaceSet, path: Path) -> None:
    """Write ``split/class/name.png``, completely or not at all. Unlabeled faces lie directly in the folder of their split.

    Raises OutputError if ``path`` is not a new or empty folder, and DataError if a class or split is no valid folder name.
    """
    for split in faces.splits:
        if split and not _is_split(_sanitize_name(split)):
            raise DataError(
                path,
                f"cannot hold the split '{split}': its folder would not be read as one",
                "write a .parquet file, or name the split train, validation or test",
            )
    for name in faces.classes:
        if not _sanitize_name(name) or _sanitize_name(name).isdigit():
            raise DataError(
                path, f"cannot hold the class '{name}': no folder is called so", "write a .parquet file, or rename it"
            )
    with replace_folder(path) as staged:
        _write_pictures(faces, staged)


def _write_pictures(faces: FaceSet, folder: Path) -> None:
    taken: set[str] = set()  # in lower case, since the file systems of Windows and macOS ignore case
    for image, label, name, split in zip(faces.images, faces.labels, faces.names, faces.split, strict=True):
        place = folder / _sanitize_name(str(split)) / _sanitize_name(faces.classes[label] if label >= 0 else "")
        stem = _sanitize_name(str(name))
        stem = Path(stem).stem if Path(stem).suffix.lower() in PICTURE_SUFFIXES else stem
        target, number = place / f"{stem}.png", 2
        while str(target).lower() in taken:  # x.jpg and x.bmp would both become x.png
            target, number = place / f"{stem}-{number}.png", number + 1
        taken.add(str(target).lower())
        make_folder(target.parent)
        Image.fromarray(image).save(target)


def _sanitize_name(text: str) -> str:
    """Convert text of a data set to a safe file name, which cannot lead out of its folder."""
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in text).strip(". ")
