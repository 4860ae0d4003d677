"""`mien queue`: run jobs by priority in a few processes until all are done. All state is on disk.

A job is a separate process that holds a lock while it runs and writes its exit code when it ends. A job without a lock and
without an exit code was interrupted: it is started again, and its trainings resume after their last finished epoch. So the
queue and its jobs may be killed at any time. A job that outlives its queue is awaited by the next queue.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mien.core.files import make_folder, write_json
from mien.core.locks import hold_lock, is_locked
from mien.core.progress import progress_bar
from mien.reproduction.jobs import Job, Plan, Training, read_epoch_seconds

Echo = Callable[[str], None]

#: A job that would take longer is refused unless slow jobs are included.
MAX_HOURS = 24.0

#: How often an interrupted job is started again without finishing another epoch.
MAX_ATTEMPTS = 3

#: The exit code of a command that Ctrl-C ended.
INTERRUPTED = 130

#: States in the order of the status.
STATES = ("running", "waiting", "refused", "failed", "done")


@dataclass
class Entry:
    """The state of one job in the queue.

    done, epochs: epochs of its trainings that are finished, and that it has in all.
    hours: what is left of them at the pace of this machine; None if nobody knows.
    attempts: how often it was begun since it last finished an epoch.
    """

    job: Job
    trainings: tuple[Training, ...]
    hours: float | None = None
    state: str = "waiting"
    reason: str = ""
    done: int = 0
    attempts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def epochs(self) -> int:
        return sum(training.epochs for training in self.trainings)

    def to_json(self) -> dict[str, Any]:
        names = ("state", "reason", "done", "epochs", "hours")
        return {"name": self.job.name} | {name: getattr(self, name) for name in names}


class Queue:
    """The jobs of a plan with their states.

    start: begins a job in a process of its own and returns it.
    hours: estimates what is left of a job.
    """

    def __init__(
        self,
        plan: Plan,
        start: Callable[[Job], subprocess.Popen[bytes]],
        hours: Callable[[Job], float | None],
        processes: int,
        include_slow: bool = False,
        echo: Echo = print,
    ) -> None:
        self._plan, self._start, self._hours, self._processes, self._echo = plan, start, hours, processes, echo
        self._written_state: dict[str, Any] = {}
        self.entries = [self._make_entry(job, include_slow) for job in plan.jobs]

    def run(self, poll_s: float = 1.0, quiet: bool = False) -> bool:
        """Run jobs until none is left that can run; returns whether all jobs are done."""
        total = sum(entry.epochs for entry in self.entries)
        with progress_bar("queue", total, done=0, quiet=quiet) as bar:
            shown = 0
            try:
                while self._update_jobs():
                    done = sum(entry.done for entry in self.entries)
                    bar.advance(done - shown, self._format_progress())
                    shown = done
                    time.sleep(poll_s)
            finally:
                self._stop_jobs()
        return all(entry.state == "done" for entry in self.entries)

    def _make_entry(self, job: Job, include_slow: bool) -> Entry:
        entry = Entry(job, tuple(self._plan.list_trainings(job)))
        if self._plan.read_exit_code(job) == 0:
            entry.state, entry.done, entry.hours = "done", entry.epochs, 0.0
            return entry
        entry.done, entry.hours = self._count_epochs(entry), self._hours(job)
        if (entry.hours or 0.0) > MAX_HOURS and not include_slow:
            entry.state = "refused"
            entry.reason = f"takes {entry.hours:,.0f} h on this machine; `include_slow=True` allows it"
            self._echo(f"{job.name}: refused, {entry.reason}")
        return entry

    def _update_jobs(self) -> bool:
        """Look at every job, begin what there is room for, write the state; False once nothing runs."""
        for entry in self.entries:
            self._update_entry(entry)
        for entry in self.entries:
            running = sum(entry.state == "running" for entry in self.entries)
            if running < self._processes and entry.state == "waiting" and self._is_ready(entry):
                self._start_entry(entry)
        self._write_state()
        return any(entry.state == "running" for entry in self.entries)

    def _is_ready(self, entry: Entry) -> bool:
        """Return whether all that the job waits for is done. Writes into the entry's reason what it waits for."""
        awaited = self._plan.list_dependencies(entry.job)
        states = {other.job.name: other.state for other in self.entries if other.job in awaited}
        missing = [f"{name} ({state})" if state in ("failed", "refused") else name
                   for name, state in states.items() if state != "done"]  # fmt: skip
        entry.reason = f"after {', '.join(missing)}" if missing else ""
        return not missing

    def _start_entry(self, entry: Entry) -> None:
        (self._plan.state / f"{entry.job.name}.json").unlink(missing_ok=True)
        entry.attempts += 1
        entry.process, entry.state = self._start(entry.job), "running"
        self._echo(
            f"{entry.job.name}: begun" if entry.done == 0 else f"{entry.job.name}: goes on after {entry.done} epochs"
        )

    def _update_entry(self, entry: Entry) -> None:
        """Update one entry from its process, its lock and its files."""
        if entry.state in ("done", "failed"):
            return
        alive = entry.process is not None and entry.process.poll() is None
        if alive or is_locked(self._plan.lock(entry.job)):
            if entry.state != "running":
                self._echo(f"{entry.job.name}: still runs, begun by an earlier queue")
            entry.state, entry.reason = "running", ""
        if entry.state == "running":
            if (done := self._count_epochs(entry)) > entry.done:
                entry.done, entry.attempts, entry.hours = done, 1, self._hours(entry.job)
            if not alive and not is_locked(self._plan.lock(entry.job)):
                self._finish_entry(entry)

    @staticmethod
    def _count_epochs(entry: Entry) -> int:
        return sum(min(len(read_epoch_seconds(training.folder)), training.epochs) for training in entry.trainings)

    def _finish_entry(self, entry: Entry) -> None:
        code, name = self._plan.read_exit_code(entry.job), entry.job.name
        entry.process = None
        if code == 0:
            entry.state, entry.done, entry.hours = "done", entry.epochs, 0.0
            self._echo(f"{name}: done")
        elif code is None and entry.attempts < MAX_ATTEMPTS:
            entry.state = "waiting"
            self._echo(f"{name}: was cut off after {entry.done} epochs")
        else:
            entry.state = "failed"
            entry.reason = read_last_line(self._plan.log(entry.job)) or "was cut off again and again"
            self._echo(f"{name}: failed: {entry.reason} (see {self._plan.log(entry.job)})")

    def _make_state(self) -> dict[str, Any]:
        return {"processes": self._processes, "jobs": [entry.to_json() for entry in self.entries]}

    def _write_state(self) -> None:
        if (state := self._make_state()) != self._written_state:
            write_json(self._plan.state / "state.json", state)
            self._written_state = state

    def _format_progress(self) -> str:
        """Format the running jobs, the next one and the hours that are left, for the progress bar."""
        running = [
            f"{entry.job.name} {entry.done}/{entry.epochs}" for entry in self.entries if entry.state == "running"
        ]
        waiting = [entry.job.name for entry in self.entries if entry.state == "waiting"]
        return f"{', '.join(running)}; next {next(iter(waiting), 'none')}; {estimate_hours_left(self._make_state()):,.1f} h left"

    def _stop_jobs(self) -> None:
        """End the jobs that this queue began, as when it is interrupted; what they finished is kept."""
        processes = [entry.process for entry in self.entries if entry.process]
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


