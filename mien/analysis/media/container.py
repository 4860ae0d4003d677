"""Video files and addresses of streams, opened by FFmpeg: which of their streams is the video, and where its times begin."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from mien.analysis.media.inputs import strip_credentials
from mien.core.errors import MediaError
from mien.core.files import find_file_problem

if TYPE_CHECKING:
    import av

#: A stream that sends nothing for so long has ended.
STREAM_TIMEOUT_S = 10.0

#: What PyAV makes of titles and other words in a file that are not UTF-8, as old cameras and editors write them: it goes on.
METADATA_ERRORS = "replace"

#: Frames with more pixels are refused unless the limit is raised: 8,192 x 8,192, which takes about 2.5 GB.
MAX_FRAME_PIXELS = 67_108_864

#: Of larger frames few are held at a time, at the cost of speed: 4,096 x 4,096.
LARGE_PIXELS = 16_777_216

#: No limit but FFmpeg's own.
NO_PIXEL_LIMIT = 2**31 - 1

#: Pixels are made square before anything is read, but not those that are within a hundredth, nor of a ratio beyond all formats.
SQUARE_TOLERANCE, MAX_PIXEL_RATIO = 0.01, 4

#: What a sound codec lets its sound begin before 0; a recording that begins earlier than that really does.
AUDIO_PRIMING_S = 0.2


def open_container(path: Path | str) -> av.container.InputContainer:
    """A video file, or the address of a stream, opened by PyAV; or a MediaError that names it."""
    import av

    if isinstance(path, str):
        try:
            container = av.open(path, timeout=STREAM_TIMEOUT_S, metadata_errors=METADATA_ERRORS)
            if (
                container.format.name == "image2"
            ):  # by the address's ending; it wants a server that says how long a file is
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
    """The video among a container's streams: the one marked as default, else the first; covers and thumbnails are none.

    Raises MediaError where there is none, none that can be decoded, or one whose frames have more than ``max_pixels``.
    """
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails
    films = [stream for stream in container.streams.video if not stream.disposition & pictures]
    if not films:
        cover = "; the picture in it is a cover" if container.streams.video else ""
        found = f"holds no video (no video stream{cover})"
        raise MediaError(printable_source(path), found, "give a video file", code="no_video")
    known = [stream for stream in films if stream.codec_context is not None]
    if not known:
        found = "holds a video in a format that is unknown here"
        raise MediaError(printable_source(path), found, "export it as H.264", code="not_a_video")
    stream = next((one for one in known if one.disposition & Disposition.default), known[0])
    check_frame_size(stream.width, stream.height, path, max_pixels)
    # A frame that is larger than the file says is decoded up to twice the limit, and then refused by its size.
    stream.codec_context.options = {"max_pixels": str(min(2 * max_pixels, NO_PIXEL_LIMIT))}
    return stream


def check_frame_size(width: int, height: int, path: Path | str, max_pixels: int) -> None:
    """Raise MediaError for frames that have more pixels than the limit."""
    if width * height > max_pixels:
        raise MediaError(
            printable_source(path),
            f"has frames of {width} x {height} pixels, more than the limit of {max_pixels:,}",
            f"scale it down, or raise the limit with 'mien analyze --max-pixels {width * height}'",
            code="too_many_pixels",
            width=width,
            height=height,
            limit=max_pixels,
        )


def pixel_aspect_ratio(stream: av.VideoStream) -> Fraction:
    """Width of a stored pixel over its height; 1 where they are square, nearly so, or it says what cannot be."""
    ratio = stream.sample_aspect_ratio
    if not ratio or not 1 / MAX_PIXEL_RATIO <= ratio <= MAX_PIXEL_RATIO or abs(ratio - 1) < SQUARE_TOLERANCE:
        return Fraction(1)
    return ratio


def container_start_s(container: av.container.InputContainer) -> float:
    """Seconds at which a file's own times begin; before 0 where a counter went round, as in broadcasts."""
    begins_s = (container.start_time or 0) / 1_000_000
    return begins_s if begins_s < -AUDIO_PRIMING_S else max(0.0, begins_s)


def is_false_video(container: av.container.InputContainer, path: Path) -> bool:
    """Whether FFmpeg makes pictures of what is none: it types out texts, and finds JPEGs in archives and documents."""
    kind = container.format.name
    if kind == "mjpeg":  # JPEG after JPEG, and nothing before the first
        with path.open("rb") as file:
            return file.read(2) != b"\xff\xd8"
    return kind == "tty" or kind.endswith("_pipe")


def is_picture_format(container: av.container.InputContainer) -> bool:
    """Whether FFmpeg reads single pictures here rather than a video."""
    return container.format.name.endswith("_pipe")


def printable_source(path: Path | str) -> Path | str:
    """As an error may name it: an address may carry a password."""
    return strip_credentials(path) if isinstance(path, str) else path


def local_url(path: Path) -> str:
    """The path as FFmpeg takes it: a name such as ``10:20.mkv`` would else be read as a protocol."""
    return f"file:{path}"
