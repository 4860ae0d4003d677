from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image

from mien.app.cli import main
from tests.conftest import ASTRONAUT, ROOT, SHARED, patterns, small_recipe

VERBS = ["analyze", "train", "evaluate", "predict", "export", "data", "models"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs in a folder of its own, without a pulled detector: what defaults write stays there."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MIEN_DEBUG", raising=False)


def outputs(folder: str = "mien-out") -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def complaint(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mien: ")
    return lines[0]


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
        "mien: in/bad.jpg: is not a picture in a format that is read here; give a JPEG, PNG, WebP, BMP, GIF or TIFF file",
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


def test_an_unforeseen_error_costs_one_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.run.recognizer import Recognizer

    real = Recognizer.read

    def breaks(self: Recognizer, picture: Path) -> np.ndarray:
        if "a.jpg" in str(picture):
            raise RuntimeError("two\nlines")
        return real(self, picture)

    monkeypatch.setattr(Recognizer, "read", breaks)
    for name in ("a.jpg", "b.jpg"):
        Path(name).write_bytes(ASTRONAUT.read_bytes())
    assert main(["analyze", "a.jpg", "b.jpg", "-q"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("mien: a.jpg: unexpected RuntimeError: two lines; set MIEN_DEBUG=1")
    assert lines[1] == "mien: 1 of 2 inputs failed; the rest is done"
    assert "b.annotated.jpg" in outputs()


def test_outputs_beside_the_inputs_are_not_analysed_again() -> None:
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
    assert (
        "cut.jpg: is cut off: the file ends before the picture does; copy it again, or use --allow-truncated"
        in complaint(capsys)
    )
    assert outputs() == []
    assert main(["analyze", "cut.jpg", "--allow-truncated"]) == 0
    assert "1 face" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyze", "absent.jpg"], "absent.jpg: does not exist; check the path"),
        (["analyze", "."], ".: is a folder without pictures or videos; name another one"),
        (["analyze", "empty.jpg"], "empty.jpg: is empty (0 bytes); copy or export it again"),
        (["analyze", "empty.mp4"], "empty.mp4: is empty (0 bytes); copy or export it again"),
        (["analyze", "text.jpg"], "text.jpg: is not a picture in a format"),
        (["analyze", "text.mp4"], "text.mp4: is not a video that can be read"),
        (
            ["analyze", "ok.png", "--model", "nope"],
            "model 'nope': is unknown; choose one of base, or name an .onnx file",
        ),
        (["analyze", "ok.png", "--model", "text.onnx"], "text.onnx: is not an ONNX file that can be run"),
        (["analyze", "ok.png", "--model", "empty.onnx"], "empty.onnx: is empty"),
        (
            ["analyze", "ok.png", "--detector", "dlib"],
            "detector 'dlib': is unknown; choose one of auto, haar, yunet, none",
        ),
        (["analyze", "ok.png", "--detector", "yunet"], "not on this machine; pull it with 'mien models pull yunet'"),
        (["analyze", "ok.png", "--format", "xlsx"], "--format xlsx: is unknown; choose from jsonl, csv, parquet"),
        (["analyze", "ok.png", "--colour", "green"], "--colour green: is not red,green,blue"),
        (["analyze", "ok.png", "--tta", "ten"], "--tta ten: is unknown; choose one of none, flip, ten-crop"),
        (["analyze", "ok.png", "--max-pixels", "50"], "has 10 x 10 pixels, more than the limit of 50; raise it with"),
        (
            ["analyze", "ok.png", "--out", "text.jpg"],
            "text.jpg: is a file, not a folder; choose another folder with --out",
        ),
        (["analyze", "ok.png", "--out", "text.jpg/deep"], "choose another folder with --out"),
        (["analyze"], "missing argument 'INPUT'; see 'mien analyze --help'"),
        (["analyze", "ok.png", "--detectr", "haar"], "--detectr"),
        (["analyse", "ok.png"], "no such command 'analyse'"),
        (["evaluate", "base", "--data", "absent.csv"], "absent.csv: does not exist"),
        (
            ["evaluate", "base", "--data", "faces.csv", "--split", "test"],
            "split 'test': does not occur; the data has: Training",
        ),
        (["evaluate", "base", "--data", "unlabelled.csv"], "unlabelled.csv: has no labels to score against"),
        (["evaluate", "."], "missing option '--data'"),
        (["evaluate", ".", "--data", "faces.csv"], "holds no trained network"),
        (["predict", "base", "--data", "faces.csv"], "missing option '--out'"),
        (["predict", "base", "--data", "faces.csv", "--out", "."], "is a folder, not a file"),
        (["train", "bass", "--data", "faces.csv"], "recipe 'bass': is unknown; choose one of base"),
        (["train", "base", "--data", "unlabelled.csv"], "holds no labels"),
        (["train", "base", "--data", "faces.csv", "--set", "epochs=3"], "has the unknown key 'epochs'"),
        (["export", "absent", "--out", "x.onnx"], "absent: holds no trained network"),
        (["export", "absent", "--out", "x.bin"], "does not end in .onnx; as in --out x.onnx"),
        (["data", "describe", "text.jpg"], "is neither a CSV, a Parquet file nor a folder"),
        (["data", "split", "faces.csv", "--out", "x.csv"], "needs one way to divide"),
        (
            ["data", "split", "faces.csv", "--out", "x.csv", "--sizes", "60,60"],
            "sizes 60, 60 add up to 120 of 70 faces",
        ),
        (["data", "split", "faces.csv", "--out", "x.csv", "--sizes", "a,b"], "'a,b': is not a list of numbers"),
        (["models", "show", "nope"], "model 'nope': is unknown"),
        (["models", "pull", "nope"], "cannot be pulled; choose one of yunet"),
    ],
)
def test_wrong_input_gives_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien.data.readers import save_faces

    for name in ("empty.jpg", "empty.mp4", "empty.onnx"):
        Path(name).write_bytes(b"")
    for name in ("text.jpg", "text.mp4", "text.onnx"):
        Path(name).write_text("text")
    if arguments != ["analyze", "."]:
        Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save("ok.png")
    else:
        for name in ("empty.jpg", "empty.mp4", "text.jpg", "text.mp4"):
            Path(name).unlink()
    save_faces(patterns(70), "faces.csv")
    Path("unlabelled.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    assert main(arguments) == 2
    assert message in complaint(capsys)
    assert not Path("x.csv").exists()


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


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.core.errors import ModelError

    monkeypatch.setenv("MIEN_DEBUG", "1")
    with pytest.raises(ModelError):
        main(["analyze", str(ASTRONAUT), "--model", "nope"])


def test_what_nobody_foresaw_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import mien.run.recognizer

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(mien.run.recognizer, "Recognizer", broken)
    assert main(["analyze", str(ASTRONAUT)]) == 2
    assert "unexpected RuntimeError: two lines; set MIEN_DEBUG=1" in complaint(capsys)


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import mien.run.recognizer

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mien.run.recognizer, "Recognizer", interrupted)
    assert main(["analyze", str(ASTRONAUT)]) == 130
    assert "interrupted" in complaint(capsys)


@pytest.mark.parametrize("verb", [[], *([verb] for verb in VERBS), ["data", "describe"], ["data", "convert"], ["data", "split"],
                                  ["models", "list"], ["models", "show"], ["models", "pull"]])  # fmt: skip
def test_every_verb_has_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*verb, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(['mien', *verb])}")
    assert err == ""


