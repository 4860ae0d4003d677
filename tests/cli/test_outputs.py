"""Whose outputs lie where: inputs of the same name, very long names, formulas as names, and outputs chosen one by one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.analysis.media.inputs import Input
from mien.analysis.ownership import Ownership
from mien.cli.main import main
from mien.core.errors import OutputError
from mien.core.files import hidden_sibling
from mien.core.locks import hold_lock

#: Nothing is searched for, and records alone are written.
QUICK = ["--detector", "none", "--no-media", "-q"]


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40), value, np.uint8)).save(path)
    return path


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    make_clip(path, seconds=0.2, size_wh=(64, 48), sound=None)
    return path


def sources(table: Path) -> set[str]:
    return {json.loads(line)["source"] for line in table.read_text().splitlines()}


def written() -> list[str]:
    return sorted(path.name for path in Path("mien-out").iterdir() if not path.name.startswith("."))


def test_another_input_of_the_same_name_does_not_overwrite_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        picture(Path(f"S{number}/face.png"), 60 * number)
        assert main(["analyze", f"S{number}/face.png", *QUICK]) == 0
    out = Path("mien-out")
    assert sources(out / "face.records.jsonl") == {"S1/face.png"}
    assert sources(out / "face.png.records.jsonl") == {"S2/face.png"}
    assert sources(out / "face.png-2.records.jsonl") == {"S3/face.png"}
    told = capsys.readouterr().err.splitlines()
    owner = Path("S1/face.png").absolute()
    assert told[0] == f"mien: S2/face.png: its outputs are named face.png.*, since face.* are those of {owner}"
    before = written()
    for number in (3, 1, 2):  # each finds its own again, however it is named
        assert main(["analyze", str(Path(f"S{number}/face.png").absolute()), *QUICK]) == 0
    assert written() == before
    assert sources(out / "face.png.records.jsonl") == {str(Path("S2/face.png").absolute())}


def test_a_name_is_free_again_when_its_outputs_are_gone() -> None:
    picture(Path("a/face.png"), 60), picture(Path("b/face.png"), 90)
    assert main(["analyze", "a/face.png", *QUICK]) == 0
    for path in Path("mien-out").glob("face.*"):
        path.unlink()
    assert main(["analyze", "b/face.png", *QUICK]) == 0
    assert sources(Path("mien-out/face.records.jsonl")) == {"b/face.png"}


def test_a_summary_without_the_list_of_outputs_still_says_whose_it_is() -> None:
    video(Path("a/clip.mp4")), video(Path("b/clip.mp4"))
    assert main(["analyze", "a/clip.mp4", "--outputs", "none", *QUICK]) == 0
    Path("mien-out/.outputs.jsonl").unlink()
    assert main(["analyze", "b/clip.mp4", "--outputs", "none", *QUICK]) == 0
    assert json.loads(Path("mien-out/clip.summary.json").read_text())["source"] == "a/clip.mp4"
    assert json.loads(Path("mien-out/clip.mp4.summary.json").read_text())["source"] == "b/clip.mp4"


def test_old_media_beside_new_records_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("face.png"), 60)
    assert main(["analyze", "face.png", "--detector", "none", "-q"]) == 0
    assert main(["analyze", "face.png", *QUICK, "--tta", "flip"]) == 0
    told = capsys.readouterr().err
    assert (
        told
        == "mien: face.png: mien-out/face.annotated.png beside its outputs come from an earlier run with other settings\n"
    )


def test_corrections_of_an_earlier_analysis_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    video(Path("clip.mp4"))
    table = Path("mien-out/clip.people.csv")
    assert main(["analyze", "clip.mp4", *QUICK]) == 0
    assert str(table) not in capsys.readouterr().err
    assert main(["people", "mien-out/clip.records.csv", "--name", "1=Anna", "-q"]) == 0
    assert main(["analyze", "clip.mp4", *QUICK]) == 0
    assert f"clip.mp4: {table} corrects the people of an earlier analysis" in capsys.readouterr().err
    assert table.exists()


@pytest.mark.parametrize("letter", ["a", "ü", "日"])
def test_a_name_that_is_as_long_as_a_file_system_takes_is_shortened(letter: str) -> None:
    length = 243 // len(letter.encode())
    first, second = letter * (length - 1) + "x", letter * (length - 1) + "y"
    for name in (first, second):
        picture(Path(f"{name}.png"), 60)
    assert main(["analyze", f"{first}.png", f"{second}.png", "--detector", "none", "-q"]) == 0
    names = [name for name in written() if name.endswith(".annotated.png")]
    assert len(names) == 2
    assert all(name.startswith(letter * (200 // len(letter.encode()))) for name in names)
    assert max(len(name.encode()) for name in written()) <= 255


def test_a_file_named_like_a_formula_is_text_in_a_spreadsheet_and_itself_for_us() -> None:
    picture(Path("=cmd|calc.png"), 60)
    assert main(["analyze", "=cmd|calc.png", "--format", "csv", *QUICK]) == 0
    table = Path("mien-out/=cmd|calc.records.csv")
    with table.open(newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == ["'=cmd|calc.png"]
    from mien.analysis.people.records import iterate_rows

    assert [row["source"] for rows in iterate_rows(table) for row in rows] == ["=cmd|calc.png"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--no-media"], ["summary.json", "timeline.html", "timeline.png", "vtt"]),
        (["--outputs", "timeline"], ["summary.json", "timeline.png"]),
        (["--outputs", "media,captions"], ["annotated.mp4", "summary.json", "vtt"]),
        (["--outputs", "none"], ["summary.json"]),
    ],
)
def test_outputs_of_a_video_are_chosen_one_by_one(options: list[str], expected: list[str]) -> None:
    video(Path("clip.mp4"))
    assert main(["analyze", "clip.mp4", "--detector", "none", "--format", "csv", "-q", *options]) == 0
    assert [name for name in written() if name.startswith("clip")] == sorted(
        f"clip.{name}" for name in [*expected, "records.csv"]
    )


def test_an_unknown_output_lists_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "x.jpg", "--outputs", "media,film"]) == 2
    assert capsys.readouterr().err == (
        "mien: --outputs film: is unknown; choose from media, captions, timeline, page, or none\n"
    )


def test_the_pages_of_many_videos_share_one_script() -> None:
    pytest.importorskip("plotly")
    video(Path("in/a.mp4")), video(Path("in/deep/b.mp4"))
    assert main(["analyze", "in", "--detector", "none", "--outputs", "page", "-q"]) == 0
    (script,) = Path("mien-out").rglob("*.js")
    assert script.stat().st_size > 1e6
    for page, address in (("a.timeline.html", script.name), ("deep/b.timeline.html", f"../{script.name}")):
        text = Path("mien-out", page).read_text()
        assert f'<script src="{address}"' in text
        assert len(text) < 100_000
        assert (Path("mien-out", page).parent / address).resolve() == script.resolve()


def test_two_processes_do_not_write_the_same_outputs(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("mien.core.locks.time.monotonic", iter(range(0, 10_000, 10)).__next__)
    picture(Path("a.png"), 60), picture(Path("b.png"), 90)
    out = Path("mien-out")
    with hold_lock(hidden_sibling(out / "a", "lock"), "a", "wait"):
        assert main(["analyze", "a.png", *QUICK]) == 2
        assert main(["analyze", "b.png", *QUICK]) == 0  # another process may write other outputs there
    told = capsys.readouterr().err
    assert told.startswith("mien: mien-out/a.*: is being written by process ")
    assert told.endswith("; wait for it, or choose another folder with --out\n")
    with hold_lock(out / ".manifest.lock", out, "wait"):
        assert main(["analyze", "a.png", "b.png", *QUICK]) == 2
    assert capsys.readouterr().err.startswith("mien: mien-out: is being written by process ")


def test_two_processes_that_begin_at_once_do_not_overwrite_inputs_of_one_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = picture(Path("S1/face.png"), 60), picture(Path("S2/face.png"), 90)
    real, codes = Ownership.claim_stem, []

    def begin(self: Ownership, item: Input) -> None:  # the other process is through before this one has its turn
        if not codes:
            codes.append(None)
            ours = hidden_sibling(self._out / item.stem, "lock")
            ours.rename(away := ours.with_suffix(".away"))
            codes[0] = main(["analyze", str(first), *QUICK])
            away.rename(ours)
        real(self, item)

    monkeypatch.setattr(Ownership, "claim_stem", begin)
    assert main(["analyze", str(second), *QUICK]) == 2
    assert codes == [0]
    owner = first.absolute()
    assert capsys.readouterr().err == (
        f"mien: mien-out/face.*: are those of {owner}, which another process analyzed meanwhile; "
        "run the same analysis again\n"
    )
    assert sources(Path("mien-out/face.records.jsonl")) == {"S1/face.png"}
    assert str(owner) in Path("mien-out/.outputs.jsonl").read_text()
    assert main(["analyze", str(second), *QUICK]) == 0
    assert sources(Path("mien-out/face.png.records.jsonl")) == {"S2/face.png"}


def test_records_that_are_not_listed_yet_belong_to_the_input_that_was_begun() -> None:
    out, settings = Path("mien-out"), {"model": "base"}
    out.mkdir()
    mine, other = (Input(picture(Path(f"S{number}/face.png"), 60), Path("face")) for number in (1, 2))
    here, there = Ownership(out, settings), Ownership(out, settings)
    here.claim_stem(mine)
    assert there.is_free(Path("face"), other)
    (out / "face.records.csv").touch()
    with pytest.raises(OutputError, match="which another process analyzed meanwhile; run the same analysis again"):
        there.claim_stem(other)
    there.remove_unused()
    assert Ownership(out, settings).find_owner(Path("face")) == str(Path("S1/face.png").absolute())


def test_an_input_that_fails_leaves_the_manifest_of_others() -> None:
    picture(Path("a.png"), 60), picture(Path("b.png"), 90)
    Path("broken.png").write_bytes(b"no picture")
    assert main(["analyze", "a.png", "b.png", *QUICK]) == 0
    assert main(["analyze", "broken.png", "--resume", *QUICK]) == 2
    lines = [json.loads(line) for line in Path("mien-out/manifest.jsonl").read_text().splitlines()]
    states = {line["source"]: line["state"] for line in lines if "source" in line}
    assert states == {"a.png": "done", "b.png": "done", "broken.png": "failed"}
