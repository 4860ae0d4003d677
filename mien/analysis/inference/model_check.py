"""Check how much memory a model file needs before loading it, since a few bytes can request gigabytes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mien.analysis.inference.protobuf import read_fields, read_varints

#: Maximum elements of all constants of a model, 512 MB as float32. The largest network of mien has 40 million.
MAX_CONSTANT_ELEMENTS = 2**27

#: Fields of ONNX's messages (onnx.proto).
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _SPARSE = 1, 5, 15
_INPUT, _OUTPUT, _OP, _ATTRIBUTE = 1, 2, 4, 5
_TENSOR, _SUBGRAPH, _SUBGRAPHS, _SPARSE_TENSOR = 5, 6, 11, 22
_DIMS, _TYPE, _INT64S, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 7, 8, 9, 13, 14
_INT64 = 7

#: Operators whose output may be much larger than their inputs. No network of mien computes constants with them.
_GROWING_OPERATORS = frozenset({
    "ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad", "ConvTranspose", "OneHot", "EyeLike", "Einsum",
    "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial", "GridSample",
    "MaxUnpool", "Loop", "Scan", "If", "DFT", "STFT", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix",
})  # fmt: skip
_PRODUCT_OPERATORS = frozenset(
    {"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul", "Conv", "ConvInteger", "QLinearConv", "Gather", "GatherND"}
)
_SHAPE_KEEPING_OPERATORS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class UnboundedModel(ValueError):
    """The memory that a model needs is unknown or too large; the message gives the reason."""


@dataclass(frozen=True)
class _Constant:
    """The shape of a constant tensor; the values of a short list of integers, else ()."""

    shape: tuple[int, ...]
    values: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass
class _Graph:
    size: int
    constants: dict[bytes, _Constant] = field(default_factory=dict)
    elements: int = 0

    def add(self, name: bytes, constant: _Constant) -> None:
        self.elements += constant.elements
        if self.elements > MAX_CONSTANT_ELEMENTS:
            problem = f"its constants would have more than {MAX_CONSTANT_ELEMENTS:,} numbers"
            raise UnboundedModel(problem)
        self.constants[name] = constant


def check_model(content: bytes) -> None:
    """Check the bytes of an ONNX file. Raises UnboundedModel if loading it needs much more memory than its size.

    The check covers the constants, which ONNX Runtime computes on loading: tensors larger than the file, tensors in other
    files, sparse tensors, functions and subgraphs, and the size of results computed from constants alone. It does not cover
    the memory of a run, which depends on the pictures. Raises ValueError for a damaged file.
    """
    for number, _, value in read_fields(memoryview(content)):
        if number == _FUNCTIONS:
            raise UnboundedModel("it defines functions of its own")
        if number == _GRAPH and isinstance(value, memoryview):
            _check_graph(value, len(content))


def _check_graph(message: memoryview, size: int) -> None:
    graph, nodes = _Graph(size), []
    for number, _, value in read_fields(message):
        if number == _SPARSE:
            raise UnboundedModel("it holds sparse tensors")
        if number == _INITIALIZER and isinstance(value, memoryview):
            name, constant = _read_tensor(value, size)
            graph.add(name, constant)
        elif number == _NODE and isinstance(value, memoryview):
            nodes.append(value)
    for node in nodes:
        _check_node(node, graph)


def _check_node(message: memoryview, graph: _Graph) -> None:
    inputs: list[bytes] = []
    outputs: list[bytes] = []
    operator, tensor = "", None
    for number, _, value in read_fields(message):
        if number == _OP:
            operator = _as_bytes(value).decode("utf-8", "replace")
        elif number in (_INPUT, _OUTPUT):
            (inputs if number == _INPUT else outputs).append(_as_bytes(value))
        elif number == _ATTRIBUTE and isinstance(value, memoryview):
            tensor = _read_attribute(value, graph.size) or tensor
    if operator == "Constant":
        graph.add(outputs[0] if outputs else b"", tensor or _Constant((1,)))
        return
    input_constants = [graph.constants.get(name) for name in inputs if name]
    if all(constant is not None for constant in input_constants):
        bound = _Constant(_bound_shape(operator, [constant for constant in input_constants if constant is not None]))
        for name in outputs:
            graph.add(name, bound)


def _bound_shape(operator: str, constants: list[_Constant]) -> tuple[int, ...]:
    """Return an upper bound of the shape that an operator computes from constants."""
    if operator == "ConstantOfShape" and constants and constants[0].values:
        return constants[0].values
    if operator in _GROWING_OPERATORS or not constants:
        raise UnboundedModel(f"it computes a constant by {operator or 'nothing'}")
    if operator == "Concat":
        return (sum(constant.elements for constant in constants),)
    if operator in _PRODUCT_OPERATORS:
        return (math.prod(constant.elements for constant in constants[:2]),)
    if operator in _SHAPE_KEEPING_OPERATORS:
        return constants[0].shape
    try:
        return np.broadcast_shapes(*(constant.shape for constant in constants))
    except ValueError:  # not element-wise: a slice, a sum, a reshape
        return (max(constant.elements for constant in constants),)


def _read_attribute(message: memoryview, size: int) -> _Constant | None:
    """Return the tensor of an attribute; None if it has none."""
    constant = None
    for number, _, value in read_fields(message):
        if number in (_SUBGRAPH, _SUBGRAPHS, _SPARSE_TENSOR):
            raise UnboundedModel("it holds subgraphs or sparse tensors")
        if number == _TENSOR and isinstance(value, memoryview):
            constant = _read_tensor(value, size)[1]
    return constant


def _read_tensor(message: memoryview, size: int) -> tuple[bytes, _Constant]:
    name, shape, kind, values = b"", [], 0, []
    for number, _, value in read_fields(message):
        if number == _DIMS:
            shape += read_varints(value) if isinstance(value, memoryview) else [value]
        elif number == _TYPE and isinstance(value, int):
            kind = value
        elif number == _NAME:
            name = _as_bytes(value)
        elif number == _INT64S:
            values += read_varints(value) if isinstance(value, memoryview) else [value]
        elif number == _RAW and kind == _INT64 and isinstance(value, memoryview) and len(value) <= 64:
            values = np.frombuffer(value[: len(value) // 8 * 8], "<i8").tolist()
        elif number == _EXTERNAL or (number == _LOCATION and value):
            raise UnboundedModel("it keeps tensors in other files")
    if math.prod(shape) > 2 * size:  # a byte holds two 4-bit numbers
        raise UnboundedModel("it holds a tensor that is larger than the file")
    return name, _Constant(tuple(shape), tuple(max(0, value) for value in values[:8]) if kind == _INT64 else ())


def _as_bytes(value: int | memoryview) -> bytes:
    return bytes(value) if isinstance(value, memoryview) else b""
