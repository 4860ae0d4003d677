"""Every decoded frame has a time and a number, also in files that do not say when their frames are shown."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mien.analysis.media.video_reader import VideoFrame, VideoSource
from mien.analysis.output.stills import read_frames_at

#: How many frames the clips have: their gray says which one it is.
FRAMES = 30


def gray_of(number: int) -> int:
    return 30 + 7 * number


def number_of(picture: np.ndarray) -> int:
    return round((float(picture[16:48, 16:80].mean()) - 30) / 7)


def write(path: Path, codec: str, change: Callable[[int, av.Packet], None] = lambda number, packet: None) -> None:
    """A clip of 30 frames a second, with two B-frames between others; ``change`` is done to each packet, by its number in
    the order of decoding."""
    options = {
        "libx264": {"x264-params": "b-adapt=0:scenecut=0", "crf": "10"},
        "mpeg4": {"qmin": "1", "qmax": "1", "bf": "2"},
        "mjpeg": {},
    }[codec]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        numbers = itertools.count()
        for frame in (*(gray(number) for number in range(FRAMES)), None):
            for packet in stream.encode(frame):
                change(next(numbers), packet)
                container.mux(packet)


def gray(number: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), gray_of(number), np.uint8))
    frame.pts, frame.time_base = number, Fraction(1, 30)
    return frame


def shown_as_decoded(number: int, packet: av.Packet) -> None:
    packet.time_base, packet.pts, packet.dts, packet.duration = Fraction(1, 30), number, number, 1


def frames_of(path: Path) -> tuple[VideoSource, list[VideoFrame]]:
    with VideoSource(path) as source:
        return source, list(source.frames())


def decoded_by_hand(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.mark.parametrize(
    ("name", "codec", "change"),
    [
        ("mpeg4.avi", "mpeg4", None),
        ("h264.avi", "libx264", None),
        ("h264.mov", "libx264", shown_as_decoded),
        ("h264.flv", "libx264", shown_as_decoded),
        ("h264.mkv", "libx264", shown_as_decoded),
    ],
)
def test_frames_of_files_without_presentation_times_are_all_there_at_their_times(
    tmp_path: Path, name: str, codec: str, change: Callable | None
) -> None:
    path = tmp_path / name
    write(path, codec, *([change] if change else []))
    source, frames = frames_of(path)
    assert len(frames) == decoded_by_hand(path) == FRAMES
    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert [number_of(frame.picture) for frame in frames] == list(range(FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 30 for number in range(FRAMES)], abs=0.003)
    assert float(sum(frame.duration for frame in frames) * source.time_base) == pytest.approx(1.0, abs=0.04)
    assert (source.damage, source.has_rebuilt_times) == ("", True)
    times = [frames[number].time_s for number in (4, 5, 17, 29)]
    assert [number_of(picture) for picture in read_frames_at(path, times, has_rebuilt_times=True)] == [4, 5, 17, 29]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
def test_presentation_times_that_are_stored_are_kept(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "libx264")
    source, frames = frames_of(tmp_path / name)
    start_s = frames[0].time_s
    assert [frame.time_s - start_s for frame in frames] == pytest.approx([n / 30 for n in range(FRAMES)], abs=0.001)
    assert [number_of(frame.picture) for frame in frames] == list(range(FRAMES))
    assert not source.has_rebuilt_times


def test_frames_with_the_same_time_are_counted_one_after_the_other(tmp_path: Path) -> None:
    """As screen recorders write them; each frame is whole by itself."""

    def change(number: int, packet: av.Packet) -> None:
        time = 10 if number == 11 else number
        packet.time_base, packet.pts, packet.dts = Fraction(1, 30), time, time

    write(tmp_path / "same.mkv", "mjpeg", change)
    source, frames = frames_of(tmp_path / "same.mkv")
    assert [number_of(frame.picture) for frame in frames] == [frame.index for frame in frames] == list(range(FRAMES))
    times = [frame.time_s for frame in frames]
    assert min(np.diff(times)) > 0 and times[11] == pytest.approx(10 / 30, abs=0.002)
    assert source.has_rebuilt_times
    picture = next(read_frames_at(tmp_path / "same.mkv", [times[11]], has_rebuilt_times=True))
    assert number_of(picture) == 11


def test_an_avi_that_leaves_frames_out_is_whole(tmp_path: Path) -> None:
    """Its count of frames includes those for which the one before is shown again."""
    times = [*range(10), *range(10, 60, 5), *range(60, 70)]

    def change(number: int, packet: av.Packet) -> None:
        packet.time_base, packet.pts, packet.dts = Fraction(1, 30), times[number], times[number]

    write(tmp_path / "sparse.avi", "mjpeg", change)
    with av.open(str(tmp_path / "sparse.avi")) as container:
        assert container.streams.video[0].frames == 70
    source, frames = frames_of(tmp_path / "sparse.avi")
    assert source.damage == ""
    assert [frame.time_s for frame in frames] == pytest.approx([time / 30 for time in times], abs=0.001)


def test_a_frame_is_shown_until_the_next_one_however_long_that_takes(tmp_path: Path) -> None:
    """Slides and screen recordings: 24 frames, then one for 14 seconds."""

    def change(number: int, packet: av.Packet) -> None:
        time = number if number < 25 else number + 14 * 30 - 1
        packet.time_base, packet.pts, packet.dts, packet.duration = Fraction(1, 30), time, time, 1

    write(tmp_path / "slides.mkv", "mjpeg", change)
    source, frames = frames_of(tmp_path / "slides.mkv")
    seconds = [float(frame.duration * source.time_base) for frame in frames]
    assert seconds[24] == pytest.approx(14, abs=0.01)
    assert sum(seconds) == pytest.approx(frames[-1].time_s + 1 / 30, abs=0.01)
    assert source.damage == ""


def test_a_single_frame_whose_time_falls_moves_no_other(tmp_path: Path) -> None:
    def change(number: int, packet: av.Packet) -> None:
        time = 5 if number == 15 else number
        packet.time_base, packet.pts, packet.dts, packet.duration = Fraction(1, 30), time, number - 12, 1

    write(tmp_path / "glitch.mov", "mjpeg", change)
    _, frames = frames_of(tmp_path / "glitch.mov")
    times = [frame.time_s for frame in frames]
    assert len(frames) == FRAMES and min(np.diff(times)) > 0
    assert [time for n, time in enumerate(times) if n != 15] == pytest.approx(
        [n / 30 for n in range(FRAMES) if n != 15], abs=0.001
    )


def test_a_damaged_clock_that_counts_in_hours_stays_within_what_ffmpeg_can_count() -> None:
    """Its ticks would be divided into so many that FFmpeg could not keep the fraction."""
    from fractions import Fraction
    from types import SimpleNamespace

    from mien.analysis.media.timestamps import MAX_INT32, Timestamps

    for stored in (Fraction(2**31 - 1, 2**31 - 3), Fraction(2**31 - 1, 25), Fraction(1, 25), Fraction(1001, 30000)):
        base = Timestamps(SimpleNamespace(codec_context=None, time_base=stored), "mpegts").time_base
        assert max(base.numerator, base.denominator) <= MAX_INT32
        assert base <= stored


def test_uneven_times_of_a_file_that_reorders_nothing_are_kept(tmp_path: Path) -> None:
    """Its decoder may expect B-frames; there are none."""
    ticks = [0, 2, 12, 16, 30, 32, 40, 42, 60, 63]
    path = tmp_path / "uneven.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2, options={"x264-params": "bframes=0:keyint=10", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 2)
        for number, tick in enumerate(ticks):
            frame = gray(number)
            frame.pts, frame.time_base = tick, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    _, frames = frames_of(path)
    assert [frame.time_s for frame in frames] == pytest.approx([tick / 2 for tick in ticks])
