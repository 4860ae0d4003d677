"""The pages of `report` and `compare`: which faces they show, what stands in them, and that they need nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.core.types import FaceSet
from mien.evaluation.reports import page
from mien.evaluation.reports.comparison_report import format_comparison, write_comparison
from mien.evaluation.reports.curves import draw_figure
from mien.evaluation.reports.galleries import find_confused, pick_faces, render_faces, shrink_pictures
from mien.evaluation.reports.model_report import Extras, TrainingRecall, write_report
from tests.conftest import patterns
from tests.evaluation.test_page import images_in

FACTS = {"model": "m", "data": ["d.csv"], "split": "s", "tta": "none"}


def answers(faces: FaceSet, seed: int = 0) -> np.ndarray:
    """Probabilities (N, K), right about two times in three."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (len(faces), len(faces.classes)))
    logits[np.arange(len(faces)), faces.labels] += 1.8
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.fixture
def voted(faces: FaceSet) -> FaceSet:
    votes = np.random.default_rng(0).multinomial(
        10, [0.3, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.02], len(faces)
    )
    return replace(faces, votes=votes.astype(np.uint8))


def test_the_faces_that_are_picked() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55], [0.3, 0.7], [0.1, 0.9]])
    first, second = pick_faces(probabilities, labels, 2)
    assert [rows.tolist() for rows in first] == [[0, 1], [2, 3], [3, 1]]
    assert [rows.tolist() for rows in second] == [[5, 4], [], [4, 5]]
    assert find_confused(probabilities, labels, 0, 1, 9).tolist() == [2, 3]
    assert find_confused(probabilities, labels, 0, 1, 1).tolist() == [2]
    assert find_confused(probabilities, labels, 1, 0, 9).tolist() == []


def test_a_face_is_shown_with_its_answer_its_votes_and_its_saliency(voted: FaceSet) -> None:
    votes = np.zeros((70, 10), np.uint8)
    votes[8, [3, 6]] = 7, 3  # sad, fear
    probabilities = np.tile([0.05, 0.05, 0.5, 0.1, 0.2, 0.05, 0.05], (70, 1))
    asked: list[list[int]] = []

    def saliency(rows: np.ndarray) -> np.ndarray:
        asked.append(rows.tolist())
        return np.full((len(rows), 96, 96, 3), 7, np.uint8)

    html = render_faces(replace(voted, votes=votes), probabilities, np.array([8, 2]), saliency)
    assert asked == [[8, 2]]
    assert "disgust, predicted as fear\nannotators: sad 7, fear 3\nTraining/00008.png" in html.replace("&#39;", "'")
    assert "fear, correct" not in html.split("Training/00008.png")[0]
    assert 'alt="a face labeled disgust, predicted as fear"' in html
    pictures = images_in(html)
    np.testing.assert_array_equal(pictures[0], voted.images[8])
    assert (pictures[1] == 7).all()
    bars = re.findall(r"<li><span>(\w+)</span>.*?<span>(\d+) %</span>", html)
    assert bars[:3] == [("fear", "50"), ("sad", "20"), ("happy", "10")]
    assert render_faces(voted, probabilities, np.empty(0, int)) == "<p>None.</p>"


