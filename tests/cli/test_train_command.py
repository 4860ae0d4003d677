from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.cli.main import main
from mien.core.errors import DataError
from mien.core.labels import CANONICAL
from mien.core.types import FaceSet, concatenate_faces
from mien.data.splits import write_names
from mien.training.scoring.scored_faces import select_scored_faces
from tests.cli.conftest import complaint
from tests.conftest import ASTRONAUT, SHARED, patterns, small_recipe, voted

pytestmark = pytest.mark.usefixtures("quick_export", "no_figures")


@pytest.mark.slow
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
    capsys.readouterr()
    assert main(["predict", "small.onnx", "--data", "faces.parquet", "--out", "p.csv", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["file"], sum(told["labels"].values())) == ("p.csv", told["faces"])
    assert len(Path("p.csv").read_text().splitlines()) == 211
    assert main(["analyze", str(ASTRONAUT), "--model", "small.onnx", "-q"]) == 0
    assert main(["models", "show", "small.onnx"]) == 0
    assert "# small" in capsys.readouterr().out


@pytest.mark.slow
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
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 5}).to_toml())
    command = ["train", "small.toml", "--data", "faces.csv", "--exclude", "out.csv", "--resume"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert "note: the run continues with its own settings; in the recipe schedule.epochs was 1, now 5" in err
    assert "all 1 epochs are done" in out


@pytest.mark.slow
def test_a_run_is_scored_on_what_it_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(70), "faces.csv")
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 1}).to_toml())
    assert main(["train", "small.toml", "--data", "faces.csv", "--json"]) == 0
    kept = json.loads(Path("runs/small/scores.json").read_text())
    assert json.loads(capsys.readouterr().out) == {"run": "runs/small", "scores": kept}
    assert main(["evaluate", "runs/small", "--data", "faces.csv", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["split"], scores["confusion"]) == ("held out of Training", kept["confusion"])
    assert json.loads(Path("runs/small/scores.json").read_text()) == kept
    assert main(["export", "runs/small", "--out", "x.onnx", "--data", "faces.csv", "--split", "Training"]) == 0
    assert "float32; probabilities differ" in Path("x.md").read_text()
    assert main(["export", "runs/small", "--out", "h.onnx", "--half"]) == 0
    assert "float32, weights stored in 16 bits; probabilities differ" in Path("h.md").read_text()
    assert Path("h.onnx").stat().st_size < 0.9 * Path("x.onnx").stat().st_size
    capsys.readouterr()
    assert main(["export", "runs/small", "--out", "h.onnx", "--half", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["bytes"], told["card"]) == (Path("h.onnx").stat().st_size, "h.md") and told["difference"] < 0.001
    Path("h.int8.onnx").touch()
    assert main(["export", "runs/small", "--out", "h.onnx"]) == 0
    assert "removed h.int8.onnx, which had other weights" in capsys.readouterr().err
    assert not Path("h.int8.onnx").exists()
    capsys.readouterr()
    assert main(["models", "show", "x.onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["count"] == 7


@pytest.mark.slow
def test_a_checkpoint_is_scored_on_what_its_run_held_out_and_on_all_of_other_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(70, split=""), "faces.csv")
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 1}).to_toml())
    assert main(["train", "small.toml", "--data", "faces.csv", "-q"]) == 0
    assert main(["evaluate", "runs/small/last.pt", "--data", "faces.csv", "--json", "-q"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["split"], scores["count"]) == ("held out of faces.csv", 7)
    assert main(["export", "runs/small", "--data", "faces.csv", "--out", "small.onnx", "-q"]) == 0
    assert main(["evaluate", "small.onnx", "--data", "faces.csv", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 70
    assert err == "note: the model's own score is of faces held out of faces.csv; the others trained it\n"
    Path("other").mkdir()
    save_faces(patterns(20, split=""), "other/faces.csv")
    assert main(["evaluate", "runs/small", "--data", "other/faces.csv", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 20


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
@pytest.mark.skipif(not (SHARED / "data").exists(), reason="the data is not beside this checkout")
def test_predictions_for_unlabeled_faces() -> None:
    data = SHARED / "data" / "fer2013-privatetest-unlabelled.parquet"
    assert main(["predict", "base", "--data", str(data), "--out", "p.csv", "--quiet"]) == 0
    lines = Path("p.csv").read_text().splitlines()
    assert len(lines) == 3590
    assert lines[0] == "path,label,p_angry,p_disgust,p_fear,p_happy,p_sad,p_surprise,p_neutral"


def test_predictions_written_to_stdout_are_all_that_stands_there() -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(3), "a.csv")
    command = [sys.executable, "-m", "mien", "predict", "nano", "--data", "a.csv", "--out", "/dev/stdout"]
    with Path("p.csv").open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "wrote 3 rows to /dev/stdout\n")
    piped = subprocess.run(command, stdout=subprocess.PIPE, text=True).stdout
    assert Path("p.csv").read_text() == piped
    assert [line.split(",")[0] for line in piped.splitlines()] == ["path", "a.csv#0", "a.csv#1", "a.csv#2"]


def test_a_text_of_the_name_of_a_card_is_kept(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.md").write_text("mine")
    assert main(["export", str(run_folder), "--out", "notes.onnx"]) == 2
    assert "notes.md: is there already without a model beside it" in capsys.readouterr().err
    assert Path("notes.md").read_text() == "mine"


def test_faces_that_are_not_scored_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(14), "a.csv")
    save_faces(patterns(7, split="PublicTest"), "b.csv")
    assert main(["evaluate", "base", "--data", "a.csv", "--data", "b.csv"]) == 0
    assert capsys.readouterr().err == "14 faces that are not PublicTest are left out; --split selects another split\n"
    assert main(["evaluate", "base", "--data", "a.csv", "--data", "b.csv", "--split", "PublicTest"]) == 0
    assert capsys.readouterr().err == ""


def test_resuming_where_nothing_was_begun_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(70), "faces.csv")
    Path("small.toml").write_text(small_recipe(schedule={"epochs": 1}).to_toml())
    assert main(["train", "small.toml", "--data", "faces.csv", "--resume"]) == 0
    assert "runs/small holds no finished epoch to resume from: starting with the first" in capsys.readouterr().out


@pytest.fixture
def eight(capsys: pytest.CaptureFixture[str]) -> Path:
    """80 faces in the working folder: 75 with an expression that six of ten annotators saw, five without votes; and a model
    that learned them."""
    from mien.data.readers import save_faces

    rows = [{CANONICAL[n % 8]: 6, "unknown": 4} for n in range(75)]
    save_faces(voted(patterns(80, split=""), *rows), "faces.parquet")
    recipe = small_recipe(schedule={"epochs": 1}, data={"labels": "annotators", "holdout": 0.2}, targets={"votes": 1.0})
    Path("small.toml").write_text(recipe.to_toml())
    assert main(["train", "small.toml", "--data", "faces.parquet"]) == 0
    assert "5 of 80 faces have no majority label among their annotators" in capsys.readouterr().out
    return Path("runs/small")


@pytest.mark.slow
def test_a_model_that_learned_from_raters_is_measured_by_them(eight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "faces.parquet"]
    assert json.loads((eight / "scores.json").read_text())["labels_by"] == "annotators"
    assert main(["evaluate", str(eight), *data]) == 0
    out, err = capsys.readouterr()
    assert "runs/small on held out of faces.parquet by FER+'s annotators" in out
    assert "5 of 80 faces have no label: their annotators disagree" in err
    assert main(["evaluate", str(eight), *data, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["split"], scores["count"], scores["labels_by"]) == ("held out of faces.parquet", 15, "annotators")
    assert [row["class"] for row in scores["per_class"]] == list(CANONICAL)

    assert main(["export", str(eight), "--out", "eight.onnx", *data, "-q"]) == 0
    card = Path("eight.md").read_text()
    assert "60 faces of data without splits, labeled by the majority of FER+'s annotators" in card
    assert "100% of each label is FER+'s votes" in card
    assert "## Scores on held out of faces.parquet by FER+'s annotators" in card
    assert main(["evaluate", "eight.onnx", *data, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels_by"] == "annotators", "the file knows whose labels it learned"
    assert main(["evaluate", "eight.onnx", *data, "--json", "--labels-by", "given"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 80
    assert main(["predict", "eight.onnx", *data, "--out", "p.csv", "-q"]) == 0
    truths = [line.split(",")[2] for line in Path("p.csv").read_text().splitlines()[1:]]
    assert truths == [*(CANONICAL[n % 8] for n in range(75)), *[""] * 5]
    assert main(["report", "eight.onnx", *data, "--out", "r", "--no-saliency", "-q"]) == 0
    assert json.loads(Path("r/report.json").read_text())["labels_by"] == "annotators"
    assert (
        main(
            [
                "finish",
                "eight.onnx",
                *data,
                "--train-split",
                "",
                "--out",
                "done.onnx",
                "--no-non-faces",
                "--no-int8",
                "-q",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert main(["models", "show", "done.onnx", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["labels_by"], shown["uncertainty"]["faces"]) == ("annotators", 75)


@pytest.mark.slow
def test_a_model_of_seven_is_measured_by_raters_on_what_it_knows(
    eight: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "base", "--data", "faces.parquet", "--json"]) == 0
    assert (found := json.loads(capsys.readouterr().out))["labels_by"] == "given" and found["count"] == 80
    assert main(["evaluate", "base", "--data", "faces.parquet", "--labels-by", "annotators", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 75 - 9, "nine faces show contempt"


def test_data_goes_by_the_raters_where_it_is_told_to(eight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["data", "convert", "faces.parquet", "--labels-by", "annotators", "--out", "by-annotators.parquet", "-q"])
        == 0
    )
    for command in (["by-annotators.parquet"], ["faces.parquet", "--labels-by", "annotators"]):
        assert main(["data", "describe", *command, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["classes"], facts["unlabeled"]) == (list(CANONICAL), 5)
    assert main(["data", "describe", "faces.parquet", "--labels-by", "auto", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unlabeled"] == 0, "no model, no annotators"
    assert main(["data", "describe", "nothere.parquet", "--labels-by", "crowd"]) == 2
    assert "--labels-by crowd: is unknown; choose given or annotators" in complaint(capsys)


def run_trained_on(folder: str, train: str, held_out: FaceSet) -> Path:
    """What `select_scored_faces` reads of a run."""
    run = Path(folder)
    run.mkdir()
    (run / "recipe.toml").write_text(f'[data]\ntrain = "{train}"\n')
    write_names(held_out, run / "validation.csv")
    return run


def test_a_run_is_not_scored_on_splits_that_it_trained_on_without_a_word() -> None:
    faces = concatenate_faces([patterns(30), patterns(20, seed=1, split="PublicTest")])
    run = run_trained_on("both", "Training+PublicTest", faces.take([1, 5, 33]))
    scored, which, trained_on = select_scored_faces(faces, "", [Path("x.csv")], run)
    assert (sorted(scored.names), trained_on) == (sorted(faces.names[[1, 5, 33]]), False)
    assert which == "held out of Training, PublicTest"
    assert select_scored_faces(faces, "PublicTest", [Path("x.csv")], run)[2]  # all of them were asked for
    only = run_trained_on("one", "Training", faces.select_split("PublicTest"))
    scored, which, trained_on = select_scored_faces(faces, "", [Path("x.csv")], only)
    assert (len(scored), which, trained_on) == (20, "PublicTest", False)


def test_undivided_faces_some_of_which_a_run_held_out_may_have_trained_it() -> None:
    faces = patterns(40, split="")
    run = run_trained_on("some", "Training", faces.take([0, 7, 12]))
    assert not select_scored_faces(faces, "", [Path("x.csv")], run)[2]
    assert select_scored_faces(faces.take(np.arange(1, 40)), "", [Path("x.csv")], run)[
        2
    ]  # one that was held out is missing
    strangers = replace(faces, names=np.array([f"other.csv#{row}" for row in range(40)]))
    assert not select_scored_faces(strangers, "", [Path("other.csv")], run)[2]
    namesakes = replace(patterns(40, seed=9, split=""), names=faces.names)  # 1.png of another folder
    scored, which, trained_on = select_scored_faces(namesakes, "", [Path("x.csv")], run)
    assert (len(scored), which, trained_on) == (40, "x.csv", False)


def test_faces_of_which_none_is_answered_are_scored(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(replace(patterns(3, split=""), images=np.full((3, 48, 48), 128, np.uint8)), "gray.csv")
    assert main(["evaluate", "base", "--data", "gray.csv"]) == 0
    assert "none of the faces" in capsys.readouterr().out


def test_a_model_of_one_class_against_the_rest_knows_all_others_as_other() -> None:
    faces = patterns(14).reindex_classes(("other", "happy"))
    assert faces.class_counts().tolist() == [12, 2]
    with pytest.raises(DataError, match="the data has"):
        patterns(14).reindex_classes(("happy", "sad"))


def test_a_training_that_is_refused_leaves_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    from mien.data.readers import save_faces

    save_faces(patterns(70), "faces.csv")
    for wrong in ("network.name=resnet1", "loss.class_weights=[1, 2]"):
        assert main(["train", "r1-lenet", "--data", "faces.csv", "--out", "runs/x", "--set", wrong]) == 2
    assert not Path("runs/x").exists()


@pytest.mark.slow
def test_a_run_of_some_classes_is_measured_on_these(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run's recipe chose five classes; the data has seven."""
    from mien.data.readers import save_faces
    from mien.models import build_network
    from mien.training.runs.checkpoint import save_trained_model
    from mien.training.torch_classifier import load_run

    five = ("angry", "happy", "neutral", "sad", "surprise")
    small = load_run(run_folder)
    arguments = small.network_arguments | {"num_classes": 5}
    network = build_network(small.network_name, **arguments).eval()
    Path("run").mkdir()
    save_trained_model(Path("run/last.pt"), replace(small, network=network, network_arguments=arguments, classes=five))
    Path("run/recipe.toml").write_text(small_recipe(data={"classes": list(five)}).to_toml())
    save_faces(patterns(70, split="test"), "faces.csv")
    said = "20 faces of classes that the run was not trained on (disgust, fear) are left out"
    assert main(["evaluate", "run", "--data", "faces.csv", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out)["count"], json.loads(out)["classes"]) == (50, list(five))
    assert said in err
    assert main(["report", "run", "--data", "faces.csv", "--no-saliency", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == 50 and said in err
    assert main(["export", "run", "--data", "faces.csv", "--out", "five.onnx"]) == 0
    assert said in capsys.readouterr().err
    save_faces(patterns(70, split="test").take([1, 8, 15]), "disgust.csv")
    assert main(["evaluate", "run", "--data", "disgust.csv"]) == 2
    assert "has no face of the run's classes" in complaint(capsys)
