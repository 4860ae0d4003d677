"""The outputs of a video whose parts are complete: records, annotated video, summary, captions, timeline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.media.inputs import Input
from mien.analysis.output.captions import Captions
from mien.analysis.output.timeline_page import write_timeline_page
from mien.analysis.output.writers import RECORD_SCHEMA, RecordWriter
from mien.analysis.people.people import observation_from_record
from mien.analysis.people.timeline import draw_timeline
from mien.analysis.settings import AnalysisResult
from mien.core.errors import MissingExtra
from mien.core.files import write_json

if TYPE_CHECKING:
    from mien.analysis.video import VideoAnalysis


def write_outputs(analysis: VideoAnalysis, item: Input, stem: Path, tables: list[RecordWriter]) -> AnalysisResult:
    """Write the parts as complete files, and what is computed of all of them; return the result."""
    source, state, parts, context = analysis.source, analysis.state, analysis.parts, analysis.context
    options, result = context.options, state.result
    annotated, summary, captions, drawing = (
        stem.with_name(f"{stem.name}.{what}") for what in ("annotated.mp4", "summary.json", "vtt", "timeline.png")
    )
    cues = parts.folder / "captions.vtt"  # under its name once the summary is there: without one, captions are not ours
    _write_records(analysis, tables, cues if "captions" in options.outputs else None)
    if source.damage:
        result.warnings.append(f"{source.damage}; what was read is kept")
    if options.has_media:
        from mien.analysis.media.video_writer import join_parts

        lost = join_parts(parts.paths("nut"), annotated, source, state.end_pts, analysis.report_progress)
        if lost:
            result.warnings.append(f"{lost}; the annotated video has none or only a part of it")
    result.totals = state.people.to_json()
    write_json(summary, _summarize_video(analysis))
    result.outputs += [annotated, summary] if options.has_media else [summary]
    if "captions" in options.outputs:
        cues.replace(captions)
        result.outputs.append(captions)
    title, start_s = Path(item.name).name, source.sampling.from_s
    end_s = float(state.end_pts * source.time_base) - source.start_s
    if "timeline" in options.outputs:
        draw_timeline(state.people.timeline, state.people.names, drawing, title, start_s, end_s)
        result.outputs.append(drawing)
    if "page" in options.outputs:
        page = stem.with_name(f"{stem.name}.timeline.html")
        with suppress(MissingExtra):  # an extra: the picture says the same
            media = item.output_name(annotated) if options.has_media else None
            scripts_folder = None if context.inline_scripts else context.out
            write_timeline_page(state.people, page, title, media, start_s, end_s, scripts_folder)
            result.outputs.append(page)
    parts.remove()
    return result


def _write_records(analysis: VideoAnalysis, tables: list[RecordWriter], captions: Path | None) -> None:
    """Write the records of all parts into the tables, and captions where a path is given."""
    with ExitStack() as stack:
        cues, file = _make_captions(analysis), None
        if captions is not None:
            file = stack.enter_context(captions.open("w", encoding="utf-8", newline="\n"))
            file.write("WEBVTT\n")
        for rows in _iterate_rows(analysis.parts.paths("jsonl")):
            for table in tables:
                table.write(rows)
            if file is not None:
                for row in rows:
                    file.writelines(cues.update(observation_from_record(row, cues.labels)))
            analysis.report_progress()
        if file is not None:
            file.writelines(cues.finish())


def _iterate_rows(paths: Iterable[Path], at_once: int = 1_000) -> Iterator[list[dict[str, Any]]]:
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            while rows := [json.loads(line) for line in islice(lines, at_once)]:
                yield rows


def _make_captions(analysis: VideoAnalysis) -> Captions:
    """Return captions for the annotated video, which begins with the part that was analyzed, else for the video itself."""
    people, offset_s = (
        analysis.state.people,
        analysis.source.sampling.from_s if analysis.context.options.has_media else 0.0,
    )
    return Captions(people.labels, offset_s, frozenset(person.track for person in people.not_faces))


def _summarize_video(analysis: VideoAnalysis) -> dict[str, object]:
    """Return the summary of the video.

    seconds    how long what was analyzed lasts
    start_s    what a player shows as 0:00, by the file's own times; all other times here are as a player shows them
    part       which frames were analyzed, counted from that beginning
    bytes      of the file; None of a camera or a stream
    joined     whether the times here are not the file's own: it is recordings joined end to end, whose times jump back, or it
               does not say when its frames are shown
    """
    state, source, recognizer = analysis.state, analysis.source, analysis.recognizer
    result, part = state.result, source.sampling
    return {
        "schema": RECORD_SCHEMA, "source": result.source, "model": recognizer.model_name,
        "precision": recognizer.classifier.precision, "detector": recognizer.detector_name,
        "width": state.size_wh[0], "height": state.size_wh[1], "frames": result.frames,
        "seconds": round(float(state.end_pts * source.time_base) - source.analysis_start_s, 6), "start_s": source.start_s,
        "part": {"from_s": part.from_s, "to_s": part.to_s, "every_s": part.every_s},
        "bytes": source.size_bytes, "joined": source.has_rebuilt_times,
        "faces": result.faces_seen, "labels": state.people.raw_labels, **result.totals,
        "complete": not result.warnings, "warnings": result.warnings,
    }  # fmt: skip
