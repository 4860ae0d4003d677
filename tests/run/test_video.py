from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip

from mien import Recognizer
from mien.core.errors import MediaError
from mien.core.pictures import read_picture
from mien.run.pipeline import Done, Settings, analyze_input
from mien.run.sources import Input, VideoSource
from tests.conftest import ASTRONAUT


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


def test_sound_that_mp4_cannot_hold_is_encoded_again(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=1, sound="pcm_f32le")
    analyse(tmp_path / "clip.mkv", recognizer, tmp_path)
    codec, seconds, _ = sound_of(tmp_path / "clip.annotated.mp4")
    assert codec == "aac"
    assert seconds == pytest.approx(sound_of(tmp_path / "clip.mkv")[1], abs=0.05)


def test_a_rotated_video_is_seen_and_written_upright(recognizer: Recognizer, tmp_path: Path) -> None:
    sideways = np.rot90(read_picture(ASTRONAUT), k=1)
    make_clip(
        tmp_path / "clip.mp4", seconds=0.4, size_wh=(240, 320), photos=[np.ascontiguousarray(sideways)], sound=None
    )
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40  # the track header's display matrix: turn clockwise by a quarter
    content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 240 << 16, 0, 1 << 30)
    (tmp_path / "clip.mp4").write_bytes(content)
    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path)
    assert done.faces_seen > 5
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (320, 240, 0)


@pytest.mark.parametrize("ending", ["mkv", "ts"])
def test_a_video_that_breaks_off_keeps_what_was_read(recognizer: Recognizer, tmp_path: Path, ending: str) -> None:
    make_clip(tmp_path / f"clip.{ending}", seconds=4, fps=Fraction(10), size_wh=(160, 120))
    whole = (tmp_path / f"clip.{ending}").read_bytes()
    (tmp_path / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    done = analyse(tmp_path / f"cut.{ending}", recognizer, tmp_path)
    assert 5 < done.frames < 35
    assert len(frame_times(tmp_path / "cut.annotated.mp4")) == done.frames
    if ending == "mkv":  # a transport stream does not say how long it should be
        assert "of the 4.00 s it states" in done.warning
        assert json.loads((tmp_path / "cut.summary.json").read_text())["complete"] is False


def test_a_damaged_stretch_does_not_stop_the_program(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2, size_wh=(160, 120))
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    start = content.index(b"mdat") + len(content) // 3
    content[start : start + 3000] = bytes(3000)
    (tmp_path / "clip.mp4").write_bytes(content)
    done = analyse(tmp_path / "clip.mp4", recognizer, tmp_path)
    assert done.frames > 5
    assert len(frame_times(tmp_path / "clip.annotated.mp4")) == done.frames


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
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.records.csv", "clip.summary.json"]


def test_an_interruption_leaves_no_half_file(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1)
    real, calls = recognizer.analyze_frames, []

    def interrupted(pictures: list) -> list:
        calls.append(len(pictures))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(pictures)

    monkeypatch.setattr(recognizer, "analyze_frames", interrupted)
    with pytest.raises(KeyboardInterrupt):
        analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
