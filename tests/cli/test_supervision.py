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

from tests.conftest import ASTRONAUT, ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

#: The program, with a decoder that crashes at b.jpg, and at c.jpg waits until somebody ends it.
PROGRAM = """
import os, pathlib, signal, sys, time
from mien.analysis.recognizer import Recognizer
read = Recognizer.read
def crashing(self, picture):
    if pathlib.Path(picture).name == "b.jpg":
        os.kill(os.getpid(), signal.SIGSEGV)
    if pathlib.Path(picture).name == "waits.jpg":
        pathlib.Path("waiting").write_text(str(os.getpid()))
        time.sleep(300)
    return read(self, picture)
Recognizer.read = crashing
from mien.cli import main as cli
cli.run()
"""


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "analyze", *arguments, "--detector", "none", "--no-media"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(program(*arguments), env=environment, capture_output=True, text=True, check=False)


def photos(*names: str) -> None:
    for name in names:
        Path(name).write_bytes(ASTRONAUT.read_bytes())


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
    assert err.splitlines() == ["mien: interrupted: what was finished is kept; the same command goes on from there"]
    until(lambda: is_gone(worker))


def test_who_ends_the_program_ends_the_work() -> None:
    process, worker = begin_and_wait()
    process.kill()
    process.communicate(timeout=120)
    until(lambda: is_gone(worker))


def test_a_signal_that_ends_the_work_is_told_as_a_shell_does() -> None:
    process, _ = begin_and_wait()
    process.terminate()
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
