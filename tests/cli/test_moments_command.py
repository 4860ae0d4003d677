from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.analysis.media.video_reader import VideoSource
from mien.analysis.output.writers import make_records, record_writer
from mien.cli.main import main
from mien.core.labels import FER2013
from mien.core.types import Face, FrameResult
from tests.analysis.footage import remuxed
from tests.cli.conftest import complaint, outputs
from tests.conftest import ASTRONAUT


def clip_with_records(stem: str = "clip", *, source: str = "clip.mp4", people: int = 2) -> list[np.ndarray]:
    """3 s at 10 frames a second, and records in mien-out: happy peaks at 1 s, sad at 2 s. Returns the frames."""
    make_clip(Path(f"{stem}.mp4"), seconds=3, fps=Fraction(10), size_wh=(320, 240), sound=None)
    Path("mien-out").mkdir(exist_ok=True)
    pictures = []
    with VideoSource(Path(f"{stem}.mp4")) as video, record_writer(Path("mien-out", stem), ("csv",), FER2013) as records:
        for frame in video.frames():
            pictures.append(frame.picture)
            faces = []
            for track in range(people):
                label, peak = (3, 1.0) if frame.time_s < 1.5 else (4, 2.0)
                probabilities = np.full(7, 0.05, np.float32)
                probabilities[label] = 0.7 - 0.05 * track - 0.2 * abs(frame.time_s - peak)
                box = (100 + 60 * track, 80, 150 + 60 * track, 140)
                faces.append(Face(box, 0.9, probabilities, FER2013, track, probabilities, FER2013[label]))
            result = FrameResult(source, frame.index, frame.time_s, (320, 240), tuple(faces))
            records.write(make_records(result, "base", "haar"))
    return pictures


