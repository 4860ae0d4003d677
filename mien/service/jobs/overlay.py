"""The records of a video as a player needs them: thinned, rounded, in the player's time."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.output.timeline_page import MAX_PERSONS
from mien.analysis.people.records import FRAME_S
from mien.analysis.people.timeline import Timeline
from mien.core.files import replace_file
from mien.service.jobs.jobs import STEM

#: Frames whose times are a little early still count as due: frame times are rounded to what the stream can say.
SLACK_S = 0.002


#: Of what an overlay holds: files that an earlier version made are not given out.
VERSION = 3

#: Two requests for the same file would write over each other.
_LOCK = threading.Lock()


def load_overlay(results: Path, fps: int) -> bytes:
    """The overlay as gzip'd JSON, made once and kept beside the results.

    Raises FileNotFoundError where the results are gone.
    """
    file = results / f"{STEM}.overlay-{VERSION}-{fps}.json.gz"
    with _LOCK:
        if not file.is_file():
            _write_overlay(file, fps)
    return file.read_bytes()


def _write_overlay(file: Path, fps: int) -> None:
    results = file.parent
    summary = json.loads((results / f"{STEM}.summary.json").read_text(encoding="utf-8"))
    facts = json.loads((results / "facts.json").read_text(encoding="utf-8"))
    with (results / f"{STEM}.records.jsonl").open(encoding="utf-8") as lines:
        document = make_overlay(map(json.loads, lines), summary, facts, fps)
    with replace_file(file) as part:
        part.write_bytes(gzip.compress(json.dumps(document, separators=(",", ":")).encode(), 6))


def make_overlay(
    records: Iterable[dict[str, Any]], summary: dict[str, Any], facts: dict[str, Any], fps: float
) -> dict[str, Any]:
    """Return times and faces, thinned to ``fps``.

    ``times`` are seconds from the beginning of the file, as captions and the annotated video have them; its own timestamps
    begin at ``start_s``, and some browsers count by those. ``faces[i]`` is what is seen from ``times[i]`` on,
    each ``[track, x1, y1, x2, y2, label index, [probabilities], not_a_face]``, smoothed where they are; ``not_a_face`` is the
    score that it is none, and above ``not_a_face_above`` it probably is none; a label with less probability than
    ``unsure_below`` is unsure, where that is known. ``people`` are those of the summary; ``not_faces``, of the same kind,
    are tracks that are probably no faces. Where nobody is seen, an
    empty list stands, so that no box outlives its face. ``timeline`` is the `Timeline` of the people, from all records.
    """
    labels = facts["labels"]
    times, faces = [], []
    timeline = Timeline(tuple(labels))
    frames = add_to_timeline(timeline, iterate_frames(records, summary["frames"], facts["start_s"]))
    for time_s, rows in thin_frames(frames, 1 / fps):
        times.append(round(time_s, 3))
        faces.append([_face_to_list(row, labels) for row in rows])
    return {
        "width": summary["width"], "height": summary["height"], "seconds": summary["seconds"] or facts["seconds"],
        "start_s": facts["start_s"],
        "labels": labels, "unsure_below": facts.get("unsure_below"),
        "not_a_face_above": facts.get("not_a_face_above"), "people": summary["people"],
        "not_faces": summary.get("not_faces", []), "times": times, "faces": faces,
        "timeline": timeline.to_json(person["track"] for person in summary["people"][:MAX_PERSONS]),
    }  # fmt: skip


def iterate_frames(
    records: Iterable[dict[str, Any]], frames: int, start_s: float
) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Yield (player's time, rows) of every frame with faces, and (time, []) at the end of one that no other follows.

    frames: of the video. start_s: what a player shows as 0, for records of schema 2, which have neither its time nor
    durations.
    """
    number, end_s = frames - 1, 0.0
    for frame, group in groupby(records, key=lambda row: row["frame"]):
        rows = list(group)
        time_s, duration_s = rows[0].get("player_time_s"), rows[0].get("duration_s")
        time_s = max(0.0, rows[0]["time_s"] - start_s) if time_s is None else time_s
        if number < frame - 1 and time_s > end_s + SLACK_S:
            yield end_s, []
        yield time_s, rows
        number, end_s = frame, time_s + (FRAME_S if duration_s is None else duration_s)
    if number < frames - 1:
        yield end_s, []


def add_to_timeline(
    timeline: Timeline, frames: Iterable[tuple[float, list[dict[str, Any]]]]
) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Yield all frames, and add the smoothed probabilities of their faces to a timeline."""
    for time_s, rows in frames:
        for row in rows:
            duration_s = row.get("duration_s")
            values = np.array(_get_probabilities(row, timeline.labels), np.float32)
            timeline.update(
                row["track"], values, time_s, FRAME_S if duration_s is None else duration_s, row.get("unsure")
            )
        yield time_s, rows


def thin_frames(
    frames: Iterable[tuple[float, list[dict[str, Any]]]], step_s: float
) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Yield frames at least ``step_s`` apart. Where faces appear or disappear, the frames on both sides are kept."""
    due, empty = float("-inf"), True
    for time_s, rows in frames:
        if time_s < due - SLACK_S and (not rows) == empty:
            continue
        yield time_s, rows
        late = time_s - due
        due, empty = (due if 0 <= late < step_s else time_s) + step_s, not rows


def _face_to_list(row: dict[str, Any], labels: list[str]) -> list[Any]:
    box = [round(row[name], 1) for name in ("x1", "y1", "x2", "y2")]
    values = [round(value, 3) for value in _get_probabilities(row, labels)]
    return [row["track"], *box, labels.index(row.get("s_label") or row["label"]), values, row.get("not_a_face")]


def _get_probabilities(row: dict[str, Any], labels: Sequence[str]) -> list[float]:
    """Return the smoothed probabilities (K,) of a record, or the model's own where they are not smoothed."""
    kind = "s_" if row.get("s_label") else "p_"
    return [row[f"{kind}{name}"] for name in labels]
