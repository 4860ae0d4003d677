"""A video → its records, its annotated copy and its summary. Decoding, analysis and encoding run in parallel."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from mien.analysis.detection.detectors import Detections
from mien.analysis.media.animation import AnimationSource
from mien.analysis.media.camera import CameraSource
from mien.analysis.media.inputs import Input
from mien.analysis.media.video_reader import MAX_FRAME_S, VideoFrame, VideoSource, open_video
from mien.analysis.media.yuv import FrameFormat, YuvImage
from mien.analysis.output.annotate import annotate_frame
from mien.analysis.output.writers import RECORD_SCHEMA, RecordWriter, make_records
from mien.analysis.people.people import PeopleAccumulator, observation_from_record
from mien.analysis.prefetch import BackgroundWriter, limit_opencv_threads, parallel_map, prefetch_items
from mien.analysis.recognizer import Recognizer
from mien.analysis.resume import PartStore
from mien.analysis.settings import AnalysisContext, AnalysisOptions, AnalysisResult
from mien.analysis.tracking.face_finder import FaceFinder
from mien.analysis.tracking.follower import Follower
from mien.analysis.tracking.tracker import MEMORY_S, RETURN_S, Tracker
from mien.analysis.video_outputs import write_outputs
from mien.core.errors import MediaError, OutputError
from mien.core.memory import is_out_of_memory, release_freed_memory
from mien.core.progress import ProgressBar, echo, progress_bar
from mien.core.types import Face, FrameResult

#: Frames are read, analyzed and written in batches of about so many bytes, of this many frames at most.
BATCH_BYTES, BATCH_FRAMES = 16_000_000, 8

#: Batches that are decoded ahead, and those whose faces go through the network at once: it has few threads for each of them.
BATCHES_AHEAD, BATCHES_AT_ONCE = 2, 2


@dataclass
class VideoState:
    """The state of a video's analysis; its size does not grow with the number of frames."""

    finder: FaceFinder
    follower: Follower
    people: PeopleAccumulator
    result: AnalysisResult
    size_wh: tuple[int, int] = (0, 0)
    annotated: FrameFormat | None = None  # its annotated copy, once that is begun
    last_s: float = 0.0
    end_pts: int = 0


def analyze_video(
    item: Input, recognizer: Recognizer, context: AnalysisContext, stem: Path, tables: list[RecordWriter]
) -> AnalysisResult:
    """Analyze one video and write its outputs. It is done part by part: after a sudden end, the same call goes on."""
    _refuse_foreign_subtitles(stem, context.options)
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
                source, recognizer, context, parts, _initial_state(item, recognizer, context.options)
            )
            analysis.run(item)
            if not analysis.state.result.frames:
                raise _no_frame_error(item, source)
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


def _refuse_foreign_subtitles(stem: Path, options: AnalysisOptions) -> None:
    """OutputError where captions would replace subtitles that are not ours: those lie beside a summary."""
    captions = stem.with_name(f"{stem.name}.vtt")
    if "captions" in options.outputs and captions.exists() and not stem.with_name(f"{stem.name}.summary.json").exists():
        raise OutputError(
            captions,
            "is there already without a summary beside it: subtitles of yours?",
            "choose another folder with `out`",
        )


def _no_frame_error(item: Input, source: VideoSource | CameraSource | AnimationSource) -> MediaError:
    sampling, length = source.sampling, "" if source.duration_s is None else f"; it is {source.duration_s:.2f} s long"
    until = "its end" if sampling.to_s is None else f"{sampling.to_s:g} s"
    return MediaError(item.name, f"has no frame from {sampling.from_s:g} s to {until}{length}", "choose other times")


def _initial_state(item: Input, recognizer: Recognizer, options: AnalysisOptions) -> VideoState:
    every_s = options.sampling.every_s
    return VideoState(
        recognizer.make_face_finder(),
        Follower(options.smoothing_s, Tracker(max(MEMORY_S, 1.5 * every_s), max(RETURN_S, 2 * every_s))),
        PeopleAccumulator(recognizer.labels),
        AnalysisResult(item.name, is_video=True),
    )


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


@dataclass(frozen=True)
class _Batch:
    """Frames with where their faces are and, once these were read, what they show; N of each.

    cuts     which of them begin a new shot
    finder   as it stands after them
    """

    frames: list[VideoFrame]
    found: list[Detections]
    cuts: list[bool]
    finder: FaceFinder
    faces: list[list[Face]] = field(default_factory=list)


