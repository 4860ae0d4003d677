"""A crash of a library costs its input alone; Ctrl-C and the end of the program reach the process that works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import make_clip

from mien.cli import supervision
from tests.conftest import ASTRONAUT, ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

#: The program, with a decoder that crashes at b.jpg, and at c.jpg waits until somebody ends it.
PROGRAM = """
import atexit, os, pathlib, signal, sys, time
from mien.analysis.recognizer import Recognizer
where = os.environ.get("CRASHES", "")
def crash(*_, **__):
    os.kill(os.getpid(), signal.SIGSEGV)
if where == "loading":
    Recognizer.__init__ = crash
if where == "table":
    from mien.cli.analyze_inputs import Analysis
    Analysis._write_joint_table = crash
parent = os.getpid()
if where == "exit":
    atexit.register(lambda: os.getpid() == parent or crash())
read = Recognizer.read_picture
def crashing(self, picture):
    if pathlib.Path(picture).name == "b.jpg":
        os.kill(os.getpid(), signal.SIGSEGV)
    if pathlib.Path(picture).name == "waits.jpg":
        pathlib.Path("waiting").write_text(str(os.getpid()))
        time.sleep(300)
    return read(self, picture)
Recognizer.read_picture = crashing
from mien.cli import main as cli
cli.run()
"""


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "analyze", *arguments, "--detector", "none", "--no-media"]


def run(*arguments: str, crashes: str = "", code: str = PROGRAM) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CRASHES": crashes}
    command = [sys.executable, "-c", code, *program(*arguments)[3:]]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def photos(*names: str) -> None:
    for name in names:
        Path(name).write_bytes(ASTRONAUT.read_bytes())


@pytest.mark.slow
def test_an_input_that_crashes_its_decoder_costs_no_other_input() -> None:
    photos("a.jpg", "b.jpg", "c.jpg")
    done = run("a.jpg", "absent.jpg", "b.jpg", "c.jpg", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert [one["source"] for one in told["inputs"]] == ["a.jpg", "c.jpg"]
    why = "b.jpg: cannot be analyzed: a decoder crashed (SIGSEGV); convert it with another program"
    assert told["failures"] == ["absent.jpg: does not exist; check the path", why]
    assert done.stderr.splitlines() == [
        "mien: absent.jpg: does not exist; check the path",
        f"mien: {why}",
        "mien: 2 of 4 inputs failed; the rest is done",
    ]
    lines = [json.loads(line) for line in Path("mien-out/manifest.jsonl").read_text().splitlines()]
    assert [line.get("state") for line in lines] == [None, "done", "crashed", "done", None]
    table = Path("mien-out/all.records.jsonl").read_text().splitlines()
    assert [json.loads(row)["source"] for row in table] == ["a.jpg", "c.jpg"]

    again = run("a.jpg", "b.jpg", "c.jpg", "--resume")
    assert again.returncode == 1
    assert f"mien: {why} (known from an earlier run)" in again.stderr
    assert again.stdout.count("done before") == 2


def test_a_single_input_that_crashes_its_decoder_is_an_error() -> None:
    photos("b.jpg")
    done = run("b.jpg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "mien: b.jpg: cannot be analyzed: a decoder crashed (SIGSEGV); convert it with another program\n"
    )


def test_a_crash_outside_of_any_input_ends_the_program_with_one_line() -> None:
    photos("a.jpg", "c.jpg")
    done = run("a.jpg", "c.jpg", crashes="loading")
    line = "mien: mien analyze: crashed (SIGSEGV) outside of any input; report it, with the command\n"
    assert (done.returncode, done.stderr) == (2, line)
    done = run("a.jpg", "c.jpg", "-q", crashes="table")
    assert (done.returncode, done.stderr) == (1, line)


def test_a_crash_at_the_end_of_the_process_loses_nothing_that_was_done() -> None:
    photos("a.jpg")
    done = run("a.jpg", "--json", crashes="exit")
    assert (done.returncode, done.stderr) == (0, "")
    assert [one["source"] for one in json.loads(done.stdout)["inputs"]] == ["a.jpg"]


#: The program, with videos in parts of 8 frames; the system ends it in the third part of the first run.
SHORT_OF_MEMORY = """
import dataclasses, os, pathlib, signal
from mien.analysis import settings, video
settings.AnalysisContext.__init__.__defaults__ = tuple(
    8 if value == settings.PART_FRAMES else value for value in settings.AnalysisContext.__init__.__defaults__
)
part, parts = video.VideoAnalysis._analyze_part, []
def killed(self, *rest):
    parts.append(self.parts.count)
    pathlib.Path("begun").write_text(str(parts[0]))
    if self.parts.count == 2 and not pathlib.Path("killed").exists():
        pathlib.Path("killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    part(self, *rest)
video.VideoAnalysis._analyze_part = killed
from mien.cli import main as cli
cli.run()
"""


@pytest.mark.slow
def test_a_video_that_took_too_much_memory_goes_on_from_its_finished_parts() -> None:
    photos("a.jpg")
    make_clip(Path("clip.mp4"), seconds=1, size_wh=(64, 48), sound=None)
    arguments = ("clip.mp4", "a.jpg", "--outputs", "none", "-q")
    done = run(*arguments, code=SHORT_OF_MEMORY)
    why = "clip.mp4: was not finished: the system ended it, probably because memory ran out (SIGKILL); "
    hint = "finished work is kept: the same command continues it with more memory"
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"mien: {why}{hint}"
    (parts,) = Path("mien-out").glob(".*.parts")
    hidden = [path.name for path in Path("mien-out").glob(".*") if path.name != ".outputs.jsonl"]
    assert hidden == [parts.name]  # neither its lock nor half of a table
    assert run(*arguments, "--resume", code=SHORT_OF_MEMORY).returncode == 0
    assert Path("begun").read_text() == "2"
    assert json.loads(Path("mien-out/clip.summary.json").read_text())["frames"] == 25
    assert not parts.exists()


def test_after_a_crash_the_cursor_of_the_terminal_is_shown_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    supervision.begin_input()
    supervision._handle_crash()
    assert capsys.readouterr().err == "\x1b[?25h\r\x1b[K"
    supervision.end_input(is_finished=False)


def begin_and_wait() -> tuple[subprocess.Popen[str], int]:
    """The program at an input that never ends, and the process that works at it."""
    photos("a.jpg", "waits.jpg")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(program("a.jpg", "waits.jpg"), env=environment, stderr=subprocess.PIPE, text=True)
    until(lambda: Path("waiting").exists() and Path("waiting").read_text() != "")
    return process, int(Path("waiting").read_text())


def until(happens, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < limit
        time.sleep(0.02)


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{process}/stat").exists() and " Z " in Path(f"/proc/{process}/stat").read_text()


def test_ctrl_c_ends_the_work_and_the_program() -> None:
    process, worker = begin_and_wait()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines() == ["mien: interrupted: finished work is kept; the same command continues it"]
    until(lambda: is_gone(worker))


def test_who_ends_the_program_ends_the_work() -> None:
    process, worker = begin_and_wait()
    process.kill()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    until(lambda: is_gone(worker))


def test_a_signal_that_ends_the_work_is_told_as_a_shell_does() -> None:
    process, _ = begin_and_wait()
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
