"""What tests share: small made-up faces, a small trained network, the example photograph, and data beside the checkout."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mien.core.labels import FER2013, FERPLUS_VOTES
from mien.core.locks import hold_lock
from mien.core.types import FaceSet

if TYPE_CHECKING:
    import onnx
    from mien.training.checkpoint import TrainedModel
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"
SHARED = ROOT.parent / "shared"

# Where the tests run in the background (nohup, &), Ctrl-C is ignored, and every process that they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a browser, before tests are chosen by their marks."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str | None:
    """The system's Chromium, or the one that playwright fetched; None without any."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        path = play.chromium.executable_path
    return path if Path(path).exists() else None


@contextmanager
def launched_chromium(*flags: str) -> Iterator[Browser]:
    """Chromium, until the block is left. The test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the extra 'test'")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium is here; 'make test-browser' installs one")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", *flags])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It is closed after each module: while playwright runs, ``asyncio.run`` does not work in this thread."""
    quiet = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync")  # fmt: skip
    with launched_chromium(*quiet) as launched:
        yield launched


@cache
def _striped_images(count: int, seed: int, class_count: int) -> np.ndarray:
    """Return the pictures of `patterns`, (N, 48, 48) uint8; tests ask for the same ones again and again."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    images = np.empty((count, 48, 48), np.uint8)
    for index in range(count):
        angle = np.pi * (index % class_count) / class_count
        stripes = np.sin((x * np.cos(angle) + y * np.sin(angle)) / 2 + rng.uniform(0, 2 * np.pi))
        images[index] = np.clip(128 + 60 * stripes + rng.normal(0, 15, (48, 48)), 0, 255)
    return images


def patterns(count: int, seed: int = 0, classes: tuple[str, ...] = FER2013, split: str = "Training") -> FaceSet:
    """Pictures that a network can learn at once: each class has stripes of its own direction, under noise."""
    return FaceSet(
        images=_striped_images(count, seed, len(classes)).copy(),
        labels=np.arange(count, dtype=np.int64) % len(classes),
        classes=classes,
        names=np.array([f"{split}/{index:05d}.png" for index in range(count)]),
        split=np.full(count, split),
    )


def voted(faces: FaceSet, *rows: dict[str, int]) -> FaceSet:
    """The same faces with these votes, by name; faces without a row have none."""
    votes = np.zeros((len(faces), len(FERPLUS_VOTES)), np.uint8)
    for row, named in enumerate(rows):
        for name, count in named.items():
            votes[row, FERPLUS_VOTES.index(name)] = count
    return replace(faces, votes=votes)


@pytest.fixture
def faces() -> FaceSet:
    """70 made-up faces, ten of each class."""
    return patterns(70)


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return the path that ``make`` was called with, once for all processes of this run of the tests.

    Another process waits for it until the time limit of its test.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made_once"
    folder.mkdir(exist_ok=True)
    path, is_made = folder / name, folder / f"{name}.made"
    with hold_lock(folder / f"{name}.lock", name, "it is being made", wait_s=math.inf):
        if not is_made.exists():
            make(path)
            is_made.touch()
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network trained for three epochs on patterns."""

    def train_small(folder: Path) -> None:
        from mien.training.train import train

        train(small_recipe(), patterns(560), folder, quiet=True, echo=lambda text: None)

    return make_once(tmp_path_factory, "small", train_small)


@pytest.fixture(scope="session")
def model_file(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as an ONNX file."""

    def export_small(path: Path) -> None:
        from mien.training.release.export import export_model
        from mien.training.torch_classifier import load_run

        with shared_graphs(tmp_path_factory):
            export_model(load_run(run_folder), path, patterns(70, seed=3))

    return make_once(tmp_path_factory, "small.onnx", export_small)


@contextmanager
def shared_graphs(factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let torch export each architecture once, which takes seconds: others of it get the same graph with their weights.

    `export_model` compares every file with the network in torch, so that a graph that does not fit is an error.
    """
    import onnx
    from onnx import numpy_helper

    from mien.training.release import export

    convert = export._convert_to_onnx

    def convert_once(trained: TrainedModel) -> onnx.ModelProto:
        preprocessing = trained.preprocessing
        parts = trained.network_name, trained.network_arguments, preprocessing.size, preprocessing.channels
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        model = onnx.load(make_once(factory, f"{key}.onnx", lambda path: onnx.save(convert(trained), path)))
        weights = trained.network.state_dict()
        for tensor in model.graph.initializer:
            if tensor.name in weights:
                tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name].cpu().numpy(), tensor.name))
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_convert_to_onnx", convert_once)
        yield


@pytest.fixture
def quick_export(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Export networks without torch's exporter where another of the same architecture was exported before."""
    with shared_graphs(tmp_path_factory):
        yield


def small_recipe(**sections):
    """A recipe that trains in seconds; keyword arguments lay settings over its sections."""
    from mien.training.recipe import parse_recipe

    values = {
        "name": "small",
        "network": {"name": "residual", "arguments": {"widths": [8, 16], "blocks": 1}},
        "augment": {"degrees": 5, "shift": 0.05, "brightness": 0.2, "contrast": 0.2, "erasing": 0.2, "mixup": 0.2},
        "loss": {"label_smoothing": 0.1},
        "optimizer": {"lr": 0.1},
        "schedule": {"epochs": 3, "batch_size": 28, "warmup_epochs": 1},
        "run": {"device": "cpu", "precision": "fp32", "ema": 0.9, "keep": "last"},
    }
    for section, settings in sections.items():
        values[section] = values.get(section, {}) | settings
    return parse_recipe(values, "test")


@contextmanager
def without_figures() -> Iterator[None]:
    """Leave out curves.png and confusion.png of trainings, which take most of the time of a small one."""
    import mien.evaluation.tables
    import mien.training.train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mien.training.train, "draw_curves", lambda *_: None)
        patch.setattr(mien.evaluation.tables, "draw_confusion", lambda *_: None)
        yield


@pytest.fixture
def no_figures() -> Iterator[None]:
    """Draw no curves.png and no confusion.png in a test."""
    with without_figures():
        yield


def shared(name: str) -> Path:
    """A file of the folder beside the checkout that holds data; the test is skipped where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this checkout (see docs/data.md for where to get the data)")
    return path


def yunet() -> Path:
    return shared("models/face_detection_yunet_2023mar.onnx")