@dataclass
class VideoAnalysis:
    """One video on its way through the recognizer."""

    source: VideoSource | CameraSource | AnimationSource
    recognizer: Recognizer
    context: AnalysisContext
    parts: PartStore
    state: VideoState

    def run(self, item: Input) -> None:
        source, earlier = self.source, self.parts.stored_state()
        if earlier is not None:
            earlier.finder.detector = self.recognizer.detector
            self.state = earlier
        done_s = max(0.0, self.state.last_s - source.analysis_start_s) if earlier is not None else 0.0
        one_by_one = source.is_live or source.has_large_frames
        most, at_once = (1, 0) if one_by_one else (BATCH_FRAMES, BATCHES_AT_ONCE)
        decoded = _batch_frames(source.frames(self.state.result.frames, self.report_progress), most)
        with (
            prefetch_items(
                decoded, 1 if source.has_large_frames else BATCHES_AHEAD, keep_newest=source.is_live
            ) as frames,
            prefetch_items(
                _detect_batches(_set_live_durations(frames, source) if source.is_live else frames, self.state.finder), 1
            ) as searched,
            closing(parallel_map(self._classify_batch, searched, at_once)) as batches,
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

    def _analyze_part(self, first: _Batch, batches: Iterator[_Batch], bar: ProgressBar) -> None:
        """Write the records and pictures of one part, and then the state at its end."""
        state, parts = self.state, self.parts
        size = len(first.frames)
        count = max(1, self.context.part_frames // size)
        with ExitStack() as stack:
            records = stack.enter_context(parts.path("jsonl").open("w", encoding="utf-8", newline="\n"))
            write = stack.enter_context(self._open_annotated_part(first.frames[0].image, size))
            for batch in chain([first], islice(batches, count - 1)):
                for frame, faces in zip(batch.frames, self._track_batch(batch), strict=True):
                    rows = self._make_frame_records(frame, faces)
                    records.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                    self._add_frame(frame, faces, rows)
                    write(frame, faces)
                state.finder = batch.finder
                seconds = float(sum(frame.duration for frame in batch.frames) * self.source.time_base)
                bar.advance(seconds, f"{state.result.frames:,} frames")
                self.report_progress()
                if self._should_stop():
                    break
        parts.finish_part(state)
        release_freed_memory()  # the encoder's: the next part has its own

    def _classify_batch(self, batch: _Batch) -> _Batch:
        return replace(
            batch, faces=self.recognizer.classify_faces([frame.image for frame in batch.frames], batch.found)
        )

    def _track_batch(self, batch: _Batch) -> list[list[Face]]:
        """Return the faces of each frame with their tracks and smoothed probabilities."""
        followed = []
        for frame, faces, was_cut in zip(batch.frames, batch.faces, batch.cuts, strict=True):
            followed.append(self.state.follower.follow_faces(faces, frame.time_s, was_cut, frame.image))
            if self.state.follower.was_cut:
                self.state.people.timeline.add_cut(self._player_time_s(frame))
        return followed

    def _make_frame_records(self, frame: VideoFrame, faces: list[Face]) -> list[dict[str, Any]]:
        self.state.size_wh = frame.image.shape[1], frame.image.shape[0]
        duration_s = float(frame.duration * self.source.time_base)
        result = FrameResult(
            self.state.result.source, frame.index, frame.time_s, self.state.size_wh, tuple(faces),
            self._player_time_s(frame), duration_s,
        )  # fmt: skip
        return make_records(result, self.recognizer.model_name, self.recognizer.detector_name)

    def _add_frame(self, frame: VideoFrame, faces: list[Face], rows: list[dict[str, Any]]) -> None:
        """Add a frame to the result and to the people; these are fed by records, as when records are read back."""
        state = self.state
        state.result.add_frame(faces)
        state.last_s, state.end_pts = frame.time_s, frame.pts + frame.duration
        for row in rows:
            state.people.update(observation_from_record(row, self.recognizer.labels))

    def _player_time_s(self, frame: VideoFrame) -> float:
        """Return the time at which a player shows the frame, in seconds from 0."""
        return max(0.0, frame.time_s - self.source.start_s)  # a container rounds where it begins

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


def _batch_frames(frames: Iterator[VideoFrame], most: int) -> Iterator[list[VideoFrame]]:
    for first in frames:
        size = max(1, min(most, BATCH_BYTES // first.image.nbytes))
        yield [first, *islice(frames, size - 1)]


def _set_live_durations(
    batches: Iterator[list[VideoFrame]], source: VideoSource | CameraSource | AnimationSource
) -> Iterator[list[VideoFrame]]:
    """Give live frames, some of which were dropped, the time since the frame before as their duration: then the sum is right."""
    before, longest = None, MAX_FRAME_S / source.time_base
    for batch in batches:
        lasting = []
        for frame in batch:
            gap = frame.duration if before is None else frame.pts - before
            lasting.append(replace(frame, duration=gap) if 0 < gap <= longest else frame)
            before = frame.pts
        yield lasting


def _detect_batches(batches: Iterator[list[VideoFrame]], finder: FaceFinder) -> Iterator[_Batch]:
    """Detect the faces of each batch, frame by frame, since each frame depends on the one before."""
    for batch in batches:
        found, cuts = [], []
        for frame in batch:
            found.append(finder.find_faces(frame.image, frame.time_s))
            cuts.append(finder.was_cut)
        yield _Batch(batch, found, cuts, finder.copy())
