"""The interface of everything that frames come from: video files, streams, cameras, animated pictures, and programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from mien.analysis.media.animation import AnimationSource
from mien.analysis.media.camera import CameraSource
from mien.analysis.media.container import MAX_FRAME_PIXELS
from mien.analysis.media.video_reader import ALL_FRAMES, Sampling, VideoFrame, VideoSource
from mien.core.pictures import is_animation


class Source(Protocol):
    """Frames with their times. `VideoSource` describes the attributes; their values do not depend on who reads the frames."""

    @property
    def path(self) -> Path | str: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def is_live(self) -> bool: ...
    @property
    def is_cut_off(self) -> bool: ...
    @property
    def has_sound(self) -> bool: ...
    @property
    def has_large_frames(self) -> bool: ...
    @property
    def has_rebuilt_times(self) -> bool: ...
    @property
    def size_bytes(self) -> int | None: ...
    @property
    def start_s(self) -> float: ...
    @property
    def analysis_start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def duration_s(self) -> float | None: ...
    @property
    def analyzed_s(self) -> float | None: ...
    @property
    def damage(self) -> str: ...
    @property
    def time_base(self) -> Fraction: ...
    @property
    def rate(self) -> Fraction: ...

    def frames(self, skip: int = 0, on_skipped: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Yield the frames that ``sampling`` selects, without the first ``skip``. ``on_skipped`` is called for each of those."""
        ...


class OpenedVideo(Source, Protocol):
    """A source that holds a file, a connection or a device, and closes it at the end of a ``with`` block."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_video(path: Path | str, sampling: Sampling = ALL_FRAMES, max_pixels: int = MAX_FRAME_PIXELS) -> OpenedVideo:
    """Open a video file, an animated picture, the address of a stream, or a camera (``camera:0``). Raises MediaError."""
    if isinstance(path, str) and path.lower().startswith("camera:"):
        return CameraSource(path, sampling)
    if isinstance(path, Path) and is_animation(path):
        return AnimationSource(path, sampling, max_pixels)
    return VideoSource(path, sampling, max_pixels)
