"""Write annotated videos: H.264 with the time stamps of the source's frames, and the sound of the source.

A video is encoded in parts. In the end the parts are joined and the sound is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.video.reformatter import ColorRange

from mien.analysis.media.container import LARGE_PIXELS, local_url, open_container
from mien.analysis.media.source import OpenedVideo
from mien.analysis.media.yuv import FrameFormat, YuvImage, image_to_rgb
from mien.analysis.prefetch import threads_per_stage
from mien.core.errors import MediaError
from mien.core.files import replace_file

#: Audio codecs that an .mp4 can contain; others are encoded as AAC.
COPIED_AUDIO_CODECS = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})

#: The lowest sample rate of MP3 in an .mp4.
MIN_MP3_HZ = 16_000

#: Channel layouts of the AAC encoder; others are mixed to mono or stereo.
AAC_LAYOUTS = frozenset({"mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"})

#: Options of x264. Without B-frames, frames are stored in the order in which they are shown, so that parts can be joined.
#: Without lookahead the output depends only on the pictures and the number of threads, so that a resumed analysis writes the
#: same file. CRF 25 gives about the quality of "veryfast" at its default CRF 23; lower values spend most bytes and time on
#: noise. Half of the default AQ strength saves a tenth of the time (benchmarks/encoder.py).
ENCODER = {"crf": "25", "preset": "superfast", "bf": "0", "rc-lookahead": "0", "aq-strength": "0.5"}
#: The index is at the start of the file, so that a browser plays it while it loads.
FAST_START = {"movflags": "+faststart"}


def encoder_options(frame_format: FrameFormat | None = None) -> dict[str, str]:
    """Return x264's options on this machine: at least two threads, but one for large frames, since each thread holds several."""
    is_large = frame_format is not None and frame_format.width * frame_format.height > LARGE_PIXELS
    return ENCODER | {"threads": "1" if is_large else str(max(2, threads_per_stage()))}


class PartWriter:
    """Encode frames into one part of a video, without sound, at the presentation times of the source.

    ``join_parts`` joins the parts. They are NUT files, since that container stores any time stamp exactly.
    """

    def __init__(self, path: Path, source: OpenedVideo, frame_format: FrameFormat) -> None:
        self._source, self._format = source, frame_format
        self._container = av.open(local_url(path), "w", format="nut")
        self._video = self._container.add_stream(
            "libx264", rate=_limit_rate(source.rate), options=encoder_options(frame_format)
        )
        self._video.width, self._video.height, self._video.pix_fmt = frame_format.width, frame_format.height, "yuv420p"
        encoder = self._video.codec_context
        encoder.thread_type = "FRAME"  # PyAV's default, slices, costs quality
        encoder.time_base = self._video.time_base = source.time_base
        color_spec = frame_format.color_spec
        encoder.colorspace, encoder.color_primaries, encoder.color_trc = (
            color_spec.matrix,
            color_spec.primaries,
            color_spec.transfer,
        )
        encoder.color_range = ColorRange.MPEG

    def write(self, pts: int, image: np.ndarray | YuvImage) -> None:
        """Add an image, RGB uint8 (H, W, 3) or YUV, at the source's ``pts``. Odd sides are padded by a pixel, as H.264 requires."""
        if not isinstance(image, YuvImage) or image.color_spec != self._format.color_spec:
            picture = image_to_rgb(image)
            height, width = picture.shape[:2]
            if height % 2 or width % 2:
                picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            image = YuvImage.from_rgb(picture, self._format.color_spec)
        image.frame.pts, image.frame.time_base = max(0, pts - _origin_pts(self._source)), self._source.time_base
        self._container.mux(self._video.encode(image.frame))

    def close(self) -> None:
        """Flush the encoder and close the file."""
        try:
            self._container.mux(self._video.encode(None))
        finally:
            self._container.close()


def join_parts(
    parts: Sequence[Path],
    path: Path,
    source: OpenedVideo,
    end_pts: int,
    on_frame: Callable[[], None] = lambda: None,
) -> str:
    """Join parts and add the sound of the source's analyzed part, as one .mp4. The video is not encoded again.

    The video starts at 0. The sound is read from the source at the same time, so that memory does not grow.

    end_pts    end of the last frame, in units of the source's time base
    on_frame   called for each frame

    Returns why the sound could not be kept; "" if it was.
    """
    with ExitStack() as stack:
        part = stack.enter_context(replace_file(path))
        sounding, lost = None, ""
        try:
            if source.has_sound and not source.is_live:
                sounding = stack.enter_context(open_container(source.path))
        except MediaError as error:  # an address may work only once, or a disk was removed
            lost = f"the sound could not be kept (the source {error.problem})"
        packets = _read_packets(parts, source.time_base)
        first = next(packets)
        out, video, sound = _start_output(stack, part, first.stream, source, sounding)
        packet: av.Packet[Any] | None = first
        while packet is not None:
            following = next(packets, None)
            pts = cast(int, packet.pts)
            time_s = source.analysis_start_s + float(pts * source.time_base)
            packet.duration = (end_pts - _origin_pts(source) if following is None else cast(int, following.pts)) - pts
            packet.stream = video
            out.mux(packet)
            sound.copy_until(time_s)
            on_frame()
            packet = following
        stops = source.is_cut_off or source.sampling.to_s is not None
        sound.copy_until(float(end_pts * source.time_base) if stops else float("inf"))
        sound.finish()
        return lost or sound.lost


