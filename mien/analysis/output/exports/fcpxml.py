"""Events as FCPXML 1.8, which Final Cut Pro and DaVinci Resolve import."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree

from mien.analysis.output.exports.events import ClipEvents
from mien.core.errors import escape_controls

VERSION = "1.8"


def format_events(events: ClipEvents, _: str = "fcpxml") -> dict[str, str]:
    """Return a project with the clip: keyword ranges for segments, markers for peaks. Times are fractions of a second."""

    def time(frames: int) -> str:
        return _seconds(frames / events.rate)

    start, length, frame = time(events.start_frame), time(events.end_frame), time(1)
    name = escape_controls(events.media_name)
    root = ElementTree.Element("fcpxml", {"version": VERSION})
    resources = ElementTree.SubElement(root, "resources")
    ElementTree.SubElement(resources, "format", {"id": "r1", "frameDuration": frame})
    ElementTree.SubElement(resources, "asset", {
        "id": "r2", "name": name, "src": events.media_url, "start": start, "duration": length, "hasVideo": "1",
        "format": "r1",
    })  # fmt: skip
    project = ElementTree.SubElement(
        ElementTree.SubElement(ElementTree.SubElement(root, "library"), "event", {"name": "mien"}),
        "project",
        {"name": escape_controls(events.name)},
    )
    timecodes = "DF" if events.is_drop_frame else "NDF"
    sequence = ElementTree.SubElement(project, "sequence", {
        "format": "r1", "duration": length, "tcStart": start, "tcFormat": timecodes,
    })  # fmt: skip
    clip = ElementTree.SubElement(ElementTree.SubElement(sequence, "spine"), "asset-clip", {
        "ref": "r2", "name": name, "offset": start, "start": start, "duration": length, "format": "r1",
        "tcFormat": timecodes,
    })  # fmt: skip
    marks: list[tuple[int, ElementTree.Element]] = []
    for one in events.segments:
        first, end = events.frame_range(one)
        text = escape_controls(f"{events.people[one.track]}: {one.label}")
        values = {"start": time(events.start_frame + first), "duration": time(end - first), "value": text}
        marks.append((first, ElementTree.Element("keyword", values)))
    for peak in events.peaks:
        first = events.frame_at(peak.player_time_s)
        text = escape_controls(f"{events.people[peak.track]}: {events.describe_peak(peak)}")
        values = {"start": time(events.start_frame + first), "duration": frame, "value": text}
        marks.append((first, ElementTree.Element("marker", values)))
    clip.extend(mark for _, mark in sorted(marks, key=lambda pair: pair[0]))
    ElementTree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n'
    return {"fcpxml": f"{head}{ElementTree.tostring(root, 'unicode')}\n"}


def _seconds(value: Fraction) -> str:
    """Return a time as FCPXML has it: ``5s``, ``1001/30000s``."""
    return f"{value.numerator}s" if value.denominator == 1 else f"{value.numerator}/{value.denominator}s"
