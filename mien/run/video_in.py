"""A video, camera or stream → upright frames of square pixels with their own times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mien.core.errors import MediaError
from mien.core.files import fault_of
from mien.core.pictures import is_animation
from mien.run.hdr import is_hdr, to_sdr
from mien.run.interlace import whole
from mien.run.planes import Planes, placing, rgb_of
from mien.run.sources import without_password

if TYPE_CHECKING:
    import av

    from mien.run.animation import AnimationSource

#: A stream that sends nothing for so long has ended.
STREAM_TIMEOUT_S = 10.0

#: What PyAV makes of titles and other words in a file that are not UTF-8, as old cameras and editors write them: it goes on.
TITLES = "replace"

#: A frame is shown until the next one, where that comes within so many seconds; after a longer gap something is missing.
LONGEST_S = 10.0

#: Matroska rounds times to milliseconds: a frame that is early by less is due.
SLACK_S = 0.0006

#: Pixels are made square before anything is read, but not those that are within a hundredth, nor of a ratio beyond all formats.
NEARLY_SQUARE, MOST_SQUEEZED = 0.01, 4

#: What a sound codec lets its sound begin before 0; a recording that begins earlier than that really does.
PRIMING_S = 0.2


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are analysed. Times are seconds from the video's beginning.

    from_s, to_s   the part that is analysed; to_s None: to the end
    every_s        at most one frame in so many seconds; 0: every frame
    """

    from_s: float = 0.0
    to_s: float | None = None
    every_s: float = 0.0

    def __post_init__(self) -> None:
        if self.from_s < 0 or self.every_s < 0 or (self.to_s is not None and self.to_s <= self.from_s):
            raise ValueError(f"{self} must have 0 <= from_s < to_s and every_s >= 0")


