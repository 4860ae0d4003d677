from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mien import models
from mien.analysis.inference.classifier import Classifier
from mien.analysis.inference.model_file import read_model_info
from mien.core.errors import ModelError
from mien.core.types import FaceSet
from mien.training.release import export as exporting
from mien.training.release.card import make_model_card
from mien.training.torch_classifier import TorchClassifier, load_run
from tests.conftest import patterns, small_recipe

pytestmark = pytest.mark.usefixtures("quick_export")


def test_the_file_says_what_it_is(model_file: Path, run_folder: Path) -> None:
    info, trained = Classifier(model_file).info, load_run(run_folder)
    assert (info.name, info.labels, info.license, info.quantized) == ("small", trained.classes, "not stated", False)
    assert info.preprocessing == trained.preprocessing
    assert info.network == {
        "name": "residual",
        "arguments": {"num_classes": 7, "channels": 1, "widths": [8, 16], "blocks": 1},
    }


def test_inputs_and_outputs_are_those_of_the_contract(model_file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model_file))
    (images,), (logits, features) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(float)", [1, 48, 48])
    assert (logits.name, logits.shape[1:], features.name, features.shape[1:]) == ("logits", [7], "features", [16])
    for count in (1, 5):
        found = session.run(None, {"images": np.zeros((count, 1, 48, 48), np.float32)})
        assert [array.shape for array in found] == [(count, 7), (count, 16)]


def test_torch_and_onnx_agree(model_file: Path, run_folder: Path, faces: FaceSet) -> None:
    of_torch = TorchClassifier(load_run(run_folder)).probabilities(faces.images)
    np.testing.assert_allclose(Classifier(model_file).probabilities(faces.images), of_torch, atol=1e-5)


def test_nothing_of_the_exporting_machine_is_inside(model_file: Path) -> None:
    proto = onnx.load(str(model_file))
    assert [entry.key for entry in proto.metadata_props] == ["mien"]
    assert not any(node.doc_string or node.metadata_props for node in proto.graph.node)
    assert str(Path(torch.__file__).parent).encode() not in model_file.read_bytes()


def test_halved_weights_keep_their_names_and_change_little(
    run_folder: Path, model_file: Path, tmp_path: Path, faces: FaceSet
) -> None:
    """Also where rounding them changes much: torch and ONNX are compared with the same weights."""
    trained = load_run(run_folder)
    halved = tmp_path / "halved.onnx"
    assert exporting.export_model(trained, halved, half=True) < 1e-5
    smaller = sum(2 * weights.numel() for weights in trained.network.state_dict().values() if weights.ndim > 1)
    assert model_file.stat().st_size - halved.stat().st_size == pytest.approx(smaller, rel=0.1)
    rebuilt, original = models.load(halved).state_dict(), trained.network.state_dict()
    for name, weights in rebuilt.items():
        if weights.is_floating_point():  # the count of batches that were seen is not exported
            torch.testing.assert_close(weights, original[name], rtol=1e-3, atol=1e-7)
    probabilities = Classifier(model_file).probabilities(faces.images)
    np.testing.assert_allclose(
        Classifier(halved).probabilities(faces.images), probabilities, atol=exporting.MAX_DIFFERENCE
    )


