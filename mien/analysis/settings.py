"""What an analysis is asked for, where its outputs go, and what came of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.inference.classifier import TTA, check_tta
from mien.analysis.media.video_reader import ALL_FRAMES, Sampling
from mien.analysis.output.style import DEFAULT_STYLE, Style, known_values
from mien.analysis.output.writers import check_formats
from mien.analysis.tracking.smoothing import TIME_CONSTANT_S
from mien.core.errors import UsageError
from mien.core.pictures import MAX_PIXELS
from mien.core.types import Face

if TYPE_CHECKING:
    from mien.analysis.people.people import PeopleAccumulator
    from mien.analysis.video_facts import VideoFacts

#: Frames after which what was done is kept for good: a minute at 30 frames a second.
PART_FRAMES = 1800

#: What may be written of an input beside its records and, of a video, its summary.
OUTPUTS = ("media", "captions", "timeline", "page")


def check_outputs(outputs: Sequence[str]) -> None:
    """Raise UsageError, with the choices, for an output that is unknown."""
    if unknown := sorted(set(outputs) - set(OUTPUTS)):
        hint = f"choose from {', '.join(OUTPUTS)}, or none"
        raise UsageError(f"`outputs={','.join(unknown)}`", "is unknown", hint)


def parse_outputs(text: str) -> tuple[str, ...]:
    """Return what a list with commas names: ``"media,page"`` → ("media", "page"); "none" is nothing.

    Raises UsageError for an output that is unknown.
    """
    names = {name.strip().lower() for name in text.split(",")} - {"none", ""}
    check_outputs(tuple(names))
    return tuple(name for name in OUTPUTS if name in names)


def parse_people(text: str) -> int:
    """Return how many faces are kept: ``"all"`` → 0, ``"largest"`` → 1, ``"3"`` → 3. Raises UsageError for anything else."""
    named = {"all": 0, "largest": 1}
    if text in named:
        return named[text]
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        problem = "is neither all, largest nor a number from 1 to 9,999"
        raise UsageError(f"`people={text[:40]}`", problem, "as in `people=2`", code="invalid_parameter")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class AnalysisOptions:
    """What an analysis is asked for. Command line, Python, service, job store and worker all make this object.

    A new option of drawing is a field of `Style`, and an option or parameter of the front ends.

    The faces and how they are classified, as `Recognizer` takes them:

    model               a shipped model's name, or the path of an .onnx file
    detector            "auto", "haar", "yunet", or "none": the whole picture is a face
    detector_model      path of a YuNet file, or of one of `mien train-detector`
    detector_threshold  faces with a lower detection score are left out; 0: the detector's own threshold
    tta                 "none", "flip" or "ten-crop"
    precision           "auto", "float" or "int8"
    unsure              "auto", "off", or a probability below which a label is unsure
    drop_non_faces      "off", "auto", or a not-a-face score above which a face is left out
    people              so many of the largest faces of each picture or frame; 0: all
    max_pixels          pictures with more pixels are refused
    allow_truncated     whether what decodes of a picture file that is cut off is analyzed

    Videos:

    smoothing_s         time constant of smoothing along tracks, in seconds; 0 smooths nothing
    sampling            which frames of a video are analyzed

    What is written:

    formats             of the records
    outputs             which of OUTPUTS are written beside the records
    style               how faces are drawn

    Raises UsageError for a value that cannot be used; whether there is such a model or detector is not checked here.
    """

    model: str = "base"
    detector: str = "auto"
    detector_model: str | None = None
    detector_threshold: float = 0.0
    tta: TTA = "none"
    precision: str = "auto"
    unsure: str | float = "auto"
    drop_non_faces: str | float = "off"
    people: int = 0
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    smoothing_s: float = TIME_CONSTANT_S
    sampling: Sampling = ALL_FRAMES
    formats: tuple[str, ...] = ("jsonl", "csv")
    outputs: tuple[str, ...] = OUTPUTS
    style: Style = DEFAULT_STYLE

    def __post_init__(self) -> None:
        check_tta(self.tta)
        check_formats(self.formats)
        check_outputs(self.outputs)
        if not isinstance(self.people, int) or self.people < 0:
            raise UsageError(f"`people={self.people!r}`", "is no number of faces", "as in `people=1`, or 0 for all")
        if not 0 <= self.detector_threshold <= 1:
            found = f"`detector_threshold={self.detector_threshold}`"
            raise UsageError(found, "is not in 0..1", "as in `detector_threshold=0.7`")
        if not (math.isfinite(self.smoothing_s) and self.smoothing_s >= 0):
            found = "is no number of seconds from 0"
            raise UsageError(f"`smoothing_s={self.smoothing_s}`", found, "as in `smoothing_s=0.25`")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as JSON holds them; `from_dict` makes the same options of it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {
            "formats": list(self.formats), "outputs": list(self.outputs), "sampling": asdict(self.sampling),
            "style": self.style.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnalysisOptions:
        """Return the options that `to_dict` made these values of; what is missing has its default.

        Raises UsageError for a value that cannot be used, or that is unknown.
        """
        parsed = dict(values)
        if "sampling" in parsed:
            parsed["sampling"] = Sampling(**parsed["sampling"])
        if "style" in parsed:
            parsed["style"] = Style.from_dict(parsed["style"])
        parsed |= {name: tuple(parsed[name]) for name in ("formats", "outputs") if name in parsed}
        return cls(**known_values(cls, parsed))

    @property
    def has_media(self) -> bool:
        """Whether an annotated picture or video is written."""
        return "media" in self.outputs

    def output_choices(self) -> dict[str, Any]:
        """Return what the outputs depend on beside the input and the answers of the recognizer, as JSON holds it."""
        values = self.to_dict()
        return {name: values[name] for name in ("formats", "outputs", "style", "smoothing_s", "sampling")}


DEFAULT_OPTIONS = AnalysisOptions()


@dataclass(frozen=True)
class AnalysisContext:
    """Where the outputs of an analysis go, and who watches it; nothing of it changes what is found.

    out              folder of the outputs
    options          what is asked for
    quiet            whether no progress is shown
    report_progress  called with (seconds done, seconds in all or None, frames done) as a video goes on; what it raises ends
                     the analysis, and nothing is left of it
    should_stop      asked as a video goes on; where it returns True, the video ends there
    part_frames      a video is done in parts of so many frames; after a sudden end it goes on with the part that was begun
    inline_scripts   whether the timeline's page holds its scripts; else they lie in ``out``, once for all pages
    """

    out: Path
    options: AnalysisOptions = DEFAULT_OPTIONS
    quiet: bool = False
    report_progress: Callable[[float, float | None, int], None] | None = None
    should_stop: Callable[[], bool] | None = None
    part_frames: int = PART_FRAMES
    inline_scripts: bool = False


@dataclass
class AnalysisResult:
    """What came of one input.

    source      the input, as it was given
    outputs     the files that were written
    faces       a picture's faces; of a video they are only counted
    frames      frames that were analyzed; 1 of a picture
    faces_seen  faces in all of them
    totals      of a video, what `PeopleAccumulator.to_json` says of it
    accumulator, facts   of a video whose outputs are written: what `totals` are of, and what is known beside
    warnings    what of the input could not be read or written, and what became of it
    """

    source: str
    is_video: bool = False
    outputs: list[Path] = field(default_factory=list)
    faces: tuple[Face, ...] = ()
    frames: int = 0
    faces_seen: int = 0
    totals: dict[str, Any] = field(default_factory=dict)
    accumulator: PeopleAccumulator | None = None
    facts: VideoFacts | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def people(self) -> list[dict[str, Any]]:
        """Of a video: the people, who was seen longest first."""
        return self.totals.get("people", [])

    @property
    def not_faces(self) -> list[dict[str, Any]]:
        """Of a video: tracks that are probably no faces."""
        return self.totals.get("not_faces", [])

    def to_json(self) -> dict[str, Any]:
        """Return what was counted and written, as JSON holds it, without a picture's records."""
        return {
            "source": self.source,
            "frames": self.frames,
            "faces": self.faces_seen,
            "outputs": [str(path) for path in self.outputs],
            "warnings": self.warnings,
            **({"people": self.people, "not_faces": self.not_faces} if self.is_video else {}),
        }

    def add_frame(self, faces: Sequence[Face]) -> None:
        """Count a picture or a frame, and its faces."""
        self.frames += 1
        self.faces_seen += len(faces)
