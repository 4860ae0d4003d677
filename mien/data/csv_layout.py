"""FER2013 as CSV: Kaggle's ``emotion,pixels,Usage``, the ICML re-release ``emotion, Usage, pixels``, and FER+'s votes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mien.core.errors import DataError
from mien.core.files import replacing
from mien.core.labels import FER2013, FERPLUS_COLUMNS, canonical, is_expression
from mien.core.types import FaceSet
from mien.data.rows import RowCollector, class_name

PIXEL_COLUMNS = ("pixels", "pixel", "image")
LABEL_COLUMNS = ("emotion", "label", "labels", "class", "expression")
SPLIT_COLUMNS = ("usage", "split")

#: "0".."255" → the byte, so that a row is parsed and checked in one pass at about 10 million pixels a second.
_BYTE_OF = {str(value): value for value in range(256)}


def read_csv(path: Path, *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """A CSV of pixels → FaceSet; rows are named ``file#row``, counted from 0 as pandas does.

    Labels are FER2013's numbers or class names; a file without a label column is unlabelled.
    """
    with _table(path) as (columns, table):
        pixel_column = _find(columns, PIXEL_COLUMNS)
        if pixel_column is None:
            raise DataError(
                path,
                f"has no column 'pixels' (found: {', '.join(columns) or 'nothing'})",
                "give the CSV with one row of pixels a face",
            )
        label_column, split_column = _find(columns, LABEL_COLUMNS), _find(columns, SPLIT_COLUMNS)
        rows = RowCollector(path, size, skip_bad)
        for number, row in enumerate(table):
            where = f"{path} row {number} (line {number + 2})"
            if len(row) != len(columns):
                rows.bad(
                    where,
                    f"has {len(row)} of {len(columns)} fields; the file may have been cut off here",
                    "get the whole file again, or leave broken rows out with --skip-bad",
                )
                continue
            label = None
            if label_column is not None:
                label = class_name(row[label_column], FER2013)
                if label is None:
                    rows.bad(
                        where, f"has the unknown label {row[label_column]!r} (known: 0..6 or {', '.join(FER2013)})"
                    )
                    continue
            pixels = _pixels(row[pixel_column], rows, where)
            if pixels is not None:
                split = row[split_column].strip() if split_column is not None else ""
                rows.add(pixels, label, f"{path.name}#{number}", split)
    return rows.face_set(FER2013)


def _pixels(text: str, rows: RowCollector, where: str) -> bytes | None:
    """``"70 80 82 ..."`` → bytes, or None after a complaint."""
    words = text.split()
    if len(words) != rows.size**2:
        rows.bad(
            where,
            f"has {len(words):,} pixels, not {rows.size} x {rows.size} = {rows.size**2:,}; it may be cut off",
            "get the whole file again, or leave broken rows out with --skip-bad",
        )
        return None
    try:
        return bytes(map(_BYTE_OF.__getitem__, words))
    except KeyError as error:
        rows.bad(where, f"has the pixel {error.args[0]!r}, which is not a whole number in 0..255")
        return None


def read_votes(path: Path) -> tuple[np.ndarray, list[str]]:
    """FER+'s file (``Usage,Image name`` and ten vote columns) → votes uint8 (N, 10) and each row's Usage."""
    with _table(path) as (columns, table):
        places = [_find(columns, (name.lower(),)) for name in FERPLUS_COLUMNS]
        if None in places:
            absent = [name for name, place in zip(FERPLUS_COLUMNS, places, strict=True) if place is None]
            raise DataError(path, f"has no column {', '.join(absent)}", "give FER+'s fer2013new.csv")
        usage = _find(columns, SPLIT_COLUMNS)
        votes, splits = [], []
        for number, row in enumerate(table):
            try:
                votes.append([int(row[place]) for place in places])
                splits.append(row[usage].strip() if usage is not None else "")
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"{path} row {number} (line {number + 2})",
                    "does not hold ten vote counts",
                    "get the whole file again",
                ) from error
    if not votes:
        raise DataError(path, "holds no votes", "get the whole file again")
    return np.array(votes, np.uint8), splits


def write_kaggle_csv(faces: FaceSet, path: Path) -> None:
    """``emotion,pixels,Usage`` as the 2013 competition wrote it; unlabelled faces leave the column out."""
    foreign = [name for name in faces.classes if not is_expression(name) or canonical(name) not in FER2013]
    if foreign:
        raise DataError(
            path,
            f"cannot hold the classes {', '.join(foreign)}: its labels are FER2013's numbers",
            "write a .parquet file or a folder",
        )
    if faces.images.shape[1:] != (48, 48):
        raise DataError(path, f"cannot hold pictures of {faces.images.shape[1:]}", "write a .parquet file or a folder")
    labelled = bool(faces.labelled.all())
    if not labelled and faces.labelled.any():
        raise DataError(path, "cannot hold labelled and unlabelled faces together", "write a .parquet file")
    labels = faces.as_classes(FER2013).labels if labelled else faces.labels
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["emotion", "pixels", "Usage"] if labelled else ["pixels", "Usage"])
        for image, label, split in zip(faces.images, labels, faces.split, strict=True):
            text = " ".join(map(str, image.ravel().tolist()))
            writer.writerow([label, text, split] if labelled else [text, split])


def _find(columns: list[str], names: tuple[str, ...]) -> int | None:
    return next((index for index, column in enumerate(columns) if column in names), None)


@contextmanager
def _table(path: Path) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """(column names in lower case, rows) of a CSV; what is not text or not a table becomes a DataError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = (row for row in csv.reader(file) if row)
            yield [column.strip().lower() for column in next(table, [])], table
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(path, f"is not a CSV of text ({error})", "get the whole file again") from error
