"""Videos whole, broken and without pictures: times, sound and what is drawn; nothing half done is left."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip

from mien import Recognizer, __version__
from mien.analysis.media.video_reader import Sampling, VideoSource
from mien.analysis.settings import OUTPUTS
from mien.core.errors import MediaError, OutputError
from tests.analysis.footage import analyze, frame_times, records, sound_of
from tests.conftest import ASTRONAUT, ROOT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


@pytest.mark.slow
def test_frames_that_nobody_holds_are_gone_without_a_search_for_circles(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2)

    def alive() -> int:
        return sum(type(thing) is av.VideoFrame for thing in gc.get_objects())

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
    done = analyze(tmp_path / "clip.mp4", recognizer, tmp_path / "out")
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
    assert summary["settings"] == {
        "version": __version__, "tta": "none", "detector_threshold": None, "unsure_below": recognizer.thresholds.unsure_below,
        "drop_above": None, "largest_faces": 0, "smoothing_s": 0.25,
    }  # fmt: skip
    assert sum(summary["labels"].values()) == len(rows)


def test_boxes_are_drawn_and_the_rest_is_the_picture(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.4, sound=None)
    analyze(tmp_path / "clip.mp4", recognizer, tmp_path)
    before, after = (next(iter(VideoSource(tmp_path / name).frames())).picture.astype(int)
                     for name in ("clip.mp4", "clip.annotated.mp4"))  # fmt: skip
    (row, *_) = records(tmp_path, "clip")
    x, y = round((row["x1"] + row["x2"]) / 2), round(row["y2"]) - 1
    assert after[y, x, 1] > after[y, x, 0] + 60  # a green line at the box's lower edge
    changed = np.abs(after - before).max(axis=2) > 60
    assert 0 < changed.mean() < 0.1


def test_odd_sizes_without_sound(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "odd.mkv", seconds=0.4, size_wh=(161, 121), sound=None, codec="ffv1", pixels="bgr0")
    analyze(tmp_path / "odd.mkv", recognizer, tmp_path)
    with av.open(str(tmp_path / "odd.annotated.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (162, 122)
        assert not container.streams.audio
    assert len(frame_times(tmp_path / "odd.annotated.mp4")) == 10


@pytest.mark.parametrize(
    ("codec", "ending"), [("libmp3lame", "mp4"), ("libopus", "mkv"), ("flac", "mkv"), ("ac3", "ts")]
)
def test_sound_that_mp4_can_hold_is_copied(recognizer: Recognizer, tmp_path: Path, codec: str, ending: str) -> None:
    make_clip(tmp_path / f"clip.{ending}", seconds=1, sound=codec, size_wh=(160, 120))
    done = analyze(tmp_path / f"clip.{ending}", recognizer, tmp_path)
    assert done.warnings == []
    (name, seconds, packets), original = (
        sound_of(tmp_path / file) for file in ("clip.annotated.mp4", f"clip.{ending}")
    )
    assert (name, packets) == (original[0], original[2])
    assert seconds == pytest.approx(original[1], abs=0.02)  # containers differ in what they say of the padding


@pytest.mark.parametrize(("codec", "rate"), [("pcm_f32le", 48_000), ("pcm_s16le", 192_000), ("mp2", 44_100)])
def test_other_sound_is_encoded_again(recognizer: Recognizer, tmp_path: Path, codec: str, rate: int) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=1, sound=codec, rate=rate, size_wh=(160, 120))
    done = analyze(tmp_path / "clip.mkv", recognizer, tmp_path)
    assert done.warnings == []
    name, seconds, _ = sound_of(tmp_path / "clip.annotated.mp4")
    assert name == "aac"
    assert seconds == pytest.approx(sound_of(tmp_path / "clip.mkv")[1], abs=0.06)


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_sound_that_lasts_longer_is_no_damage(recognizer: Recognizer, tmp_path: Path, ending: str) -> None:
    make_clip(tmp_path / f"clip.{ending}", seconds=1, sound_seconds=3, size_wh=(160, 120))
    done = analyze(tmp_path / f"clip.{ending}", recognizer, tmp_path)
    assert done.warnings == []
    assert sound_of(tmp_path / "clip.annotated.mp4")[1] == pytest.approx(3, abs=0.05)


def test_sound_that_cannot_be_kept_costs_only_itself(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mien.analysis.media.video_writer.COPIED_AUDIO_CODECS", frozenset({"tta"})
    )  # which an .mp4 does not take
    make_clip(tmp_path / "clip.mkv", seconds=1, sound="tta", size_wh=(160, 120))
    done = analyze(tmp_path / "clip.mkv", recognizer, tmp_path)
    (warning,) = done.warnings
    assert warning.startswith("the sound could not be kept")
    assert len(frame_times(tmp_path / "clip.annotated.mp4")) == done.frames == 25


@pytest.mark.parametrize(("ending", "rate"), [("flv", 11_025), ("avi", 8_000), ("mkv", 16_000)])
def test_mp3_of_a_rate_that_mp4_does_not_take_is_encoded_again(
    recognizer: Recognizer, tmp_path: Path, ending: str, rate: int
) -> None:
    codec = "flv" if ending == "flv" else "libx264"
    make_clip(tmp_path / f"clip.{ending}", seconds=1, sound="libmp3lame", rate=rate, size_wh=(160, 120), codec=codec)
    assert analyze(tmp_path / f"clip.{ending}", recognizer, tmp_path).warnings == []
    name, seconds, _ = sound_of(tmp_path / "clip.annotated.mp4")
    assert name == ("aac" if rate < 16_000 else "mp3float")
    assert seconds == pytest.approx(sound_of(tmp_path / f"clip.{ending}")[1], abs=0.15)


def test_sound_that_nothing_here_knows_costs_only_itself(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "aac.mkv", seconds=1, size_wh=(160, 120))
    (tmp_path / "clip.mkv").write_bytes((tmp_path / "aac.mkv").read_bytes().replace(b"A_AAC", b"A_XYZ"))
    done = analyze(tmp_path / "clip.mkv", recognizer, tmp_path)
    (warning,) = done.warnings
    assert warning.startswith("the sound could not be kept (there is no decoder for its format)")
    assert len(frame_times(tmp_path / "clip.annotated.mp4")) == done.frames == 25


def test_a_video_of_one_frame(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.04, sound=None)
    done = analyze(tmp_path / "clip.mp4", recognizer, tmp_path, outputs=OUTPUTS)
    assert (done.is_video, done.frames, done.faces_seen, done.warnings) == (True, 1, 1, [])
    assert (tmp_path / "clip.summary.json").is_file()


def test_names_that_look_like_protocols_or_are_not_utf8(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=0.2, sound=None, size_wh=(160, 120))
    for name in (b"10:20.mkv", b"caf\xe9 50%.mkv", b"-q.mkv", b"$a{$b.mkv"):
        path = tmp_path / os.fsdecode(name)
        path.write_bytes((tmp_path / "clip.mkv").read_bytes())
        done = analyze(path, recognizer, tmp_path / "out", outputs=OUTPUTS)
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
    done = analyze(tmp_path / f"cut.{ending}", recognizer, tmp_path)
    assert 5 < done.frames < 35
    assert len(frame_times(tmp_path / "cut.annotated.mp4")) == done.frames
    if ending == "mkv":  # a transport stream does not say how long it should be
        (warning,) = done.warnings
        assert "of the 4.00 s it states; what was read is kept" in warning
        assert json.loads((tmp_path / "cut.summary.json").read_text())["complete"] is False


@pytest.mark.slow
def test_a_damaged_stretch_is_passed_over_and_said(tmp_path: Path) -> None:
    """In a process of its own: FFmpeg's messages about damage, from several threads, must not block Python."""
    make_clip(tmp_path / "clip.mp4", seconds=6, size_wh=(320, 240))
    content = bytearray((tmp_path / "clip.mp4").read_bytes())
    start = content.index(b"mdat") + len(content) // 3
    content[start : start + len(content) // 5] = bytes(len(content) // 5)
    (tmp_path / "clip.mp4").write_bytes(content)
    command = [sys.executable, "-m", "mien.cli.main", "analyze", "clip.mp4", "--detector", "haar"]
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
    (tmp_path / "notes.txt").write_text("A text that FFmpeg would type out. " * 20)
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as archive:
        archive.write(ASTRONAUT, "a.jpg")
    for name in ("notes.txt", "pictures.zip"):
        with pytest.raises(MediaError, match=f"{name}: is neither a picture nor a video"):
            analyze(tmp_path / name, recognizer, tmp_path / "out")
    for name, message in (("empty", "is empty"), ("text", "is not a video"), ("no-index", "is not a video"),
                          ("sound", "no video stream")):  # fmt: skip
        with pytest.raises(MediaError, match=f"{name}.mp4: .*{message}"):
            analyze(tmp_path / f"{name}.mp4", recognizer, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_words_in_a_file_that_are_no_utf8_or_no_time(recognizer: Recognizer, tmp_path: Path) -> None:
    for ending, tag in (("avi", {"title": "Interview XX"}), ("mkv", {"title": "Interview XX"})):
        path = tmp_path / f"old.{ending}"
        with av.open(str(path), "w") as container:
            container.metadata.update(tag)
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for _ in range(5):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
            container.mux(stream.encode(None))
        content = path.read_bytes()
        assert b"Interview XX" in content
        path.write_bytes(content.replace(b"Interview XX", b"Interview \xe9\xe8").replace(b"00:00:00.", b"00:00:0x."))
        assert analyze(path, recognizer, tmp_path / "out", outputs=OUTPUTS[1:]).frames == 5


def test_subtitles_that_lie_where_captions_would_are_kept(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.4)
    (tmp_path / "clip.vtt").write_text("mine")
    with pytest.raises(OutputError, match=r"clip.vtt: is there already .*; choose another folder with `out`"):
        analyze(tmp_path / "clip.mp4", recognizer, tmp_path)
    assert (tmp_path / "clip.vtt").read_text() == "mine"
    (tmp_path / "clip.vtt").unlink()
    for _ in range(2):  # our own are replaced
        analyze(tmp_path / "clip.mp4", recognizer, tmp_path)
    assert (tmp_path / "clip.vtt").read_text().startswith("WEBVTT")


def test_without_media_only_tables_are_written(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.4)
    analyze(tmp_path / "clip.mp4", recognizer, tmp_path / "out", formats=("csv",), outputs=())
    names = sorted(path.name for path in (tmp_path / "out").glob("[!.]*"))
    assert names == ["clip.records.csv", "clip.summary.json"]


def test_captions_go_with_the_video_that_there_is(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2)
    starts = []
    for outputs in (OUTPUTS, OUTPUTS[1:]):
        analyze(tmp_path / "clip.mp4", recognizer, tmp_path / "out", outputs=outputs, sampling=Sampling(1.0))
        cue = next(line for line in (tmp_path / "out" / "clip.vtt").read_text().splitlines() if "-->" in line)
        starts.append(cue.partition(" ")[0])
    assert starts == [
        "00:00:00.000",
        "00:00:01.000",
    ]  # of the annotated part, which begins at 0, and of the clip itself
