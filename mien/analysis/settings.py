"""What an analysis is asked for, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.analysis.media.video_reader import ALL_FRAMES, Sampling
from mien.analysis.output.annotate import DEFAULT_STYLE, Style
from mien.analysis.tracking.smoothing import TIME_CONSTANT_S
from mien.core.types import Face

#: Frames after which what was done is kept for good: a minute at 30 frames a second.
PART_FRAMES = 1800


#: What may be written of a video beside its records, its summary and the annotated video.
EXTRAS = ("captions", "timeline", "page")


@dataclass(frozen=True)
class Settings:
    """What ``analyze`` writes, and where.

    smoothing_s   the time constant along tracks; 0 smooths nothing
    sampling      which frames of a video are analyzed
    watch         called with (seconds done, seconds in all or None, frames done) as a video goes on; what it raises ends
                  the analysis, and nothing is left of it
    stop          asked as a video goes on; where it says yes, the video ends there
    extras        which of EXTRAS are written of a video
    inline        whether the timeline's page holds its scripts; else they lie in ``out``, once for all pages
    part_frames   a video is done in parts of so many frames; after a sudden end it goes on with the part that was begun
    """

    out: Path
    formats: tuple[str, ...] = ("jsonl", "csv")
    media: bool = True
    style: Style = DEFAULT_STYLE
    quiet: bool = False
    smoothing_s: float = TIME_CONSTANT_S
    sampling: Sampling = ALL_FRAMES
    watch: Callable[[float, float | None, int], None] | None = None
    stop: Callable[[], bool] | None = None
    part_frames: int = PART_FRAMES
    extras: tuple[str, ...] = EXTRAS
    inline: bool = False


@dataclass
class Done:
    """What came of one input. ``faces`` holds a picture's faces; of a video the counts are kept, and ``totals``,
    what `PeopleAccumulator.to_json` says of it.

    ``warnings`` say what of the input could not be read or written, and what became of it.
    """

    source: str
    is_video: bool = False
    outputs: list[Path] = field(default_factory=list)
    faces: tuple[Face, ...] = ()
    frames: int = 0
    faces_seen: int = 0
    totals: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def people(self) -> list[dict[str, Any]]:
        """Of a video: who was seen longest first."""
        return self.totals.get("people", [])

    @property
    def not_faces(self) -> list[dict[str, Any]]:
        """Of a video: tracks that are probably no faces."""
        return self.totals.get("not_faces", [])

    def to_json(self) -> dict[str, Any]:
        """What was counted and written, as JSON holds it; a picture's records are not among it."""
        return {
            "source": self.source,
            "frames": self.frames,
            "faces": self.faces_seen,
            "outputs": [str(path) for path in self.outputs],
            "warnings": self.warnings,
            **({"people": self.people, "not_faces": self.not_faces} if self.is_video else {}),
        }

    def count(self, faces: Sequence[Face]) -> None:
        """Add a picture or a frame."""
        self.frames += 1
        self.faces_seen += len(faces)
