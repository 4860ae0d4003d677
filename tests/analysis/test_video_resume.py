"""What was interrupted goes on; what fails leaves nothing."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from clips import make_clip

from mien import Recognizer
from mien.analysis.media import video_writer as video_out
from mien.core.errors import OutputError
from tests.analysis.footage import analyse, outputs_of


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


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


def test_a_disk_that_is_full_at_the_end_costs_no_part(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=2)

    def full(*_: object) -> str:
        raise OutputError("clip.annotated.mp4", "cannot be written (No space left on device)", "make room")

    with monkeypatch.context() as patched, pytest.raises(OutputError):
        patched.setattr(video_out, "join_parts", full)
        analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8)
    calls = []
    monkeypatch.setattr(Recognizer, "read_faces", lambda *_: calls.append(1))
    assert analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8).frames == 50
    assert not calls and not list((tmp_path / "out").glob(".*"))


def test_an_error_leaves_nothing(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1)

    def refuses(done_s: float, whole_s: float, frames: int) -> None:
        raise ValueError("not wanted any more")

    with pytest.raises(ValueError, match="not wanted"):
        analyse(tmp_path / "clip.mp4", recognizer, tmp_path / "out", watch=refuses)
    assert list((tmp_path / "out").iterdir()) == []
