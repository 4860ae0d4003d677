from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.cli.main import main
from mien.core.labels import FER2013
from mien.core.types import FaceSet
from mien.data.readers import save_faces
from tests.cli.conftest import complaint, outputs
from tests.conftest import patterns
from tests.data.test_duplicates import blobs, lit, mirrored

QUICK = ["--no-non-faces", "--quiet"]


def with_duplicates() -> FaceSet:
    """60 training and 4 validation faces; of the latter two are duplicates of training faces, one with another label."""
    base = patterns(64)
    images = blobs(64)
    images[60], images[61] = images[3], mirrored(lit(images[4]))
    labels = base.labels.copy()
    labels[60], labels[61] = labels[3], (labels[4] + 1) % 7
    split = np.array(["Training"] * 60 + ["PublicTest"] * 4)
    return replace(base, images=images, labels=labels, split=split)


def names(file: str) -> list[str]:
    with Path("mien-out", file).open() as table:
        return [row["path"] for row in csv.DictReader(table)]


def test_what_an_audit_writes_and_that_exclude_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(with_duplicates(), "faces.csv")
    assert main(["audit", "faces.csv", "--no-labels", "--no-non-faces"]) == 0
    said = capsys.readouterr().out
    assert "2 groups of 4 faces; 1 groups are exact" in said
    assert "2 across splits, 1 with contradicting labels" in said
    assert "not checked: labels (--no-labels)" in said
    assert outputs() == ["audit.csv", "audit.html", "audit.json", "duplicates.csv", "leaked.csv", "nonfaces.csv"]
    assert names("duplicates.csv") == ["faces.csv#3", "faces.csv#4"]
    assert names("leaked.csv") == ["faces.csv#60", "faces.csv#61"]
    values = json.loads(Path("mien-out/audit.json").read_text())
    assert (values["groups"]["across_splits"], values["mirrored_pairs"], values["leaked"]["PublicTest"]) == (2, 1, 2)
    page = Path("mien-out/audit.html").read_text()
    assert "Duplicates with contradicting labels" in page
    assert 'src="http' not in page
    arguments = ["evaluate", "base", "--data", "faces.csv", "--split", "PublicTest", "--exclude", "mien-out/leaked.csv"]
    assert main([*arguments, "--json", "--out", "scores"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 2


def test_labels_are_judged_by_given_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    faces = patterns(140)
    labels = faces.labels.copy()
    labels[[10, 50]] = (labels[[10, 50]] + 3) % 7
    save_faces(replace(faces, labels=labels), "faces.csv")
    rows = np.full((140, 7), 0.05)
    rows[np.arange(140), faces.labels] = 0.7
    lines = [",".join(["path", "label", *(f"p_{name}" for name in faces.classes)])]
    lines += [f"faces.csv#{index},x," + ",".join(map(str, row)) for index, row in enumerate(rows)]
    Path("p.csv").write_text("\n".join(lines))
    assert main(["audit", "faces.csv", "--probabilities", "p.csv", "--no-near-duplicates", *QUICK]) == 0
    assert sorted(names("labels.csv")) == ["faces.csv#10", "faces.csv#50"]
    assert names("audit.csv") == ["faces.csv#10", "faces.csv#50"]
    with Path("mien-out/labels.csv").open() as table:
        assert {row["suggested_label"] for row in csv.DictReader(table)} == {
            faces.classes[faces.labels[k]] for k in (10, 50)
        }


@pytest.mark.slow
def test_planted_flips_are_found_by_networks_trained_here_which_are_kept(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    faces = patterns(420)
    labels = faces.labels.copy()
    flips = np.random.default_rng(0).permutation(420)[:12]
    labels[flips] = (labels[flips] + 2) % 7
    save_faces(replace(faces, labels=labels), "faces.csv")
    arguments = ["audit", "faces.csv", "--folds", "2", "--epochs", "12", "--no-near-duplicates", *QUICK]
    assert main(arguments) == 0
    found = {int(name.split("#")[1]) for name in names("audit.csv")}
    assert len(found & set(flips.tolist())) >= 10
    before, kept = Path("mien-out/audit.csv").read_text(), Path("mien-out/folds/fold-1/best.pt").stat().st_mtime_ns
    assert main(arguments) == 0
    assert Path("mien-out/audit.csv").read_text() == before
    assert Path("mien-out/folds/fold-1/best.pt").stat().st_mtime_ns == kept
    assert (
        main(["audit", "faces.csv", "--probabilities", "mien-out/probabilities.csv", "--no-near-duplicates", *QUICK])
        == 0
    )
    assert names("audit.csv") == [row.split(",")[0] for row in before.splitlines()[1:]]
    save_faces(patterns(420, seed=9), "faces.csv")
    capsys.readouterr()
    assert main(arguments) == 2
    assert "was trained with other faces" in complaint(capsys)


def test_data_without_labels_or_with_few_is_audited_for_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    faces = with_duplicates()
    save_faces(replace(faces, labels=np.full(64, -1, np.int64)), "faces.parquet")
    assert main(["audit", "faces.parquet", "--no-non-faces"]) == 0
    assert "labels (there are none)" in capsys.readouterr().out
    save_faces(faces.take(np.arange(20)), "few.csv")
    assert main(["audit", "few.csv", "--json"]) == 0
    nonfaces, labels = json.loads(capsys.readouterr().out)["skipped_checks"]
    assert "non-faces (fewer than 1,000 faces" in nonfaces and "too few for 3 folds" in labels


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.csv"], "nowhere.csv: does not exist"),
        (["faces.csv", "--probabilities", "p.csv", "--model", "base"], "was given with --model"),
        (["faces.csv", "--no-labels", "--model", "base"], "--no-labels: contradicts --model"),
        (["faces.csv", "--probabilities", "p.csv"], "p.csv: does not exist"),
        (["faces.csv", "--model", "nothing", "--no-near-duplicates", "--no-non-faces"], "model 'nothing': is unknown"),
        (["faces.csv", "--folds", "1"], "--folds"),
        (["faces.csv", "--out", "faces.csv"], "--out faces.csv: is, or lies inside, the input faces.csv"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(patterns(14), "faces.csv")
    assert main(["audit", *arguments]) == 2
    assert message in complaint(capsys)


@pytest.mark.slow
def test_labels_of_data_without_one_of_fer2013s_classes_are_judged() -> None:
    pytest.importorskip("torch")
    faces = patterns(280)
    faces = faces.take(faces.labels != 2)
    save_faces(faces, "faces.csv")
    assert main(["audit", "faces.csv", "--folds", "2", "--epochs", "1", "--no-near-duplicates", *QUICK]) == 0
    with Path("mien-out/probabilities.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 240 and {float(row[f"p_{FER2013[2]}"]) for row in rows} == {0.0}
