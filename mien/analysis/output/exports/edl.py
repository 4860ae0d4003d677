"""Events as edit decision lists: CMX 3600 with locators, and the list of markers that DaVinci Resolve imports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mien.analysis.output.exports.events import ClipEvents
from mien.core.errors import escape_controls

#: Label → color of the marks: as CMX locators have them (Avid), and as DaVinci Resolve names them.
COLORS = {
    "angry": ("RED", "Red"), "disgust": ("GREEN", "Green"), "fear": ("MAGENTA", "Purple"), "happy": ("YELLOW", "Yellow"),
    "sad": ("BLUE", "Blue"), "surprise": ("CYAN", "Cyan"), "neutral": ("WHITE", "Cream"), "contempt": ("MAGENTA", "Lavender"),
}  # fmt: skip
OTHER_COLOR = ("RED", "Rose")


class Mark(NamedTuple):
    """What a marker says: frames from 0, its name, and the label that gives it its color."""

    start: int
    frames: int
    name: str
    label: str


def list_marks(events: ClipEvents) -> list[Mark]:
    """Return segments and peaks as markers, in order of time; a peak lasts one frame."""

    def iterate() -> Iterator[Mark]:
        for one in events.segments:
            start, end = events.frame_range(one)
            yield Mark(start, end - start, f"{events.people[one.track]}: {one.label}", one.label)
        for peak in events.peaks:
            frame = events.frame_at(peak.player_time_s)
            text = f"{events.people[peak.track]}: peak of {events.describe_peak(peak)}"
            yield Mark(frame, 1, text, peak.label)

    return sorted(iterate(), key=lambda mark: (mark.start, -mark.frames, mark.name))


def format_events(events: ClipEvents, _: str = "edl") -> dict[str, str]:
    """Return both lists; source and record timecodes are the same.

    ``edl``: the clip as one event, with a locator at the start of each segment and at each peak.
    ``markers.edl``: an event for each marker with its duration, as DaVinci Resolve writes and reads timeline markers.
    """
    title = escape_controls(events.name)
    head = [f"TITLE: {title}", f"FCM: {'' if events.is_drop_frame else 'NON-'}DROP FRAME", ""]
    marks = list_marks(events)
    cuts = [_event(events, 1, 0, events.end_frame), f"* FROM CLIP NAME: {escape_controls(events.media_name)}"]
    for mark in marks:
        color = COLORS.get(mark.label, OTHER_COLOR)[0]
        cuts.append(f"* LOC: {events.timecode(mark.start)} {color:7} {escape_controls(mark.name).upper()}")
    markers = []
    for index, mark in enumerate(marks, 1):
        color = COLORS.get(mark.label, OTHER_COLOR)[1]
        name = escape_controls(mark.name).replace("|", "/")
        markers += [_event(events, index, mark.start, mark.start + 1)]
        markers += [f" |C:ResolveColor{color} |M:{name} |D:{mark.frames}", ""]
    return {"edl": "\n".join([*head, *cuts, ""]), "markers.edl": "\n".join([*head, *markers])}


def _event(events: ClipEvents, number: int, start: int, end: int) -> str:
    """Return the line of an event; the reel AX is that of auxiliary, named media."""
    times = " ".join(events.timecode(frame) for frame in (start, end))
    return f"{number:03d}  AX       V     C        {times} {times}"