def _start_output(
    stack: ExitStack,
    path: Path,
    pictures: Any,
    source: OpenedVideo,
    sounding: InputContainer | None,
) -> tuple[OutputContainer, Any, _AudioCopier]:
    """Open the output and write its header → (container, video stream, audio); without audio if the .mp4 cannot contain it."""
    out = stack.enter_context(av.open(local_url(path), "w", format="mp4", options=FAST_START))
    video = out.add_stream_from_template(pictures)
    video.time_base = source.time_base
    sound = _AudioCopier(sounding, out, source.analysis_start_s)
    try:
        out.start_encoding()
    except av.error.FFmpegError as error:
        if sounding is None:
            raise
        out.close()
        out, video, sound = _start_output(stack, path, pictures, source, None)
        sound.lost = f"the sound could not be kept ({error})"
    return out, video, sound


def _origin_pts(source: OpenedVideo) -> int:
    """Return the start of the annotated video in the source's time stamps, which may be negative."""
    return round(source.analysis_start_s / source.time_base)


def _read_packets(parts: Sequence[Path], time_base: Fraction) -> Iterator[av.Packet[Any]]:
    """Yield the packets of all parts, with the time stamps of the annotated video in units of ``time_base``."""
    for part in parts:
        with av.open(local_url(part)) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.pts is not None:
                    packet.pts = packet.dts = round(packet.pts * packet.time_base / time_base)
                    packet.time_base = time_base
                    yield packet


def _limit_rate(rate: Fraction) -> Fraction:
    """Return a frame rate that the encoder accepts. It is only a hint, since frames have time stamps."""
    return rate.limit_denominator(1001 * 60) if 0 < rate <= 1000 else Fraction(25)


class _AudioCopier:
    """Copy the first audio stream of a file, or encode it as AAC, up to given times."""

    def __init__(self, source: InputContainer | None, container: OutputContainer, start_s: float) -> None:
        self.lost = ""
        self._container, self._start_s = container, start_s
        self._next: Any = None
        self._end: int | None = None  # end of the last packet or frame, in its time base
        self._time_correction = 0  # offset that corrects time stamps that jumped back
        self._parts: Iterator[Any] = iter(())
        self._output: Any = None
        self._encodes = False
        if source is not None and source.streams.audio:
            stream = source.streams.audio[0]
            with self._drop_audio_on_error():
                self._begin(source, stream)
        self._read_next()

    def _begin(self, source: InputContainer, stream: Any) -> None:
        if stream.codec_context is None:  # FFmpeg has no decoder for it
            self.lost = "the sound could not be kept (there is no decoder for its format)"
            return
        name = stream.codec_context.codec.canonical_name
        if name in COPIED_AUDIO_CODECS and not (name == "mp3" and (stream.rate or 0) < MIN_MP3_HZ):
            self._output = self._container.add_stream_from_template(stream)
            self._parts = (packet for packet in source.demux(stream) if packet.dts is not None)
            return
        source_rate = stream.rate or 48_000
        rate = min(av.codec.Codec("aac", "w").audio_rates or [source_rate], key=lambda known: abs(known - source_rate))
        layout = (
            stream.layout.name if stream.layout.name in AAC_LAYOUTS else "mono" if stream.channels == 1 else "stereo"
        )
        self._output = self._container.add_stream("aac", rate=rate, layout=layout)
        self._parts = source.decode(stream)
        self._encodes = True

    @contextmanager
    def _drop_audio_on_error(self) -> Iterator[None]:
        """End the sound, not the video, on an error of FFmpeg."""
        try:
            yield
        except (av.error.FFmpegError, ValueError) as error:
            self.lost = f"the sound could not be kept ({error})"
            self._parts, self._next = iter(()), None

    def _read_next(self) -> None:
        """Read the next packet or frame of the analyzed part."""
        with self._drop_audio_on_error():
            self._next = next(self._parts, None)
            while self._next is not None and self._shift(self._next) < 0:  # ends before the analyzed part starts
                self._next = next(self._parts, None)

    def _shift(self, part: Any) -> int:
        """Shift a packet or frame to the time of the annotated video; times that jump back continue from the last one.

        Returns its end in its time base.
        """
        if part.pts is None:
            part.pts = self._end or 0
            return part.pts + 1
        shift = round(-self._start_s / part.time_base) + self._time_correction
        if self._end is not None and part.pts + shift < self._end - round(1 / part.time_base):
            self._time_correction += self._end - part.pts - shift
            shift = self._end - part.pts
        part.pts += shift
        if isinstance(part, av.Packet):
            part.dts += shift
        length = part.duration if isinstance(part, av.Packet) else round(part.samples / part.rate / part.time_base)
        self._end = part.pts + (length or 0)
        return self._end if length else part.pts + 1

    def copy_until(self, time_s: float) -> None:
        """Write the sound up to ``time_s`` of the source."""
        while self._next is not None and float(self._next.pts * self._next.time_base) <= time_s - self._start_s:
            with self._drop_audio_on_error():
                if self._encodes:
                    self._container.mux(self._output.encode(self._next))
                else:
                    self._next.stream = self._output
                    self._container.mux(self._next)
            self._read_next()

    def finish(self) -> None:
        """Flush the encoder."""
        if self._encodes and not self.lost:
            with self._drop_audio_on_error():
                self._container.mux(self._output.encode(None))
