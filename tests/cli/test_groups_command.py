"""`mien groups` from end to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mien.analysis.people.records import read_clip
from mien.cli.main import main
from tests.analysis.made_records import write_clip_records
from tests.cli.conftest import complaint, outputs


def write_groups(count: int = 3) -> None:
    """In each clip of the second group somebody is happy for longer."""
    for group, first in (("calm", 5), ("tense", 25)):
        Path(group).mkdir()
        for index in range(count):
            happy = first + index
            write_clip_records(Path(group, f"clip{index}"), {0: ["happy"] * happy + ["neutral"] * (50 - happy)})


def test_two_groups_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    write_groups()
    assert main(["groups", "--group", "calm=calm", "--group", "tense=tense", "--measure", "share", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(Path("mien-out/groups.json").read_text())
    assert outputs() == ["groups.csv", "groups.json", "groups.png"]
    assert [clip["happy"] for clip in said["clips"]["calm"]] == [0.1, 0.12, 0.14]
    assert said["groups"]["tense"]["happy"]["mean"] == 0.52
    happy = next(test for test in said["compared"] if test["label"] == "happy")
    assert (happy["first"], happy["second"], happy["difference"]) == ("calm", "tense", 0.4)
    assert happy["p"] == 0.1 and happy["p_holm"] == 0.3  # 2 of 20 divisions; three labels
    assert happy["hedges_g"] == pytest.approx(0.4 / 0.02 * (1 - 3 / 15), abs=1e-3)
    angry = next(test for test in said["compared"] if test["label"] == "angry")
    assert (angry["difference"], angry["hedges_g"], angry["p"]) == (0.0, None, 1.0)
    with Path("mien-out/groups.csv").open(newline="") as file:
        rows = {row["label"]: row for row in csv.DictReader(file)}
    assert (rows["happy"]["difference"], rows["angry"]["hedges_g"]) == ("0.4", "")


def test_files_add_up_and_means_are_those_of_people(capsys: pytest.CaptureFixture[str]) -> None:
    write_groups(2)
    files = [f"--group=calm=calm/clip{index}.records.csv" for index in (0, 1)]
    assert main(["groups", *files, "--group", "tense=tense"]) == 0
    assert "mean over clips, with 95 % intervals" in capsys.readouterr().out
    said = json.loads(Path("mien-out/groups.json").read_text())
    mean = read_clip("calm/clip1.records.csv").people().mean[1]
    assert said["clips"]["calm"][1]["happy"] == pytest.approx(mean, abs=1e-4)


def test_the_table_of_all_inputs_is_no_clip(capsys: pytest.CaptureFixture[str]) -> None:
    write_groups(2)
    rows = [Path("calm", f"clip{index}.records.csv").read_text().splitlines() for index in (0, 1)]
    other = [line.replace("clip.mp4", "other.mp4") for line in rows[1][1:]]
    Path("calm/all.records.csv").write_text("\n".join([*rows[0], *other]) + "\n")
    table = Path("tense/clip0.records.csv").read_text()
    Path("tense/all.records.csv").write_text(table.replace("clip.mp4", "all.mp4"))
    assert main(["groups", "--group", "calm=calm", "--group", "tense=tense", "--json"]) == 0
    clips = json.loads(capsys.readouterr().out)["clips"]
    assert (len(clips["calm"]), len(clips["tense"])) == (2, 3)  # in the second group a clip is called all


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--group", "calm=calm"], "--group: fewer than two groups"),
        (["--group", "calm=calm", "--group", "b=tense/clip0.records.csv"], "--group b: has fewer than two clips"),
        (["--group", "calm"], "--group calm: names no group and records; as in --group calm=FOLDER"),
        (["--group", "a=calm", "--group", "a=calm/clip0.records.csv"], "--group a: names a file twice"),
        (["--group", "a=calm", "--group", "b=tense", "--group", "b=calm/clip1.records.csv"], "--group b: has clip1.records.csv, which is in a, too"),
        (["--group", "a=calm", "--group", "b=none.csv"], "none.csv: does not exist"),
        (["--group", "a=calm", "--group", "b=empty"], "empty: has no records"),
        (["--group", "a=calm", "--group", "b=tense", "--measure", "sum"], "--measure sum: is unknown; choose from mean, share"),
        (["--group", "a=calm", "--group", "b=other"], "has the labels sad, happy"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(options: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_groups(2)
    for name in ("empty", "other"):
        Path(name).mkdir()
    for index in range(2):
        write_clip_records(Path("other", f"clip{index}"), {0: ["happy"] * 3}, labels=("sad", "happy"))
    assert main(["groups", *options]) == 2
    assert problem in complaint(capsys)
    assert not Path("mien-out").exists()
