"""Inputs: files and folders → pictures and videos, and a video → upright frames with their own times."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mien.core.errors import MediaError
from mien.core.pictures import PICTURE_SUFFIXES, is_picture

if TYPE_CHECKING:
    import av

#: File endings that folders are searched for; a file named outright is tried whatever it is called.
VIDEO_SUFFIXES = frozenset(
    [
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
        ".vob",
        ".wmv",
        ".asf",
        ".flv",
        ".3gp",
        ".ogv",
        ".mxf",
    ]
)


@dataclass(frozen=True)
class Input:
    """One file to analyse. ``stem`` is where its outputs go, relative to the output folder and without an ending."""

    path: Path
    stem: Path

    @property
    def is_video(self) -> bool:
        """By its ending, or, where that says nothing, by whether it opens as a picture."""
        suffix = self.path.suffix.lower()
        return suffix in VIDEO_SUFFIXES or (suffix not in PICTURE_SUFFIXES and not is_picture(self.path))

    @property
    def name(self) -> str:
        """The path as text that can be printed and written, whatever bytes the file system holds."""
        return os.fsencode(self.path).decode("utf-8", "backslashreplace")


def list_inputs(arguments: Sequence[str | Path], out: Path | None = None) -> list[Input | MediaError]:
    """Every file that the arguments mean, in a stable order; an argument that means none gives its error instead.

    Folders are searched recursively for pictures and videos, leaving out hidden files, what lies in ``out`` and
    annotated media of an earlier run. Where two inputs have the same name, their outputs carry the ending too.
    """
    found: list[Input | MediaError] = []
    for argument in map(Path, arguments):
        if os.path.isdir(argument):  # noqa: PTH112 - unlike pathlib's, it says no to a name that is too long
            files = list(_files_below(argument, out))
            found += [Input(file, file.relative_to(argument).with_suffix("")) for file in files]
            if not files:
                found.append(MediaError(argument, "is a folder without pictures or videos", "name another one"))
        elif os.path.exists(argument):  # noqa: PTH110 - as above
            found.append(Input(argument, Path(argument.stem)))
        else:
            found.append(MediaError(argument, "does not exist", "check the path"))
    return _with_distinct_stems(found)


def _files_below(folder: Path, out: Path | None) -> Iterator[Path]:
    inside = folder.resolve() in out.resolve().parents if out is not None else False
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PICTURE_SUFFIXES | VIDEO_SUFFIXES or path.stem.endswith(".annotated"):
            continue
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        ours = inside and path.resolve().is_relative_to(out.resolve())
        if not hidden and not ours and path.is_file():
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

    After the frames are exhausted, ``damage`` says what was wrong with the file: that it broke off before its stated end,
    or that packets could not be decoded. Use as a context manager. Raises MediaError for what is no video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._container = open_container(path)
        try:
            self._stream = self._container.streams.video[0]
        except IndexError as error:
            self._container.close()
            raise MediaError(path, "holds no pictures (no video stream)", "give a video file") from error
        self._stream.thread_type = "AUTO"
        self.time_base: Fraction = self._stream.time_base or Fraction(1, 90000)
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self.sample_aspect_ratio = self._stream.sample_aspect_ratio  # width over height of a pixel, as stored; or None
        self.start_s = max(0.0, (self._container.start_time or 0) / 1_000_000)
        self.duration_s = self._stated_duration()
        self.turned = False  # by a quarter, as the rotation of its first frame says
        self.end_s = 0.0
        self.cut_off = False
        self.damage = ""

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _stated_duration(self) -> float | None:
        """Seconds from the stream's own start to its stated end, where the file says; else None.

        Matroska says it in a tag of the stream; its container's duration may be that of a longer sound.
        """
        if self._stream.duration is not None:
            return float(self._stream.duration * self.time_base)
        tag = self._stream.metadata.get("DURATION", "")
        if tag.count(":") == 2:
            hours, minutes, seconds = tag.split(":")
            return max(0.0, 3600 * int(hours) + 60 * int(minutes) + float(seconds) - self.start_s)
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / 1_000_000 - self.start_s
        return None

    def frames(self) -> Iterator[VideoFrame]:
        """Upright RGB frames in order, with strictly rising times.

        A frame without a time gets the next one due. Where the times jump back by more than a second, as in recordings
        that were joined end to end, they go on from where they were; a frame just before its predecessor is dropped.
        """
        step = max(1, round(1 / (self.rate * self.time_base)))
        second = round(1 / self.time_base)
        index, shift, first, last, end = 0, 0, None, None, None
        for frame in self._decoded():
            pts = frame.pts + shift if frame.pts is not None else (0 if end is None else end)
            if last is not None and pts < last - second:
                shift += end - pts
                pts = end
            if last is not None and pts <= last:
                continue
            duration = frame.duration or step
            first, last, end = (pts if first is None else first), pts, pts + duration
            self.turned, self.end_s = frame.rotation % 180 != 0, float(end * self.time_base)
            picture = np.rot90(frame.to_ndarray(format="rgb24"), k=frame.rotation // 90)
            yield VideoFrame(index, pts, float(pts * self.time_base), duration, np.ascontiguousarray(picture))
            index += 1
        if end is None:
            raise MediaError(self.path, "holds no frame that can be decoded", "copy or export it again")
        self._compare_length(float((end - first) * self.time_base))

    def _compare_length(self, seconds: float) -> None:
        if self.duration_s and self.duration_s - seconds > max(0.5, 3 / float(self.rate)):
            self.cut_off = True
            self.damage = f"the file ends after {seconds:.2f} s of the {self.duration_s:.2f} s it states"

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """Frames as they are decoded. Packets that do not decode are passed over and counted; so is what follows a
        point where the file itself cannot be read."""
        import av

        broken = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self.damage, self.cut_off = f"the file cannot be read after {self.end_s:.2f} s ({error.strerror})", True
                return
            if packet is None:
                break
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                broken += 1
        if broken:
            self.damage = f"{broken:,} damaged packets were passed over"


def open_container(path: Path) -> av.container.InputContainer:
    """A video file opened by PyAV, or a MediaError that names it."""
    import av

    if path.is_dir():
        raise MediaError(path, "is a folder, not a video", "name a file in it")
    if not path.exists():
        raise MediaError(path, "does not exist", "check the path")
    if path.stat().st_size == 0:
        raise MediaError(path, "is empty (0 bytes)", "copy or export it again")
    try:
        return av.open(local_url(path))
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            path, f"is not a video that can be read ({error.strerror})", "copy or export it again"
        ) from error


def local_url(path: Path) -> str:
    """The path as FFmpeg takes it: a name such as ``10:20.mkv`` would else be read as a protocol."""
    return f"file:{path}"
