from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mien.analysis.inference.model_check import UnboundedModel, check_model
from mien.analysis.inference.model_file import list_shipped_models, open_session
from mien.core.errors import ModelError
from tests.conftest import yunet


def shape(name: str, *sides: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(sides, np.int64), name)


def model(*nodes: onnx.NodeProto, constants: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    """What the nodes make of ``images``, float32 (N, 4); its bytes are few."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 4])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "g", [images], [logits], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def zeros() -> onnx.ModelProto:
    """35,000 x 35,000 zeros: 4.9 GB out of some hundred bytes."""
    fill = helper.make_node("ConstantOfShape", ["s"], ["zeros"])
    total = helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0)
    return model(
        fill, total, helper.make_node("Add", ["images", "sum"], ["logits"]), constants=(shape("s", 35_000, 35_000),)
    )


def doubled() -> onnx.ModelProto:
    names = ["a", *(f"a{n}" for n in range(40))]
    nodes = [helper.make_node("Concat", [one, one], [two], axis=0) for one, two in itertools.pairwise(names)]
    return model(*nodes, constants=(numpy_helper.from_array(np.ones(8, np.float32), "a"),))


def outer() -> onnx.ModelProto:
    column, row = (
        numpy_helper.from_array(np.ones(sides, np.float32), name)
        for name, sides in (("c", (20_000, 1)), ("r", (1, 20_000)))
    )
    return model(helper.make_node("Mul", ["c", "r"], ["logits"]), constants=(column, row))


def tiled() -> onnx.ModelProto:
    one = numpy_helper.from_array(np.ones(8, np.float32), "a")
    return model(helper.make_node("Tile", ["a", "n"], ["logits"]), constants=(one, shape("n", 10**9)))


def claimed() -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.ones(8, np.float32), "a")
    tensor.dims[0] = 10**9
    return model(helper.make_node("Add", ["images", "a"], ["logits"]), constants=(tensor,))


def elsewhere() -> onnx.ModelProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "a")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/dev/zero")
    return model(helper.make_node("Add", ["images", "a"], ["logits"]), constants=(tensor,))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (zeros, "its constants would have more than 134,217,728 numbers"),
        (doubled, "its constants would have more than"),
        (outer, "its constants would have more than"),
        (tiled, "it computes a constant by Tile"),
        (claimed, "it holds a tensor that is larger than the file"),
        (elsewhere, "it keeps tensors in other files"),
    ],
)
def test_few_bytes_do_not_take_much_memory(make: Callable[[], onnx.ModelProto], found: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.onnx").write_bytes(make().SerializeToString())
    assert (tmp_path / "bomb.onnx").stat().st_size < 200_000
    with pytest.raises(ModelError, match=f"bomb.onnx: is not a model that is run here: {found}"):
        open_session(tmp_path / "bomb.onnx")


def test_what_a_loop_would_take_is_not_guessed() -> None:
    body = helper.make_graph([], "body", [], [])
    with pytest.raises(UnboundedModel, match="it holds subgraphs"):
        check_model(model(helper.make_node("Loop", ["n"], ["logits"], body=body)).SerializeToString())


def test_models_that_are_used_pass() -> None:
    for path in [
        *list_shipped_models().values(),
        *(file.with_suffix(".int8.onnx") for file in list_shipped_models().values()),
        yunet(),
    ]:
        check_model(path.read_bytes())


def test_constants_that_are_small_pass() -> None:
    made = helper.make_node("ConstantOfShape", ["s"], ["zeros"])
    small = model(made, helper.make_node("Add", ["images", "zeros"], ["logits"]), constants=(shape("s", 4),))
    check_model(small.SerializeToString())


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = list_shipped_models()["nano"].read_bytes()
    for share in (0.1, 0.5, 0.999):
        (tmp_path / "cut.onnx").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(ModelError, match=r"cut.onnx: is not an ONNX file that can be run"):
            open_session(tmp_path / "cut.onnx")