def test_a_file_that_disagrees_is_never_kept(
    run_folder: Path, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_convert_to_onnx", lambda _: onnx.load(model_file))  # made before: it takes seconds
    monkeypatch.setattr(exporting, "measure_difference", lambda *_: 0.02)
    with pytest.raises(ModelError, match=r"differs from the torch network by 0.02"):
        exporting.export_model(load_run(run_folder), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_parity_sees_a_difference(model_file: Path, run_folder: Path, faces: FaceSet) -> None:
    trained = load_run(run_folder)
    assert exporting.measure_difference(trained, model_file, faces) < 1e-5
    with torch.no_grad():
        trained.network.head.bias[3] += 1
    assert exporting.measure_difference(trained, model_file, faces) > 0.01


def test_the_card_says_who_taught() -> None:
    from mien.training.release.card import _describe_targets

    assert (
        _describe_targets({}, "x") == _describe_targets({"votes": 0.0, "teacher": "", "teacher_share": 0.7}, "x") == ""
    )
    taught = {"votes": 0.3, "teacher": "base", "teacher_share": 0.7, "teacher_sees": "augmented"}
    assert _describe_targets(taught, "nano") == (
        ", 30% of each label is FER+'s votes, 70% of each target is what base predicts for each augmented input"
    )
    assert "what an earlier base predicts" in _describe_targets(taught, "base")


def test_the_card_says_which_epoch_was_kept_and_by_whom() -> None:
    from mien.training.release.card import _describe_kept_epoch, _describe_overlap

    history = [{"validation_accuracy": value} for value in (0.3, 0.6, 0.5)]
    recipe = small_recipe(run={"keep": "last"}).model_dump()
    assert (
        _describe_kept_epoch(recipe, history, 3) == "the last epoch was kept, so the validation faces selected nothing"
    )
    assert (
        _describe_kept_epoch(recipe, history, 3, averaged=True) == "the last epoch was kept"
    )  # they may have chosen the runs
    assert _describe_kept_epoch(recipe, history, 2) == "epoch 2 was kept, the one with the best validation accuracy"
    assert _describe_kept_epoch(recipe, history, 1) == "epoch 1 of 3 was kept"
    recipe["run"]["keep"] = "best"
    assert _describe_kept_epoch(recipe, history, 2) == "epoch 2 was kept, the one with the best validation accuracy"
    assert _describe_kept_epoch(recipe, history, 3).startswith("the last epoch was kept")
    assert _describe_kept_epoch(recipe, history[:2], 2) == "epoch 2 was kept, the one with the best validation accuracy"
    begun = small_recipe(start={"model": "base"}).model_dump()
    assert "base may have learned from these faces" in _describe_overlap({"recipe": begun, "held_out": True})
    assert (
        _describe_overlap({"recipe": begun, "held_out": False})
        == _describe_overlap({"recipe": recipe, "held_out": True})
        == ""
    )
    known = {"recipe": begun, "held_out": True, "held_out_caveat": "3 of these 7 faces trained a model"}
    assert _describe_overlap(known).endswith("and 3 of these 7 faces trained a model")
    assert _describe_overlap(known | {"held_out_caveat": ""}) == ""


def test_the_card_states_the_run(model_file: Path, run_folder: Path) -> None:
    from mien.evaluation import score

    trained, faces = load_run(run_folder), patterns(140, seed=4)
    scores = score(TorchClassifier(trained).probabilities(faces.images), faces.labels)
    card = make_model_card(run_folder, trained, model_file, scores, "patterns", 1e-7, "MIT")
    assert "web searches of 2013" not in card  # it was not trained on FER2013
    for text in ("# small", "7 labels for everything", "3 epochs of batches of 28", "## Scores on patterns", f"{scores.accuracy:.2%}", "surprise",
                 "An expression is not an inner state", "Article 5(1)(f)", "the last epoch was kept"):  # fmt: skip
        assert text in card


def test_the_file_names_what_trained_it_and_how_a_crop_becomes_its_input(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mien.cli.main import main
    from mien.data.readers import save_faces

    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run_folder), "--out", "x.onnx", "-q"]) == 0
    assert read_model_info(Path("x.onnx")).training == {"splits": ["Training"], "faces": 504, "held_out": True}
    (entry,) = onnx.load("x.onnx").metadata_props
    assert json.loads(entry.value)["input"]["resampling"].startswith("cv2.INTER_AREA where both sides")
    file = onnx.load("x.onnx")
    values = json.loads(file.metadata_props[0].value)
    values["training"]["splits"] = ["Training", "PublicTest"]
    file.metadata_props[0].value = json.dumps(values)
    onnx.save(file, "both.onnx")
    save_faces(patterns(14, split="PublicTest"), Path("faces.csv"))
    assert main(["evaluate", "x.onnx", "--data", "faces.csv", "-q", "--json"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "both.onnx", "--data", "faces.csv", "--json"]) == 0
    assert "note: PublicTest is what models are trained on" in capsys.readouterr().err
