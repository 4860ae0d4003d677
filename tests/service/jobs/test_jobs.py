from __future__ import annotations

import json
import sqlite3
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mien.analysis.output.style import Style
from mien.analysis.settings import AnalysisOptions
from mien.core.errors import MienError, OutputError
from mien.service.jobs.jobs import CANCELLED, DONE, FAILED, QUEUED, RUNNING, JobStore, make_source_name

OPTIONS = AnalysisOptions(model="base", people=2, style=Style(bars=True, label_colors=(("happy", (1, 2, 3)),)))


@pytest.fixture
def store(tmp_path: Path):
    store = JobStore(tmp_path / "state", 100.0)
    yield store
    store.close()


def added(store: JobStore, name: str = "clip.mp4") -> str:
    job_id, folder = store.make_job_folder()
    (folder / "source.mp4").write_bytes(b"video")
    return store.add_job(job_id, name, "source.mp4", OPTIONS).id


def test_a_job_from_its_beginning_to_its_end(store: JobStore) -> None:
    first, second = added(store, "ä/../b.mp4"), added(store)
    assert [job.id for job in store.list_jobs()] == [second, first]
    job = store.find_next_job()
    assert (job.id, job.state, job.name, job.options, job.attempts) == (first, QUEUED, "ä/../b.mp4", OPTIONS, 0)
    job = store.start_job(job)
    assert (job.state, job.attempts) == (RUNNING, 1)
    assert store.find_next_job().id == second
    assert store.count_states() == {"queued": 1, "running": 1, "done": 0, "failed": 0, "cancelled": 0}
    store.update_job(first, progress=0.5, seconds_left=3.0, text="12 frames")
    job = store.end_job(first, DONE, "done")
    assert (job.state, job.progress, job.seconds_left) == (DONE, 1.0, None)
    assert store.get_expiry(job) == job.ended + 100
    assert store.end_job(first, CANCELLED).state == DONE  # what is finished stays as it is


def test_who_waits_has_a_place_in_line_and_hears_when_it_changes(store: JobStore) -> None:
    first, second, third = (added(store, f"{name}.mp4") for name in "abc")
    places = lambda: [store.to_json(store.get_job(job_id))["position"] for job_id in (first, second, third)]  # noqa: E731
    assert places() == [1, 2, 3]
    heard: list[str] = []
    store.on_change = lambda job: heard.append(job.name)
    store.start_job(store.get_job(first))
    assert (places(), sorted(heard)) == ([None, 1, 2], ["a.mp4", "b.mp4", "c.mp4"])
    heard.clear()
    store.update_job(first, progress=0.5)
    assert heard == ["a.mp4"]
    store.end_job(second, CANCELLED)
    assert places() == [None, None, 1]
    store.delete_job(third)
    assert store.get_job(third) is None


def test_jobs_of_one_name_are_told_apart(store: JobStore) -> None:
    names = [
        store.get_job(added(store, name)).name for name in ("a.mp4", "a.mp4", "a.mp4", "a", "a", ".mp4", ".mp4", "")
    ]
    assert names == ["a.mp4", "a (2).mp4", "a (3).mp4", "a", "a (2)", ".mp4", ".mp4 (2)", ""]
    store.delete_job(store.list_jobs()[-2].id)
    assert store.get_job(added(store, "a.mp4")).name == "a (2).mp4"


def test_a_worker_that_dies_is_tried_once_more(store: JobStore) -> None:
    job_id = added(store)
    store.start_job(store.get_job(job_id))
    assert store.handle_crash(job_id, "was ended by SIGKILL").state == QUEUED
    store.start_job(store.get_job(job_id))
    job = store.handle_crash(job_id, "was ended by SIGKILL")
    assert (job.state, job.attempts) == (FAILED, 2)
    assert job.error["problem"] == "its worker was ended by SIGKILL, 2 times"


def test_a_server_that_ends_is_no_fault_of_the_job_until_it_is_always_the_same(store: JobStore) -> None:
    job_id = added(store)
    for _ in range(3):
        assert store.start_job(store.get_job(job_id)).attempts == 1
        assert store.requeue_interrupted_job(job_id).state == QUEUED
    store.start_job(store.get_job(job_id))
    assert store.requeue_interrupted_job(job_id).state == FAILED


def test_what_was_queued_running_and_finished_after_a_restart(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 100.0)
    done, running, queued = added(store), added(store), added(store)
    store.start_job(store.get_job(done))
    store.end_job(done, DONE)
    store.start_job(store.get_job(running))
    for each in (done, running):
        (store.get_folder(each) / "work").mkdir()
    stray = store.make_job_folder()[1]  # an upload that was going on
    (stray / "source.part").write_bytes(b"half")
    store.close()
    store = JobStore(tmp_path, 100.0)
    store.recover_jobs()
    assert [store.get_job(each).state for each in (done, running, queued)] == [DONE, QUEUED, QUEUED]
    assert not stray.exists()
    assert [path.name for path in store.get_folder(done).iterdir()] == ["source.mp4"]
    assert (store.get_folder(running) / "work").exists()  # the next worker goes on from there
    assert (store.get_folder(done) / "source.mp4").exists()
    store.close()


