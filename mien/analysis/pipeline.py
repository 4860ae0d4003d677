"""One input → all its outputs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from mien.analysis.media.inputs import Input
from mien.analysis.media.video_reader import PictureInsteadOfVideo
from mien.analysis.output.annotate import annotate
from mien.analysis.output.writers import (
    ANNOTATED_SUFFIXES,
    RECORD_FORMATS,
    RecordWriter,
    annotated_suffix,
    make_records,
    record_path,
    record_writer,
    write_picture,
)
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisResult
from mien.core.errors import MediaError, OutputError
from mien.core.files import hidden_sibling
from mien.core.locks import hold_lock
from mien.core.pictures import count_pages
from mien.core.types import FrameResult


def analyze_input(
    item: Input,
    recognizer: Recognizer,
    context: AnalysisContext,
    table: RecordWriter | None = None,
    begin: Callable[[Input], None] | None = None,
) -> AnalysisResult:
    """Analyze one file, or a stream, and write its outputs; ``table`` gets the same records, for one over many inputs.

    ``begin`` is called as soon as no other process can write these outputs; what it raises ends the analysis.

    Raises MediaError where nothing could be read; a damaged video keeps what was read, with a warning. A video that was
    begun before, by a call with the same settings that came to a sudden end, goes on from there.
    """
    from mien.analysis.video import analyze_video

    stem, formats = context.out / item.stem, context.options.formats
    with ExitStack() as stack:
        hint = "wait for it, or choose another folder with `out`"
        stack.enter_context(hold_lock(hidden_sibling(stem, "lock"), f"{stem}.*", hint))
        if begin is not None:
            begin(item)
        tables = [stack.enter_context(record_writer(stem, formats, recognizer.labels))]
        tables += [table] if table is not None else []
        try:
            analyze = analyze_video if item.is_video else _analyze_picture
            result = analyze(item, recognizer, context, stem, tables)
        except PictureInsteadOfVideo as found:  # what an address leads to is known when it is opened
            result = _analyze_picture(item, recognizer, context, stem, tables, found.content)
    result.outputs += [record_path(stem, name) for name in formats]
    return result


def discard_unfinished(stem: Path, keep_parts: bool = False) -> None:
    """Remove what an analysis that crashed has left half done of the outputs with this stem, and its lock.

    keep_parts: those of a video stay, so that it goes on from there.
    """
    with suppress(OutputError), hold_lock(hidden_sibling(stem, "lock"), f"{stem}.*", "wait for it"):
        if not keep_parts:
            shutil.rmtree(hidden_sibling(stem, "parts"), ignore_errors=True)
        endings = [f"records.{name}" for name in RECORD_FORMATS]
        endings += [f"annotated{suffix}" for suffix in (".mp4", *ANNOTATED_SUFFIXES)]
        for ending in (*endings, "summary.json", "timeline.png", "timeline.html"):
            path = stem.with_name(f"{stem.name}.{ending}")
            hidden_sibling(path, f"part{path.suffix}").unlink(missing_ok=True)


def _analyze_picture(
    item: Input,
    recognizer: Recognizer,
    context: AnalysisContext,
    stem: Path,
    tables: list[RecordWriter],
    content: bytes | None = None,
) -> AnalysisResult:
    """content: the file's bytes, where the input is an address."""
    before = item.file_status()
    picture = recognizer.read_picture(item.path) if content is None else recognizer.read_bytes(content, item.name)
    if grown := item.check_unchanged(before):
        raise MediaError(item.name, *grown.split("; "))
    faces = recognizer.analyze_frames([picture], thorough=True)[0]
    result = AnalysisResult(item.name, faces=tuple(faces))
    result.add_frame(faces)
    if item.file is not None and (pages := count_pages(item.file)) > 1:
        result.warnings.append(f"holds {pages:,} pages; only the first was read")
    frame = FrameResult(result.source, 0, 0.0, (picture.shape[1], picture.shape[0]), result.faces)
    for table in tables:
        table.write(make_records(frame, recognizer.model_name, recognizer.detector_name))
    if context.options.has_media:
        picture = annotate(picture, faces, context.options.style, in_place=True)
        annotated = stem.with_name(
            f"{stem.name}.annotated{annotated_suffix(Path(item.path) if content is None else stem)}"
        )
        write_picture(picture, annotated)
        result.outputs.append(annotated)
    return result
