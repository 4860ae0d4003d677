"""Events as a TextGrid of Praat (Boersma & Weenink), in its long text format."""

from __future__ import annotations

from collections.abc import Iterator

from mien.analysis.output.exports.events import ClipEvents
from mien.core.errors import escape_controls


def format_events(events: ClipEvents, _: str = "textgrid") -> dict[str, str]:
    """Return a TextGrid: for each person an interval tier of the expressions, and a point tier of the peaks."""
    tiers = [lines for track in events.people for lines in _iterate_tiers(events, track)]
    head = [
        'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {_number(events.end_s)} ",
        "tiers? <exists> ", f"size = {len(tiers)} ", "item []: ",
    ]  # fmt: skip
    for index, lines in enumerate(tiers, 1):
        head += [f"    item [{index}]:", *(f"        {line}" for line in lines)]
    return {"TextGrid": "\n".join(head) + "\n"}


def _iterate_tiers(events: ClipEvents, track: int) -> Iterator[list[str]]:
    """Yield the lines of a person's tiers; intervals without an expression are empty, as Praat wants the time covered."""
    intervals, last_s = [], 0.0
    for one in events.segments:
        if one.track == track:
            if one.start_s > last_s:
                intervals.append((last_s, one.start_s, ""))
            intervals.append((one.start_s, one.end_s, one.label))
            last_s = one.end_s
    if last_s < events.end_s:
        intervals.append((last_s, events.end_s, ""))
    name, end = events.people[track], f"xmax = {_number(events.end_s)} "
    lines = [
        'class = "IntervalTier" ',
        f"name = {_text(name)} ",
        "xmin = 0 ",
        end,
        f"intervals: size = {len(intervals)} ",
    ]
    for index, (start_s, end_s, label) in enumerate(intervals, 1):
        lines += [
            f"intervals [{index}]:", f"    xmin = {_number(start_s)} ", f"    xmax = {_number(end_s)} ",
            f"    text = {_text(label)} ",
        ]  # fmt: skip
    yield lines
    marks: dict[float, list[str]] = {}  # a point tier has one point at a time
    for peak in events.peaks:
        if peak.track == track:
            marks.setdefault(peak.player_time_s, []).append(events.describe_peak(peak))
    if not marks:
        return
    lines = [
        'class = "TextTier" ',
        f"name = {_text(f'{name} peaks')} ",
        "xmin = 0 ",
        end,
        f"points: size = {len(marks)} ",
    ]
    for index, (time_s, texts) in enumerate(sorted(marks.items()), 1):
        lines += [f"points [{index}]:", f"    number = {_number(time_s)} ", f"    mark = {_text(', '.join(texts))} "]
    yield lines


def _number(value: float) -> str:
    """Return a number as Praat reads it, without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    """Return a text in quotes; a quote in it is doubled."""
    return '"' + escape_controls(text).replace('"', '""') + '"'
