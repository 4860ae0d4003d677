"""Records read back: JSONL, CSV or Parquet as `mien analyze` wrote them → columns."""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.media.video_reader import LONGEST_S
from mien.analysis.output.writers import RECORD_FORMATS, record_columns
from mien.core.csv_cells import unguard_cell
from mien.core.errors import DataError, MissingExtra

#: Where a frame's length cannot be told from the one after it, it is as long as the usual one; of a single frame, this.
FRAME_S = 0.04

#: Frames further apart than so many usual ones have others between them, on which nobody was seen.
GAP = 2.5

#: Rows of a Parquet file that are read at once.
BATCH = 4096


@dataclass(frozen=True)
class Records:
    """The faces of one input, in the order of the file; N rows, K labels.

    path, source      the file of records; the input they tell of, as it was named then
    model, detector   what made them
    labels            the model's class names (K,)
    frame, time_s     int64 and float64 (N,): number of the frame, seconds by the stream's own clock
    track             int64 (N,), the person's number; -1 for pictures
    boxes_xyxy        float64 (N, 4), pixels of the upright frame
    probabilities     float32 (N, K), the model's own answers
    smoothed          float32 (N, K), smoothed along the track; the answers themselves where there is no track
    shown             int64 (N,), index of the label that is shown: the steady one, or the most probable without a track
    """

    path: Path
    source: str
    model: str
    detector: str
    labels: tuple[str, ...]
    frame: np.ndarray
    time_s: np.ndarray
    track: np.ndarray
    boxes_xyxy: np.ndarray
    probabilities: np.ndarray
    smoothed: np.ndarray
    shown: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def durations_s(self) -> np.ndarray:
        """Seconds that each row's frame lasts (N,): up to the next frame with a face, or the usual length before a gap.

        Records name only frames on which somebody was seen, so where numbers are left out a longer step is taken for frames
        without a face.
        """
        times, first, where = np.unique(self.time_s, return_index=True, return_inverse=True)
        if len(times) < 2:
            return np.full(len(self), FRAME_S)
        steps, numbers = np.diff(times), np.diff(self.frame[first])
        usual = float(np.median(steps))
        next_one = (numbers <= np.median(numbers)) & (steps <= LONGEST_S)
        lengths = np.append(np.where(next_one | (steps <= GAP * usual), steps, usual), usual)
        return lengths[where]


def read_records(path: str | Path) -> list[Records]:
    """One Records for each input of the file, in the order in which they come; none where no face was seen.

    Raises DataError for what is not records or is damaged, MissingExtra for Parquet without pyarrow.
    """
    path = Path(path)
    kind = _reader_of(path)
    if path.is_dir():
        raise DataError(path, "is a folder, not records", "name a file in it that ends in .records.jsonl or .csv")
    if not path.exists():
        raise DataError(path, "does not exist", "check the path; 'mien analyze' writes NAME.records.jsonl")
    if kind is None:
        endings = ", ".join(f".{name}" for name in RECORD_FORMATS)
        raise DataError(path, "is no file of records", f"name one that 'mien analyze' wrote ({endings})")
    found: dict[str, _Rows] = {}
    labels: tuple[str, ...] = ()
    try:
        for number, row in kind(path):
            if not labels:
                labels = _labels(path, row)
            source = str(row.get("source"))
            if source not in found:
                found[source] = _Rows(path, labels, source, str(row.get("model")), str(row.get("detector")))
            found[source].add(number, row)
    except UnicodeDecodeError as error:
        raise DataError(path, "is not text", "name records that 'mien analyze' wrote") from error
    return [rows.finish() for rows in found.values()]


def _reader_of(path: Path) -> Callable[[Path], Iterator[tuple[int, dict[str, Any]]]] | None:
    """What reads the rows of a file, by its ending."""
    return {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}.get(path.suffix.lower().lstrip("."))


def rows_of(path: str | Path, at_once: int = BATCH) -> Iterator[list[dict[str, Any]]]:
    """The records as they were written, a list of so many at a time; for a file that `record_writer` made."""
    path = Path(path)
    rows = (row for _, row in _reader_of(path)(path))
    while batch := list(islice(rows, at_once)):
        if path.suffix.lower() == ".csv":
            kinds = record_columns(_labels(path, batch[0]))
            batch = [{name: _typed(text, kinds[name]) for name, text in row.items()} for row in batch]
        yield batch


def _typed(text: str | None, kind: type) -> Any:
    """A CSV's text → the value that it was written from."""
    if text is None:
        return None
    return text == "True" if kind is bool else kind(text)


