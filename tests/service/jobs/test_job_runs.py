from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from mien.service.events import EventBroker
from mien.service.jobs import jobs
from mien.service.jobs.jobs import JobStore
from tests.conftest import ASTRONAUT
from tests.service.conftest import error_of, finished, sent, service, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by signals")


def events(client: TestClient, job_id: str) -> list[dict]:
    """The job of every event until the stream ends."""
    found = []
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
    return found


def test_events_of_a_job_end_with_it(client: TestClient, clip: Path) -> None:
    job = sent(client, clip, media=0)
    changes = events(client, job["id"])
    assert (changes[-1]["state"], changes[-1]["id"]) == ("done", job["id"])
    assert all(one != other for one, other in pairwise(changes))
    progress = [each["progress"] or 0.0 for each in changes]
    assert progress == sorted(progress)
    assert [each["state"] for each in events(client, job["id"])] == ["done"]  # whoever comes late hears the end


def test_events_come_no_faster_than_four_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    job = jobs.Job("0" * 16, "a", "running", 0.0, {}, "source.mp4")
    broker, state, pauses = EventBroker(), {"ended": None, "n": 0}, []

    def change(times: int) -> None:
        for _ in range(times):
            state["n"] += 1
            state["ended"] = 1.0 if state["n"] >= 100 else None
            broker.publish_job(job)

    async def sleep(seconds: float) -> None:
        """A pause, in which much changes."""
        pauses.append(seconds)
        change(24)

    async def listen() -> list[int]:
        found = []
        async for event in broker.stream_job(job.id, lambda _: dict(state)):
            found.append(json.loads(event.partition("data: ")[2])["n"])
            change(1)
        return found

    monkeypatch.setattr(
        "mien.service.events.asyncio",
        SimpleNamespace(Event=asyncio.Event, wait_for=asyncio.wait_for, sleep=sleep),
    )
    assert asyncio.run(listen()) == [0, 25, 50, 75, 100]
    assert pauses == [0.25] * 4


@pytest.mark.slow
def test_a_running_job_is_cancelled_and_a_waiting_one_too(client: TestClient, long_clip: Path) -> None:
    running, waiting = sent(client, long_clip), sent(client, long_clip)
    until(lambda: (client.get(f"/v1/jobs/{running['id']}").json()["progress"] or 0) > 0)
    runner = client.app.state.service.runner
    pid = runner.pids[running["id"]]
    for job in (waiting, running):
        answer = client.post(f"/v1/jobs/{job['id']}/cancel").json()
        assert (answer["state"], answer["results"]) == ("cancelled", ["source"])
    until(lambda: not is_alive(pid))
    folder = client.app.state.service.store.get_folder(running["id"])
    assert until(lambda: sorted(path.name for path in folder.iterdir()) == ["source.mp4"])
    assert client.post(f"/v1/jobs/{running['id']}/cancel").json()["state"] == "cancelled"  # once more changes nothing


def is_alive(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_running_job_is_removed_with_its_files(client: TestClient, long_clip: Path) -> None:
    job = sent(client, long_clip)
    until(lambda: (client.get(f"/v1/jobs/{job['id']}").json()["progress"] or 0) > 0)
    pid = client.app.state.service.runner.pids[job["id"]]
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 204
    until(lambda: not is_alive(pid))
    assert error_of(client.get(f"/v1/jobs/{job['id']}"), 404)
    assert not client.app.state.service.store.get_folder(job["id"]).exists()


def test_three_videos_that_are_sent_at_once_all_wait(tmp_path: Path, clip: Path) -> None:
    with service(tmp_path, workers=0) as client:
        with ThreadPoolExecutor(3) as threads:
            sending = [threads.submit(sent, client, clip) for _ in range(3)]
            assert {job.result()["state"] for job in sending} == {"queued"}
        jobs = client.get("/v1/jobs").json()
        assert [job["position"] for job in jobs] == [3, 2, 1]  # the newest first
        assert {job["name"] for job in jobs} == {"clip.mp4", "clip (2).mp4", "clip (3).mp4"}
        for job in jobs:
            answer = client.get(f"/v1/jobs/{job['id']}/results/source", params={"download": True})
            assert f'filename="{re.sub("[()]", "_", job["name"])}"' in answer.headers["content-disposition"]


@posix
def test_a_worker_that_is_killed_is_tried_once_more_while_others_are_answered(
    client: TestClient, long_clip: Path
) -> None:
    job = sent(client, long_clip)
    runner = client.app.state.service.runner
    pids = set()
    for attempt in (1, 2):
        until(lambda: (client.get(f"/v1/jobs/{job['id']}").json()["progress"] or 0) > 0)
        assert client.get(f"/v1/jobs/{job['id']}").json()["attempts"] == attempt
        pids.add(runner.pids[job["id"]])
        os.kill(runner.pids[job["id"]], signal.SIGSEGV)  # as a decoder that crashes
        assert client.post("/v1/images", files={"file": ("a.jpg", ASTRONAUT.read_bytes())}).status_code == 200
        until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["attempts"] == 2)
    failed = finished(client, job["id"])
    assert (failed["state"], failed["attempts"], len(pids)) == ("failed", 2, 2)
    assert "SIGSEGV, 2 times" in failed["error"]["problem"]
    assert failed["error"]["code"] == "worker_crashed"
    assert failed["error"]["parameters"] == {"how": "was ended by SIGSEGV", "attempts": 2}


