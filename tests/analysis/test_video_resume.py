"""What was interrupted goes on; what fails leaves nothing."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest
from clips import make_clip

from mien import Recognizer
from mien.analysis.manifest import Manifest
from mien.analysis.media import video_writer as video_out
from mien.analysis.media.inputs import Input, list_inputs
from mien.analysis.pipeline import analyze_input
from mien.analysis.settings import OUTPUTS, AnalysisContext
from mien.core.errors import MediaError, OutputError
from tests.analysis.footage import analyze, outputs_of, records
from tests.conftest import ASTRONAUT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


@pytest.fixture(scope="module")
def quick() -> Recognizer:
    """Nothing is searched for: every frame is a face."""
    return Recognizer("base", detector="none")


def small_clip(path: Path, seconds: float = 1.0) -> Path:
    make_clip(path, seconds=seconds, size_wh=(64, 48))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of the astronaut's face."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=2, size_wh=(160, 120))
    return path


@pytest.fixture(scope="module")
def whole(clip: Path, recognizer: Recognizer) -> Path:
    """What an analysis of it writes that nothing interrupts."""
    folder = clip.with_name("whole")
    analyze(clip, recognizer, folder, part_frames=16, outputs=OUTPUTS)
    assert len(records(folder, "clip")) > 25
    return folder


@pytest.mark.parametrize("at", [1, 3, 5])
def test_what_was_interrupted_goes_on_as_if_it_had_not_been(
    recognizer: Recognizer, clip: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    out = tmp_path / "out"
    real, calls = Recognizer.classify_faces, []

    def interrupted(self: Recognizer, pictures: list, found: list) -> list:
        calls.append(len(pictures))
        if len(calls) == at:
            raise KeyboardInterrupt
        return real(self, pictures, found)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Recognizer, "classify_faces", interrupted)
        analyze(clip, recognizer, out, part_frames=16, outputs=OUTPUTS)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    again: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Recognizer, "classify_faces", lambda self, p, f: again.append(len(p)) or real(self, p, f))
        analyze(clip, recognizer, out, part_frames=16, outputs=OUTPUTS)
    assert outputs_of(out) == outputs_of(whole)
    assert sum(again) == 50 - 16 * ((at - 1) // 2)  # whole parts are not done twice
    assert not any(path.name.startswith(".") for path in out.iterdir())


def test_another_setting_or_another_clip_starts_anew(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=1, size_wh=(160, 120))

    def stops(done_s: float, whole_s: float, frames: int) -> None:
        if frames >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8, report_progress=stops)
    done = analyze(tmp_path / "clip.mp4", recognizer, tmp_path / "out", part_frames=8, smoothing_s=1.0)
    plain = analyze(tmp_path / "clip.mp4", recognizer, tmp_path / "plain", part_frames=8, smoothing_s=1.0)
    assert done.frames == plain.frames
    assert outputs_of(tmp_path / "out") == outputs_of(tmp_path / "plain")


def test_who_watches_hears_of_frames_that_were_done_before(quick: Recognizer, clip: Path, tmp_path: Path) -> None:
    heard: list[int] = []

    def stops(done_s: float, whole_s: float, frames: int) -> None:
        if frames >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(clip, quick, tmp_path / "out", part_frames=8, report_progress=stops)
    analyze(clip, quick, tmp_path / "out", part_frames=8, report_progress=lambda *what: heard.append(what[2]))
    assert heard.count(heard[0]) >= 20 and heard[0] >= 24 and heard == sorted(heard)


def test_a_source_that_is_gone_when_its_sound_is_wanted_costs_only_the_sound(quick: Recognizer, tmp_path: Path) -> None:
    small_clip(tmp_path / "clip.mp4")

    def removes(*_: object) -> None:
        (tmp_path / "clip.mp4").unlink(missing_ok=True)

    done = analyze(tmp_path / "clip.mp4", quick, tmp_path / "out", report_progress=removes)
    assert done.frames == 25 and "the sound could not be kept (the source does not exist)" in done.warnings[0]
    with av.open(str(tmp_path / "out" / "clip.annotated.mp4")) as container:
        assert not container.streams.audio


def test_a_disk_that_is_full_at_the_end_costs_no_part(
    quick: Recognizer, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OutputError("clip.annotated.mp4", "cannot be written (No space left on device)", "make room")

    with monkeypatch.context() as patched, pytest.raises(OutputError):
        patched.setattr(video_out, "join_parts", full)
        analyze(clip, quick, tmp_path / "out", part_frames=8)
    calls = []
    monkeypatch.setattr(Recognizer, "classify_faces", lambda *_: calls.append(1))
    assert analyze(clip, quick, tmp_path / "out", part_frames=8).frames == 50
    assert not calls and not list((tmp_path / "out").glob(".*"))


def test_an_error_leaves_nothing(quick: Recognizer, tmp_path: Path) -> None:
    small_clip(tmp_path / "clip.mp4")

    def refuses(done_s: float, whole_s: float, frames: int) -> None:
        raise ValueError("not wanted any more")

    with pytest.raises(ValueError, match="not wanted"):
        analyze(tmp_path / "clip.mp4", quick, tmp_path / "out", report_progress=refuses)
    assert list((tmp_path / "out").iterdir()) == []


#: What libraries raise where the system gives them no memory or no thread; only the first is MemoryError.
LACKS = [
    MemoryError(),
    RuntimeError("can't start new thread"),
    RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : std::bad_alloc"),
    ValueError("OpenCV(4.12.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes"),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", LACKS, ids=lambda error: type(error).__name__)
def test_a_lack_of_memory_or_threads_costs_no_part(
    quick: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    clip, out = small_clip(tmp_path / "clip.mp4"), tmp_path / "out"
    real, calls = Recognizer.classify_faces, []

    def lacks(self: Recognizer, pictures: list, found: list) -> list:
        calls.append(len(pictures))
        if len(calls) == 3:
            raise error
        return real(self, pictures, found)

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(Recognizer, "classify_faces", lacks)
        analyze(clip, quick, out, part_frames=8)
    again: list[int] = []
    monkeypatch.setattr(Recognizer, "classify_faces", lambda self, p, f: again.append(len(p)) or real(self, p, f))
    assert analyze(clip, quick, out, part_frames=8).frames == 25
    assert sum(again) <= 25 - 8


def test_damaged_parts_are_begun_anew_and_it_is_said(
    quick: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = small_clip(tmp_path / "clip.mp4"), tmp_path / "out"

    def stops(done_s: float, whole_s: float, frames: int) -> None:
        if frames >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyze(clip, quick, out, part_frames=8, outputs=OUTPUTS, report_progress=stops)
    (records,) = out.glob(".*.parts/000000.jsonl")
    records.write_text(records.read_text().replace('"label": "', '"label": "x', 1))
    analyze_input(Input(clip, Path("clip")), quick, AnalysisContext(out, part_frames=8))
    told = capsys.readouterr().err
    assert told == (
        f"note: {clip} is analyzed from its beginning: what was kept of it is damaged (000000.jsonl: was changed)\n"
    )
    analyze(clip, quick, tmp_path / "plain", part_frames=8, outputs=OUTPUTS)
    assert outputs_of(out) == outputs_of(tmp_path / "plain")


def test_a_video_that_is_replaced_while_it_is_read_gives_no_outputs(quick: Recognizer, tmp_path: Path) -> None:
    clip, out = small_clip(tmp_path / "clip.mp4"), tmp_path / "out"
    small_clip(tmp_path / "other.mp4", seconds=1.5)

    def replaces(done_s: float, whole_s: float, frames: int) -> None:
        if (tmp_path / "other.mp4").exists():
            (tmp_path / "other.mp4").replace(clip)

    with pytest.raises(MediaError, match="was replaced or changed while it was read"):
        analyze(clip, quick, out, report_progress=replaces)
    assert list(out.iterdir()) == []
    assert analyze(clip, quick, out).frames == 38


def test_a_recording_that_still_grows_is_kept_with_a_warning(quick: Recognizer, tmp_path: Path) -> None:
    clip = small_clip(tmp_path / "clip.mp4")
    size = clip.stat().st_size

    def grows(done_s: float, whole_s: float, frames: int) -> None:
        if clip.stat().st_size == size:
            clip.write_bytes(clip.read_bytes() + b"more")

    done = analyze(clip, quick, tmp_path / "out", report_progress=grows)
    assert done.frames == 25
    assert done.warnings == ["grew by 4 bytes while it was read; analyze it again when it is complete"]


def test_a_file_that_was_replaced_while_it_was_read_is_not_done_before(
    quick: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.jpg").write_bytes(ASTRONAUT.read_bytes())
    (item,) = list_inputs([tmp_path / "x.jpg"])
    manifest = Manifest(tmp_path, {})
    manifest.mark_begun(item)
    os.utime(tmp_path / "x.jpg", ns=(1, 1))  # another file now
    manifest.add_result(item, state="done", outputs=[], done={"outputs": [], "warnings": []})
    assert manifest.find_finished(item) is None
    manifest.close()
    read = Recognizer.read_picture
    monkeypatch.setattr(Recognizer, "read_picture", lambda self, path: (read(self, path), os.utime(path, ns=(2, 2)))[0])
    with pytest.raises(MediaError, match="was replaced or changed while it was read"):
        analyze(tmp_path / "x.jpg", quick, tmp_path / "out")
