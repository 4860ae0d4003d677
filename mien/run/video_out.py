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

from mien.core.files import replacing
from mien.run.sources import VideoFrame, VideoSource, open_container

#: Sound that an .mp4 can hold as it is; anything else is encoded again, as AAC.
COPIED_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})

#: x264's quality: 18 is hardly told from the original, 23 is its default. Measured in docs/analysis.md.
QUALITY = {"crf": "20", "preset": "veryfast"}
#: The index goes to the front, so that a browser plays the file while it loads.
FAST_START = {"movflags": "+faststart"}


@contextmanager
def video_writer(path: Path, source: VideoSource) -> Iterator[VideoWriter]:
    """Write an .mp4 frame by frame; it appears under its name when the block ends without an error."""
    with (
        replacing(path) as part,
        open_container(source.path) as sound,
        av.open(str(part), "w", options=FAST_START) as out,
    ):
        writer = VideoWriter(out, source, sound)
        yield writer
        writer.finish()


class VideoWriter:
    """Encodes frames under the presentation times of the source, whatever its frame rate does.

    The sound is read from the source a second time, alongside, so that nothing is gathered in memory.
    """

    def __init__(self, container: OutputContainer, source: VideoSource, sound: InputContainer) -> None:
        self._container, self._source, self._sound_input = container, source, sound
        self._video: Any = None  # opened with the first frame, which tells the size
        self._durations: dict[int, int] = {}  # pts → duration of the frames inside the encoder

    def write(self, frame: VideoFrame, picture: np.ndarray) -> None:
        """Add RGB uint8 (H, W, 3), shown when ``frame`` was. Odd sides get one more pixel: H.264 needs even ones."""
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._video is None:
            self._open(picture.shape[1], picture.shape[0])
        image = av.VideoFrame.from_ndarray(picture, format="rgb24")
        image.pts, image.time_base = frame.pts, self._source.time_base
        self._durations[frame.pts] = frame.duration
        self._mux(self._video.encode(image))
        self._sound.copy_until(frame.time_s)

    def finish(self) -> None:
        """Empty the encoder and pass on the rest of the sound."""
        if self._video is not None:
            self._mux(self._video.encode(None))
            self._sound.copy_until(float("inf"))

    def _open(self, width: int, height: int) -> None:
        self._video = self._container.add_stream("libx264", rate=_sane(self._source.rate), options=QUALITY)
        self._video.width, self._video.height, self._video.pix_fmt = width, height, "yuv420p"
        self._video.codec_context.time_base = self._video.time_base = self._source.time_base
        self._sound = _Sound(self._sound_input, self._container)

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, packet.duration)
            self._container.mux(packet)


def _sane(rate: Fraction) -> Fraction:
    """A rate that the encoder accepts; it is a hint only, the times of the frames count."""
    return rate.limit_denominator(1001 * 60) if 0 < rate <= 1000 else Fraction(25)


class _Sound:
    """The first audio stream of a file, passed on packet by packet up to a given time."""

    def __init__(self, source: InputContainer, container: OutputContainer) -> None:
        self._container = container
        self._packets: Iterator[Any] = iter(())
        self._encoder: Any = None
        if source.streams.audio:
            stream = source.streams.audio[0]
            if stream.codec_context.name in COPIED_SOUND:
                self._output = container.add_stream_from_template(stream)
                self._packets = (packet for packet in source.demux(stream) if packet.dts is not None)
            else:
                self._encoder = container.add_stream("aac", rate=stream.rate or 44100)
                self._packets = source.decode(stream)
        self._advance()

    def _advance(self) -> None:
        try:
            self._next = next(self._packets, None)
        except av.error.FFmpegError:  # damaged sound ends here; VideoSource reports damage to the file
            self._next = None

    def copy_until(self, time_s: float) -> None:
        while self._next is not None and (
            self._next.pts is None or float(self._next.pts * self._next.time_base) <= time_s
        ):
            if self._encoder is None:
                self._next.stream = self._output
                self._container.mux(self._next)
            else:
                self._container.mux(self._encoder.encode(self._next))
            self._advance()
        if self._next is None and self._encoder is not None:
            self._container.mux(self._encoder.encode(None))
            self._encoder = None
