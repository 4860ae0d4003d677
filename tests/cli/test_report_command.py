from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mien.cli.main import main
from mien.cli.reports import select_common_faces
from mien.data.splits import write_names
from tests.cli.conftest import complaint, outputs
from tests.conftest import patterns


@pytest.fixture
def data() -> Path:
    """Training faces and faces to measure on, in one file."""
    from mien.core.types import concatenate_faces
    from mien.data.readers import save_faces

    faces = concatenate_faces([patterns(70), patterns(35, seed=1, split="PublicTest")])
    save_faces(faces, "faces.parquet")
    return Path("faces.parquet")


def probabilities_of(path: str) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, names of the truth) of a predictions CSV."""
    import csv

    with Path(path).open() as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name.startswith("p_")]
    return np.array([[float(row[name]) for name in columns] for row in rows]), np.array([row["truth"] for row in rows])


@pytest.mark.slow
def test_a_report_of_a_run(run_folder: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run_folder), "--data", str(data), "--out", "r"]) == 0
    out, err = capsys.readouterr()
    assert f"{run_folder} on PublicTest" in out
    assert "Matthews correlation" in out
    assert err == "70 faces that are not PublicTest are left out; --split selects another split\n"
    values = json.loads(Path("r/report.json").read_text())
    assert main(["evaluate", str(run_folder), "--data", str(data), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    same = ("model", "data", "split", "tta", "count", "accuracy", "accuracy_interval", "macro_f1",
            "confusion", "classes")  # fmt: skip
    assert {name: values[name] for name in same} == {name: scores[name] for name in same}
    assert values["log_loss"] == pytest.approx(scores["log_loss"], rel=1e-6)  # summed in another order
    assert (values["training"]["split"], values["training"]["count"], values["training"]["of"]) == ("Training", 70, 70)
    html = Path("r/report.html").read_text()
    assert "Grad-CAM" in html
    assert {"training_loss.png", "training_recall.png", "roc.png", "report.html"} <= set(outputs("r"))


@pytest.mark.slow
def test_a_report_of_a_model_file_as_json_on_the_split_that_is_asked_for(
    model_file: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--split", "Training", "--tta", "flip", "--no-saliency", "--json"]
    assert main(["report", str(model_file), "--data", str(data), *asked]) == 0
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert values == json.loads(Path("mien-out/report.json").read_text())
    assert (values["count"], values["tta"], values["training"]) == (70, "flip", None)
    assert values["notes"] == [
        "Note: Training is what models are trained on; a score on it says little of other faces."
    ]
    assert err == ""
    html = Path("mien-out/report.html").read_text()
    assert "Grad-CAM" not in html
    assert 'id="training"' not in html


@pytest.mark.slow
def test_a_model_that_torch_cannot_rebuild_has_a_report_without_saliency(
    model_file: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mien.cli import reports
    from mien.core.errors import MissingExtra

    def missing() -> None:
        raise MissingExtra("torch", "train", "for training")

    monkeypatch.setattr(reports, "require_torch", missing)
    assert main(["report", str(model_file), "--data", str(data), "-q"]) == 0
    assert (
        "Without saliency: torch is not installed and is needed for training."
        in Path("mien-out/report.html").read_text()
    )


def test_a_network_without_convolutions_is_asked_for_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import torch

    from mien.cli.reports import _make_saliency
    from mien.core.preprocessing import Preprocessing
    from mien.training import torch_classifier as inference

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 48, 7)).eval()
    monkeypatch.setattr(
        inference, "open_trained_model", lambda model: SimpleNamespace(network=network, preprocessing=Preprocessing())
    )
    faces = patterns(7)
    of_rows, method, why = _make_saliency("any", faces.images, np.eye(7))
    assert (method, why) == ("what the model looked at, by the size of the gradient (Simonyan et al., 2014)", "")
    pictures = of_rows(np.array([3, 5]))
    assert (pictures.dtype, pictures.shape) == (np.uint8, (2, 96, 96, 3))


def test_two_models_on_the_same_faces(
    run_folder: Path, model_file: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "base", str(model_file), "--data", str(data), "--out", "c"]) == 0
    out, err = capsys.readouterr()
    assert "McNemar p = " in out
    assert "wrote c/compare.html and compare.json" in out.replace("\\", "/")
    assert err == "70 faces that are not PublicTest are left out; --split selects another split\n"
    values = json.loads(Path("c/compare.json").read_text())
    right = []
    for model in ("base", str(model_file)):
        assert main(["predict", model, "--data", str(data), "--split", "PublicTest", "--out", "p.csv", "-q"]) == 0
        probabilities, truth = probabilities_of("p.csv")
        right.append(np.array(values["classes"])[probabilities.argmax(axis=1)] == truth)
    assert values["mcnemar"]["only_a"] == (right[0] & ~right[1]).sum()
    assert values["mcnemar"]["only_b"] == (right[1] & ~right[0]).sum()
    assert values["differences"]["accuracy"]["value"] == pytest.approx(right[1].mean() - right[0].mean())
    assert len(values["changed"]) == (right[0] != right[1]).sum()
    capsys.readouterr()
    # a run and its own export give the same answers
    assert main(["compare", str(run_folder), str(model_file), "--data", str(data), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["same_prediction"], values["changed"], values["mcnemar"]["p_value"]) == (35, [], 1)


def test_what_cannot_be_compared_or_reported(
    model_file: Path, data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["compare", "base", "base", "--data", str(data)]) == 2
    assert "base and base: are one and the same model; name two" in complaint(capsys)
    assert main(["report", "base", "--data", str(data), "--tta", "five"]) == 2
    assert "--tta five: is unknown" in complaint(capsys)
    assert main(["report", "nobody", "--data", str(data)]) == 2
    assert "model 'nobody': is unknown" in complaint(capsys)
    assert main(["report", "base", "--data", "none.csv"]) == 2
    assert "none.csv: does not exist" in complaint(capsys)
    assert not Path("mien-out").exists()


@pytest.mark.slow
def test_the_pages_open_in_a_browser_without_a_network(browser, run_folder: Path, data: Path) -> None:
    """No request leaves the file, nothing is complained of, and every section, picture and cell is drawn."""
    assert main(["report", str(run_folder), "--data", str(data), "--out", "r", "-q"]) == 0
    assert main(["compare", "base", str(run_folder), "--data", str(data), "--out", "r", "-q"]) == 0
    assert Path("r/report.html").stat().st_size < 15e6
    shutil.move("r/report.html", "alone.html")  # a page needs no file beside it
    for path in ("alone.html", "r/compare.html"):
        for width in (360, 1280):
            for scheme in ("light", "dark"):
                _look(browser, Path(path).resolve().as_uri(), width, scheme)
    _open_cells(browser, Path("alone.html").resolve().as_uri())


def _look(browser, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page = context.new_page()
    troubles: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(request.url[:80]))
    page.on("request", lambda request: None if request.url.startswith("data:") else requests.append(request.url))
    page.goto(address, wait_until="load")
    assert troubles == []
    assert requests == [address]
    broken = "[...document.images].filter(image => !image.complete || image.naturalWidth === 0).length"
    assert page.evaluate(broken) == 0
    heights = "[...document.querySelectorAll('main > section')].map(each => each.getBoundingClientRect().height)"
    assert min(page.evaluate(heights)) > 60
    anchors = "[...document.querySelectorAll('nav a')].every(a => document.getElementById(a.hash.slice(1)))"
    assert page.evaluate(anchors)
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # what is wider scrolls within itself
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    context.close()


def _open_cells(browser, address: str) -> None:
    """A cell of the confusion matrix opens its faces, and only its own."""
    page = browser.new_page()
    page.goto(address)
    links = page.query_selector_all(".confusion td a")
    assert links
    for link in links[:3]:
        link.click()
        shown = page.evaluate(
            "[...document.querySelectorAll('.cell')].filter(e => e.offsetHeight).map(e => '#' + e.id)"
        )
        assert shown == [link.get_attribute("href")]
        assert page.evaluate("document.querySelector('.cell:target img').getBoundingClientRect().height") == 96
    page.close()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_two_runs_are_compared_on_what_neither_has_seen(order: tuple[str, str]) -> None:
    faces = patterns(40, split="")
    for name, rows in (("a", [0, 1, 2, 3]), ("b", [2, 3, 4, 5])):
        Path(name).mkdir()
        write_names(faces.take(rows), Path(name, "validation.csv"))
    found, _, notes = select_common_faces(faces, "", [Path("x.csv")], order)
    assert (found.names.tolist(), notes) == (faces.names[2:4].tolist(), [])
    write_names(faces.take([8, 9, 10]), Path("b", "validation.csv"))  # nothing in common
    found, _, notes = select_common_faces(faces, "", [Path("x.csv")], order)
    assert (len(found), notes) == (3, ["Note: a may have been trained on these faces."])