def test_large_pictures_are_made_smaller() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 192, 96, 3), dtype=np.uint8)
    made = shrink_pictures(images, 96)
    assert made.shape == (2, 96, 48, 3)
    by_hand = images.reshape(2, 96, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(made - by_hand).max() <= 1
    assert shrink_pictures(images, 192) is images


@pytest.mark.slow
def test_a_report_with_everything(voted: FaceSet, tmp_path: Path) -> None:
    probabilities = answers(voted)
    history = [
        {"epoch": k, "loss": 2 / k, "accuracy": 0.2 * k, "validation_loss": 2.2 / k, "validation_accuracy": 0.15 * k}
        for k in (1, 2, 3)
    ]
    training = TrainingRecall("Training", 14, 140, np.eye(7, dtype=int) * 2)
    extras = Extras(lambda rows: np.zeros((len(rows), 96, 96, 3), np.uint8), "made up", history, training, ("A note.",))
    values = write_report(tmp_path, "m on <s>", FACTS, voted, probabilities, extras)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    sections = ["Summary", "Faces", "Confusions", "Scores", "ROC and precision-recall", "Confidence",
                "Agreement with the annotators", "Training", "How this was measured"]  # fmt: skip
    assert re.findall(r"<h2 [^>]*>(.*?)</h2>", html) == sections
    assert "<h1>m on &lt;s&gt;</h1>" in html
    assert "A note." in html
    assert not re.search(r"""(src|srcset|href)=["'](?!data:|#)""", html)
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(re.findall(r'id="([^"]+)"', html))
    assert not re.findall(r'<img class="figure"[^>]*alt=""', html)
    figures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert figures == ["confidence.png", "confusion.png", "precision_recall.png", "rater_agreement.png", "recall.png",
                       "reliability.png", "roc.png", "training_accuracy.png", "training_loss.png",
                       "training_recall.png"]  # fmt: skip
    assert values == json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert values["training"]["accuracy"] == 1
    assert values["rater_agreement"]["count"] == 70
    assert (values["model"], values["notes"]) == ("m", ["A note."])
    assert len(html) < 4e6


@pytest.mark.slow
def test_every_cell_of_the_confusion_matrix_opens_its_faces(faces: FaceSet, tmp_path: Path) -> None:
    probabilities = answers(faces)
    values = write_report(tmp_path, "t", FACTS, faces, probabilities, Extras())
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    predicted = probabilities.argmax(axis=1)
    for i, row in enumerate(values["confusion"]):
        for j, count in enumerate(row):
            found = re.search(rf'<section id="cell-{i}-{j}".*?</section>', html, re.DOTALL)
            assert (found is not None) == (count > 0)
            if found:
                names = re.findall(r"Training/\d+\.png", found[0])
                wanted = faces.names[(faces.labels == i) & (predicted == j)]
                assert len(names) == min(count, 12)
                assert set(names) <= set(wanted.tolist())
    assert "Agreement with the annotators" not in html
    assert values["rater_agreement"] is None


def test_a_report_where_a_class_is_absent_and_another_never_right(tmp_path: Path) -> None:
    faces = patterns(6, classes=("happy", "sad"))
    faces = replace(faces, labels=np.array([0, 0, 0, 1, 1, 1]), classes=("happy", "sad", "fear"))
    probabilities = np.array([[0.8, 0.1, 0.1]] * 6)
    values = write_report(tmp_path, "t", FACTS, faces, probabilities, Extras())
    assert values["per_class"][2]["roc_auc"] is None
    assert (values["matthews_correlation"], values["cohen_kappa"]) == (0, 0)
    assert "NaN" not in (tmp_path / "report.json").read_text()
    assert "nan" not in re.sub(r"data:image/png;base64,[\w+/=]+", "", (tmp_path / "report.html").read_text())


def test_figures_are_drawn_for_light_and_dark_pages(tmp_path: Path) -> None:
    figure = draw_figure(lambda axes: axes.plot([0, 1]) and "a line", tmp_path / "x.png")
    light, dark = images_in(f"data:image/png;base64,{_b64(figure.light)} data:image/png;base64,{_b64(figure.dark)}")
    assert light[0, 0, :3].tolist() == [255, 255, 255]
    assert dark[0, 0, :3].tolist() == [0x14, 0x18, 0x1C]
    assert figure.alt == "a line"
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "x.png")), light)


def test_a_comparison_shows_the_faces_that_changed(faces: FaceSet, tmp_path: Path) -> None:
    a, b = answers(faces, 1), answers(faces, 2)
    found, values = write_comparison(tmp_path, ("one", "two"), FACTS, faces, (a, b), ["A note."])
    html = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2 [^>]*>(.*?)</h2>", html) == ["Summary", "Classes", "Gained", "Lost",
                                                          "How this was measured"]  # fmt: skip
    right_a, right_b = a.argmax(axis=1) == faces.labels, b.argmax(axis=1) == faces.labels
    gained = html.split('id="gained"')[1].split('id="lost"')[0]
    assert set(re.findall(r"Training/\d+\.png", gained)) == set(faces.names[right_b & ~right_a].tolist())
    assert {row["path"] for row in values["changed"] if row["change"] == "lost"} == set(
        faces.names[right_a & ~right_b].tolist()
    )
    assert values == json.loads((tmp_path / "compare.json").read_text())
    assert values["a"]["accuracy"] == pytest.approx(right_a.mean())
    assert not re.search(r"""(src|srcset|href)=["'](?!data:|#)""", html)
    text = format_comparison(found, ("one", "two"))
    assert f"only A correct {(right_a & ~right_b).sum()}, only B correct {(right_b & ~right_a).sum()}" in text
    assert f"McNemar p = {found.mcnemar.p_value:.3f}" in text


def test_equal_models_are_called_equal(faces: FaceSet, tmp_path: Path) -> None:
    a = answers(faces)
    found, _ = write_comparison(tmp_path, ("one", "two"), FACTS, faces, (a, a))
    assert "difference in accuracy on 70 faces is not significant (p = 1.000)" in format_comparison(
        found, ("one", "two")
    )
    assert (tmp_path / "compare.html").read_text().count("<p>None.</p>") == 2


def _b64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def test_a_confusion_matrix_as_a_table_and_small_lines_in_cells() -> None:
    matrix, rates = np.array([[1, 0], [3, 1200]]), np.array([[1, 0], [0.0025, 0.9975]])
    html = page.render_confusion(["<a>", "b"], matrix, rates, {(0, 0): "<p>x</p>"}, caption="c")
    assert (
        '<a href="#cell-0-0" aria-label="&lt;a&gt; predicted as &lt;a&gt;: 1 face">1<small>100.0 %</small></a>' in html
    )
    assert html.count("<a ") == 1  # only what opens something is a link
    assert '<section id="cell-0-0" class="cell"' in html
    assert "<p>x</p>" in html
    assert "1,203" in html
    html = page.render_table(["a"], [[page.render_cell("0.500", "<0.4")], ["—"]])
    assert '<td class="number">0.500<small>&lt;0.4</small></td>' in html
    assert "<strong>1 &lt; 2</strong><small>b</small>" in page.render_cards([("a", "1 < 2", "b")])
    assert page.render_columns(["<i>1</i>", "2"]).count("<div>") == 2
