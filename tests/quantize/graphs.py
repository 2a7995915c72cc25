"""Small random models: chains and diamonds of usual operators, with what exporters do to them, for hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, checker, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hypothesis.strategies import DrawFn
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

INITIALIZERS_ARE_INPUTS = 3  # the last IR version in which they must be
IR_OF_OPSET_21 = 10
NODES = 8
NODE_NAMES = ("", "node_{}", "/layer.{}/op", "nœud {}")
TENSOR_NAMES = ("t{}", "/block/t {}", "t{}_quantized", "{}", "t{}:0")
SHAPES = st.one_of(
    st.tuples(st.sampled_from([1, 2]), st.integers(1, 4), st.integers(3, 6), st.integers(3, 6)),
    st.tuples(st.sampled_from([1, 2]), st.integers(1, 8)),
    st.tuples(st.sampled_from([1, 2]), st.integers(1, 4), st.integers(1, 8)),
)


@dataclass
class Builder:
    """A graph that grows node by node; every tensor's shape is known."""

    draw: DrawFn
    opset: int
    nodes: list[NodeProto] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)

    def name(self, prefix: str = "") -> str:
        """Give a name that no tensor has."""
        count = len(self.shapes) + len(self.weights) + len(self.nodes)
        return prefix + self.draw(st.sampled_from(TENSOR_NAMES)).format(count)

    def constant(self, array: NDArray[Any]) -> str:
        """Keep an array as an initializer, shared where there is an equal one, or as a node."""
        twin = next(
            (name for name, kept in self.weights.items() if kept.dtype == array.dtype and np.array_equal(kept, array)), None
        )
        if twin is not None and self.draw(st.booleans()):
            return twin
        name = self.name("w")
        if self.draw(st.integers(0, 4)) == 0:
            self.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array)))
        else:
            self.weights[name] = array
        return name

    def random(self, *shape: int) -> str:
        """Keep random weights; few seeds, so that some are equal."""
        seed = self.draw(st.integers(0, 3))
        return self.constant(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))

    def add(self, operator: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any) -> str:
        """Append a node, and give its output's name."""
        output = self.name()
        name = self.draw(st.sampled_from(NODE_NAMES)).format(len(self.nodes))
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name, **attributes))
        self.shapes[output] = tuple(shape)
        return output


