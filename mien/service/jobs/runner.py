"""Starts a worker process for each job, so many at a time; hears its progress, ends it, tries again after a crash."""

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
from pathlib import Path
from typing import Any

from mien.core.errors import MienError
from mien.service.config import Config
from mien.service.jobs.jobs import CANCELLED, DONE, FAILED, STEM, WORK, Job, Store
from mien.service.recognition.decoding import child_environment

log = logging.getLogger("mien.service")

#: What a full or vanished disk raises, as the operating system says it and as the database does.
NO_WRITING = (OSError, sqlite3.Error)

#: After that the same is tried again in so many seconds.
RETRY_S = 5.0

#: A worker's line is short; a longer one is none of ours.
LONGEST_LINE = 64 * 1024


class Runner:
    """Runs the queued jobs of a store with ``config.workers`` processes, and removes those whose time is over.

    Args:
        models: name → what a Recognizer is given for it.
        crashed: called for each worker that died.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        models: dict[str, str | Path],
        crashed: Callable[[], None] = lambda: None,
    ) -> None:
        self._config, self._store, self._models, self._crashed = config, store, models, crashed
        self._wake = asyncio.Event()
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._closing = False

    def start(self) -> None:
        self._store.recover()
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._clean())]
        self._wake.set()

    async def close(self) -> None:
        """End the workers; their jobs wait for the next start."""
        self._closing = True
        for task in self._loops:
            task.cancel()
        for job_id in list(self._tasks):
            self._store.interrupted(job_id)
            self._kill(job_id)
        await asyncio.gather(*self._loops, *self._tasks.values(), return_exceptions=True)

    def wake(self) -> None:
        """There is a new job."""
        self._wake.set()

    @property
    def pids(self) -> dict[str, int]:
        """Job → process id of its worker."""
        return {job_id: process.pid for job_id, process in self._running.items()}

    async def cancel(self, job_id: str) -> Job | None:
        """End a job that is not finished; returns when nothing of it runs any more."""
        job = self._store.end(job_id, CANCELLED, "cancelled")
        await self._stop(job_id)
        return job

    async def remove(self, job_id: str) -> None:
        """End a job, and remove it with all its files."""
        self._store.end(job_id, CANCELLED, "removed")
        await self._stop(job_id)
        self._store.forget(job_id)
        await asyncio.to_thread(shutil.rmtree, self._store.folder_of(job_id), ignore_errors=True)

    async def _stop(self, job_id: str) -> None:
        task = self._tasks.get(job_id)
        if task is not None:
            self._kill(job_id)
            await asyncio.wait([task])

    def _kill(self, job_id: str) -> None:
        process = self._running.get(job_id)
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own
            else:
                process.kill()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                self._begin_jobs()
            except NO_WRITING as error:
                log.error("jobs wait, since they cannot be written down (%s)", error)
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def _begin_jobs(self) -> None:
        while len(self._tasks) < self._config.workers and (job := self._store.next()) is not None:
            self._store.begin(job)
            task = asyncio.create_task(self._work(job))
            self._tasks[job.id] = task
            task.add_done_callback(lambda _, job_id=job.id: self._finished(job_id))

    def _finished(self, job_id: str) -> None:
        self._tasks.pop(job_id, None)
        self._running.pop(job_id, None)
        self._wake.set()

    async def _work(self, job: Job) -> None:
        """One attempt at one job; whatever happens, the job is then queued again or in a final state."""
        out = self._store.folder_of(job.id) / WORK
        try:
            end = await self._attempt(job, out)
        except NO_WRITING as error:  # no process could be started, its folder is gone, or its progress cannot be kept
            end = {"died": f"could not be run ({error})"}
        while not self._closing:  # a job whose server ends waits for the next start, which goes on from what is there
            try:
                self._settle(job, end, out)
                return
            except NO_WRITING as error:
                log.error("job %s: its end cannot be written down (%s)", job.id, error)
                end = {"died": f"had no place for its results ({error})"}
                await asyncio.sleep(RETRY_S)

    def _settle(self, job: Job, end: dict[str, Any], out: Path) -> None:
        """What an attempt came to: results, a failure, or one more attempt."""
        if not self._is_wanted(job.id):
            pass  # cancelled or removed
        elif "died" in end:
            self._crashed()
            log.warning("job %s: its worker %s", job.id, end["died"])
            self._store.crashed(job.id, end["died"])
        elif "error" in end:
            self._store.end(job.id, FAILED, error=end["error"])
        else:
            results = out.with_name("results")
            shutil.rmtree(results, ignore_errors=True)  # of an attempt whose end could not be written down
            out.rename(results)
            self._store.end(job.id, DONE, end.get("text") or "done")
        if not self._is_wanted(job.id):  # else the next attempt goes on from what is there
            shutil.rmtree(out, ignore_errors=True)

    def _is_wanted(self, job_id: str) -> bool:
        job = self._store.get(job_id)
        return job is not None and not job.is_final

    async def _attempt(self, job: Job, out: Path) -> dict[str, Any]:
        """The worker's last word: ``{"done": ...}``, ``{"error": ...}``, or ``{"died": how}``."""
        if (model := job.options.model) not in self._models:  # served when the job was sent, before a restart
            hint = f"choose one of {', '.join(self._models)}"
            found = "is not served any more"
            return {"error": MienError(f"model '{model}'", found, hint, code="unknown_model").to_dict()}
        out.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mien.service.jobs.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            limit=LONGEST_LINE, env=child_environment(MALLOC_ARENA_MAX="2"), start_new_session=True,
        )  # fmt: skip
        self._running[job.id] = process
        if self._closing or not self._is_wanted(job.id):  # cancelled while the process was started
            self._kill(job.id)
        try:
            with suppress(ConnectionError):
                process.stdin.write((json.dumps(self._order(job, out)) + "\n").encode())
                await process.stdin.drain()
            return await self._listen(job, process)
        finally:
            self._kill(job.id)
            await process.wait()

    async def _listen(self, job: Job, process: asyncio.subprocess.Process) -> dict[str, Any]:
        limits, started = self._config.limits, time.monotonic()
        while True:
            try:
                line = await asyncio.wait_for(process.stdout.readline(), limits.stall_s)
                word = json.loads(line) if line else {"died": _how(await process.wait())}
            except TimeoutError:
                return {"died": f"made no progress for {limits.stall_s:.0f} s and was ended"}
            except ValueError:  # too long a line, or one that breaks off
                return {"died": "wrote what nobody understands and was ended"}
            if word.keys() & {"done", "error", "died"}:
                return word
            if time.monotonic() - started > limits.job_s:
                found = f"took longer than the limit of {limits.job_s:,.0f} s"
                known = {"code": "analysis_too_long", "limit": limits.job_s}
                return {"error": MienError(job.name, found, "send a shorter part", **known).to_dict()}
            if self._is_wanted(job.id):
                self._store.update(job.id, **{key: word.get(key) for key in ("progress", "seconds_left", "text")})

    def _order(self, job: Job, out: Path) -> dict[str, Any]:
        """What the worker is told."""
        limits, options = self._config.limits, job.options
        file = self._detector_file(options.detector)
        options = replace(options, model=str(self._models[options.model]), detector_model=file)
        return {
            "path": str(self._store.folder_of(job.id) / job.source), "out": str(out), "stem": STEM, "name": job.name,
            "options": options.to_dict(), "memory": limits.worker_bytes, "most_pixels": limits.video_pixels, "most_seconds": limits.video_seconds,
        }  # fmt: skip

    def _detector_file(self, detector: str) -> str | None:
        file = self._config.detector_model
        return str(file) if file is not None and detector in ("auto", "yunet") else None

    async def _clean(self) -> None:
        """Remove what is older than it may be, again and again."""
        pause = min(60.0, max(0.2, self._store.retention_s / 4)) if self._store.retention_s else 60.0
        while True:
            try:
                for job in self._store.expired():
                    await self.remove(job.id)
            except NO_WRITING as error:
                log.error("old jobs cannot be removed (%s)", error)
            await asyncio.sleep(pause)


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"
