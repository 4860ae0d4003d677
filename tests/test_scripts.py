"""Every benchmark and every script of the documents runs, on as little as it can, and imports what there is."""

from __future__ import annotations

import ast
import importlib
import runpy
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import cv2
import data_files
import numpy as np
import pytest

from mien.core.pictures import read_picture
from mien.data.readers import save_faces
from tests.conftest import ASTRONAUT, ROOT, find_chromium, patterns, voted

SCRIPTS = sorted([*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "docs").glob("*.py")])

#: How each is run, DATA, RESULTS and CLIP being places for it; several times where it does several things.
FAST = {
    "drawing.py": [["--times", "1"]],
    "appearance.py": [["--faces", "20"]],
    "uncertainty.py": [["--faces", "20"]],
    "framing.py": [["--detectors", "haar", "--limit", "6"], ["--detectors", "haar", "--limit", "6", "--fit"]],
}
SLOW = {
    "before_the_loss.py": [["--data", "DATA/fer2013-training.parquet", "DATA/fer2013-publictest.parquet", "--short", "--out", "RESULTS"]],
    "detectors.py": [["composites", "--count", "1"], ["photographs", "PHOTOS"], ["speed", "--runs", "1"]],
    "encoder.py": [["--seconds", "0.1"]],
    "killed.py": [["--kills", "1", "--seconds", "1"]],
    "people.py": [
        ["track", "--seconds", "0.2"], ["speed", "--seconds", "1", "--runs", "1"], ["write", "CLIP", "--seconds", "0.1"],
    ],
    "planted_errors.py": [["--faces", "420", "--epochs", "1", "--out", "RESULTS"]],
    "service.py": [["latency", "load", "camera", "--seconds", "0.5"]],
    "speed.py": [["--tiny"]],
    "footage.py": [["RESULTS", "--tiny"]],
    "screenshots.py": [["--tiny", "RESULTS", "picture", "video", "models"]],
}  # fmt: skip

#: Those that are only imported by others, and those that have a test of their own: test_docs.py, test_mutated.py and test_notebooks.py.
OTHERS = {
    "clips.py",
    "hostile.py",
    "mini_xception.py",
    "data_files.py",
    "mutated_files.py",
    "generate.py",
    "mutated.py",
    "notebooks.py",
}


def test_every_script_is_run_here() -> None:
    assert {path.name for path in SCRIPTS} == {*FAST, *SLOW, *OTHERS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_what_a_script_imports_is_there(script: Path) -> None:
    """Also inside its functions."""
    absent = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("mien", "tests"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name) and find_spec(f"{node.module}.{alias.name}") is None:
                    absent.append(f"{node.module}.{alias.name}")
    assert absent == []


@pytest.fixture(scope="module")
def small_fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a FER2013 of a few faces: the astronaut's, lit otherwise each time, and patterns."""
    folder = tmp_path_factory.mktemp("fer2013")
    photo = cv2.cvtColor(read_picture(ASTRONAUT), cv2.COLOR_RGB2GRAY)[58:178, 164:284]
    face = cv2.resize(photo, (48, 48), interpolation=cv2.INTER_AREA)
    for split, count in (("Training", 2870), ("PublicTest", 60)):
        made = patterns(count, split=split)
        images = made.images.copy()
        light = np.linspace(0.6, 1.1, (count + 1) // 2)[:, None, None]
        images[::2] = np.clip(face * light, 0, 255).astype(np.uint8)
        named = voted(replace(made, images=images), *({"neutral": 10} for _ in range(count)))
        save_faces(named, folder / f"fer2013-{split.lower()}.parquet")
    return folder


@pytest.fixture
def data(small_fer2013: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which benchmarks take for the one with the data."""
    shutil.copytree(small_fer2013, tmp_path / "data")
    monkeypatch.setattr(data_files, "FOLDERS", [tmp_path / "data"])
    monkeypatch.setattr("mien.reproduction.studies.FER2013_ROWS", (2870, 60))
    return tmp_path / "data"


def make_photographs(folder: Path) -> Path:
    """Make a folder with a photograph and the box of its face."""
    folder.mkdir(exist_ok=True)
    shutil.copy(ASTRONAUT, folder / "astronaut.jpg")
    (folder / "boxes.csv").write_text("path,x1,y1,x2,y2\nastronaut.jpg,170,60,280,190\n")
    return folder


def run(name: str, arguments: list[str], data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = data.parent / "results"
    results.mkdir(exist_ok=True)
    given = {
        "DATA": str(data),
        "RESULTS": str(results),
        "CLIP": str(results / "clip.mp4"),
        "PHOTOS": str(make_photographs(data.parent / "photos")),
    }
    for placeholder, value in given.items():
        arguments = [word.replace(placeholder, value) for word in arguments]
    script = next(path for path in SCRIPTS if path.name == name)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    monkeypatch.setattr(sys, "path", [str(script.parent), *sys.path])
    monkeypatch.chdir(results)
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        assert not end.code, end.code


@pytest.mark.parametrize("name", FAST)
def test_a_benchmark_runs(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in FAST[name]:
        run(name, arguments, data, monkeypatch)
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [name for name in SLOW if name not in ("footage.py", "screenshots.py")])
def test_a_longer_benchmark_runs(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for arguments in SLOW[name]:
        run(name, arguments, data, monkeypatch)
    assert capfd.readouterr().out or name == "before_the_loss.py"


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["footage.py", "screenshots.py"])
def test_the_pictures_of_the_documents_are_made(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("playwright", reason="playwright comes with the extra 'test'")
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium is here; 'make test-browser' installs one")
    for arguments in SLOW[name]:
        run(name, [*arguments, *(["--chromium", chromium] if name == "footage.py" else [])], data, monkeypatch)
    made = {path.name for path in (data.parent / "results").glob("*.png")}
    wanted = {
        "footage.py": {"transitions.png", "compared.png", "moments.png", "drawing.png", "timeline-page.png"},
        "screenshots.py": {"page-picture.png", "page-video.png", "page-models.png"},
    }
    assert wanted[name] <= made
