"""Videos from Python: the same figures and files as the command, nothing written unless asked for, errors that say where to go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

import mien
from mien import Recognizer
from mien.analysis.output.plots import summarize_records
from mien.analysis.output.writers import record_columns
from mien.analysis.people.records import read_clip
from mien.cli.main import main
from mien.core.errors import DataError, MediaError, UsageError
from tests.analysis.footage import outputs_of
from tests.conftest import ASTRONAUT, ROOT


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer("nano", detector="haar")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    make_clip(path, seconds=0.8, variable=True)
    return path


@pytest.fixture(scope="module")
def command(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command writes."""
    out = tmp_path_factory.mktemp("command")
    options = ["--model", "nano", "--detector", "haar", "--format", "jsonl,csv,parquet", "--quiet"]
    assert main(["analyze", str(clip), "--out", str(out), *options]) == 0
    return out


@pytest.fixture(scope="module")
def analysis(clip: Path, recognizer: Recognizer) -> mien.Analysis:
    return mien.analyze_video(clip, recognizer=recognizer, formats=("jsonl", "csv", "parquet"), progress=False)


#: What a user writes. It prints what the command's summary says of the people.
SCRIPT = """
import json, sys
import mien

clip, out = sys.argv[1:]
analysis = mien.analyze_video(clip, model="nano", detector="haar", progress=False)
people = [person.to_json() for person in analysis.people]
table = analysis.to_pandas("people")
segments = [segment.to_json() for segment in analysis.segments]
peaks = [peak.to_json() for peak in analysis.peaks()]
faces = sum(len(frame.faces) for frame in analysis)
seconds = float(table["on_screen_s"].sum())
happiest = max(analysis, key=lambda frame: max(face.probability("happy") for face in frame.faces))
figures = {
    "people": people, "peaks": peaks, "faces": faces, "frames": analysis.facts.frames,
    "share": {label: round(value, 4) for label, value in analysis.share.items()},
    "mean": {label: round(value, 4) for label, value in analysis.mean.items()},
}
analysis.to_pandas().to_csv(out, index=False)
print(json.dumps({"figures": figures, "segments": segments, "seconds": seconds, "happiest": happiest.frame}))
"""


def test_a_script_gives_the_figures_of_the_command(clip: Path, command: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(clip), str(tmp_path / "table.csv")],
        capture_output=True, text=True, check=True, cwd=work, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = json.loads(done.stdout)
    summary = json.loads((command / "clip.summary.json").read_text())
    assert said["figures"] == {name: summary[name] for name in said["figures"]}
    rows = [json.loads(line) for line in (command / "clip.records.jsonl").read_text().splitlines()]
    assert said["happiest"] == max(rows, key=lambda row: row["p_happy"])["frame"]
    assert said["seconds"] == pytest.approx(sum(person["on_screen_s"] for person in summary["people"]))
    assert said["segments"] == [one.to_json() for one in read_clip(command / "clip.records.csv").segments()]
    assert len((tmp_path / "table.csv").read_text().splitlines()) == 1 + len(rows) > 10
    assert list(work.iterdir()) == []


def test_records_and_people_equal_those_of_the_command(analysis: mien.Analysis, command: Path) -> None:
    rows = [json.loads(line) for line in (command / "clip.records.jsonl").read_text().splitlines()]
    assert analysis.to_records() == rows
    assert list(rows[0]) == list(record_columns(analysis.labels))
    summary = json.loads((command / "clip.summary.json").read_text())
    assert analysis.facts is not None
    assert analysis.facts.summarize(analysis.accumulator) == summary


