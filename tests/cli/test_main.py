from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.cli.main import main
from tests.cli.conftest import complaint
from tests.conftest import ASTRONAUT, ROOT, patterns

VERBS = ["analyze", "train", "evaluate", "predict", "export", "data", "models"]


@pytest.fixture(scope="module")
def faces_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 faces in a CSV file."""
    from mien.data.readers import save_faces

    path = tmp_path_factory.mktemp("data") / "faces.csv"
    save_faces(patterns(70), path)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["analyze", "absent.jpg"], "absent.jpg: does not exist; check the path"),
        (["analyze", ""], "'': is an empty name"),
        (["explain", "nope", "x.png"], "nope: does not exist; choose one of base, "),
        (["train", "missing.toml", "--data", "faces.csv"], "missing.toml: does not exist"),
        (["data", "describe", "faces.csv", "--ferplus", "."], ".: is a folder, not a CSV of votes"),
        (["evaluate", "base", "--data", "faces.csv", "--exclude", "."], ".: is a folder, not a CSV of names"),
        (["embed", "base", "--data", "faces.csv", "--seed", "-1"], "invalid value for '--seed'"),
        (["analyze", "x.jpg", "--color", "\u00b2,1,1"], "is no color"),
        (["analyze", "."], ".: is a folder without pictures or videos; name another one"),
        (["analyze", "empty.jpg"], "empty.jpg: is empty (0 bytes); copy or export it again"),
        (["analyze", "empty.mp4"], "empty.mp4: is empty (0 bytes); copy or export it again"),
        (["analyze", "text.jpg"], "text.jpg: is not a picture in a format"),
        (["analyze", "text.mp4"], "text.mp4: is not a video that can be read"),
        (
            ["analyze", "ok.png", "--model", "nope"],
            "model 'nope': is unknown; choose one of base, ferplus, large, nano, or name an .onnx file",
        ),
        (["analyze", "ok.png", "--model", "text.onnx"], "text.onnx: is not an ONNX file that can be run"),
        (["analyze", "ok.png", "--model", "empty.onnx"], "empty.onnx: is empty"),
        (
            ["analyze", "ok.png", "--detector", "dlib"],
            "--detector dlib: is unknown; choose one of auto, haar, yunet, none",
        ),
        (["analyze", "ok.png", "--detector", "yunet"], "not on this machine; pull it with 'mien models pull yunet'"),
        (["analyze", "ok.png", "--format", "xlsx"], "--format xlsx: is unknown; choose from jsonl, csv, parquet"),
        (
            ["analyze", "ok.png", "--color", "greenish"],
            "--color greenish: is no color; as in --color lime, --color #00ff00 or",
        ),
        (["analyze", "ok.png", "--smoothing", "inf"], "--smoothing inf: is no number of seconds from 0"),
        (["analyze", "ok.png", "--tta", "ten"], "--tta ten: is unknown; choose one of none, flip, ten-crop"),
        (
            ["analyze", "ok.png", "--max-pixels", "50"],
            "has 10 x 10 pixels, more than the limit of 50; scale it down, or raise the",
        ),
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
        (["evaluate", "base", "--data", "unlabeled.csv"], "unlabeled.csv: has no labels to score against"),
        (["evaluate", "."], "missing option '--data'"),
        (["evaluate", ".", "--data", "faces.csv"], "holds no trained network"),
        (["predict", "base", "--data", "faces.csv"], "missing option '--out'"),
        (["predict", "base", "--data", "faces.csv", "--out", "."], "is a folder, not a file"),
        (["train", "bass", "--data", "faces.csv"], "recipe 'bass': is unknown; choose one of base"),
        (["train", "base", "--data", "unlabeled.csv"], "holds no labels"),
        (["train", "base", "--data", "faces.csv", "--set", "epochs=3"], "has the unknown key 'epochs'"),
        (["export", "absent", "--out", "x.onnx"], "absent: does not exist"),
        (["export", ".", "--out", "x.onnx"], ".: holds no trained network"),
        (["export", "text.onnx", "--out", "x.onnx"], "text.onnx: is a model file already"),
        (["analyze", "ok.png", "--model", "text.pt"], "text.pt: is a checkpoint of training; write an .onnx file"),
        (["predict", "base", "--data", "faces.csv", "--out", "faces.csv"], "is, or lies inside, the input faces.csv"),
        (["predict", "base", "--data", "faces.csv", "--out", "p.parquet"], "--out p.parquet: is to hold CSV"),
        (["data", "convert", "faces.csv", "--out", "faces.csv"], "is, or lies inside, the input faces.csv"),
        (["data", "convert", "ok.csv", "--ferplus", "faces.csv", "--out", "faces.csv"], "the input faces.csv"),
        (["data", "convert", "folder", "--out", "folder/x"], "is, or lies inside, the input folder"),
        (["evaluate", "base", "--data", "."], "--out mien-out: is, or lies inside, the input"),
        (["train", "base", "--data", "."], "--out runs/base: is, or lies inside, the input"),
        (["report", "base", "--data", "."], "--out mien-out: is, or lies inside, the input"),
        (["compare", "base", "nano", "--data", "."], "--out mien-out: is, or lies inside, the input"),
        (["embed", "base", "--data", "."], "--out mien-out: is, or lies inside, the input"),
        (["audit", "."], "--out mien-out: is, or lies inside, the input"),
        (["data", "convert", "faces.csv", "--out", "x.csv", "--size", "40"], "read it with --size 48"),
        (
            ["data", "split", "faces.csv", "--out", "x.csv", "--fractions", ".5,.5", "--names", "a,a"],
            "--names: a,a names a part twice",
        ),
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
        (["models", "--json", "list"], "--json: stands before 'list'; write it behind: mien models list ... --json"),
        (["analyze", "ok.png", "--every", "inf"], "--fps or --every: is not a finite number"),
    ],
)
def test_wrong_input_gives_one_line_and_exit_code_2(
    arguments: list[str], message: str, faces_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("empty.jpg", "empty.mp4", "empty.onnx"):
        Path(name).write_bytes(b"")
    for name in ("text.jpg", "text.mp4", "text.onnx", "text.pt"):
        Path(name).write_text("text")
    if arguments != ["analyze", "."]:
        Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save("ok.png")
    else:
        for name in ("empty.jpg", "empty.mp4", "text.jpg", "text.mp4"):
            Path(name).unlink()
    shutil.copy(faces_file, "faces.csv")
    Path("folder").mkdir()
    Path("unlabeled.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    assert main(arguments) == 2
    assert message in complaint(capsys)
    assert not Path("x.csv").exists()
    assert Path("faces.csv").read_text().count("\n") == 71  # the input is as it was


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["train", "base", "--data", "validation.csv", "--out", "."], "validation.csv"),
        (["train", "recipe.toml", "--data", "labels.csv", "--out", "."], "recipe.toml"),
        (["audit", "labels.csv", "--out", "."], "labels.csv"),
    ],
)
def test_no_output_takes_the_place_of_an_input_in_its_folder(
    arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien.data.readers import save_faces

    Path("recipe.toml").write_text('name = "mine"\n')
    for table in ("validation.csv", "labels.csv"):
        save_faces(patterns(70), table)
    before = Path(name).read_bytes()
    assert main(arguments) == 2
    assert f"--out .: holds the input {name}, in whose place" in complaint(capsys)
    assert Path(name).read_bytes() == before


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from mien.core.errors import ModelError

    monkeypatch.setenv("MIEN_DEBUG", "1")
    with pytest.raises(ModelError):
        main(["analyze", str(ASTRONAUT), "--model", "nope"])


def test_what_nobody_foresaw_is_one_line_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("mien.cli.analyze.Recognizer.from_options", broken)
    assert main(["analyze", str(ASTRONAUT)]) == 2
    assert "unexpected RuntimeError: two lines; set MIEN_DEBUG=1" in complaint(capsys)


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mien.cli.analyze.Recognizer.from_options", interrupted)
    assert main(["analyze", str(ASTRONAUT)]) == 130
    assert "interrupted: finished work is kept; the same command continues it" in complaint(capsys)
    monkeypatch.setattr("mien.training.scoring.classifiers.Classifier", interrupted)
    assert main(["evaluate", "base", "--data", "x.csv", "--split", "train"]) == 130
    assert complaint(capsys) == "mien: interrupted"  # no word of going on: "train" is a split here


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


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import mien

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mien {mien.__version__}\n"


def test_a_fresh_process_prints_no_traceback() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "MIEN_DEBUG"}
    command = [sys.executable, "-m", "mien.cli.main", "analyze", "no-such-file.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mien: no-such-file.jpg: does not exist; check the path\n"


def test_a_file_whose_name_begins_with_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    Path("-dash.jpg").touch()
    assert main(["analyze", "-dash.jpg"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("; the file is given as ./-dash.jpg")
