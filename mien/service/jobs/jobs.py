"""Video jobs of all states in SQLite, so that they survive a restart of the server."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePath
from typing import Any

from mien.analysis.media.inputs import VIDEO_SUFFIXES
from mien.analysis.settings import AnalysisOptions
from mien.core.errors import MienError, OutputError, UsageError
from mien.core.files import make_folder
from mien.core.locks import hold_lock
from mien.service.jobs.old_jobs import convert_error, convert_options

QUEUED, RUNNING, DONE, FAILED, CANCELLED = STATES = ("queued", "running", "done", "failed", "cancelled")
FINAL = (DONE, FAILED, CANCELLED)

#: A job is tried twice if its worker crashes, and is started at most four times, restarts of the server included.
MAX_ATTEMPTS = 2
MAX_STARTS = 4

JOB_ID = re.compile(r"[0-9a-f]{16}")

#: Name of a result → the ending of its file. What a job was made from is a result too.
RESULTS = {
    "annotated.mp4": ".annotated.mp4", "records.jsonl": ".records.jsonl", "records.csv": ".records.csv",
    "records.parquet": ".records.parquet", "summary.json": ".summary.json", "timeline.png": ".timeline.png",
    "timeline.html": ".timeline.html", "vtt": ".vtt",
}  # fmt: skip
#: The folder in which a worker writes; what is whole there is moved, and after a sudden end the next one goes on from it.
WORK = "work"

#: What all result files of a job are called, before their ending.
STEM = "video"

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL, started REAL, ended REAL,
    progress REAL, seconds_left REAL, text TEXT NOT NULL, error TEXT, attempts INTEGER NOT NULL, starts INTEGER NOT NULL,
    settings TEXT NOT NULL, source TEXT NOT NULL
)"""


@dataclass(frozen=True)
class Job:
    """One video.

    name      what the user calls it, for display alone
    progress  0..1, None while it is not known
    error     of what ended it, as MienError.to_dict has it
    attempts  how often its worker was started, not counting those that a restart of the server ended
    starts    counting those too
    options   of the analysis; ``model`` is a name that is served
    source    the file of the video in the job's folder
    """

    id: str
    name: str
    state: str
    created: float
    options: AnalysisOptions
    source: str
    started: float | None = None
    ended: float | None = None
    progress: float | None = None
    seconds_left: float | None = None
    text: str = ""
    error: dict[str, Any] | None = None
    attempts: int = 0
    starts: int = 0

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


def make_source_name(name: str) -> str:
    """Return the name of an upload on disk: always ``source``, with the ending of its name if it is one of a video."""
    suffix = Path(name).suffix.lower()
    return f"source{suffix if suffix in VIDEO_SUFFIXES else '.mp4'}"