def read_clip(path: str | Path) -> Records:
    """The records of one video. DataError where the file tells of several inputs, of pictures, or of no face."""
    found = read_records(path)
    if not found:
        raise DataError(path, "holds no record: no face was seen", "analyse another video, or try another --detector")
    if len(found) > 1:
        raise DataError(path, f"holds records of {len(found):,} inputs", "name the records of one of them")
    if (found[0].track < 0).any():
        raise DataError(path, "holds records of a picture, which has no tracks", "name the records of a video")
    return found[0]


@dataclass
class _Rows:
    """Rows of one input as they are read, numbers only: some 200 bytes a face."""

    path: Path
    labels: tuple[str, ...]
    source: str
    model: str
    detector: str
    values: array = field(default_factory=lambda: array("d"))

    def __post_init__(self) -> None:
        kinds = record_columns(self.labels)
        self._numbers = ["frame", "time_s", "x1", "y1", "x2", "y2", *(f"p_{name}" for name in self.labels)]
        self._whole = [name for name in self._numbers if kinds[name] is int]
        self._smoothed = [f"s_{name}" for name in self.labels]
        self._index = {name: index for index, name in enumerate(self.labels)}

    def add(self, number: int, row: dict[str, Any]) -> None:
        """``number`` is that of the line, for the message of a DataError."""
        try:
            values = [float(row[name]) for name in self._numbers]
            tracked = row["track"] is not None
            track = float(row["track"]) if tracked else -1.0
            smoothed = [float(row[name]) for name in self._smoothed] if tracked else values[6:]
            shown = self._index[row["s_label"] if tracked else row["label"]]
            self.values.extend([*values[:6], track, shown, *values[6:], *smoothed])
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(number, row) from error
        if not all(map(math.isfinite, (*values, track, *smoothed))) or any(
            number % 1 for number in (track, *(float(row[name]) for name in self._whole))
        ):
            raise self._error(number, row)

    def _error(self, number: int, row: dict[str, Any]) -> DataError:
        """Which value of a row is not what its column holds."""
        tracked = row.get("track") is not None
        texts = {"s_label" if tracked else "label": self._index}
        wrong = next(
            (f"{name} is {row.get(name)!r}" for name, known in texts.items() if row.get(name) not in known), ""
        )
        for name in [*self._numbers, *(["track", *self._smoothed] if tracked else [])]:
            if wrong:
                break
            try:
                good = math.isfinite(float(row[name])) and (
                    name not in (*self._whole, "track") or float(row[name]) % 1 == 0
                )
            except (KeyError, TypeError, ValueError):
                good = False
            wrong = "" if good else f"{name} is {row.get(name)!r}"
        return DataError(self.path, f"record {number:,} is damaged: {wrong}", "write it again with 'mien analyze'")

    def finish(self) -> Records:
        count = len(self.labels)
        table = np.array(self.values).reshape(-1, 8 + 2 * count)
        whole = table[:, [0, 6, 7]].astype(np.int64)
        return Records(
            self.path,
            self.source,
            self.model,
            self.detector,
            self.labels,
            frame=whole[:, 0],
            time_s=table[:, 1].copy(),
            track=whole[:, 1],
            boxes_xyxy=table[:, 2:6].copy(),
            probabilities=table[:, 8 : 8 + count].astype(np.float32),
            smoothed=table[:, 8 + count :].astype(np.float32),
            shown=whole[:, 2],
        )


def _labels(path: Path, row: dict[str, Any]) -> tuple[str, ...]:
    """The labels that the columns name; a DataError says which column is not there."""
    labels = tuple(name[2:] for name in row if name.startswith("p_"))
    absent = [name for name in record_columns(labels) if name not in row]
    if not labels or absent:
        what = ", ".join(absent[:4]) or "p_<label>"
        raise DataError(path, f"is not records: there is no column {what}", "name a file that 'mien analyze' wrote")
    return labels


def _jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(path, f"line {number:,} is not JSON", "write it again with 'mien analyze'") from error
            if not isinstance(row, dict):
                raise DataError(path, f"line {number:,} is no record", "write it again with 'mien analyze'")
            yield number, row


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        _labels(path, dict.fromkeys(columns))
        for number, values in enumerate(rows, 1):
            if len(values) != len(columns):
                found = f"record {number:,} has {len(values)} values for {len(columns)} columns"
                raise DataError(path, found, "write it again with 'mien analyze'")
            yield number, {name: unguard_cell(value) or None for name, value in zip(columns, values, strict=True)}


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "for Parquet records") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _labels(path, dict.fromkeys(file.schema_arrow.names))
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(path, "is not a Parquet file that can be read", "write it again with 'mien analyze'") from error