def test_stills_of_the_peaks_from_records(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = clip_with_records()
    assert main(["moments", "clip.mp4", "--label", "happy", "--plain"]) == 0
    said = capsys.readouterr()
    assert said.err == "reading mien-out/clip.records.csv; the video is not analyzed again\n"
    names = ["01-happy-0001.00s-person1.jpg", "02-happy-0001.00s-person2.jpg"]
    assert outputs("mien-out/clip.moments") == [*names, "moments.json"]
    assert [name for name in outputs() if "/" not in name] == ["clip.moments.png", "clip.records.csv"]
    assert said.out.splitlines()[0] == f"mien-out/clip.moments/{names[0]}: happy 70%"
    written = json.loads(Path("mien-out/clip.moments/moments.json").read_text())
    assert [(row["person"], row["frame"], row["time_s"]) for row in written["moments"]] == [(1, 10, 1.0), (2, 10, 1.0)]
    still = np.asarray(Image.open(f"mien-out/clip.moments/{names[0]}")).astype(int)
    errors = [np.abs(still - picture).mean() for picture in pictures]
    assert int(np.argmin(errors)) == 10 and errors[10] < 2  # that very frame, but for JPEG


def test_records_of_an_earlier_file_of_the_same_name_are_not_used(capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(Path("clip.mp4"), seconds=0.5, fps=Fraction(10), size_wh=(320, 240), sound=None)
    assert main(["analyze", "clip.mp4", "--detector", "haar", "--no-media", "--from", "0.2", "-q"]) == 0
    assert main(["moments", "clip.mp4", "--label", "happy", "--detector", "haar"]) == 0
    assert "clip.records.jsonl (from 0.2 s); the video is not analyzed again" in capsys.readouterr().err
    make_clip(Path("clip.mp4"), seconds=1, fps=Fraction(10), size_wh=(320, 240), sound=None)  # exported anew
    assert main(["moments", "clip.mp4", "--label", "happy", "--detector", "haar"]) == 2
    assert "holds records of a file of this name with" in complaint(capsys)


def test_a_picture_of_the_same_name_is_not_in_the_way(capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(Path("x.mp4"), seconds=0.5, fps=Fraction(10), size_wh=(320, 240), sound=None)
    shutil.copy(ASTRONAUT, "x.jpg")
    assert main(["analyze", "x.jpg", "x.mp4", "--detector", "haar", "--no-media", "-q"]) == 0
    assert main(["moments", "x.mp4", "--label", "happy"]) == 0
    assert "x.mp4.records.jsonl" in capsys.readouterr().err


def test_stills_are_named_by_what_a_player_shows() -> None:
    """A broadcast's own times begin anywhere."""
    make_clip(Path("clip.mp4"), seconds=0.6, fps=Fraction(10), size_wh=(320, 240), sound=None)
    remuxed(Path("clip.mp4"), Path("late.ts"), shift_s=7000)
    assert main(["moments", "late.ts", "--label", "happy", "--detector", "haar", "-q"]) == 0
    (row,) = json.loads(Path("mien-out/late.moments/moments.json").read_text())["moments"]
    assert row["time_s"] - row["player_time_s"] == pytest.approx(7000, abs=3)
    assert row["player_time_s"] < 0.7 and f"-{row['player_time_s']:07.2f}s-" in row["file"]
    summary = json.loads(Path("mien-out/late.summary.json").read_text())
    assert summary["start_s"] == pytest.approx(7000, abs=3)
    assert summary["seconds"] == pytest.approx(0.6, abs=0.15)


def test_boxes_are_drawn_and_an_earlier_call_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    pictures = clip_with_records()
    assert main(["moments", "clip.mp4", "--label", "happy", "-q"]) == 0
    Path("mien-out/clip.moments/mine.txt").touch()
    assert main(["moments", "clip.mp4", "--label", "sadness", "--person", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert outputs("mien-out/clip.moments") == ["01-sad-0002.00s-person2.jpg", "mine.txt", "moments.json"]
    still = np.asarray(Image.open(said["moments"][0]["file"])).astype(int)
    x1, y1, x2, _ = (round(value) for value in said["moments"][0]["box"])
    changed = np.abs(still - pictures[20]).max(axis=2) > 60
    assert changed[y1, x1 + 4 : x2 - 4].mean() > 0.9  # the box's upper line
    assert not changed[:, :95].any()  # the other person is not boxed


def test_all_expressions_and_how_far_apart(capsys: pytest.CaptureFixture[str]) -> None:
    clip_with_records(people=1)
    assert main(["moments", "clip.mp4", "--label", "all", "--top", "2", "--min-gap", "0.5", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["moments"]
    assert [(row["label"], row["time_s"]) for row in rows] == [("happy", 1.0), ("sad", 2.0)]
    assert main(["moments", "clip.mp4", "--label", "all", "--min-gap", "0", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["moments"]
    assert [row["label"] for row in rows] == ["happy"] * 12 + ["sad"] * 12


def test_a_video_without_records_is_analyzed_first(capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(Path("clip.mp4"), seconds=1, fps=Fraction(8), size_wh=(320, 240), sound=None)
    assert main(["moments", "clip.mp4", "--label", "happy", "--detector", "haar", "--top", "1"]) == 0
    assert capsys.readouterr().err == ""
    made = outputs()
    assert "clip.records.jsonl" in made and "clip.annotated.mp4" not in made
    assert [name for name in made if name.endswith(".jpg")]
    assert main(["moments", "clip.mp4", "--label", "happy", "--top", "1"]) == 0
    assert "not analyzed again" in capsys.readouterr().err
    shutil.move("mien-out/clip.records.jsonl", "elsewhere.jsonl")
    shutil.move("clip.mp4", "renamed.mp4")
    command = ["moments", "renamed.mp4", "--label", "happy", "--records", "elsewhere.jsonl", "--out", "b"]
    assert main([*command, "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main(command) == 0
    note = "note: elsewhere.jsonl holds records of clip.mp4\n"
    assert note in capsys.readouterr().err


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two clips and their records, a clip without any, one of nobody, a picture and a text."""
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        clip_with_records()
        clip_with_records("other")
        shutil.copy(ASTRONAUT, "photo.jpg")
        Path("text.mp4").write_text("no video")
        make_clip(Path("fresh.mp4"), seconds=0.4, size_wh=(160, 120), sound=None)
        shutil.copy("fresh.mp4", "nobody.mp4")
        Path("mien-out/nobody.records.jsonl").touch()
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["clip.mp4", "--label", "bored"],
            "--label bored: is unknown; choose all or one of angry, disgust, fear, happy",
        ),
        (["fresh.mp4", "--label", "bored"], "--label bored: is unknown"),
        (
            ["clip.mp4", "--label", "fear"],
            "clip.mp4: 'fear' never reaches 0.4; the highest is 0.05; take lower peaks with --min-probability 0.05",
        ),
        (["clip.mp4", "--label", "fear", "--min-probability", "0.5"], "clip.mp4: 'fear' never reaches 0.5"),
        (["clip.mp4", "--label", "happy", "--person", "7"], "--person 7: is not seen in clip.mp4; choose one of 1, 2"),
        (["clip.mp4", "--label", "happy", "--records", "no.csv"], "no.csv: does not exist"),
        (["clip.mp4"], "missing option '--label'"),
        (["absent.mp4", "--label", "happy"], "absent.mp4: does not exist; check the path"),
        (["photo.jpg", "--label", "happy"], "photo.jpg: is a picture, not a video; name a video"),
        ([".", "--label", "happy"], "is a folder, not a video"),
        (["text.mp4", "--label", "happy"], "text.mp4: is not a video that can be read"),
        (
            ["other.mp4", "--label", "happy"],
            "other.records.csv holds records of clip.mp4; choose another --out",
        ),
        (["nobody.mp4", "--label", "happy"], "nobody.records.jsonl: holds no record: no face was seen"),
        (["fresh.mp4", "--label", "happy", "--records", "mien-out/clip.records.csv"], "records are of another video"),
    ],
)
def test_wrong_input_is_one_line(
    arguments: list[str], message: str, several: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(several, ".", dirs_exist_ok=True)
    before = outputs()
    capsys.readouterr()
    assert main(["moments", *arguments, "-q"]) == 2
    assert message in complaint(capsys)
    assert outputs() == before or arguments[0] == "fresh.mp4"


def test_records_of_another_video_of_the_same_name_are_not_taken(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        make_clip(Path(folder, "clip.mp4"), seconds=3, fps=Fraction(10), size_wh=(320, 240), sound=None)
    clip_with_records("clip", source="a/clip.mp4")
    capsys.readouterr()
    assert main(["moments", "b/clip.mp4", "--label", "happy"]) == 2
    assert "has no records of its own: mien-out/clip.records.csv holds records of a/clip.mp4" in complaint(capsys)
    shutil.copy("mien-out/clip.records.csv", "mien-out/clip.mp4.records.csv")  # as where both were analyzed at once
    text = Path("mien-out/clip.records.csv").read_text()
    Path("mien-out/clip.mp4.records.csv").write_text(text.replace("a/clip.mp4", "b/clip.mp4"))
    assert main(["moments", "b/clip.mp4", "--label", "happy"]) == 0
    assert "reading mien-out/clip.mp4.records.csv" in capsys.readouterr().err


def test_records_of_the_third_video_of_one_name_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b", "c"):
        Path(folder).mkdir()
    clip_with_records("clip", source="a/clip.mp4")
    text = Path("mien-out/clip.records.csv").read_text()
    for folder, stem in (("a", "clip"), ("b", "clip.mp4"), ("c", "clip.mp4-2"), ("b", "clip.mp4-3")):
        shutil.copy("clip.mp4", f"{folder}/clip.mp4")
        Path(f"mien-out/{stem}.records.csv").write_text(text.replace("a/clip.mp4", f"{folder}/clip.mp4"))
    capsys.readouterr()
    assert main(["moments", "c/clip.mp4", "--label", "happy"]) == 0
    assert "reading mien-out/clip.mp4-2.records.csv" in capsys.readouterr().err


def test_records_by_another_detector_than_asked_for_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    clip_with_records()
    assert main(["moments", "clip.mp4", "--label", "happy", "--detector", "yunet"]) == 2
    assert "holds records by the detector haar, not yunet" in complaint(capsys)
    arguments = ["moments", "clip.mp4", "--label", "happy", "--records", "mien-out/clip.records.csv"]
    assert main([*arguments, "--model", "ferplus"]) == 2
    assert "holds records by the model base, not ferplus" in complaint(capsys)


def test_a_video_shorter_than_its_records_leaves_the_earlier_stills() -> None:
    clip_with_records()
    assert main(["moments", "clip.mp4", "--label", "happy", "-q"]) == 0
    before = outputs("mien-out/clip.moments")
    make_clip(Path("clip.mp4"), seconds=1.5, fps=Fraction(10), size_wh=(320, 240), sound=None)
    assert main(["moments", "clip.mp4", "--label", "all", "-q"]) == 2
    assert outputs("mien-out/clip.moments") == before


def test_stills_that_a_killed_run_left_are_swept() -> None:
    clip_with_records()
    left = Path("mien-out/clip.moments/.new")
    left.mkdir(parents=True)
    (left / "01-happy-0001.00s-person1.jpg").write_bytes(b"half")
    assert main(["moments", "clip.mp4", "--label", "happy", "--top", "1", "-q"]) == 0
    assert outputs("mien-out/clip.moments") == ["01-happy-0001.00s-person1.jpg", "moments.json"]
    assert not left.exists()