class JobStore:
    """The jobs of one state folder, locked against other processes. All calls come from one thread.

    ``on_change`` is called with every job that changed.
    """

    def __init__(self, folder: Path, retention_s: float, on_change: Callable[[Job], None] = lambda job: None) -> None:
        is_new = not folder.exists()
        self.folder, self.retention_s, self.on_change = make_folder(folder, "state"), retention_s, on_change
        make_folder(folder / "jobs").chmod(0o700)  # faces of people lie here
        if is_new:  # one that was there before is shared as its owner wishes
            folder.chmod(0o700)
        self._lock = ExitStack()
        hint = "end that one, or name another with `state`"
        self._lock.enter_context(hold_lock(folder / "in-use.lock", folder, hint, state="used"))
        self._database = sqlite3.connect(folder / "jobs.sqlite3", isolation_level=None, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        try:
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", SCHEMA):
                self._database.execute(statement)
            self.list_jobs()
        except (sqlite3.DatabaseError, UsageError) as error:  # the latter for jobs of a newer version
            self.close()
            hint = "name another folder with `state`, or remove jobs.sqlite3 from it: its jobs are lost then"
            raise OutputError(folder, f"cannot be used ({error})", hint) from error

    def close(self) -> None:
        self._database.close()
        self._lock.close()

    def get_folder(self, job_id: str) -> Path:
        if not JOB_ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is no job's id")
        return self.folder / "jobs" / job_id

    def make_job_folder(self) -> tuple[str, Path]:
        """Return (id, folder) for a job that is about to be added."""
        job_id = secrets.token_hex(8)
        return job_id, make_folder(self.get_folder(job_id))

    def add_job(self, job_id: str, name: str, source: str, options: AnalysisOptions) -> Job:
        job = Job(job_id, self._choose_free_name(name), QUEUED, time.time(), options, source, text="waiting")
        values = _list_fields(job) | {"settings": json.dumps(options.to_dict())}
        marks = ", ".join(f":{key}" for key in values)
        self._database.execute(f"INSERT INTO jobs ({', '.join(values)}) VALUES ({marks})", values)
        self.on_change(job)
        return job

    def _choose_free_name(self, name: str) -> str:
        """Return ``clip.mp4``, or ``clip (2).mp4`` if a job has that name: results are saved under it."""
        taken, path = {row["name"] for row in self._database.execute("SELECT name FROM jobs")}, PurePath(name)
        more = (f"{path.stem} ({number}){path.suffix}" for number in range(2, len(taken) + 3))
        return next(each for each in (name, *more) if each not in taken)

    def get_job(self, job_id: str) -> Job | None:
        row = self._database.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return None if row is None else _job_from_row(row)

    def list_jobs(self) -> list[Job]:
        """Return all jobs, the newest first."""
        return [_job_from_row(row) for row in self._database.execute("SELECT * FROM jobs ORDER BY created DESC, id")]

    def find_next_job(self) -> Job | None:
        """Return the queued job that has waited longest."""
        query = "SELECT * FROM jobs WHERE state = ? ORDER BY created, id LIMIT 1"
        row = self._database.execute(query, (QUEUED,)).fetchone()
        return None if row is None else _job_from_row(row)

    def count_states(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        rows = self._database.execute("SELECT state, COUNT(*) FROM jobs GROUP BY state")
        return dict.fromkeys(STATES, 0) | dict(rows)

    def update_job(self, job_id: str, **changes: Any) -> Job | None:
        """Update columns of a job. Returns None if the job is gone."""
        values = changes | {"error": json.dumps(changes["error"])} if changes.get("error") else changes
        places = ", ".join(f"{key} = :{key}" for key in values)
        self._database.execute(f"UPDATE jobs SET {places} WHERE id = :job_id", values | {"job_id": job_id})
        job = self.get_job(job_id)
        if job is not None:
            self._report_change(job, "state" in changes)
        return job

    def _report_change(self, job: Job, is_moved: bool) -> None:
        """Tell of a job; where its state changed, of those that wait too, since their places in line are others."""
        self.on_change(job)
        for other in self.list_jobs() if is_moved else ():
            if other.state == QUEUED and other.id != job.id:
                self.on_change(other)

    def find_queue_position(self, job: Job) -> int | None:
        """Return the position of a queued job, from 1; None for other jobs."""
        if job.state != QUEUED:
            return None
        query = "SELECT COUNT(*) FROM jobs WHERE state = ? AND (created, id) <= (?, ?)"
        return self._database.execute(query, (QUEUED, job.created, job.id)).fetchone()[0]

    def start_job(self, job: Job) -> Job | None:
        return self.update_job(
            job.id, state=RUNNING, started=time.time(), attempts=job.attempts + 1, starts=job.starts + 1, progress=None,
            seconds_left=None, text="starting",
        )  # fmt: skip

    def end_job(self, job_id: str, state: str, text: str = "", error: dict[str, Any] | None = None) -> Job | None:
        """Put a job into a final state, unless it is in one already."""
        job = self.get_job(job_id)
        if job is None or job.is_final:
            return job
        changes = {"progress": 1.0} if state == DONE else {}
        return self.update_job(
            job_id, state=state, ended=time.time(), seconds_left=None, text=text,
            error=error, **changes,
        )  # fmt: skip

    def handle_crash(self, job_id: str, how: str) -> Job | None:
        """Queue a job again whose worker died, or end it after too many attempts."""
        job = self.get_job(job_id)
        if job is None or job.state != RUNNING:
            return job
        if job.attempts < MAX_ATTEMPTS:
            text = f"its worker {how}; trying once more"
            return self.update_job(job_id, state=QUEUED, progress=None, seconds_left=None, text=text)
        problem = f"its worker {how}, {job.attempts} times"
        hint = "the video may be damaged or too large; convert it to an ordinary .mp4 and send it again"
        known: dict[str, Any] = {"code": "worker_crashed", "how": how, "attempts": job.attempts}
        return self.end_job(job_id, FAILED, error=MienError(job.name, problem, hint, **known).to_dict())

    def requeue_interrupted_job(self, job_id: str) -> Job | None:
        """Queue a job again that ran when the server ended. This is not counted as the job's fault unless it happens
        repeatedly."""
        job = self.get_job(job_id)
        if job is None or job.state != RUNNING:
            return job
        if job.starts < MAX_STARTS:
            text = "waiting, since the server was started again"
            return self.update_job(
                job_id, state=QUEUED, attempts=job.attempts - 1, progress=None, seconds_left=None, text=text
            )  # fmt: skip
        problem, hint = f"the server ended {job.starts} times while it was analyzed", "send it again"
        known: dict[str, Any] = {"code": "server_ended", "times": job.starts}
        return self.end_job(job_id, FAILED, error=MienError(job.name, problem, hint, **known).to_dict())

    def recover_jobs(self) -> None:
        """Queue jobs again that ran when the server ended, and remove files that belong to no job. Called at the
        start."""
        for job in self.list_jobs():
            self.requeue_interrupted_job(job.id)
        jobs = {job.id: job for job in self.list_jobs()}
        for folder in (self.folder / "jobs").iterdir():
            if not JOB_ID.fullmatch(folder.name):
                continue  # somebody else's
            if folder.name not in jobs:
                shutil.rmtree(folder, ignore_errors=True)
            elif jobs[folder.name].is_final:
                shutil.rmtree(folder / WORK, ignore_errors=True)

    def delete_job(self, job_id: str) -> None:
        """Remove the row; the caller removes the folder."""
        job = self.get_job(job_id)
        self._database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        if job is not None:
            self._report_change(replace(job, state=CANCELLED), is_moved=True)

    def get_expiry(self, job: Job) -> float | None:
        return job.ended + self.retention_s if job.ended and self.retention_s else None

    def find_expired_jobs(self) -> list[Job]:
        """Return the jobs that have expired."""
        now = time.time()
        return [job for job in self.list_jobs() if job.is_final and (self.get_expiry(job) or now) < now]

    def find_results(self, job: Job) -> dict[str, Path]:
        """Name → file of what there is."""
        folder = self.get_folder(job.id)
        places = {"source": folder / job.source}
        if job.state == DONE:
            places |= {name: folder / "results" / f"{STEM}{ending}" for name, ending in RESULTS.items()}
        return {name: path for name, path in places.items() if path.is_file()}

    def to_json(self, job: Job) -> dict[str, Any]:
        """Return a job as the interface shows it."""
        values = {key: value for key, value in _list_fields(job).items() if key not in ("source", "starts")}
        values["options"] = job.options.to_dict()
        more = {
            "position": self.find_queue_position(job),
            "expires": self.get_expiry(job),
            "results": list(self.find_results(job)),
        }
        return values | more


def _list_fields(job: Job) -> dict[str, Any]:
    """Name → value of a job's fields but its options."""
    return {field.name: getattr(job, field.name) for field in fields(job) if field.name != "options"}


def _job_from_row(row: sqlite3.Row) -> Job:
    values = dict(row)
    options = AnalysisOptions.from_dict(convert_options(json.loads(values.pop("settings"))))
    error = convert_error(json.loads(values["error"])) if values["error"] else None
    return Job(**values | {"options": options, "error": error})
