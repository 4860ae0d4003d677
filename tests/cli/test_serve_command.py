"""The program: what it refuses, and what is left after it was killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from clips import make_clip

from mien.cli.main import main
from mien.service.jobs.jobs import JobStore
from tests.cli.conftest import complaint
from tests.conftest import ROOT

posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by signals")


@contextmanager
def program(state: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`mien serve` at a free port: (its process, its address)."""
    command = [sys.executable, "-m", "mien.cli.main", "serve", "--port", "0", "--state", str(state), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        yield process, re.search(r"http://\S+", line)[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def get(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path, timeout=120) as answer:
        return json.load(answer)


def send(address: str, file: Path) -> str:
    """The id of the job of a video."""
    head = b'--abc\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % file.name.encode()
    body = head + file.read_bytes() + b"\r\n--abc--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=abc"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}v1/videos", body, kind), timeout=120) as answer:
        return json.load(answer)["job"]["id"]


def until(true: Any) -> Any:
    end = time.monotonic() + 300
    while True:
        try:
            if value := true():
                return value
        except (urllib.error.URLError, OSError):
            pass  # it does not answer yet
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@posix
@pytest.mark.slow
def test_kill_the_server_and_start_it_again(tmp_path: Path) -> None:
    """Finished results are there, the job that ran goes on, and no process of the first server is left."""
    short, long, state = tmp_path / "short.mp4", tmp_path / "long.mp4", tmp_path / "state"
    make_clip(short, seconds=1, size_wh=(160, 120), sound=None)
    make_clip(long, seconds=5, size_wh=(160, 120), sound=None)
    with program(state) as (process, address):
        done = send(address, short)
        until(lambda: get(address, f"v1/jobs/{done}")["state"] == "done")
        running = send(address, long)
        until(lambda: (get(address, f"v1/jobs/{running}")["progress"] or 0) > 0)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 3  # two decoders and the worker
        process.send_signal(signal.SIGKILL)
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=120)
        assert (len(gone), alive) == (len(children), [])
    with program(state) as (process, address):
        job = get(address, f"v1/jobs/{done}")
        assert (job["state"], job["name"]) == ("done", "short.mp4")
        with urllib.request.urlopen(f"{address}v1/jobs/{done}/results/records.jsonl", timeout=120) as answer:
            assert len(answer.read().splitlines()) > 10
        ended = until(lambda: job if (job := get(address, f"v1/jobs/{running}"))["ended"] else None)
        assert (ended["state"], ended["attempts"]) == ("done", 1)
        folder = state / "jobs" / running
        assert sorted(path.name for path in folder.iterdir()) == ["results", "source.mp4"]


def test_a_token_that_can_be_guessed_is_noted(tmp_path: Path) -> None:
    with program(tmp_path, "--host", "0.0.0.0", "--token", "secret") as (process, address):
        until(lambda: get(address, "healthz"))
        process.send_signal(signal.SIGINT)
        assert "can be guessed" in process.stdout.read()


@pytest.mark.slow
@posix
def test_ctrl_c_ends_it_and_what_it_started_at_once(tmp_path: Path) -> None:
    long = tmp_path / "long.mp4"
    make_clip(long, seconds=30, size_wh=(320, 240), sound=None)
    with program(tmp_path / "state") as (process, address):
        job = send(address, long)
        until(lambda: (get(address, f"v1/jobs/{job}")["progress"] or 0) > 0)
        children = psutil.Process(process.pid).children(recursive=True)
        stream = urllib.request.urlopen(
            f"{address}v1/jobs/{job}/events", timeout=300
        )  # who follows does not hold it up
        process.send_signal(signal.SIGINT)
        process.wait(300)
        stream.close()
        assert psutil.wait_procs(children, timeout=120)[1] == []
    store = JobStore(tmp_path / "state", 0)
    assert not store.get_job(job).is_final  # nor did the video
    store.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0: is reached by others, who could then read what is sent here; give a --token"),
        (["--host", "::"], "give a --token"),
        (["--token", "ä"], "--token: holds letters that no HTTP header takes"),
        (["--token", 'a"b'], "--token: holds letters"),
        (["--model", "nothing"], "model 'nothing': is unknown; choose one of base"),
        (["--detector", "eyes"], "--detector eyes: is unknown"),
        (["--detector", "yunet"], "pull it with 'mien models pull yunet'"),
        (["--trusted-proxy", "example.org"], "--trusted-proxy example.org: is neither an IP address nor a network"),
        (["--root-path", "/a b"], "--root-path /a b: is not a path of an address"),
        (["--reports", "absent"], "--reports absent: is no folder"),
        (["--host", "256.1.1.1", "--token", "x"], "cannot be listened at"),
        (["--port", "70000"], "less than or equal to 65535"),
    ],
)  # fmt: skip
def test_what_it_does_not_start_with(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--state", "state", *options]) == 2
    assert said in complaint(capsys)
    assert not Path("state").exists()


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--state", "state", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}: cannot be listened at (Address already in use); choose another --port" in complaint(
        capsys
    )


def test_a_state_folder_that_is_in_use_or_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = JobStore(tmp_path / "state", 1.0)
    assert main(["serve", "--state", str(tmp_path / "state"), "--port", "0"]) == 2
    assert "is being used by process " in complaint(capsys)
    store.close()
    (tmp_path / "file").write_text("")
    assert main(["serve", "--state", str(tmp_path / "file"), "--port", "0"]) == 2
    assert "is a file, not a folder" in complaint(capsys)


def test_a_missing_extra_names_its_install_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "fastapi" else real(name, *rest)
    )
    assert main(["serve"]) == 2
    assert "fastapi: is not installed and is needed for the service; pip install 'mien[serve]'" in complaint(capsys)


@posix
def test_the_service_does_without_torch(tmp_path: Path) -> None:
    """It starts and answers though torch is on the machine, and has not loaded it."""
    code = (
        "import sys, mien.service.server as s; from mien.service.config import Config; from pathlib import Path;"
        f"s.create_app(Config(Path({str(tmp_path / 'state')!r}))); print('torch' in sys.modules, 'av' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False False", done.stderr


def test_it_says_where_it_is_and_answers_with_the_token_alone(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    options = ("--host", "0.0.0.0", "--token", token, "--reports", str(tmp_path))
    with program(tmp_path / "state", *options) as (process, address):
        assert get(address, "healthz")["status"] == "ok"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(address, "v1/jobs")
        request = urllib.request.Request(f"{address}v1/jobs", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert json.load(answer) == []
        process.send_signal(signal.SIGINT)
        assert "can be guessed" not in process.stdout.read()
