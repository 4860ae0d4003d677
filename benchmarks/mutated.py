"""Damaged files of every kind that is read: none may crash, hang, take much memory, or raise anything but mien's own errors.

python benchmarks/mutated.py [--count 10000] [--seed 0] [--jobs 2] [--kind pictures] [--only 17] [--tiny]

Small valid files are made here, and changed: bytes flipped, cut off, cut out, doubled, zeroed, exchanged with those of another
file. Each is read in a worker process, which is started again when it dies or takes more than 30 seconds. A table says, by
kind, how many were read and how many refused; exit 1 where there was a fault. The same seed gives the same files; ``--kind``
and ``--only`` repeat one of them, with its traceback.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path

from mutated_files import KINDS, Kind, mutate_files

#: A fault is what takes longer, or lets a worker grow beyond this.
MOST_SECONDS, MOST_BYTES = 30.0, 2 * 2**30

#: Address space of a worker; beyond it the machine would suffer. Libraries reserve more than they use.
ADDRESS_SPACE = 8 * 2**30

#: How workers begin: anew, without what this process has opened.
START = "spawn"

#: Files between two lines of progress.
TELL = 500

READ, REFUSED, FAULT = "read", "refused", "fault"


@dataclass(frozen=True)
class Outcome:
    """What became of one file; ``why`` says what was wrong with a fault, or the class of the error that refused it."""

    kind: str
    number: int
    state: str
    why: str = ""


def read_one(kind: Kind, number: int, seed: int, folder: Path, *, debug: bool = False) -> Outcome:
    """Make a file, read it, and remove it."""
    from mien.core.errors import MienError

    path = mutate_files(kind, random.Random(f"{seed} {kind.name} {number}"), folder)
    try:
        kind.read(path)
        return Outcome(kind.name, number, READ)
    except MienError as error:
        if debug:
            print(f"{type(error).__name__}: {error}")
        return Outcome(kind.name, number, REFUSED, type(error).__name__)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        if debug:
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Outcome(
            kind.name, number, FAULT, f"{type(error).__name__}: {error} ({place.name}, {Path(place.filename).name})"
        )


def work(line: Connection, seed: int) -> None:
    """Read what is asked for until the line is closed; answers with the outcome and the peak of this process's memory."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)  # FFmpeg and libraries of pictures print what they think of a file
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                name, number = line.recv()
            except EOFError:
                return
            outcome = read_one(KINDS[name], number, seed, Path(folder))
            line.send((outcome, peak_bytes()))


def peak_bytes() -> int:
    """The peak of this process's resident memory; ru_maxrss would begin with that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Worker:
    """One process, and what it is doing; a new process takes the place of one that died."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context(START)
        self.line, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self._seed), daemon=True)
        self._process.start()
        theirs.close()
        self.task: tuple[str, int] | None = None
        self.since = 0.0

    def give(self, task: tuple[str, int]) -> None:
        self.task, self.since = task, time.monotonic()
        self.line.send(task)

    def result(self) -> Outcome:
        """What came of the task. Where the process died of it, it is started again."""
        task = self.task
        try:
            outcome, peak = self.line.recv()
        except EOFError:
            self._process.join()
            self.replace()
            return Outcome(*task, FAULT, f"the process died ({self._code})")
        self.task = None
        if peak > MOST_BYTES:
            self.replace()
            return Outcome(*task, FAULT, f"took {peak / 2**30:.1f} GB")
        return outcome

    def overdue(self) -> bool:
        return self.task is not None and time.monotonic() - self.since > MOST_SECONDS

    def replace(self) -> None:
        self.close()
        self._start()

    def close(self) -> None:
        self.line.close()
        self._process.kill()
        self._process.join()
        self._code = self._process.exitcode


@dataclass
class Table:
    """How many of each kind were read, refused and faulty, and how long all took."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[Outcome] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        self.counts.setdefault(outcome.kind, Counter())[outcome.state] += 1
        if outcome.state == FAULT:
            self.faults.append(outcome)
            print(f"fault: {outcome.kind} {outcome.number}: {outcome.why}", flush=True)

        done = sum(count.total() for count in self.counts.values())
        if done % TELL == 0:
            print(f"{done:,} files, {len(self.faults):,} faults", file=sys.stderr, flush=True)

    def show(self) -> None:
        print("| kind | files | read | refused | faults |\n|---|---|---|---|---|")
        for kind, count in self.counts.items():
            print(f"| {kind} | {count.total():,} | {count[READ]:,} | {count[REFUSED]:,} | {count[FAULT]:,} |")
        total = sum(self.counts.values(), Counter())
        print(f"| all | {total.total():,} | {total[READ]:,} | {total[REFUSED]:,} | {total[FAULT]:,} |")
        print(f"{time.monotonic() - self.began:.0f} s")


def tasks_of(count: int, kinds: list[str]) -> list[tuple[str, int]]:
    """(kind, number) of ``count`` files, by the kinds' weights, in turn."""
    weights = sum(KINDS[name].weight for name in kinds)
    tasks = [(name, number) for name in kinds for number in range(round(count * KINDS[name].weight / weights))]
    return sorted(tasks, key=lambda task: (task[1] / KINDS[task[0]].weight, task[0]))


def run(tasks: list[tuple[str, int]], seed: int, jobs: int, tell: Callable[[Outcome], None]) -> None:
    workers = [Worker(seed) for _ in range(jobs)]
    waiting, running = iter(tasks), 0
    try:
        for worker in workers:
            if (task := next(waiting, None)) is not None:
                worker.give(task)
                running += 1
        while running:
            ready = wait([worker.line for worker in workers if worker.task is not None], timeout=1.0)
            for worker in workers:
                if worker.line in ready:
                    tell(worker.result())
                elif worker.overdue():
                    tell(Outcome(*worker.task, FAULT, f"took more than {MOST_SECONDS:.0f} s"))
                    worker.replace()
                else:
                    continue
                running -= 1
                if (task := next(waiting, None)) is not None:
                    worker.give(task)
                    running += 1
    finally:
        for worker in workers:
            worker.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--only", type=int, help="number of the one file of a kind that is read, in this process")
    parser.add_argument("--tiny", action="store_true", help="a few files of each kind, for the tests")
    options = parser.parse_args(arguments)
    kinds = options.kind or list(KINDS)
    if options.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            outcome = read_one(KINDS[kinds[0]], options.only, options.seed, Path(folder), debug=True)
        print(outcome)
        return int(outcome.state == FAULT)
    table = Table()
    run(
        tasks_of(48 if options.tiny else options.count, kinds),
        options.seed,
        1 if options.tiny else options.jobs,
        table.add,
    )
    table.show()
    return int(bool(table.faults))


if __name__ == "__main__":
    sys.exit(main())
