from __future__ import annotations

import csv
import io
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

import av
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mien.analysis.media.inputs import Input
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisOptions
from mien.service.answers import Frames
from mien.service.events import EventBroker
from mien.service.jobs import jobs
from mien.service.jobs.jobs import JobStore
from mien.service.jobs.overlay import load_overlay
from tests.conftest import ASTRONAUT
from tests.service.conftest import as_file, error_of, finished, sent, service, until

posix = pytest.mark.skipif(sys.platform == "win32", reason="processes are ended by signals")


@pytest.fixture(scope="module")
def done(client: TestClient, clip: Path) -> dict:
    """A job that is done."""
    return finished(
        client, sent(client, clip, "My clip.mp4", color="#ff0000", label_color="happy:#0000ff", smoothing=0.5)["id"]
    )


def result(client: TestClient, job: dict, what: str, **options):
    return client.get(f"/v1/jobs/{job['id']}/results/{what}", **options)


def test_a_video_gives_what_analyze_gives(client: TestClient, done: dict, clip: Path, tmp_path: Path) -> None:
    assert (done["state"], done["error"], done["progress"], done["attempts"]) == ("done", None, 1.0, 1)
    analyze_input(
        Input(clip, Path("clip")),
        Recognizer("base", detector="haar"),
        AnalysisContext(tmp_path, AnalysisOptions(formats=("jsonl",), outputs=(), smoothing_s=0.5), quiet=True),
    )
    expected = [json.loads(line) for line in (tmp_path / "clip.records.jsonl").read_text().splitlines()]
    found = [json.loads(line) for line in result(client, done, "records.jsonl").text.splitlines()]
    assert len(found) == len(expected) > 10
    for one, other in zip(found, expected, strict=True):
        assert one | {"source": ""} == pytest.approx(other | {"source": ""})
    assert {record["source"] for record in found} == {"My clip.mp4"}
    rows = list(csv.DictReader(io.StringIO(result(client, done, "records.csv").text)))
    assert [row["frame"] for row in rows] == [str(record["frame"]) for record in found]


def test_a_timeline_that_is_downloaded_finds_the_video_that_is(client: TestClient, done: dict) -> None:
    page = result(client, done, "timeline.html", params={"download": True})
    video = result(client, done, "annotated.mp4", params={"download": True})
    assert 'filename="My clip.annotated.mp4"' in video.headers["content-disposition"]
    assert '"media":"My clip.annotated.mp4"' in page.text


@pytest.mark.slow
def test_a_job_whose_model_is_not_served_any_more_fails_and_says_so(
    tmp_path: Path, clip: Path, model_file: Path
) -> None:
    with service(tmp_path, workers=0, models=(str(model_file),)) as client:
        job = sent(client, clip, model=model_file.stem)
    with service(tmp_path) as client:
        job = finished(client, job["id"])
    assert job["state"] == "failed"
    assert (job["error"]["name"], job["error"]["problem"]) == (f"model '{model_file.stem}'", "is not served any more")


def test_the_results_are_whole_files(client: TestClient, done: dict, clip: Path) -> None:
    wanted = {"source", "annotated.mp4", "records.jsonl", "records.csv", "summary.json", "timeline.png", "vtt"}
    assert wanted <= set(done["results"])
    assert result(client, done, "source").content == clip.read_bytes()
    assert result(client, done, "vtt").text.startswith("WEBVTT")
    Image.open(io.BytesIO(result(client, done, "timeline.png").content)).verify()
    with av.open(io.BytesIO(result(client, done, "annotated.mp4").content)) as video:
        frames = list(video.decode(video=0))
        assert (len(frames), len(video.streams.audio)) == (25, 1)
    summary = json.loads(result(client, done, "summary.json").text)
    assert (summary["source"], summary["frames"]) == ("My clip.mp4", 25)
    for what in done["results"]:
        saved = result(client, done, what, params={"download": 1}).headers["content-disposition"]
        assert saved.startswith('attachment; filename="My clip.')


