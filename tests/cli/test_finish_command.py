"""`mien finish`, and what the program does with what it made."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.analysis.inference.model_file import read_model_info
from mien.cli.main import main
from mien.core.types import concatenate_faces
from mien.data.readers import save_faces
from mien.training.release import speed
from tests.cli.conftest import complaint
from tests.conftest import patterns


@pytest.fixture(scope="module", autouse=True)
def short_measurements() -> Iterator[None]:
    """Measure speeds for a twentieth of a second instead of half of one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed, "measure_speed", partial(speed.measure_speed, seconds=0.05))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of two splits; of those for validation one label in five is wrong."""
    held_out = patterns(210, seed=3, split="PublicTest")
    labels = held_out.labels.copy()
    labels[::5] = (labels[::5] + 1) % 7
    path = tmp_path_factory.mktemp("data") / "faces.csv"
    save_faces(concatenate_faces([patterns(140), replace(held_out, labels=labels)]), path)
    return path


@pytest.fixture(scope="module")
def finished(model_file: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command makes in done/, and what it said in said.txt."""
    folder, said = tmp_path_factory.mktemp("finished"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.chdir(folder)
        shutil.copy(model_file, "small.onnx")
        Path("small.md").write_text("# small\n\n## Meant for\n\nresearch\n")
        command = ["finish", "small.onnx", "--data", str(data), "--out", "done/small.onnx", "--no-non-faces"]
        assert main([*command, "--accuracy", "0.7", "--diagram", "done/pictures/reliability.png"]) == 0
    (folder / "said.txt").write_text(said.getvalue())
    return folder


def test_one_command_finishes_a_model(finished: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, ".", dirs_exist_ok=True)
    said = Path("said.txt").read_text()
    assert "temperature" in said and "wrote done" in said
    assert sorted(path.name for path in Path("done").iterdir()) == [
        "pictures",
        "small.int8.onnx",
        "small.md",
        "small.onnx",
    ]
    card = Path("done/small.md").read_text(encoding="utf-8")
    assert card.count(" crops/s |") == 2
    assert "](pictures/reliability.png)" in card and card.index("## Calibration") < card.index("## Meant for")
    assert Image.open("done/pictures/reliability.png").size[0] > 400
    info = read_model_info(Path("done/small.onnx"))
    assert info.uncertainty["data"] == "PublicTest" and info.uncertainty["unsure"]["goal"] == 0.7
    assert info.uncertainty["unsure"]["right"] >= 0.7

    assert main(["evaluate", "done/small.onnx", "--data", str(data), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["precision"] == "float" and scores["unsure"]["below"] == info.thresholds["unsure"]
    # The face whose confidence is the threshold itself may fall to either side of it.
    assert scores["unsure"]["right"] == pytest.approx(info.uncertainty["unsure"]["right"], abs=0.005)
    assert Path("mien-out/coverage.png").is_file()


def test_wrong_wishes_are_one_line(
    model_file: Path, finished: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(model_file, "small.onnx")
    Path("small.md").touch()
    finish = ["finish", "small.onnx", "--data", str(data), "--no-non-faces", "--quiet"]
    for more, message in (
        (["--out", "x.int8.onnx"], "is to be the float file's name"),
        (["--out", "x.txt"], "is to be the float file's name"),
        (["--out", "x.onnx", "--train-split", "nowhere"], "split 'nowhere': does not occur"),
        (["--out", "small.md/x.onnx"], "is a file, not a folder"),
    ):
        assert main([*finish, *more]) == 2
        assert message in complaint(capsys)
    int8 = str(finished / "done" / "small.int8.onnx")
    assert main(["finish", int8, "--data", str(data), "--out", "y.onnx", "--no-non-faces"]) == 2
    assert "is quantized; finish the float file" in complaint(capsys)


def test_doubt_in_records_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)).save("noise.png")
    analyze = ["analyze", "noise.png", "--detector", "none", "--json"]
    found = {}
    for name, more in {"auto": [], "off": ["--unsure", "off"], "all": ["--unsure", "1"]}.items():
        assert main([*analyze, *more]) == 0
        found[name] = json.loads(capsys.readouterr().out)["inputs"][0]["records"][0]
    assert [found[name]["unsure"] for name in ("off", "all")] == [None, True]
    threshold = model_info_of_base().thresholds["unsure"]
    assert found["auto"]["unsure"] == (found["auto"]["confidence"] < threshold)
    assert 0 <= found["auto"]["not_a_face"] <= 1
    assert main(["analyze", "noise.png", "--detector", "none", "--quiet"]) == 0
    row = next(csv.DictReader(Path("mien-out/noise.records.csv").read_text().splitlines()))
    assert row["unsure"] == str(found["auto"]["unsure"]) and float(row["not_a_face"]) == found["auto"]["not_a_face"]
    for option in ("--unsure", "--drop-non-faces"):
        for wrong in ("perhaps", "1.5"):
            assert main(["analyze", "noise.png", option, wrong]) == 2
            assert f"{option} {wrong}: is neither auto, off nor a number from 0 to 1" in complaint(capsys)


def test_both_precisions_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((64, 64), np.uint8)).save("black.png")
    save_faces(patterns(14), "few.csv")
    for precision in ("float", "int8"):
        assert main(["analyze", "black.png", "--detector", "none", "--precision", precision, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["precision"] == precision
        out = f"{precision}.csv"
        assert main(["predict", "base", "--data", "few.csv", "--out", out, "--precision", precision, "--quiet"]) == 0
    assert Path("float.csv").read_text() != Path("int8.csv").read_text()
    assert main(["models", "show", "base", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["precision"] in ("float", "int8") and facts["path"].endswith("base.onnx")
    assert main(["models", "show", "base"]) == 0
    assert "--precision float or int8 chooses" in capsys.readouterr().out


def model_info_of_base():
    from mien.analysis.inference.model_file import list_shipped_models

    return read_model_info(list_shipped_models()["base"])


def test_faces_that_may_have_trained_the_model_are_told(
    model_file: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_faces(patterns(70), Path("train.csv"))
    plain = ["finish", str(model_file), "--out", "x.onnx", "--no-non-faces", "--no-int8"]
    assert main([*plain, "--data", "train.csv"]) == 0
    assert "note: these faces may have trained the model" in capsys.readouterr().err
    assert main([*plain, "--data", str(data)]) == 0
    assert capsys.readouterr().err == ""
