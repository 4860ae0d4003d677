"""Outputs: records as JSONL, CSV and Parquet, annotated pictures and videos. Each appears under its name when it is whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from PIL import Image

from mien.core.csv_cells import CsvWriter
from mien.core.errors import MissingExtra, UsageError
from mien.core.files import replace_file
from mien.core.types import Face, FrameResult

#: Rises when a column is renamed, removed or changes its meaning. Parquet files and summaries carry it.
RECORD_SCHEMA = 3
RECORD_FORMATS = ("jsonl", "csv", "parquet")

#: Parquet rows that are gathered before they are written.
ROW_GROUP = 4096


def record_columns(labels: Sequence[str]) -> dict[str, type]:
    """Name → type of the columns of a record, in order, for a model with these labels."""
    return {
        "source": str, "frame": int, "time_s": float, "player_time_s": float, "duration_s": float, "face": int, "track": int,
        "x1": float, "y1": float, "x2": float, "y2": float, "score": float, "label": str, "confidence": float,
        **{f"p_{label}": float for label in labels},
        "unsure": bool, "not_a_face": float, "valence": float, "model": str, "detector": str,
        "s_label": str, **{f"s_{label}": float for label in labels},
    }  # fmt: skip


def make_records(result: FrameResult, model: str, detector: str) -> list[dict[str, Any]]:
    """Return one record for each face. ``duration_s``, ``track`` and what begins with ``s_``, smoothed along it, are empty for pictures;
    ``unsure`` is empty with ``unsure="off"``, and both it and ``not_a_face`` for models that know nothing of it;
    ``valence``, of the ``p_`` columns, is empty for models without a label that it needs."""
    rows = []
    player_time_s = result.time_s if result.player_time_s is None else result.player_time_s
    for number, face in enumerate(result.faces):
        x1, y1, x2, y2 = (round(float(value), 2) for value in face.box_xyxy)
        rows.append({
            "source": result.source, "frame": result.frame, "time_s": round(result.time_s, 6),
            "player_time_s": round(player_time_s, 6), "duration_s": _round(result.duration_s),
            "face": number, "track": face.track,
            "x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": _round(face.score, 4),
            "label": face.label, "confidence": round(face.confidence, 6),
            **{f"p_{name}": round(float(p), 6) for name, p in zip(face.labels, face.probabilities, strict=True)},
            "unsure": face.is_unsure, "not_a_face": _round(face.not_a_face, 4), "valence": _round(face.valence), "model": model, "detector": detector,
            "s_label": face.smoothed_label or None, **_smoothed_columns(face),
        })  # fmt: skip
    return rows


def _round(value: float | None, digits: int = 6) -> float | None:
    return None if value is None else round(float(value), digits)


def _smoothed_columns(face: Face) -> dict[str, float | None]:
    values = [None] * len(face.labels) if face.smoothed is None else [round(float(p), 6) for p in face.smoothed]
    return {f"s_{name}": value for name, value in zip(face.labels, values, strict=True)}


def record_path(stem: Path, name: str) -> Path:
    """``out/photo`` and ``csv`` → ``out/photo.records.csv``."""
    return stem.with_name(f"{stem.name}.records.{name}")


@contextmanager
def record_writer(stem: Path, formats: Iterable[str], labels: Sequence[str]) -> Iterator[RecordWriter]:
    """Open a writer of records in several formats; the files take their names when the block ends without an error."""
    kinds: dict[str, Callable[[Path, dict[str, type]], _Format]] = {
        "jsonl": _JsonLines,
        "csv": _Csv,
        "parquet": _Parquet,
    }
    with ExitStack() as stack:
        writers = []
        for name in formats:
            part = stack.enter_context(replace_file(record_path(stem, name)))
            writers.append(kinds[name](part, record_columns(labels)))
            stack.callback(writers[-1].close)
        yield RecordWriter(writers)


class RecordWriter:
    """Passes records on to every format."""

    def __init__(self, writers: Sequence[_Format]) -> None:
        self._writers = writers

    def write(self, rows: list[dict[str, Any]]) -> None:
        for writer in self._writers:
            writer.write(rows)


class _Format(Protocol):
    def write(self, rows: list[dict[str, Any]]) -> None: ...

    def close(self) -> None: ...


class _JsonLines:
    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="\n")

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def close(self) -> None:
        self._file.close()


class _Csv:
    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8", newline="")
        self._columns, self._writer = list(columns), CsvWriter(self._file)
        self._writer.writerow(self._columns)

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._writer.writerows([row[name] for name in self._columns] for row in rows)

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, columns: dict[str, type]) -> None:
        _require_pyarrow()
        import pyarrow
        import pyarrow.parquet

        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
        self._arrow = pyarrow
        self._rows: list[dict[str, Any]] = []
        self._schema = pyarrow.schema(
            [(name, kinds[kind]) for name, kind in columns.items()], metadata={"mien.records": str(RECORD_SCHEMA)}
        )
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema)

    def write(self, rows: list[dict[str, Any]]) -> None:
        self._rows += rows
        if len(self._rows) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def close(self) -> None:
        self._flush()
        self._writer.close()


def parse_formats(formats: str | Iterable[str]) -> tuple[str, ...]:
    """``"jsonl,csv"`` → ("jsonl", "csv"); UsageError lists the choices, MissingExtra what Parquet needs."""
    names = formats.split(",") if isinstance(formats, str) else formats
    chosen = tuple(dict.fromkeys(name.strip().lower() for name in names if name.strip()))
    check_formats(chosen)
    if "parquet" in chosen:
        _require_pyarrow()
    return chosen


def check_formats(names: Sequence[str]) -> None:
    """Raise UsageError, with the choices, for a format that is unknown, and where there is none."""
    unknown = [name for name in names if name not in RECORD_FORMATS]
    if unknown or not names:
        raise UsageError(f"`format={','.join(unknown)}`", "is unknown", f"choose from {', '.join(RECORD_FORMATS)}")


def _require_pyarrow() -> None:
    """Raise MissingExtra where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise MissingExtra("pyarrow", "parquet", "for Parquet records")


#: Endings of annotated pictures.
ANNOTATED_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


def annotated_suffix(path: Path) -> str:
    """Return the suffix of an annotated picture: the input's own where pictures of that kind are written, else .png."""
    ending = path.suffix.lower()
    return ending if ending in ANNOTATED_SUFFIXES else ".png"


def write_picture(picture: np.ndarray, path: Path) -> None:
    """RGB uint8 (H, W, 3) → a picture file, its format chosen by the ending."""
    quality = {".jpg": 92, ".jpeg": 92, ".webp": 90}.get(path.suffix.lower())
    options: dict[str, Any] = {} if quality is None else {"quality": quality}
    with replace_file(path) as temporary:
        Image.fromarray(picture).save(temporary, **options)
