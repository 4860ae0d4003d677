"""Parquet in the Hugging Face layout: a column of pictures ``{bytes, path}``, a label, and optional FER+ votes."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mien.core.errors import DataError, MediaError, MissingExtra
from mien.core.files import replace_file
from mien.core.labels import FER2013, FERPLUS_COLUMNS, normalize_label, sort_labels
from mien.core.pictures import read_gray
from mien.core.preprocessing import resize
from mien.core.types import UNLABELED, FaceSet
from mien.data.layouts.rows import (
    LABEL_COLUMNS,
    PICTURE_COLUMNS,
    SPLIT_COLUMNS,
    RowCollector,
    find_column,
    infer_split,
    parse_label,
)

#: The highest vote count that fits into uint8.
MAX_VOTES = 255

VOTE_COLUMNS = tuple(f"ferplus_{name}" for name in FERPLUS_COLUMNS)


def import_pyarrow() -> Any:
    """Import pyarrow and pyarrow.parquet. Raise MissingExtra if they are not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "for Parquet files") from error
    return pyarrow


def read_parquet(path: Path, *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """Read one Parquet file. Pictures are scaled to (size, size) and converted to gray."""
    pyarrow = import_pyarrow()
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            reader = _RowReader.for_file(file, path, RowCollector(path, size, skip_bad))
            for batch in file.iter_batches(batch_size=1024, columns=reader.columns):
                for row in batch.to_pylist():
                    reader.add_row(number, row)
                    number += 1
    except MemoryError as error:  # that of pyarrow is an ArrowException too
        raise MemoryError(f"{path} needs more memory than there is") from error
    except UnicodeDecodeError as error:
        problem = f"has text that is no UTF-8 ({error})"
        raise DataError(path, problem, "write its labels, splits and names as UTF-8") from error
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # an error of the system, not of the file
            raise
        raise DataError(path, "is not a whole Parquet file", "download it again") from error
    return reader.rows.build_face_set(tuple(dict.fromkeys(reader.classes)))  # two names may be synonyms


@dataclass(frozen=True)
class _RowReader:
    """The columns of a file, and the conversion of its rows to faces."""

    path: Path
    rows: RowCollector
    image: str
    label: str | None
    split: str | None
    votes: tuple[str, ...]
    classes: tuple[str, ...]
    split_of_file: str

    @classmethod
    def for_file(cls, file: Any, path: Path, rows: RowCollector) -> _RowReader:
        """Find the columns of an open Parquet file. Raise DataError if it has no pictures."""
        columns = file.schema_arrow.names
        image, label, split = (find_column(columns, names) for names in (PICTURE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS))
        if image is None:
            raise DataError(path, f"has no column of pictures (found: {', '.join(columns)})", "name it 'image'")
        votes = VOTE_COLUMNS if set(VOTE_COLUMNS) <= set(columns) else ()
        return cls(path, rows, image, label, split, votes, _read_class_names(file, label), infer_split(path))

    @property
    def columns(self) -> list[str]:
        """Return the names of the columns that are read."""
        return [column for column in (self.image, self.label, self.split) if column is not None] + list(self.votes)

    def add_row(self, number: int, row: dict[str, Any]) -> None:
        """Add a row of the file to the collected rows, or reject it."""
        where, cell = f"{self.path} row {number}", row[self.image]
        data, name = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
        if not isinstance(data, bytes) or not data:
            return self.rows.reject_row(where, "holds no picture")
        value = None if self.label is None else row[self.label]
        unlabeled = value is None or value == UNLABELED or value == "" or value != value  # NaN differs from itself
        label = None if unlabeled else parse_label(value, self.classes)
        if label is None and not unlabeled:
            return self.rows.reject_row(
                where, f"has the unknown label {value!r:.42} (known: {', '.join(self.classes)})"
            )
        try:
            gray = read_gray(data, name=where)
        except MediaError as error:
            return self.rows.reject_row(where, error.problem)
        if gray.shape != (self.rows.size, self.rows.size):
            gray = resize(gray, self.rows.size)
        split = str((row[self.split] if self.split else None) or self.split_of_file)
        votes = tuple(row[column] or 0 for column in self.votes) or None
        if votes and not all(isinstance(count, (int, float)) and 0 <= count <= MAX_VOTES for count in votes):
            return self.rows.reject_row(where, f"has votes that are no counts of 0 to {MAX_VOTES}: {votes}")
        votes = votes and tuple(int(count) for count in votes)
        self.rows.add_row(gray.tobytes(), label, split, f"{self.path.name}#{number}", name, votes)


def _read_class_names(file: Any, label: str | None) -> tuple[str, ...]:
    """Return the class names: from the metadata (``label_names`` or Hugging Face's ClassLabel), the texts, or FER2013."""
    if label is None:
        return FER2013
    metadata = file.schema_arrow.metadata or {}
    if b"label_names" in metadata:
        return tuple(normalize_label(name) for name in metadata[b"label_names"].decode("utf-8", "replace").split(","))
    if b"huggingface" in metadata:
        with suppress(
            ValueError, TypeError, KeyError, AttributeError, RecursionError
        ):  # other or damaged metadata is ignored
            names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
            if names:
                return tuple(normalize_label(name) for name in names)
    pyarrow = import_pyarrow()
    kind = file.schema_arrow.field(label).type
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) or pyarrow.types.is_string_view(kind):
        texts = [text for text in file.read(columns=[label])[label].unique().to_pylist() if text]
        if not all(text.strip().isdigit() for text in texts):
            return sort_labels(normalize_label(text) for text in texts)
    return FER2013


def write_parquet(faces: FaceSet, path: Path) -> None:
    """Write a Parquet file in the Hugging Face layout: PNG bytes, label, split, votes. Reading restores the same FaceSet."""
    pyarrow = import_pyarrow()
    columns: dict[str, Any] = {
        "image": [
            {"bytes": _encode_png(image), "path": str(name)}
            for image, name in zip(faces.images, faces.names, strict=True)
        ],
        "label": pyarrow.array(faces.labels, mask=~faces.is_labeled),
        "split": faces.split.tolist(),
    }
    if faces.votes is not None:
        columns |= {name: faces.votes[:, index] for index, name in enumerate(VOTE_COLUMNS)}
    features = {"image": {"_type": "Image"}, "label": {"names": list(faces.classes), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    with replace_file(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, row_group_size=1024)


def _encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
