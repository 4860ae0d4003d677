"""Records of an analysis, read back: JSONL, CSV or Parquet → columns."""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.writers import RECORD_FORMATS, record_columns
from mien.analysis.people.identities import correct_identities
from mien.analysis.people.peaks import PeakRule
from mien.analysis.people.people import Observation, PeopleAccumulator, Segment
from mien.core.csv_cells import unescape_formula
from mien.core.errors import DataError, MissingExtra
from mien.core.types import compute_valence

#: Columns that records of schema 2 lack: what they hold is told from the others then.
SINCE_3 = ("player_time_s", "duration_s", "valence")

#: Of records without durations: where a frame's cannot be told from the one after it, it is the usual one; of a single
#: frame, this.
FRAME_S = 0.04

#: Columns of numbers that may be empty, in the order in which they are kept.
OPTIONAL = ("player_time_s", "duration_s", "unsure", "not_a_face", "valence", "score")

#: Frames further apart than so many usual ones have others between them, on which nobody was seen.
GAP = 2.5

#: Rows of a Parquet file that are read at once.
BATCH = 4096


@dataclass(frozen=True, repr=False)
class Records:
    """The faces of one input, in the order of the file; N rows, K labels.

    path, source      the file of records; the input they tell of, as it was named then
    model, detector   what made them
    labels            the model's class names (K,)
    frame             int64 (N,): number of the frame
    time_s            float64 (N,): seconds by the stream's own clock
    player_time_s     float64 (N,): seconds as a player shows them, from 0
    duration_s        float64 (N,): seconds for which each row's frame is shown
    face              int64 (N,): number of the face in its frame
    track             int64 (N,), the person's number; -1 for pictures
    boxes_xyxy        float64 (N, 4), pixels of the upright frame
    probabilities     float32 (N, K), the model's own answers
    smoothed          float32 (N, K), smoothed along the track; the answers themselves where there is no track
    shown             int64 (N,), index of the label that is shown: the steady one, or the most probable without a track
    raw_label         int64 (N,), index of the model's own answer
    unsure            float64 (N,), 1 where the model is unsure of its answer, 0 where not, NaN where nobody asked
    not_a_face        float64 (N,), its score that this is no face; NaN where it has none
    valence           float64 (N,), p(happy) minus the highest probability of a negative expression; NaN without such labels
    score             float64 (N,), the detector's; NaN without a detector
    names             track → name, for people who were given one
    """

    path: Path
    source: str
    model: str
    detector: str
    labels: tuple[str, ...]
    frame: np.ndarray
    time_s: np.ndarray
    player_time_s: np.ndarray
    duration_s: np.ndarray
    face: np.ndarray
    track: np.ndarray
    boxes_xyxy: np.ndarray
    probabilities: np.ndarray
    smoothed: np.ndarray
    shown: np.ndarray
    raw_label: np.ndarray
    unsure: np.ndarray
    not_a_face: np.ndarray
    valence: np.ndarray
    score: np.ndarray
    names: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<Records of {self.source}: {len(self):,} faces>"

    def observations(self) -> Iterator[Observation]:
        """Yield the faces in order of time."""
        for row in self.player_time_s.argsort(kind="stable").tolist():
            unsure = _none_if_nan(self.unsure[row])
            yield Observation(
                int(self.frame[row]), float(self.time_s[row]), float(self.player_time_s[row]), float(self.duration_s[row]),
                int(self.track[row]), int(self.shown[row]), int(self.raw_label[row]), self.smoothed[row],
                tuple(self.boxes_xyxy[row].tolist()), None if unsure is None else bool(unsure),
                _none_if_nan(self.not_a_face[row]), _none_if_nan(self.valence[row]),
            )  # fmt: skip

    def rows(self, start: int = 0, stop: int | None = None) -> list[dict[str, Any]]:
        """Return the records from ``start`` to ``stop``, as `make_records` made them and `record_columns` names their columns."""
        return [self._row(index) for index in range(*slice(start, stop).indices(len(self)))]

    def _row(self, index: int) -> dict[str, Any]:
        is_tracked = bool(self.track[index] >= 0)
        probabilities, label = _rounded(self.probabilities[index]), self.labels[self.raw_label[index]]
        named = dict(zip((f"p_{name}" for name in self.labels), probabilities, strict=True))
        smoothed = _rounded(self.smoothed[index]) if is_tracked else [None] * len(self.labels)
        unsure = _none_if_nan(self.unsure[index])
        x1, y1, x2, y2 = self.boxes_xyxy[index].tolist()
        return {
            "source": self.source, "frame": int(self.frame[index]), "time_s": float(self.time_s[index]),
            "player_time_s": float(self.player_time_s[index]),
            "duration_s": float(self.duration_s[index]) if is_tracked else None,
            "face": int(self.face[index]), "track": int(self.track[index]) if is_tracked else None,
            "x1": x1, "y1": y1, "x2": x2, "y2": y2, "score": _none_if_nan(self.score[index]), "label": label,
            "confidence": named[f"p_{label}"], **named, "unsure": None if unsure is None else bool(unsure),
            "not_a_face": _none_if_nan(self.not_a_face[index]), "valence": _none_if_nan(round(float(self.valence[index]), 6)),
            "model": self.model, "detector": self.detector,
            "s_label": self.labels[self.shown[index]] if is_tracked else None,
            **dict(zip((f"s_{name}" for name in self.labels), smoothed, strict=True)),
        }  # fmt: skip

    def people(self, rule: PeakRule | None = None) -> PeopleAccumulator:
        """Return people, timeline and peaks, as the analysis writes them into its summary."""
        return PeopleAccumulator(self.labels, rule or PeakRule(), given_names=self.names).update_all(
            self.observations()
        )

    def segments(self) -> list[Segment]:
        """Return the segments, each one person with one label, in order of their starts."""
        return PeopleAccumulator(self.labels).segments(self.observations())