def test_parts_of_a_video_are_given_for_seeking(client: TestClient, done: dict) -> None:
    whole = result(client, done, "annotated.mp4").content
    part = result(client, done, "annotated.mp4", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert result(client, done, "annotated.mp4", headers={"range": "bytes=-50"}).content == whole[-50:]
    assert result(client, done, "annotated.mp4", headers={"range": f"bytes={len(whole)}-"}).status_code == 416
    asked = client.head(f"/v1/jobs/{done['id']}/results/annotated.mp4")  # as download managers do
    assert (asked.status_code, int(asked.headers["content-length"]), asked.content) == (200, len(whole), b"")


def test_boxes_have_the_colors_that_were_asked_for(client: TestClient, done: dict, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(result(client, done, "annotated.mp4").content)
    records = [json.loads(line) for line in result(client, done, "records.jsonl").text.splitlines()]
    row = next(row for row in records if row["frame"] == 0)
    assert row["s_label"] == "happy"
    with av.open(str(tmp_path / "a.mp4")) as video:
        picture = next(video.decode(video=0)).to_ndarray(format="rgb24")
    red, green, blue = picture[round((row["y1"] + row["y2"]) / 2), round(row["x1"])].astype(int)
    assert blue > 120 and red < 90 and green < 90


def test_the_overlay_says_what_the_records_say(client: TestClient, done: dict) -> None:
    overlay = client.get(f"/v1/jobs/{done['id']}/frames?fps=30").json()
    Frames.model_validate(overlay)
    assert set(overlay) == set(Frames.model_fields)
    records = [json.loads(line) for line in result(client, done, "records.jsonl").text.splitlines()]
    assert (overlay["width"], overlay["height"]) == (160, 120)
    assert overlay["seconds"] == pytest.approx(1.0, abs=0.1)
    assert 0 < overlay["unsure_below"] < overlay["not_a_face_above"] < 1
    assert overlay["people"][0]["track"] == 0
    shown = {time_s: faces for time_s, faces in zip(overlay["times"], overlay["faces"], strict=True) if faces}
    assert sorted(shown) == pytest.approx(sorted({round(record["time_s"], 3) for record in records}))
    for record in records:
        faces = shown[round(record["time_s"], 3)]
        assert any(
            face[:5]
            == pytest.approx([record["track"], record["x1"], record["y1"], record["x2"], record["y2"]], abs=0.06)
            and overlay["labels"][face[5]] == record["s_label"]
            and face[6] == pytest.approx([record[f"s_{name}"] for name in overlay["labels"]], abs=0.001)
            and face[7] == pytest.approx(record["not_a_face"], abs=0.001)
            for face in faces
        )
    plain = client.get(f"/v1/jobs/{done['id']}/frames?fps=30", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.json() == overlay
    assert len(client.get(f"/v1/jobs/{done['id']}/frames?fps=5").json()["times"]) < len(overlay["times"])


@pytest.mark.parametrize(
    "what", ["nothing", "facts.json", "video.mp4", "%2e%2e%2fjobs.sqlite3", "source.mp4", "frames"]
)
def test_results_that_there_are_none(client: TestClient, done: dict, what: str) -> None:
    assert result(client, done, what).status_code == 404


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_jobs_that_there_are_none(client: TestClient, method: str) -> None:
    ending = "/cancel" if method == "POST" else ""
    assert error_of(client.request(method, f"/v1/jobs/{'0' * 16}{ending}"), 404)
    assert client.request(method, f"/v1/jobs/nonsense{ending}").status_code in (404, 422)
    assert client.get(f"/v1/jobs/{'0' * 16}/events").status_code == 404


@pytest.mark.parametrize(
    ("data", "name", "status"),
    [
        (b"", "empty.mp4", 422),
        (ASTRONAUT.read_bytes(), "photo.mp4", 415),
        (as_file(__import__("numpy").zeros((4, 4, 3), "uint8")), "photo.mp4", 415),
    ],
)
def test_what_is_refused_at_once_leaves_nothing(client: TestClient, data: bytes, name: str, status: int) -> None:
    before = {job["id"] for job in client.get("/v1/jobs").json()}
    error = error_of(client.post("/v1/videos", files={"file": (name, data)}), status)
    assert error["name"] == name
    assert {job["id"] for job in client.get("/v1/jobs").json()} == before
    folders = {path.name for path in (client.app.state.service.store.folder / "jobs").iterdir()}
    assert folders == before


def playlist(path: Path) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n".encode()


def test_a_video_that_is_cut_off_fails_with_a_reason(client: TestClient, clip: Path) -> None:
    job = finished(client, sent(client, clip.read_bytes()[:400], "truncated.mp4")["id"])
    assert (job["state"], job["attempts"], job["results"]) == ("failed", 1, ["source"])
    assert job["error"]["name"] == "truncated.mp4"
    assert "source" not in job["error"]["problem"]
    assert error_of(client.get(f"/v1/jobs/{job['id']}/frames"), 409)["problem"] == "is failed"
    client.delete(f"/v1/jobs/{job['id']}")


@pytest.mark.parametrize("kind", ["text", "playlist", "concat"])
def test_texts_are_refused_before_they_are_read(client: TestClient, clip: Path, kind: str) -> None:
    data = {
        "text": b"this is no video at all\n" * 50,
        "playlist": playlist(clip),  # it would name another file of this machine
        "concat": f"ffconcat version 1.0\nfile '{clip}'\n".encode(),
    }[kind]
    error = error_of(client.post("/v1/videos", files={"file": (f"{kind}.mp4", data)}), 415)
    assert (error["name"], error["code"]) == (f"{kind}.mp4", "not_a_video")


def test_settings_of_a_video_that_do_not_exist(client: TestClient, clip: Path) -> None:
    for query in ({"model": "../x"}, {"detector": "eyes"}, {"people": "none"}, {"color": "reddish"}, {"smoothing": -1}):
        assert client.post("/v1/videos", files={"file": ("a.mp4", clip.read_bytes())}, params=query).status_code == 422


def test_the_annotated_video_at_the_displays_size(client: TestClient, clip: Path) -> None:
    job = finished(client, sent(client, clip, display_width=80, bars=1)["id"])
    assert (job["options"]["style"]["display_width"], job["options"]["style"]["bars"]) == (80, True)
    with av.open(io.BytesIO(result(client, job, "annotated.mp4").content)) as video:
        assert (video.streams.video[0].width, video.streams.video[0].height) == (80, 60)
    overlay = client.get(f"/v1/jobs/{job['id']}/frames").json()
    assert (overlay["width"], overlay["height"]) == (160, 120)  # of what was sent: boxes count in its pixels


def test_records_alone(client: TestClient, clip: Path) -> None:
    job = finished(client, sent(client, clip, media=0)["id"])
    assert "annotated.mp4" not in job["results"]
    assert "records.csv" in job["results"]


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
    job = sent(client, clip)
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
            answer = result(client, job, "source", params={"download": True})
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
    failures = {"begin": 1, "end": 1}
    for name in failures:
        right = getattr(JobStore, name)

        def fails(self: JobStore, *what: object, name: str = name, right=right) -> object:
            if failures[name]:
                failures[name] -= 1
                raise sqlite3.OperationalError("database or disk is full")
            return right(self, *what)

        monkeypatch.setattr(JobStore, name, fails)
    with service(tmp_path) as client:
        job = finished(client, sent(client, clip)["id"])
    assert (job["state"], job["attempts"], failures) == ("done", 2, {"begin": 0, "end": 0})


def test_the_overlay_is_whole_for_all_who_ask_at_once(client: TestClient, done: dict) -> None:
    results = client.app.state.service.store.get_folder(done["id"]) / "results"
    with ThreadPoolExecutor(4) as pool:
        for fps in range(1, 16):
            made = list(pool.map(lambda _, fps=fps: load_overlay(results, fps), range(4)))
            assert made[0] and made == made[:1] * 4


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
        job = sent(client, clip)
        done = finished(client, job["id"])
        assert (done["ended"], done["expires"]) == (1e9, 1e9 + 1)
        folder = client.app.state.service.store.get_folder(job["id"])
        assert folder.exists()
        clock.now += 1.5
        until(lambda: client.get(f"/v1/jobs/{job['id']}").status_code == 404)
        until(lambda: not folder.exists())
