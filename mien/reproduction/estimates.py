"""Estimate the duration of the jobs of `mien queue`: from logs of the same kind of processor, or a timed training."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch

from mien.core.files import write_json
from mien.core.labels import FER2013
from mien.core.progress import progress_bar
from mien.core.types import FaceSet
from mien.reproduction.jobs import Job, Plan, Training, read_epoch_seconds
from mien.reproduction.runner import is_known, make_recipe, read_runs
from mien.training.epoch import initial_state, run_epoch
from mien.training.hardware import Hardware
from mien.training.preparation import select_run_faces
from mien.training.recipe import DataSettings, Recipe, SemiSettings, load_recipe, parse_recipe
from mien.training.runs.environment import describe_processor
from mien.training.train import initialize_network, make_context

#: Training faces of each split of FER2013's Training and PublicTest.
TRAINING_FACES = {
    "r1": 25_909,
    "r2": 11_880,
    "r2-joined": 19_230,
    "r3": 4_000,
    "r4": 25_800,
    "r5": 25_838,
    "whole": 28_709,
}

#: Steps of a timed training, and faces in each. The first epoch, in which libraries choose their kernels, does not count.
_STEPS, _BATCH = 2, 32


class Speeds:
    """Images per second of a training on this machine, kept in ``runs/queue/speeds.json`` by processor."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._file, self._machine = plan, plan.state / "speeds.json", describe_machine()
        try:
            self._kept = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._kept = {}

    def choose_layout(self, processes: int | None, threads: int | None) -> tuple[int, int]:
        """Return (processes, threads of each): as given, else the pair that trains most images per second on all
        cores."""
        cores = count_cores()
        if processes is not None or threads is not None:
            processes = processes or max(1, cores // (threads or 1))
            return processes, threads or max(1, cores // processes)
        choices = [count for count in (1, 2, 4) if count <= cores]
        if len(choices) == 1:
            return 1, 1
        speeds = {}
        for count in choices:
            key = f"{count} of {cores // count} threads"
            speeds[count, cores // count] = self._measure_speed(key, load_recipe("base"), cores // count, count)
        return max(speeds, key=lambda pair: speeds[pair])

    def estimate_hours(self, job: Job, threads: int) -> float | None:
        """Estimate the hours that the job's trainings still take, without the commands that follow; None if unknown."""
        known, folder = self._plan.find_known_results(job), self._plan.runs / "reproduce"
        earlier = read_runs(known / f"{job.study}.json") if known and job.study else {}
        seconds = 0.0
        for training in self._plan.list_trainings(job):
            run = training.study_run
            if run and is_known(earlier.get(run.name), make_recipe(run, True, folder)):
                continue
            seconds += self._estimate_seconds(training, job, threads)
        return None if math.isnan(seconds) else round(seconds / 3600, 2)

    def _estimate_seconds(self, training: Training, job: Job, threads: int) -> float:
        """Estimate the seconds of the epochs that one training still has to run."""
        done = read_epoch_seconds(training.folder)
        if len(done) >= training.epochs or (training.folder / "result.json").is_file():
            return 0.0
        if len(done) > 1:
            return (training.epochs - len(done)) * float(np.median(done[-5:]))
        run = training.study_run
        faces = TRAINING_FACES[run.split if run else "whole"]
        recipe = load_recipe(training.recipe, drop_run_folders(training.settings))
        faces = int(faces * recipe.data.keep_labels)
        speed = self._find_logged_speed(job, run.name, threads) if run else None
        if speed is None:
            speed = self._measure_speed(f"{_make_speed_key(recipe)}, {threads} threads", recipe, threads)
        return (training.epochs - len(done)) * faces / speed

    def _find_logged_speed(self, job: Job, run: str, threads: int) -> float | None:
        """Return the images per second of the same run in the known results, if they come from this kind of processor."""
        logged = read_runs(self._plan.known / f"{job.study}.json").get(run) if self._plan.known else None
        if not logged or not logged["history"]:
            return None
        environment = logged["header"]["environment"]
        if (
            environment["device"] != "cpu"
            or torch.cuda.is_available()
            or _find_instruction_sets(environment["processor"]) != _find_instruction_sets(describe_processor())
        ):
            return None
        return max(row["images_per_s"] for row in logged["history"]) / environment["threads"] * threads

    def _measure_speed(self, key: str, recipe: Recipe, threads: int, processes: int = 1) -> float:
        """Return the images per second of all processes together, measured once on this machine; NaN if the training
        fails."""
        measured_before = self._kept.setdefault(self._machine, {})
        if key not in measured_before:
            command = [sys.executable, "-m", "mien.reproduction.estimates"]
            probes = [
                subprocess.Popen(
                    command, env=make_thread_environment(threads), text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )
                for _ in range(processes)
            ]  # fmt: skip
            for probe in probes:  # all start before the first is waited for
                assert probe.stdin is not None
                probe.stdin.write(recipe.model_dump_json())
                probe.stdin.close()
            measured = [probe.stdout.read() for probe in probes if probe.stdout is not None]
            if any(probe.wait() for probe in probes):
                return float("nan")
            measured_before[key] = sum(map(float, measured))
            write_json(self._file, self._kept)
        return measured_before[key]


def make_thread_environment(threads: int) -> dict[str, str]:
    """Return the environment of a process that computes in so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    return os.environ | dict.fromkeys(names, str(threads))


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe_machine() -> str:
    """Return the key of measured speeds: the GPU's name, or the processor's name, instruction sets and cores."""
    return (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{describe_processor()}, {count_cores()} cores"
    )


def measure_speed(recipe: Recipe) -> float:
    """Return the images per second of a short training of the recipe on random faces."""
    changed = {
        "data": DataSettings(classes=recipe.data.classes),
        "schedule": recipe.schedule.model_copy(update={"batch_size": min(_BATCH, recipe.schedule.batch_size)}),
        "semi": SemiSettings(),
        "targets": recipe.targets.model_copy(update={"votes": 0.0}),
    }
    recipe = recipe.model_copy(update=changed)
    hardware = Hardware.choose(recipe.run.device, recipe.run.precision)
    rows = select_run_faces(recipe, _make_random_faces(recipe, _STEPS * recipe.schedule.batch_size), lambda text: None)
    context = make_context(recipe, rows, hardware, lambda text: None)
    trained = initialize_network(recipe, rows.training.classes, context.preprocessing, hardware, lambda text: None)
    state = initial_state(recipe, trained.network)
    with progress_bar("", None, quiet=True) as bar:
        for _ in range(2):
            started = time.perf_counter()
            state.history.append(run_epoch(context, state, rows.validation, bar))
    return len(rows.training) / (time.perf_counter() - started)


def _make_random_faces(recipe: Recipe, count: int) -> FaceSet:
    classes, random = tuple(recipe.data.classes or FER2013), np.random.default_rng(0)
    split = np.array(["Training"] * count + ["PublicTest"] * len(classes))
    side = recipe.input.size
    images = random.integers(0, 256, (len(split), side, side), np.uint8)
    labels = np.arange(len(split)) % len(classes)
    return FaceSet(images, labels, classes, np.arange(len(split)).astype(str), split)


#: Settings that a recipe without the run folder of another training cannot have; none of them changes the speed.
_NEEDS_RUN_FOLDER = re.compile(
    r"(targets\.teacher|start\.model)=.*(/|RUNS)|start\.freeze=|loss\.class_weights=validation"
)


def drop_run_folders(settings: tuple[str, ...]) -> list[str]:
    """Return the settings without models and teachers that are run folders, which may not exist yet, and what needs them."""
    return [setting for setting in settings if not _NEEDS_RUN_FOLDER.match(setting)]


def _make_speed_key(recipe: Recipe) -> str:
    teacher = recipe.targets.teacher if recipe.targets.teacher_sees == "augmented" else ""
    return f"{recipe.network.name} {json.dumps(recipe.network.arguments)} {recipe.input.channels} {teacher}"


def _find_instruction_sets(name: str) -> str:
    """Return the instruction sets, which decide the speed: ``AMD EPYC (avx2)`` → ``(avx2)``."""
    return name[name.rfind("(") :]


if __name__ == "__main__":
    recipe_text: dict[str, Any] = json.loads(sys.stdin.read())
    print(measure_speed(parse_recipe(recipe_text, "stdin")))
