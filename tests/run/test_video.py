from __future__ import annotations

import gc
import json
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, views

from mien import Recognizer
from mien.core.errors import MediaError
from mien.core.pictures import read_picture
from mien.run.pipeline import Done, Settings, analyze_input
from mien.run.planes import Colours, Planes
from mien.run.sources import Input
from mien.run.video_in import VideoSource
from tests.conftest import ASTRONAUT, ROOT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


def analyse(path: Path, recognizer: Recognizer, out: Path, **settings) -> Done:
    return analyze_input(Input(path, Path(path.stem)), recognizer, Settings(out, quiet=True, **settings))


def frame_times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def sound_of(path: Path) -> tuple[str, float, np.ndarray]:
    """(codec, seconds, packets' bytes) of the first audio stream."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    return stream.codec_context.name, samples / stream.rate, packets


def records(out: Path, stem: str) -> list[dict]:
    return [json.loads(line) for line in (out / f"{stem}.records.jsonl").read_text().splitlines()]


def test_frames_that_nobody_holds_are_gone_without_a_search_for_circles(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2)

    def alive() -> int:
        return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())

    gc.collect()
    before, most = alive(), 0
    gc.disable()
    try:
        with VideoSource(tmp_path / "clip.mp4") as source:
            for frame in source.frames():
                assert frame.image.shape[2] == 3
                most = max(most, alive() - before)
    finally:
        gc.enable()
    assert frame.index > 30
    assert (
        1 <= most < frame.index / 2
    )  # those that the decoder's threads give at once, the one shown, the one held back


@pytest.mark.parametrize("variable", [False, True])
def test_times_duration_and_sound_are_kept(recognizer: Recognizer, tmp_path: Path, variable: bool) -> None:
    times = make_clip(tmp_path / "clip.mp4", seconds=2, variable=variable)
    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out")
    annotated = tmp_path / "out" / "clip.annotated.mp4"
    assert done.frames == len(times)
    assert frame_times(annotated) == pytest.approx(times, abs=1e-4)
    assert sound_of(annotated) == sound_of(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as a, av.open(str(annotated)) as b:
        assert b.duration == pytest.approx(a.duration, abs=1e6 / 25)
        assert [stream.type for stream in b.streams] == ["video", "audio"]
    rows = records(tmp_path / "out", "clip")
    assert len(rows) > len(times) / 2
    assert all(row["time_s"] == pytest.approx(times[row["frame"]], abs=1e-4) for row in rows)
    summary = json.loads((tmp_path / "out" / "clip.summary.json").read_text())
    assert (summary["frames"], summary["faces"], summary["complete"]) == (len(times), len(rows), True)
    assert sum(summary["labels"].values()) == len(rows)


def test_boxes_are_drawn_and_the_rest_is_the_picture(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.4, sound=None)
    analyse(tmp_path / "clip.mp4", recognizer, tmp_path)
    before, after = (next(iter(VideoSource(tmp_path / name).frames())).picture.astype(int)
                     for name in ("clip.mp4", "clip.annotated.mp4"))  # fmt: skip
    (row, *_) = records(tmp_path, "clip")
    x, y = round((row["x1"] + row["x2"]) / 2), round(row["y2"]) - 1
    assert after[y, x, 1] > after[y, x, 0] + 60  # a green line at the box's lower edge
    changed = np.abs(after - before).max(axis=2) > 60
    assert 0 < changed.mean() < 0.1


def test_odd_sizes_without_sound(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "odd.mkv", seconds=0.4, size_wh=(161, 121), sound=None, codec="ffv1", pixels="bgr0")
    analyse(tmp_path / "odd.mkv", recognizer, tmp_path)
    with av.open(str(tmp_path / "odd.annotated.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (162, 122)
        assert not container.streams.audio
    assert len(frame_times(tmp_path / "odd.annotated.mp4")) == 10


@pytest.mark.parametrize(
    ("codec", "ending"), [("libmp3lame", "mp4"), ("libopus", "mkv"), ("flac", "mkv"), ("ac3", "ts")]
)
def test_sound_that_mp4_can_hold_is_copied(recognizer: Recognizer, tmp_path: Path, codec: str, ending: str) -> None:
    make_clip(tmp_path / f"clip.{ending}", seconds=1, sound=codec, size_wh=(160, 120))
    done = analyse(tmp_path / f"clip.{ending}", recognizer, tmp_path)
    assert done.warnings == []
    (name, seconds, packets), original = (
        sound_of(tmp_path / file) for file in ("clip.annotated.mp4", f"clip.{ending}")
    )
    assert (name, packets) == (original[0], original[2])
    assert seconds == pytest.approx(original[1], abs=0.02)  # containers differ in what they say of the padding


@pytest.mark.parametrize(("codec", "rate"), [("pcm_f32le", 48_000), ("pcm_s16le", 192_000), ("mp2", 44_100)])
def test_other_sound_is_encoded_again(recognizer: Recognizer, tmp_path: Path, codec: str, rate: int) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=1, sound=codec, rate=rate, size_wh=(160, 120))
    done = analyse(tmp_path / "clip.mkv", recognizer, tmp_path)
    assert done.warnings == []
    name, seconds, _ = sound_of(tmp_path / "clip.annotated.mp4")
    assert name == "aac"
    assert seconds == pytest.approx(sound_of(tmp_path / "clip.mkv")[1], abs=0.06)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_that_lasts_longer_is_no_damage(recognizer: Recognizer, tmp_path: Path, ending: str) -> None:
    make_clip(tmp_path / f"clip.{ending}", seconds=1, sound_seconds=3, size_wh=(160, 120))
    done = analyse(tmp_path / f"clip.{ending}", recognizer, tmp_path)
    assert done.warnings == []
    assert sound_of(tmp_path / "clip.annotated.mp4")[1] == pytest.approx(3, abs=0.05)


def test_sound_that_cannot_be_kept_costs_only_itself(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.run.video_out.COPIED_SOUND", frozenset({"tta"}))  # which an .mp4 does not take
    make_clip(tmp_path / "clip.mkv", seconds=1, sound="tta", size_wh=(160, 120))
    done = analyse(tmp_path / "clip.mkv", recognizer, tmp_path)
    (warning,) = done.warnings
    assert warning.startswith("the sound could not be kept")
    assert len(frame_times(tmp_path / "clip.annotated.mp4")) == done.frames == 25


def turn(path: Path, a: int, b: int, c: int, d: int, x: int = 0, y: int = 0) -> None:
    """Write a matrix that turns the picture into the track header of an .mp4."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(
        ">9i", a * one, b * one, 0, c * one, d * one, 0, x * one, y * one, 1 << 30
    )
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("quarters", "matrix"),
    [(1, (0, 1, -1, 0, 240, 0)), (2, (-1, 0, 0, -1, 320, 240)), (3, (0, -1, 1, 0, 0, 320))],
    ids=["clockwise", "upside down", "anticlockwise"],
)
def test_a_turned_video_is_seen_and_written_upright(
    recognizer: Recognizer, tmp_path: Path, quarters: int, matrix: tuple[int, ...]
) -> None:
    stored = np.ascontiguousarray(np.rot90(read_picture(ASTRONAUT)[:384], k=quarters))
    size_wh = (320, 240) if quarters == 2 else (240, 320)
    make_clip(tmp_path / "clip.mp4", seconds=0.4, size_wh=size_wh, photos=[stored], sound=None)
    turn(tmp_path / "clip.mp4", *matrix)
    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path)
    assert done.faces_seen > 5
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (320, 240, 0)


