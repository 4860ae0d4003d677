"""What `mien finish` makes of a small trained network: calibrated, quantized, with a second answer, its weights untouched."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import METADATA_VERSION, int8_path, read_model_info
from mien.analysis.recognizer import Recognizer
from mien.core.errors import DataError, ModelError
from mien.core.types import FaceSet
from mien.evaluation.audit.non_faces import make_non_faces
from mien.evaluation.calibration import fit_temperature
from mien.models import load
from mien.training.release import not_a_face
from mien.training.release import quantize as quantize
from mien.training.release.card import add_release_sections
from mien.training.release.export import export_model
from mien.training.release.finish import ReleaseOptions, finish_model
from mien.training.release.negatives import draw_textures
from mien.training.release.speed import measure_speed
from mien.training.torch_classifier import load_run
from tests.conftest import patterns

WITHOUT_PHOTOGRAPHS = ReleaseOptions(goal=0.79, non_faces=False, quiet=True)  # a quarter of the labels is wrong

pytestmark = pytest.mark.usefixtures("quick_export")


def validation() -> FaceSet:
    """Stripes under so much noise, and with so many wrong labels, that the network is surer than it is right."""
    rng, faces = np.random.default_rng(5), patterns(420, seed=5, split="PublicTest")
    labels = np.where(rng.random(420) < 0.25, rng.integers(0, 7, 420), faces.labels)
    images = np.clip(faces.images + rng.normal(0, 40, faces.images.shape), 0, 255).astype(np.uint8)
    return replace(faces, images=images, labels=labels)


@pytest.fixture(scope="module")
def finished(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "small.onnx"
    finish_model(model_file, path, patterns(140), validation(), WITHOUT_PHOTOGRAPHS)
    return path


def test_the_network_is_the_same_and_only_its_confidence_changes(model_file: Path, finished: Path) -> None:
    before, after = load(model_file).state_dict(), load(finished).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    old, new, faces = Classifier(model_file), Classifier(finished), validation()
    np.testing.assert_array_equal(old.logits(faces.images), new.logits(faces.images))
    assert new.info.temperature == pytest.approx(fit_temperature(old.logits(faces.images), faces.labels))
    assert new.info.temperature > 1.1 and old.info.temperature == 1
    assert (old.probabilities(faces.images).argmax(axis=1) == new.probabilities(faces.images).argmax(axis=1)).all()
    calibration = new.info.uncertainty["calibration"]
    assert calibration["log_loss"] < calibration["log_loss_before"]


def test_finishing_twice_is_finishing_once(finished: Path, tmp_path: Path) -> None:
    finish_model(finished, tmp_path / "again.onnx", patterns(140), validation(), WITHOUT_PHOTOGRAPHS)
    assert (tmp_path / "again.onnx").read_bytes() == finished.read_bytes()


def test_the_int8_file_says_what_it_is_and_agrees(finished: Path) -> None:
    floats, bytes_ = Classifier(finished), Classifier(int8_path(finished))
    facts = bytes_.info.quantization
    assert bytes_.info.quantized and facts["from"] == "small.onnx"
    assert facts["sha256"] == hashlib.sha256(finished.read_bytes()).hexdigest()
    assert facts["calibration"] == {"data": "Training", "faces": 140, "seed": 0}
    images = patterns(70, seed=9).images
    assert np.abs(floats.probabilities(images) - bytes_.probabilities(images)).mean() < 0.02
    features, _ = bytes_.features(images)
    assert features.shape == floats.features(images)[0].shape
    kinds = {node.op_type for node in onnx.load(str(int8_path(finished))).graph.node}
    assert "QuantizeLinear" in kinds and "BatchNormalization" not in kinds
    one = np.concatenate([bytes_.probabilities(image[None]) for image in images[:5]])
    np.testing.assert_allclose(one, bytes_.probabilities(images[:5]), atol=1e-5)


def test_a_file_with_halved_weights_is_finished_like_any(run_folder: Path, tmp_path: Path, finished: Path) -> None:
    export_model(load_run(run_folder), tmp_path / "half.onnx", half=True)
    finish_model(tmp_path / "half.onnx", tmp_path / "done.onnx", patterns(140), validation(), WITHOUT_PHOTOGRAPHS)
    int8 = onnx.load(str(int8_path(tmp_path / "done.onnx"))).graph
    assert "Cast" not in {node.op_type for node in int8.node}, "bytes are made of the weights, not of their halves"
    weights = {tensor.data_type for tensor in onnx.load(str(tmp_path / "done.onnx")).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in weights, "what finish writes is as small as what it was given"
    images = patterns(70, seed=9).images
    ours, theirs = (Classifier(int8_path(path)) for path in (tmp_path / "done.onnx", finished))
    assert np.abs(ours.probabilities(images) - theirs.probabilities(images)).mean() < 0.02


def test_a_quantized_file_is_neither_finished_nor_quantized_again(finished: Path, tmp_path: Path) -> None:
    int8 = int8_path(finished)
    with pytest.raises(ModelError, match="is quantized; finish the float file"):
        finish_model(int8, tmp_path / "x.onnx", patterns(70), validation(), WITHOUT_PHOTOGRAPHS)
    with pytest.raises(ModelError, match="is quantized already"):
        quantize.quantize_model(int8, tmp_path / "x.int8.onnx", patterns(70), validation())
    with pytest.raises(ModelError, match=r"cannot be rebuilt; use small.onnx, from which it was made"):
        load(int8)


def test_an_int8_file_that_reads_worse_is_not_kept(finished: Path, tmp_path: Path) -> None:
    mean = round(255 * Classifier(finished).preprocessing.mean[0])
    gray = replace(patterns(70), images=np.full((70, 48, 48), mean, np.uint8))  # calibrated on these, faces saturate
    with pytest.raises(ModelError, match=r"points of accuracy against small.onnx; use the float file"):
        quantize.quantize_model(finished, tmp_path / "x.int8.onnx", gray, patterns(420, seed=5))
    assert list(tmp_path.iterdir()) == []


def test_without_an_int8_file_the_float_file_is_kept(model_file: Path, tmp_path: Path) -> None:
    mean = round(255 * Classifier(model_file).preprocessing.mean[0])
    gray = replace(patterns(70), images=np.full((70, 48, 48), mean, np.uint8))  # int8 is worth nothing after these
    int8_path(tmp_path / "x.onnx").write_bytes(b"of an earlier time")
    wishes = ReleaseOptions(non_faces=False, quiet=True)
    found = finish_model(model_file, tmp_path / "x.onnx", gray, patterns(420, seed=5), wishes)
    assert "points of accuracy against x.onnx" in found["no_int8"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    assert "no_int8" not in Classifier(tmp_path / "x.onnx").info.uncertainty


def test_data_that_does_not_suffice_is_named(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="training faces: are not given"):
        finish_model(model_file, tmp_path / "x.onnx", None, validation())
    unlabeled = replace(validation(), labels=np.full(420, -1))
    with pytest.raises(DataError, match="have no labels to fit a temperature"):
        finish_model(model_file, tmp_path / "x.onnx", None, unlabeled, ReleaseOptions(non_faces=False, int8=False))
    assert list(tmp_path.iterdir()) == []


def test_the_second_answer_is_that_of_the_head_in_float_and_int8(finished: Path, tmp_path: Path) -> None:
    rng, images = np.random.default_rng(0), patterns(20, seed=2).images
    width = Classifier(finished).features(images)[0].shape[1]
    sizes = (4, width), (4,), (1, 4), (1,)
    heads = [not_a_face.Head(*(rng.normal(size=size).astype(np.float32) for size in sizes)) for _ in range(2)]
    model = onnx.load(str(finished))
    for head in heads:  # the second takes the place of the first
        not_a_face.add_head(model, head)
    path = tmp_path / "both.onnx"
    onnx.save(model, str(path))
    onnx.checker.check_model(str(path), full_check=True)
    classifier = Classifier(path)
    features, probabilities = classifier.features(images)
    answered, scores = classifier.predict(images)
    np.testing.assert_allclose(answered, probabilities, atol=1e-6)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-heads[1].log_odds(features))), atol=1e-5)
    quantize.quantize_model(path, int8_path(path), patterns(70), validation())
    int8 = Classifier(int8_path(path))
    np.testing.assert_allclose(
        int8.predict(images)[1], 1 / (1 + np.exp(-heads[1].log_odds(int8.features(images)[0]))), atol=1e-5
    )
    assert all(torch.equal(load(path).state_dict()[k], v) for k, v in load(finished).state_dict().items())
    not_a_face.remove_head(model)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert not any(name.startswith("not_a_face") for name in stored)


@pytest.mark.slow
def test_the_head_learns_to_tell_two_clouds_apart() -> None:
    rng = np.random.default_rng(0)
    clouds = {
        "real": rng.normal(3, 1, (500, 6)),
        "textures": rng.normal(3, 1, (500, 6)),
        "squares": rng.normal(3, 1, (300, 6)),
    }
    clouds["textures"][:, 0] += 8
    clouds["squares"][:, 0] -= 8  # on the other side: no straight border between them and the real ones
    found = {name: rows.astype(np.float32) for name, rows in clouds.items()}
    head = not_a_face._fit_weights(found, ("squares",), seed=0)
    assert (head.log_odds(found["real"]) < 0).mean() > 0.99
    assert all((head.log_odds(found[name]) > 0).mean() > 0.99 for name in ("textures", "squares"))
    again = not_a_face._fit_weights(found, ("squares",), seed=0)
    np.testing.assert_array_equal(head.hidden_weight, again.hidden_weight)


def test_raters_say_which_pictures_are_no_faces() -> None:
    votes = np.zeros((4, 10), np.uint8)
    votes[0, 9], votes[1, 0], votes[2, [0, 9]], votes[3, [1, 9]] = 10, 10, (8, 2), (3, 7)
    none, some = not_a_face.find_faces_by_votes(replace(patterns(4), votes=votes))
    assert none.tolist() == [True, False, False, True]
    assert some.tolist() == [False, True, False, False]


def test_doubt_reaches_the_faces(finished: Path) -> None:
    recognizer = Recognizer(finished, detector="none")
    threshold = read_model_info(finished).thresholds["unsure"]
    seen = [recognizer.analyze(image)[0] for image in validation().images[:40]]
    assert all(face.is_unsure == (face.confidence < threshold) for face in seen)
    assert 0 < sum(face.is_unsure for face in seen) < len(seen)
    assert all("?" in str(face) for face in seen if face.is_unsure)
    off = Recognizer(finished, detector="none", unsure="off").analyze(validation().images[0])[0]
    assert off.is_unsure is None and off.not_a_face is None
    assert Recognizer(finished, detector="none", unsure=1.0).analyze(validation().images[0])[0].is_unsure


def test_the_card_holds_what_was_found_and_one_time_only(finished: Path) -> None:
    info, int8 = read_model_info(finished), read_model_info(int8_path(finished))
    card = "# small\n\n## Training\n\nlong\n\n## Intended use\n\nresearch\n\n## Limitations\n\nmany\n"
    speeds = [measure_speed(file, seconds=0.05) for file in (finished, int8_path(finished))]
    once = add_release_sections(card, info, int8, finished, speeds=speeds)
    assert add_release_sections(once, info, int8, finished, speeds=speeds) == once
    headings = [line for line in once.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Training",
        "## Calibration and thresholds",
        "## int8",
        "## Speed",
        "## Intended use",
        "## Limitations",
    ]
    older = once.replace("## Calibration and thresholds", "## Doubt").replace("## Intended use", "## Meant for")
    renewed = add_release_sections(older, info, int8, finished, speeds=speeds)
    assert renewed == once.replace("## Intended use", "## Meant for")
    assert [speed.precision for speed in speeds] == ["float", "int8"]
    assert all(speed.milliseconds > 0 and speed.crops_per_second > 0 for speed in speeds)
    assert f"| int8 | {int8_path(finished).stat().st_size / 1e6:.1f} MB | {speeds[1].milliseconds:.2f} ms |" in once
    calibration = info.uncertainty["calibration"]
    for text in (f"{calibration['error']:.2%}", f"{info.temperature:.3f}", int8.quantization["sha256"]):
        assert text in once
    assert once.count("| 0.") >= len(calibration["bins"])


def test_the_metadata_is_plain_json(finished: Path) -> None:
    values = json.loads(next(entry.value for entry in onnx.load(str(finished)).metadata_props if entry.key == "mien"))
    assert values["version"] == METADATA_VERSION and values["quantized"] is False
    assert set(values["thresholds"]) == {"unsure"}


@pytest.mark.parametrize("side", [8, 11, 32, 40, 48, 49, 64, 100])
def test_faces_of_any_side_are_taken_apart(side: int) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (6, side, side), dtype=np.uint8)
    assert make_non_faces(faces, 60, np.random.default_rng(1)).shape == (60, side, side)
    assert draw_textures(60, side, np.random.default_rng(1)).shape == (60, side, side)


def test_where_no_confidence_is_enough_every_label_is_marked(model_file: Path, tmp_path: Path) -> None:
    rng, faces = np.random.default_rng(0), patterns(140, seed=8, split="PublicTest")
    lost = replace(faces, labels=rng.integers(0, 7, 140))
    finish_model(
        model_file, tmp_path / "x.onnx", None, lost, ReleaseOptions(goal=0.999, non_faces=False, int8=False, quiet=True)
    )
    info = read_model_info(tmp_path / "x.onnx")
    assert info.thresholds["unsure"] == 1.0
    assert "Every label is marked as unsure" in add_release_sections("# x", info, None, tmp_path / "x.md")
    assert all(face.is_unsure for face in Recognizer(tmp_path / "x.onnx", detector="none").analyze(faces.images[0]))
