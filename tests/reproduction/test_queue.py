"""The queue: the order of jobs, what is refused, what fails, and that kill -9 costs at most an epoch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mien.core.errors import RecipeError
from mien.core.locks import hold_lock
from mien.core.types import concatenate_faces
from mien.reproduction import studies
from mien.reproduction.estimates import Speeds, count_cores, drop_run_folders, measure_speed
from mien.reproduction.jobs import Plan, read_jobs
from mien.reproduction.queue import Queue, format_status, read_state, run_job
from mien.training.recipe import load_recipe
from mien.training.runs.environment import describe_processor
from tests.conftest import patterns, small_recipe
from tests.reproduction.test_studies import run_result
from tests.training.test_train import assert_equal_weights

JOBS = """
[[job]]
name = "first"
train = "small.toml"
set = ["schedule.epochs=4"]
[[job]]
name = "broken"
then = [["no-such-verb"]]
[[job]]
name = "follows"
after = ["first"]
then = [["data", "describe"]]
[[job]]
name = "blocked"
after = ["broken"]
then = [["data", "describe"]]
[[job]]
name = "last"
train = "small.toml"
"""


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Five jobs of which one fails and one waits for it, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 2}).to_toml())
    Path("jobs.toml").write_text(JOBS)
    return Plan(read_jobs(Path("jobs.toml")), Path("runs"), (Path("faces.parquet"),))


class Process:
    """A job that ends when it is told to."""

    def __init__(self, end: Callable[[], object]) -> None:
        self.code: int | None = None
        self._end = end

    def end(self) -> None:
        self._end()
        self.code = 0

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.code = -15

    def wait(self) -> int:
        return self.code or 0


class Work:
    """Begins jobs as `Process`; "broken" ends with exit code 2, and those in ``cut`` without one."""

    def __init__(self, plan: Plan, at_once: bool = True) -> None:
        self.plan, self.at_once, self.begun, self.said = plan, at_once, [], []
        self.cut: list[str] = []
        self.processes: dict[str, Process] = {}

    def start(self, job) -> Process:
        self.begun.append(job.name)
        code = 2 if job.name == "broken" else 0
        if job.name in self.cut:
            process = Process(lambda: None)
        else:
            process = Process(lambda: run_job(self.plan, job, lambda words: code))
        self.processes[job.name] = process
        if self.at_once:
            process.end()
        return process

    def queue(self, hours: Callable[[object], float | None] = lambda job: 1.0, processes: int = 1, **options) -> Queue:
        return Queue(self.plan, self.start, hours, processes, echo=self.said.append, **options)

    def states(self) -> dict[str, str]:
        return {job["name"]: job["state"] for job in read_state(self.plan.runs)["jobs"]}


def test_jobs_run_in_order_and_one_that_fails_does_not_stop_the_others(plan: Plan) -> None:
    work = Work(plan)
    plan.state.mkdir(parents=True)
    plan.log(plan.job("broken")).write_text("mien: no such verb\n\n")
    assert work.queue().run(poll_s=0, quiet=True) is False
    assert work.begun == ["first", "broken", "follows", "last"]
    states = {"first": "done", "broken": "failed", "follows": "done", "blocked": "waiting", "last": "done"}
    assert work.states() == states
    text = format_status(plan.runs)
    assert text.startswith("no queue is running: 1 processes, 3 of 5 jobs done, 1.0 h left")
    assert "failed   broken" in text and "mien: no such verb" in text
    assert "after broken (failed)" in text

    again = Work(plan)  # the next start tries again what failed, and nothing that is done
    again.queue().run(poll_s=0, quiet=True)
    assert again.begun == ["broken"]
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 3}).to_toml())
    changed = Work(plan)
    changed.queue().run(poll_s=0, quiet=True)
    assert changed.begun == ["broken", "last"]  # first sets its epochs itself


def test_as_many_jobs_run_at_once_as_there_are_processes(plan: Plan) -> None:
    work = Work(plan, at_once=False)
    queue = work.queue(processes=2)
    plan.state.mkdir(parents=True)
    assert queue._update_jobs() and work.begun == ["first", "broken"]
    assert queue._update_jobs() and work.begun == ["first", "broken"]
    assert "running  first" in format_status(plan.runs)
    work.processes["first"].end()
    assert queue._update_jobs() and work.begun == ["first", "broken", "follows"]
    assert queue._format_progress() == "broken 0/0, follows 0/0; next blocked; 2.0 h left"
    queue._stop_jobs()
    assert [process.code for process in work.processes.values()] == [0, -15, -15]


def test_a_job_that_takes_days_is_refused_unless_told(plan: Plan) -> None:
    def hours(job) -> float:
        return 61.4 if job.name == "first" else 0.5

    work = Work(plan)
    work.queue(hours).run(poll_s=0, quiet=True)
    assert work.begun == ["broken", "last"]
    assert "first: refused, takes 61 h on this machine; `include_slow=True` allows it" in work.said
    assert "after first (refused)" in format_status(plan.runs)
    told = Work(plan)
    told.queue(hours, include_slow=True).run(poll_s=0, quiet=True)
    assert told.begun == ["first", "broken", "follows"]


def test_a_job_that_is_cut_off_again_and_again_fails(plan: Plan) -> None:
    work = Work(plan)
    work.cut = ["first"]
    work.queue().run(poll_s=0, quiet=True)
    assert work.begun == ["first", "first", "first", "broken", "last"]
    assert work.states()["first"] == "failed"


def test_a_job_of_an_earlier_queue_is_waited_for(plan: Plan) -> None:
    work = Work(plan, at_once=False)
    queue = work.queue()
    plan.state.mkdir(parents=True)
    with hold_lock(plan.lock(plan.job("last")), "last", "wait"):
        assert queue._update_jobs() and work.begun == []
        assert work.states()["last"] == "running"
    assert queue._update_jobs() and work.begun == ["first"]  # last was cut off, and it is not its turn
    assert "last: was cut off after 0 epochs" in work.said


def test_broken_lists_of_jobs_are_refused(tmp_path: Path) -> None:
    for text, problem in (
        ("[[job", "is not TOML"),
        ('[[job]]\nname = "a"\nepoch = 3', "is not a job"),
        ('[[job]]\nname = "a"\nstudy = "r9"', "names the unknown study 'r9'"),
        ('[[job]]\nname = "a"\nstudy = "r4-cnn"\nrun = "theirs"', "names the unknown run 'theirs' of r4-cnn"),
        ('[[job]]\nname = "a"\nafter = ["b"]', "waits for 'b', which is no job before it"),
        ('[[job]]\nname = "a"\n[[job]]\nname = "a"', "occurs twice"),
    ):
        (tmp_path / "jobs.toml").write_text(text)
        with pytest.raises(RecipeError, match=problem):
            read_jobs(tmp_path / "jobs.toml")


def test_the_shipped_list_has_every_run_of_every_study_once_and_what_is_required_first(tmp_path: Path) -> None:
    plan = Plan(read_jobs(), Path("runs"), (Path("faces.parquet"),), tmp_path)
    found = [(job.study, t.study_run.name) for job in plan.jobs for t in plan.list_trainings(job) if t.study_run]
    assert sorted(found) == sorted((study.name, run.name) for study in studies.ALL.values() for run in study.runs)
    assert [job.name for job in plan.jobs][:8] == [
        *("ours-r5-vgg10", "ours-r4-cnn", "full-resolution", "ours-r5-resnet25", "ours-r1-final"),
        *("ensemble", "base-distilled", "nano-distilled"),
    ]
    for study in studies.REFERENCES:
        for run in study.runs:
            share = 1.0 if study.name in ("r1-lenet", "r1-alexnet", "r1-resnet18", "r1-final", "r3-vgg") else 0.2
            share = 0.1 if run.epochs == 1000 else share
            assert run.short >= max(10, share * run.epochs if run.name == "author" else 0), (study.name, run.name)
    assert min(run.short for run in studies.ALL["r2-ladder"].runs) == 15
    assert plan.find_known_results(plan.job("ours-r5-vgg10")) is None  # its weights are a member of the ensemble
    assert plan.find_known_results(plan.job("author-r5-vgg10")) == tmp_path
    assert "r5-vgg10/ours" in " ".join(plan.list_commands(plan.job("base-distilled"))[0])


def test_every_training_of_the_shipped_list_can_be_estimated_before_the_others_are_done(tmp_path: Path) -> None:
    plan = Plan(read_jobs(), tmp_path, (tmp_path,))
    trainings = [training for job in plan.jobs for training in plan.list_trainings(job)]
    recipes = [load_recipe(training.recipe, drop_run_folders(training.settings)) for training in trainings]
    assert len(recipes) > 20 and not any("/" in recipe.start.model for recipe in recipes)


def test_hours_come_from_what_was_measured_on_this_kind_of_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(read_jobs(), tmp_path / "runs", (Path("faces.parquet"),), tmp_path)
    monkeypatch.setattr(Speeds, "_measure_speed", lambda self, key, recipe, threads, processes=1: 100.0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    speeds, job = Speeds(plan), plan.job("author-r4-cnn")
    assert speeds.estimate_hours(job, 1) == pytest.approx(40 * 25_800 / 100 / 3600, abs=0.01)

    known = run_result(0.5, epochs=3, full=80)  # 100 images/s in two threads
    known["header"]["environment"]["processor"] = f"Other{describe_processor()[describe_processor().rfind('(') :]}"
    (tmp_path / "r4-cnn.json").write_text(json.dumps({"runs": {"author": known}}))
    assert speeds.estimate_hours(job, 1) == pytest.approx(40 * 25_800 / 50 / 3600, abs=0.01)

    folder = tmp_path / "runs" / "reproduce" / "r4-cnn" / "author"
    folder.mkdir(parents=True)
    rows = [{}] + [{"seconds": seconds} for seconds in (900.0, 360.0, 360.0)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert speeds.estimate_hours(job, 1) == pytest.approx(3.7)  # the pace of its own last epochs

    recipe = load_recipe("r4-cnn", ["schedule.epochs=40"]).model_dump()
    (tmp_path / "r4-cnn.json").write_text(json.dumps({"runs": {"author": known | {"recipe": recipe}}}))
    assert speeds.estimate_hours(job, 1) == 0.0


def test_the_layout_with_the_most_images_per_second_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.reproduction.estimates.count_cores", lambda: 2)
    speeds = Speeds(Plan(read_jobs(), tmp_path, (Path("faces.parquet"),)))
    for apart, together, chosen in ((300.0, 200.0, (2, 1)), (200.0, 300.0, (1, 2))):
        monkeypatch.setattr(
            speeds, "_measure_speed", lambda key, r, threads, n, a=apart, t=together: a if n == 2 else t
        )
        assert speeds.choose_layout(None, None) == chosen
    assert (
        speeds.choose_layout(3, None) == (3, 1)
        and speeds.choose_layout(None, 1) == (2, 1)
        and speeds.choose_layout(5, 4) == (5, 4)
    )
    assert count_cores() >= 1


def test_a_short_training_is_timed_with_any_recipe() -> None:
    assert measure_speed(small_recipe(data={"classes": ["happy", "sad"]}, targets={"votes": 0.3})) > 0


@pytest.mark.slow
def test_killed_queues_and_trainings_end_as_if_nobody_had_killed_them(plan: Plan) -> None:
    from mien.data.readers import save_faces

    faces = concatenate_faces([patterns(280), patterns(70, seed=1, split="PublicTest")])
    save_faces(faces, "faces.parquet")
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 25}).to_toml())
    Path("jobs.toml").write_text(
        '[[job]]\nname = "one"\ntrain = "small.toml"\n[[job]]\nname = "two"\ntrain = "small.toml"'
    )
    command = [sys.executable, "-m", "mien", "queue", "--data", "faces.parquet", "--jobs", "jobs.toml",
               "--processes", "2", "--threads", "1"]  # fmt: skip
    logs = [Path("runs", name, "log.jsonl") for name in ("one", "two")]

    def wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 300
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.01)

    def epochs(log: Path) -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    first = subprocess.Popen(command)
    wait(lambda: all(epochs(log) > 3 for log in logs))  # both at once
    first.kill()
    holder = json.loads(Path("runs/queue/one.lock").read_text())["process"]
    os.kill(holder, signal.SIGSTOP)  # so that it still runs when the next queue begins
    first.wait()
    assert "no queue is running" in format_status(Path("runs"))
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    for line in second.stdout:
        said.append(line)
        if line.startswith("one: still runs"):
            assert "the queue is running" in format_status(Path("runs"))
            os.kill(holder, signal.SIGKILL)
    assert second.wait() == 0, said
    assert any(line.startswith("one: goes on after ") for line in said), said
    assert_equal_weights(Path("runs/two"), Path("runs/one"))  # two was never interrupted
    assert "2 of 2 jobs done, 0.0 h left" in format_status(Path("runs"))
