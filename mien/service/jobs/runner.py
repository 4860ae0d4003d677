"""Run a limited number of worker processes, one per job: follow their progress, stop them, and retry after a crash."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mien.analysis.detection.detectors import select_detector_file
from mien.core.errors import MienError
from mien.service.config import Config
from mien.service.errors import drop_parameters
from mien.service.jobs.jobs import CANCELLED, DONE, FAILED, STEM, WORK, Job, JobStore
from mien.service.recognition.decoding import make_child_environment

log = logging.getLogger("mien.service")

#: What a full or vanished disk raises, as the operating system says it and as the database does.
WRITE_ERRORS = (OSError, sqlite3.Error)

#: After that the same is tried again in so many seconds.
RETRY_S = 5.0

#: A worker's line is short; a longer one is none of ours.
MAX_LINE_BYTES = 64 * 1024


class Runner:
    """Run the queued jobs of a store with ``config.workers`` processes, and remove expired jobs.

    Args:
        models: name → what a Recognizer is given for it.
        on_crash: called for each worker that died.
    """

    def __init__(
        self,
        config: Config,
        store: JobStore,
        models: dict[str, str | Path],
        on_crash: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._store, self._models, self._on_crash = config, store, models, on_crash
        self._wake = asyncio.Event()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        self._store.recover_jobs()
        self._loops = [asyncio.create_task(self._run_queue()), asyncio.create_task(self._remove_expired_jobs())]
        self._wake.set()

    async def close(self) -> None:
        """End the workers; their jobs wait for the next start."""
        self._closing = True
        for task in self._loops:
            task.cancel()
        for job_id in list(self._tasks):
            self._store.requeue_interrupted_job(job_id)
            self._kill_worker(job_id)
        await asyncio.gather(*self._loops, *self._tasks.values(), return_exceptions=True)

    def wake_up(self) -> None:
        """Tell the runner that there is a new job."""
        self._wake.set()

    @property
    def pids(self) -> dict[str, int]:
        """Return job → process ID of its worker."""
        return {job_id: process.pid for job_id, process in self._running.items()}

    async def cancel_job(self, job_id: str) -> Job | None:
        """End a job that is not finished; returns when nothing of it runs any more."""
        job = self._store.end_job(job_id, CANCELLED, "cancelled")
        await self._stop_worker(job_id)
        return job

    async def remove_job(self, job_id: str) -> None:
        """End a job, and remove it with all its files."""
        self._store.end_job(job_id, CANCELLED, "removed")
        await self._stop_worker(job_id)
        self._store.delete_job(job_id)
        await asyncio.to_thread(shutil.rmtree, self._store.get_folder(job_id), ignore_errors=True)

    async def _stop_worker(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task is not None:
            self._kill_worker(job_id)
            await asyncio.wait([task])

    def _kill_worker(self, job_id: str) -> None:
        process = self._running.get(job_id)
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
            else:
                process.kill()

    async def _run_queue(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                self._begin_jobs()
            except WRITE_ERRORS as error:
                log.error("jobs wait, since they cannot be written down (%s)", error)
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def _begin_jobs(self) -> None:
        while len(self._tasks) < self._config.workers and (job := self._store.find_next_job()) is not None:
            self._store.start_job(job)
            task = asyncio.create_task(self._run_job(job))
            self._tasks[job.id] = task
            task.add_done_callback(partial(self._forget_worker, job.id))

    def _forget_worker(self, job_id: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(job_id, None)
        self._running.pop(job_id, None)
        self._wake.set()

    async def _run_job(self, job: Job) -> None:
        """Make one attempt at a job. Afterward the job is queued again or in a final state, whatever happens."""
        out = self._store.get_folder(job.id) / WORK
        try:
            end = await self._run_worker(job, out)
        except WRITE_ERRORS as error:  # no process could be started, its folder is gone, or its progress cannot be kept
            end = {"died": f"could not be run ({error})"}
        while not self._closing:  # a job whose server ends waits for the next start, which goes on from what is there
            try:
                self._record_outcome(job, end, out)
                return
            except WRITE_ERRORS as error:
                log.error("job %s: its end cannot be written down (%s)", job.id, error)
                end = {"died": f"had no place for its results ({error})"}
                await asyncio.sleep(RETRY_S)

    def _record_outcome(self, job: Job, end: dict[str, Any], out: Path) -> None:
        """Record the outcome of an attempt: results, a failure, or one more attempt."""
        if not self._is_wanted(job.id):
            pass  # canceled or removed
        elif "died" in end:
            self._on_crash()
            log.warning("job %s: its worker %s", job.id, end["died"])
            self._store.handle_crash(job.id, end["died"])
        elif "error" in end:
            error = end["error"]
            hint = drop_parameters(error["hint"])
            self._store.end_job(job.id, FAILED, error=error | {"hint": hint})
        else:
            results = out.with_name("results")
            shutil.rmtree(results, ignore_errors=True)  # of an attempt whose end could not be written down
            out.rename(results)
            self._store.end_job(job.id, DONE, end.get("text") or "done")
        if not self._is_wanted(job.id):  # else the next attempt goes on from what is there
            shutil.rmtree(out, ignore_errors=True)

    def _is_wanted(self, job_id: str) -> bool:
        job = self._store.get_job(job_id)
        return job is not None and not job.is_final

    async def _run_worker(self, job: Job, out: Path) -> dict[str, Any]:
        """Return the worker's last message: ``{"done": ...}``, ``{"error": ...}``, or ``{"died": how}``."""
        if (model := job.options.model) not in self._models:  # served when the job was sent, before a restart
            hint = f"choose one of {', '.join(self._models)}"
            problem = "is not served any more"
            return {"error": MienError(f"model '{model}'", problem, hint, code="unknown_model").to_dict()}
        out.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mien.service.jobs.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_LINE_BYTES, env=make_child_environment(MALLOC_ARENA_MAX="2"), start_new_session=True,
        )  # fmt: skip
        self._running[job.id] = process
        if self._closing or not self._is_wanted(job.id):  # canceled while the process was started
            self._kill_worker(job.id)
        try:
            assert process.stdin is not None  # it is a pipe
            with suppress(ConnectionError):
                process.stdin.write((json.dumps(self._make_task(job, out)) + "\n").encode())
                await process.stdin.drain()
            return await self._read_progress(job, process)
        finally:
            self._kill_worker(job.id)
            await process.wait()

    async def _read_progress(self, job: Job, process: asyncio.subprocess.Process) -> dict[str, Any]:
        limits, started = self._config.limits, time.monotonic()
        assert process.stdout is not None  # it is a pipe
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), limits.stall_s)
                message = json.loads(line) if line else {"died": _describe_exit(await process.wait())}
            except TimeoutError:
                return {"died": f"made no progress for {limits.stall_s:.0f} s and was ended"}
            except ValueError:  # too long a line, or one that breaks off
                return {"died": "wrote what nobody understands and was ended"}
            if message.keys() & {"done", "error", "died"}:
                return message
            if time.monotonic() - started > limits.job_s:
                problem = f"took longer than the limit of {limits.job_s:,.0f} s"
                known: dict[str, Any] = {"code": "analysis_too_long", "limit": limits.job_s}
                return {"error": MienError(job.name, problem, "send a shorter part", **known).to_dict()}
            if self._is_wanted(job.id):
                self._store.update_job(
                    job.id, **{key: message.get(key) for key in ("progress", "seconds_left", "text")}
                )

    def _make_task(self, job: Job, out: Path) -> dict[str, Any]:
        """Return what the worker is to do."""
        limits, options = self._config.limits, job.options
        file = self._detector_file(options.detector)
        options = replace(options, model=str(self._models[options.model]), detector_model=file)
        return {
            "path": str(self._store.get_folder(job.id) / job.source), "out": str(out), "stem": STEM, "name": job.name,
            "options": options.to_dict(), "memory": limits.worker_bytes, "most_pixels": limits.video_pixels, "most_seconds": limits.video_seconds,
        }  # fmt: skip

    def _detector_file(self, detector: str) -> str | None:
        file = select_detector_file(detector, self._config.detector_model)
        return None if file is None else str(file)

    async def _remove_expired_jobs(self) -> None:
        """Remove what is older than it may be, again and again."""
        pause = min(60.0, max(0.2, self._store.retention_s / 4)) if self._store.retention_s else 60.0
        while True:
            try:
                for job in self._store.find_expired_jobs():
                    await self.remove_job(job.id)
            except WRITE_ERRORS as error:
                log.error("old jobs cannot be removed (%s)", error)
            await asyncio.sleep(pause)


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
