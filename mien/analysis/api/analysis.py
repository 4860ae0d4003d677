"""Analysis: the records of one video, and all that is computed of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.analysis.api.statistics import VideoStatistics
from mien.analysis.media.container import MAX_FRAME_PIXELS
from mien.analysis.media.inputs import Input
from mien.analysis.people.peaks import MAX_PEAKS, Peak, PeakRule
from mien.analysis.people.people import PeopleAccumulator, Segment
from mien.analysis.people.records import Records
from mien.analysis.settings import DEFAULT_OPTIONS, AnalysisOptions
from mien.analysis.video_facts import VideoFacts
from mien.core.errors import DataError, UsageError
from mien.core.types import Face, FrameResult

if TYPE_CHECKING:
    from pandas import DataFrame


class Analysis(VideoStatistics):
    """One analyzed video: its records in memory, about 300 bytes a face, and all that is computed of them.

    `mien.analyze_video` and `mien.read_records` make it. Iterating it yields a `FrameResult` for each frame on which somebody
    was seen.

    source    the video, as it was named
    records   `Records`: the columns as arrays, one row a face a frame
    facts     `VideoFacts`: size, number of frames, times, warnings; None for records whose summary is not beside them
    options   what was asked for
    outputs   the files that were written; [] without ``out``

    item, key, can_read_video and max_frame_pixels are for `save`.
    """

    def __init__(
        self,
        records: Records,
        facts: VideoFacts | None,
        options: AnalysisOptions = DEFAULT_OPTIONS,
        *,
        item: Input,
        key: Mapping[str, Any],
        accumulator: PeopleAccumulator | None = None,
        outputs: Sequence[Path] = (),
        max_frame_pixels: int | None = None,
    ) -> None:
        self.records, self.facts, self.options, self.outputs = records, facts, options, list(outputs)
        self.source, self.item, self.key = records.source, item, dict(key)
        self.can_read_video = max_frame_pixels is not None and item.file is not None
        self.max_frame_pixels = MAX_FRAME_PIXELS if max_frame_pixels is None else max_frame_pixels
        self._given = accumulator

    def __repr__(self) -> str:
        frames = "" if self.facts is None else f"{self.facts.frames:,} frames, "
        return f"<Analysis {self.source}: {frames}{len(self.records):,} faces>"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be read or written: a damaged file keeps what was read."""
        return () if self.facts is None else self.facts.warnings

    @cached_property
    def accumulator(self) -> PeopleAccumulator:
        """What people, timeline and peaks are read from. Raises DataError for records of a picture."""
        self._check_tracked()
        return self.records.people() if self._given is None else self._given

    def _check_tracked(self) -> None:
        """Raise DataError for records of a picture, which has no people over time."""
        if (self.records.track < 0).any():
            raise DataError(
                self.source, "is a picture, which has no tracks", "use `records`, `to_records` or `to_pandas`"
            )

    @cached_property
    def segments(self) -> list[Segment]:
        """The stretches of time in which one person is shown with one label, in order of their starts."""
        self._check_tracked()
        return self.records.segments()

    def peaks(
        self,
        label: str | None = None,
        *,
        person: int | None = None,
        most: int | None = None,
        min_probability: float | None = None,
        min_gap_s: float | None = None,
    ) -> list[Peak]:
        """Return the highest peaks, of one label or label after label, of one person (as `Person.number`) or of all.

        most              so many of each label; default: 12
        min_probability   lower maxima are no peaks; default: 0.4
        min_gap_s         seconds between two peaks of one person and label, at least; default: 2

        Other names of a label are understood, as in "happiness". Raises UsageError for a label that the model does not have.
        """
        if min_probability is None and min_gap_s is None and (most or 0) <= MAX_PEAKS:
            return super().peaks(label, person=person, most=most)
        default = PeakRule()
        rule = PeakRule(
            default.min_gap_s if min_gap_s is None else min_gap_s,
            default.min_probability if min_probability is None else min_probability,
            max(most or MAX_PEAKS, 1),
        )
        self._check_tracked()
        label = None if label is None else self._find_label(label)
        track = None if person is None else person - 1
        return self.records.people(rule).peaks(label, track=track, most=most)

    def __iter__(self) -> Iterator[FrameResult]:
        """Yield the frames on which somebody was seen, in order. Probabilities have the six decimals of the records."""
        records, unsure_below = self.records, self._find_unsure_below()
        for _, group in groupby(range(len(records)), key=lambda row: records.frame[row]):
            rows = list(group)
            yield self._make_frame(rows, unsure_below)

    def _make_frame(self, rows: list[int], unsure_below: float | None) -> FrameResult:
        records, first = self.records, rows[0]
        return FrameResult(
            self.source, int(records.frame[first]), float(records.time_s[first]),
            (0, 0) if self.facts is None else self.facts.size_wh,
            tuple(self._make_face(row, unsure_below) for row in rows), float(records.player_time_s[first]),
            float(records.duration_s[first]),
        )  # fmt: skip

    def _make_face(self, row: int, unsure_below: float | None) -> Face:
        records = self.records
        x1, y1, x2, y2 = records.boxes_xyxy[row].tolist()
        score, nothing = float(records.score[row]), float(records.not_a_face[row])
        face = Face(
            (x1, y1, x2, y2), None if np.isnan(score) else score, records.probabilities[row], records.labels,
            unsure_below=unsure_below, not_a_face=None if np.isnan(nothing) else nothing,
            is_not_a_face=self.facts is not None and self.facts.not_a_face_above is not None
            and nothing > self.facts.not_a_face_above,
        )  # fmt: skip
        if records.track[row] < 0:
            return face
        label = records.labels[records.shown[row]]
        return replace(face, track=int(records.track[row]), smoothed=records.smoothed[row], smoothed_label=label)

    def _find_unsure_below(self) -> float | None:
        """Return the threshold below which labels are unsure; of records read back one that separates them the same way."""
        if self.facts is not None and self.facts.unsure_below is not None:
            return self.facts.unsure_below
        unsure, confidence = self.records.unsure, self.records.probabilities.max(axis=1, initial=0.0)
        if np.isnan(unsure).all():
            return None
        sure = confidence[unsure == 0]
        return float(sure.min()) if len(sure) else float(np.nextafter(confidence.max(), 2))

    def to_records(self) -> list[dict[str, Any]]:
        """Return the records as dictionaries, one for each face of each frame, as the files hold them."""
        return self.records.rows()

    def to_pandas(self, table: str = "records") -> DataFrame:
        """Return a table as a data frame: "records" (columns as in the files), "people", "segments" or "peaks".

        Raises MissingExtra where pandas is not installed, UsageError for another table.
        """
        from mien.analysis.api import data_frames as tables

        makers = {
            "records": lambda: tables.records_to_pandas(self.records),
            "people": lambda: tables.people_to_pandas(self.people, self.labels),
            "segments": lambda: tables.segments_to_pandas(self.segments),
            "peaks": lambda: tables.peaks_to_pandas(self.peaks()),
        }
        if table not in makers:
            raise UsageError(f"`table={table}`", "is unknown", f"choose one of {', '.join(makers)}")
        return makers[table]()

    def _shown_range_s(self) -> tuple[float | None, float | None]:
        return (None, None) if self.facts is None else self.facts.shown_range_s

    def save(
        self, folder: str | Path, *, formats: Sequence[str] | None = None, outputs: Sequence[str] | None = None
    ) -> list[Path]:
        """Write the files that `mien analyze` writes, and return their paths; the folder is made.

        formats   of the records: "jsonl", "csv", "parquet"; default: as in ``options``
        outputs   what else: "media", "captions", "timeline", "page"; default: as in ``options``. The annotated video,
                  "media", needs the video file itself, which is decoded once more; of a camera and of records that were read
                  from disk there is none

        Raises OutputError where something cannot be written, DataError for records of a picture.
        """
        from mien.analysis.api.saving import save_analysis

        chosen = replace(
            self.options,
            formats=tuple(self.options.formats if formats is None else formats),
            outputs=tuple(self.options.outputs if outputs is None else outputs),
        )
        self._check_tracked()
        return save_analysis(self, Path(folder), chosen)
