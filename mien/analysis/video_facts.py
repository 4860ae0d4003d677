"""What is known of an analyzed video beside its faces, and its summary."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien import __version__
from mien.analysis.media.video_reader import ALL_FRAMES, Sampling
from mien.analysis.output.writers import RECORD_SCHEMA

if TYPE_CHECKING:
    from mien.analysis.frame_pipeline import FramePipeline
    from mien.analysis.people.people import PeopleAccumulator


@dataclass(frozen=True)
class VideoFacts:
    """What is known of an analyzed video beside its faces; times in seconds by the stream's own clock.

    source              the input, as it was named
    model, precision    what classified the faces; precision is "" where it is unknown
    detector            what found them
    size_wh             width and height of the upright frames in pixels
    frames, faces       how many were analyzed, and faces in all of them
    start_s             what a player shows as 0:00
    end_s               end of the last frame
    sampling            which frames were analyzed
    size_bytes          of the file; None of a camera or a stream
    has_rebuilt_times   whether the times are not the file's own
    unsure_below        a label of lower probability is unsure; None: no threshold was set
    not_a_face_above    faces with a higher not-a-face score are marked; None: no threshold
    settings            of the analysis, as the summary has them; {} where they are unknown
    warnings            what could not be read or written
    """

    source: str
    model: str
    precision: str
    detector: str
    size_wh: tuple[int, int]
    frames: int
    faces: int
    start_s: float
    end_s: float
    sampling: Sampling = ALL_FRAMES
    size_bytes: int | None = None
    has_rebuilt_times: bool = False
    unsure_below: float | None = None
    not_a_face_above: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def from_pipeline(cls, pipeline: FramePipeline, sampling: Sampling) -> VideoFacts:
        """Return the facts of a video whose last frame was analyzed."""
        source, state, recognizer = pipeline.source, pipeline.state, pipeline.recognizer
        return cls(
            source=state.result.source, model=recognizer.model_name, precision=recognizer.classifier.precision,
            detector=recognizer.detector_name, size_wh=state.size_wh, frames=state.result.frames,
            faces=state.result.faces_seen, start_s=source.start_s, end_s=float(state.end_pts * source.time_base),
            sampling=sampling, size_bytes=source.size_bytes, has_rebuilt_times=source.has_rebuilt_times,
            unsure_below=recognizer.thresholds.unsure_below, not_a_face_above=recognizer.thresholds.not_a_face_above,
            settings=_list_settings(pipeline), warnings=tuple(state.result.warnings),
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """How long what was analyzed lasts."""
        return round(self.end_s - (self.start_s + self.sampling.from_s), 6)

    @property
    def shown_range_s(self) -> tuple[float, float]:
        """Return (start, end) of the analyzed part, as a player shows them."""
        return self.sampling.from_s, self.end_s - self.start_s

    def summarize(self, people: PeopleAccumulator) -> dict[str, Any]:
        """Return the summary of the video, as JSON holds it.

        seconds    how long what was analyzed lasts
        start_s    what a player shows as 0:00, by the file's own times; all other times here are as a player shows them
        part       which frames were analyzed, counted from that beginning
        bytes      of the file; None of a camera or a stream
        has_rebuilt_times    whether the times here are not the file's own: it is recordings joined end to end, whose times
                   jump back, or it does not say when its frames are shown
        settings   what the faces depend on beside model and detector: thresholds (None: not used), faces kept of each frame
                   (0: all), the time constant of smoothing; and the version of mien
        """
        part = self.sampling
        return {
            "schema": RECORD_SCHEMA, "source": self.source, "model": self.model,
            "precision": self.precision, "detector": self.detector,
            "width": self.size_wh[0], "height": self.size_wh[1], "frames": self.frames,
            "seconds": self.seconds, "start_s": self.start_s,
            "part": {"from_s": part.from_s, "to_s": part.to_s, "every_s": part.every_s},
            "bytes": self.size_bytes, "has_rebuilt_times": self.has_rebuilt_times,
            "settings": self.settings,
            "faces": self.faces, "labels": people.raw_labels, **people.to_json(),
            "complete": not self.warnings, "warnings": list(self.warnings),
        }  # fmt: skip


def read_facts(summary: Path) -> VideoFacts | None:
    """Read the facts of a video from its summary; None where there is none, or it is of an earlier release."""
    try:
        values = json.loads(summary.read_text(encoding="utf-8"))
        part, start_s = Sampling(**values["part"]), float(values["start_s"])
        settings = values.get("settings", {})
        return VideoFacts(
            source=values["source"], model=values["model"], precision=values["precision"], detector=values["detector"],
            size_wh=(values["width"], values["height"]), frames=values["frames"], faces=values["faces"], start_s=start_s,
            end_s=start_s + part.from_s + values["seconds"], sampling=part, size_bytes=values["bytes"],
            has_rebuilt_times=values["has_rebuilt_times"], settings=settings, unsure_below=settings.get("unsure_below"),
            warnings=tuple(values["warnings"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _list_settings(pipeline: FramePipeline) -> dict[str, Any]:
    recognizer = pipeline.recognizer
    options, thresholds = recognizer.options, recognizer.thresholds
    return {
        "version": __version__, "tta": options.tta, "detector_threshold": options.detector_threshold or None,
        "unsure_below": thresholds.unsure_below, "drop_above": thresholds.drop_above, "largest_faces": options.people,
        "smoothing_s": pipeline.state.follower.smoothing_s,
    }  # fmt: skip