@pytest.mark.parametrize("way", ["out", "save"])
def test_files_equal_those_of_the_command(
    way: str, clip: Path, recognizer: Recognizer, analysis: mien.Analysis, command: Path, tmp_path: Path
) -> None:
    if way == "save":
        paths = analysis.save(tmp_path)
        assert analysis.outputs == []
    else:
        given = {"formats": ("jsonl", "csv", "parquet"), "out": tmp_path, "progress": False}
        paths = mien.analyze_video(clip, recognizer=recognizer, **given).outputs
    written, expected = outputs_of(tmp_path), outputs_of(command)
    assert {path.name for path in paths} == {path.name for path in command.glob("clip.*")}
    assert set(written) == set(expected)
    differ = {name for name in expected if written[name] != expected[name]}
    # Records round boxes and probabilities; what is drawn from them may differ by a pixel.
    assert differ <= ({"video"} if way == "save" else set())
    assert [pts for pts, *_ in written["video"]] == [pts for pts, *_ in expected["video"]]


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_records_from_disk_say_the_same(name: str, analysis: mien.Analysis, command: Path) -> None:
    read = mien.read_records(command / f"clip.records.{name}")
    assert read.to_records() == analysis.to_records()
    assert read.accumulator.to_json() == analysis.accumulator.to_json()
    assert read.segments == analysis.segments
    assert read.peaks("happy", most=1) == analysis.peaks("happy", most=1) != []
    assert summarize_records(read.records, read.accumulator)["share"] == pytest.approx(read.share, abs=1e-4)
    frames, expected = list(read), list(analysis)
    assert len(frames) == len(expected) > 10
    assert all(
        one.faces == replace_threshold(other.faces, one.faces) for one, other in zip(frames, expected, strict=True)
    )
    assert [face.is_unsure for frame in frames for face in frame.faces] == [
        face.is_unsure for frame in expected for face in frame.faces
    ]


def replace_threshold(faces: tuple, like: tuple) -> tuple:
    """Faces with the threshold that records read back have: another number that separates them the same way."""
    return tuple(replace(face, unsure_below=one.unsure_below) for face, one in zip(faces, like, strict=True))


def test_records_of_several_inputs_are_told_apart_and_pictures_have_no_people(clip: Path, tmp_path: Path) -> None:
    options = ["--model", "nano", "--detector", "haar", "--outputs", "none", "--quiet", "--to", "0.3"]
    assert main(["analyze", str(clip), str(ASTRONAUT), "--out", str(tmp_path), *options]) == 0
    table = tmp_path / "all.records.csv"
    with pytest.raises(DataError, match=r"holds records of 2 inputs; name one with `source`"):
        mien.read_records(table)
    with pytest.raises(DataError, match="has no records of other"):
        mien.read_records(table, source="other")
    picture = mien.read_records(table, source=str(ASTRONAUT))
    assert [row["track"] for row in picture.to_records()] == [None]
    assert picture.to_records()[0]["s_happy"] is None
    with pytest.raises(DataError, match="is a picture, which has no tracks"):
        picture.people  # noqa: B018
    video = mien.read_records(table, source=str(clip))
    assert len(video.people) == 1 and video.facts is None


def test_frames_come_one_by_one_with_their_pictures(
    clip: Path, recognizer: Recognizer, analysis: mien.Analysis
) -> None:
    kept = []
    with mien.iterate_video(clip, recognizer=recognizer) as stream:
        for frame in stream:
            assert frame.picture.shape == (240, 320, 3)
            for face in frame.faces:
                x1, y1, x2, y2 = face.box_xyxy
                assert face.crop.shape == (int(np.ceil(y2)) - int(y1), int(np.ceil(x2)) - int(x1), 3)
            kept += [(frame.time_s, row) for row in frame.to_records()]
            faces = frame.faces
            del frame
    assert [row for _, row in kept] == analysis.to_records()
    assert stream.accumulator.to_json() == analysis.accumulator.to_json()
    assert stream.facts == analysis.facts
    with pytest.raises(UsageError, match="is of a frame that is gone"):
        faces[0].crop  # noqa: B018


def test_a_stream_can_be_left_early(clip: Path, recognizer: Recognizer) -> None:
    with mien.iterate_video(clip, recognizer=recognizer) as stream:
        next(stream)
    assert stream.frame_count >= 1 and stream.facts is None
    assert list(stream) == []


