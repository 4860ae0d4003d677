"""When an expression peaks, and the frames of then."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

from mien.analysis.media.video_reader import VideoSource
from mien.analysis.output.stills import TILE, crop_tile, make_contact_sheet, read_frames_at, still_name
from mien.analysis.people.peaks import Peak
from mien.core.errors import MediaError
from mien.core.labels import FER2013
from tests.analysis.footage import remuxed, turn


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "avi"])
def test_frames_that_are_sought_are_those_that_come_by(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"clip.{ending}"
    make_clip(path, seconds=3, size_wh=(160, 120), variable=ending in ("mp4", "mkv"), sound=None)
    with VideoSource(path) as source:
        frames = {frame.time_s: frame.picture for frame in source.frames()}
    times = [time for index, time in enumerate(frames) if index in (0, 1, 20, 21, len(frames) - 1)]
    for time, picture in zip(times, read_frames_at(path, times), strict=True):
        assert (picture == frames[time]).all()


def test_frames_of_a_turned_video_that_begins_late_are_upright(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2, size_wh=(160, 120), sound=None)
    remuxed(tmp_path / "clip.mp4", tmp_path / "late.mp4", shift_s=7)
    turn(tmp_path / "late.mp4", 0, 1, -1, 0, 120, 0)
    with VideoSource(tmp_path / "late.mp4") as source:
        frames = {frame.time_s: frame.picture for frame in source.frames()}
    times = list(frames)[5::20]
    assert times[0] > 7
    for time, picture in zip(times, read_frames_at(tmp_path / "late.mp4", times), strict=True):
        assert picture.shape == (160, 120, 3)
        assert (picture == frames[time]).all()


def test_a_file_that_cannot_be_searched_is_read_from_its_start(tmp_path: Path) -> None:
    """A raw stream has neither an index nor times of its own."""
    path = tmp_path / "clip.h264"
    make_clip(path, seconds=1, size_wh=(160, 120), sound=None)
    with VideoSource(path) as source:
        frames = {frame.time_s: frame.picture for frame in source.frames()}
    times = list(frames)[3:20:8]
    for time, picture in zip(times, read_frames_at(path, times), strict=True):
        assert (picture == frames[time]).all()


def test_of_joined_recordings_the_frames_are_those_that_were_analyzed(tmp_path: Path) -> None:
    """Their own times overlap: at 2.5 s there is a frame of each."""
    for name, shift_s, gray in (("first", 0, 60), ("second", 1, 200)):
        pictures = (np.full((120, 160, 3), gray + index, np.uint8) for index in range(30))
        make_clip(
            tmp_path / f"{name}.mp4", seconds=3, fps=Fraction(10), size_wh=(160, 120), sound=None, pictures=pictures
        )
        remuxed(tmp_path / f"{name}.mp4", tmp_path / f"{name}.ts", shift_s=shift_s)
    path = tmp_path / "joined.ts"
    path.write_bytes((tmp_path / "first.ts").read_bytes() + (tmp_path / "second.ts").read_bytes())
    with VideoSource(path) as source:
        frames = {frame.time_s: frame.picture for frame in source.frames()}
        assert source.has_rebuilt_times
    times = [list(frames)[place] for place in (5, 25, 31, 31, 55)]
    for time, picture in zip(times, read_frames_at(path, times, has_rebuilt_times=True), strict=True):
        assert (picture == frames[time]).all()
        picture[:] = 0  # as when it is drawn on


def test_records_of_another_video_are_found_out(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1, fps=Fraction(10), size_wh=(160, 120), sound=None)
    for time in (0.25, 3.0):
        with pytest.raises(MediaError, match=r"has no frame at .* the records are of another video"):
            list(read_frames_at(tmp_path / "clip.mp4", [time]))
        with pytest.raises(MediaError, match=r"has no frame at .* the records are of another video"):
            list(read_frames_at(tmp_path / "clip.mp4", [0.1, time], has_rebuilt_times=True))


@pytest.mark.parametrize("box", [(40, 30, 60, 50), (-5, -5, 10, 10), (90, 50, 130, 90), (0, 0, 120, 80), (1, 1, 2, 2)])
def test_tiles_are_square_pieces_around_the_face(box: tuple) -> None:
    y, x = np.mgrid[:80, :120].astype(np.uint8)
    tile = crop_tile(np.stack([x, y, np.zeros_like(x)], axis=-1), box).astype(int)
    assert tile.shape == (TILE, TILE, 3)
    assert np.ptp(tile[..., 0]) == pytest.approx(np.ptp(tile[..., 1]), abs=3)  # the shape of things is kept
    center = np.clip([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], 0, (119, 79))
    assert tile[..., 0].min() - 1 <= center[0] <= tile[..., 0].max() + 1
    assert tile[..., 1].min() - 1 <= center[1] <= tile[..., 1].max() + 1


def test_the_sheet_has_a_line_for_each_expression() -> None:
    moments = [Peak(name, 0.5, 75.5, 75.5, 0, 0, (0, 0, 9, 9)) for name in FER2013 for _ in range(3)]
    tiles = [np.full((TILE, TILE, 3), 10 * index, np.uint8) for index in range(21)]
    sheet = make_contact_sheet(tiles, moments)
    assert sheet[12 + TILE // 2 :: TILE + 44 + 12, 12, 0].tolist() == [0, 30, 60, 90, 120, 150, 180]
    assert sheet.shape[1] == 3 * TILE + 4 * 12
    assert still_name(Peak("a/b c", 0.5, 13.0, 3.0, 0, 0, (0, 0, 9, 9))) == "a_b_c-0003.00s-person1"
