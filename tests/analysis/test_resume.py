"""Parts of an analysis: what counts, what another key throws away, and what a state may name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.detection.detectors import make_detector
from mien.analysis.resume import PartStore
from mien.analysis.settings import AnalysisResult
from mien.analysis.tracking.face_finder import FaceFinder
from mien.core.files import replace_file


def test_a_part_counts_when_its_state_is_there(tmp_path: Path) -> None:
    parts = PartStore(tmp_path / "clip", {"model": "a"})
    assert parts.count == 0 and parts.stored_state() is None
    parts.path("jsonl").write_text("one")
    parts.finish_part(AnalysisResult("clip.mp4", frames=8, warnings=["cut off"]))
    parts.path("jsonl").write_text("half a p")  # and here it is killed
    again = PartStore(tmp_path / "clip", {"model": "a"})
    assert again.count == 1 and [path.read_text() for path in again.paths("jsonl")] == ["one"]
    assert again.stored_state() == AnalysisResult("clip.mp4", frames=8, warnings=["cut off"])
    assert PartStore(tmp_path / "clip", {"model": "b"}).count == 0
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_was_being_written_when_it_was_killed_is_none(tmp_path: Path) -> None:
    parts = PartStore(tmp_path / "clip", {"model": "a"})
    with pytest.raises(SystemExit), replace_file(parts.path("state")) as temporary:
        temporary.write_bytes(b"half a st")
        left = temporary.rename(temporary.with_name("kept"))
        raise SystemExit
    left.rename(temporary)
    assert PartStore(tmp_path / "clip", {"model": "a"}).count == 0


def test_arrays_of_every_kind_in_use_come_back(tmp_path: Path) -> None:
    parts = PartStore(tmp_path / "clip", {})
    finder = FaceFinder(make_detector("haar"))
    finder.find_faces(np.arange(60 * 90 * 3, dtype=np.uint8).reshape(60, 90, 3), 0.0)
    parts.finish_part({"finder": finder, "times": np.array([1.5, 2.5]), "one": np.float64(0.1), "seen": {1, 2}})
    state = PartStore(tmp_path / "clip", {}).stored_state()
    assert state["times"].tolist() == [1.5, 2.5] and state["one"] == 0.1 and state["seen"] == {1, 2}
    same = np.full((60, 90, 3), 250, np.uint8)
    state["finder"].detector = finder.detector  # which is not kept
    assert not len(state["finder"].find_faces(same, 0.1)) and state["finder"].was_cut


def kept(tmp_path: Path) -> PartStore:
    """A part that is whole."""
    parts = PartStore(tmp_path / "clip", {})
    parts.path("jsonl").write_text("one\n")
    parts.path("nut").write_bytes(b"pictures")
    parts.finish_part(AnalysisResult("clip.mp4", frames=8))
    return parts


def other_digit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("ending", ["jsonl", "nut", "state"])
@pytest.mark.parametrize(
    "change", [other_digit, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
def test_parts_that_were_changed_are_thrown_away_and_it_is_said(tmp_path: Path, ending: str, change) -> None:
    change(kept(tmp_path).path(ending, 0))
    again = PartStore(tmp_path / "clip", {})
    assert (again.count, again.stored_state()) == (0, None)
    assert again.damage.startswith(f"000000.{ending}: ")
    assert [path.name for path in again.folder.iterdir()] == ["key.json"]


def test_a_file_of_a_part_that_is_missing_is_damage(tmp_path: Path) -> None:
    kept(tmp_path).path("nut", 0).unlink()
    assert PartStore(tmp_path / "clip", {}).damage == "000000.nut: was changed"


def with_checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def archive(tree: object, **arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, tree=np.frombuffer(json.dumps(tree).encode(), np.uint8), **arrays)
    return content.getvalue()


class _Calls:
    """Names a function for an unpickler to call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def test_a_state_that_somebody_made_runs_nothing(tmp_path: Path) -> None:
    target = tmp_path / "written"
    call = _Calls(os.mkdir, str(target))
    objects = io.BytesIO()
    np.savez(objects, tree=np.array([call], dtype=object))
    deep = "[" * 100_000 + "]" * 100_000
    for content in (
        pickle.dumps(call),
        with_checksum(pickle.dumps(call)),
        with_checksum(objects.getvalue()),
        with_checksum(archive(["class", "os", "mkdir", {"path": str(target)}])),
        with_checksum(archive(["class", "mien.core.files", "write_text", {"path": str(target), "text": "x"}])),
        with_checksum(archive(["class", "mien.core.files", "Path", {}])),
        with_checksum(archive(["class", "mien.analysis.settings", "AnalysisResult", {"no_such_field": 1}])),
        with_checksum(archive(["array", 7])),
        with_checksum(archive(["tuple", ["list"], 3])),
        with_checksum(archive(deep)),
        with_checksum(b"PK no archive"),
        b"",
    ):
        parts = kept(tmp_path)
        parts.path("state", 0).write_bytes(content)
        again = PartStore(tmp_path / "clip", {})
        assert (again.count, again.stored_state(), bool(again.damage)) == (0, None, True)
    assert not target.exists()


def test_what_cannot_be_kept_is_refused_when_it_is_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="Path cannot be stored"):
        PartStore(tmp_path / "clip", {}).finish_part({"place": tmp_path})
    with pytest.raises(TypeError, match="an array of objects cannot be stored"):
        PartStore(tmp_path / "clip", {}).finish_part(np.array([None]))


def test_an_array_whose_head_is_damaged_is_thrown_away_though_the_checksum_fits(tmp_path: Path) -> None:
    """NumPy reads that head as Python's own words, and raises what its tokenizer does."""
    path = kept(tmp_path).path("state", 0)
    _, _, content = path.read_bytes().partition(b"\n")
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in members.items():
            new.writestr(name, data.replace(b"'descr'", b"((descr").replace(b"}", b"(", 1))
    changed = path.read_bytes()
    path.write_bytes(hashlib.sha256(changed).hexdigest().encode() + b"\n" + changed)
    again = PartStore(tmp_path / "clip", {})
    assert again.count == 0 and again.damage
