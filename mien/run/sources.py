"""Inputs: files and folders → pictures and videos, and a video → upright frames with their own times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mien.core.errors import MediaError
from mien.core.pictures import PICTURE_SUFFIXES

if TYPE_CHECKING:
    import av

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".m4v",
        ".mov",
        ".avi",
        ".mkv",
        ".webm",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
    }
)


@dataclass(frozen=True)
class Input:
    """One file to analyse. ``stem`` is where its outputs go, relative to the output folder and without an ending."""

    path: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def list_inputs(arguments: Sequence[str | Path], out: Path | None = None) -> list[Input | MediaError]:
    """Every file that the arguments mean, in a stable order; an argument that means none gives its error instead.

    Folders are searched recursively for pictures and videos, leaving out hidden files, what lies in ``out`` and
    annotated media of an earlier run. Where two inputs have the same name, their outputs carry the ending too.
    """
    found: list[Input | MediaError] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            files = list(_files_below(argument, out))
            found += [Input(file, file.relative_to(argument).with_suffix("")) for file in files]
            if not files:
                found.append(MediaError(argument, "is a folder without pictures or videos", "name another one"))
        elif argument.exists():
            found.append(Input(argument, Path(argument.stem)))
        else:
            found.append(MediaError(argument, "does not exist", "check the path"))
    return _with_distinct_stems(found)


def _files_below(folder: Path, out: Path | None) -> Iterator[Path]:
    skip = out.resolve() if out is not None else None
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        ours = path.stem.endswith(".annotated") or (
            skip is not None and skip != folder.resolve() and path.resolve().is_relative_to(skip)
        )
        if path.suffix.lower() in PICTURE_SUFFIXES | VIDEO_SUFFIXES and path.is_file() and not hidden and not ours:
            yield path


def _with_distinct_stems(found: list[Input | MediaError]) -> list[Input | MediaError]:
    """photo.jpg and photo.png → photo and photo.png; a/x.jpg and b/x.jpg → x and x-2.

    Names are compared without case, as the file systems of Windows and macOS do.
    """
    taken = {"all"} if len(found) > 1 else set()  # the name of the table over several inputs
    distinct: list[Input | MediaError] = []
    for item in found:
        if isinstance(item, Input):
            stem, number = item.stem, 2
            if str(stem).lower() in taken:
                stem = stem.with_name(item.path.name)
            while str(stem).lower() in taken:
                stem = item.stem.with_name(f"{item.path.name}-{number}")
                number += 1
            taken.add(str(stem).lower())
            item = Input(item.path, stem)
        distinct.append(item)
    return distinct


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame. pts and duration count in units of the stream's time base; time_s is pts in seconds."""

    index: int
    pts: int
    time_s: float
    duration: int
    picture: np.ndarray  # RGB uint8 (H, W, 3), upright


class VideoSource:
    """A video file, read frame by frame; memory does not grow with its length.

    After the frames are exhausted ``ended_early`` holds a sentence if the file broke off before its stated end.
    Use as a context manager. Raises MediaError for what is no video.
    """

    def __init__(self, path: Path) -> None:
        import av

        self.path = path
        self._container = open_container(path)
        try:
            self._stream = self._container.streams.video[0]
        except IndexError as error:
            self._container.close()
            raise MediaError(path, "holds no pictures (no video stream)", "give a video file") from error
        self._stream.thread_type = "AUTO"
        self._errors = av.error
        self.time_base: Fraction = self._stream.time_base or Fraction(1, 90000)
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.duration_s = self._stated_duration()
        self.frames_read = 0
        self.last_time_s = 0.0
        self.ended_early = ""

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _stated_duration(self) -> float | None:
        """Seconds from the stream's own start to its stated end; None where neither file nor stream says."""
        if self._stream.duration is not None:
            return float(self._stream.duration * self.time_base)
        return self._container.duration / 1_000_000 if self._container.duration else None

    def frames(self) -> Iterator[VideoFrame]:
        """Upright RGB frames in order, with strictly rising times; frames without a time get the next one due."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        start_pts = last_pts = end_pts = None
        for frame in self._decoded():
            pts = frame.pts if frame.pts is not None else (0 if last_pts is None else last_pts + step)
            if last_pts is not None and pts <= last_pts:
                continue  # a frame shown at the time of the one before it was never seen
            picture = np.rot90(frame.to_ndarray(format="rgb24"), k=frame.rotation // 90)
            duration = frame.duration or step
            start_pts, last_pts, end_pts = pts if start_pts is None else start_pts, pts, pts + duration
            self.last_time_s = float(pts * self.time_base)
            yield VideoFrame(self.frames_read, pts, self.last_time_s, duration, np.ascontiguousarray(picture))
            self.frames_read += 1
        if end_pts is None:
            raise MediaError(
                self.path, "holds no frame that can be decoded", self.ended_early or "copy or export it again"
            )
        seen_s = float((end_pts - start_pts) * self.time_base)
        if not self.ended_early and self.duration_s and self.duration_s - seen_s > max(0.5, 3 / float(self.rate)):
            self.ended_early = f"the file ends after {seen_s:.2f} s of the {self.duration_s:.2f} s it states"

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames as they are decoded; damage ends them, and is noted, since nothing after it can be trusted."""
        try:
            yield from self._container.decode(self._stream)
        except self._errors.FFmpegError as error:
            self.ended_early = f"the file is damaged after {self.last_time_s:.2f} s ({error.strerror})"


def open_container(path: Path) -> av.container.InputContainer:
    """A video file opened by PyAV, or a MediaError that names it."""
    import av

    av.logging.set_level(av.logging.FATAL)
    if path.is_dir():
        raise MediaError(path, "is a folder, not a video", "name a file in it")
    if not path.exists():
        raise MediaError(path, "does not exist", "check the path")
    if path.stat().st_size == 0:
        raise MediaError(path, "is empty (0 bytes)", "copy or export it again")
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            path, f"is not a video that can be read ({error.strerror})", "copy or export it again"
        ) from error
