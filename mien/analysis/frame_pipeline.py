"""The frames of a video with their faces, tracked and smoothed: decoding, detection and classification run in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from mien.analysis.detection.detectors import Detections
from mien.analysis.media.source import Source
from mien.analysis.media.video_reader import MAX_FRAME_S, VideoFrame
from mien.analysis.media.yuv import FrameFormat
from mien.analysis.output.writers import make_records
from mien.analysis.people.people import PeopleAccumulator, observation_from_record
from mien.analysis.prefetch import parallel_map, prefetch_items
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisOptions, AnalysisResult
from mien.analysis.tracking.face_finder import FaceFinder
from mien.analysis.tracking.follower import Follower
from mien.analysis.tracking.tracker import MEMORY_S, RETURN_S, Tracker
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


def initial_state(name: str, recognizer: Recognizer, options: AnalysisOptions) -> VideoState:
    """Return the state before the first frame of the video ``name``."""
    every_s = options.sampling.every_s
    return VideoState(
        recognizer.make_face_finder(),
        Follower(options.smoothing_s, Tracker(max(MEMORY_S, 1.5 * every_s), max(RETURN_S, 2 * every_s))),
        PeopleAccumulator(recognizer.labels),
        AnalysisResult(name, is_video=True),
    )


@dataclass(frozen=True)
class FrameBatch:
    """Frames with where their faces are and, once these were classified, what they show; N of each.

    cuts     which of them begin a new shot
    finder   as it stands after them
    """

    frames: list[VideoFrame]
    found: list[Detections]
    cuts: list[bool]
    finder: FaceFinder
    faces: list[list[Face]] = field(default_factory=list)


@dataclass
class TrackedFrame:
    """A frame, its faces with their tracks and smoothed probabilities, and its records."""

    frame: VideoFrame
    faces: list[Face]
    rows: list[dict[str, Any]]
    result: FrameResult


@dataclass
class FramePipeline:
    """One video on its way through the recognizer: frames → faces → tracks → records → people."""

    source: Source
    recognizer: Recognizer
    state: VideoState

    @contextmanager
    def open_batches(self, on_skipped: Callable[[], None] = lambda: None) -> Iterator[Iterator[FrameBatch]]:
        """Yield an iterator over the classified batches behind the state; decoding and detection run ahead in threads.

        on_skipped: called for each frame that the state has already.
        """
        source = self.source
        one_by_one = source.is_live or source.has_large_frames
        most, at_once = (1, 0) if one_by_one else (BATCH_FRAMES, BATCHES_AT_ONCE)
        decoded = _batch_frames(source.frames(self.state.result.frames, on_skipped), most)
        with (
            prefetch_items(
                decoded, 1 if source.has_large_frames else BATCHES_AHEAD, keep_newest=source.is_live
            ) as frames,
            prefetch_items(
                _detect_batches(_set_live_durations(frames, source) if source.is_live else frames, self.state.finder), 1
            ) as searched,
            closing(parallel_map(self._classify_batch, searched, at_once)) as batches,
        ):
            yield batches

    def iterate_in_step(self) -> Iterator[FrameBatch]:
        """Yield batches of one classified frame, in this thread: no frame is read before it is asked for."""
        frames = _set_live_durations(_batch_frames(self.source.frames(), 1), self.source)
        return map(self._classify_batch, _detect_batches(frames, self.state.finder))

    def track_batch(self, batch: FrameBatch) -> Iterator[TrackedFrame]:
        """Yield the frames of the next batch with their faces tracked and smoothed; the state goes on with each."""
        for frame, faces in zip(batch.frames, self._follow_faces(batch), strict=True):
            result = self._make_result(frame, faces)
            rows = make_records(result, self.recognizer.model_name, self.recognizer.detector_name)
            self._add_frame(frame, faces, rows)
            yield TrackedFrame(frame, faces, rows, result)
        self.state.finder = batch.finder

    def frame_seconds(self, batch: FrameBatch) -> float:
        """Return for how long the frames of a batch are shown."""
        return float(sum(frame.duration for frame in batch.frames) * self.source.time_base)

    def _classify_batch(self, batch: FrameBatch) -> FrameBatch:
        return replace(
            batch, faces=self.recognizer.classify_faces([frame.image for frame in batch.frames], batch.found)
        )

    def _follow_faces(self, batch: FrameBatch) -> list[list[Face]]:
        followed = []
        for frame, faces, was_cut in zip(batch.frames, batch.faces, batch.cuts, strict=True):
            followed.append(self.state.follower.follow_faces(faces, frame.time_s, was_cut, frame.image))
            if self.state.follower.was_cut:
                self.state.people.timeline.add_cut(self._player_time_s(frame))
        return followed

    def _make_result(self, frame: VideoFrame, faces: list[Face]) -> FrameResult:
        self.state.size_wh = frame.image.shape[1], frame.image.shape[0]
        duration_s = float(frame.duration * self.source.time_base)
        return FrameResult(
            self.state.result.source, frame.index, frame.time_s, self.state.size_wh, tuple(faces),
            self._player_time_s(frame), duration_s,
        )  # fmt: skip

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


def _batch_frames(frames: Iterator[VideoFrame], most: int) -> Iterator[list[VideoFrame]]:
    for first in frames:
        size = max(1, min(most, BATCH_BYTES // first.image.nbytes))
        yield [first, *islice(frames, size - 1)]


def _set_live_durations(batches: Iterator[list[VideoFrame]], source: Source) -> Iterator[list[VideoFrame]]:
    """Give live frames, some of which were dropped, the time since the frame before as their duration: then the sum is right."""
    before, longest = None, MAX_FRAME_S / source.time_base
    for batch in batches:
        lasting = []
        for frame in batch:
            gap = frame.duration if before is None else frame.pts - before
            lasting.append(replace(frame, duration=gap) if 0 < gap <= longest else frame)
            before = frame.pts
        yield lasting


def _detect_batches(batches: Iterator[list[VideoFrame]], finder: FaceFinder) -> Iterator[FrameBatch]:
    """Detect the faces of each batch, frame by frame, since each frame depends on the one before."""
    for batch in batches:
        faces, cuts = [], []
        for frame in batch:
            faces.append(finder.find_faces(frame.image, frame.time_s))
            cuts.append(finder.was_cut)
        yield FrameBatch(batch, faces, cuts, finder.copy())
