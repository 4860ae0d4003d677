"""The outputs of a video whose parts are complete: records, annotated video, summary, captions, timeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.media.inputs import Input
from mien.analysis.output.captions import Captions
from mien.analysis.output.timeline_page import write_timeline_page
from mien.analysis.output.writers import RecordWriter
from mien.analysis.people.people import PeopleAccumulator, observation_from_record
from mien.analysis.people.timeline import draw_timeline
from mien.analysis.settings import AnalysisResult
from mien.analysis.video_facts import VideoFacts
from mien.core.errors import MissingExtra
from mien.core.files import write_json

if TYPE_CHECKING:
    from mien.analysis.video import VideoAnalysis


def write_outputs(analysis: VideoAnalysis, item: Input, stem: Path, tables: list[RecordWriter]) -> AnalysisResult:
    """Write the parts as complete files, and what is computed of all of them; return the result."""
    source, state, parts, context = analysis.source, analysis.state, analysis.parts, analysis.context
    options, result = context.options, state.result
    annotated, captions = (output_path(stem, ending) for ending in ("annotated.mp4", "vtt"))
    cues = parts.folder / "captions.vtt"  # under its name once the summary is there: without one, captions are not ours
    write_records(
        _iterate_rows(parts.paths("jsonl")),
        tables,
        make_captions(state.people, source.sampling.from_s if options.has_media else 0.0),
        cues if "captions" in options.outputs else None,
        analysis.report_progress,
    )
    if source.damage:
        result.warnings.append(f"{source.damage}; what was read is kept")
    if options.has_media:
        from mien.analysis.media.video_writer import join_parts

        lost = join_parts(parts.paths("nut"), annotated, source, state.end_pts, analysis.report_progress)
        if lost:
            result.warnings.append(f"{lost}; the annotated video has none or only a part of it")
        result.outputs.append(annotated)
    result.totals = state.people.to_json()
    facts = VideoFacts.from_pipeline(analysis.pipeline, source.sampling)
    result.accumulator, result.facts = state.people, facts
    result.outputs.append(write_summary(facts, state.people, stem))
    if "captions" in options.outputs:
        cues.replace(captions)
        result.outputs.append(captions)
    media = item.output_name(annotated) if options.has_media else None
    scripts_folder = None if context.inline_scripts else context.out
    result.outputs += write_timelines(facts, state.people, stem, options.outputs, media, scripts_folder)
    parts.remove()
    return result


def output_path(stem: Path, ending: str) -> Path:
    """``out/clip`` and ``vtt`` → ``out/clip.vtt``."""
    return stem.with_name(f"{stem.name}.{ending}")


def write_summary(facts: VideoFacts, people: PeopleAccumulator, stem: Path) -> Path:
    """Write the summary of a video; return its path."""
    path = output_path(stem, "summary.json")
    write_json(path, facts.summarize(people))
    return path


def write_timelines(
    facts: VideoFacts,
    people: PeopleAccumulator,
    stem: Path,
    outputs: Iterable[str],
    media: str | None,
    scripts_folder: Path | None,
) -> list[Path]:
    """Write the timeline as a picture and as a page, where ``outputs`` asks for them; return their paths.

    media            name of the annotated video beside the page; None without one
    scripts_folder   where the page's scripts lie, once for all pages; None: in the page
    """
    written = []
    title, (start_s, end_s) = Path(facts.source).name, facts.shown_range_s
    if "timeline" in outputs:
        written.append(output_path(stem, "timeline.png"))
        draw_timeline(people.timeline, people.names, written[-1], title, start_s, end_s)
    if "page" in outputs:
        page = output_path(stem, "timeline.html")
        with suppress(MissingExtra):  # an extra: the picture says the same
            write_timeline_page(people, page, title, media, start_s, end_s, scripts_folder)
            written.append(page)
    return written


def write_records(
    batches: Iterable[list[dict[str, Any]]],
    tables: list[RecordWriter],
    cues: Captions,
    captions: Path | None,
    on_batch: Callable[[], None] = lambda: None,
) -> None:
    """Write records, in lists, into the tables, and captions where a path is given."""
    with ExitStack() as stack:
        file = None
        if captions is not None:
            file = stack.enter_context(captions.open("w", encoding="utf-8", newline="\n"))
            file.write("WEBVTT\n")
        for rows in batches:
            for table in tables:
                table.write(rows)
            if file is not None:
                for row in rows:
                    file.writelines(cues.update(observation_from_record(row, cues.labels)))
            on_batch()
        if file is not None:
            file.writelines(cues.finish())


def _iterate_rows(paths: Iterable[Path], at_once: int = 1_000) -> Iterator[list[dict[str, Any]]]:
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            while rows := [json.loads(line) for line in islice(lines, at_once)]:
                yield rows


def make_captions(people: PeopleAccumulator, offset_s: float) -> Captions:
    """Return captions without what is probably no face.

    offset_s: the player's time at which the video begins that the captions are shown with.
    """
    hidden = frozenset(person.track for person in people.not_faces)
    return Captions(people.labels, offset_s, hidden, people.given_names)