@pytest.mark.parametrize(
    ("matrix", "mirrored"),
    [((-1, 0, 0, 1, 320, 0), np.fliplr), ((1, 0, 0, -1, 0, 240), np.flipud)],
    ids=["left to right", "top to bottom"],
)
def test_a_mirrored_video_is_seen_as_players_show_it(tmp_path: Path, matrix: tuple[int, ...], mirrored) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.2, sound=None)
    plain = next(iter(VideoSource(tmp_path / "clip.mp4").frames())).picture
    turn(tmp_path / "clip.mp4", *matrix)
    shown = next(iter(VideoSource(tmp_path / "clip.mp4").frames())).picture
    assert np.abs(shown.astype(int) - mirrored(plain)).mean() < 2


def remuxed(path: Path, target: Path, *, shift_s: float) -> None:
    """The same packets, ``shift_s`` later."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        outputs = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            packet.pts += round(shift_s / packet.time_base)
            packet.dts += round(shift_s / packet.time_base)
            packet.stream = outputs[packet.stream.index]
            out.mux(packet)


def test_a_video_that_begins_late_keeps_its_times_in_the_records(recognizer: Recognizer, tmp_path: Path) -> None:
    times = make_clip(tmp_path / "clip.mp4", seconds=1, size_wh=(320, 240))
    remuxed(tmp_path / "clip.mp4", tmp_path / "late.mkv", shift_s=7)
    done = analyse(tmp_path / "late.mkv", recognizer, tmp_path)
    assert done.warnings == []
    rows = records(tmp_path, "late")
    assert all(row["time_s"] == pytest.approx(times[row["frame"]] + 7, abs=2e-3) for row in rows)
    with av.open(str(tmp_path / "late.mkv")) as container:
        start_s = container.start_time / 1e6  # of the sound, which AAC begins a moment before the pictures
    expected = [time + 7 - start_s for time in times]
    assert frame_times(tmp_path / "late.annotated.mp4") == pytest.approx(expected, abs=2e-3)
    assert sound_of(tmp_path / "late.annotated.mp4")[1] == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_frame_lasts_until_the_next_whatever_the_file_says(tmp_path: Path, ending: str) -> None:
    times = make_clip(tmp_path / "clip.mp4", seconds=2, variable=True, sound=None)
    remuxed(tmp_path / "clip.mp4", tmp_path / f"made.{ending}", shift_s=0)
    with VideoSource(tmp_path / f"made.{ending}") as source:
        frames = list(source.frames())
        lengths = [float(frame.duration * source.time_base) for frame in frames]
    assert len(frames) == len(times)
    assert lengths[:-1] == pytest.approx(np.diff(times), abs=2e-3)


def test_a_recording_that_begins_before_0_is_analysed_whole(recognizer: Recognizer, tmp_path: Path) -> None:
    """As FFmpeg gives the times of a transport stream whose counter went round."""
    tick = Fraction(1, 90_000)
    with av.open(str(tmp_path / "early.ts"), "w", options={"mpegts_copyts": "1"}) as container:
        video = container.add_stream("libx264", rate=10, options={"bf": "0"})
        video.width, video.height, video.pix_fmt, video.codec_context.time_base = 160, 120, "yuv420p", tick
        begins = 2**33 - 90_000
        for picture in (*views([read_picture(ASTRONAUT)], 20, (160, 120), 20), None):
            frame = None
            if picture is not None:
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts, frame.time_base, begins = begins, tick, begins + 9000
            container.mux(video.encode(frame))
    with VideoSource(tmp_path / "early.ts") as source:
        found = [frame.time_s for frame in source.frames()]
        assert source.damage == ""
    assert len(found) == 20 and found[0] < -0.5
    done = analyse(tmp_path / "early.ts", recognizer, tmp_path)
    assert done.frames == 20 and frame_times(tmp_path / "early.annotated.mp4")[0] == pytest.approx(0, abs=0.02)


def test_pictures_that_begin_after_the_sound_are_no_damage(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1, size_wh=(160, 120), sound_seconds=4)
    with av.open(str(tmp_path / "clip.mp4")) as source, av.open(str(tmp_path / "late.mkv"), "w") as out:
        outputs = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                late = round(1.5 / packet.time_base) if packet.stream.type == "video" else 0
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                packet.stream = outputs[packet.stream.index]
                out.mux(packet)
    with VideoSource(tmp_path / "late.mkv") as source:
        assert sum(1 for _ in source.frames()) == 25
        assert source.damage == ""


def test_recordings_joined_end_to_end_go_on(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.ts", seconds=2, fps=Fraction(10), size_wh=(160, 120))
    (tmp_path / "joined.ts").write_bytes((tmp_path / "clip.ts").read_bytes() * 2)
    done = analyse(tmp_path / "joined.ts", recognizer, tmp_path)
    times = frame_times(tmp_path / "joined.annotated.mp4")
    assert done.frames == len(times) == 40
    assert np.diff(times) == pytest.approx(np.full(39, 0.1), abs=0.02)
    assert sound_of(tmp_path / "joined.annotated.mp4")[1] == pytest.approx(4, abs=0.3)


def test_the_shape_of_pixels_is_kept(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "wide.mkv", seconds=0.4, size_wh=(180, 144), sound=None, ratio=Fraction(16, 11))
    analyse(tmp_path / "wide.mkv", recognizer, tmp_path)
    with av.open(str(tmp_path / "wide.annotated.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "bgr0"), ("ffv1", "yuv420p10le"), ("mjpeg", "yuvj420p")])
def test_colours_come_through(recognizer: Recognizer, tmp_path: Path, codec: str, pixels: str) -> None:
    """RGB, ten bits, and brightness from 0 to 255: what is not taken as it is."""
    bands = np.repeat(np.uint8([[[200, 30, 30], [30, 160, 40], [40, 60, 190], [128, 128, 128]]]), 64, axis=1)
    make_clip(
        tmp_path / "clip.mkv", seconds=0.4, size_wh=(256, 64), photos=[np.repeat(bands, 64, axis=0)], sound=None,
        codec=codec, pixels=pixels,
    )  # fmt: skip
    analyse(tmp_path / "clip.mkv", recognizer, tmp_path)
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        frame = next(container.decode(video=0))
        seen = frame.to_ndarray(format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU709")
    before = next(iter(VideoSource(tmp_path / "clip.mkv").frames())).picture
    for x in (32, 96, 160, 224):
        np.testing.assert_allclose(seen[32, x].astype(int), before[32, x].astype(int), atol=6)


@pytest.mark.parametrize("said", [Colours(2, 2, 2), Colours(1, 1, 1), Colours(6, 6, 6)])
def test_what_the_source_says_of_its_colours_is_passed_on(
    recognizer: Recognizer, tmp_path: Path, said: Colours
) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        encoder = stream.codec_context
        encoder.colorspace, encoder.color_primaries, encoder.color_trc = said.matrix, said.primaries, said.transfer
        for _ in range(3):
            planes = Planes.of_rgb(np.full((64, 128, 3), (180, 60, 40), np.uint8), said)
            container.mux(stream.encode(planes.frame))
        container.mux(stream.encode(None))
    analyse(tmp_path / "clip.mp4", recognizer, tmp_path)
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 3
    for frame in frames:
        seen = Planes.of(frame)
        assert seen.said == said
        for plane, expected in zip((seen.brightness, *seen.colours), (planes.brightness, *planes.colours), strict=True):
            assert abs(float(plane.mean()) - float(expected.mean())) < 2


def test_colours_that_are_said_otherwise_on_the_way_are_turned_to_the_first(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    red = np.full((64, 128, 3), (180, 60, 40), np.uint8)
    for name, said in (("a", Colours(2, 2, 2)), ("b", Colours(1, 1, 1))):
        with av.open(str(tmp_path / f"{name}.ts"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
            encoder = stream.codec_context
            encoder.colorspace, encoder.color_primaries, encoder.color_trc = said.matrix, said.primaries, said.transfer
            for number in range(50):
                planes = Planes.of_rgb(red, said)
                planes.frame.pts = number
                container.mux(stream.encode(planes.frame))
            container.mux(stream.encode(None))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    assert analyse(joined, recognizer, tmp_path, part_frames=8).frames == 100
    with av.open(str(tmp_path / "joined.annotated.mp4")) as container:
        frames = [Planes.of(frame) for frame in container.decode(video=0)]
    assert {planes.said for planes in frames} == {Colours(2, 2, 2)} and len(frames) == 100
    for planes in frames:
        np.testing.assert_allclose(planes.rgb().mean(axis=(0, 1)), red[0, 0], atol=5)


def test_a_size_that_changes_on_the_way_is_scaled_to_the_first(recognizer: Recognizer, tmp_path: Path) -> None:
    for name, size_wh in (("a", (128, 96)), ("b", (160, 64))):
        make_clip(tmp_path / f"{name}.ts", seconds=2, size_wh=size_wh, sound=None)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    done = analyse(joined, recognizer, tmp_path, part_frames=8)
    with av.open(str(tmp_path / "joined.annotated.mp4")) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(128, 96)] * done.frames and done.frames == 100


def test_a_video_of_one_frame(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.04, sound=None)
    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path)
    assert (done.is_video, done.frames, done.faces_seen, done.warnings) == (True, 1, 1, [])
    assert (tmp_path / "clip.summary.json").is_file()


def test_names_that_look_like_protocols_or_are_not_utf8(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=0.2, sound=None, size_wh=(160, 120))
    for name in (b"10:20.mkv", b"caf\xe9 50%.mkv", b"-q.mkv", b"$a{$b.mkv"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes((tmp_path / "clip.mkv").read_bytes())
        done = analyse(path, recognizer, tmp_path / "out")
        assert done.frames == 5
        done.source.encode()  # can be printed and written


def test_an_avi_that_breaks_off_is_told_by_its_frames(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.avi", seconds=3, size_wh=(160, 120), codec="mpeg4", sound="mp2")
    whole = (tmp_path / "clip.avi").read_bytes()
    for share, damage in ((1.0, ""), (0.5, "of the 75 frames it states")):
        (tmp_path / "cut.avi").write_bytes(whole[: int(len(whole) * share)])
        with VideoSource(tmp_path / "cut.avi") as source:
            assert 20 < sum(1 for _ in source.frames()) <= 75
            assert source.damage.endswith(damage) and bool(source.damage) == bool(damage)


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_a_video_that_breaks_off_keeps_what_was_read(recognizer: Recognizer, tmp_path: Path, ending: str) -> None:
    make_clip(tmp_path / f"clip.{ending}", seconds=4, fps=Fraction(10), size_wh=(160, 120))
    whole = (tmp_path / f"clip.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    done = analyse(tmp_path / f"cut.{ending}", recognizer, tmp_path)
    assert 5 < done.frames < 35
    assert len(frame_times(tmp_path / "cut.annotated.mp4")) == done.frames
    if ending == "mkv":  # a transport stream does not say how long it should be
        (warning,) = done.warnings
        assert "of the 4.00 s it states; what was read is kept" in warning
        assert json.loads((tmp_path / "cut.summary.json").read_text())["complete"] is False


def test_a_damaged_stretch_is_passed_over_and_said(tmp_path: Path) -> None:
    """In a process of its own: FFmpeg's messages about damage, from several threads, must not block Python."""
    make_clip(tmp_path / "clip.mp4", seconds=6, size_wh=(320, 240))
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    start = content.index(b"mdat") + len(content) // 3
    content[start : start + len(content) // 5] = bytes(len(content) // 5)
    (tmp_path / "clip.mp4").write_bytes(content)
    command = [sys.executable, "-m", "mien.app.cli", "analyze", "clip.mp4", "--detector", "haar"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "clip.mp4: " in done.stderr
    assert "what was read is kept" in done.stderr
    summary = json.loads((tmp_path / "mien-out" / "clip.summary.json").read_text())
    assert 30 < summary["frames"] <= 150
    assert len(frame_times(tmp_path / "mien-out" / "clip.annotated.mp4")) == summary["frames"]


def test_files_that_are_no_videos_leave_nothing_behind(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "whole.mp4", seconds=1, size_wh=(160, 120))
    (tmp_path / "no-index.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:4000])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is not a video")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name, message in (("empty", "is empty"), ("text", "is not a video"), ("no-index", "is not a video"),
                          ("sound", "no video stream")):  # fmt: skip
        with pytest.raises(MediaError, match=f"{name}.mp4: .*{message}"):
            analyse(tmp_path / f"{name}.mp4", recognizer, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_media_only_tables_are_written(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.4)
    analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", media=False, formats=("csv",))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["clip.records.csv", "clip.summary.json", "clip.vtt"]


def outputs_of(folder: Path) -> dict[str, object]:
    """All outputs of clip.mp4: of its annotated video every packet with its time, of the rest the bytes."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".mp4"}
    with av.open(str(folder / "clip.annotated.mp4")) as container:
        found["video"] = [(packet.pts, packet.duration, bytes(packet)) for packet in container.demux() if packet.size]
    return found


@pytest.mark.parametrize("at", [1, 3, 5])
def test_what_was_interrupted_goes_on_as_if_it_had_not_been(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2)
    whole, out = tmp_path / "whole", tmp_path / "out"
    analyse(tmp_path / "clip.mp4", recognizer, whole, part_frames=16)
    real, calls = Recognizer.read_faces, []

    def interrupted(self: Recognizer, pictures: list, found: list) -> list:
        calls.append(len(pictures))
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(self, pictures, found)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recognizer, "read_faces", interrupted)
        analyse(tmp_path / "clip.mp4", recognizer, out, part_frames=16)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    again: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Recognizer, "read_faces", lambda self, p, f: again.append(len(p)) or real(self, p, f))
        analyse(tmp_path / "clip.mp4", recognizer, out, part_frames=16)
    assert outputs_of(out) == outputs_of(whole)
    assert sum(again) == 50 - 16 * ((at - 1) // 2)  # whole parts are not done twice
    assert not any(path.name.startswith(".") for path in out.iterdir())


def test_another_setting_or_another_clip_starts_anew(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1)

    def stops(done_s: float, whole_s: float, frames: int) -> None:
        if frames >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8, watch=stops)
    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8, smoothing_s=1.0)
    plain = analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "plain", part_frames=8, smoothing_s=1.0)
    assert done.frames == plain.frames
    assert outputs_of(tmp_path / "out") == outputs_of(tmp_path / "plain")


def test_who_watches_hears_of_frames_that_were_done_before(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2)
    heard: list[int] = []

    def stops(done_s: float, whole_s: float, frames: int) -> None:
        if frames >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8, watch=stops)
    analyse(
        tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8, watch=lambda *what: heard.append(what[2])
    )
    assert heard.count(heard[0]) >= 20 and heard[0] >= 24 and heard == sorted(heard)


def test_a_source_that_is_gone_when_its_sound_is_wanted_costs_only_the_sound(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1)

    def removes(*_: object) -> None:
        (tmp_path / "clip.mp4").unlink(missing_ok=True)

    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", watch=removes)
    assert done.frames == 25 and "the sound could not be kept (the source does not exist)" in done.warnings[0]
    with av.open(str(tmp_path / "out" / "clip.annotated.mp4")) as container:
        assert not container.streams.audio


def test_an_error_leaves_nothing(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1)

    def refuses(done_s: float, whole_s: float, frames: int) -> None:
        raise ValueError("not wanted any more")

    with pytest.raises(ValueError, match="not wanted"):
        analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", watch=refuses)
    assert list((tmp_path / "out").iterdir()) == []
