"""The files of an analysis that is in memory: the same that an analysis with outputs writes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien.analysis.media.inputs import Input, assign_stems
from mien.analysis.media.source import open_video
from mien.analysis.media.yuv import FrameFormat
from mien.analysis.output.annotate import annotate_frame
from mien.analysis.output.style import Style
from mien.analysis.output.writers import parse_formats, record_path, record_writer
from mien.analysis.ownership import Ownership
from mien.analysis.settings import AnalysisOptions
from mien.analysis.video import refuse_foreign_subtitles
from mien.analysis.video_outputs import make_captions, output_path, write_records, write_summary, write_timelines
from mien.core.errors import MediaError
from mien.core.files import hidden_sibling, make_folder, replace_file
from mien.core.locks import hold_lock
from mien.core.types import FrameResult

if TYPE_CHECKING:
    from mien.analysis.api.analysis import Analysis

#: Records that are made at once.
BATCH = 1_000


@contextmanager
def claim_outputs(folder: Path, item: Input, key: Mapping[str, Any]) -> Iterator[tuple[Input, Ownership]]:
    """Yield the input with a stem that no other input has in the folder, and the record of who owns its outputs.

    key: what the results depend on beside the input, as JSON.
    """
    ownership = Ownership(make_folder(folder), dict(key))
    (named,) = assign_stems([item], is_free=ownership.is_free)
    assert isinstance(named, Input)  # only inputs were given
    try:
        yield named, ownership
    finally:
        ownership.remove_unused()


def save_analysis(analysis: Analysis, folder: Path, options: AnalysisOptions) -> list[Path]:
    """Write the files of an analysis into a folder; return their paths."""
    parse_formats(options.formats)
    with claim_outputs(folder, analysis.item, analysis.key) as (item, ownership), ExitStack() as stack:
        stem = folder / item.stem
        hint = "wait for it, or choose another folder"
        stack.enter_context(hold_lock(hidden_sibling(stem, "lock"), f"{stem}.*", hint))
        refuse_foreign_subtitles(stem, options)
        ownership.claim_stem(item)
        outputs = _write_outputs(analysis, item, stem, options)
        ownership.record_outputs(item, outputs)
        return outputs


def _write_outputs(analysis: Analysis, item: Input, stem: Path, options: AnalysisOptions) -> list[Path]:
    facts, people = analysis.facts, analysis.accumulator
    has_media = options.has_media and analysis.can_read_video and item.file is not None
    captions, annotated = output_path(stem, "vtt"), output_path(stem, "annotated.mp4")
    has_captions = "captions" in options.outputs and facts is not None
    records = analysis.records
    rows = (records.rows(start, start + BATCH) for start in range(0, len(records), BATCH))
    outputs: list[Path] = []
    with ExitStack() as stack:
        table = stack.enter_context(record_writer(stem, options.formats, analysis.labels))
        cues = stack.enter_context(replace_file(captions)) if has_captions else None
        offset_s = facts.sampling.from_s if has_media and facts is not None else 0.0
        write_records(rows, [table], make_captions(people, offset_s), cues)
        if has_media:
            _write_annotated(analysis, item, annotated, options.style)
            outputs.append(annotated)
        if facts is not None:
            outputs.append(write_summary(facts, people, stem))
    outputs += [captions] if has_captions else []
    if facts is not None:
        media = item.output_name(annotated) if has_media else None
        outputs += write_timelines(facts, people, stem, options.outputs, media, stem.parent)
    return outputs + [record_path(stem, name) for name in options.formats]


def _write_annotated(analysis: Analysis, item: Input, path: Path, style: Style) -> None:
    """Decode the video once more and write it with the faces of the records drawn on it, and with its sound."""
    from mien.analysis.media.video_writer import PartWriter, join_parts

    part, analyzed = hidden_sibling(path, "nut"), _by_frame(analysis)
    with (
        open_video(Path(item.path), analysis.options.sampling, analysis.max_frame_pixels) as source,
        ExitStack() as stack,
    ):
        stack.callback(part.unlink, missing_ok=True)
        if analysis.facts is not None and source.size_bytes != analysis.facts.size_bytes:
            raise MediaError(item.name, "was changed since it was analyzed", "analyze it again, or leave out `media`")
        with ExitStack() as writing:
            writer, end_pts = None, 0
            for frame in source.frames():
                if writer is None:
                    frame_format = FrameFormat.from_image(annotate_frame(frame.image, [], style))
                    writer = writing.enter_context(closing(PartWriter(part, source, frame_format)))
                result = analyzed.get(frame.index)
                writer.write(frame.pts, annotate_frame(frame.image, () if result is None else result.faces, style))
                end_pts = frame.pts + frame.duration
        join_parts([part], path, source, end_pts)


def _by_frame(results: Iterable[FrameResult]) -> dict[int, FrameResult]:
    return {result.frame: result for result in results}
