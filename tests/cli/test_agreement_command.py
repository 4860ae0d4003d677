"""`mien agreement` from end to end, its figures compared with scikit-learn and krippendorff."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import krippendorff
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from mien.analysis.people.agreement import make_grid, measure_agreement
from mien.analysis.people.annotations import read_annotations
from mien.analysis.people.records import read_clip
from mien.cli.main import main
from tests.analysis.made_records import write_clip_records
from tests.cli.conftest import complaint, outputs

#: pingouin 0.7, ICC(A,1) and ICC(C,1) of the table that `mien agreement` writes: s_<label> and both codes, as 0 and 1.
PINGOUIN = {"angry": (0.568230, 0.630273), "happy": (0.493269, 0.586664), "neutral": (0.335611, 0.418142)}
LABELS = ("angry", "happy", "neutral", "contempt")
SHOWN = {0: ["happy"] * 50 + ["angry"] * 50 + ["neutral"] * 50, 1: ["neutral"] * 100 + [None] * 20 + ["happy"] * 30,
         2: ["angry"] * 75 + ["happy"] * 75}  # fmt: skip
CODED = """start,end,label,person,annotator
0,2.5,happy,1,A
2.5,5,angry,person 1,A
0,1.5,joy,1,B
1.5,6,angry,1,B
0,4,neutral,2,A
4,6,happy,2,A
0,6,contempt,2,B
0,3,anger,3,A
3,6,happiness,3,A
0,6,angry,3,B
0,6,speaks,3,B
"""


@pytest.fixture
def files() -> tuple[Path, Path]:
    Path("coded.csv").write_text(CODED)
    return write_clip_records(Path("clip"), SHOWN), Path("coded.csv")


def columns(path: str) -> dict[str, list[str]]:
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_the_figures_are_those_of_the_references(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agreement", *map(str, files), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(Path("mien-out/clip.agreement.json").read_text())
    assert outputs() == ["clip.agreement.csv", "clip.agreement.json"]
    table = columns("mien-out/clip.agreement.csv")
    shown, a, b = (np.array(table[name]) for name in ("shown", "coded_A", "coded_B"))
    assert len(shown) == 60 + 52 + 60  # the second person is out of sight for 0.8 s
    pairs = {("A", "mien"): (a, shown), ("B", "mien"): (b, shown), ("A", "B"): (a, b)}
    for one in said["kappa"]:
        first, second = pairs[one["annotator"], one["with"]]
        both = (first != "") & (second != "")  # A left the last second of the first person blank
        first, second = first[both], second[both]
        assert one["value"] == pytest.approx(cohen_kappa_score(first, second), abs=1e-4)
        assert one["equal"] == pytest.approx((first == second).mean(), abs=1e-4)
        assert one["seconds"] == (16.2 if "A" in (one["annotator"], one["with"]) else 17.2)
        low, high = one["interval"]
        assert low <= one["value"] <= high
    codes = np.array([[LABELS.index(name) if name else np.nan for name in row] for row in (shown, a, b)])
    for name, rows in (("with_mien", codes), ("annotators", codes[1:])):
        expected = krippendorff.alpha(reliability_data=rows, level_of_measurement="nominal")
        assert said["alpha"][name]["value"] == pytest.approx(expected, abs=1e-4)
    pooled = confusion_matrix(np.concatenate([a, b]), np.concatenate([shown, shown]), labels=[*LABELS])
    np.testing.assert_allclose(said["confusion_s"], 0.1 * pooled, atol=1e-3)
    assert (said["classes"], said["ignored"]) == (list(LABELS), {"speaks": 1})


def test_correlations_are_of_the_smoothed_probabilities(files: tuple[Path, Path]) -> None:
    """Compared with pingouin's `intraclass_corr`, whose answers are stored here."""
    assert main(["agreement", *map(str, files), "--quiet"]) == 0
    said = json.loads(Path("mien-out/clip.agreement.json").read_text())["icc"]
    found = {name: (one["absolute_agreement"]["value"], one["consistency"]["value"]) for name, one in said.items()}
    assert found == {name: pytest.approx(values, abs=6e-5) for name, values in PINGOUIN.items()}


def test_text_says_the_same(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agreement", *map(str, files), "--grid", "0.5"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("17 s of 3 people compared, every 0.5 s")
    assert "A and mien" in printed.out and "ICC(2,1)" in printed.out
    assert "annotations that are no expressions are left out: 'speaks' (1)" in printed.err


def test_perfect_agreement_is_one(tmp_path: Path) -> None:
    path = write_clip_records(tmp_path / "clip", SHOWN)
    assert main(["events", str(path), "--format", "eaf", "--out", "."]) == 0
    clip = read_clip(path)
    said = measure_agreement(make_grid(clip, read_annotations("clip.events.eaf"), 0.04), 0.04)
    assert (said["kappa"][0]["value"], said["kappa"][0]["interval"]) == (1.0, [1.0, 1.0])
    assert said["seconds"] == pytest.approx(6 + 5.2 + 6)


def test_times_left_blank_are_compared_where_a_label_is_given_for_them() -> None:
    path = write_clip_records(Path("clip"), {0: ["happy"] * 50 + ["neutral"] * 50 + ["happy"] * 50})
    Path("coded.csv").write_text("start,end,label\n0,2,happy\n4,6,happy\n")
    for options, seconds, kappa in ([], 4.0, None), (["--blank", "neutral"], 6.0, 1.0):
        assert main(["agreement", str(path), "coded.csv", "--quiet", *options]) == 0
        said = json.loads(Path("mien-out/clip.agreement.json").read_text())
        (one,) = said["kappa"]
        assert (said["seconds"], one["value"], one["interval"]) == (seconds, kappa, None)  # one person: no interval


def test_one_person_is_counted_in_words_and_zero_has_no_sign(capsys: pytest.CaptureFixture[str]) -> None:
    path = write_clip_records(Path("clip"), {0: ["happy"] * 50})
    Path("coded.csv").write_text("start,end,label\n0,1,happy\n1,2,angry\n")
    assert main(["agreement", str(path), "coded.csv"]) == 0
    assert capsys.readouterr().out.startswith("2 s of one person compared")
    assert "-0.0," not in Path("mien-out/clip.agreement.json").read_text()


@pytest.mark.parametrize(
    ("text", "options", "problem"),
    [
        ("start,end,label\n0,2,happy\n", [], "names no person, and 3 people are seen; add a column person, or choose one with --person"),
        ("start,end,label,person\n0,2,happy,Zoe\n0,2,happy,1\n", [], "names 'Zoe', who is not in the records; name one of person 1, person 2"),
        ("start,end,label,person\n0,2,happy,1\n", ["--person", "9"], "--person 9: is not seen; choose one of 1, 2, 3"),
        ("start,end,label,person\n70,72,happy,1\n", [], "nobody is seen at a time that was coded"),
        ("start,end,label,person\n0,2,happy,1\n", ["--grid", "0"], "--grid 0: is not in 0.001..60 seconds"),
        ("start,end,label,person\n0,2,happy,1\n", ["--blank", "neutrl"], "--blank neutrl: is no expression; choose from angry, happy, neutral"),
        (None, [], "coded.csv: does not exist"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(
    text: str | None, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_clip_records(Path("clip"), SHOWN)
    if text is not None:
        Path("coded.csv").write_text(text)
    assert main(["agreement", str(path), "coded.csv", *options]) == 2
    assert problem in complaint(capsys)
    assert not Path("mien-out").exists()
