"""`mien ensemble` and `mien reproduce` as a person runs them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.analysis.inference.classifier import Classifier
from mien.cli.main import main
from mien.core.types import concatenate_faces
from mien.data.readers import save_faces
from tests.conftest import patterns

pytestmark = pytest.mark.usefixtures("quick_export")


@pytest.fixture
def faces_file(tmp_path: Path) -> Path:
    path = tmp_path / "faces.parquet"
    save_faces(concatenate_faces([patterns(140), patterns(70, seed=3, split="PublicTest")]), path)
    return path


@pytest.mark.parametrize(("twice", "said"), [(True, "names a model twice"), (False, "base knows angry")])
def test_members_are_told_apart_by_their_files(
    model_file: Path, faces_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], twice: bool, said: str
) -> None:
    members = [str(model_file)] * 2 if twice else ["base", "ferplus"]
    assert main(["ensemble", *members, "--data", str(faces_file), "--out", str(tmp_path / "x.onnx")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_two_models_become_one_file_that_every_verb_takes(
    run_folder: Path, model_file: Path, faces_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both.onnx"
    command = ["ensemble", str(run_folder), str(model_file), "--data", str(faces_file), "--out", str(out)]
    assert main([*command, "--weights", "0.5,1.5"]) == 0
    text = capsys.readouterr().out
    assert "70 faces of validation chose the weights" in text
    assert "written: 0.25, 0.75" in text
    assert {line.split()[0] for line in text.splitlines() if line} >= {"equal", "grid", "likelihood"}
    assert out.with_suffix(".md").is_file()
    one, both = Classifier(model_file), Classifier(out)
    np.testing.assert_allclose(both.probabilities(patterns(7).images), one.probabilities(patterns(7).images), atol=1e-4)

    assert main(["evaluate", str(out), "--data", str(faces_file), "--out", str(tmp_path / "s"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 70
    assert main(["predict", str(out), "--data", str(faces_file), "--out", str(tmp_path / "p.csv"), "-q"]) == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 211
    assert main([*command, "--json", "--tta", "flip"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert (table["faces"], table["tta"], len(table["members"])) == (70, "flip", 2)
    assert sum(table["written"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--weights", "best"], "is neither likelihood, grid nor equal, nor 2 numbers that are not negative"),
        (["--weights", "1"], "nor 2 numbers"),
        (["--weights", "-1,2"], "nor 2 numbers"),
        (["--split", "test"], "split 'test': does not occur; the data has: Training, PublicTest"),
        (["--tta", "twelve"], "--tta twelve: is unknown"),
        (["--out", "both.bin"], "does not end in .onnx"),
    ],
)
def test_what_cannot_be_joined_says_why(
    change: list[str], message: str, run_folder: Path, model_file: Path, faces_file: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    command = [
        "ensemble",
        str(run_folder),
        str(model_file),
        "--data",
        str(faces_file),
        "--out",
        str(tmp_path / "b.onnx"),
    ]
    assert main([*command, *change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b.onnx").exists()


def test_one_model_is_no_ensemble_and_a_member_is_not_overwritten(
    model_file: Path, faces_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ensemble", str(model_file), "--data", str(faces_file), "--out", str(tmp_path / "b.onnx")]) == 2
    assert "needs two models at least" in capsys.readouterr().err
    mine = tmp_path / "mine.onnx"
    shutil.copy(model_file, mine)
    assert main(["ensemble", str(mine), str(model_file), "--data", str(faces_file), "--out", str(mine)]) == 2
    assert "is, or lies inside, the input mine.onnx" in capsys.readouterr().err


def test_reproduce_lists_its_names_and_needs_the_official_splits(
    faces_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", "r9", "--data", str(faces_file)]) == 2
    assert "choose one of all, r1-lenet" in capsys.readouterr().err
    only = tmp_path / "one.parquet"
    save_faces(patterns(70), only)
    assert main(["reproduce", "r1-lenet", "--data", str(only), "--out", str(tmp_path / "runs"), "-q"]) == 2
    assert "has no split PublicTest; give FER2013's file" in capsys.readouterr().err
    # far too few faces for R1's split: said before anything is trained
    assert main(["reproduce", "r1-lenet", "--data", str(faces_file), "--out", str(tmp_path / "runs"), "-q"]) == 2
    assert "split" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "r1-lenet" / "author" / "last.pt").exists()


@pytest.mark.slow
def test_data_that_is_not_divided_chooses_weights_with_a_note(
    run_folder: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_faces(replace(patterns(70), split=np.full(70, "")), tmp_path / "all.parquet")
    command = ["ensemble", str(run_folder), str(model_file), "--data", str(tmp_path / "all.parquet")]
    assert main([*command, "--out", str(tmp_path / "both.onnx")]) == 0
    out, err = capsys.readouterr()
    assert "70 faces of the data chose the weights" in out
    assert "the data has no split 'validation': all faces choose the weights, also those that trained the models" in err
