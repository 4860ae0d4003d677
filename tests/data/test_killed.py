"""A data set whose writing is killed: nothing under its final name, and a second try works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mien.cli.main import main
from mien.data import load_faces
from mien.data.readers import save_faces
from tests.conftest import patterns

#: Runs the program, and dies like by kill -9 as the picture number sys.argv[1] is saved.
DYING = """
import os, sys
from PIL import Image
save, saved = Image.Image.save, []
def dying(*given, **more):
    saved.append(1)
    if len(saved) > int(sys.argv[1]):
        os._exit(137)
    return save(*given, **more)
Image.Image.save = dying
from mien.cli.main import main
main(sys.argv[2:])
"""


def test_a_conversion_that_is_killed_leaves_no_data_set_and_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_faces(patterns(14), "faces.csv")
    command = ["data", "convert", "faces.csv", "--out", "tree", "-q"]
    died = subprocess.run([sys.executable, "-c", DYING, "5", *command])
    assert died.returncode == 137
    assert not Path("tree").exists()
    assert main(command) == 0
    assert len(load_faces("tree")) == 14
    assert sorted(path.name for path in tmp_path.iterdir()) == ["faces.csv", "tree"]
