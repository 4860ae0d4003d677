"""Events as a table for statistics programs and spreadsheets."""

from __future__ import annotations

import io

from mien.analysis.output.exports.events import ClipEvents
from mien.core.csv_cells import CsvWriter

COLUMNS = (
    "kind", "person", "name", "label", "start_s", "end_s", "seconds", "start_frame", "end_frame", "start_timecode",
    "end_timecode", "probability", "sure",
)  # fmt: skip


def format_events(events: ClipEvents, _: str = "csv") -> dict[str, str]:
    """Return the table: a row for each segment, then one for each peak, which lasts no time; ``end_frame`` is the first after it."""
    file = io.StringIO()
    table = CsvWriter(file)
    table.writerow(COLUMNS)
    for one in events.segments:
        start, end = events.frame_range(one)
        table.writerow([
            "segment", one.track + 1, events.people[one.track], one.label, round(one.start_s, 6), round(one.end_s, 6),
            round(one.end_s - one.start_s, 6), start, end, events.timecode(start), events.timecode(end),
            round(one.probability, 6), "" if one.sure_share is None else round(one.sure_share, 4),
        ])  # fmt: skip
    for peak in events.peaks:
        frame, time_s = events.frame_at(peak.player_time_s), round(peak.player_time_s, 6)
        table.writerow([
            "peak", peak.track + 1, events.people[peak.track], peak.label, time_s, time_s, 0, frame, frame,
            events.timecode(frame), events.timecode(frame), round(peak.probability, 6),
            "" if peak.is_unsure is None else int(not peak.is_unsure),
        ])  # fmt: skip
    return {"csv": file.getvalue()}