@contextmanager
def hold_queue_lock(plan: Plan) -> Iterator[None]:
    """Hold the lock of the queue; SIGTERM ends the block as Ctrl-C does."""
    make_folder(plan.state)
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with hold_lock(plan.state / "queue.lock", plan.runs, "see it with `status=True`, or wait until it has ended"):
            yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def start_process(
    plan: Plan, job: Job, arguments: Sequence[str], environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start a process of `mien queue --job NAME` with its output in the job's log; Ctrl-C does not reach it by itself."""
    with plan.log(job).open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mien", "queue", *arguments, "--job", job.name],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
        )  # fmt: skip


def run_job(plan: Plan, job: Job, run: Callable[[list[str]], int]) -> int:
    """Run the job's commands in this process until one fails; returns its exit code and writes it."""
    with hold_lock(plan.lock(job), job.name, "wait until it has ended"):
        code = 0
        for command in plan.list_commands(job):
            code = code or run(command)
        if code == INTERRUPTED:
            return code
        write_json(plan.state / f"{job.name}.json", plan.describe_job(job) | {"exit_code": code})
    return code


def read_state(runs: Path) -> dict[str, Any]:
    """Return what the queue of this folder wrote last; no jobs if there was none."""
    try:
        return json.loads((runs / "queue" / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {"processes": 0, "jobs": []}


def estimate_hours_left(state: dict[str, Any]) -> float:
    """Estimate the hours until all running and waiting jobs are done, if the processes share them evenly."""
    open_jobs = [job["hours"] or 0.0 for job in state["jobs"] if job["state"] in ("running", "waiting")]
    return sum(open_jobs) / max(1, min(state["processes"], len(open_jobs)))


def format_status(runs: Path) -> str:
    """Format the running jobs with their progress, the next ones and the rest."""
    state = read_state(runs)
    counts = {name: [job for job in state["jobs"] if job["state"] == name] for name in STATES}
    working = "the queue is running" if is_locked(runs / "queue" / "queue.lock") else "no queue is running"
    done = f"{len(counts['done'])} of {len(state['jobs'])} jobs done"
    lines = [f"{working}: {state['processes']} processes, {done}, {estimate_hours_left(state):,.1f} h left"]
    for name in STATES[:-1]:
        for job in counts[name]:
            hours = "? h" if job["hours"] is None else f"{job['hours']:,.1f} h"
            reason = f"  {job['reason']}" if job["reason"] else ""
            lines.append(f"{name:8} {job['name']:24} {job['done']:>4}/{job['epochs']:<4} epochs  {hours:>8}{reason}")
    return "\n".join(lines)


def read_last_line(file: Path) -> str:
    """Return the last line of a log that is not empty."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
