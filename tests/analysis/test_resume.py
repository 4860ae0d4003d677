"""Parts of an analysis: what counts, what another key throws away, and what a state may name."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.detection.detectors import make_detector
from mien.analysis.resume import Parts
from mien.analysis.settings import Done
from mien.analysis.tracking.face_finder import FaceFinder
from mien.core.files import replacing, write_text


def test_a_part_counts_when_its_state_is_there(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "clip", {"model": "a"})
    assert parts.count == 0 and parts.state() is None
    parts.path("jsonl").write_text("one")
    parts.finish(Done("clip.mp4", frames=8, warnings=["cut off"]))
    parts.path("jsonl").write_text("half a p")  # and here it is killed
    again = Parts(tmp_path / "clip", {"model": "a"})
    assert again.count == 1 and [path.read_text() for path in again.paths("jsonl")] == ["one"]
    assert again.state() == Done("clip.mp4", frames=8, warnings=["cut off"])
    assert Parts(tmp_path / "clip", {"model": "b"}).count == 0
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_was_being_written_when_it_was_killed_is_none(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "clip", {"model": "a"})
    with pytest.raises(SystemExit), replacing(parts.path("state")) as temporary:
        temporary.write_bytes(b"half a st")
        left = temporary.rename(temporary.with_name("kept"))
        raise SystemExit
    left.rename(temporary)
    assert Parts(tmp_path / "clip", {"model": "a"}).count == 0


def test_arrays_of_every_kind_in_use_come_back(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "clip", {})
    finder = FaceFinder(make_detector("haar"))
    finder.find(np.arange(60 * 90 * 3, dtype=np.uint8).reshape(60, 90, 3), 0.0)
    parts.finish({"finder": finder, "times": np.array([1.5, 2.5]), "one": np.float64(0.1), "seen": {1, 2}})
    state = parts.state()
    assert state["times"].tolist() == [1.5, 2.5] and state["one"] == 0.1 and state["seen"] == {1, 2}
    same = np.full((60, 90, 3), 250, np.uint8)
    state["finder"].detector = finder.detector  # which is not kept
    assert not len(state["finder"].find(same, 0.1)) and state["finder"].was_cut


class _Calls:
    """Names a function for the unpickler to call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def test_a_state_that_would_run_something_is_refused(tmp_path: Path) -> None:
    from numpy.testing._private.utils import runstring

    target = tmp_path / "written"
    for call in (
        _Calls(os.mkdir, str(target)),
        _Calls(eval, "1"),
        _Calls(runstring, "x = 1", {}),
        _Calls(write_text, str(target), "x"),
    ):
        parts = Parts(tmp_path / "clip", {})
        parts.path("state").write_bytes(pickle.dumps(call))
        with pytest.raises(pickle.UnpicklingError, match="a state does not hold"):
            Parts(tmp_path / "clip", {}).state()
        parts.remove()
    assert not target.exists()
