"""Events as a project of BORIS (Friard & Gamba, 2016, Methods in Ecology and Evolution 7): JSON, format 7.0."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

from mien.analysis.output.exports.events import ClipEvents, round_up_ms

FORMAT_VERSION = "7.0"


def format_events(events: ClipEvents, _: str = "boris") -> dict[str, str]:
    """Return a project with one observation: state events for segments, point events for peaks, a subject for each person.

    A state event is written twice, where it starts and where it stops, as BORIS does. Times are in seconds, of whole
    milliseconds, rounded up, so that the player shows the frame at which an event begins.
    """
    media = str(events.media)
    rows: list[tuple[int, int, list[Any]]] = []  # (time, what comes first at that time, event)
    for segment in events.segments:
        person = events.people[segment.track]
        for order, time_s in ((1, segment.start_s), (0, segment.end_s)):
            time = round_up_ms(time_s)
            rows.append((time, order, [time / 1000, person, segment.label, "", ""]))
    for peak in events.peaks:
        time = round_up_ms(peak.player_time_s)
        comment = f"smoothed probability {peak.probability:.2f}"
        rows.append((time, 2, [time / 1000, events.people[peak.track], f"{peak.label} peak", "", comment]))
    date = events.made.isoformat()
    observation = {
        "file": {"1": [media], **{str(player): [] for player in range(2, 9)}}, "type": "MEDIA", "date": date,
        "description": f"written by mien; model {events.model}, detector {events.detector}", "time offset": 0.0,
        "events": [row for *_, row in sorted(rows, key=lambda row: row[:2])], "observation time interval": [0, 0],
        "independent_variables": {}, "visualize_spectrogram": False, "visualize_waveform": False,
        "close_behaviors_between_videos": False,
        "media_info": {
            "length": {media: round(events.end_s, 3)}, "fps": {media: round(float(events.rate), 6)},
            "hasVideo": {media: True}, "hasAudio": {media: False}, "offset": {"1": 0.0},
        },
    }  # fmt: skip
    project = {
        "time_format": "hh:mm:ss", "project_date": date, "project_name": events.name, "project_description": "",
        "project_format_version": FORMAT_VERSION,
        "subjects_conf": {
            str(index): {"key": str(index + 1) if index < 9 else "", "name": name, "description": f"track {track}"}
            for index, (track, name) in enumerate(events.people.items())
        },
        "behaviors_conf": _define_behaviors(events), "observations": {Path(events.name).name: observation},
        "behavioral_categories": [], "independent_variables": {}, "coding_map": {}, "behaviors_coding_map": [],
        "converters": {},
    }  # fmt: skip
    return {"boris": json.dumps(project, indent=1, ensure_ascii=False) + "\n"}


def _define_behaviors(events: ClipEvents) -> dict[str, dict[str, Any]]:
    """Return the ethogram: of each expression a state event and a point event; a letter of the keyboard for each."""
    keys = iter(string.ascii_lowercase + string.ascii_uppercase)
    kinds = [
        (kind, f"{label}{ending}", text)
        for label in events.labels
        for kind, ending, text in (("State event", "", "is shown"), ("Point event", " peak", "is strongest"))
    ]
    return {
        str(index): {
            "type": kind, "key": next(keys, ""), "code": code, "description": f"{code.removesuffix(' peak')} {text}",
            "color": "", "category": "", "modifiers": {}, "excluded": "", "coding map": "",
        }
        for index, (kind, code, text) in enumerate(kinds)
    }  # fmt: skip
