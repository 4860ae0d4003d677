from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.cli.main import main
from mien.core.types import FaceSet
from mien.data.readers import load_faces, save_faces
from mien.data.splits import compute_checksums, write_names
from mien.training.runs.checkpoint import save_trained_model
from mien.training.runs.lineage import (
    Lineage,
    collect_lineage,
    combine_lineages,
    describe_overlap,
    describe_stored_overlap,
    read_lineage,
)
from mien.training.torch_classifier import load_run
from mien.training.train import train
from tests.conftest import patterns, small_recipe, without_figures

pytestmark = pytest.mark.usefixtures("quick_export")


def of_faces(own: FaceSet, earlier: FaceSet | None = None, unknown: tuple[str, ...] = ()) -> Lineage:
    earlier_faces = np.empty(0, np.uint32) if earlier is None else np.unique(compute_checksums(earlier.images))
    return Lineage(np.unique(compute_checksums(own.images)), earlier_faces, 48, unknown)


def test_faces_that_trained_an_earlier_model_and_not_this_one_are_counted() -> None:
    faces = patterns(100)
    found = of_faces(faces.take(np.arange(90)), faces.take(np.arange(5, 95)))
    assert found.count_seen_by_ancestors(faces.take(np.arange(90, 100))) == 5
    assert (
        found.count_seen_by_ancestors(faces.take(np.arange(90))) == 0
    )  # duplicates of its own faces say nothing of a split
    assert found.count_seen(faces) == 90
    small = replace(faces, images=faces.images[:, ::2, ::2])
    assert found.count_seen_by_ancestors(small) == found.count_seen(small) == 0
    said, is_known = describe_overlap(found, faces.take(np.arange(90, 100)))
    assert said == "5 of these 10 faces trained a model that this one started from or learned from"
    assert is_known
    assert describe_overlap(of_faces(faces, unknown=("base",)), faces) == (
        "base may have learned from these faces",
        False,
    )
    assert describe_overlap(None, faces) == ("", False)


def test_a_lineage_goes_through_a_checkpoint_and_gathers_its_ancestors(run_folder: Path, tmp_path: Path) -> None:
    faces = patterns(40, seed=5)
    first = of_faces(faces.take([0, 1]), faces.take([2]), ("base",))
    save_trained_model(tmp_path / "first.pt", load_run(run_folder), lineage=first.to_checkpoint())
    back = read_lineage(tmp_path / "first.pt")
    assert back is not None
    assert np.array_equal(back.own_faces, first.own_faces) and back.unknown_ancestors == ("base",)
    second = collect_lineage([faces.take([3, 4])], [str(tmp_path / "first.pt"), "nano"])
    assert set(second.ancestor_faces) == set(compute_checksums(faces.images[:3]))
    assert set(second.unknown_ancestors) == {"nano", "base"}
    assert read_lineage("nano") is None and read_lineage(tmp_path) is None


def test_an_average_knows_the_faces_that_its_other_members_trained_on(tmp_path: Path) -> None:
    faces = patterns(20)
    one, other = of_faces(faces.take(np.arange(18))), of_faces(faces.take(np.arange(2, 20)))
    found = combine_lineages([one, other], ["a", "b"])
    assert found is not None
    assert found.count_seen_by_ancestors(faces.take([0, 1])) == 2
    write_names(faces.take([0, 1]), tmp_path / "validation.csv")
    assert (
        describe_stored_overlap(found, tmp_path / "validation.csv")
        == "2 of the 2 held-out faces trained another of the runs"
    )
    half_known = combine_lineages([None, other], ["a", "b"])
    assert half_known is not None and half_known.unknown_ancestors == ("a",)
    assert describe_stored_overlap(half_known, tmp_path / "validation.csv") == "a may have learned from these faces"
    assert combine_lineages([one, None], ["a", "b"]) is None


