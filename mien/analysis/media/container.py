"""Open video files and streams with FFmpeg, and select their video stream."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mien.analysis.media.inputs import strip_credentials
from mien.core.errors import MediaError
from mien.core.files import find_file_problem

if TYPE_CHECKING:
    import av

#: A stream that sends nothing for this long has ended.
STREAM_TIMEOUT_S = 10.0

#: PyAV replaces metadata that is not UTF-8, as old cameras and editors write it, instead of failing.
METADATA_ERRORS = "replace"

#: Default limit of the pixels of a frame: 8,192 x 8,192, which takes about 2.5 GB.
MAX_FRAME_PIXELS = 67_108_864

#: Above this size fewer frames are held in memory, which is slower: 4,096 x 4,096.
LARGE_PIXELS = 16_777_216

#: FFmpeg's own limit.
NO_PIXEL_LIMIT = 2**31 - 1

#: Frames are scaled to square pixels, unless the ratio is within this tolerance of 1, or outside 1/4 to 4 and so invalid.
SQUARE_TOLERANCE, MAX_PIXEL_RATIO = 0.01, 4

#: Audio codecs let the sound start up to this long before 0; an earlier start is the start of the recording.
AUDIO_PRIMING_S = 0.2


def open_container(path: Path | str) -> av.container.InputContainer:
    """Open a video file or the address of a stream with PyAV. Raises MediaError."""
    import av

    if isinstance(path, str):
        try:
            container = av.open(path, timeout=STREAM_TIMEOUT_S, metadata_errors=METADATA_ERRORS)
            if container.format.name == "image2":  # this format needs the size of the file; jpeg_pipe does not
                container.close()
                container = av.open(path, format="jpeg_pipe", timeout=STREAM_TIMEOUT_S)
            return container
        except (av.error.FFmpegError, OSError) as error:
            hint = "check the address, and that it can be reached"
            raise MediaError(
                printable_source(path), f"is not a stream that can be read ({error.strerror})", hint
            ) from error
    if fault := find_file_problem(path, "a video"):
        raise MediaError(path, *fault)
    try:
        container = av.open(local_url(path), metadata_errors=METADATA_ERRORS)
    except (av.error.FFmpegError, OSError) as error:
        raise MediaError(
            path, f"is not a video that can be read ({error.strerror})", "copy or export it again", code="not_a_video"
        ) from error
    if is_false_video(container, path):
        container.close()
        raise MediaError(path, "is neither a picture nor a video", "name one", code="not_a_video")
    return container


def select_video_stream(
    container: av.container.InputContainer, path: Path | str, max_pixels: int = NO_PIXEL_LIMIT
) -> av.VideoStream:
    """Return the default video stream of a container, else its first. Covers and thumbnails are ignored.

    Raises MediaError without a video stream, without a decoder, or for frames of more than ``max_pixels`` pixels.
    """
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    candidates = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not candidates:
        cover = "; the picture in it is a cover" if container.streams.video else ""
        problem = f"holds no video (no video stream{cover})"
        raise MediaError(printable_source(path), problem, "give a video file", code="no_video")
    known = [stream for stream in candidates if stream.codec_context is not None]
    if not known:
        problem = "has a video in a format without a decoder here"
        raise MediaError(printable_source(path), problem, "export it as H.264", code="not_a_video")
    stream = next((one for one in known if one.disposition & Disposition.default), known[0])
    check_frame_size(stream.width, stream.height, path, max_pixels)
    # Frames larger than the file states are decoded up to twice the limit; then `check_frame_size` refuses them.
    stream.codec_context.options = {"max_pixels": str(min(2 * max_pixels, NO_PIXEL_LIMIT))}
    return stream


def check_frame_size(width: int, height: int, path: Path | str, max_pixels: int) -> None:
    """Raise MediaError for frames with more than ``max_pixels`` pixels."""
    if width * height > max_pixels:
        raise MediaError(
            printable_source(path),
            f"has frames of {width} x {height} pixels, more than the limit of {max_pixels:,}",
            f"scale it down, or raise the limit with `max_pixels={width * height}`",
            code="too_many_pixels",
            width=width,
            height=height,
            limit=max_pixels,
        )


def pixel_aspect_ratio(stream: av.VideoStream) -> Fraction:
    """Return width / height of a stored pixel; 1 for square or nearly square pixels and for invalid ratios."""
    ratio = stream.sample_aspect_ratio
    if not ratio or not 1 / MAX_PIXEL_RATIO <= ratio <= MAX_PIXEL_RATIO or abs(ratio - 1) < SQUARE_TOLERANCE:
        return Fraction(1)
    return ratio


def container_start_s(container: av.container.InputContainer) -> float:
    """Return the start of a container's time stamps in seconds; it is negative if a counter overflowed, as in broadcasts."""
    start_s = (container.start_time or 0) / 1_000_000
    return start_s if start_s < -AUDIO_PRIMING_S else max(0.0, start_s)


def is_false_video(container: av.container.InputContainer, path: Path) -> bool:
    """Whether FFmpeg opened a file that is no video: it renders text files, and finds JPEGs in archives and documents."""
    kind = container.format.name
    if kind == "mjpeg":  # a real file starts with a JPEG
        with path.open("rb") as file:
            return file.read(2) != b"\xff\xd8"
    return kind == "tty" or kind.endswith("_pipe")


def is_picture_format(container: av.container.InputContainer) -> bool:
    """Whether FFmpeg reads single pictures rather than a video."""
    return container.format.name.endswith("_pipe")


def printable_source(path: Path | str) -> Path | str:
    """Return a path or an address as an error may show it: without a password."""
    return strip_credentials(path) if isinstance(path, str) else path


def local_url(path: Path) -> str:
    """Return the URL of a file for FFmpeg, which would take a name such as ``10:20.mkv`` for a protocol."""
    return f"file:{path}"