def test_own_frames_are_taken_one_at_a_time_and_say_the_same(
    clip: Path, recognizer: Recognizer, analysis: mien.Analysis
) -> None:
    pairs = [(frame.time_s + 1e6, frame.picture) for frame in mien.iterate_video(clip, recognizer=recognizer)]
    taken = []

    def produce():
        for pair in pairs:
            taken.append(pair)
            yield pair

    frames = []
    for frame in mien.analyze_frames(produce(), name="own", recognizer=recognizer):
        frames.append(frame)
        assert len(taken) == len(frames)
    assert [frame.time_s for frame in frames] == [time_s for time_s, _ in pairs]
    assert [frame.source for frame in frames] == ["own"] * len(pairs)
    assert [frame.player_time_s for frame in frames] == pytest.approx([time_s - 1e6 for time_s, _ in pairs])
    gaps = np.diff([time_s for time_s, _ in pairs])
    assert [frame.duration_s for frame in frames[1:]] == pytest.approx(gaps, abs=1e-5)
    tracks = [[face.track for face in frame.faces] for frame in frames]
    assert tracks == [[face.track for face in frame.faces] for frame in mien.iterate_video(clip, recognizer=recognizer)]


def test_own_frames_are_sampled_and_their_times_are_checked(recognizer: Recognizer) -> None:
    gray = np.full((60, 60), 90, np.uint8)
    pairs = [(index / 10, gray) for index in range(20)]
    stream = mien.analyze_frames(pairs, recognizer=recognizer, from_s=0.5, to_s=1.5, every_s=0.25)
    assert [frame.time_s for frame in stream] == [0.5, 0.8, 1.0, 1.3]
    with pytest.raises(UsageError, match="`frames`: are 1 s after 1 s; give times in seconds that rise"):
        list(mien.analyze_frames([(1, gray), (1, gray)], recognizer=recognizer))
    with pytest.raises(ValueError, match="a picture has shape"):
        list(mien.analyze_frames([(0, np.zeros(5))], recognizer=recognizer))


