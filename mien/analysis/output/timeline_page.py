"""The expressions of each person over time as a page: click to see the frame, choose who is shown, look closer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mien.analysis.output.palette import colours_of
from mien.analysis.people.timeline import Timeline
from mien.core.files import hidden_beside, write_text
from mien.core.locks import only_process
from mien.evaluation.reports.page import Section, page, plotly_script, table

#: Persons that are shown at once when the page opens, and those that it holds at all: those seen longest.
FIRST, MOST = 6, 300


def write_timeline_page(
    timeline: Timeline,
    people: Sequence[dict[str, Any]],
    path: Path,
    title: str,
    media: str | None = None,
    begins_s: float = 0.0,
    scripts_folder: Path | None = None,
) -> None:
    """One HTML file with everything inside it but the video.

    scripts_folder: where plotly lies, 5 MB, once for all pages; without one it is inside the page.

    people: the table of people as in ``summary.json``, who was seen longest first. media: the name of the annotated video
    in the page's own folder, whose time is the timeline's; without one a click shows the time alone. begins_s: where that
    begins, by the times of the table. Raises MissingExtra.
    """
    inline, linked = (plotly_script(), "") if scripts_folder is None else ("", _linked(scripts_folder, path.parent))
    data = json.dumps(_data(timeline, people, media), separators=(",", ":")).replace("</", "<\\/")
    sections = [Section("Over time", _part("timeline.html") + linked, _note(media))]
    if people:
        sections.append(Section("People", _table(timeline.labels, people, begins_s), _more(people)))
    count = f"{len(people):,} {'person' if len(people) == 1 else 'persons'}"
    lead = f"{_clock(timeline.end_s)} long, {count}. Stacked: each person's probabilities, smoothed along the track."
    scripts = [inline, f"const DATA = {data};", _part("timeline.js")]
    footer = "An expression is not an inner state: this is what faces show, not what people feel."
    write_text(path, page(title, lead, sections, footer=footer, scripts=scripts))


def _linked(folder: Path, page_folder: Path) -> str:
    """The element that loads plotly from ``folder``, where it is written if it is not there."""
    import plotly

    file = folder / f"plotly-{plotly.__version__}.min.js"
    if not file.exists():
        with only_process(hidden_beside(file, "lock"), file, "try again", wait_s=60):
            write_text(file, plotly_script())
    address = quote(Path(os.path.relpath(file, page_folder)).as_posix())
    lost = f"{file.name} is not where it was: put it back beside the pages."
    return f"<script src=\"{address}\" onerror=\"document.getElementById('plot').textContent = '{lost}'\"></script>"


def _note(media: str | None) -> str:
    seen = "to see the frame" if media else "to see who shows what then"
    return f"Nothing is drawn where a person is not seen; dotted lines are cuts. Click {seen}, drag to look closer, double-click to go back."


def _data(timeline: Timeline, people: Sequence[dict[str, Any]], media: str | None) -> dict[str, Any]:
    """What the script draws; of each person only the bins in which they are seen, in thousandths."""
    return {
        "labels": list(timeline.labels),
        "colours": colours_of(timeline.labels),
        "width": timeline.width_s,
        "end": max(timeline.end_s, timeline.width_s),
        "cuts": [round(where * timeline.width_s, 3) for where in sorted(timeline.cuts)],
        "media": media,
        "first": FIRST,
        "more": max(len(people) - MOST, 0),
        "persons": [
            {"number": person["person"], "seen": person["on_screen_s"], "mostly": _mostly(person),
             "runs": _runs(timeline.bins.get(person["track"], {}))}
            for person in people[:MOST]
        ],
    }  # fmt: skip


def _runs(bins: dict[int, np.ndarray]) -> list[tuple[int, list[int]]]:
    """Bins of a person → (first bin, the values of it and all that follow without a gap, K each, in thousandths)."""
    runs: list[tuple[int, list[int]]] = []
    before = -2
    for where in sorted(bins):
        if where != before + 1:
            runs.append((where, []))
        row = bins[where]
        runs[-1][1].extend(np.rint(1000 * row[:-1] / max(float(row[-1]), 1e-9)).astype(int).tolist())
        before = where
    return runs


def _mostly(person: dict[str, Any]) -> str:
    """``happy 62%``: what a person shows most of the time."""
    name, share = max(person["share"].items(), key=lambda item: item[1])
    return f"{name} {share:.0%}"


def _table(labels: Sequence[str], people: Sequence[dict[str, Any]], begins_s: float) -> str:
    columns = ["person", "on screen", "from", "changes", *labels]
    rows = [
        [f"{one['person']}", _clock(one["on_screen_s"]), _clock(one["first_s"] - begins_s), one["changes"],
         *(f"{one['share'][name]:.0%}" for name in labels)]
        for one in people[:MOST]
    ]  # fmt: skip
    return table(columns, rows)


def _more(people: Sequence[dict[str, Any]]) -> str:
    shares = "Share of the time on screen with each expression shown, who was seen longest first."
    return f"{shares} The {MOST} seen longest of {len(people):,}." if len(people) > MOST else shares


def _clock(seconds: float) -> str:
    """75.5 → ``1:15``, 3723 → ``1:02:03``."""
    whole = round(seconds)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes


def _part(name: str) -> str:
    return (resources.files("mien.analysis.output") / "templates" / name).read_text(encoding="utf-8")
