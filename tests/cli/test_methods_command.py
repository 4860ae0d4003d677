"""`mien methods`: what it says is in the records, their summary or the model's file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mien import __version__
from mien.analysis.inference.model_file import find_model, read_model_info
from mien.analysis.output.writers import make_records, record_writer
from mien.cli.main import main
from mien.core.labels import FER2013
from mien.core.types import Face, FrameResult
from tests.analysis.made_records import write_clip_records
from tests.cli.conftest import complaint

SUMMARY = {
    "precision": "int8", "frames": 30, "seconds": 1.2, "width": 640, "height": 360,
    "part": {"from_s": 2.0, "to_s": None, "every_s": 0.04},
    "settings": {"version": __version__, "tta": "flip", "detector_threshold": 0.8, "unsure_below": 0.651, "drop_above": 0.9,
                 "largest_faces": 2, "smoothing_s": 0.4},
}  # fmt: skip


def describe(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    assert main(["methods", str(path), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_that_is_recorded_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(Path("clip"), {0: ["happy"] * 30, 1: ["sad"] * 20}, labels=FER2013)
    Path("clip.summary.json").write_text(json.dumps(SUMMARY))
    said, info = describe(path, capsys), read_model_info(find_model("base"))
    for words in (
        f"classified with mien {__version__} [1], by its model base in int8 precision",
        "distinguishes angry, disgust, fear, happy, sad, surprise and neutral",
        f"On 3,589 faces of PublicTest of FER2013 [2] it reaches an accuracy of {100 * info.scores['accuracy']:.1f} %",
        f"macro-F1 of {info.scores['macro_f1']:.3f}", f"the temperature {info.temperature:.3f}",
        "detected with YuNet [3], and those with a detection score below 0.8 were left out; the largest 2 faces of each frame were kept",
        "Of the video from 2 s to its end, one frame every 0.04 s was analyzed: 30 frames of 640 × 360 pixels that last 1.2 s, with 50 faces",
        "exponential time constant of 0.4 s", "leads by 5 percentage points", "There are 2 people, 2.0 s on screen together.",
        "a not-a-face score above 0.900 were left out", "means over changed copies of each face (flip)",
    ):  # fmt: skip
        assert words in said["text"]
    assert [text.split(",")[0].split(" (")[0] for text in said["references"]] == [
        "The mien authors. mien",
        "Goodfellow",
        "Wu",
    ]
    assert said["missing"] == ["the faces that trained the model"]


def test_what_is_not_recorded_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(Path("clip"), {0: ["happy"] * 30}, labels=FER2013)
    assert main(["methods", str(path)]) == 0
    printed = capsys.readouterr()
    assert "time constant" not in printed.out and __version__ not in printed.out
    for words in ("the version of mien", "there is no summary beside the records", "the time constant of smoothing"):
        assert words in printed.err


def test_a_model_that_is_not_at_hand_is_named_only(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(Path("clip"), {0: ["happy"] * 30})  # made by a model base with other labels
    said = describe(path, capsys)
    assert "accuracy" not in said["text"] and "its model base, which" in said["text"]
    assert "scores of the model base, whose file was not found" in said["missing"]
    assert main(["methods", str(path), "--model", "nano"]) == 2
    assert "--model nano: is not the model base of the records" in complaint(capsys)


def test_corrections_by_hand_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(Path("clip"), {0: ["happy"] * 30, 1: [None] * 30 + ["sad"] * 20}, labels=FER2013)
    words = "The assignment of tracks to people was corrected by hand."
    for options, is_said in (["--name", "1=Anna"], False), (["--merge", "1,2"], True):
        assert main(["people", str(path), *options, "--quiet"]) == 0
        assert (words in describe(path, capsys)["text"]) is is_said


def test_records_of_a_picture_have_no_tracks(capsys: pytest.CaptureFixture[str]) -> None:
    with record_writer(Path("photo"), ("csv",), FER2013) as records:
        face = Face((1, 1, 9, 9), None, np.full(7, 1 / 7, np.float32), FER2013)
        records.write(make_records(FrameResult("photo.jpg", 0, 0.0, (9, 9), (face,)), "ferplus", "none"))
    said = describe(Path("photo.records.csv"), capsys)
    assert "No face detector was used" in said["text"]
    assert "track" not in said["text"] and "people" not in said["text"]


def test_labels_of_raters_are_cited(capsys: pytest.CaptureFixture[str]) -> None:
    info = read_model_info(find_model("ferplus"))
    with record_writer(Path("photo"), ("csv",), info.labels) as records:
        face = Face((1, 1, 9, 9), 0.9, np.full(8, 1 / 8, np.float32), info.labels, unsure_below=0.5)
        records.write(make_records(FrameResult("photo.jpg", 0, 0.0, (9, 9), (face,)), "ferplus", "haar"))
    said = describe(Path("photo.records.csv"), capsys)
    assert "majority labels of FER+ [3]" in said["text"] and "Haar cascade of OpenCV [4]" in said["text"]
    assert "count as unsure: 100.0 % of all faces" in said["text"]


@pytest.mark.parametrize("name", ["none.records.csv", "nobody.records.csv"])
def test_bad_input_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip_records(Path("nobody"), {0: [None] * 3})
    assert main(["methods", name]) == 2
    assert name in complaint(capsys)
