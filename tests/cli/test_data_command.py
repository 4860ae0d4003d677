from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.cli.main import main
from mien.core.types import FaceSet, concatenate_faces
from mien.data import load_faces
from mien.data.readers import save_faces
from tests.cli.conftest import complaint, outputs
from tests.conftest import patterns, small_recipe


def no_splits(count: int = 70) -> FaceSet:
    return replace(patterns(count), split=np.full(count, ""))


def test_in_order_and_counts(capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(patterns(70), "faces.parquet")
    names = load_faces("faces.parquet").names.tolist()
    assert main(["data", "split", "faces.parquet", "--out", "a.parquet", "--in-order", "--sizes", "40,20"]) == 0
    assert capsys.readouterr().out == "wrote 60 faces to a.parquet: train 40, validation 20; 10 of 70 left out\n"
    read = load_faces("a.parquet")
    assert (read.select_split("train").names.tolist(), read.select_split("validation").names.tolist()) == (
        names[:40],
        names[40:60],
    )
    arguments = ["--in-order", "--fractions", ".8, .2", "--names", "train, test"]
    assert main(["data", "split", "faces.parquet", "--out", "b.csv", *arguments]) == 0
    assert load_faces("b.csv").split.tolist() == ["train"] * 56 + ["test"] * 14
    capsys.readouterr()
    assert main(["data", "split", "faces.parquet", "--out", "a.csv", "--in-order", "--sizes", "40,20", "--json"]) == 0
    parts = {"train": {"faces": 40, "labeled": 40}, "validation": {"faces": 20, "labeled": 20}}
    told = {"file": "a.csv", "faces": 60, "skipped": 0, "splits": parts}
    assert json.loads(capsys.readouterr().out) == told | {"left_out": 10}
    assert main(["data", "convert", "a.csv", "--out", "a2.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told | {"file": "a2.parquet"}
    counts = "angry=5,Happiness=8; happy=2,anger=3"
    assert main(["data", "split", "faces.parquet", "--out", "c.csv", "--counts", counts, "--names", "train,test"]) == 0
    assert capsys.readouterr().out.endswith("wrote 18 faces to c.csv: train 13, test 5; 52 of 70 left out\n")
    read = load_faces("c.csv")
    assert read.select_split("train").class_counts().tolist() == [5, 0, 0, 8, 0, 0, 0]
    assert read.select_split("test").class_counts().tolist() == [3, 0, 0, 2, 0, 0, 0]
    assert main(["data", "split", "faces.parquet", "--out", "d.parquet", "--counts", "sad=5", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert (load_faces("d.parquet").classes, load_faces("d.parquet").splits) == (("sad",), ("train",))


@pytest.mark.parametrize("out", ["out.parquet", "out"])
def test_labels_that_were_removed_are_unknown_when_read_again(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    from mien.training.preparation import select_run_faces

    save_faces(no_splits(140), "faces.parquet")
    truth = {name.split("/")[-1]: label for name, label in zip(patterns(140).names, patterns(140).labels, strict=True)}
    arguments = ["--fractions", "0.75,0.25", "--keep-labels", "0.2", "--seed", "3"]
    assert main(["data", "split", "faces.parquet", "--out", out, *arguments]) == 0
    assert capsys.readouterr().out == f"wrote 140 faces to {out}: train 105 (21 labeled), validation 35\n"
    read = load_faces(out)
    assert (len(read), sorted(read.splits)) == (140, ["train", "validation"])
    assert read.select_split("train").class_counts().tolist() == [3] * 7
    assert read.select_split("validation").class_counts().tolist() == [5] * 7
    ours = [truth[name.split("/")[-1].replace("Training_", "")] for name in read.names[read.is_labeled].tolist()]
    assert read.labels[read.is_labeled].tolist() == ours
    rows = select_run_faces(small_recipe(semi={"method": "pseudo-label"}), read, print)
    assert (len(rows.training), len(rows.validation), len(rows.unlabeled)) == (21, 35, 84)


def test_labels_are_removed_without_a_new_division() -> None:
    save_faces(concatenate_faces([patterns(70), patterns(14, seed=1, split="PublicTest")]), "faces.parquet")
    assert main(["data", "split", "faces.parquet", "--out", "a.parquet", "--keep-labels", "0.3", "-q"]) == 0
    read = load_faces("a.parquet")
    assert read.split.tolist() == ["Training"] * 70 + ["PublicTest"] * 14
    assert [int(read.select_split(name).is_labeled.sum()) for name in read.splits] == [21, 14]
    save_faces(no_splits(), "none.parquet")
    assert main(["data", "split", "none.parquet", "--out", "b.parquet", "--keep-labels", "0.3", "-q"]) == 0
    assert load_faces("b.parquet").class_counts().tolist() == [3] * 7


def test_a_file_that_is_divided_already_keeps_its_splits_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(concatenate_faces([patterns(70), patterns(14, seed=1, split="PublicTest")]), "faces.parquet")
    assert main(["data", "split", "faces.parquet", "--out", "a.parquet", "--official"]) == 0
    expected = "wrote 84 faces to a.parquet, divided as in faces.parquet: Training 70, PublicTest 14\n"
    assert capsys.readouterr().out == expected
    assert load_faces("a.parquet").split.tolist() == ["Training"] * 70 + ["PublicTest"] * 14


def test_what_cannot_hold_faces_without_labels_names_what_can(capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(no_splits(), "faces.parquet")
    command = ["data", "split", "faces.parquet", "--keep-labels", "0.3", "--out"]
    assert main([*command, "x.csv"]) == 2
    assert complaint(capsys) == (
        "mien: x.csv: cannot hold labeled and unlabeled faces together; write a .parquet file or a folder"
    )
    unlabeled = replace(patterns(7, split="mine"), labels=np.full(7, -1))
    save_faces(unlabeled, "mine.parquet")
    assert main(["data", "convert", "mine.parquet", "--out", "tree"]) == 2
    assert "tree: cannot hold the split 'mine'" in complaint(capsys)
    assert not Path("x.csv").exists()
    assert not Path("tree").exists()
    save_faces(replace(unlabeled, split=np.full(7, "test")), "test.parquet")
    assert main(["data", "convert", "test.parquet", "--out", "test-only.csv", "-q"]) == 0
    assert not load_faces("test-only.csv").is_labeled.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--in-order"], "needs one way to divide, and was given none"),
        (["--in-order", "--classes", "sad"], "--in-order: needs to know how large the parts are; give --sizes or"),
        (["--in-order", "--official"], "--in-order: needs to know how large the parts are"),
        (["--in-order", "--sizes", "60,20"], "sizes 60, 20 add up to 80 of 70 faces; ask for fewer"),
        (["--sizes", "10,0"], "--sizes 10,0: has a part without faces; give whole numbers above 0"),
        (["--sizes", "-3"], "--sizes -3: has a part without faces"),
        (["--fractions", "nan"], "fractions nan; give positive numbers that add up to at most 1"),
        (["--counts", "sad"], "--counts 'sad': is not of the form class=number, the number above 0; as in --counts"),
        (["--counts", "sad=5;"], "--counts '': is not of the form class=number"),
        (["--counts", "sad=0"], "--counts 'sad=0': is not of the form class=number"),
        (["--counts", "sad=1.5"], "--counts 'sad=1.5': is not of the form class=number"),
        (["--counts", "=5"], "--counts '=5': is not of the form class=number"),
        (["--counts", "sad=5,sadness=2"], "names sad twice in one part; name each class once"),
        (["--counts", "bored=5"], "bored does not occur; the data has angry, disgust"),
        (["--counts", "sad=6;sad=5"], "'validation' asks for 5 faces of sad, 4 are left; ask for fewer"),
        (["--counts", "sad=1;sad=1;sad=1;sad=1"], "--names: has 3 names for 4 parts; name every part"),
        (["--counts", "sad=1;sad=1", "--names", "a,"], "--names: 'a,' leaves a part without a name"),
        (["--counts", "sad=1", "--sizes", "5"], "was given --sizes and --counts"),
        (["--counts", "sad=1", "--classes", "sad"], "--counts and --classes: both name classes; leave --classes out"),
        (["--counts", "sad=1", "--in-order"], "--in-order: needs to know how large the parts are"),
        (["--keep-labels", "1"], "--keep-labels 1: is no share; give a number above 0 and below 1"),
        (["--keep-labels", "-0.1"], "--keep-labels -0.1: is no share"),
        (["--keep-labels", "nan"], "--keep-labels nan: is no share"),
        (["--keep-labels", "a"], "'--keep-labels'"),
        (["--keep-labels", "0.02"], "--keep-labels: 0.02 leaves no label of"),
        (["--fractions", ".5,.5", "--names", "a,b", "--keep-labels", ".5"], "finds no training split; the data has: a"),
        (["--sizes", "5", "--seed", "-1"], "'--seed'"),
    ],
)
def test_wrong_divisions_give_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_faces(patterns(70), "faces.csv")
    assert main(["data", "split", "faces.csv", "--out", "x.parquet", *arguments]) == 2
    assert message in complaint(capsys)
    assert sorted(path.name for path in Path().iterdir()) == ["faces.csv"]


@pytest.mark.slow
def test_a_preview_is_drawn_the_same_for_the_same_seed(capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(patterns(70), "a.csv")
    save_faces(patterns(14, seed=1, split="PublicTest"), "b.csv")
    command = ["data", "preview", "a.csv", "b.csv"]
    assert main([*command]) == 0
    assert capsys.readouterr() == ("wrote 7 faces of Training and 8 copies of each to mien-out/preview.png\n", "")
    assert outputs() == ["preview.png"]
    assert main([*command, "--out", "again.png", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("again.png").read_bytes() == Path("mien-out/preview.png").read_bytes()
    assert main([*command, "--out", "other.png", "--seed", "1", "-q"]) == 0
    assert Path("other.png").read_bytes() != Path("again.png").read_bytes()
    Path("small.toml").write_text(small_recipe().to_toml())
    options = ["--recipe", "small.toml", "--set", "augment.cutmix=1", "--split", "val", "--rows", "2", "--copies", "3"]
    assert main([*command, *options, "--out", "few.PNG"]) == 0
    assert capsys.readouterr().out == "wrote 2 faces of PublicTest and 3 copies of each to few.PNG\n"
    assert Image.open("few.PNG").width == 760
    assert Image.open("again.png").width == 2 * 16 + 9 * 152


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.csv"], "absent.csv: does not exist; check the path"),
        ([], "missing argument 'PATH'"),
        (["faces.csv", "--recipe", "bass"], "recipe 'bass': is unknown; choose one of base"),
        (["faces.csv", "--set", "augment.flop=1"], "has the unknown key 'augment.flop'; did you mean 'flip'?"),
        (["faces.csv", "--set", "augment.flip=2"], "augment.flip = 2"),
        (["faces.csv", "--split", "test"], "split 'test': does not occur; the data has: Training"),
        (["faces.csv", "--rows", "64"], "--rows: asks for 64 of 63 faces; ask for fewer"),  # a tenth is held out
        (["faces.csv", "--rows", "0"], "'--rows'"),
        (["faces.csv", "--copies", "0"], "'--copies'"),
        (["faces.csv", "--seed", "-1"], "'--seed'"),
        (["faces.csv", "--set", "input.size=40"], "read it with --size 48"),
        (["faces.csv", "--out", "x.jpg"], "--out x.jpg: does not end in .png; as in --out x.png"),
        (["faces.csv", "--out", "faces.csv"], "is, or lies inside, the input faces.csv"),
        (["unlabeled.csv"], "data: holds no labels"),
        (["one.csv"], "data: has no training face of"),
    ],
)
def test_what_cannot_be_previewed_gives_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_faces(patterns(70), "faces.csv")
    save_faces(patterns(1), "one.csv")
    Path("unlabeled.csv").write_text("pixels\n" + " ".join(["7"] * 2304) + "\n")
    assert main(["data", "preview", *arguments]) == 2
    assert message in complaint(capsys)
    assert outputs(".") == ["faces.csv", "one.csv", "unlabeled.csv"]


def test_broken_rows_are_left_out_of_a_preview_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(patterns(70), "faces.csv")
    with Path("faces.csv").open("a") as file:
        file.write("9,1 2 3,Training\n")
    assert main(["data", "preview", "faces.csv"]) == 2
    assert "has the unknown label '9'" in complaint(capsys)
    assert main(["data", "preview", "faces.csv", "--skip-bad", "--copies", "1"]) == 0
    assert capsys.readouterr().err.startswith("skipped 1 broken rows; the first: faces.csv row 70 (line 72)")


def test_without_torch_a_preview_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_faces(patterns(70), "faces.csv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["data", "preview", "faces.csv"]) == 2
    assert complaint(capsys).endswith("pip install 'mien[train]'")


def test_the_new_options_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "split", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("--in-order", "--counts", "--keep-labels"))
    assert main(["data", "preview", "--help"]) == 0
    assert capsys.readouterr().out.startswith("Usage: mien data preview [OPTIONS] {PATH}...")
