"""The expressions of each person over time as a page: click to see the frame, choose who is shown, look closer."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mien.analysis.output.palette import colors_for_labels
from mien.analysis.people.people import PeopleAccumulator, Person
from mien.analysis.people.timeline import axis_range_s
from mien.core.clock import format_clock
from mien.core.files import hidden_sibling, write_text
from mien.core.locks import hold_lock
from mien.evaluation.reports.page import Section, read_plotly_script, render_page, render_table

TEMPLATES = Path(__file__).resolve().parent / "templates"

#: The module that draws the chart, here and on the page of the service.
CHART_SCRIPT = TEMPLATES / "timeline_chart.js"

#: Persons that are shown at once when the page opens, and those that it holds at all: those seen longest.
FIRST_PERSONS, MAX_PERSONS = 6, 300


def write_timeline_page(
    people: PeopleAccumulator,
    path: Path,
    title: str,
    media: str | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
    scripts_folder: Path | None = None,
) -> None:
    """One HTML file with everything inside it but the video.

    media: the name of the annotated video in the page's own folder; without one a click shows the time alone. start_s,
    end_s: what the page shows, as a player shows the times of the whole video; the annotated one begins at ``start_s``.
    Without them from 0, or from the first face of a part, to the last. scripts_folder: where plotly lies, 5 MB,
    once for all pages; without one it is inside the page. Raises MissingExtra.
    """
    inline, linked = (
        (read_plotly_script(), "") if scripts_folder is None else ("", _link_script(scripts_folder, path.parent))
    )
    from_s, to_s = axis_range_s(people.timeline)
    axis_s = from_s if start_s is None else start_s, to_s if end_s is None else end_s
    data = json.dumps(_make_page_data(people, axis_s, media), separators=(",", ":")).replace("</", "<\\/")
    sections = [Section("Over time", _read_template("timeline.html") + linked, _describe_chart(media))]
    persons = people.people
    if persons:
        sections.append(Section("People", _make_table(people.labels, persons), _describe_table(persons)))
    count = f"{len(persons):,} {'person' if len(persons) == 1 else 'persons'}"
    lead = f"{format_clock(axis_s[1] - axis_s[0])} long, {count}. Stacked: each person's probabilities, smoothed along the track."
    scripts = [inline, f"const DATA = {data};", _read_scripts()]
    footer = "An expression is not an inner state: this is what faces show, not what people feel."
    write_text(path, render_page(title, lead, sections, footer=footer, scripts=scripts))


def _link_script(folder: Path, page_folder: Path) -> str:
    """The element that loads plotly from ``folder``, where it is written if it is not there."""
    import plotly

    file = folder / f"plotly-{plotly.__version__}.min.js"
    if not file.exists():
        with hold_lock(hidden_sibling(file, "lock"), file, "try again", wait_s=60):
            write_text(file, read_plotly_script())
    address = quote(Path(os.path.relpath(file, page_folder)).as_posix())
    lost = f"{file.name} is not where it was: put it back beside the pages."
    return f"<script src=\"{address}\" onerror=\"document.getElementById('plot').textContent = '{lost}'\"></script>"


def _describe_chart(media: str | None) -> str:
    seen = "to see the frame" if media else "to see who shows what then"
    return f"Nothing is drawn where a person is not seen; pale is what is mostly unsure; dotted lines are cuts. Click {seen}, drag to look closer, double-click to go back."


def _make_page_data(people: PeopleAccumulator, axis_s: tuple[float, float], media: str | None) -> dict[str, Any]:
    """Return what the script shows: the timeline of the persons seen longest, and a few words about each."""
    timeline, persons = people.timeline, people.people
    start_s, end_s = axis_s
    shown = persons[:MAX_PERSONS]
    chart = timeline.to_json(person.track for person in shown)
    for entry, person in zip(chart["persons"], shown, strict=True):
        entry |= {"seen_s": round(person.seen_s, 3), "mostly": _describe_main_label(person)}
        if person.given_name:
            entry["name"] = person.given_name
    return {
        "timeline": chart,
        "colors": colors_for_labels(timeline.labels),
        "range_s": [start_s, max(end_s, start_s + timeline.width_s)],
        "media": media,
        "first": FIRST_PERSONS,
        "more": len(persons) - len(shown),
    }


def _describe_main_label(person: Person) -> str:
    """``happy 62%``: what a person shows most of the time."""
    index = int(person.share.argmax())
    return f"{'mostly unsure, ' if person.is_mostly_unsure else ''}{person.labels[index]} {person.share[index]:.0%}"


def _make_table(labels: Sequence[str], persons: Sequence[Person]) -> str:
    columns = ["person", "on screen", "from", "changes", "sure", *labels]
    rows = [
        [one.given_name or f"{one.track + 1}", format_clock(one.seen_s), format_clock(one.first_s), int(one.transitions.sum()),
         "" if one.sure.value is None else f"{one.sure.value:.0%}", *(f"{share:.0%}" for share in one.share)]
        for one in persons[:MAX_PERSONS]
    ]  # fmt: skip
    return render_table(columns, rows)


def _describe_table(people: Sequence[Person]) -> str:
    shares = (
        "Share of the time on screen with each expression shown, and of that in which the model was sure; who was seen "
        "longest first."
    )
    return f"{shares} The {MAX_PERSONS} seen longest of {len(people):,}." if len(people) > MAX_PERSONS else shares


def _read_scripts() -> str:
    """Return the chart and the script of the page as one script: modules cannot import from files beside a page."""
    modules = [CHART_SCRIPT.read_text(encoding="utf-8"), _read_template("timeline.js")]
    return "(() => {\n" + re.sub(r"(?m)^(import .*\n|export )", "", "\n".join(modules)) + "})();"


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