@pytest.mark.parametrize("group", [[], ["data"]])
def test_a_group_alone_says_what_it_can_do(group: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(group) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"Usage: {' '.join(['mien', *group])} [OPTIONS] COMMAND")
    assert err == ""


def test_the_limit_on_pixels_in_the_help_is_the_one_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.core.pictures import MAX_PIXELS

    assert main(["analyze", "--help"]) == 0
    assert f"{MAX_PIXELS:,}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import mien

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mien {mien.__version__}\n"


def test_the_way_from_data_to_a_model_file_and_its_use(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(210), "all.csv")
    Path("small.toml").write_text(small_recipe().to_toml())
    assert (
        main(["data", "split", "all.csv", "--out", "faces.parquet", "--fractions", ".8,.2", "--names", "train,val"])
        == 0
    )
    assert "wrote 210 faces to faces.parquet: train 168, val 42" in capsys.readouterr().out
    assert main(["data", "describe", "faces.parquet"]) == 0
    assert "210 faces of 48 x 48 pixels" in capsys.readouterr().out
    assert main(["train", "small.toml", "--data", "faces.parquet", "--quiet"]) == 0
    assert main(["evaluate", "runs/small", "--data", "faces.parquet", "--tta", "flip"]) == 0
    assert "runs/small on val, flip" in capsys.readouterr().out
    assert main(["train", "base", "--data", "faces.parquet", "--out", "runs/small", "--resume"]) == 2
    assert "runs/small: is a run of 'small', not of 'base'" in complaint(capsys)
    assert main(["export", "runs/small", "--out", "small.onnx", "--data", "faces.parquet", "--split", "val"]) == 0
    assert "torch and ONNX differ by at most" in capsys.readouterr().out
    assert "## Scores on val" in Path("small.md").read_text()
    assert main(["evaluate", "small.onnx", "--data", "faces.parquet", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["split"], scores["count"]) == ("val", 42)
    assert scores == json.loads(Path("mien-out/scores.json").read_text())
    assert main(["predict", "small.onnx", "--data", "faces.parquet", "--out", "p.csv", "-q"]) == 0
    assert len(Path("p.csv").read_text().splitlines()) == 211
    assert main(["analyze", str(ASTRONAUT), "--model", "small.onnx", "-q"]) == 0
    assert main(["models", "show", "small.onnx"]) == 0
    assert "# small" in capsys.readouterr().out


def test_exclude_leaves_rows_out_of_training_and_scoring(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(70), "faces.csv")
    Path("out.csv").write_text("path\nfaces.csv#0\nfaces.csv#5\n")
    assert main(["evaluate", "base", "--data", "faces.csv", "--exclude", "out.csv", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 68
    assert err == "note: Training is what models are trained on; a score on it says little of other faces\n"
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 1}).to_toml())
    assert main(["train", "small.toml", "--data", "faces.csv", "--exclude", "out.csv", "-q"]) == 0
    header = json.loads(Path("runs/small/log.jsonl").read_text().splitlines()[0])
    assert header["training"] + header["validation"] == 68


