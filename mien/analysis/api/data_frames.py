"""Records, people, segments and peaks as pandas data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.analysis.output.writers import record_columns
from mien.core.errors import MissingExtra

if TYPE_CHECKING:
    from pandas import DataFrame

    from mien.analysis.people.peaks import Peak
    from mien.analysis.people.people import Person, Segment
    from mien.analysis.people.records import Records

#: Columns of whole numbers and of truth values that may be empty have pandas' own types for these.
_NULLABLE = {"track": "Int64", "unsure": "boolean"}

#: Type of the values of a column → type of pandas.
_TYPES = {int: "int64", float: "float64", bool: "boolean", str: "str"}


def import_pandas() -> Any:
    """Import pandas. Raises MissingExtra where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise MissingExtra("pandas", "", "for data frames") from error
    return pandas


def make_data_frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, type]) -> DataFrame:
    """Return rows as a data frame.

    columns: name → type of the values. The types of pandas depend on these alone: empty numbers are NaN, empty texts None;
    ``track`` is Int64 and ``unsure`` boolean, and what is empty of them ``pandas.NA``.
    """
    pandas = import_pandas()
    series = {
        name: pandas.Series([row[name] for row in rows], dtype=_NULLABLE.get(name, _TYPES[kind]))
        for name, kind in columns.items()
    }
    return pandas.DataFrame(series, columns=list(columns))


def records_to_pandas(records: Records) -> DataFrame:
    """Return N records as a data frame with the columns of `record_columns`; of many it is much faster than their rows."""
    pandas = import_pandas()
    k, is_tracked = np.arange(len(records.labels)), records.track >= 0
    labels = np.array([*records.labels, None], object)
    values: dict[str, Any] = {
        "source": [records.source] * len(records), "model": [records.model] * len(records),
        "detector": [records.detector] * len(records),
        **{name: getattr(records, name) for name in ("frame", "time_s", "player_time_s", "face", "score", "not_a_face")},
        "duration_s": np.where(is_tracked, records.duration_s, np.nan),
        "track": pandas.array(np.where(is_tracked, records.track, 0), dtype="Int64"),
        "unsure": pandas.array(records.unsure == 1, dtype="boolean"),
        **dict(zip(("x1", "y1", "x2", "y2"), records.boxes_xyxy.T, strict=True)),
        "label": labels[records.raw_label], "s_label": labels[np.where(is_tracked, records.shown, -1)],
        "valence": np.round(records.valence, 6),
    }  # fmt: skip
    values["track"][~is_tracked] = values["unsure"][np.isnan(records.unsure)] = pandas.NA
    probabilities = np.round(records.probabilities.astype(np.float64), 6)
    smoothed = np.where(is_tracked[:, None], np.round(records.smoothed.astype(np.float64), 6), np.nan)
    values["confidence"] = probabilities[np.arange(len(records)), records.raw_label]
    for index, name in zip(k, records.labels, strict=True):
        values[f"p_{name}"], values[f"s_{name}"] = probabilities[:, index], smoothed[:, index]
    kinds = record_columns(records.labels)
    series = {
        name: pandas.Series(values[name], dtype=_NULLABLE.get(name, _TYPES[kind])) for name, kind in kinds.items()
    }
    return pandas.DataFrame(series, columns=list(kinds))


def people_to_pandas(people: Sequence[Person], labels: Sequence[str]) -> DataFrame:
    """Return a row for each person: time on screen, changes, ``share_<label>`` and ``mean_<label>``, as in the summary."""
    columns: dict[str, type] = {
        "person": int, "track": int, "name": str, "first_s": float, "last_s": float, "on_screen_s": float, "frames": int, "changes": int,
        "sure_share": float, "mostly_unsure": bool, "not_a_face_score": float, "valence": float,
        **{f"{what}_{label}": float for what in ("share", "mean") for label in labels},
    }  # fmt: skip
    rows = [person.to_json() for person in people]
    for row in rows:
        row |= {"name": row.get("name")}
        row |= {f"{what}_{label}": row[what][label] for what in ("share", "mean") for label in labels}
    return make_data_frame(rows, columns)


def segments_to_pandas(segments: Sequence[Segment]) -> DataFrame:
    """Return a row for each segment, in order of their starts."""
    columns: dict[str, type] = {
        "person": int, "track": int, "label": str, "start_s": float, "end_s": float, "probability": float,
        "sure_share": float,
    }  # fmt: skip
    return make_data_frame([segment.to_json() for segment in segments], columns)


def peaks_to_pandas(peaks: Sequence[Peak]) -> DataFrame:
    """Return a row for each peak: label after label, the highest first."""
    columns: dict[str, type] = {
        "label": str, "person": int, "track": int, "time_s": float, "player_time_s": float, "frame": int,
        "probability": float, "unsure": bool, "x1": float, "y1": float, "x2": float, "y2": float,
    }  # fmt: skip
    rows = [peak.to_json() | dict(zip(("x1", "y1", "x2", "y2"), peak.box_xyxy, strict=True)) for peak in peaks]
    return make_data_frame(rows, columns)
