"""`mien people`: listed, merged, split and named; other commands follow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pympi import Elan

from mien.analysis.output.plots import summarize_records
from mien.analysis.people.records import read_clip
from mien.cli.main import main
from tests.analysis.made_records import write_clip_records
from tests.cli.conftest import complaint

SHOWN = {0: ["happy"] * 50, 1: ["neutral"] * 150, 2: [None] * 75 + ["happy"] * 25 + ["angry"] * 50}
TABLE = Path("clip.people.csv")


@pytest.fixture
def path() -> Path:
    return write_clip_records(Path("clip"), SHOWN)


def test_people_are_listed_and_nothing_is_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["people", str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 persons"
    assert printed[2].split() == ["2", "6.0", "s", "0.0", "s", "6.0", "s", "neutral", "100%"]
    assert not TABLE.exists()


def test_other_commands_follow(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = path.read_bytes()
    assert main(["people", str(path), "--merge", "1,3", "--name", "1=Anna", "--split", "2@0:04", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [(one["person"], one.get("name"), one["on_screen_s"]) for one in said["people"]] == [
        (1, "Anna", 5.0), (2, None, 4.0), (4, None, 2.0)
    ]  # fmt: skip
    assert TABLE.read_text() == "track,person,name,from_s,to_s\n0,1,Anna,,\n1,2,,,4.0\n1,4,,4.0,\n2,1,Anna,,\n"
    assert main(["events", str(path), "--format", "eaf"]) == 0
    tiers = {name for name in Elan.Eaf("mien-out/clip.events.eaf").get_tier_names() if "peaks" not in name}
    assert tiers == {"Anna happy", "Anna angry", "person 2 neutral", "person 4 neutral"}
    Path("coded.csv").write_text("start,end,label,person\n0,2,happy,anna\n4,6,neutral,4\n")
    assert main(["agreement", str(path), "coded.csv", "--quiet"]) == 0
    assert json.loads(Path("mien-out/clip.agreement.json").read_text())["kappa"][0]["value"] == 1.0
    clip = read_clip(path)  # as mien plot reads it
    plotted = summarize_records(clip, clip.people())
    assert [one.get("name") for one in plotted["people"]] == ["Anna", None, None]
    assert path.read_bytes() == before


def test_corrections_add_up_and_are_forgotten(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["people", str(path), "--split", "1@1", "--quiet"]) == 0
    assert main(["people", str(path), "--merge", "4,3", "--name", "4=Zoë", "--quiet"]) == 0
    assert main(["people", str(path), "--json"]) == 0
    assert [(one["person"], one["on_screen_s"]) for one in json.loads(capsys.readouterr().out)["people"]] == [
        (2, 6.0), (4, 4.0), (1, 1.0)
    ]  # fmt: skip
    assert main(["people", str(path), "--name", "4=", "--quiet"]) == 0
    assert "Zoë" not in TABLE.read_text(encoding="utf-8")
    assert main(["people", str(path), "--reset"]) == 0
    assert "removed clip.people.csv" in capsys.readouterr().out and not TABLE.exists()
    assert main(["people", str(path), "--reset"]) == 0
    assert "there were no corrections" in capsys.readouterr().out


def test_a_later_correction_adds_no_rows(path: Path) -> None:
    assert main(["people", str(path), "--split", "2@4", "--quiet"]) == 0
    before = TABLE.read_text(encoding="utf-8")
    for name in ("Anna", ""):
        assert main(["people", str(path), "--name", f"2={name}", "--quiet"]) == 0
    assert TABLE.read_text(encoding="utf-8") == before


def test_the_timeline_page_and_the_stills_have_the_names(path: Path) -> None:
    from mien.analysis.output.timeline_page import write_timeline_page

    assert main(["people", str(path), "--name", "2=</script>&", "--quiet"]) == 0
    write_timeline_page(read_clip(path).people(), Path("page.html"), "clip.mp4", None)
    page = Path("page.html").read_text(encoding="utf-8")
    assert "&lt;/script&gt;&amp;" in page
    assert page.count("</script>&") == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--merge", "1"], "--merge 1: is one person"),
        (["--merge", "1,9"], "--merge 9: is no person of these records; choose from 1, 2, 3"),
        (["--merge", "1-3"], "--merge 1-3: names no people; as in --merge 1,3"),
        (
            ["--merge", "1,2"],
            "--merge 1,2: persons 1 and 2 are both seen at 0.00 s; merge people who are never seen together",
        ),
        (["--merge", "1,3", "--merge", "1,2"], "--merge 1,2: persons 1 and 2 are both seen at 0.00 s"),
        (["--split", "1"], "--split 1: names no person and time; as in --split 2@1:30"),
        (["--split", "1@soon"], "--split soon: is no time"),
        (["--split", "1@30"], "--split 1@30: person 1 is not seen after that"),
        (["--name", "Anna"], "--name Anna: names no person; as in --name 1=Anna"),
        (["--name", "1=" + "x" * 81], "cannot be used; at most 80 letters"),
        (["--name", "1=A", "--name", "2=A"], "--name 2=A: is the name of person 1; choose another name, or merge them"),
    ],
)
def test_bad_corrections_are_refused(
    path: Path, options: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["people", str(path), *options]) == 2
    assert problem in complaint(capsys)
    assert not TABLE.exists()


def test_missing_records_and_nobody_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip_records(Path("nobody"), {0: [None] * 3})
    for name in ("none.records.csv", "nobody.records.csv"):
        assert main(["people", name]) == 2
        assert name in complaint(capsys)
