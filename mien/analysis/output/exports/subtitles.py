"""Segments as subtitles, SubRip or WebVTT: who shows which expression, a new cue whenever one changes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mien.analysis.output.captions import escape_cue_text
from mien.analysis.output.exports.events import ClipEvents, round_down_ms
from mien.analysis.people.people import Segment
from mien.analysis.people.timeline import MOSTLY_SHARE
from mien.core.clock import format_timestamp


def format_events(events: ClipEvents, name: str) -> dict[str, str]:
    """Return the subtitles, ``srt`` or ``vtt``. Peaks are not in them: they last no time."""
    escape = escape_cue_text if name == "vtt" else _escape_srt_text
    cues = [(start, end, "\n".join(map(escape, lines))) for start, end, lines in _iterate_cues(events)]
    if name == "vtt":
        blocks = [
            "WEBVTT",
            *(f"{format_timestamp(start)} --> {format_timestamp(end)}\n{text}" for start, end, text in cues),
        ]
    else:
        timed = enumerate(cues, 1)
        blocks = [
            f"{index}\n{format_timestamp(start, ',')} --> {format_timestamp(end, ',')}\n{text}"
            for index, (start, end, text) in timed
        ]
    return {name: "\n\n".join(blocks) + "\n"}


def _iterate_cues(events: ClipEvents) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (start, end, lines), in milliseconds; between two changes all people are in one cue, so that cues do not overlap."""
    changes: dict[int, list[tuple[bool, Segment]]] = {}
    for segment in events.segments:
        start, end = round_down_ms(segment.start_s), round_down_ms(segment.end_s)
        if start < end:
            changes.setdefault(start, []).append((True, segment))
            changes.setdefault(end, []).append((False, segment))
    shown: dict[int, Segment] = {}
    times = sorted(changes)
    for time, until in pairwise(times):
        for begins, segment in sorted(changes[time], key=lambda one: one[0]):
            if begins:
                shown[segment.track] = segment
            elif shown.get(segment.track) is segment:
                del shown[segment.track]
        if shown:
            yield time, until, [_line(events, shown[track]) for track in sorted(shown)]


def _line(events: ClipEvents, segment: Segment) -> str:
    is_unsure = segment.sure_share is not None and segment.sure_share < MOSTLY_SHARE
    return f"{events.people[segment.track]}: {segment.label}{'?' if is_unsure else ''}"


def _escape_srt_text(text: str) -> str:
    """Return text that a cue of SubRip may hold: one line, no ``-->``. The format has no escapes."""
    return " ".join(text.split()).replace("-->", "->")
