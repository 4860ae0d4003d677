from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.cli.main import main
from tests.cli.conftest import complaint, outputs
from tests.conftest import ASTRONAUT, ROOT, patterns


def test_a_photograph_gives_a_table_and_its_outputs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(ASTRONAUT)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{ASTRONAUT}: 1 face"
    head, values = printed[1].split(), printed[2].split()
    assert head == [
        "face",
        "expression",
        "angry",
        "disgust",
        "fear",
        "happy",
        "sad",
        "surprise",
        "neutral",
        "x1",
        "y1",
        "x2",
        "y2",
    ]
    assert values[1] == "happy"
    assert sum(float(value) for value in values[2:9]) == pytest.approx(1, abs=0.004)
    assert (
        printed[3]
        == "  wrote mien-out/astronaut.annotated.jpg, mien-out/astronaut.records.jsonl, mien-out/astronaut.records.csv"
    )
    assert outputs() == ["astronaut.annotated.jpg", "astronaut.records.csv", "astronaut.records.jsonl"]
    assert Image.open("mien-out/astronaut.annotated.jpg").size == (512, 512)


def test_faces_are_hidden_and_records_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(ASTRONAUT), "--quiet"]) == 0
    assert main(["analyze", str(ASTRONAUT), "--quiet", "--blur", "box", "--out", "hidden"]) == 0
    name = "astronaut.records.csv"
    assert Path("hidden", name).read_text() == Path("mien-out", name).read_text()
    with (
        Image.open("hidden/astronaut.annotated.jpg") as hidden,
        Image.open("mien-out/astronaut.annotated.jpg") as shown,
    ):
        black = (np.asarray(hidden).max(axis=2) < 20) & (np.asarray(shown).max(axis=2) > 60)
    assert black.mean() > 0.02
    capsys.readouterr()
    assert main(["analyze", str(ASTRONAUT), "--blur", "mosaic"]) == 2
    assert "--blur mosaic: is unknown; choose from off, blur, box" in complaint(capsys)


def test_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(ASTRONAUT), "--json", "--no-media", "--format", "csv"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["model"], document["detector"], document["failures"]) == ("base", "haar", [])
    (record,) = document["inputs"][0]["records"]
    assert record["label"] == "happy"
    assert outputs() == ["astronaut.records.csv"]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", str(ASTRONAUT), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_no_face_is_said_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((90, 120, 3), 80, np.uint8)).save("blank.png")
    assert main(["analyze", "blank.png"]) == 0
    assert "blank.png: no face found (if the picture is itself a face: --detector none)" in capsys.readouterr().out
    assert outputs() == ["blank.annotated.png", "blank.records.csv", "blank.records.jsonl"]


def test_a_crop_is_a_face_without_a_detector() -> None:
    Image.fromarray(patterns(1).images[0]).save("crop.png")
    assert main(["analyze", "crop.png", "--detector", "none", "-q"]) == 0
    record = json.loads(Path("mien-out/crop.records.jsonl").read_text())
    assert (record["x2"], record["y2"], record["score"], record["detector"]) == (48, 48, None, "none")


