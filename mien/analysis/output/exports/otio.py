"""Events as a timeline of OpenTimelineIO; its adapters write it for further editing programs."""

from __future__ import annotations

from mien.analysis.output.exports.edl import list_marks
from mien.analysis.output.exports.events import ClipEvents
from mien.core.errors import MissingExtra, escape_controls

#: Label → color of the markers.
COLORS = {
    "angry": "RED", "disgust": "GREEN", "fear": "PURPLE", "happy": "YELLOW", "sad": "BLUE", "surprise": "CYAN",
    "neutral": "WHITE", "contempt": "MAGENTA",
}  # fmt: skip
OTHER_COLOR = "ORANGE"


def format_events(events: ClipEvents, _: str = "otio") -> dict[str, str]:
    """Return the timeline: the clip, with markers for segments and peaks. Raises MissingExtra without opentimelineio."""
    try:
        import opentimelineio as otio
    except ImportError as error:
        raise MissingExtra("opentimelineio", "edit", "for OpenTimelineIO timelines") from error
    rate = float(events.rate)

    def time_range(start: int, frames: int) -> otio.opentime.TimeRange:
        return otio.opentime.TimeRange(
            otio.opentime.RationalTime(events.start_frame + start, rate), otio.opentime.RationalTime(frames, rate)
        )

    whole = time_range(0, events.end_frame)
    reference = otio.schema.ExternalReference(target_url=events.media_url, available_range=whole)
    clip = otio.schema.Clip(escape_controls(events.media_name), media_reference=reference, source_range=whole)
    for mark in list_marks(events):
        clip.markers.append(
            otio.schema.Marker(
                escape_controls(mark.name),
                time_range(mark.start, mark.frames),
                color=COLORS.get(mark.label, OTHER_COLOR),
                metadata={"mien": {"label": mark.label}},
            )
        )
    track = otio.schema.Track("V1", [clip], kind=otio.schema.TrackKind.Video)
    timeline = otio.schema.Timeline(
        escape_controls(events.name),
        tracks=[track],
        global_start_time=whole.start_time,
        metadata={"mien": {"model": events.model, "detector": events.detector}},
    )
    return {"otio": timeline.to_json_string() + "\n"}
