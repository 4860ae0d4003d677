"""A video, camera or stream → upright frames of square pixels with their own times."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from mien.analysis.media.container import (
    LARGE_PIXELS,
    MAX_FRAME_PIXELS,
    STREAM_TIMEOUT_S,
    check_frame_size,
    container_start_s,
    is_picture_format,
    open_container,
    pixel_aspect_ratio,
    printable_source,
    select_video_stream,
)
from mien.analysis.media.deinterlace import deinterlace_frames
from mien.analysis.media.orientation import find_orientation
from mien.analysis.media.packets import PacketReader
from mien.analysis.media.timestamps import TICK_S, Timestamps
from mien.analysis.media.tone_mapping import is_hdr, map_to_sdr
from mien.analysis.media.yuv import YuvImage, image_to_rgb
from mien.core.errors import MediaError
from mien.core.pictures import is_animation

if TYPE_CHECKING:
    import av

    from mien.analysis.media.animation import AnimationSource
    from mien.analysis.media.camera import CameraSource

#: A live source that shows the same frame for longer has stopped meanwhile.
MAX_FRAME_S = STREAM_TIMEOUT_S

#: Matroska rounds times to milliseconds: a frame that is early by less is due.
TIME_TOLERANCE_S = 0.0006


class PictureInsteadOfVideo(MediaError):
    """An address at which a single picture is, not a video. ``content``: the picture file's bytes."""

    def __init__(self, path: Path | str, content: bytes) -> None:
        super().__init__(
            printable_source(path), "is a picture, not a video", "name a video; 'mien analyze' reads pictures"
        )
        self.content = content


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are analyzed. Times are seconds from the video's beginning.

    from_s, to_s   the part that is analyzed; to_s None: to the end
    every_s        at most one frame in so many seconds; 0: every frame
    """

    from_s: float = 0.0
    to_s: float | None = None
    every_s: float = 0.0

    def __post_init__(self) -> None:
        if self.from_s < 0 or self.every_s < 0 or (self.to_s is not None and self.to_s <= self.from_s):
            raise ValueError(f"{self} must have 0 <= from_s < to_s and every_s >= 0")


ALL_FRAMES = Sampling()


@dataclass(frozen=True)
class VideoFrame:
    """One decoded frame. pts and duration count in units of the stream's time base; time_s is pts in seconds.

    image   as it was decoded, where it is upright YUV of the usual kind; else RGB uint8 (H, W, 3)
    """

    index: int
    pts: int
    time_s: float
    duration: int
    image: np.ndarray | YuvImage

    @property
    def picture(self) -> np.ndarray:
        """RGB uint8 (H, W, 3), upright; of YUV made anew each time."""
        return image_to_rgb(self.image)


@dataclass(frozen=True)
class _DecodedFrame:
    """A frame as FFmpeg gives it.

    nominal   how long it is said to last
    is_late   whether frames are missing just before it
    """

    index: int
    frame: av.VideoFrame
    pts: int
    nominal_duration: int
    follows_gap: bool

    def to_video_frame(self, end: int | None, time_base: Fraction, ratio: Fraction) -> VideoFrame:
        """Upright, of square pixels, and shown until ``end``; None: as long as it is said to last."""
        duration = self.nominal_duration if end is None else end - self.pts
        image = (YuvImage.from_frame(self.frame) if ratio == 1 else None) or to_upright_rgb(self.frame, ratio)
        return VideoFrame(self.index, self.pts, float(self.pts * time_base), max(duration, 1), image)


class VideoSource:
    """A video file or stream, read frame by frame; memory does not grow with its length.

    After the frames are exhausted, ``damage`` says what was wrong with the file: that it broke off before its stated end,
    that packets could not be decoded, or that pictures are missing. Use as a context manager. Raises MediaError for what is
    no video, and for frames of more than ``max_pixels``.

    path       a file, or the address of a stream
    is_live    a stream that comes at a clock's pace: it cannot be read again, and it does not wait
    is_large   whether its frames are so large that only few are to be held in memory
    has_sound  whether there is sound beside the pictures
    start_s    where the video begins, by the stream's own times: what a player shows as 0:00
    begins_s   where the analyzed part begins, by the stream's own times
    bytes      of the file; None of a stream
    joined     whether the frames' times are not the file's own, since those jump back or are missing; known once they are read
    """

    def __init__(self, path: Path | str, sampling: Sampling = ALL_FRAMES, max_pixels: int = MAX_FRAME_PIXELS) -> None:
        self.path, self.sampling, self._max_pixels = path, sampling, max_pixels
        opening = time.monotonic()
        self._container = open_container(path)
        try:
            self._stream = select_video_stream(self._container, path, max_pixels)
            self._packets = PacketReader(self._container, self._stream, path, time.monotonic() - opening)
            self._refuse_picture()
        except BaseException:
            self._container.close()
            raise
        self.has_large_frames = self._stream.width * self._stream.height > LARGE_PIXELS
        self._stream.thread_type = "SLICE" if self.has_large_frames else "AUTO"  # by frames, each thread would hold one
        self._times = Timestamps(
            self._stream, self._container.format.name, uses_arrival_times=self._packets.uses_arrival_times
        )
        self.time_base = self._times.time_base
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._ratio = pixel_aspect_ratio(self._stream)
        self.start_s = 0.0 if self._packets.uses_arrival_times else container_start_s(self._container)
        self._tag = self._stream.metadata.get("DURATION", "")  # Matroska's: where the stream ends
        self.duration_s = self._stated_duration()
        self.size_bytes = path.stat().st_size if isinstance(path, Path) else None  # now: it may be gone at the end
        self.has_sound = bool(self._container.streams.audio)
        self.analysis_start_s = self.start_s + sampling.from_s
        self.end_s, self._end = 0.0, 0
        self.is_cut_off = self.has_rebuilt_times = False
        self.damage = ""

    def __enter__(self) -> VideoSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _refuse_picture(self) -> None:
        if isinstance(self.path, str) and is_picture_format(self._container):
            content = self._packets.read_single_picture()
            if content is not None:
                raise PictureInsteadOfVideo(self.path, content)

    @property
    def is_live(self) -> bool:
        return self._packets.is_live

    @property
    def analyzed_s(self) -> float | None:
        """Seconds of the part that is analyzed, where the file says how long it is."""
        ends = [end for end in (self.sampling.to_s, self.duration_s) if end is not None]
        return max(0.0, min(ends) - self.sampling.from_s) if ends else None

    def _stated_duration(self) -> float | None:
        """Seconds from the stream's own start to its stated end, where the file says; else None.

        Matroska says it in a tag of the stream; its container's duration may be that of a longer sound.
        """
        if self._stream.duration is not None:
            return float(self._stream.duration * cast(Fraction, self._stream.time_base))
        with suppress(ValueError):  # without the tag, or with one that is no time
            hours, minutes, seconds = self._tag.split(":")
            return max(0.0, 3600 * int(hours) + 60 * int(minutes) + float(seconds) - self.start_s)
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / 1_000_000 - self.start_s
        return None

    def frames(self, skip: int = 0, passed: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Upright frames in order, with strictly rising times, as ``sampling`` chooses them, without the first ``skip``.

        Every frame that is decoded counts. One without a time gets the next one due, and one that is no later than its
        predecessor comes a moment after it. Where the times jump back by more than a second, as in recordings that were
        joined end to end, they go on from where they were. What is not yielded is decoded all the same, so that numbers and
        times are those of the whole video; ``passed`` is called for each that is skipped.

        A frame lasts until the next one that is chosen, since many files say nothing of durations or a nominal one; so
        each is held back until that comes. Of a live stream none is: its frames last as long as they are said to. So does
        a frame after which others are missing.
        """
        held = None
        for number, chosen in enumerate(self._sampled_frames()):
            if self.is_live:
                yield chosen.to_video_frame(None, self.time_base, self._ratio)
                continue
            if held is not None and number > skip:
                end = min(chosen.pts, held.pts + held.nominal_duration) if chosen.follows_gap else chosen.pts
                yield held.to_video_frame(end, self.time_base, self._ratio)
            elif held is not None:
                passed()
            held = chosen
        if held is not None and number >= skip:
            yield held.to_video_frame(self._end, self.time_base, self._ratio)

    def _sampled_frames(self) -> Iterator[_DecodedFrame]:
        """What ``sampling`` chooses."""
        due_s, every_s, to_s = self.analysis_start_s, self.sampling.every_s, self.sampling.to_s
        stops_s = float("inf") if to_s is None else self.start_s + to_s
        gaps = 0
        for index, (frame, pts, duration) in enumerate(self._timed_frames()):
            time_s = float(pts * self.time_base)
            if time_s >= stops_s - 1e-9:
                self._end = min(pts, round(stops_s / self.time_base))
                return
            if time_s < due_s - TIME_TOLERANCE_S:
                continue
            if every_s:
                due_s += (int((time_s - due_s) / every_s + 1e-6) + 1) * every_s
                duration = max(duration, round(every_s / self.time_base))
            behind = sum(end_s <= time_s + TIME_TOLERANCE_S for _, end_s in self._packets.gaps)
            yield _DecodedFrame(index, frame, pts, duration, follows_gap=behind > gaps)
            gaps = behind

    def _timed_frames(self) -> Iterator[tuple[av.VideoFrame, int, int]]:
        """Every decoded frame with its pts, mended where needed, and its duration."""
        first, seen = None, 0
        for frame in deinterlace_frames(self._stamped_frames(), self.time_base):
            seen += 1
            pts = cast(int, frame.pts)
            first = pts if first is None else first
            self._end = pts + frame.duration
            self.end_s = float(self._end * self.time_base)
            yield frame, pts, frame.duration
        if first is None:
            raise MediaError(
                printable_source(self.path),
                "holds no frame that can be decoded",
                "copy or export it again",
                code="no_frames",
            )
        if self._tag:  # the pictures may begin later than the sound
            first = min(first, round(self.start_s / self.time_base))
        elif (
            self._stream.start_time is not None
        ):  # a broadcast that was joined in the middle: what comes first cannot be decoded
            first = min(first, round(self._stream.start_time * cast(Fraction, self._stream.time_base) / self.time_base))
        if not self.is_live:
            self._check_length(float((self._end - first) * self.time_base), seen)

    def _stamped_frames(self) -> Iterator[av.VideoFrame]:
        """Every decoded frame; its pts, duration and time base are ours."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        least, second = max(1, round(TICK_S / self.time_base)), round(1 / self.time_base)
        shift = gap = end = 0
        last: int | None = None
        for frame in self._decoded_frames():
            pts, duration = self._times.frame_pts(frame), self._times.frame_duration(frame) or step
            if pts is None:  # due: as long after the one before as that came after its own
                pts = 0 if last is None else max(end, last + gap) - shift
            pts += shift
            if last is not None and pts < last - second:
                shift += end - pts
                pts, self.has_rebuilt_times = end, True
            if last is not None and pts <= last:
                pts, self.has_rebuilt_times = last + least, True
            self.has_rebuilt_times |= not self._times.are_from_file
            gap = 0 if last is None else pts - last
            last, end = pts, pts + duration
            frame.pts, frame.duration, frame.time_base = pts, duration, self.time_base
            yield frame

    def _check_length(self, seconds: float, frames: int) -> None:
        """Both are of what was decoded. FFmpeg guesses the length of an .avi from its size, but not its frames; of a frame
        that is shown for longer these count every one that it stands for."""
        stated = self._stream.frames if self._container.format.name == "avi" else 0
        there = max(frames, round(seconds * self.rate))
        if stated - there > max(3, stated // 50):
            self._mark_cut_off(f"the file ends after {there:,} of the {stated:,} frames it states")
        elif not stated and self.duration_s and self.duration_s - seconds > max(0.5, 3 / float(self.rate)):
            self._mark_cut_off(f"the file ends after {seconds:.2f} s of the {self.duration_s:.2f} s it states")

    def _mark_cut_off(self, damage: str) -> None:
        self.is_cut_off = True
        self._add_damage(damage)

    def _add_damage(self, damage: str) -> None:
        self.damage = f"{self.damage}; {damage}" if self.damage else damage

    def _decoded_frames(self) -> Iterator[av.VideoFrame]:
        """Frames as they are decoded. Packets that do not decode are passed over and counted; so is what follows a
        point where the file itself cannot be read. Where an address does not say how much there is, that is its end."""
        import av

        broken, flawed = 0, 0
        for packet in self._packets:
            self._times.add_packet(packet)
            damaged = packet.is_corrupt and not self.is_live  # a stream is joined in the middle of something
            try:
                for frame in packet.decode():
                    check_frame_size(frame.width, frame.height, self.path, self._max_pixels)
                    flawed += frame.is_corrupt
                    yield frame
            except av.error.FFmpegError:
                damaged = True
            broken += damaged
        error = self._packets.error
        if error is not None and (isinstance(self.path, Path) or self._container.size > 0):
            self._mark_cut_off(f"the file cannot be read after {self.end_s:.2f} s ({error.strerror})")
        self._report_damage(broken, flawed)

    def _report_damage(self, broken: int, flawed: int) -> None:
        """Packets that did not decode, frames that did with errors, and pictures that never came."""
        if self.is_live:
            return
        if broken:
            self._add_damage(f"{broken:,} damaged packet{'s were' if broken > 1 else ' was'} passed over")
        elif flawed:
            self._add_damage(f"{flawed:,} frame{'s are' if flawed > 1 else ' is'} damaged")
        if gaps := self._packets.gaps:
            missing_s = sum(end_s - start_s for start_s, end_s in gaps)
            where = ", ".join(f"{start_s - self.start_s:.2f} s" for start_s, _ in gaps[:5])
            more = f" and {len(gaps) - 5:,} other places" if len(gaps) > 5 else ""
            self._add_damage(
                f"{missing_s:.2f} s of pictures are missing from {where}{more} on, where the file is damaged"
            )


def open_video(
    path: Path | str, sampling: Sampling = ALL_FRAMES, max_pixels: int = MAX_FRAME_PIXELS
) -> VideoSource | CameraSource | AnimationSource:
    """A file, an animated picture, a stream's address or ``camera:0``, to be read frame by frame."""
    from mien.analysis.media.animation import AnimationSource
    from mien.analysis.media.camera import CameraSource

    if isinstance(path, str) and path.lower().startswith("camera:"):
        return CameraSource(path, sampling)
    if isinstance(path, Path) and is_animation(path):
        return AnimationSource(path, sampling, max_pixels)
    return VideoSource(path, sampling, max_pixels)


def to_upright_rgb(frame: av.VideoFrame, ratio: Fraction = Fraction(1)) -> np.ndarray:
    """A decoded frame as RGB uint8 (H, W, 3) for an ordinary screen, turned and mirrored as its file says, and as wide as its
    pixels' ratio makes it."""
    width = frame.width if ratio == 1 else max(1, round(frame.width * ratio))
    picture, (a, b, c, d) = frame.to_ndarray(format="rgb24", width=width), find_orientation(frame)
    if is_hdr(frame.color_trc):
        picture = map_to_sdr(picture, frame.color_trc, frame.color_primaries)
    across, down = a, d
    if not a:
        picture, across, down = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: down or 1, :: across or 1])
