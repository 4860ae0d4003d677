from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.analysis.output.writers import make_records, record_writer
from mien.cli.main import main
from mien.core.types import Face, FrameResult
from tests.analysis.made_records import write_clip_records
from tests.cli.conftest import complaint, outputs

LABELS = ("sad", "happy", "neutral")


def write(stem: str, shown: list[int], *, people: int = 1, labels: tuple[str, ...] = LABELS, name: str = "csv") -> Path:
    """Records of a clip in which the first person is shown with these labels, 10 frames a second, all others with the first."""
    with record_writer(Path(stem), (name,), labels) as records:
        for index, label in enumerate(shown):
            faces = []
            for track in range(people):
                probabilities = np.full(len(labels), 0.1, np.float32)
                probabilities[0 if track else label] = 1.1 - 0.1 * len(labels)
                steady = labels[0 if track else label]
                faces.append(Face((1, 1, 9, 9), 0.9, probabilities, labels, track, probabilities, steady))
            result = FrameResult(f"videos/{stem} $a$.mp4", index, index / 10, (90, 60), tuple(faces))
            records.write(make_records(result, "base", "haar"))
    return Path(f"{stem}.records.{name}")


def test_the_plots_of_one_clip(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a", [1] * 30 + [0] * 10 + [1] * 20, people=8)
    assert main(["plot", str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "a (videos/a $a$.mp4): 8 persons, 2 changes, 2.5 a minute on screen"
    assert outputs() == ["a.expressions.png", "a.plots.json", "a.transitions.png"]
    (clip,) = json.loads(Path("mien-out/a.plots.json").read_text())["clips"]
    assert clip["people"][0]["share"] == {"sad": 0.1667, "happy": 0.8333, "neutral": 0}
    assert clip["transitions"]["persons"][0]["counts"] == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    for name in ("a.expressions.png", "a.transitions.png"):
        picture = Image.open(f"mien-out/{name}").convert("RGBA")
        assert picture.getextrema()[3] == (255, 255)  # paper of its own: readable on dark pages too
        assert np.asarray(picture)[0, 0].tolist() == [255] * 4


def test_two_clips_are_compared_on_the_same_axes(capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write("a", [1] * 30 + [0] * 10, name="jsonl"), write("b", [1] * 10 + [2] * 10)
    assert main(["plot", str(a), str(b), "--json", "--out", "p"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(Path("p/a-b.plots.json").read_text())
    assert "a-b.compared.png" in outputs("p")
    assert said["compared"]["share"] == {
        "sad": {"first": 0.25, "second": 0, "difference": -0.25},
        "happy": {"first": 0.75, "second": 0.5, "difference": -0.25},
        "neutral": {"first": 0, "second": 0.5, "difference": 0.5},
    }
    drawn = np.asarray(Image.open("p/a-b.compared.png").convert("RGB")).astype(int)
    happy = np.abs(drawn - (0xE6, 0xB8, 0x00)).sum(axis=2) < 12  # the color of happy
    rows = np.flatnonzero(happy.any(axis=1))
    first, second = np.split(rows, [int(np.diff(rows).argmax()) + 1])
    widths = [
        np.ptp(np.flatnonzero(happy[part[len(part) // 2]][: drawn.shape[1] * 8 // 10])) for part in (first, second)
    ]
    assert widths[0] / widths[1] == pytest.approx(3, rel=0.05)  # 3 s and 1 s


def test_the_same_name_twice_and_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a", [1, 1, 0])
    assert main(["plot", str(path), str(path), "-q", "--out", "p"]) == 0
    assert capsys.readouterr().out == ""
    assert "a-a-2.compared.png" in outputs("p")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["absent.csv"], "absent.csv: does not exist; check the path"),
        (["a", "b", "c"], "RECORDS: 3 files; name one, or two to compare"),
        (["a.records.csv", "five.records.csv"], "has the labels sad, happy, a.records.csv has sad, happy, neutral"),
        (["nobody.records.csv"], "holds no record: no face was seen"),
        (["text.csv"], "is not records: there is no column"),
    ],
)
def test_wrong_input_is_one_line(names: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write("a", [1, 0])
    write("five", [1, 0], labels=("sad", "happy"))
    write("nobody", [])
    Path("text.csv").write_text("a,b\n1,2\n")
    assert main(["plot", *names]) == 2
    assert message in complaint(capsys)
    assert not Path("mien-out").exists()


def test_of_a_sampled_part_the_plots_say_what_the_summary_says() -> None:
    make_clip(Path("c.mp4"), seconds=2, size_wh=(320, 240), fps=Fraction(15), sound=None)
    assert main(["analyze", "c.mp4", "--detector", "haar", "--every", "0.3", "--from", "0.5", "--no-media", "-q"]) == 0
    assert main(["plot", "mien-out/c.records.csv", "-q"]) == 0
    summary = json.loads(Path("mien-out/c.summary.json").read_text())
    (clip,) = json.loads(Path("mien-out/c.plots.json").read_text())["clips"]
    for key in ("people", "not_faces", "share", "mean", "sure_share", "peaks"):
        assert clip[key] == summary[key]
    assert summary["people"][0]["on_screen_s"] == pytest.approx(1.5, abs=0.05)
    assert summary["people"][0]["first_s"] == pytest.approx(0.5, abs=0.05)  # as a player shows it


def test_a_baseline_is_subtracted(capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a", [2] * 20 + [1] * 20, people=2)
    assert main(["plot", str(path), "--baseline", "0:00-0:02"]) == 0
    assert {"a.baseline.png", "a.baseline.csv"} < set(outputs())
    (clip,) = json.loads(Path("mien-out/a.plots.json").read_text())["clips"]
    assert (clip["baseline"]["from_s"], clip["baseline"]["to_s"]) == (0, 2)
    first, second = sorted(clip["baseline"]["persons"], key=lambda person: person["person"])
    assert first["difference"] == {"sad": 0.0, "happy": 0.7, "neutral": -0.7}
    assert second["difference"] == {"sad": 0.0, "happy": 0.0, "neutral": 0.0}
    capsys.readouterr()
    for text, problem in {
        "0:10": "--baseline 0:10: is no period; as in --baseline 0:00-0:10", "2-1": "--baseline 2-1: ends before it begins",
        "a-b": "--baseline a: is no time", "60-70": "nobody is seen from 60 s to 70 s; choose another period for --baseline",
    }.items():  # fmt: skip
        assert main(["plot", str(path), "--baseline", text, "--out", "none"]) == 2
        assert problem in complaint(capsys)
    assert not Path("none").exists()


def test_people_without_a_baseline_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(Path("late"), {0: ["happy"] * 50, 1: [None] * 25 + ["happy"] * 25})
    assert main(["plot", str(path), "--baseline", "0-1"]) == 0
    assert "late.records.csv: not seen in the period of --baseline: person 2\n" in capsys.readouterr().err
    (clip,) = json.loads(Path("mien-out/late.plots.json").read_text())["clips"]
    assert [person["difference"] is None for person in clip["baseline"]["persons"]] == [False, True]
