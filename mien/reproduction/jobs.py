"""The jobs of `mien queue`: read them from a TOML file, list their commands, and read their progress from the run
folders."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from mien.core.errors import RecipeError
from mien.core.files import find_file_problem
from mien.reproduction.studies import ALL, Run
from mien.training.recipe import load_recipe


@dataclass(frozen=True)
class Job:
    """Trainings and commands that run one after another in one process.

    study, run: a study of `mien reproduce` in its shortened length, all of it or one run.
    train, set: a recipe of `mien train`, with settings laid over it.
    then: `mien` commands that follow, each a list of words; --data is added to each.
    after: jobs that must be done before. {runs} in ``set`` and ``then`` is the folder of all runs.
    """

    name: str
    study: str = ""
    run: str = ""
    train: str = ""
    set: tuple[str, ...] = ()
    then: tuple[tuple[str, ...], ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """One training of a job: its run folder, its recipe with settings, its epochs, and the study's run that it is."""

    folder: Path
    recipe: str
    settings: tuple[str, ...]
    epochs: int
    study_run: Run | None = None


@dataclass(frozen=True)
class Plan:
    """What all jobs of one queue share. ``runs`` is the folder of all runs, ``known`` holds results of other machines."""

    jobs: tuple[Job, ...]
    runs: Path
    data: tuple[Path, ...]
    known: Path | None = None
    state: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", self.runs / "queue")

    def job(self, name: str) -> Job:
        return next(job for job in self.jobs if job.name == name)

    def list_dependencies(self, job: Job) -> list[Job]:
        """Return the jobs that must be done directly before this one."""
        needs = ALL[job.study].needs if job.study else ()
        return [other for other in self.jobs if other.name in job.after or (other.study and other.study in needs)]

    def find_known_results(self, job: Job) -> Path | None:
        """Return where results of other machines may replace the job's runs: nowhere if another job needs their
        weights."""
        return None if any(job in self.list_dependencies(other) for other in self.jobs) else self.known

    def list_trainings(self, job: Job) -> Iterator[Training]:
        """Return the job's trainings in order."""
        if job.study:
            for run in ALL[job.study].runs:
                if job.run in ("", run.name):
                    place = self.runs / "reproduce" / job.study / run.name
                    yield Training(place, run.recipe, run.settings, run.short, run)
        if job.train:
            settings = tuple(self._fill_placeholders(job.set))
            epochs = load_recipe(job.train, list(settings)).schedule.epochs
            yield Training(self.runs / job.name, job.train, settings, epochs)

    def list_commands(self, job: Job) -> list[list[str]]:
        """Return the arguments of `mien` for all commands of the job."""
        commands: list[list[str]] = []
        if job.study:
            known = self.find_known_results(job)
            options = ["--run", job.run] * bool(job.run) + (["--known-results", str(known)] if known else [])
            commands += [["reproduce", job.study, "--short", "--out", str(self.runs / "reproduce"), *options]]
        if job.train:
            settings = [word for setting in self._fill_placeholders(job.set) for word in ("--set", setting)]
            commands += [["train", job.train, "--resume", "--out", str(self.runs / job.name), *settings]]
        commands += [self._fill_placeholders(words) for words in job.then]
        data = [word for path in self.data for word in ("--data", str(path))]
        return [[*words, *data] for words in commands]

    def describe_job(self, job: Job) -> dict[str, Any]:
        """Return what the job's result depends on; the result is stale once this changes."""
        return {
            "commands": self.list_commands(job),
            "epochs": [training.epochs for training in self.list_trainings(job)],
        }

    def read_exit_code(self, job: Job) -> int | None:
        """Return the exit code of the job; None if it has not ended, or was another job then."""
        try:
            state = json.loads((self.state / f"{job.name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        code = state.pop("exit_code", None)
        return code if state == json.loads(json.dumps(self.describe_job(job))) else None

    def lock(self, job: Job) -> Path:
        """Return the lock that the process of the job holds."""
        return self.state / f"{job.name}.lock"

    def log(self, job: Job) -> Path:
        """Return the file of the job's output."""
        return self.state / f"{job.name}.log"

    def _fill_placeholders(self, words: tuple[str, ...]) -> list[str]:
        return [word.replace("{runs}", self.runs.as_posix()) for word in words]


def read_epoch_seconds(folder: Path) -> list[float]:
    """Return the seconds of each finished epoch of a run, from its log; [] before the first."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[1:]
        return [json.loads(line)["seconds"] for line in lines]
    except (OSError, ValueError):
        return []


def read_jobs(path: Path | None = None) -> tuple[Job, ...]:
    """Return the jobs of a TOML file (default: the package's queue.toml), the most urgent first.

    Raises RecipeError for what is not TOML, an unknown key, study or run, a name that occurs twice, or an unknown ``after``.
    """
    source = path or Path(str(resources.files("mien") / "reproduction" / "queue.toml"))
    if fault := find_file_problem(source, "a list of jobs"):
        raise RecipeError(source, *fault)
    try:
        tables = tomllib.loads(source.read_text(encoding="utf-8")).get("job", [])
    except ValueError as error:
        raise RecipeError(source, f"is not TOML ({error})", "correct it") from error
    jobs: list[Job] = []
    for table in tables:
        job = _parse_job(table, source)
        known = [other.name for other in jobs]
        for problem in _find_problems(job, known):
            raise RecipeError(f"job '{job.name}' of {source}", problem, "correct the file")
        jobs.append(job)
    return tuple(jobs)


def _parse_job(table: dict[str, Any], source: Path) -> Job:
    try:
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        return Job(**values | {"then": tuple(tuple(words) for words in table.get("then", ()))})
    except TypeError as error:
        known = ", ".join(Job.__dataclass_fields__)
        raise RecipeError(f"a job of {source}", f"is not a job ({error})", f"known keys: {known}") from error


def _find_problems(job: Job, earlier: list[str]) -> Iterator[str]:
    if job.name in earlier:
        yield "occurs twice"
    if job.study and job.study not in ALL:
        yield f"names the unknown study '{job.study}'"
    elif job.run and job.run not in [run.name for run in ALL[job.study].runs]:
        yield f"names the unknown run '{job.run}' of {job.study}"
    for name in job.after:
        if name not in earlier:
            yield f"waits for '{name}', which is no job before it"
