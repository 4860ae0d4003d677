"""Parts of a video, samples of it, streams, and many inputs of which some were done before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, make_tone

from mien.analysis.manifest import Manifest
from mien.analysis.media import camera
from mien.analysis.media.camera import CameraSource
from mien.analysis.media.inputs import Input, list_inputs, strip_credentials
from mien.analysis.media.video_reader import Sampling, VideoSource
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisOptions, AnalysisResult
from mien.cli.main import main
from mien.core.errors import MediaError, OutputError
from tests.conftest import ASTRONAUT, ROOT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("base", detector="haar")


@pytest.fixture(scope="module")
def quick() -> Recognizer:
    """Nothing is searched for: every frame is a face."""
    return Recognizer("base", detector="none")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds at 25 frames a second, with sound."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=4)
    return path


def analyze(clip: Path, recognizer: Recognizer, out: Path, sampling: Sampling) -> AnalysisResult:
    """Analyze a clip without drawing its timeline, which takes longer than all the rest of a short one."""
    context = AnalysisContext(out, AnalysisOptions(sampling=sampling, outputs=("media", "captions")), quiet=True)
    return analyze_input(Input(clip, Path("clip")), recognizer, context)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("sampling", "frames"),
    [
        (Sampling(1.0, 2.0), list(range(25, 50))),
        (Sampling(3.5), list(range(88, 100))),
        (Sampling(every_s=0.5), [0, 13, 25, 38, 50, 63, 75, 88]),
        (Sampling(0.2, 1.0, every_s=0.2), [5, 10, 15, 20]),
        (Sampling(every_s=0.04), list(range(100))),
    ],
)
def test_chosen_frames_have_the_numbers_and_times_of_the_whole(
    quick: Recognizer, clip: Path, tmp_path: Path, sampling: Sampling, frames: list[int]
) -> None:
    done = analyze(clip, quick, tmp_path, sampling)
    found = {row["frame"]: row["time_s"] for row in rows(tmp_path / "clip.records.jsonl")}
    assert done.frames == len(frames)
    assert list(found) == frames
    assert list(found.values()) == pytest.approx([frame / 25 for frame in frames])


def test_a_part_keeps_its_own_sound_and_begins_at_0(recognizer: Recognizer, clip: Path, tmp_path: Path) -> None:
    analyze(clip, recognizer, tmp_path, Sampling(1.0, 2.5))
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([index / 25 for index in range(38)], abs=1e-4)  # up to the last frame before 2.5 s
    with av.open(str(tmp_path / "clip.annotated.mp4")) as container:
        sound = [(frame.time, frame.samples / frame.rate) for frame in container.decode(audio=0)]
    assert abs(sound[0][0]) < 0.03 and sum(length for _, length in sound) == pytest.approx(1.5, abs=0.07)


def test_a_part_that_holds_nothing_is_refused(recognizer: Recognizer, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"has no frame from 10 s to its end; it is 4.00 s long"):
        analyze(clip, recognizer, tmp_path, Sampling(10.0))
    assert list(tmp_path.iterdir()) == []


def test_samples_of_a_file_that_rounds_its_times_are_evenly_spaced(tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=2, fps=Fraction(30), size_wh=(160, 120), sound=None)
    for every_s, expected in ((1 / 30, list(range(60))), (1 / 15, list(range(0, 60, 2)))):
        with VideoSource(tmp_path / "clip.mkv", Sampling(every_s=every_s)) as source:
            assert [frame.index for frame in source.frames()] == expected


def test_the_last_sample_lasts_to_the_end_and_no_longer(clip: Path) -> None:
    for sampling, lengths in ((Sampling(every_s=1.5), [1.5, 1.5, 1.0]), (Sampling(to_s=2.1, every_s=2), [2.0, 0.1])):
        with VideoSource(clip, sampling) as source:
            found = [float(frame.duration * source.time_base) for frame in source.frames()]
        assert found == pytest.approx(lengths, abs=0.05)


def test_people_of_sampled_frames_are_on_screen_all_the_while(
    recognizer: Recognizer, clip: Path, tmp_path: Path
) -> None:
    done = analyze(clip, recognizer, tmp_path, Sampling(every_s=0.5))
    assert sum(person["on_screen_s"] for person in done.people) == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fps", "5", "--every", "1"], "--fps and --every: both say how often"),
        (["--from", "soon"], "--from soon: is no time"),
        (["--from", "0:02", "--to", "1"], "--to 1: does not come after --from 0:02"),
    ],
)
def test_times_that_make_no_sense(
    clip: Path, tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["analyze", str(clip), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_program_takes_parts_and_samples(clip: Path, tmp_path: Path) -> None:
    options = ["--detector", "haar", "--no-media", "--quiet", "--format", "jsonl"]
    assert (
        main(["analyze", str(clip), "--out", str(tmp_path), *options, "--from", "0:01", "--to", "2.0", "--fps", "5"])
        == 0
    )
    assert [row["frame"] for row in rows(tmp_path / "clip.records.jsonl")] == [25, 30, 35, 40, 45]


def test_streams_are_named_without_their_password() -> None:
    names = ["rtsp://me:secret@cam.local:554/door?key=1", "camera:0", "http://host/live"]
    door, camera, live = list_inputs(names)
    assert [str(one.stem) for one in (door, camera, live)] == ["cam.local-554-door", "camera-0", "host-live"]
    assert door.name == "rtsp://cam.local:554/door" and door.path == names[0] and door.is_video
    assert strip_credentials("camera:0") == "camera:0"


def test_errors_of_streams_name_no_password(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "only.wav"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=8_000)
        container.mux(sound.encode(make_tone(0, 1024, 8_000)))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, found in (("only.wav", "holds no video"), ("absent.mp4", "is not a stream that can be read")):
            with pytest.raises(MediaError, match=found) as raised:
                VideoSource(f"http://me:secret@127.0.0.1:{server.server_port}/{name}?token=abc")
            assert "secret" not in str(raised.value) and "token" not in str(raised.value)
        server.shutdown()
    (wrong,) = list_inputs(["rtsp://me:secret@[host/door"])
    assert "secret" not in str(wrong)


def test_a_cameras_clock_begins_with_its_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        """Warms up for a second, then gives ten pictures a second, but for one late one."""

        read_at: Iterator[tuple[float, bool]]
        clock = 0.0

        def isOpened(self) -> bool:
            return True

        def get(self, what: int) -> float:
            return 10.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            Camera.clock, there = next(self.read_at, (Camera.clock, False))
            return there, np.zeros((8, 8, 3), np.uint8)

    seconds = [1.0, 1.1, 1.2, 1.6, 1.7, 1.8, 1.9]
    monkeypatch.setattr(camera, "_open_camera", lambda number: Camera())
    monkeypatch.setattr(camera.time, "monotonic", lambda: Camera.clock)
    Camera.read_at = iter([(second, True) for second in seconds])
    times = [frame.time_s for frame in CameraSource("camera:0").frames()]
    assert times == pytest.approx([0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9])
    Camera.read_at = iter([(second, True) for second in seconds])
    sampled = [frame.time_s for frame in CameraSource("camera:0", Sampling(every_s=0.2)).frames()]
    assert sampled == pytest.approx([0, 0.2, 0.6, 0.8])  # after the late one no two in a row
    Camera.read_at = iter([(second, True) for second in seconds])
    source = CameraSource("camera:0", Sampling(from_s=0.5))
    assert source.analysis_start_s == 0.5  # what is written begins there, not with half a second of nothing
    assert [frame.time_s for frame in source.frames()] == pytest.approx([0.6, 0.7, 0.8, 0.9])


def test_a_camera_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "camera:93", "--out", str(tmp_path)]) == 2
    assert "mien: camera:93: is not there" in capsys.readouterr().err


def test_a_camera_that_is_not_there_costs_one_line(tmp_path: Path) -> None:
    """OpenCV itself would print two more; these go past Python."""
    command = [sys.executable, "-m", "mien.cli.main", "analyze", "camera:93", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert len(done.stderr.splitlines()) == 1


@contextmanager
def streaming(clip: Path, repeats: int) -> Iterator[str]:
    """A live stream on this machine: the clip as MPEG-TS over HTTP, at its own pace, without a length."""
    transport = clip.with_suffix(".ts")
    make_clip(transport, seconds=2, sound=None)
    content = transport.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            try:
                for _ in range(repeats):
                    for start in range(0, len(content), 188 * 20):
                        self.wfile.write(content[start : start + 188 * 20])
                        time.sleep(2.0 * 188 * 20 / len(content))
            except OSError:
                return  # who watched has gone

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.ts"
    finally:
        server.shutdown()
        server.server_close()


def test_a_stream_is_analyzed_to_its_end(recognizer: Recognizer, tmp_path: Path) -> None:
    with streaming(tmp_path / "live", 1) as address:
        (item,) = list_inputs([address])
        done = analyze_input(item, recognizer, AnalysisContext(tmp_path / "out", quiet=True))
    found = rows(tmp_path / "out" / f"{item.stem}.records.jsonl")
    assert done.frames == len(found) >= 1  # what comes too fast for this machine is left out
    assert [row["time_s"] for row in found] == sorted({row["time_s"] for row in found})
    with av.open(str(tmp_path / "out" / f"{item.stem}.annotated.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == done.frames


def interrupted(inputs: list[str], out: Path) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of an analysis that gets Ctrl-C when records of its first video have been written."""
    command = [sys.executable, "-m", "mien.cli.main", "analyze", *inputs, "--out", str(out), "--detector", "haar"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not any(part.stat().st_size for part in out.glob(".*.parts/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, complaints = process.communicate(timeout=300)
    return process.returncode, told, complaints


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_a_stream_in_good_order(tmp_path: Path) -> None:
    with streaming(tmp_path / "live", 30) as address:
        out = tmp_path / "out"
        code, told, complaints = interrupted([address], out)
    assert code == 0, complaints
    names = {path.name.rpartition("live.ts")[2] for path in out.iterdir()}
    assert {".annotated.mp4", ".records.jsonl", ".records.csv", ".summary.json", ".vtt", ".timeline.png"} <= names
    assert "frame" in told


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_ends_a_stream_that_follows_a_file(tmp_path: Path, clip: Path) -> None:
    with streaming(tmp_path / "live", 30) as address:
        out = tmp_path / "out"
        code, _, complaints = interrupted([str(ASTRONAUT), address, str(clip)], out)
    assert code == 1
    assert "stopped: 1 of 3 inputs were not begun" in complaints
    assert list(out.glob("*live.ts.annotated.mp4")) and not list(out.glob(".*.parts"))


def test_many_inputs_go_on_after_a_broken_one_and_are_not_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    make_clip(folder / "a.mp4", seconds=1, size_wh=(160, 120))
    (folder / "b.mp4").write_bytes(b"no video at all")
    (folder / "c.jpg").write_bytes(Path(ASTRONAUT).read_bytes())
    command = ["analyze", str(folder), "--out", str(out), "--detector", "haar", "--format", "csv,jsonl"]
    assert main(command) == 1
    first = rows(out / "manifest.jsonl")
    assert [line.get("state") for line in first] == [None, "done", "failed", "done", None]
    assert first[2]["why"].startswith(str(folder / "b.mp4")) and first[-1] == {"ended": True}
    table = (out / "all.records.csv").read_bytes()
    jsonl = (out / "all.records.jsonl").read_bytes()
    capsys.readouterr()

    before = (out / "a.annotated.mp4").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 1
    assert f"{folder / 'a.mp4'}: done before" in capsys.readouterr().out
    assert (out / "a.annotated.mp4").stat().st_mtime_ns == before
    assert (out / "all.records.csv").read_bytes() == table and (out / "all.records.jsonl").read_bytes() == jsonl

    make_clip(folder / "b.mp4", seconds=1, size_wh=(160, 120))  # mended
    (out / "c.annotated.jpg").unlink()  # and an output that went missing
    assert main([*command, "--resume"]) == 0
    assert [line.get("state") for line in rows(out / "manifest.jsonl")].count("done") == 3
    assert (out / "c.annotated.jpg").exists() and (out / "a.annotated.mp4").stat().st_mtime_ns == before

    (folder / "a.jpg").write_bytes(Path(ASTRONAUT).read_bytes())  # comes before a.mp4, which keeps its outputs' name
    records = (out / "a.records.jsonl").read_bytes()
    assert main([*command, "--resume"]) == 0
    assert (out / "a.annotated.mp4").stat().st_mtime_ns == before and not (out / "a.mp4.annotated.mp4").exists()
    assert (out / "a.records.jsonl").read_bytes() == records and (out / "a.jpg.records.jsonl").exists()


def test_only_a_run_that_was_cut_short_goes_on_by_itself(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(Path(ASTRONAUT).read_bytes())
    (item,) = list_inputs([tmp_path / "x.jpg"])
    cut_short = Manifest(tmp_path, {"model": "a"})
    cut_short.add_result(item, state="done", outputs=[])
    cut_short.close()
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"source": "half a li')
    assert Manifest(tmp_path, {"model": "b"}).find_finished(item) is None  # another setting

    for ended in (False, True):
        manifest = Manifest(tmp_path, {"model": "a"})
        manifest.add_result(item, state="done", outputs=[])
        manifest.mark_ended() if ended else None
        manifest.close()
        assert (Manifest(tmp_path, {"model": "a"}).find_finished(item) is None) == ended
    manifest = Manifest(tmp_path, {"model": "a"})
    manifest.add_result(item, state="done", outputs=[])
    manifest.mark_ended()
    manifest.close()
    assert Manifest(tmp_path, {"model": "a"}, reuse_ended=True).find_finished(item)["state"] == "done"
    os.utime(tmp_path / "x.jpg", ns=(1, 1))
    assert Manifest(tmp_path, {"model": "a"}, reuse_ended=True).find_finished(item) is None  # the picture has changed


@pytest.mark.parametrize("text", ['{"audio": "a.wav"}\n', "a.wav happy\n", "[1, 2]\n"])
def test_a_list_that_somebody_else_wrote_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(OutputError, match="is a file that mien did not write"):
        Manifest(tmp_path, {"model": "a"})
    assert (tmp_path / "manifest.jsonl").read_text() == text


@pytest.mark.parametrize(
    "line",
    [
        {"stem": "x", "state": "done", "outputs": [], "input": [1, 2]},
        {"source": "x.jpg", "stem": 7, "state": "done", "outputs": [], "input": [1, 2]},
        {"source": "x.jpg", "stem": "x", "state": "done", "input": [1, 2]},
        {"source": "x.jpg", "stem": "x", "state": "done", "outputs": [], "input": [1, 2], "done": {"outputs": []}},
        {"source": "x.jpg", "stem": "x", "state": "done", "outputs": [], "input": [1, 2], "done": 3},
        {"stem": "x"},
    ],
)
def test_a_line_that_does_not_say_what_every_line_says_counts_for_nothing(tmp_path: Path, line: dict) -> None:
    (tmp_path / "x.jpg").write_bytes(ASTRONAUT.read_bytes())
    (item,) = list_inputs([tmp_path / "x.jpg"])
    text = "".join(json.dumps(one) + "\n" for one in ({"key": {}}, line))
    (tmp_path / "manifest.jsonl").write_text(text)
    manifest = Manifest(tmp_path, {})
    assert (manifest.latest_entry(item)["state"], manifest.find_finished(item)) == ("", None)
    manifest.close()


def test_a_stream_is_never_done_before(tmp_path: Path) -> None:
    (item,) = list_inputs(["camera:0"])
    manifest = Manifest(tmp_path, {"model": "a"})
    manifest.add_result(item, state="done", outputs=[])
    assert manifest.find_finished(item) is None
    manifest.close()


def test_a_source_says_how_long_the_chosen_part_is(clip: Path) -> None:
    with VideoSource(clip, Sampling(1.0, 2.5)) as source:
        assert source.analyzed_s == pytest.approx(1.5)
    with VideoSource(clip, Sampling(1.0, 99.0)) as source:
        assert source.analyzed_s == pytest.approx(3.0)
    with pytest.raises(ValueError, match="from_s < to_s"):
        Sampling(2.0, 1.0)
