"""`mien events` from end to end."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_clip

from mien.cli.main import main
from tests.analysis.made_records import write_clip_records
from tests.cli.conftest import complaint, outputs

EVERY = "eaf,boris,textgrid,srt,vtt,otio,edl,fcpxml,csv"


def test_every_format_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(
        Path("clip"), {0: ["happy"] * 30 + ["angry"] * 20, 3: ["neutral"] * 50}, Fraction(30000, 1001)
    )
    assert main(["events", str(path), "--format", EVERY]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 segments and 3 peaks of 2 persons, 29.97 frames per second"
    endings = ["TextGrid", "boris", "csv", "eaf", "edl", "fcpxml", "markers.edl", "otio", "srt", "vtt"]
    assert outputs() == [f"clip.events.{ending}" for ending in endings]
    assert main(["events", str(path), "--format", "srt", "--label", "happy", "--json", "--out", "o"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said | {"source": ""} == {
        "source": "", "rate": [30000, 1001], "drop_frame": True, "segments": 1, "peaks": 1,
        "people": ["person 1", "person 4"], "outputs": ["o/clip.events.srt"],
    }  # fmt: skip


def test_a_variable_rate_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    lines = write_clip_records(Path("clip"), {0: ["happy"] * 300}).read_text().splitlines()
    columns = lines[0].split(",")
    for index, line in enumerate(lines[1:], 1):
        cells = line.split(",")
        cells[columns.index("player_time_s")] = str(index * 0.04 + (0.02 * index if index < 150 else 3))
        lines[index] = ",".join(cells)
    Path("vfr.records.csv").write_text("\n".join(lines))
    assert main(["events", "vfr.records.csv", "--format", "edl"]) == 0
    assert "the frame rate varies; times are rounded to frames of" in capsys.readouterr().err
    assert main(["events", "vfr.records.csv", "--format", "edl", "--rate", "50"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["clip.records.csv", "--format", "doc"], "--format doc: is unknown; choose from eaf, boris, textgrid"),
        (["clip.records.csv", "--format", "srt", "--label", "bored"], "--label bored: is unknown; choose from angry"),
        (["clip.records.csv", "--format", "edl", "--rate", "fast"], "--rate fast: is no frame rate; as in --rate 25"),
        (["clip.records.csv", "--format", "edl", "--drop-frame"], "--drop-frame: there is no drop-frame timecode at 25"),
        (["clip.records.csv", "--format", "edl", "--start-timecode", "1"], "--start-timecode 1: is no timecode"),
        (["clip.records.csv", "--format", "eaf", "--media", "x.mp4"], "--media x.mp4: does not exist"),
        (["none.records.csv", "--format", "eaf"], "none.records.csv: does not exist"),
        (["nobody.records.csv", "--format", "eaf"], "nobody.records.csv: holds no record"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip_records(Path("clip"), {0: ["happy"] * 3})
    write_clip_records(Path("nobody"), {0: [None] * 3})
    assert main(["events", *arguments]) == 2
    assert problem in complaint(capsys)
    assert not Path("mien-out").exists()


def test_frames_of_an_analyzed_video_are_found_again() -> None:
    """29.97 frames per second, from a video through its records to timecodes."""
    make_clip(Path("clip.mp4"), seconds=1.2, fps=Fraction(30000, 1001), sound=None)
    assert main(["analyze", "clip.mp4", "--quiet", "--outputs", "none", "--format", "csv"]) == 0
    assert main(["events", "mien-out/clip.records.csv", "--format", "csv,eaf", "--quiet"]) == 0
    with Path("mien-out/clip.records.csv").open(newline="") as file:
        rows = {float(row["player_time_s"]): int(row["frame"]) for row in csv.DictReader(file)}
    with Path("mien-out/clip.events.csv").open(newline="") as file:
        events = list(csv.DictReader(file))
    assert events
    for event in events:
        assert int(event["start_frame"]) == rows[float(event["start_s"])]
    assert events[0]["start_timecode"] == "00:00:00;00"
    assert Path("clip.mp4").absolute().as_uri() in Path("mien-out/clip.events.eaf").read_text()
