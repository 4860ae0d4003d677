from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien import Recognizer
from mien.analysis.media.animation import AnimationSource
from mien.analysis.media.inputs import Input
from mien.analysis.media.source import open_video
from mien.analysis.media.video_reader import Sampling
from mien.analysis.output.stills import read_frames_at
from mien.core.errors import MediaError
from tests.analysis.footage import analyze, frame_times, records
from tests.conftest import ASTRONAUT

KINDS = ("gif", "webp", "png", "avif")
DURATIONS_MS = [100, 200, 40, 300]


def save(path: Path, pictures: list[Image.Image], durations_ms: list[int], kind: str = "") -> Path:
    kind = kind or path.suffix[1:]
    lossless = {"lossless": True} if kind == "webp" else {"quality": 95} if kind == "avif" else {}
    pictures[0].save(path, kind, save_all=True, append_images=pictures[1:], duration=durations_ms, **lossless)
    return path


def plain(*values: int) -> list[Image.Image]:
    return [Image.new("RGB", (32, 24), (value, value, value)) for value in values]


@pytest.mark.parametrize("kind", KINDS)
def test_frames_come_with_their_own_times(kind: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a.{kind}", plain(10, 90, 170, 250), DURATIONS_MS)
    assert Input(path, Path("a")).is_video
    with open_video(path) as source:
        frames = list(source.frames())
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.3, 0.34])
    assert [float(frame.duration * source.time_base) for frame in frames] == pytest.approx([0.1, 0.2, 0.04, 0.3])
    assert [int(frame.picture[5, 5, 0]) for frame in frames] == pytest.approx([10, 90, 170, 250], abs=2)
    assert (source.damage, source.end_s) == ("", pytest.approx(0.64))


@pytest.mark.parametrize("name", ["a.mp4", "a.jpg", "a"])
def test_an_animation_is_one_whatever_it_is_called(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, plain(10, 90), [100, 100], "gif")
    assert Input(path, Path("a")).is_video
    with open_video(path) as source:
        assert isinstance(source, AnimationSource)


@pytest.mark.parametrize("kind", KINDS)
def test_one_frame_is_a_picture(kind: str, tmp_path: Path) -> None:
    plain(10)[0].save(tmp_path / f"a.{kind}")
    assert not Input(tmp_path / f"a.{kind}", Path("a")).is_video


def test_a_duration_of_nothing_is_shown_as_browsers_show_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", plain(10, 90, 170), [0, 10, 20])
    with open_video(path) as source:
        assert [frame.time_s for frame in source.frames()] == pytest.approx([0.0, 0.1, 0.2])


def test_a_picture_for_those_who_know_no_animations_is_no_frame(tmp_path: Path) -> None:
    first, *others = plain(10, 90, 170)
    first.save(tmp_path / "a.png", save_all=True, append_images=others, duration=100, default_image=True)
    with open_video(tmp_path / "a.png") as source:
        assert [int(frame.picture[0, 0, 0]) for frame in source.frames()] == [90, 170]


def test_frames_that_hold_only_what_changes_are_put_together_over_white(tmp_path: Path) -> None:
    first = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    second = first.copy()
    second.paste((200, 0, 0, 255), (0, 0, 5, 5))
    path = save(tmp_path / "a.webp", [first, second], [100, 100])
    with open_video(path) as source:
        one, two = (frame.picture for frame in source.frames())
    assert one.min() == 255
    assert (two[2, 2].tolist(), two[15, 15].tolist()) == ([200, 0, 0], [255, 255, 255])


@pytest.mark.parametrize(
    ("sampling", "times", "ends"),
    [
        (Sampling(0.1), [0.1, 0.3, 0.34], 0.64),
        (Sampling(0.1, 0.32), [0.1, 0.3], 0.32),
        (Sampling(every_s=0.3), [0.0, 0.3], 0.64),
    ],
)
def test_a_part_or_few_frames_of_it(sampling: Sampling, times: list[float], ends: float, tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", plain(10, 90, 170, 250), DURATIONS_MS)
    with open_video(path, sampling) as source:
        frames = list(source.frames())
        assert [frame.time_s for frame in frames] == pytest.approx(times)
        last = frames[-1]
        assert float((last.pts + last.duration) * source.time_base) == pytest.approx(ends)
    passed = []
    with open_video(path, sampling) as source:
        rest = list(source.frames(1, lambda: passed.append(1)))
    assert [frame.time_s for frame in rest] == pytest.approx(times[1:])
    assert len(passed) == 1


def test_what_is_cut_off_is_read_in_part_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(5)]
    content = io.BytesIO()
    noise[0].save(content, "png", save_all=True, append_images=noise[1:], duration=100)
    (tmp_path / "a.png").write_bytes(content.getvalue()[: len(content.getvalue()) // 2])
    with open_video(tmp_path / "a.png") as source:
        assert 1 <= len(list(source.frames())) < 5
        assert source.is_cut_off
        assert "the file cannot be read after" in source.damage


def test_one_that_holds_no_frame_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", plain(10, 90), [100, 100])
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(MediaError, match=r"a.gif: "), open_video(path) as source:
        list(source.frames())


def test_a_moving_face_is_analyzed_as_in_a_video(tmp_path: Path) -> None:
    face = Image.open(ASTRONAUT).convert("RGB").resize((256, 256))
    path = save(tmp_path / "face.webp", [face, face.transpose(Image.Transpose.FLIP_LEFT_RIGHT)], [500, 700])
    done = analyze(path, Recognizer("nano", detector="haar"), tmp_path / "out")
    assert (done.is_video, done.frames, done.warnings) == (True, 2, [])
    rows = records(tmp_path / "out", "face")
    assert [row["time_s"] for row in rows] == [0.0, 0.5]
    assert all(row["track"] is not None for row in rows)
    assert frame_times(tmp_path / "out" / "face.annotated.mp4") == pytest.approx([0.0, 0.5])
    (still,) = read_frames_at(path, [0.5])
    assert np.abs(still.astype(int) - np.asarray(face)[:, ::-1]).mean() < 3


def test_a_later_frame_that_claims_to_be_huge_ends_it(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", plain(10, 90), [100, 100])
    content = bytearray(path.read_bytes())
    place = content.rindex(b"!\xf9\x04") + 8  # where the second frame's descriptor begins
    assert content[place] == ord(",")
    content[place + 5 : place + 9] = b"\xff\xff\xff\xff"  # 65,535 x 65,535
    path.write_bytes(content)
    assert Input(path, Path("a")).is_video
    with open_video(path) as source:
        assert [frame.time_s for frame in source.frames()] == [0.0]
        assert "the file cannot be read after 0.10 s" in source.damage


def test_an_animation_whose_frames_were_all_read_goes_on_with_none(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", plain(10, 120, 240), [100, 200, 300])
    for skip, left in ((2, [2]), (3, [])):
        with AnimationSource(path) as source:
            assert [frame.index for frame in source.frames(skip)] == left


def test_the_limit_of_pixels_holds_for_animations_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.gif", plain(10, 120), [100, 100])
    with pytest.raises(MediaError, match="more than"):
        open_video(path, max_pixels=10)
