"""Frames with their faces, one after the other: what is held of a video does not grow with it."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.analysis.api.faces import Faces
from mien.analysis.api.statistics import VideoStatistics
from mien.analysis.frame_pipeline import FramePipeline, TrackedFrame, initial_state
from mien.analysis.media.frame_source import FrameSource
from mien.analysis.media.inputs import Input
from mien.analysis.media.source import open_video
from mien.analysis.media.video_reader import VideoFrame
from mien.analysis.people.people import PeopleAccumulator
from mien.analysis.prefetch import limit_opencv_threads
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisOptions
from mien.analysis.video import no_frame_error
from mien.analysis.video_facts import VideoFacts
from mien.core.errors import UsageError
from mien.core.progress import progress_bar
from mien.core.types import FrameResult

if TYPE_CHECKING:
    from mien.analysis.output.style import Style


class FrameReader:
    """Return the picture of a frame as long as somebody holds the frame. Faces that are kept do not keep its picture."""

    def __init__(self, frame: VideoFrame) -> None:
        self._frame: Callable[[], VideoFrame | None] = weakref.ref(frame)

    def __call__(self) -> np.ndarray:
        frame = self._frame()
        if frame is None:
            raise UsageError("`face`", "is of a frame that is gone", "crop it in the loop, or keep the frame, too")
        return frame.picture

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_lost_reader, ()


def _make_lost_reader() -> FrameReader:
    reader = FrameReader.__new__(FrameReader)
    reader._frame = lambda: None
    return reader


@dataclass(frozen=True, eq=False)
class AnalyzedFrame(FrameResult):
    """One frame of a video with its faces, tracked and smoothed; times in seconds.

    faces     `Faces` with ``track``, ``smoothed`` and ``smoothed_label``
    """

    faces: Faces
    _frame: VideoFrame | None = field(default=None, repr=False)
    _rows: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def picture(self) -> np.ndarray:
        """The frame, upright RGB uint8 (H, W, 3); converted on each call."""
        assert self._frame is not None  # every frame of a stream has one
        return self._frame.picture

    def annotate(self, style: Style | None = None) -> np.ndarray:
        """Return the frame with the faces drawn on it, RGB uint8 (H, W, 3)."""
        return self.faces.annotate(style)

    def to_records(self) -> list[dict[str, Any]]:
        """Return one record for each face of the frame, with the columns of the records that `mien analyze` writes."""
        return self._rows


class FrameStream(VideoStatistics, Iterator[AnalyzedFrame]):
    """An iterator over the frames of a video with their faces; what it holds does not grow with the video.

    While it runs, ``people``, ``peaks()``, ``timeline`` and the plots tell of the frames so far. Close it, or leave its
    ``with`` block, to end it early; the video, the camera and the threads end with it.

    source   what the frames come from, as a name
    facts    what is known of the video, once its last frame was given out; None before
    """

    def __init__(self, source: str, recognizer: Recognizer, options: AnalysisOptions) -> None:
        self.source, self.recognizer, self.options = source, recognizer, options
        self.facts: VideoFacts | None = None
        self._state = initial_state(source, recognizer, options)
        self._frames: Generator[AnalyzedFrame] = self._iterate()

    @abstractmethod
    def _iterate(self) -> Generator[AnalyzedFrame]:
        """Yield the analyzed frames."""

    @property
    def accumulator(self) -> PeopleAccumulator:
        return self._state.people

    @property
    def frame_count(self) -> int:
        """How many frames were analyzed so far."""
        return self._state.result.frames

    def __iter__(self) -> FrameStream:
        return self

    def __next__(self) -> AnalyzedFrame:
        return next(self._frames)

    def __enter__(self) -> FrameStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the analysis where it stands; close the video and its threads."""
        self._frames.close()

    def __repr__(self) -> str:
        return f"<FrameStream {self.source}: {self.frame_count:,} frames so far>"

    def _to_analyzed_frame(self, tracked: TrackedFrame) -> AnalyzedFrame:
        result, recognizer = tracked.result, self.recognizer
        faces = Faces(
            tracked.faces, source=result.source, labels=recognizer.labels, model=recognizer.model_name,
            detector=recognizer.detector_name, read_picture=FrameReader(tracked.frame),
        )  # fmt: skip
        return AnalyzedFrame(
            result.source, result.frame, result.time_s, result.size_wh, faces, result.player_time_s, result.duration_s,
            _frame=tracked.frame, _rows=tracked.rows,
        )  # fmt: skip


class VideoStream(FrameStream):
    """The frames of a video file, a camera or a stream; decoding and detection run ahead in threads."""

    def __init__(self, item: Input, recognizer: Recognizer, options: AnalysisOptions, progress: bool = False) -> None:
        self._item, self._has_progress = item, progress
        super().__init__(item.name, recognizer.for_streaming(), options)  # its stages share the cores

    def _iterate(self) -> Generator[AnalyzedFrame]:
        item, sampling = self._item, self.options.sampling
        before = item.file_status()
        with (
            limit_opencv_threads(),
            open_video(item.path, sampling, self.recognizer.max_frame_pixels) as source,
        ):
            pipeline = FramePipeline(source, self.recognizer, self._state)
            title = item.name if item.file is None else item.file.name
            with (
                pipeline.open_batches() as batches,
                progress_bar(title, source.analyzed_s, quiet=not self._has_progress) as bar,
            ):
                for batch in batches:
                    for tracked in pipeline.track_batch(batch):
                        yield self._to_analyzed_frame(tracked)
                    bar.advance(pipeline.frame_seconds(batch), f"{self.frame_count:,} frames")
            result = self._state.result
            if not result.frames:
                raise no_frame_error(item.name, source)
            if grown := item.check_unchanged(before):
                result.warnings.append(grown)
            if source.damage:
                result.warnings.append(f"{source.damage}; what was read is kept")
            self.facts = VideoFacts.from_pipeline(pipeline, sampling)


class OwnFrameStream(FrameStream):
    """The frames of a program's own source; each is taken, analyzed and given out before the next is asked for."""

    def __init__(self, frames: FrameSource, recognizer: Recognizer, options: AnalysisOptions) -> None:
        self._source = frames
        super().__init__(frames.path, recognizer, options)

    def _iterate(self) -> Generator[AnalyzedFrame]:
        pipeline = FramePipeline(self._source, self.recognizer, self._state)
        for batch in pipeline.iterate_in_step():
            for tracked in pipeline.track_batch(batch):
                yield self._to_analyzed_frame(tracked)
        self.facts = VideoFacts.from_pipeline(pipeline, self.options.sampling)