def _conv(b: Builder, x: str) -> str | None:
    if len(b.shapes[x]) != 4:
        return None
    batch, channels, high, wide = b.shapes[x]
    depthwise, out, kernel = b.draw(st.booleans()), b.draw(st.integers(1, 4)), b.draw(st.sampled_from([1, 3]))
    group, out = (channels, channels) if depthwise else (1, out)
    inputs = [x, b.random(out, channels // group, kernel, kernel)]
    inputs += [b.random(out)] if b.draw(st.booleans()) else []
    return b.add("Conv", inputs, [batch, out, high, wide], pads=[kernel // 2] * 4, group=group)


def _matmul(b: Builder, x: str) -> str | None:
    out = b.draw(st.integers(1, 8))
    return b.add("MatMul", [x, b.random(b.shapes[x][-1], out)], [*b.shapes[x][:-1], out])


def _gemm(b: Builder, x: str) -> str | None:
    if len(b.shapes[x]) != 2:
        return None
    rows, inner = b.shapes[x]
    out, turned = b.draw(st.integers(1, 8)), b.draw(st.booleans())
    inputs = [x, b.random(*((out, inner) if turned else (inner, out)))]
    inputs += [b.random(out)] if b.draw(st.booleans()) else []
    return b.add("Gemm", inputs, [rows, out], transB=int(turned))


def _with_constant(b: Builder, x: str) -> str | None:
    operator, whole = b.draw(st.sampled_from(["Add", "Mul"])), b.draw(st.booleans())
    inputs = [x, b.random(b.shapes[x][-1]) if whole else b.random()]
    return b.add(operator, inputs[:: b.draw(st.sampled_from([1, -1]))], b.shapes[x])


def _join(b: Builder, x: str) -> str | None:
    """Two branches meet; a tensor may meet itself."""
    others = [name for name, shape in b.shapes.items() if shape == b.shapes[x]]
    operator, other = b.draw(st.sampled_from(["Add", "Mul", "Concat"])), b.draw(st.sampled_from(others))
    if operator != "Concat":
        return b.add(operator, [x, other], b.shapes[x])
    axis = b.draw(st.integers(1, len(b.shapes[x]) - 1))
    shape = [size * 2 if index == axis else size for index, size in enumerate(b.shapes[x])]
    return b.add("Concat", [x, other], shape, axis=axis)


def _activation(b: Builder, x: str) -> str | None:
    operator = b.draw(st.sampled_from(["Relu", "Sigmoid", "Softmax", "Clip", "LeakyRelu"]))
    inputs = [x]
    if operator == "Clip":
        low, high = (np.array(value, np.float32) for value in b.draw(st.sampled_from([(0, 6), (-1, 1), (0.4, 1.5), (-2, -0.3)])))
        inputs += b.draw(st.sampled_from([[b.constant(low), b.constant(high)], [b.constant(low)], ["", b.constant(high)]]))
    return b.add(operator, inputs, b.shapes[x])


def _pool(b: Builder, x: str) -> str | None:
    if len(b.shapes[x]) != 4 or min(b.shapes[x][2:]) < 2:
        return None
    batch, channels, high, wide = b.shapes[x]
    operator = b.draw(st.sampled_from(["MaxPool", "AveragePool", "GlobalAveragePool"]))
    if operator == "GlobalAveragePool":
        return b.add(operator, [x], [batch, channels, 1, 1])
    return b.add(operator, [x], [batch, channels, high - 1, wide - 1], kernel_shape=[2, 2])


def _reshape(b: Builder, x: str) -> str | None:
    rows, inner = b.shapes[x][0], int(np.prod(b.shapes[x][1:]))
    # 0 keeps the size of the batch, whatever it is.
    return b.add("Reshape", [x, b.constant(np.array([0, inner], np.int64))], [rows, inner])


def _transpose(b: Builder, x: str) -> str | None:
    order = [0, *b.draw(st.permutations(range(1, len(b.shapes[x]))))]
    return b.add("Transpose", [x], [b.shapes[x][axis] for axis in order], perm=order)


def _branch(b: Builder, x: str) -> str | None:
    """An If whose bodies take a tensor and weights from outside, or bring their own."""
    total = b.add("ReduceSum", [x], [], keepdims=0)
    condition = b.name("c")
    b.nodes.append(helper.make_node("Greater", [total, b.constant(np.array(0, np.float32))], [condition]))
    size = b.shapes[x][-1]
    weight = np.random.default_rng(9).standard_normal((size, size)).astype(np.float32)
    outside = b.constant(weight) if b.draw(st.booleans()) else None
    bodies = [_body(operator, x, weight, outside) for operator in ("MatMul", b.draw(st.sampled_from(["Relu", "Identity"])))]
    return b.add("If", [condition], b.shapes[x], then_branch=bodies[0], else_branch=bodies[1])


def _body(operator: str, x: str, weight: NDArray[Any], outside: str | None) -> GraphProto:
    output, inside = f"{operator}_of_body", "weight of body"
    node = helper.make_node(operator, [x, outside or inside] if operator == "MatMul" else [x], [output])
    nodes = [node]
    if operator == "MatMul" and outside is None:
        # As a node: before IR version 4 an initializer had to be an input, and the bodies of If have none.
        nodes = [helper.make_node("Constant", [], [inside], value=numpy_helper.from_array(weight)), node]
    return helper.make_graph(nodes, operator, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


STEPS: tuple[Callable[[Builder, str], str | None], ...] = (
    *(_conv, _matmul, _gemm, _with_constant, _join, _activation, _pool, _reshape, _transpose, _branch),
)


@dataclass(frozen=True)
class RandomModel:
    """A valid model and an input of it: float32 of the shape that the graph was made for."""

    proto: ModelProto
    name: str
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        """Show the graph as text."""
        return helper.printable_graph(self.proto.graph)

    @property
    def dims(self) -> dict[str, list[int]]:
        """A value for the batch, if it is open."""
        first = self.proto.graph.input[0].type.tensor_type.shape.dim[0]
        return {"batch": [self.shape[0]]} if first.dim_param else {}


@st.composite
def models(draw: DrawFn) -> RandomModel:
    """Draw a model."""
    b = Builder(draw, draw(st.integers(11, 21)))
    shape = draw(SHAPES)
    x = draw(st.sampled_from(["x", "input 0", "data:0", "x.1"]))
    b.shapes[x] = shape
    last = x
    for _ in range(draw(st.integers(1, NODES))):
        # Mostly on from the last tensor, now and then from an earlier one.
        start = last if draw(st.integers(0, 3)) else draw(st.sampled_from(sorted(b.shapes)))
        if b.shapes[start]:
            last = draw(st.sampled_from(STEPS))(b, start) or last
    if last == x:
        last = b.add("Relu", [x], shape)
    if draw(st.booleans()):
        b.weights["used by none"] = np.ones(3, np.float32)
    outputs = [last]
    if draw(st.booleans()):
        outputs.append(draw(st.sampled_from(sorted({name for name in b.shapes if name != x} - {last}) or [last])))
    return RandomModel(_model(b, x, list(dict.fromkeys(outputs))), x, shape)


def _model(b: Builder, x: str, outputs: list[str]) -> ModelProto:
    first: int | str = "batch" if b.draw(st.booleans()) else b.shapes[x][0]
    ir_version = IR_OF_OPSET_21 if b.opset == 21 else b.draw(st.sampled_from([INITIALIZERS_ARE_INPUTS, 6, 8]))
    tensors = [numpy_helper.from_array(array, name) for name, array in b.weights.items()]
    inputs = [helper.make_tensor_value_info(x, TensorProto.FLOAT, [first, *b.shapes[x][1:]])]
    if ir_version == INITIALIZERS_ARE_INPUTS:
        inputs += [helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in tensors]
    # Exporters declare outputs with or without their shapes.
    known = b.draw(st.booleans()) and first != "batch"
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, b.shapes[name] if known else [None] * len(b.shapes[name]))
        for name in outputs
    ]
    graph = helper.make_graph(b.nodes, "random", inputs, made, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", b.opset)], ir_version=ir_version)
    checker.check_model(model, full_check=True)
    return model