def test_one_bad_input_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/deep").mkdir(parents=True)
    Path("in/bad.jpg").write_text("no picture")
    Path("in/deep/a.jpg").write_bytes(ASTRONAUT.read_bytes())
    make_clip(Path("in/clip.mp4"), seconds=0.4, sound=None)
    assert main(["analyze", "in", "absent.png"]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "mien: in/bad.jpg: is not a picture in a format that is read here; give a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC file",
        "mien: absent.png: does not exist; check the path",
        "mien: 2 of 4 inputs failed; the rest is done",
    ]
    assert "all records in one table: mien-out/all.records.jsonl" in out
    rows = Path("mien-out/all.records.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} == {"in/deep/a.jpg", "in/clip.mp4"}
    assert {"deep/a.annotated.jpg", "clip.annotated.mp4", "clip.summary.json", "all.records.csv"} <= set(outputs())


def test_if_all_of_several_inputs_fail_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.jpg").write_text("no picture")
    assert main(["analyze", "bad.jpg", "absent.png"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert outputs() == []


def test_a_name_that_no_file_system_takes_costs_one_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyze", "x" * 300, str(ASTRONAUT), "-q"]) == 1
    assert "xxx: does not exist; check the path" in capsys.readouterr().err
    assert "astronaut.annotated.jpg" in outputs()


def test_an_unforeseen_error_costs_one_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.analysis.recognizer import Recognizer

    real = Recognizer.read_picture

    def breaks(self: Recognizer, picture: Path) -> np.ndarray:
        if "a.jpg" in str(picture):
            raise RuntimeError("two\nlines")
        return real(self, picture)

    monkeypatch.setattr(Recognizer, "read_picture", breaks)
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(ASTRONAUT.read_bytes())
    assert main(["analyze", "a.jpg", "b.jpg", "-q"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mien: a.jpg: unexpected RuntimeError: two lines; set MIEN_DEBUG=1")
    assert lines[1] == "mien: 1 of 2 inputs failed; the rest is done"
    assert "b.annotated.jpg" in outputs()


def test_outputs_beside_the_inputs_are_not_analyzed_again() -> None:
    Path("a.jpg").write_bytes(ASTRONAUT.read_bytes())
    for _ in range(2):
        assert main(["analyze", ".", "--out", ".", "-q"]) == 0
        assert outputs(".") == ["a.annotated.jpg", "a.jpg", "a.records.csv", "a.records.jsonl"]


def test_a_full_or_protected_disk_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        assert main(["analyze", str(ASTRONAUT)]) == 2
    assert "cannot be written (No space left on device); choose another place with --out" in complaint(capsys)
    assert outputs() == []
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    assert main(["analyze", str(ASTRONAUT)]) == 2
    assert "mien-out: is not writable; choose another folder with --out" in complaint(capsys)


def test_a_video_cut_off_is_partly_done(capsys: pytest.CaptureFixture[str]) -> None:
    make_clip(Path("clip.mkv"), seconds=4, size_wh=(160, 120))
    Path("cut.mkv").write_bytes(Path("clip.mkv").read_bytes()[:20_000])
    assert main(["analyze", "cut.mkv", "-q"]) == 1  # said though quiet: it is an error
    assert "s of the 4.00 s it states; what was read is kept" in complaint(capsys)
    assert "cut.annotated.mp4" in outputs()


def test_a_truncated_picture_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.jpg").write_bytes(ASTRONAUT.read_bytes()[:60_000])
    assert main(["analyze", "cut.jpg"]) == 2
    assert "cut.jpg: is cut off: the file ends before the picture does; copy it again, or analyze" in complaint(capsys)
    assert outputs() == []
    assert main(["analyze", "cut.jpg", "--allow-truncated"]) == 0
    assert "1 face" in capsys.readouterr().out


def test_a_missing_extra_names_its_install_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["analyze", str(ASTRONAUT), "--format", "parquet"]) == 2
    assert "pyarrow: is not installed and is needed for Parquet records; pip install 'mien[parquet]'" in complaint(
        capsys
    )
    Path("x.parquet").write_bytes(b"PAR1")
    assert main(["data", "describe", "x.parquet"]) == 2
    assert "pip install 'mien[parquet]'" in complaint(capsys)


@pytest.mark.slow
def test_the_largest_picture_within_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20_000, 20_000), (90, 120, 90)).save("huge.png", compress_level=1)
    assert main(["analyze", "huge.png", "--no-media"]) == 0
    assert "no face found" in capsys.readouterr().out


def test_the_limit_on_pixels_in_the_help_is_the_one_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.core.pictures import MAX_PIXELS

    assert main(["analyze", "--help"]) == 0
    assert f"{MAX_PIXELS:,}" in capsys.readouterr().out


def test_names_that_no_terminal_can_show(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x99\x82.jpg")
    Path(name).write_bytes(ASTRONAUT.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mien.cli.main", "analyze", name, "absent\udce9.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert "1 face" in done.stdout


def test_results_piped_away_while_bars_are_shown_arrive_in_the_pipe(tmp_path: Path) -> None:
    """stdout is a pipe and stderr a terminal, as in `mien analyze a b > list.txt`."""
    import pty

    leader, follower = pty.openpty()
    shutil.copy(ASTRONAUT, "again.jpg")
    command = [sys.executable, "-m", "mien.cli.main", "analyze", str(ASTRONAUT), "again.jpg", "absent.jpg"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, text=True, env=environment)
    os.close(follower)
    shown = b""
    with suppress(OSError):  # its end, once nobody holds the other side
        while piece := os.read(leader, 4096):
            shown += piece
    os.close(leader)
    shown = shown.decode()
    assert done.stdout.count("1 face") == 2
    assert "absent.jpg: does not exist" in shown
    assert "files" in shown
    assert "1 face" not in shown


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no such names")
def test_control_characters_in_a_name_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A name must not color a terminal, move its cursor or turn a line round; the records hold it as it is."""
    name = "a\x1b[31m\nb\u202e.jpg"
    shutil.copy(ASTRONAUT, name)
    Path("c\x1b[2J.jpg").write_bytes(b"x")
    assert main(["analyze", name, "c\x1b[2J.jpg", "--no-media", "--format", "jsonl", "--detector", "haar"]) == 1
    printed = capsys.readouterr()
    assert not set("\x1b\u202e") & set(printed.out + printed.err)
    assert r"a\x1b[31m\nb\u202e.jpg: 1 face" in printed.out.splitlines()
    assert r"c\x1b[2J.jpg: is not a picture" in printed.err
    rows = [json.loads(line) for line in Path("mien-out/all.records.jsonl").read_text().splitlines()]
    assert [row["source"] for row in rows] == [name]


def test_a_folder_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raw photographs cost nothing; HEIC does, since an extra would read it."""
    Path("photos").mkdir()
    shutil.copy(ASTRONAUT, "photos/a.jpg")
    Path("photos/b.dng").touch()
    arguments = ["analyze", "photos", "--no-media", "--detector", "none", "--model", "nano", "--json"]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["left_out"] == {".dng": 1}
    assert printed.err == "mien: 1 file left out: 1 .dng\n"
    Path("photos/c.heic").touch()
    monkeypatch.setattr("mien.analysis.media.inputs.is_heif_installed", lambda: False)
    assert main(arguments) == 1
    assert "2 files left out: 1 .dng, 1 .heic (pip install 'mien[heic]')" in capsys.readouterr().err


def test_of_a_tiff_with_several_pages_the_first_is_read_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    pages = [Image.new("RGB", (60, 60), shade) for shade in ("gray", "white")]
    pages[0].save("stack.tif", save_all=True, append_images=pages[1:])
    assert main(["analyze", "stack.tif", "--no-media", "--model", "nano", "--quiet", "--detector", "haar"]) == 1
    assert complaint(capsys) == "mien: stack.tif: holds 2 pages; only the first was read"


def test_who_uses_the_built_in_detector_unasked_hears_once_of_a_better_one(capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [str(ASTRONAUT), str(ASTRONAUT.parent / "astronaut.jpg"), "--no-media"]
    assert main(["analyze", *inputs]) == 0
    assert capsys.readouterr().out.count("mien models pull yunet") == 1
    for silent in (["--detector", "haar"], ["--quiet"]):
        assert main(["analyze", *inputs, *silent]) == 0
        assert "yunet" not in capsys.readouterr().out
