"""Read videos and streams as upright frames with square pixels and their presentation times."""

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

if TYPE_CHECKING:
    import av


#: Maximum duration of a frame of a live source; a longer gap means that the source paused.
MAX_FRAME_S = STREAM_TIMEOUT_S

#: Tolerance when frames are sampled, since Matroska rounds times to milliseconds.
TIME_TOLERANCE_S = 0.0006


class PictureInsteadOfVideo(MediaError):
    """The address leads to a single picture. ``content`` holds the bytes of the picture file."""

    def __init__(self, path: Path | str, content: bytes) -> None:
        super().__init__(printable_source(path), "is a picture, not a video", "give the address of a video")
        self.content = content


@dataclass(frozen=True)
class Sampling:
    """Which frames of a video are analyzed, in seconds from its start.

    from_s, to_s   start and end of the analyzed part; to_s None: the end of the video
    every_s        minimum time between analyzed frames; 0: every frame

    Raises ValueError for negative times or an empty part.
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
    """One decoded frame.

    index           position among all frames of the video
    pts, duration   presentation time and duration, in units of the source's time base
    time_s          pts in seconds
    image           a YUV image if the frame is upright 8-bit YUV 4:2:0, else RGB uint8 (H, W, 3)
    """

    index: int
    pts: int
    time_s: float
    duration: int
    image: np.ndarray | YuvImage

    @property
    def picture(self) -> np.ndarray:
        """The frame as RGB uint8 (H, W, 3); YUV is converted on each call."""
        return image_to_rgb(self.image)


@dataclass(frozen=True)
class _DecodedFrame:
    """A frame as FFmpeg decodes it.

    nominal_duration  stated duration in units of the time base
    follows_gap       whether frames are missing just before it
    """

    index: int
    frame: av.VideoFrame
    pts: int
    nominal_duration: int
    follows_gap: bool

    def to_video_frame(self, end: int | None, time_base: Fraction, ratio: Fraction) -> VideoFrame:
        """Return the upright frame with square pixels that ends at ``end``; None: after its stated duration."""
        duration = self.nominal_duration if end is None else end - self.pts
        image = (YuvImage.from_frame(self.frame) if ratio == 1 else None) or to_upright_rgb(self.frame, ratio)
        return VideoFrame(self.index, self.pts, float(self.pts * time_base), max(duration, 1), image)


class VideoSource:
    """Read a video file or stream frame by frame, in memory that does not grow with its length. A context manager.

    After the last frame, ``damage`` describes what was wrong: a file that ends early, packets that could not be decoded, or
    missing pictures. Raises MediaError for a file that is no video, and for frames of more than ``max_pixels`` pixels.

    path               a file, or the address of a stream
    is_live            whether a stream delivers in real time: it cannot be read again, and it does not wait
    has_large_frames   whether the frames are so large that only few are held in memory
    has_sound          whether there is an audio stream
    start_s            start of the video by its time stamps: what a player shows as 0:00
    analysis_start_s   start of the analyzed part by the video's time stamps
    size_bytes         size of the file; None for a stream
    is_cut_off         whether the file ends early
    has_rebuilt_times  whether some frame times are not the file's own, since those decrease or are missing; known at the end
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
        self._stream.thread_type = (
            "SLICE" if self.has_large_frames else "AUTO"
        )  # with frame threads, each thread holds a frame
        self._times = Timestamps(
            self._stream, self._container.format.name, uses_arrival_times=self._packets.uses_arrival_times
        )
        self.time_base = self._times.time_base
        self.rate: Fraction = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        self._ratio = pixel_aspect_ratio(self._stream)
        self.start_s = 0.0 if self._packets.uses_arrival_times else container_start_s(self._container)
        self._tag = self._stream.metadata.get("DURATION", "")  # Matroska's tag: the end of the stream
        self.duration_s = self._stated_duration()
        self.size_bytes = (
            path.stat().st_size if isinstance(path, Path) else None
        )  # now, since the file may be removed later
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
        """Duration of the analyzed part in seconds; None if it is unknown."""
        ends = [end for end in (self.sampling.to_s, self.duration_s) if end is not None]
        return max(0.0, min(ends) - self.sampling.from_s) if ends else None

    def _stated_duration(self) -> float | None:
        """Return the seconds from the start of the stream to its stated end; None if it is unknown.

        Matroska states it in a tag of the stream, since the container's duration may be that of a longer audio stream.
        """
        if self._stream.duration is not None:
            return float(self._stream.duration * cast(Fraction, self._stream.time_base))
        with suppress(ValueError):  # no tag, or an invalid one
            hours, minutes, seconds = self._tag.split(":")
            return max(0.0, 3600 * int(hours) + 60 * int(minutes) + float(seconds) - self.start_s)
        if self._container.duration and len(self._container.streams) == 1:
            return self._container.duration / 1_000_000 - self.start_s
        return None

    def frames(self, skip: int = 0, on_skipped: Callable[[], None] = lambda: None) -> Iterator[VideoFrame]:
        """Yield the upright frames that ``sampling`` selects, with strictly increasing times, without the first ``skip``.

        ``on_skipped`` is called for each skipped frame. Skipped frames are decoded, so that indices and times are those of
        the whole video. A frame without a time follows its predecessor. A frame that is not later than its predecessor
        comes a tick after it. If times jump back by more than a second, as in concatenated recordings, they continue from
        the last one.

        A frame lasts until the next selected frame, since many files state no or a nominal duration; so each frame is held
        until the next one is decoded. Frames of a live stream are not held and have their stated duration, as has a frame
        before a gap.
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
                on_skipped()
            held = chosen
        if held is not None and number >= skip:
            yield held.to_video_frame(self._end, self.time_base, self._ratio)

    def _sampled_frames(self) -> Iterator[_DecodedFrame]:
        """Yield the frames that ``sampling`` selects."""
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
        """Yield (frame, pts, duration) of every decoded frame; then compare the length with the stated one."""
        first, count = None, 0
        for frame in deinterlace_frames(self._stamped_frames(), self.time_base):
            count += 1
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
        if self._tag:  # the video may start after the sound
            first = min(first, round(self.start_s / self.time_base))
        elif (
            self._stream.start_time is not None
        ):  # the first frames of a broadcast that was recorded from the middle cannot be decoded
            first = min(first, round(self._stream.start_time * cast(Fraction, self._stream.time_base) / self.time_base))
        if not self.is_live:
            self._check_length(float((self._end - first) * self.time_base), count)

    def _stamped_frames(self) -> Iterator[av.VideoFrame]:
        """Yield every decoded frame with a corrected pts, duration and time base."""
        step = max(1, round(1 / (self.rate * self.time_base)))
        least, second = max(1, round(TICK_S / self.time_base)), round(1 / self.time_base)
        shift = gap = end = 0
        last: int | None = None
        for frame in self._decoded_frames():
            pts, duration = self._times.frame_pts(frame), self._times.frame_duration(frame) or step
            if pts is None:  # as long after the last frame as that came after its predecessor
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
        """Compare the decoded ``seconds`` and ``frames`` with the stated ones, and set ``damage`` if too few were decoded.

        FFmpeg guesses the duration of an .avi from its size, but knows the number of its frames. That counts a frame of
        longer duration several times.
        """
        stated = self._stream.frames if self._container.format.name == "avi" else 0
        decoded = max(frames, round(seconds * self.rate))
        if stated - decoded > max(3, stated // 50):
            self._mark_cut_off(f"the file ends after {decoded:,} of the {stated:,} frames it states")
        elif not stated and self.duration_s and self.duration_s - seconds > max(0.5, 3 / float(self.rate)):
            self._mark_cut_off(f"the file ends after {seconds:.2f} s of the {self.duration_s:.2f} s it states")

    def _mark_cut_off(self, damage: str) -> None:
        """Record that the file ends early."""
        self.is_cut_off = True
        self._add_damage(damage)

    def _add_damage(self, damage: str) -> None:
        """Append to the description of the damage."""
        self.damage = f"{self.damage}; {damage}" if self.damage else damage

    def _decoded_frames(self) -> Iterator[av.VideoFrame]:
        """Yield decoded frames. Packets that cannot be decoded are skipped and counted.

        A file that cannot be read further is cut off; a stream of unknown size simply ends.
        """
        import av

        broken, flawed = 0, 0
        for packet in self._packets:
            self._times.add_packet(packet)
            damaged = packet.is_corrupt and not self.is_live  # a stream starts in the middle of a picture
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
        """Describe packets that were not decoded, frames with errors, and missing pictures."""
        if self.is_live:
            return
        if broken:
            self._add_damage(f"{broken:,} damaged packet{'s were' if broken > 1 else ' was'} skipped")
        elif flawed:
            self._add_damage(f"{flawed:,} frame{'s are' if flawed > 1 else ' is'} damaged")
        if gaps := self._packets.gaps:
            missing_s = sum(end_s - start_s for start_s, end_s in gaps)
            where = ", ".join(f"{start_s - self.start_s:.2f} s" for start_s, _ in gaps[:5])
            more = f" and {len(gaps) - 5:,} other places" if len(gaps) > 5 else ""
            self._add_damage(
                f"{missing_s:.2f} s of pictures are missing from {where}{more} on, where the file is damaged"
            )


def to_upright_rgb(frame: av.VideoFrame, ratio: Fraction = Fraction(1)) -> np.ndarray:
    """Convert a decoded frame to RGB uint8 (H, W, 3) of standard dynamic range, upright and with square pixels.

    ratio   width / height of a stored pixel
    """
    width = frame.width if ratio == 1 else max(1, round(frame.width * ratio))
    picture, (a, b, c, d) = frame.to_ndarray(format="rgb24", width=width), find_orientation(frame)
    if is_hdr(frame.color_trc):
        picture = map_to_sdr(picture, frame.color_trc, frame.color_primaries)
    across, down = a, d
    if not a:
        picture, across, down = picture.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(picture[:: down or 1, :: across or 1])
