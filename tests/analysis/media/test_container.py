"""Which stream of a file is the video, and which frames are too large."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition
from clips import make_clip, make_tone
from PIL import Image

from mien.analysis.media.video_reader import VideoSource
from mien.analysis.output.stills import read_frames_at
from mien.core.errors import MediaError

COVER = 200


def jpeg(gray: int, size_wh: tuple[int, int] = (96, 64)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size_wh, (gray, gray, gray)).save(content, "JPEG")
    return content.getvalue()


def add_pictures(container: av.container.OutputContainer, disposition: Disposition, stream: av.VideoStream) -> None:
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
    stream.disposition = disposition


def mux(stream: av.VideoStream, contents: Sequence[bytes]) -> None:
    for number, content in enumerate(contents):
        packet = av.Packet(content)
        packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
        packet.pts = packet.dts = number
        packet.duration = 1
        stream.container.mux(packet)


def two_videos(path: Path, first: Disposition, second: Disposition, counts: tuple[int, int], **options: str) -> None:
    """A file of two streams of JPEGs: gray 200, and gray 50."""
    with av.open(str(path), "w", options=options) as container:
        streams = [container.add_stream("mjpeg", rate=10) for _ in range(2)]
        for stream, disposition in zip(streams, (first, second), strict=True):
            add_pictures(container, disposition, stream)
        for stream, gray, count in zip(streams, (COVER, 50), counts, strict=True):
            mux(stream, [jpeg(gray)] * count)


def moved_to_front(content: bytes, kind: bytes) -> bytes:
    """An .mp4 whose index lies at its end, with one part of that index put before the others."""
    index = content.index(b"moov") - 4
    parts, place = [], index + 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4])
        parts.append(content[place : place + size])
        place += size
    parts.sort(key=lambda part: part[4:8] != kind)
    return content[: index + 8] + b"".join(parts)


def seen(path: Path) -> list[int]:
    with VideoSource(path) as source:
        return [round(float(frame.picture.mean())) for frame in source.frames()]


def test_a_cover_before_the_film_is_passed_over(tmp_path: Path) -> None:
    two_videos(tmp_path / "film.mp4", Disposition.attached_pic, Disposition.default, (1, 5))
    path = tmp_path / "cover-first.mp4"
    path.write_bytes(moved_to_front((tmp_path / "film.mp4").read_bytes(), b"udta"))
    with av.open(str(path)) as container:
        assert [bool(one.disposition & Disposition.attached_pic) for one in container.streams.video] == [True, False]
    assert seen(path) == [50] * 5
    (picture,) = read_frames_at(path, [0.3])
    assert round(float(picture.mean())) == 50


def test_the_video_that_is_marked_as_default_is_read(tmp_path: Path) -> None:
    path = tmp_path / "second.mkv"
    two_videos(path, Disposition(0), Disposition.default, (3, 5), default_mode="passthrough")
    assert seen(path) == [50] * 5
    two_videos(path, Disposition(0), Disposition(0), (3, 5), default_mode="passthrough")
    assert seen(path) == [COVER] * 3


def test_sound_with_a_cover_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound, cover = container.add_stream("libmp3lame", rate=44_100), container.add_stream("mjpeg", rate=10)
        add_pictures(container, Disposition.attached_pic, cover)
        mux(cover, [jpeg(COVER)])
        for start in range(0, 44_100, 1152):
            container.mux(sound.encode(make_tone(start, 1152, 44_100)))
        container.mux(sound.encode(None))
    with pytest.raises(MediaError, match=r"song.mp3: holds no video \(no video stream; the picture in it is a cover\)"):
        VideoSource(path)


def test_frames_above_the_limit_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.2, size_wh=(320, 240), sound=None)
    with VideoSource(tmp_path / "clip.mp4", max_pixels=320 * 240) as source:
        assert len(list(source.frames())) == 5
    expected = r"has frames of 320 x 240 pixels, more than the limit of 76,799; scale it down, or raise the limit with "
    with pytest.raises(MediaError, match=f"{expected}`max_pixels=76800`"):
        VideoSource(tmp_path / "clip.mp4", max_pixels=320 * 240 - 1)


def test_frames_that_grow_above_the_limit_are_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "growing.mov"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        add_pictures(container, Disposition.default, stream)
        mux(stream, [jpeg(50)] * 3 + [jpeg(50, (640, 480))] * 3)
    with VideoSource(tmp_path / "growing.mov") as source:
        assert [frame.image.shape[:2] for frame in source.frames()] == [(64, 96)] * 3 + [(480, 640)] * 3
    with VideoSource(tmp_path / "growing.mov", max_pixels=200_000) as source:
        frames = source.frames()
        assert [next(frames).index for _ in range(2)] == [0, 1]
        with pytest.raises(MediaError, match="has frames of 640 x 480 pixels, more than the limit of 200,000"):
            list(frames)


@pytest.mark.parametrize("ending", ["avi", "mov", "ts"])
def test_a_size_far_above_the_limit_is_named(tmp_path: Path, ending: str) -> None:
    codec, pixels = ("mpeg4", "yuv420p") if ending == "ts" else ("mjpeg", "yuvj420p")
    path = tmp_path / f"clip.{ending}"
    make_clip(path, seconds=0.2, size_wh=(320, 240), sound=None, codec=codec, pixels=pixels)
    with pytest.raises(MediaError, match="has frames of 320 x 240 pixels, more than the limit of 1,000"):
        VideoSource(path, max_pixels=1000)