def test_a_run_is_scored_on_what_it_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(70), "faces.csv")
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 1}).to_toml())
    assert main(["train", "small.toml", "--data", "faces.csv", "-q"]) == 0
    kept = json.loads(Path("runs/small/scores.json").read_text())
    assert main(["evaluate", "runs/small", "--data", "faces.csv", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["split"], scores["confusion"]) == ("held out of Training", kept["confusion"])
    assert json.loads(Path("runs/small/scores.json").read_text()) == kept
    assert main(["export", "runs/small", "--out", "x.onnx", "--data", "faces.csv", "--split", "Training"]) == 0
    capsys.readouterr()
    assert main(["models", "show", "x.onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["count"] == 7


def test_skipped_rows_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(7), "faces.csv")
    with Path("faces.csv").open("a") as file:
        file.write("9,1 2 3,Training\n")
    assert main(["data", "describe", "faces.csv"]) == 2
    capsys.readouterr()
    assert main(["data", "describe", "faces.csv", "--skip-bad", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 1
    assert main(["predict", "base", "--data", "faces.csv", "--out", "p.csv", "--skip-bad"]) == 0
    assert "skipped 1 broken rows; the first: faces.csv row 7 (line 9)" in capsys.readouterr().err


@pytest.mark.slow
def test_the_largest_picture_within_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20_000, 20_000), (90, 120, 90)).save("huge.png", compress_level=1)
    assert main(["analyze", "huge.png", "--no-media"]) == 0
    assert "no face found" in capsys.readouterr().out


@pytest.mark.skipif(not (SHARED / "data").exists(), reason="the data is not beside this checkout")
def test_predictions_for_unlabelled_faces() -> None:
    data = SHARED / "data" / "fer2013-privatetest-unlabelled.parquet"
    assert main(["predict", "base", "--data", str(data), "--out", "p.csv", "--quiet"]) == 0
    lines = Path("p.csv").read_text().splitlines()
    assert len(lines) == 3590
    assert lines[0] == "path,label,p_angry,p_disgust,p_fear,p_happy,p_sad,p_surprise,p_neutral"


def test_names_that_no_terminal_can_show(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x99\x82.jpg")
    Path(name).write_bytes(ASTRONAUT.read_bytes())
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mien.app.cli", "analyze", name, "absent\udce9.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 2)
    assert "1 face" in done.stdout


def test_results_piped_away_while_bars_are_shown_arrive_in_the_pipe(tmp_path: Path) -> None:
    """stdout is a pipe and stderr a terminal, as in `mien analyze a b > list.txt`."""
    import pty

    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mien.app.cli", "analyze", str(ASTRONAUT), str(ASTRONAUT), "absent.jpg"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=follower, text=True, env=environment)
    os.close(follower)
    shown = os.read(leader, 100_000).decode()
    os.close(leader)
    assert done.stdout.count("1 face") == 2
    assert "absent.jpg: does not exist" in shown
    assert "files" in shown
    assert "1 face" not in shown


def test_a_fresh_process_prints_no_traceback() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MIEN_DEBUG"}
    command = [sys.executable, "-m", "mien.app.cli", "analyze", "no-such-file.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mien: no-such-file.jpg: does not exist; check the path\n"