def test_a_state_folder_serves_one_server(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 1.0)
    with pytest.raises(OutputError, match=r"is being used by process \d+ since .*; end that one"):
        JobStore(tmp_path, 1.0)
    store.close()
    JobStore(tmp_path, 1.0).close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_damaged_table_of_jobs_is_told(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 1.0)
    for _ in range(300):
        added(store)
    store.close()
    content = (tmp_path / "jobs.sqlite3").read_bytes()
    for damaged in (b"no database", content[:5000] + bytes(len(content) - 5000)):
        (tmp_path / "jobs.sqlite3").write_bytes(damaged)
        with pytest.raises(OutputError, match=r"cannot be used .* remove jobs.sqlite3"):
            JobStore(tmp_path, 1.0)


def test_nobody_else_reads_the_state_folder(store: JobStore) -> None:
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_a_folder_that_was_there_before_keeps_what_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "jobs" / "my-thesis").mkdir(parents=True)
    (tmp_path / "jobs" / "my-thesis" / "results.txt").touch()
    tmp_path.chmod(0o755)
    store = JobStore(tmp_path, 1.0)
    gone, kept = store.make_job_folder()[1], store.get_folder(added(store))
    store.recover_jobs()
    assert (tmp_path / "jobs" / "my-thesis" / "results.txt").exists() and kept.exists() and not gone.exists()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path, tmp_path / "jobs")] == [0o755, 0o700]
    store.close()


def test_what_expires(store: JobStore) -> None:
    old, new, never = added(store), added(store), added(store)
    for each in (old, new):
        store.end_job(each, DONE)
    store.update_job(old, ended=time.time() - 101)
    assert [job.id for job in store.find_expired_jobs()] == [old]
    store.retention_s = 0
    assert store.find_expired_jobs() == []
    assert store.to_json(store.get_job(old))["expires"] is None
    assert store.get_job(never).ended is None


@pytest.mark.parametrize("job_id", ["", "..", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdef/..", "x" * 16])
def test_an_id_is_never_a_path(store: JobStore, job_id: str) -> None:
    with pytest.raises(ValueError, match="no job's id"):
        store.get_folder(job_id)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("a.MOV", "source.mov"), ("a.exe", "source.mp4"), ("x.tar.mkv", "source.mkv"), ("", "source.mp4"), ("a.jpg", "source.mp4")],
)  # fmt: skip
def test_what_an_upload_is_called_on_disk(name: str, kept: str) -> None:
    assert make_source_name(name) == kept


def test_the_database_survives_a_writer_that_is_cut_off(tmp_path: Path) -> None:
    """What was committed is there though the file was never closed: SQLite's write-ahead log."""
    store = JobStore(tmp_path, 1.0)
    job_id = added(store)
    copy = tmp_path / "copy.sqlite3"
    for ending in ("", "-wal"):
        (tmp_path / f"copy.sqlite3{ending}").write_bytes((tmp_path / f"jobs.sqlite3{ending}").read_bytes())
    with sqlite3.connect(copy) as database:
        assert [row[0] for row in database.execute("SELECT id FROM jobs")] == [job_id]
    store.close()


def rewritten(folder: Path, **columns: object) -> None:
    """Write other values into the columns of all jobs, as another version of the service would have."""
    database = sqlite3.connect(folder / "jobs.sqlite3")
    for column, value in columns.items():
        database.execute(f"UPDATE jobs SET {column} = ?", (json.dumps(value),))
    database.commit()
    database.close()


@pytest.mark.parametrize(
    ("color", "label_colors"), [("colour", "label_colours"), ("color", "label_colors")], ids=["0.1", "between"]
)
def test_jobs_of_an_older_version_are_read(tmp_path: Path, color: str, label_colors: str) -> None:
    store = JobStore(tmp_path, 100.0)
    job_id = added(store)
    store.end_job(job_id, FAILED)
    store.close()
    settings = {
        "model": "nano", "detector": "haar", "people": "largest", "smoothing": 0.5, color: "255,0,0",
        label_colors: [["happy", [0, 0, 255]]], "line_width": 3, "text_size": 20, "bars": True, "display_width": 640,
        "media": False,
    }  # fmt: skip
    error = {
        "name": "clip.mp4",
        "found": "is damaged",
        "cure": "copy it again",
        "code": "media_error",
        "parameters": {},
    }
    rewritten(tmp_path, settings=settings, error=error)
    store = JobStore(tmp_path, 100.0)
    job = store.get_job(job_id)
    assert job.options == replace(
        AnalysisOptions(model="nano", detector="haar", people=1, smoothing_s=0.5, outputs=("captions",)),
        formats=job.options.formats,
        style=Style((255, 0, 0), 3, 20, True, 640, (("happy", (0, 0, 255)),)),
    )
    known = {"code": "media_error"}
    assert job.error == MienError("clip.mp4", "is damaged", "copy it again", **known).to_dict()
    store.close()


def test_jobs_of_a_newer_version_are_told(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 100.0)
    added(store)
    store.close()
    rewritten(tmp_path, settings=OPTIONS.to_dict() | {"glow": 3})
    with pytest.raises(OutputError, match=r"cannot be used \(`glow`: is unknown; choose from model, detector"):
        JobStore(tmp_path, 100.0)
