"""A video → its records, its annotated copy and its summary. Decoding, analysis and encoding run in parallel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.frame_pipeline import FrameBatch, FramePipeline, VideoState, initial_state
from mien.analysis.media.inputs import Input
from mien.analysis.media.source import OpenedVideo, Source, open_video
from mien.analysis.media.video_reader import VideoFrame
from mien.analysis.media.yuv import FrameFormat, YuvImage
from mien.analysis.output.annotate import annotate_frame
from mien.analysis.output.writers import RECORD_SCHEMA, RecordWriter
from mien.analysis.prefetch import BackgroundWriter, limit_opencv_threads
from mien.analysis.recognizer import Recognizer
from mien.analysis.resume import PartStore
from mien.analysis.settings import AnalysisContext, AnalysisOptions, AnalysisResult
from mien.analysis.video_outputs import write_outputs
from mien.core.errors import MediaError, OutputError
from mien.core.memory import is_out_of_memory, release_freed_memory
from mien.core.progress import ProgressBar, echo, progress_bar
from mien.core.types import Face


def analyze_video(
    item: Input, recognizer: Recognizer, context: AnalysisContext, stem: Path, tables: list[RecordWriter]
) -> AnalysisResult:
    """Analyze one video and write its outputs. It is done part by part: after a sudden end, the same call goes on."""
    refuse_foreign_subtitles(stem, context.options)
    before = item.file_status()
    with (
        limit_opencv_threads(),
        open_video(item.path, context.options.sampling, recognizer.max_frame_pixels) as source,
    ):
        parts = PartStore(stem, _parts_key(item, recognizer, context))
        if parts.damage and not context.quiet:
            echo(
                f"note: {item.name} is analyzed from its beginning: what was kept of it is damaged ({parts.damage})",
                error=True,
            )
        recognizer = recognizer.for_streaming()
        try:
            analysis = VideoAnalysis(
                source, recognizer, context, parts, initial_state(item.name, recognizer, context.options)
            )
            analysis.run(item)
            if not analysis.state.result.frames:
                raise no_frame_error(item.name, source)
            if grown := item.check_unchanged(before):
                analysis.state.result.warnings.append(grown)
            result = write_outputs(analysis, item, stem, tables)
            _refuse_replaced_source(item, before, result)
            return result
        except BaseException as error:
            # Of the machine, not of the video: with more room the same command goes on from the parts.
            of_machine = isinstance(error, OutputError | OSError) or is_out_of_memory(error)
            if item.is_stream or (isinstance(error, Exception) and not of_machine):  # a stream never goes on
                parts.remove()
            raise
        # Anything else (Ctrl-C, the end of the process) leaves the parts where they are.


def _refuse_replaced_source(item: Input, before: os.stat_result | None, result: AnalysisResult) -> None:
    """MediaError where the file was replaced while its sound was copied; the outputs are gone then."""
    try:
        item.check_unchanged(before)
    except MediaError:
        for path in result.outputs:
            path.unlink(missing_ok=True)
        raise


def refuse_foreign_subtitles(stem: Path, options: AnalysisOptions) -> None:
    """OutputError where captions would replace subtitles that are not ours: those lie beside a summary."""
    captions = stem.with_name(f"{stem.name}.vtt")
    if "captions" in options.outputs and captions.exists() and not stem.with_name(f"{stem.name}.summary.json").exists():
        raise OutputError(
            captions,
            "is there already without a summary beside it: subtitles of yours?",
            "choose another folder with `out`",
        )


def no_frame_error(name: str, source: Source) -> MediaError:
    """Return the error of a video without a frame in the part that was asked for."""
    sampling, length = source.sampling, "" if source.duration_s is None else f"; it is {source.duration_s:.2f} s long"
    until = "its end" if sampling.to_s is None else f"{sampling.to_s:g} s"
    return MediaError(name, f"has no frame from {sampling.from_s:g} s to {until}{length}", "choose other times")


def _parts_key(item: Input, recognizer: Recognizer, context: AnalysisContext) -> dict[str, Any]:
    """Return what the parts of a video depend on; a stream is never the same twice."""
    if item.file is None:
        import uuid

        return {"stream": uuid.uuid4().hex}
    status = item.file.stat()
    encoder: dict[str, str] = {}
    if context.options.has_media:
        from mien.analysis.media.video_writer import encoder_options

        encoder = encoder_options()
    return {
        "source": item.name, "bytes": status.st_size, "changed": status.st_mtime_ns, "schema": RECORD_SCHEMA,
        "recognizer": recognizer.fingerprint(), "encoder": encoder, "part_frames": context.part_frames,
        "options": _part_choices(context.options),
    }  # fmt: skip


def _part_choices(options: AnalysisOptions) -> dict[str, Any]:
    """Return the options that parts depend on: those of what is written once they are whole may change."""
    choices = options.output_choices()
    return {name: choices[name] for name in ("style", "smoothing_s", "sampling")} | {"media": options.has_media}


class VideoAnalysis:
    """One video on its way through the recognizer into the files of its parts."""

    def __init__(
        self, source: OpenedVideo, recognizer: Recognizer, context: AnalysisContext, parts: PartStore, state: VideoState
    ) -> None:
        self.source, self.recognizer, self.context, self.parts = source, recognizer, context, parts
        self.pipeline = FramePipeline(source, recognizer, state)

    @property
    def state(self) -> VideoState:
        """Where the analysis stands."""
        return self.pipeline.state

    def run(self, item: Input) -> None:
        source, earlier = self.source, self.parts.stored_state()
        if earlier is not None:
            earlier.finder.detector = self.recognizer.detector
            self.pipeline.state = earlier
        done_s = max(0.0, self.state.last_s - source.analysis_start_s) if earlier is not None else 0.0
        with (
            self.pipeline.open_batches(self.report_progress) as batches,
            progress_bar(Path(item.name).name, source.analyzed_s, done_s, quiet=self.context.quiet) as bar,
        ):
            for batch in batches:
                self._analyze_part(batch, batches, bar)
                if self._should_stop():
                    break
        release_freed_memory()  # of the threads that have ended; what comes now would else come on top of it

    def report_progress(self) -> None:
        """Report the progress to the context; also where nothing was added since the last report."""
        if self.context.report_progress is not None:
            done_s = max(0.0, self.state.last_s - self.source.analysis_start_s) if self.state.result.frames else 0.0
            self.context.report_progress(done_s, self.source.analyzed_s, self.state.result.frames)

    def _should_stop(self) -> bool:
        return self.context.should_stop is not None and self.context.should_stop()

    def _analyze_part(self, first: FrameBatch, batches: Iterator[FrameBatch], bar: ProgressBar) -> None:
        """Write the records and pictures of one part, and then the state at its end."""
        state, parts = self.state, self.parts
        size = len(first.frames)
        count = max(1, self.context.part_frames // size)
        with ExitStack() as stack:
            records = stack.enter_context(parts.path("jsonl").open("w", encoding="utf-8", newline="\n"))
            write = stack.enter_context(self._open_annotated_part(first.frames[0].image, size))
            for batch in chain([first], islice(batches, count - 1)):
                for tracked in self.pipeline.track_batch(batch):
                    records.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in tracked.rows)
                    write(tracked.frame, tracked.faces)
                bar.advance(self.pipeline.frame_seconds(batch), f"{state.result.frames:,} frames")
                self.report_progress()
                if self._should_stop():
                    break
        parts.finish_part(state)
        release_freed_memory()  # the encoder's: the next part has its own

    def _open_annotated_part(self, first: np.ndarray | YuvImage, most: int) -> _AnnotatedPart | _NoAnnotatedPart:
        return _AnnotatedPart(self, first, most) if self.context.options.has_media else _NoAnnotatedPart()


class _NoAnnotatedPart:
    def __enter__(self) -> Callable[..., None]:
        return lambda frame, faces: None

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""


class _AnnotatedPart:
    """Draws and encodes the annotated pictures of a part in a thread, while the analysis goes on."""

    def __init__(self, analysis: VideoAnalysis, first: np.ndarray | YuvImage, most: int) -> None:
        from mien.analysis.media.video_writer import PartWriter

        self._style, state = analysis.context.options.style, analysis.state
        state.annotated = state.annotated or FrameFormat.from_image(annotate_frame(first, [], self._style))
        self._writer = PartWriter(analysis.parts.path("nut"), analysis.source, state.annotated)
        self._background = BackgroundWriter(most)

    def __enter__(self) -> Callable[[VideoFrame, list[Face]], None]:
        return lambda frame, faces: self._background.submit(self._write, frame, faces)

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._background.flush()
        finally:
            self._background.close()
            self._writer.close()

    def _write(self, frame: VideoFrame, faces: list[Face]) -> None:
        self._writer.write(frame.pts, annotate_frame(frame.image, faces, self._style))
