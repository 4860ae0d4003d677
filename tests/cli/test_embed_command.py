from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mien.cli.main import main
from mien.core.types import concatenate_faces
from mien.data.readers import save_faces
from tests.cli.conftest import complaint, outputs
from tests.conftest import patterns, voted

pytest.importorskip("sklearn")


def write_faces() -> None:
    parts = (patterns(140), patterns(42, seed=1, split="PublicTest"), patterns(42, seed=2, split="PrivateTest"))
    save_faces(concatenate_faces(parts), "faces.parquet")


@pytest.mark.parametrize("method", ["pca", pytest.param("tsne", marks=pytest.mark.slow)])
def test_what_embed_writes(method: str, model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    write_faces()
    assert main(["embed", str(model_file), "--data", "faces.parquet", "--method", method, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(Path("mien-out/embedding.json").read_text())
    assert outputs() == ["embedding.csv", "embedding.html", "embedding.json", "embedding.png"]
    after, before = said["features"]["splits"], said["raw pixels"]["splits"]
    assert list(after) == ["Training", "PublicTest", "PrivateTest"]
    assert after["PublicTest"]["faces"] == 42
    assert after["PublicTest"]["knn_accuracy"] >= before["PublicTest"]["knn_accuracy"]
    assert after["Training"]["silhouette"] > before["Training"]["silhouette"]
    with Path("mien-out/embedding.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 224
    assert list(rows[0]) == ["path", "split", "label", "predicted", "pixels_x", "pixels_y", "features_x", "features_y"]


def test_a_model_of_the_raters_labels_is_shown_faces_by_these() -> None:
    pytest.importorskip("plotly")
    faces = patterns(14)
    save_faces(voted(faces, *({"contempt": 9, "neutral": 1} for _ in range(6))), "voted.parquet")
    assert main(["embed", "ferplus", "--data", "voted.parquet", "--method", "pca", "--quiet"]) == 0
    with Path("mien-out/embedding.csv").open() as table:
        assert [row["label"] for row in csv.DictReader(table)] == ["contempt"] * 6 + [""] * 8


def test_a_sample_is_stratified_and_comes_again_from_its_seed(model_file: Path) -> None:
    pytest.importorskip("plotly")
    write_faces()
    arguments = ["embed", str(model_file), "--data", "faces.parquet", "--sample", "28", "--quiet", "--seed", "4"]
    assert main([*arguments, "--out", "a"]) == 0
    assert main([*arguments, "--out", "b"]) == 0
    assert Path("a/embedding.csv").read_text() == Path("b/embedding.csv").read_text()
    with Path("a/embedding.csv").open() as table:
        rows = list(csv.DictReader(table))
    counts = {(row["split"], row["label"]) for row in rows}
    assert len(rows) == 84 and len(counts) == 21


def test_a_run_folder_gives_the_features_of_its_model_file(run_folder: Path, model_file: Path) -> None:
    from mien.analysis.inference.classifier import Classifier
    from mien.training.torch_classifier import TorchClassifier, load_run

    images = patterns(70, seed=5).images
    ours, by_torch = Classifier(model_file).features(images), TorchClassifier(load_run(run_folder)).features(images)
    assert ours[0].shape == (70, 16)
    assert np.allclose(ours[0], by_torch[0], atol=1e-4)
    assert np.allclose(ours[1], by_torch[1], atol=1e-4)
    assert np.allclose(ours[1], Classifier(model_file).probabilities(images), atol=1e-5)


def test_pointing_at_a_point_shows_its_face(browser, model_file: Path) -> None:
    pytest.importorskip("plotly")
    faces = replace(patterns(42), names=np.array([f"a</script>{index}.png" for index in range(42)]))
    save_faces(faces, "faces.parquet")
    assert main(["embed", str(model_file), "--data", "faces.parquet", "-q"]) == 0
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong, asked = [], []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.goto(Path("mien-out/embedding.html").resolve().as_uri())
    page.wait_for_selector(".scatterlayer .point", timeout=120_000)
    box = page.locator("#plots > div").nth(1).locator(".scatterlayer .point").nth(5).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
    page.wait_for_selector("#under", state="visible", timeout=20_000)
    row = int(page.locator("#under").get_attribute("data-row"))
    text = page.locator("#words").inner_text()
    pixels = page.evaluate(
        "() => Array.from(document.getElementById('face').getContext('2d').getImageData(0, 0, 144, 144).data)"
    )
    page.close()
    assert not wrong and not asked
    assert text.startswith(f"a</script>{row}.png: {faces.classes[faces.labels[row]]}, predicted ")
    shown = np.array(pixels).reshape(144, 144, 4)[1::3, 1::3, 0]
    assert np.abs(shown - faces.images[row].astype(int)).max() <= 8  # 32 grays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base", "--data", "faces.csv", "--method", "lda"], "--method lda: is unknown; choose one of pca, tsne, umap"),
        (["nothing", "--data", "faces.csv"], "model 'nothing': is unknown"),
        (["base", "--data", "nowhere.csv"], "nowhere.csv: does not exist"),
        (["base", "--data", "faces.csv", "--split", "test"], "split 'test': does not occur"),
        (["base", "--data", "two.csv"], "data: has 2 faces, too few to be laid out"),
    ],
)
def test_wrong_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_faces(patterns(14), "faces.csv")
    save_faces(patterns(2), "two.csv")
    assert main(["embed", *arguments]) == 2
    assert message in complaint(capsys)


def test_umap_names_its_install_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        import umap  # noqa: F401
    except ImportError:
        save_faces(patterns(14), "faces.csv")
        assert main(["embed", "base", "--data", "faces.csv", "--method", "umap"]) == 2
        assert complaint(capsys).endswith("pip install umap-learn")
