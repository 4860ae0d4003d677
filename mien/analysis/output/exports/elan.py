"""Events as an annotation document of ELAN (EAF 3.0, Max Planck Institute for Psycholinguistics)."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from mien.analysis.output.exports.events import ClipEvents, round_up_ms
from mien.core.errors import escape_controls

SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"

#: The constraints that every document lists.
CONSTRAINTS = {
    "Time_Subdivision": "Time subdivision of parent annotation's time interval, no time gaps allowed within this interval",
    "Symbolic_Subdivision": "Symbolic subdivision of a parent annotation. Annotations refering to the same parent are ordered",
    "Symbolic_Association": "1-1 association with a parent annotation",
    "Included_In": "Time alignable annotations within the parent annotation's time interval, gaps are allowed",
}

#: One annotation: start and end in milliseconds, and its text.
Annotation = tuple[int, int, str]


def format_events(events: ClipEvents, _: str = "eaf") -> dict[str, str]:
    """Return the document: a tier for each person and expression, and one for its peaks, which last one frame.

    Times are whole milliseconds, as the format has them, rounded up, so that ELAN shows the frame at which an event begins.
    """
    root = ElementTree.Element("ANNOTATION_DOCUMENT", {
        "AUTHOR": "mien", "DATE": events.made.astimezone().isoformat(), "FORMAT": "3.0", "VERSION": "3.0",
        "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance", "xsi:noNamespaceSchemaLocation": SCHEMA,
    })  # fmt: skip
    tiers = dict(_iterate_tiers(events))
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", _describe_media(events))
    count = sum(map(len, tiers.values()))
    ElementTree.SubElement(header, "PROPERTY", {"NAME": "lastUsedAnnotationId"}).text = str(count)
    slots = _add_time_slots(root, [time for rows in tiers.values() for row in rows for time in row[:2]])
    number = 0  # of annotations so far
    for (tier_name, participant), rows in tiers.items():
        tier = ElementTree.SubElement(root, "TIER", {
            "ANNOTATOR": escape_controls(f"mien, {events.model}"), "LINGUISTIC_TYPE_REF": "expression",
            "PARTICIPANT": escape_controls(participant), "TIER_ID": escape_controls(tier_name),
        })  # fmt: skip
        for *_times, text in rows:
            number += 1
            holder = ElementTree.SubElement(tier, "ANNOTATION")
            one = ElementTree.SubElement(holder, "ALIGNABLE_ANNOTATION", {
                "ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[2 * number - 2], "TIME_SLOT_REF2": slots[2 * number - 1],
            })  # fmt: skip
            ElementTree.SubElement(one, "ANNOTATION_VALUE").text = escape_controls(text)
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "expression", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    for name, words in CONSTRAINTS.items():
        ElementTree.SubElement(root, "CONSTRAINT", {"DESCRIPTION": words, "STEREOTYPE": name})
    ElementTree.indent(root)
    return {"eaf": f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'}


def _add_time_slots(root: ElementTree.Element, times: list[int]) -> list[str]:
    """Add the times, in order, and return the name of each in the order given.

    Each has a slot of its own: what shares one is moved together in ELAN.
    """
    order = sorted(range(len(times)), key=lambda index: (times[index], index))
    names = [""] * len(times)
    element = ElementTree.SubElement(root, "TIME_ORDER")
    for place, index in enumerate(order, 1):
        names[index] = f"ts{place}"
        ElementTree.SubElement(element, "TIME_SLOT", {"TIME_SLOT_ID": names[index], "TIME_VALUE": str(times[index])})
    return names


def _iterate_tiers(events: ClipEvents) -> Iterator[tuple[tuple[str, str], list[Annotation]]]:
    """Yield ((name of the tier, name of the person), annotations) of each tier that is not empty."""
    for track, person in events.people.items():
        for label in events.labels:
            rows = [
                (round_up_ms(one.start_s), round_up_ms(one.end_s), one.label)
                for one in events.segments
                if (one.track, one.label) == (track, label)
            ]
            marks = [
                (round_up_ms(one.player_time_s), round_up_ms(one.player_time_s + 1 / events.rate), events.describe_peak(one))
                for one in events.peaks
                if (one.track, one.label) == (track, label)
            ]  # fmt: skip
            yield from [((f"{person} {label}", person), rows)] if rows else []
            yield from [((f"{person} {label} peaks", person), marks)] if marks else []


def _describe_media(events: ClipEvents) -> dict[str, str]:
    kind = mimetypes.guess_type(events.media_name)[0] or "unknown"
    values = {"MEDIA_URL": events.media_url, "MIME_TYPE": kind}
    if isinstance(events.media, Path):
        try:
            relative = Path(os.path.relpath(events.media, events.folder.absolute())).as_posix()
        except ValueError:  # another drive of Windows
            return values
        values["RELATIVE_MEDIA_URL"] = escape_controls(relative if relative.startswith("../") else f"./{relative}")
    return values