EVERYTHING = Sampling()


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame. pts and duration count in units of the stream's time base; time_s is pts in seconds.

    image   as it was decoded, where it is upright YUV of the usual kind; else RGB uint8 (H, W, 3)
    """

    index: int
    pts: int
    time_s: float
    duration: int
    image: np.ndarray | Planes

    @property
    def picture(self) -> np.ndarray:
        """RGB uint8 (H, W, 3), upright; of YUV made anew each time."""
        return rgb_of(self.image)


@dataclass(frozen=True)
class _Decoded:
    """A frame as FFmpeg gives it; nominal: how long it is said to last."""

    index: int
    frame: av.VideoFrame
    pts: int
    nominal: int

    def until(self, end: int | None, time_base: Fraction, ratio: Fraction) -> VideoFrame:
        """Upright, of square pixels, and shown until ``end``."""
        duration = self.nominal if end is None else end - self.pts
        if duration * time_base > LONGEST_S:
            duration = min(duration, self.nominal)
        image = (Planes.of(self.frame) if ratio == 1 else None) or upright(self.frame, ratio)
        return VideoFrame(self.index, self.pts, float(self.pts * time_base), max(duration, 1), image)


class VideoSource:
    """A video file or stream, read frame by frame; memory does not grow with its length.

    After the frames are exhausted, ``damage`` says what was wrong with the file: that it broke off before its stated end,
    or that packets could not be decoded. Use as a context manager. Raises MediaError for what is no video.

    path       a file, or the address of a stream
    is_live    a stream without an end: it cannot be read again, and it does not wait
    begins_s   where the analysed part begins, by the stream's own times
    bytes      of the file; None of a stream
    joined     whether its times jump back, so that those of the frames are no longer the file's own; known once they are read
    """

    def __init__(self, path: Path | str, sampling: Sampling = EVERYTHING) -> None:
        self.path, self.sampling = path, sampling
        self._container = open_container(path)
        if not self._container.streams.video:
            self._container.close()
            raise MediaError(_named(path), "holds no pictures (no video stream)", "give a video file", code="no_video")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        self.time_base: Fraction = self._stream.time_base or Fraction(1, 90000)
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._ratio = pixel_ratio(self._stream)
        self.start_s = start_of(self._container)
        self._tag = self._stream.metadata.get("DURATION", "")  # Matroska's: where the stream ends
        self.duration_s = self._stated_duration()
        self.bytes = path.stat().st_size if isinstance(path, Path) else None  # now: it may be gone at the end
        self.is_live = not isinstance(path, Path) and not self._container.duration
        self.begins_s = self.start_s + sampling.from_s
        self.end_s, self._end = 0.0, 0
        self.cut_off = self.joined = False
        self.damage = ""

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    @property
    def analysed_s(self) -> float | None:
        """Seconds of the part that is analysed, where the file says how long it is."""
        ends = [end for end in (self.sampling.to_s, self.duration_s) if end is not None]
        return max(0.0, min(ends) - self.sampling.from_s) if ends else None

    def _stated_duration(self) -> float | None:
        """Seconds from the stream's own start to its stated end, where the file says; else None.

        Matroska says it in a tag of the stream; its container's duration may be that of a longer sound.
        """
        if self._stream.duration is not None:
            return float(self._stream.duration * self.time_base)
        with suppress(ValueError):  # without the tag, or with one that is no time
            hours, minutes, seconds = self._tag.split(":")
            return max(0.0, 3600 * int(hours) + 60 * int(minutes) + float(seconds) - self.start_s)
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / 1_000_000 - self.start_s
        return None

    def frames(self, skip: int = 0, passed: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Upright frames in order, with strictly rising times, as ``sampling`` chooses them, without the first ``skip``.

        A frame without a time gets the next one due. Where the times jump back by more than a second, as in recordings
        that were joined end to end, they go on from where they were; a frame just before its predecessor is dropped.
        What is not yielded is decoded all the same, so that numbers and times are those of the whole video; ``passed`` is
        called for each that is skipped.

        A frame lasts until the next one that is chosen, since many files say nothing of durations or a nominal one; so
        each is held back until that comes. Of a live stream none is: its frames last as long as they are said to.
        """
        held = None
        for number, chosen in enumerate(self._chosen()):
            if self.is_live:
                yield chosen.until(None, self.time_base, self._ratio)
                continue
            if held is not None and number > skip:
                yield held.until(chosen.pts, self.time_base, self._ratio)
            elif held is not None:
                passed()
            held = chosen
        if held is not None and number >= skip:
            yield held.until(self._end, self.time_base, self._ratio)

    def _chosen(self) -> Iterator[_Decoded]:
        """What ``sampling`` chooses."""
        due_s, every_s, to_s = self.begins_s, self.sampling.every_s, self.sampling.to_s
        stops_s = float("inf") if to_s is None else self.start_s + to_s
        for index, (frame, pts, duration) in enumerate(self._timed()):
            time_s = float(pts * self.time_base)
            if time_s >= stops_s - 1e-9:
                self._end = min(pts, round(stops_s / self.time_base))
                return
            if time_s < due_s - SLACK_S:
                continue
            if every_s:
                due_s += (int((time_s - due_s) / every_s + 1e-6) + 1) * every_s
                duration = max(duration, round(every_s / self.time_base))
            yield _Decoded(index, frame, pts, duration)

    def _timed(self) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Every decoded frame with its pts, mended where needed, and its duration."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        second = round(1 / self.time_base)
        seen, shift, first, last, end = 0, 0, None, None, None
        for frame in whole(self._decoded(), self.time_base):
            seen += 1
            pts = frame.pts + shift if frame.pts is not None else (0 if end is None else end)
            if last is not None and pts < last - second:
                shift += end - pts
                pts = end
                self.joined = True
            if last is not None and pts <= last:
                continue
            duration = frame.duration or step
            first, last, end = (pts if first is None else first), pts, pts + duration
            self._end, self.end_s = end, float(end * self.time_base)
            yield frame, pts, duration
        if end is None:
            raise MediaError(
                _named(self.path), "holds no frame that can be decoded", "copy or export it again", code="no_frames"
            )
        if self._tag:  # the pictures may begin later than the sound
            first = min(first, round(self.start_s / self.time_base))
        self._compare_length(float((end - first) * self.time_base), seen)

    def _compare_length(self, seconds: float, frames: int) -> None:
        """Both are of what was decoded. FFmpeg guesses the length of an .avi from its size, but not its frames."""
        stated = self._stream.frames if self._container.format.name == "avi" else 0
        if stated - frames > max(3, stated // 50):
            self.cut_off, self.damage = True, f"the file ends after {frames:,} of the {stated:,} frames it states"
        elif self.duration_s and self.duration_s - seconds > max(0.5, 3 / float(self.rate)):
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
            damaged = packet.is_corrupt and not self.is_live  # a stream is joined in the middle of something
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                damaged = True
            broken += damaged
        if broken:
            self.damage = f"{broken:,} damaged packet{'s were' if broken > 1 else ' was'} passed over"


def open_video(path: Path | str, sampling: Sampling = EVERYTHING) -> VideoSource | CameraSource | AnimationSource:
    """A file, an animated picture, a stream's address or ``camera:0``, to be read frame by frame."""
    if isinstance(path, str) and path.lower().startswith("camera:"):
        return CameraSource(path, sampling)
    if isinstance(path, Path) and is_animation(path):
        from mien.run.animation import AnimationSource

        return AnimationSource(path, sampling)
    return VideoSource(path, sampling)


class CameraSource:
    """A camera of this machine, by OpenCV. Its times are those of the clock, from its first frame on.

    It has what VideoSource has; it is always live. Raises MediaError where there is no such camera.
    """

    is_live = True
    cut_off = False
    bytes = duration_s = None
    joined = False
    start_s = 0.0
    damage = ""
    time_base = Fraction(1, 1_000_000)

    def __init__(self, path: str, sampling: Sampling = EVERYTHING) -> None:
        self.path, self.sampling, self.begins_s, self.end_s = path, sampling, sampling.from_s, 0.0
        self._camera = _camera(int(path.partition(":")[2]))
        if not self._camera.isOpened():
            raise MediaError(path, "is not there, or another program uses it", "connect it, or try camera:1")
        stated = self._camera.get(cv2.CAP_PROP_FPS)
        self.rate = Fraction(stated).limit_denominator(1001) if 1 <= stated <= 1000 else Fraction(30)

    def __enter__(self) -> CameraSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._camera.release()

    @property
    def analysed_s(self) -> float | None:
        return None if self.sampling.to_s is None else self.sampling.to_s - self.sampling.from_s

    def frames(self, skip: int = 0, passed: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """RGB frames as they come, as ``sampling`` chooses them, until the camera is gone or ``to_s`` is reached; none can
        be skipped."""
        began, index, due_s = 0.0, 0, self.sampling.from_s
        step = max(self.sampling.every_s, float(1 / self.rate))
        while True:
            there, picture = self._camera.read()
            if not index:  # a camera may take seconds to its first picture
                began = time.monotonic()
            time_s = time.monotonic() - began if index else 0.0
            if not there or (self.sampling.to_s is not None and time_s >= self.sampling.to_s):
                return
            if time_s >= due_s - SLACK_S:
                if every_s := self.sampling.every_s:
                    due_s += (int((time_s - due_s) / every_s + 1e-6) + 1) * every_s
                self.end_s = time_s + step
                pts = round(time_s / self.time_base)
                yield VideoFrame(
                    index, pts, time_s, round(step / self.time_base), cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                )
            index += 1


def _camera(number: int) -> cv2.VideoCapture:
    """OpenCV's, without what it prints where there is none."""
    before = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(number)
    finally:
        cv2.utils.logging.setLogLevel(before)


def pixel_ratio(stream: av.VideoStream) -> Fraction:
    """Width of a stored pixel over its height; 1 where they are square, nearly so, or it says what cannot be."""
    ratio = stream.sample_aspect_ratio
    if not ratio or not 1 / MOST_SQUEEZED <= ratio <= MOST_SQUEEZED or abs(ratio - 1) < NEARLY_SQUARE:
        return Fraction(1)
    return ratio


def upright(frame: av.VideoFrame, ratio: Fraction = Fraction(1)) -> np.ndarray:
    """A decoded frame as RGB uint8 (H, W, 3) for an ordinary screen, turned and mirrored as its file says, and as wide as its
    pixels' ratio makes it."""
    width = frame.width if ratio == 1 else max(1, round(frame.width * ratio))
    picture, (a, b, c, d) = frame.to_ndarray(format="rgb24", width=width), placing(frame)
    if is_hdr(frame.color_trc):
        picture = to_sdr(picture, frame.color_trc, frame.color_primaries)
    across, down = a, d
    if not a:
        picture, across, down = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: down or 1, :: across or 1])