QUICK = {"schedule": {"epochs": 1, "warmup_epochs": 0}, "input": {"normalize": "half"}}


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces.csv and a run "first"."""
    folder = tmp_path_factory.mktemp("lineage")
    save_faces(patterns(140, split=""), folder / "faces.csv")
    with without_figures():
        train(
            small_recipe(**QUICK),
            load_faces(folder / "faces.csv"),
            folder / "first",
            quiet=True,
            echo=lambda text: None,
        )
    return folder


@pytest.fixture(scope="module")
def runs(one_run: Path) -> Path:
    """The same folder with two runs that began with the first: with its seed, and with another."""
    for name, seed in (("same", 0), ("other", 1)):
        said: list[str] = []
        recipe = small_recipe(**QUICK, start={"model": str(one_run / "first")}, run={"seed": seed})
        with without_figures():
            train(recipe, load_faces(one_run / "faces.csv"), one_run / name, quiet=True, echo=said.append)
        (one_run / f"{name}.txt").write_text("\n".join(said))
    return one_run


@pytest.mark.slow
def test_a_second_run_that_holds_out_what_trained_the_first_says_so_everywhere(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    assert "trained a model" not in Path("same.txt").read_text()
    header = json.loads(Path("other/log.jsonl").read_text().splitlines()[0])
    caveat = header["held_out_caveat"]
    assert caveat.endswith("of these 14 faces trained a model that this one started from or learned from")
    assert f"note: {caveat}" in Path("other.txt").read_text()
    assert json.loads(Path("other/scores.json").read_text())["split"] == f"held out ({caveat})"
    assert json.loads(Path("same/scores.json").read_text())["split"] == "held out"

    assert main(["evaluate", "other", "--data", "faces.csv", "--out", "o"]) == 0
    out, err = capsys.readouterr()
    assert caveat in out and caveat in err and caveat in Path("o/scores.txt").read_text()
    assert json.loads(Path("o/scores.json").read_text())["split"] == f"held out of faces.csv ({caveat})"
    assert main(["evaluate", "same", "--data", "faces.csv", "--out", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["split"] == "held out of faces.csv"
    assert main(["export", "other", "--data", "faces.csv", "--out", "other.onnx"]) == 0
    assert "no scores are written" in capsys.readouterr().err
    card = Path("other.md").read_text()
    assert caveat in card and "## Scores" not in card
    assert main(["report", "other", "--data", "faces.csv", "--no-saliency", "--out", "r", "-q"]) == 0
    assert caveat in json.loads(Path("r/report.json").read_text())["split"]
    assert main(["compare", "same", "other", "--data", "faces.csv", "--out", "c", "-q"]) == 0
    assert "other may have been trained on these faces" in json.loads(Path("c/compare.json").read_text())["notes"][0]


@pytest.mark.slow
def test_the_average_of_runs_that_held_out_different_faces_is_refused_or_says_so(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    data = ["--data", "faces.csv"]
    for one, two in (("first", "other"), ("first/last.pt", "other/last.pt")):
        assert main(["average", one, two, *data, "--out", "mean"]) == 2
        assert "have different validation faces" in capsys.readouterr().err
    Path("first.pt").write_bytes(Path("first/last.pt").read_bytes())  # alone, without the list of what it held out
    assert main(["average", "first.pt", "other", *data, "--out", "mean"]) == 0
    assert "held-out faces trained another of the runs, so that scores on them are too good" in capsys.readouterr().err
    assert main(["evaluate", "mean", *data, "--out", "m", "--json"]) == 0
    assert "trained a model that this one started from" in json.loads(capsys.readouterr().out)["split"]
    assert main(["average", "first", "same", *data, "--out", "good"]) == 0
    assert "too good" not in capsys.readouterr().err


def test_a_run_that_is_given_its_training_faces_under_other_names_says_so(
    one_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(one_run)
    faces = patterns(140, split="")
    save_faces(replace(faces, names=np.array([f"x{n}" for n in range(140)])), Path("renamed.csv"))
    assert main(["evaluate", "first", "--data", "renamed.csv", "--out", "e"]) == 0
    assert "renamed.csv is what models are trained on" in capsys.readouterr().err
    save_faces(patterns(70, seed=9, split=""), Path("new.csv"))
    assert main(["evaluate", "first", "--data", "new.csv", "--out", "e"]) == 0
    assert "trained" not in capsys.readouterr().err
    assert torch.load("first/best.pt", weights_only=True)["lineage"]["own"].shape == (126,)
