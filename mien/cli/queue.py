"""`mien queue`: works through a list of trainings by priority and goes on where it was cut off."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mien.cli.loaders import require_torch
from mien.cli.main import main
from mien.cli.options import Quiet
from mien.core.errors import UsageError
from mien.core.progress import echo


def queue(
    data: Annotated[
        list[Path], typer.Option(help="FER2013's Training and PublicTest; may be given several times.")
    ] = [],  # noqa: B006
    out: Annotated[
        Path, typer.Option(help="Folder of all runs; the queue's own files lie in its folder queue.")
    ] = Path("runs"),
    jobs: Annotated[Path | None, typer.Option(help="A TOML file of jobs instead of the reference systems.")] = None,
    known: Annotated[
        Path | None,
        typer.Option(help="A folder of NAME.json files of 'mien reproduce': their runs are not made again."),
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Jobs at a time; default: measured.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each; default: measured.")] = None,
    slow_too: Annotated[bool, typer.Option("--slow-too", help="Run jobs that take more than a day here too.")] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Print what runs, what is next and what is left; run nothing.")
    ] = False,
    job: Annotated[str, typer.Option(hidden=True)] = "",
    quiet: Quiet = False,
) -> None:
    """Train the reference systems and the shipped models, by priority.

    Each job runs in a process of its own with low priority. What is done is skipped and what was interrupted goes on, even
    after kill -9 of the queue or of a job. A job that fails does not stop the others; the next start tries it again. Once per
    machine a timed training of seconds decides between many processes of one thread and few of several.
    """
    from mien.reproduction.queue import status_text

    if status:
        echo(status_text(out))
        return
    if not data:
        raise UsageError("--data", "is missing", "name the files of FER2013's Training and PublicTest")
    for path in (*data, *([known] if known else [])):
        if not path.exists():
            raise UsageError(path, "does not exist", "check --data and --known")
    require_torch()
    from mien.reproduction.jobs import Plan, read_jobs
    from mien.reproduction.queue import Queue, one_queue, run_job, start_process

    plan = Plan(read_jobs(jobs), out, tuple(data), known)
    if job:
        if hasattr(os, "nice"):
            os.nice(10)
        raise typer.Exit(run_job(plan, plan.job(job), main))
    from mien.reproduction.estimates import Speeds, environment_of

    shared = [word for path in data for word in ("--data", str(path))] + ["--out", str(out)]
    shared += (["--jobs", str(jobs)] if jobs else []) + (["--known", str(known)] if known else [])

    def tell(text: str) -> None:
        if not quiet:
            echo(text)
            sys.stdout.flush()  # days may lie between two lines, and who reads a pipe or a file wants to see each

    with one_queue(plan):
        speeds = Speeds(plan)
        processes, threads = speeds.layout(processes, threads)
        tell(f"{processes} processes of {threads} threads; see how far they are: mien queue --status --out {out}")
        tell("hours of all jobs are estimated; once per machine this takes some minutes")
        environment = environment_of(threads)
        working = Queue(
            plan,
            lambda one: start_process(plan, one, shared, environment),
            lambda one: speeds.hours(one, threads),
            processes,
            slow_too,
            tell,
        )
        done = working.run(quiet=quiet)
    tell(status_text(out))
    if not done:
        raise typer.Exit(1)