def start_of(container: av.container.InputContainer) -> float:
    """Seconds at which a file's own times begin; before 0 where a counter went round, as in broadcasts."""
    begins_s = (container.start_time or 0) / 1_000_000
    return begins_s if begins_s < -PRIMING_S else max(0.0, begins_s)


def open_container(path: Path | str) -> av.container.InputContainer:
    """A video file, or the address of a stream, opened by PyAV; or a MediaError that names it."""
    import av

    if isinstance(path, str):
        try:
            return av.open(path, timeout=STREAM_TIMEOUT_S, metadata_errors=TITLES)
        except (av.error.FFmpegError, OSError) as error:
            cure = "check the address, and that it can be reached"
            raise MediaError(_named(path), f"is not a stream that can be read ({error.strerror})", cure) from error
    if fault := fault_of(path, "a video"):
        raise MediaError(path, *fault)
    try:
        container = av.open(local_url(path), metadata_errors=TITLES)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            path, f"is not a video that can be read ({error.strerror})", "copy or export it again", code="not_a_video"
        ) from error
    if is_no_film(container, path):
        container.close()
        raise MediaError(path, "is neither a picture nor a video", "name one", code="not_a_video")
    return container


def is_no_film(container: av.container.InputContainer, path: Path) -> bool:
    """Whether FFmpeg makes pictures of what is none: it types out texts, and finds JPEGs in archives and documents."""
    kind = container.format.name
    if kind == "mjpeg":  # JPEG after JPEG, and nothing before the first
        with path.open("rb") as file:
            return file.read(2) != b"\xff\xd8"
    return kind == "tty" or kind.endswith("_pipe")


def _named(path: Path | str) -> Path | str:
    """As an error may name it: an address may carry a password."""
    return without_password(path) if isinstance(path, str) else path


def local_url(path: Path) -> str:
    """The path as FFmpeg takes it: a name such as ``10:20.mkv`` would else be read as a protocol."""
    return f"file:{path}"