def test_what_is_no_video_is_named_and_where_it_goes(recognizer: Recognizer, tmp_path: Path) -> None:
    cases = {
        ASTRONAUT: "is a picture, not a video; use `Recognizer.analyze`",
        tmp_path: "is a folder, not a video",
        tmp_path / "none.mp4": "does not exist",
    }
    for path, message in cases.items():
        with pytest.raises(MediaError, match=message):
            mien.analyze_video(path, recognizer=recognizer)
    with pytest.raises(TypeError, match=r"frames go to mien\.analyze_frames"):
        mien.analyze_video(np.zeros((9, 9)), recognizer=recognizer)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`to_s`: is needed for a camera"):
        mien.analyze_video("camera:0", recognizer=recognizer)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modle": "nano"}, "`modle`: is unknown; choose from allow_truncated, detector"),
        ({"model": "nano"}, "`model`: is set by the recognizer"),
        ({"fps": 5, "every_s": 1}, "both say how often"),
        ({"fps": 0}, "`fps=0`: is no rate"),
        ({"from_s": 3, "to_s": 2}, "`from_s`, `to_s` or `every_s`: cannot be used: none is negative"),
        ({"smoothing_s": -1}, "`smoothing_s=-1`"),
        ({"formats": "xml"}, "`format=xml`: is unknown"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    recognizer: Recognizer, clip: Path, settings: dict, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        mien.analyze_video(clip, recognizer=recognizer, **settings)


def test_a_part_of_a_video_and_its_sampling(clip: Path, recognizer: Recognizer) -> None:
    part = mien.analyze_video(clip, recognizer=recognizer, from_s=0.2, to_s=0.6, fps=10, progress=False)
    times = [
        frame.player_time_s for frame in mien.iterate_video(clip, recognizer=recognizer, from_s=0.2, to_s=0.6, fps=10)
    ]
    assert part.facts is not None and part.facts.frames == len(times)
    assert 0.2 <= min(times) and max(times) < 0.6 and len(times) <= 6


def test_a_video_without_faces_has_no_people(recognizer: Recognizer, tmp_path: Path) -> None:
    gray = np.full((120, 160, 3), 90, np.uint8)
    make_clip(tmp_path / "gray.mp4", seconds=0.2, size_wh=(160, 120), sound=None, pictures=[gray] * 5)
    analysis = mien.analyze_video(tmp_path / "gray.mp4", recognizer=recognizer, progress=False)
    assert (len(analysis.records), analysis.people, analysis.segments, analysis.peaks()) == (0, [], [], [])
    assert list(analysis) == analysis.to_records() == []
    assert analysis.facts is not None and analysis.facts.frames == 5
    outputs = analysis.save(tmp_path / "out", outputs=("captions", "timeline"))
    assert (tmp_path / "out" / "gray.vtt").read_text() == "WEBVTT\n" and len(outputs) == 5


def test_corrected_people_are_saved_with_their_names(analysis: mien.Analysis, tmp_path: Path) -> None:
    analysis.save(tmp_path / "first", formats=["csv"], outputs=())
    (tmp_path / "first" / "clip.people.csv").write_text("track,person,name\n0,1,A<b\n", encoding="utf-8")
    corrected = mien.read_records(tmp_path / "first" / "clip.records.csv")
    corrected.save(tmp_path / "second", formats=["csv"], outputs=["captions"])
    cues = (tmp_path / "second" / "clip.vtt").read_text(encoding="utf-8")
    assert "\nA&lt;b: " in cues and "\n1: " not in cues
    summary = json.loads((tmp_path / "second" / "clip.summary.json").read_text(encoding="utf-8"))
    assert summary["people"][0]["name"] == "A<b"


def test_save_does_not_overwrite_the_outputs_of_another_video(
    analysis: mien.Analysis, recognizer: Recognizer, tmp_path: Path
) -> None:
    make_clip(tmp_path / "clip.mkv", seconds=0.2, sound=None)
    other = mien.analyze_video(tmp_path / "clip.mkv", recognizer=recognizer, progress=False)
    analysis.save(tmp_path / "out", outputs=())
    paths = other.save(tmp_path / "out", formats=["csv"], outputs=())
    assert {path.name for path in paths} == {"clip.mkv.records.csv", "clip.mkv.summary.json"}


def test_a_video_that_changed_is_not_drawn_on(recognizer: Recognizer, tmp_path: Path) -> None:
    make_clip(tmp_path / "clip.mp4", seconds=0.2, sound=None)
    analysis = mien.analyze_video(tmp_path / "clip.mp4", recognizer=recognizer, progress=False)
    make_clip(tmp_path / "clip.mp4", seconds=0.4, sound=None)
    with pytest.raises(MediaError, match="was changed since it was analyzed"):
        analysis.save(tmp_path / "out", outputs=("media",))
    assert list((tmp_path / "out").glob("clip.*")) == []


def test_peaks_by_another_rule(analysis: mien.Analysis) -> None:
    assert analysis.peaks("happy", person=1) == analysis.peaks("happy")
    assert analysis.peaks("happy", person=2) == []
    low = analysis.peaks("angry", min_probability=0.0, min_gap_s=0.1)
    assert low and all(peak.probability < 0.4 for peak in low)
    assert len(analysis.peaks("happy", min_gap_s=0.1, most=1)) == 1


@pytest.mark.parametrize("rule", [{}, {"min_gap_s": 0.1}])
def test_peaks_take_other_names_of_a_label_and_refuse_unknown_ones(analysis: mien.Analysis, rule: dict) -> None:
    assert analysis.peaks("happiness", **rule) == analysis.peaks("happy", **rule) != []
    with pytest.raises(UsageError, match="`label=hapy`: is unknown; choose one of angry"):
        analysis.peaks("hapy", **rule)


def test_figures_are_drawn(analysis: mien.Analysis) -> None:
    for figure in (analysis.plot_timeline(), analysis.plot_transitions()):
        assert figure._repr_png_().startswith(b"\x89PNG")
        assert figure.canvas.manager is None  # pyplot does not keep it
