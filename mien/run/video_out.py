"""Annotated video: H.264 with the times of the frames it is made from, and the sound of the original."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorRange, Colorspace

from mien.core.files import replacing
from mien.run.sources import VideoFrame, VideoSource, local_url, open_container

#: Sound that an .mp4 can hold as it is; anything else is encoded again, as AAC.
COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})

#: Arrangements of channels that the AAC encoder takes; others are mixed to one of the first two.
AAC_LAYOUTS = frozenset({"mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"})

#: x264's quality: 18 is hardly told from the original, 23 is its default.
QUALITY = {"crf": "20", "preset": "veryfast"}
#: The index goes to the front, so that a browser plays the file while it loads.
FAST_START = {"movflags": "+faststart"}
#: ITU-R BT.709 for matrix, primaries and transfer, in FFmpeg's numbers: what players assume of H.264.
BT709 = 1


@contextmanager
def video_writer(path: Path, source: VideoSource) -> Iterator[VideoWriter]:
    """Write an .mp4 frame by frame; it appears under its name when the block ends without an error."""
    with replacing(path) as part, open_container(source.path) as sound:  # noqa: SIM117 - the container closes first
        with av.open(local_url(part), "w", format="mp4", options=FAST_START) as out:
            writer = VideoWriter(out, source, sound)
            yield writer
            writer.finish()


class VideoWriter:
    """Encodes frames at the presentation times of the source, whatever its frame rate does.

    A source that does not begin at 0 is moved there. The sound is read from the source a second time, alongside, so that
    nothing is gathered in memory; ``sound_lost`` says why, if it could not be kept.
    """

    def __init__(self, container: OutputContainer, source: VideoSource, sound: InputContainer) -> None:
        self._container, self._source, self._sound_input = container, source, sound
        self._shift = -round(source.start_s / source.time_base)
        self._video: Any = None  # opened with the first frame, which tells the size
        self._sound: _Sound | None = None
        self._durations: dict[int, int] = {}  # pts → duration of the frames inside the encoder

    @property
    def sound_lost(self) -> str:
        return self._sound.lost if self._sound is not None else ""

    def write(self, frame: VideoFrame, picture: np.ndarray) -> None:
        """Add RGB uint8 (H, W, 3), shown when ``frame`` was. Odd sides get one more pixel: H.264 needs even ones."""
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._video is None:
            self._open(picture.shape[1], picture.shape[0])
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        image = image.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        image.pts, image.time_base = frame.pts + self._shift, self._source.time_base
        self._durations[image.pts] = frame.duration
        self._mux(self._video.encode(image))
        self._sound.copy_until(frame.time_s)

    def finish(self) -> None:
        """Empty the encoder and pass on the rest of the sound; of a file that breaks off, up to its last frame."""
        if self._video is not None:
            self._mux(self._video.encode(None))
            self._sound.copy_until(self._source.end_s if self._source.cut_off else float("inf"))
            self._sound.finish()

    def _open(self, width: int, height: int) -> None:
        self._video = self._container.add_stream("libx264", rate=_sane(self._source.rate), options=QUALITY)
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        encoder = self._video.codec_context
        encoder.time_base = self._video.time_base = self._source.time_base
        encoder.colorspace = encoder.color_primaries = encoder.color_trc = BT709
        encoder.color_range = ColorRange.MPEG
        ratio = self._source.sample_aspect_ratio
        if ratio:
            encoder.sample_aspect_ratio = 1 / ratio if self._source.turned else ratio
        self._sound = _Sound(self._sound_input, self._container, self._source.start_s)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)


def _sane(rate: Fraction) -> Fraction:
    """A rate that the encoder accepts; it is a hint only, the times of the frames count."""
    return rate.limit_denominator(1001 * 60) if 0 < rate <= 1000 else Fraction(25)


class _Sound:
    """The first audio stream of a file, passed on packet by packet, or encoded again, up to a given time."""

    def __init__(self, source: InputContainer, container: OutputContainer, start_s: float) -> None:
        self.lost = ""
        self._container, self._start_s = container, start_s
        self._next: Any = None
        self._end: int | None = None  # where the last packet or frame ended, in its own time base
        self._jumped = 0  # what was added to times that jumped back
        self._parts: Iterator[Any] = iter(())
        self._output: Any = None
        self._encodes = False
        if source.streams.audio:
            stream = source.streams.audio[0]
            with self._losing_only_the_sound():
                self._begin(source, stream)
        self._advance()

    def _begin(self, source: InputContainer, stream: Any) -> None:
        if stream.codec_context.codec.canonical_name in COPIED_SOUND:
            self._output = self._container.add_stream_from_template(stream)
            self._parts = (packet for packet in source.demux(stream) if packet.dts is not None)
            return
        wanted = stream.rate or 48_000
        rate = min(av.codec.Codec("aac", "w").audio_rates, key=lambda known: abs(known - wanted))
        layout = (
            stream.layout.name if stream.layout.name in AAC_LAYOUTS else "mono" if stream.channels == 1 else "stereo"
        )
        self._output = self._container.add_stream("aac", rate=rate, layout=layout)
        self._parts = source.decode(stream)
        self._encodes = True

    @contextmanager
    def _losing_only_the_sound(self) -> Iterator[None]:
        """What FFmpeg cannot do with the sound ends the sound, not the video."""
        try:
            yield
        except (av.error.FFmpegError, ValueError) as error:
            self.lost = f"the sound could not be kept ({error})"
            self._parts, self._next = iter(()), None

    def _advance(self) -> None:
        with self._losing_only_the_sound():
            self._next = next(self._parts, None)
            if self._next is not None:
                self._move(self._next)

    def _move(self, part: Any) -> None:
        """Shift a packet or frame to the time of the annotated file; times that jump back go on from where they were."""
        if part.pts is None:
            part.pts = self._end or 0
            return
        shift = round(-self._start_s / part.time_base) + self._jumped
        if self._end is not None and part.pts + shift < self._end - round(1 / part.time_base):
            self._jumped += self._end - part.pts - shift
            shift = self._end - part.pts
        part.pts += shift
        if isinstance(part, av.Packet):
            part.dts += shift
        length = part.duration if isinstance(part, av.Packet) else round(part.samples / part.rate / part.time_base)
        self._end = part.pts + (length or 0)

    def copy_until(self, time_s: float) -> None:
        """Pass on what begins no later than ``time_s`` of the source."""
        while self._next is not None and float(self._next.pts * self._next.time_base) <= time_s - self._start_s:
            with self._losing_only_the_sound():
                if self._encodes:
                    self._container.mux(self._output.encode(self._next))
                else:
                    self._next.stream = self._output
                    self._container.mux(self._next)
            self._advance()

    def finish(self) -> None:
        if self._encodes and not self.lost:
            with self._losing_only_the_sound():
                self._container.mux(self._output.encode(None))