def _rounded(values: np.ndarray) -> list[float]:
    """Return float32 (K,) as the decimals that were written."""
    return [round(value, 6) for value in values.tolist()]


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _estimate_durations_s(time_s: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Estimate the seconds (N,) for which each row's frame is shown: up to the next frame, or the usual length before a gap.

    For records without that column, which name only frames on which somebody was seen: where numbers are left out, a longer
    step is taken for frames without a face.
    """
    times, first, where = np.unique(time_s, return_index=True, return_inverse=True)
    if len(times) < 2:
        return np.full(len(time_s), FRAME_S)
    steps, numbers = np.diff(times), np.diff(frame[first])
    usual = float(np.median(steps))
    is_next = numbers <= np.median(numbers)
    lengths = np.append(np.where(is_next | (steps <= GAP * usual), steps, usual), usual)
    return lengths[where]


def _find_start_s(path: Path, time_s: np.ndarray) -> float:
    """Return the time that a player shows as 0, by the stream's own times (N,), for records without that column.

    As the summary beside them says; else their beginning, where they begin later than they last, as those of a broadcast.
    """
    stem = path.name.partition(".records.")[0]
    try:
        return float(json.loads(path.with_name(f"{stem}.summary.json").read_text(encoding="utf-8"))["begins_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return float(time_s.min()) if time_s.min() > np.ptp(time_s) or time_s.min() < 0 else 0.0


def read_records(path: str | Path, *, is_corrected: bool = True) -> list[Records]:
    """Read a file of records; return one Records for each input in it, in its order, none where no face was found.

    is_corrected: of one video's records, tracks and names are those of the table of people beside them, if there is one. Raises DataError for what is not records or is damaged, MissingExtra for Parquet without pyarrow.
    """
    path = Path(path)
    kind = _select_reader(path)
    if path.is_dir():
        raise DataError(path, "is a folder, not records", "name a file in it that ends in .records.jsonl or .csv")
    if not path.exists():
        raise DataError(
            path, "does not exist", "check the path; records are files NAME.records.jsonl, .csv or .parquet"
        )
    if kind is None:
        endings = ", ".join(f".{name}" for name in RECORD_FORMATS)
        raise DataError(path, "is no file of records", f"name a file that an analysis wrote ({endings})")
    by_source: dict[str, RecordBuilder] = {}
    labels: tuple[str, ...] = ()
    try:
        for number, row in kind(path):
            if not labels:
                labels = _labels_from_columns(path, row)
            source = str(row.get("source"))
            if source not in by_source:
                by_source[source] = RecordBuilder(path, labels, source, str(row.get("model")), str(row.get("detector")))
            by_source[source].add(number, row)
    except UnicodeDecodeError as error:
        raise DataError(path, "is not text", "name records that an analysis wrote") from error
    clips = [rows.finish() for rows in by_source.values()]
    return [correct_identities(clips[0])] if is_corrected and len(clips) == 1 else clips


def _select_reader(path: Path) -> Callable[[Path], Iterator[tuple[int, dict[str, Any]]]] | None:
    """Return the reader of a file's rows, by its ending; None for other files."""
    return {"jsonl": _read_jsonl, "csv": _read_csv, "parquet": _read_parquet}.get(path.suffix.lower().lstrip("."))


def iterate_rows(path: str | Path, at_once: int = BATCH) -> Iterator[list[dict[str, Any]]]:
    """Yield the records of a file that `record_writer` wrote, in lists of ``at_once``."""
    path = Path(path)
    if (read := _select_reader(path)) is None:
        raise ValueError(f"{path} is no file of records")
    rows = (row for _, row in read(path))
    while batch := list(islice(rows, at_once)):
        if path.suffix.lower() == ".csv":
            kinds = record_columns(_labels_from_columns(path, batch[0]))
            batch = [{name: _convert_text(text, kinds[name]) for name, text in row.items()} for row in batch]
        yield batch


def _convert_text(text: str | None, kind: type) -> Any:
    """Convert the text of a CSV cell into the value that it was written from."""
    if text is None:
        return None
    return text == "True" if kind is bool else kind(text)


def read_clip(path: str | Path, *, is_corrected: bool = True) -> Records:
    """Read the records of one video, ``is_corrected`` as in `read_records`. Raises DataError where the file tells of several inputs, of pictures, or of no face."""
    clips = read_records(path, is_corrected=is_corrected)
    if not clips:
        raise DataError(path, "holds no record: no face was seen", "analyze another video, or try another `detector`")
    if len(clips) > 1:
        raise DataError(path, f"holds records of {len(clips):,} inputs", "name the records of one of them")
    if (clips[0].track < 0).any():
        raise DataError(path, "holds records of a picture, which has no tracks", "name the records of a video")
    return clips[0]


@dataclass
class RecordBuilder:
    """Build the Records of one input row by row; numbers only: some 300 bytes a face."""

    path: Path
    labels: tuple[str, ...]
    source: str
    model: str
    detector: str
    values: array[float] = field(default_factory=lambda: array("d"))

    def __post_init__(self) -> None:
        kinds = record_columns(self.labels)
        self._numbers = ["frame", "time_s", "x1", "y1", "x2", "y2", "face", *(f"p_{name}" for name in self.labels)]
        self._whole = [name for name in self._numbers if kinds[name] is int]
        self._smoothed = [f"s_{name}" for name in self.labels]
        self._index = {name: index for index, name in enumerate(self.labels)}

    def add(self, number: int, row: dict[str, Any]) -> None:
        """Add a record. ``number`` is that of the line, for the message of a DataError."""
        try:
            values = [float(row[name]) for name in self._numbers]
            tracked = row["track"] is not None
            track = float(row["track"]) if tracked else -1.0
            smoothed = [float(row[name]) for name in self._smoothed] if tracked else values[7:]
            raw_label = self._index[row["label"]]
            shown = self._index[row["s_label"]] if tracked else raw_label
            optional = [_parse_number(row.get(name)) for name in OPTIONAL]
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(number, row) from error
        if not all(map(math.isfinite, (*values, track, *smoothed))) or any(
            number % 1 for number in (track, *(float(row[name]) for name in self._whole))
        ):
            raise self._error(number, row)
        self.values.extend([*values[:7], track, shown, raw_label, *optional, *values[7:], *smoothed])

    def _error(self, number: int, row: dict[str, Any]) -> DataError:
        """Which value of a row is not what its column holds."""
        tracked = row.get("track") is not None
        whole = {*self._whole, "track"}

        def is_good(name: str) -> bool:
            if name in ("label", "s_label"):
                return row.get(name) in self._index
            try:
                value = _parse_number(row.get(name))
            except (TypeError, ValueError):
                return False
            return name in OPTIONAL or (not math.isnan(value) and not (name in whole and value % 1))

        names = [*self._numbers, "label", *OPTIONAL, *(["s_label", "track", *self._smoothed] if tracked else [])]
        wrong = next((f"{name} is {row.get(name)!r}" for name in names if not is_good(name)), "")
        return DataError(self.path, f"record {number:,} is damaged: {wrong}", "analyze the input again")

    def finish(self) -> Records:
        """Return the records of all rows that were added."""
        first, count = 10 + len(OPTIONAL), len(self.labels)
        table = np.array(self.values).reshape(-1, first + 2 * count)
        frame, face, track, shown, raw_label = table[:, [0, 6, 7, 8, 9]].astype(np.int64).T
        time_s, probabilities = table[:, 1].copy(), table[:, first : first + count].astype(np.float32)
        optional = dict(zip(OPTIONAL, table[:, 10:first].T.copy(), strict=True))
        if np.isnan(optional["player_time_s"]).any():
            optional["player_time_s"] = np.maximum(0.0, time_s - _find_start_s(self.path, time_s))
        if np.isnan(optional["duration_s"]).any():
            optional["duration_s"] = _estimate_durations_s(time_s, frame)
        if np.isnan(optional["valence"]).any():
            values = [compute_valence(self.labels, row) for row in probabilities]
            optional["valence"] = np.array([math.nan if value is None else value for value in values])
        return Records(
            self.path, self.source, self.model, self.detector, self.labels, frame=frame, time_s=time_s, face=face, track=track,
            boxes_xyxy=table[:, 2:6].copy(), probabilities=probabilities,
            smoothed=table[:, first + count :].astype(np.float32), shown=shown, raw_label=raw_label, **optional,
        )  # fmt: skip


def _parse_number(value: Any) -> float:
    """Return a number of any format, true and false as 1 and 0, NaN for nothing. Raises ValueError for anything else."""
    if value is None:
        return math.nan
    number = {"true": 1.0, "false": 0.0}.get(value.lower()) if isinstance(value, str) else None
    number = float(value) if number is None else number
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no number")
    return number


def _labels_from_columns(path: Path, row: dict[str, Any]) -> tuple[str, ...]:
    """Return the labels that the columns name. Raises DataError with the column that is missing."""
    labels = tuple(name[2:] for name in row if name.startswith("p_"))
    absent = [name for name in record_columns(labels) if name not in row and name not in SINCE_3]
    if not labels or absent:
        what = ", ".join(absent[:4]) or "p_<label>"
        raise DataError(path, f"is not records: there is no column {what}", "name a file that an analysis wrote")
    return labels


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(path, f"line {number:,} is not JSON", "analyze the input again") from error
            if not isinstance(row, dict):
                raise DataError(path, f"line {number:,} is no record", "analyze the input again")
            yield number, row


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        _labels_from_columns(path, dict.fromkeys(columns))
        for number, values in enumerate(rows, 1):
            if len(values) != len(columns):
                found = f"record {number:,} has {len(values)} values for {len(columns)} columns"
                raise DataError(path, found, "analyze the input again")
            yield number, {name: unescape_formula(value) or None for name, value in zip(columns, values, strict=True)}


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "for Parquet records") from error
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _labels_from_columns(path, dict.fromkeys(file.schema_arrow.names))
            for batch in file.iter_batches(BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(path, "is not a Parquet file that can be read", "analyze the input again") from error
