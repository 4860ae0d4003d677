"""`mien queue`: run a list of trainings by priority, and continue after an interruption."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.main import main
from mien.cli.messages import name_options
from mien.cli.options import Quiet
from mien.core.errors import UsageError
from mien.core.progress import echo
from mien.training.scoring.classifiers import require_torch


def queue(
    data: Annotated[
        list[Path], typer.Option(help="FER2013's Training and PublicTest; repeat it for several files.")
    ] = [],  # noqa: B006
    out: Annotated[
        Path, typer.Option(help="Folder of all runs; the files of the queue are in its folder queue.")
    ] = Path("runs"),
    jobs: Annotated[Path | None, typer.Option(help="TOML file of other jobs.")] = None,
    known_results: Annotated[
        Path | None, typer.Option(help="Folder of NAME.json files of 'mien reproduce': runs in them are not repeated.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Number of jobs at a time. Default: measured.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads of each job. Default: measured.")
    ] = None,
    include_slow: Annotated[
        bool, typer.Option("--include-slow", help="Run jobs that take more than 24 hours on this machine, too.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Print the running, the next and the remaining jobs, and stop.")
    ] = False,
    job: Annotated[str, typer.Option(hidden=True)] = "",
    quiet: Quiet = False,
) -> None:
    """Train the reference systems and the shipped models, by priority.

    Each job runs in its own process with low priority. Finished jobs are skipped and interrupted jobs continue, also after
    kill -9 of the queue or of a job. A failed job does not stop the others; the next start repeats it. Once per machine a short
    timed training decides between many processes of one thread and few processes of several threads.
    """
    from mien.reproduction.queue import format_status

    if status:
        echo(name_options(format_status(out)))
        return
    if not data:
        raise UsageError("--data", "is missing", "name the files of FER2013's Training and PublicTest")
    for path in (*data, *([known_results] if known_results else [])):
        if not path.exists():
            raise UsageError(path, "does not exist", "check --data and --known-results")
    require_torch()
    from mien.reproduction.jobs import Plan, read_jobs
    from mien.reproduction.queue import Queue, hold_queue_lock, run_job, start_process

    plan = Plan(read_jobs(jobs), out, tuple(data), known_results)
    if job:
        if hasattr(os, "nice"):
            os.nice(10)
        raise typer.Exit(run_job(plan, plan.job(job), main))
    from mien.reproduction.estimates import Speeds, make_thread_environment

    shared = [word for path in data for word in ("--data", str(path))] + ["--out", str(out)]
    shared += (["--jobs", str(jobs)] if jobs else []) + (
        ["--known-results", str(known_results)] if known_results else []
    )

    def print_line(text: str) -> None:
        if not quiet:
            echo(name_options(text))
            sys.stdout.flush()  # days may pass between two lines, and a pipe or a file should show each at once

    with hold_queue_lock(plan):
        speeds = Speeds(plan)
        processes, threads = speeds.choose_layout(processes, threads)
        print_line(f"{processes} processes of {threads} threads; progress: mien queue --status --out {out}")
        print_line("estimating the hours of all jobs; once per machine this takes some minutes")
        environment = make_thread_environment(threads)
        working = Queue(
            plan,
            lambda one: start_process(plan, one, shared, environment),
            lambda one: speeds.estimate_hours(one, threads),
            processes,
            include_slow,
            print_line,
        )
        done = working.run(quiet=quiet)
    print_line(format_status(out))
    if not done:
        raise typer.Exit(1)
