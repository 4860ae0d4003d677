"""Command line, Python and service find the same people, segments, timeline and moments in the same video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from mien.analysis.media.inputs import Input
from mien.analysis.people.records import read_clip
from mien.analysis.pipeline import analyze_input
from mien.analysis.recognizer import Recognizer
from mien.analysis.settings import AnalysisContext, AnalysisOptions
from mien.cli.main import main
from tests.service.conftest import finished, sent

pytestmark = pytest.mark.slow


def flatten(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(place, value) of every leaf of a document, so that all of them compare with one tolerance."""
    if isinstance(value, (dict, list, tuple)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flatten(one, f"{place}/{key}")
    else:
        yield place, value


def findings(folder: Path, stem: str) -> dict[str, Any]:
    """Everything that an analysis says of the people in a video."""
    summary = json.loads((folder / f"{stem}.summary.json").read_text())
    records = read_clip(folder / f"{stem}.records.jsonl")
    timeline = records.people().timeline
    tracks = {track: timeline.mean_probabilities(track)[0].tolist() for track in timeline.bins}
    shown = {track: timeline.mean_probabilities(track)[1].tolist() for track in timeline.bins}
    names = ("labels", "people", "not_faces", "peaks", "share", "mean", "sure_share", "frames", "faces", "seconds")
    document = {name: summary[name] for name in names} | {
        "segments": [one.to_json() for one in records.segments()], "timeline": [tracks, shown],
    }  # fmt: skip
    return dict(flatten(document))


def test_a_video_gives_the_same_on_every_way(client: TestClient, clip: Path, tmp_path: Path) -> None:
    by_python, by_program, by_service = (tmp_path / name for name in ("python", "program", "service"))
    options = AnalysisOptions(detector="haar", formats=("jsonl",), outputs=(), smoothing_s=0.5, people=2)
    analyze_input(
        Input(clip, Path("clip")), Recognizer.from_options(options), AnalysisContext(by_python, options, quiet=True)
    )
    arguments = ["--detector", "haar", "--format", "jsonl", "--outputs", "none", "--smoothing", "0.5", "--people", "2"]
    assert main(["analyze", str(clip), *arguments, "--out", str(by_program), "--quiet"]) == 0
    job = finished(client, sent(client, clip, "clip.mp4", detector="haar", smoothing=0.5, people="2", media=0)["id"])
    by_service.mkdir()
    for name in ("summary.json", "records.jsonl"):
        (by_service / f"clip.{name}").write_bytes(client.get(f"/v1/jobs/{job['id']}/results/{name}").content)

    expected = findings(by_python, "clip")
    assert expected["/people/0/person"] == 1 and expected["/segments/0/label"] and expected["/peaks/0/label"]
    for folder in (by_program, by_service):
        assert findings(folder, "clip") == pytest.approx(expected, abs=1e-3, nan_ok=True)
    frames = client.get(f"/v1/jobs/{job['id']}/frames").json()
    people = {place: value for place, value in expected.items() if place.startswith("/people/")}
    assert dict(flatten(frames["people"], "/people")) == pytest.approx(people, abs=1e-3)
    timeline = read_clip(by_service / "clip.records.jsonl").people().timeline
    chart = timeline.to_json(person["track"] for person in frames["people"])
    assert frames["timeline"]["persons"] and dict(flatten(frames["timeline"])) == pytest.approx(
        dict(flatten(chart)), abs=1
    )