@pytest.mark.slow
@posix
def test_a_worker_that_was_killed_once_gives_its_results_after_all(client: TestClient, clip: Path) -> None:
    job = sent(client, clip)
    runner = client.app.state.service.runner
    os.kill(until(lambda: runner.pids.get(job["id"])), signal.SIGKILL)
    done = finished(client, job["id"])
    assert (done["state"], done["attempts"]) == ("done", 2)
    folder = client.app.state.service.store.get_folder(job["id"])
    assert sorted(path.name for path in folder.iterdir()) == ["results", "source.mp4"]
    assert {path.name.split(".")[0] for path in (folder / "results").iterdir()} == {"video", "facts"}


def test_a_job_whose_server_ends_goes_on_with_the_next(tmp_path: Path, long_clip: Path) -> None:
    with service(tmp_path) as client:
        job = sent(client, long_clip)
        until(lambda: (client.get(f"/v1/jobs/{job['id']}").json()["progress"] or 0) > 0.02)
    assert not (tmp_path / "jobs" / job["id"] / "results").exists()
    with service(tmp_path) as client:
        again = client.get(f"/v1/jobs/{job['id']}").json()
        assert (again["state"] in ("queued", "running"), again["results"]) == (True, ["source"])


@pytest.mark.slow
def test_a_job_outlives_a_database_that_cannot_be_written_for_a_moment(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.service.jobs.runner.RETRY_S", 0.1)
    failures = {"start_job": 1, "end_job": 1}
    for name in failures:
        right = getattr(JobStore, name)

        def fails(self: JobStore, *what: object, name: str = name, right=right) -> object:
            if failures[name]:
                failures[name] -= 1
                raise sqlite3.OperationalError("database or disk is full")
            return right(self, *what)

        monkeypatch.setattr(JobStore, name, fails)
    with service(tmp_path) as client:
        job = finished(client, sent(client, clip, media=0)["id"])
    assert (job["state"], job["attempts"], failures) == ("done", 2, {"start_job": 0, "end_job": 0})


@posix
def test_a_worker_without_progress_is_ended(tmp_path: Path, clip: Path) -> None:
    with service(tmp_path, limits={"stall_s": 1.0}) as client:
        job = sent(client, clip)
        pid = until(lambda: client.app.state.service.runner.pids.get(job["id"]))
        with suppress(ProcessLookupError):  # on a slow machine it may have been ended for that already
            os.kill(pid, signal.SIGSTOP)
        until(lambda: client.get(f"/v1/jobs/{job['id']}").json()["attempts"] == 2)
        assert not is_alive(pid)


def test_limits_on_videos_that_wait(tmp_path: Path, clip: Path) -> None:
    with service(tmp_path, workers=0, limits={"video_bytes": clip.stat().st_size, "waiting": 2}) as client:
        over = clip.read_bytes() + b"x"
        assert "is larger than" in error_of(client.post("/v1/videos", files={"file": ("a.mp4", over)}), 413)["problem"]
        sent(client, clip), sent(client, clip)
        full = client.post("/v1/videos", files={"file": ("a.mp4", clip.read_bytes())})
        assert "already" in error_of(full, 429)["problem"]


@pytest.mark.parametrize(
    ("limits", "found", "code"),
    [
        ({"video_seconds": 0.5}, "longer than the limit of", "video_too_long"),
        ({"video_pixels": 160 * 120 - 1}, "160 x 120 pixels", ""),
    ],
)
def test_limits_on_what_is_in_a_video(
    tmp_path: Path, clip: Path, limits: dict[str, float], found: str, code: str
) -> None:
    with service(tmp_path, limits=limits) as client:
        job = finished(client, sent(client, clip)["id"])
    assert (job["state"], found in job["error"]["problem"]) == ("failed", True), job["error"]
    assert not code or (job["error"]["code"], job["error"]["parameters"]["limit"]) == (code, 0.5)


def test_a_disk_that_would_become_full(tmp_path: Path, clip: Path) -> None:
    with service(tmp_path, limits={"free_bytes": 2**62}) as client:
        assert error_of(client.post("/v1/videos", files={"file": ("a.mp4", clip.read_bytes())}), 503)["name"] == "disk"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_a_worker_that_needs_too_much_memory_fails_with_a_reason(tmp_path: Path, clip: Path) -> None:
    with service(tmp_path, limits={"worker_bytes": 300 * 2**20}) as client:
        job = finished(client, sent(client, clip)["id"])
        assert job["state"] == "failed"
        assert client.get("/healthz").status_code == 200


def test_finished_jobs_are_removed_when_their_time_is_over(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=1e9)
    monkeypatch.setattr(jobs, "time", SimpleNamespace(time=lambda: clock.now))
    with service(tmp_path, retention_s=1.0) as client:
        job = sent(client, clip, media=0)
        done = finished(client, job["id"])
        assert (done["ended"], done["expires"]) == (1e9, 1e9 + 1)
        folder = client.app.state.service.store.get_folder(job["id"])
        assert folder.exists()
        clock.now += 1.5
        until(lambda: client.get(f"/v1/jobs/{job['id']}").status_code == 404)
        until(lambda: not folder.exists())
