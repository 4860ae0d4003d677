"""Parquet in the Hugging Face layout: a column of pictures ``{bytes, path}``, a label, FER+ votes if there are any."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mien.core.errors import DataError, MediaError, MissingExtra
from mien.core.files import replacing
from mien.core.labels import FER2013, FERPLUS_COLUMNS, canonical, ordered
from mien.core.pictures import read_grey
from mien.core.preprocess import resize
from mien.core.types import UNLABELLED, FaceSet
from mien.data.rows import RowCollector, class_name

IMAGE_COLUMNS = ("image", "img", "images", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "emotion", "expression")
SPLIT_COLUMNS = ("split", "usage", "Usage")
VOTE_COLUMNS = tuple(f"ferplus_{name}" for name in FERPLUS_COLUMNS)


def arrow():
    """pyarrow and pyarrow.parquet, or the line that installs them."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "for Parquet files") from error
    return pyarrow


def read_parquet(path: Path, *, size: int = 48, skip_bad: bool = False) -> FaceSet:
    """One Parquet file → FaceSet. Other sizes are scaled to ``size``, colours become grey."""
    pyarrow = arrow()
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(path, "is not a whole Parquet file", "download it again") from error
    columns = file.schema_arrow.names
    image = next((name for name in IMAGE_COLUMNS if name in columns), None)
    if image is None:
        raise DataError(path, f"has no column of pictures (found: {', '.join(columns)})", "name it 'image'")
    label = next((name for name in LABEL_COLUMNS if name in columns), None)
    split_column = next((name for name in SPLIT_COLUMNS if name in columns), None)
    votes = list(VOTE_COLUMNS) if set(VOTE_COLUMNS) <= set(columns) else []
    classes = _class_names(file, label)

    rows = RowCollector(path, size, skip_bad)
    wanted = [image, *filter(None, (label, split_column)), *votes]
    split = split_of_file(path)
    number = 0
    for batch in file.iter_batches(batch_size=1024, columns=wanted):
        for row in batch.to_pylist():
            where = f"{path} row {number}"
            _add_row(rows, where, f"{path.name}#{number}", row, image, label, split_column, split, votes, classes)
            number += 1
    return _with_unique_names(rows.face_set(classes if label else FER2013), path)


def _add_row(
    rows: RowCollector,
    where: str,
    fallback: str,
    row: dict[str, Any],
    image: str,
    label: str | None,
    split_column: str | None,
    split: str,
    votes: list[str],
    classes: tuple[str, ...],
) -> None:
    cell = row[image]
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes) or not data:
        return rows.bad(where, "holds no picture")
    name = None
    if label is not None and row[label] is not None and row[label] != UNLABELLED:
        name = class_name(row[label], classes)
        if name is None:
            return rows.bad(where, f"has the unknown label {row[label]!r} (known: {', '.join(classes)})")
    try:
        grey = read_grey(data, name=where)
    except MediaError as error:
        return rows.bad(where, error.found)
    if grey.shape != (rows.size, rows.size):
        grey = resize(grey, rows.size)
    path = (cell.get("path") if isinstance(cell, dict) else None) or fallback
    row_split = str(row[split_column] or "") if split_column else split
    rows.add(grey.tobytes(), name, path, row_split, tuple(int(row[column] or 0) for column in votes) if votes else None)


def _with_unique_names(faces: FaceSet, path: Path) -> FaceSet:
    """Paths inside the pictures' cells name the rows, unless two are the same: then every row is ``file#row``."""
    from dataclasses import replace

    if len(np.unique(faces.names)) == len(faces):
        return faces
    return replace(faces, names=np.array([f"{path.name}#{row}" for row in range(len(faces))]))


def _class_names(file: Any, label: str | None) -> tuple[str, ...]:
    """Class names from the file's own metadata (ours, or Hugging Face's ClassLabel), the label texts, or FER2013's."""
    if label is None:
        return FER2013
    metadata = file.schema_arrow.metadata or {}
    if b"label_names" in metadata:
        return tuple(canonical(name) for name in metadata[b"label_names"].decode().split(","))
    if b"huggingface" in metadata:
        feature = json.loads(metadata[b"huggingface"]).get("info", {}).get("features", {}).get(label, {})
        if feature.get("names"):
            return tuple(canonical(name) for name in feature["names"])
    pyarrow = arrow()
    kind = file.schema_arrow.field(label).type
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        texts = file.read(columns=[label])[label].unique().to_pylist()
        return ordered(canonical(text) for text in texts if text)
    return FER2013


def split_of_file(path: Path) -> str:
    """The split that a file name tells, as in ``train-00000-of-00001.parquet`` or ``fer2013-publictest.parquet``."""
    from mien.core.types import SPLIT_ROLES

    official = {"training": "Training", "publictest": "PublicTest", "privatetest": "PrivateTest"}
    known = {name for names in SPLIT_ROLES.values() for name in names}
    words = path.stem.lower().replace("_", "-").replace(".", "-").split("-")
    found = next((word for word in words if word in known), "")
    return official.get(found, found)


def write_parquet(faces: FaceSet, path: Path) -> None:
    """One Parquet file in the Hugging Face layout: lossless PNG bytes, label, split, votes; reads back unchanged."""
    pyarrow = arrow()
    columns: dict[str, Any] = {
        "image": [
            {"bytes": _png(image), "path": str(name)} for image, name in zip(faces.images, faces.names, strict=True)
        ],
        "label": pyarrow.array(faces.labels, mask=~faces.labelled),
        "split": faces.split.tolist(),
    }
    if faces.votes is not None:
        columns |= {name: faces.votes[:, index] for index, name in enumerate(VOTE_COLUMNS)}
    features = {"image": {"_type": "Image"}, "label": {"names": list(faces.classes), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pyarrow.table(columns).replace_schema_metadata(metadata)
    with replacing(path) as temporary:
        pyarrow.parquet.write_table(table, temporary, row_group_size=1024)


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
