from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from mien.analysis.inference.classifier import Classifier, make_views, softmax
from mien.analysis.inference.model_file import list_shipped_models
from mien.core.errors import ModelError
from tests.conftest import patterns


def test_softmax_by_hand_and_for_large_logits() -> None:
    np.testing.assert_allclose(softmax(np.log([[1.0, 2.0, 5.0]])), [[0.125, 0.25, 0.625]], atol=1e-7)
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0]])), [[1.0, 0.0]])


def test_one_crop_reads_as_it_does_in_a_batch() -> None:
    classifier, images = Classifier("base", batch_size=16), patterns(40).images
    together = classifier.probabilities(images)
    alone = np.concatenate([classifier.probabilities(image[None]) for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)
    assert together.dtype == np.float32


@pytest.mark.parametrize(
    ("entry", "value", "found"),
    [
        ("labels", ["a", "b"], r"has 'logits' of \[7\], but its metadata state \[2\]"),
        ("labels", "abcdefg", "not a list of names"),
        ("labels", ["a"] * 7, "some of them twice"),
        ("temperature", 0, "temperature is 0"),
        ("temperature", float("nan"), "temperature is nan"),
        ("thresholds", {"unsure": "x"}, "damaged metadata"),
        ("network", {"name": "residual"}, "damaged metadata"),
        ("preprocessing", {"size": 64}, r"has 'images' of \[1, 48, 48\], but its metadata state \[1, 64, 64\]"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_refused(entry: str, value: object, found: str, tmp_path: Path) -> None:
    model = onnx.load(list_shipped_models()["nano"])
    (metadata,) = model.metadata_props
    values = json.loads(metadata.value)
    values[entry] = values[entry] | value if entry == "preprocessing" else value
    metadata.value = json.dumps(values)
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match=found):
        Classifier(tmp_path / "odd.onnx")


def test_no_crops_give_no_rows() -> None:
    assert Classifier("base").probabilities(np.empty((0, 48, 48), np.uint8)).shape == (0, 7)


def test_gray_and_color_crops_of_the_same_face_agree() -> None:
    classifier, images = Classifier("base"), patterns(8).images
    color = np.repeat(images[..., None], 3, axis=3)
    np.testing.assert_allclose(classifier.probabilities(color), classifier.probabilities(images), atol=1e-6)


def test_crops_of_another_shape_are_refused() -> None:
    for wrong in (np.zeros((48, 48), np.uint8), np.zeros((2, 48, 48), np.float32), np.zeros((2, 48, 48, 4), np.uint8)):
        with pytest.raises(ValueError, match="crops must be uint8"):
            Classifier("base").probabilities(wrong)


def test_flip_and_ten_crop_are_the_mean_over_their_views() -> None:
    classifier, images = Classifier("base"), patterns(5).images
    for tta, count in (("flip", 2), ("ten-crop", 10)):
        seen = make_views(images, tta)
        assert len(seen) == count
        by_hand = np.mean([classifier.probabilities(np.ascontiguousarray(view)) for view in seen], axis=0)
        np.testing.assert_allclose(classifier.probabilities(images, tta), by_hand, atol=1e-6)


def test_ten_crop_takes_44_of_48_at_corners_and_center() -> None:
    image = np.arange(48 * 48, dtype=np.uint16).reshape(1, 48, 48)
    crops = make_views(image, "ten-crop")
    assert {crop.shape for crop in crops} == {(1, 44, 44)}
    assert [int(crop[0, 0, 0]) for crop in crops[:5]] == [0, 4, 4 * 48, 4 * 48 + 4, 2 * 48 + 2]
    np.testing.assert_array_equal(crops[5], crops[0][:, :, ::-1])


def test_names_and_files_that_are_no_models(tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(ModelError, match="model 'bse': is unknown; choose one of base"):
        Classifier("bse")
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "cut.onnx").write_bytes(model_file.read_bytes()[:3000])
    for name, message in (("absent.onnx", "does not exist"), ("empty.onnx", "is empty"), ("text.onnx", "may be damaged"),
                          ("cut.onnx", "may be damaged"), (".", "is a folder")):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            Classifier(tmp_path / name)


def test_foreign_and_newer_onnx_files_are_told_apart(tmp_path: Path, model_file: Path) -> None:
    proto = onnx.load(str(model_file))
    (entry,) = proto.metadata_props
    values = json.loads(entry.value)
    for change, message in ((lambda v: v | {"version": 3}, "has metadata of version 3"),
                            (lambda v: {k: v[k] for k in v if k != "labels"}, "has damaged metadata")):  # fmt: skip
        entry.value = json.dumps(change(values))
        onnx.save(proto, str(tmp_path / "x.onnx"))
        with pytest.raises(ModelError, match=message):
            Classifier(tmp_path / "x.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, str(tmp_path / "x.onnx"))
    with pytest.raises(ModelError, match="without mien's metadata"):
        Classifier(tmp_path / "x.onnx")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_answers_with_no_numbers_is_refused(value: float, tmp_path: Path) -> None:
    model = onnx.load(list_shipped_models()["nano"])
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    damaged = np.full(tuple(weights.dims), value, np.float32)
    weights.CopyFrom(
        onnx.numpy_helper.from_array(
            damaged.astype(onnx.helper.tensor_dtype_to_np_dtype(weights.data_type)), weights.name
        )
    )
    onnx.save(model, tmp_path / "nan.onnx")
    classifier, images = Classifier(tmp_path / "nan.onnx"), patterns(2).images
    for ask in (classifier.probabilities, classifier.predict, classifier.logits, classifier.features):
        with pytest.raises(ModelError, match=r"nan.onnx: answers with NaN or infinity.*export it again"):
            ask(images)


def test_metadata_that_is_no_text_is_refused(tmp_path: Path) -> None:
    content = list_shipped_models()["nano"].read_bytes()
    (tmp_path / "odd.onnx").write_bytes(content.replace(b'"labels"', b'"l\xff\xfeels"'))
    with pytest.raises(ModelError, match=r"odd.onnx: has damaged metadata \(it is not UTF-8\)"):
        Classifier(tmp_path / "odd.onnx")


def small_model(path: Path, **changes: list) -> Path:
    """A network of one multiplication that mien takes for its own: ``images`` → ``logits`` of three labels, as ``changes`` say."""
    values = {
        "version": 1, "name": "small", "labels": ["a", "b", "c"], "preprocessing": {"size": 8, "channels": 1, "mean": [0.5], "std": [0.5]},
        "network": {"name": "small", "arguments": {}}, "temperature": 1, "thresholds": {}, "scores": {}, "license": "", "quantized": False,
    }  # fmt: skip
    sizes = {"flat": [-1, 64], "weights": [64, 3], "images": ["N", 1, 8, 8], "logits": ["N", "K"]} | changes
    shape = onnx.numpy_helper.from_array(np.array(sizes["flat"], np.int64), "shape")
    weights = onnx.numpy_helper.from_array(np.ones(sizes["weights"], np.float32), "w")
    nodes = [
        onnx.helper.make_node("Reshape", ["images", "shape"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes[name]) for name in ("images", "logits")
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [shape, weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="mien", value=json.dumps(values))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"weights": [64, 2]}, r"has 'logits' of \[2\], but its metadata state \[3\]"),
        ({"flat": [-1, 32], "weights": [32, 3]}, r"answers 'logits' of \[4, 3\] for 2 crops and 3 labels"),
        ({"flat": [7, 5]}, r"cannot be run; it may be damaged|is not an ONNX file that can be run"),
        ({"images": ["N", 64]}, r"has 'images' of \[64\], but its metadata state \[1, 8, 8\]"),
    ],
)
def test_a_network_that_answers_otherwise_than_it_says_is_refused(changes: dict, found: str, tmp_path: Path) -> None:
    crops = np.zeros((2, 8, 8), np.uint8)
    assert Classifier(small_model(tmp_path / "good.onnx")).probabilities(crops).shape == (2, 3)
    with pytest.raises(ModelError, match=found):
        Classifier(small_model(tmp_path / "odd.onnx", **changes)).probabilities(crops)
