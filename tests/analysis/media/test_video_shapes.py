"""Videos that are turned, mirrored, late, joined, of odd pixels or of changing color and size."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, make_views
from PIL import Image

from mien import Recognizer
from mien.analysis.media.video_reader import VideoSource
from mien.analysis.media.yuv import ColorSpec, YuvImage
from mien.analysis.output.stills import read_frames_at
from mien.analysis.settings import OUTPUTS
from mien.core.pictures import read_picture
from tests.analysis.footage import analyze, frame_times, records, remuxed, sound_of, turn
from tests.conftest import ASTRONAUT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


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
    done = analyze(tmp_path / "clip.mp4", recognizer, tmp_path)
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


def test_a_video_that_begins_late_keeps_its_times_in_the_records(recognizer: Recognizer, tmp_path: Path) -> None:
    times = make_clip(tmp_path / "clip.mp4", seconds=1, size_wh=(320, 240))
    remuxed(tmp_path / "clip.mp4", tmp_path / "late.mkv", shift_s=7)
    done = analyze(tmp_path / "late.mkv", recognizer, tmp_path, outputs=OUTPUTS)
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


def test_a_recording_that_begins_before_0_is_analyzed_whole(recognizer: Recognizer, tmp_path: Path) -> None:
    """As FFmpeg gives the times of a transport stream whose counter went round."""
    tick = Fraction(1, 90_000)
    with av.open(str(tmp_path / "early.ts"), "w", options={"mpegts_copyts": "1"}) as container:
        video = container.add_stream("libx264", rate=10, options={"bf": "0"})
        video.width, video.height, video.pix_fmt, video.codec_context.time_base = 160, 120, "yuv420p", tick
        begins = 2**33 - 90_000
        for picture in (*make_views([read_picture(ASTRONAUT)], 20, (160, 120), 20), None):
            frame = None
            if picture is not None:
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts, frame.time_base, begins = begins, tick, begins + 9000
            container.mux(video.encode(frame))
    with VideoSource(tmp_path / "early.ts") as source:
        found = [frame.time_s for frame in source.frames()]
        assert source.damage == ""
    assert len(found) == 20 and found[0] < -0.5
    done = analyze(tmp_path / "early.ts", recognizer, tmp_path)
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
    done = analyze(tmp_path / "joined.ts", recognizer, tmp_path)
    times = frame_times(tmp_path / "joined.annotated.mp4")
    assert done.frames == len(times) == 40
    assert np.diff(times) == pytest.approx(np.full(39, 0.1), abs=0.02)
    assert sound_of(tmp_path / "joined.annotated.mp4")[1] == pytest.approx(4, abs=0.3)


@pytest.mark.parametrize("quarters", [0, 1], ids=["upright", "turned"])
def test_pixels_that_are_not_square_are_made_so(tmp_path: Path, quarters: int) -> None:
    """A squeezed face is read as it is shown, and lies where it is shown."""
    square, squeezed = tmp_path / "square.mp4", tmp_path / "squeezed.mp4"
    recognizer = Recognizer("base", detector="haar", people=1)
    shown = np.asarray(Image.fromarray(read_picture(ASTRONAUT)).resize((360, 360)))
    stored = np.asarray(Image.fromarray(np.rot90(shown, k=quarters)).resize((180, 360), Image.Resampling.BOX))
    shape = {"seconds": 0.4, "fps": Fraction(10), "sound": None}
    make_clip(square, size_wh=(360, 360), pictures=[shown] * 4, **shape)
    make_clip(squeezed, size_wh=(180, 360), pictures=[stored] * 4, ratio=Fraction(2), **shape)
    if quarters:
        turn(squeezed, 0, 1, -1, 0, 180, 0)
    for path in (square, squeezed):
        analyze(path, recognizer, tmp_path)
    expected, found = records(tmp_path, "square"), records(tmp_path, "squeezed")
    assert {row["label"] for row in found} == {"happy"}
    sides = ("x1", "y1", "x2", "y2")
    for one, other in zip(found, expected, strict=True):
        assert [one[side] for side in sides] == pytest.approx([other[side] for side in sides], abs=15)
    with av.open(str(tmp_path / "squeezed.annotated.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.sample_aspect_ratio or 1) == (360, 360, 1)
    (still,) = read_frames_at(squeezed, [found[-1]["time_s"]])
    assert still.shape == (360, 360, 3)


@pytest.mark.parametrize(("codec", "pixels"), [("ffv1", "bgr0"), ("ffv1", "yuv420p10le"), ("mjpeg", "yuvj420p")])
def test_colors_come_through(recognizer: Recognizer, tmp_path: Path, codec: str, pixels: str) -> None:
    """RGB, ten bits, and brightness from 0 to 255: what is not taken as it is."""
    bands = np.repeat(np.uint8([[[200, 30, 30], [30, 160, 40], [40, 60, 190], [128, 128, 128]]]), 64, axis=1)
    make_clip(
        tmp_path / "clip.mkv", seconds=0.4, size_wh=(256, 64), photos=[np.repeat(bands, 64, axis=0)], sound=None,
        codec=codec, pixels=pixels,
    )  # fmt: skip
    analyze(tmp_path / "clip.mkv", recognizer, tmp_path)
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        frame = next(container.decode(video=0))
        seen = frame.to_ndarray(format="rgb24", src_colorspace="ITU709", dst_colorspace="ITU709")
    before = next(iter(VideoSource(tmp_path / "clip.mkv").frames())).picture
    for x in (32, 96, 160, 224):
        np.testing.assert_allclose(seen[32, x].astype(int), before[32, x].astype(int), atol=6)


@pytest.mark.parametrize("said", [ColorSpec(2, 2, 2), ColorSpec(1, 1, 1), ColorSpec(6, 6, 6)])
def test_what_the_source_says_of_its_colors_is_passed_on(
    recognizer: Recognizer, tmp_path: Path, said: ColorSpec
) -> None:
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        encoder = stream.codec_context
        encoder.colorspace, encoder.color_primaries, encoder.color_trc = said.matrix, said.primaries, said.transfer
        for _ in range(3):
            planes = YuvImage.from_rgb(np.full((64, 128, 3), (180, 60, 40), np.uint8), said)
            container.mux(stream.encode(planes.frame))
        container.mux(stream.encode(None))
    analyze(tmp_path / "clip.mp4", recognizer, tmp_path)
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 3
    for frame in frames:
        seen = YuvImage.from_frame(frame)
        assert seen.color_spec == said
        for plane, expected in zip((seen.luma, *seen.chroma), (planes.luma, *planes.chroma), strict=True):
            assert abs(float(plane.mean()) - float(expected.mean())) < 2


def test_colors_that_are_said_otherwise_on_the_way_are_turned_to_the_first(
    recognizer: Recognizer, tmp_path: Path
) -> None:
    red = np.full((64, 128, 3), (180, 60, 40), np.uint8)
    for name, said in (("a", ColorSpec(2, 2, 2)), ("b", ColorSpec(1, 1, 1))):
        with av.open(str(tmp_path / f"{name}.ts"), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
            stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
            encoder = stream.codec_context
            encoder.colorspace, encoder.color_primaries, encoder.color_trc = said.matrix, said.primaries, said.transfer
            for number in range(50):
                planes = YuvImage.from_rgb(red, said)
                planes.frame.pts = number
                container.mux(stream.encode(planes.frame))
            container.mux(stream.encode(None))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    assert analyze(joined, recognizer, tmp_path, part_frames=8).frames == 100
    with av.open(str(tmp_path / "joined.annotated.mp4")) as container:
        frames = [YuvImage.from_frame(frame) for frame in container.decode(video=0)]
    assert {planes.color_spec for planes in frames} == {ColorSpec(2, 2, 2)} and len(frames) == 100
    for planes in frames:
        np.testing.assert_allclose(planes.to_rgb().mean(axis=(0, 1)), red[0, 0], atol=5)


def test_a_size_that_changes_on_the_way_is_scaled_to_the_first(recognizer: Recognizer, tmp_path: Path) -> None:
    for name, size_wh in (("a", (128, 96)), ("b", (160, 64))):
        make_clip(tmp_path / f"{name}.ts", seconds=2, size_wh=size_wh, sound=None)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "ab"))
    done = analyze(joined, recognizer, tmp_path, part_frames=8)
    with av.open(str(tmp_path / "joined.annotated.mp4")) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(128, 96)] * done.frames and done.frames == 100
