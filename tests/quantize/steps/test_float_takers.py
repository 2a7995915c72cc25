"""Whoever takes float gets float, in every format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.quantize.steps.models import model, node, samples, weights
from tests.quantize.steps.test_keep_clamps import CONSTANTS, STEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import NodeProto

    from tests.quantize.steps.conftest import Bench

ALL = (
    '[variants]\nmethods = ["dynamic", "static"]\nformats = ["QDQ", "QOperator"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
)
SIZE = {"x": [1, 3, 8, 8]}
MORE = {
    **CONSTANTS,
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "value": np.float32(-0.7),
    "u": weights(6, 6, 1, 1, seed=5),
    "sizes": np.array([1, 6, 16, 16]),
    "axes": np.array([2, 3]),
    "count": np.array([3]),
}


def check(
    bench: Bench, nodes: Sequence[NodeProto], outputs: Sequence[str] | dict[str, list[int]], least: float = 20, more: str = ALL
) -> None:
    """Make all variants, which must be near fp32."""
    bench.save(model(nodes, SIZE, outputs, MORE), x=samples(8, 3, 8, 8))
    variants = bench.build(more)
    assert {name: each.reason for name, each in variants.items() if each.path is None} == {}
    found = bench.fidelity(variants)
    assert min(found.values()) > least, found


def body(kind: str, inputs: str, output: str, *more: NodeProto) -> helper.GraphProto:  # type: ignore[name-defined]
    """A body with one node, or with more before it."""
    made = [*more, node(kind, inputs, output)]
    return helper.make_graph(made, output, [], [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)])


def branch(then: object, other: object, output: str = "i") -> list[NodeProto]:
    """An If whose condition is computed."""
    return [
        node("ReduceMean", "x", "mean", keepdims=0),
        node("Greater", "mean zero", "condition"),
        node("If", "condition", output, then_branch=then, else_branch=other),
    ]


RESIZED = node("Resize", "a - scales", "r", mode="nearest")


@pytest.mark.parametrize(
    "extra",
    [
        [node("Pad", "u1 pads value", "y")],
        [node("Clip", "u1 value", "y")],
        [node("Add", "u1 value", "y")],
        [node("Pad", "u1 pads value", "q"), node("Pad", "q pads value", "y")],
    ],
    ids=["pad", "clip", "add", "three pads"],
)
def test_a_padding_value_has_other_takers(bench: Bench, extra: list[NodeProto]) -> None:
    check(bench, [STEM, node("Pad", "a pads value", "p"), node("Conv", "p u", "u1"), *extra], ["y"])


@pytest.mark.parametrize("outputs", [["y"], ["y", "r"]])
def test_bodies_take_what_is_quantized_outside(bench: Bench, outputs: list[str]) -> None:
    nodes = [STEM, RESIZED, *branch(body("Mul", "r value", "t"), body("Neg", "r", "e")), node("Conv", "i v", "y")]
    check(bench, nodes, outputs)


def test_a_body_gives_what_is_quantized_outside(bench: Bench) -> None:
    """It takes nothing: an outer tensor is its output through an Identity in a body of a body."""
    nested = node("If", "condition", "inner", then_branch=body("Identity", "r", "n1"), else_branch=body("Neg", "r", "n2"))
    inner = helper.make_graph([nested], "in", [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])
    nodes = [STEM, RESIZED, *branch(inner, body("Neg", "r", "e")), node("Conv", "i v", "y")]
    check(bench, nodes, ["y"])


def test_a_loop_takes_a_relu_that_stands_for_a_convolution(bench: Bench) -> None:
    loop = helper.make_graph(
        [node("Add", "carried r", "next"), node("Identity", "go", "on")],
        "loop",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [1, 6, 8, 8]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1, 6, 8, 8]),
        ],
    )
    nodes = [
        STEM,
        node("Relu", "a", "r"),
        node("Identity", "r", "start"),
        node("Loop", "count - start", "l", body=loop),
        node("Conv", "l v", "y"),
    ]
    check(bench, nodes, {"y": [1, 4, 8, 8]})


@pytest.mark.parametrize(
    "nodes",
    [
        [
            node("Resize", "a - - sizes", "r", mode="nearest"),
            node("Tanh", "r", "t"),
            node("Conv", "r v", "y0"),
            node("ReduceMean", "t", "m"),
            node("Add", "y0 m", "y"),
        ],
        [node("Transpose", "a", "r"), node("TopK", "r count", "k j", axis=1), node("Identity", "k", "y")],
        [node("MaxPool", "a", "r", kernel_shape=[2, 2]), node("Where", "mask r r", "w0"), node("Conv", "w0 v", "y")],
        [node("Reshape", "a shape", "r"), node("CumSum", "r axis", "y")],
        [
            node("Shape", "a", "s"),
            node("Flatten", "a", "f"),
            node("Reshape", "f s", "r"),
            node("Exp", "r", "e"),
            node("Conv", "e v", "y"),
        ],
        [node("Split", "a", "s1 s2", axis=1, num_outputs=None), node("Sub", "s1 s2", "d"), node("Identity", "d", "y")],
    ],
    ids=["resize by sizes", "top k", "where", "cumulated", "shape", "split"],
)
def test_other_takers(bench: Bench, nodes: list[NodeProto]) -> None:
    nodes = [STEM, *nodes]
    for each in nodes:
        if each.op_type == "Split":
            del each.attribute[:]
            each.attribute.append(helper.make_attribute("axis", 1))
    MORE.update({"mask": np.arange(7) % 2 == 0, "axis": np.array(2)})
    check(bench, nodes, ["y"], 15)


def test_an_operator_that_gives_up_after_its_input_was_quantized(bench: Bench) -> None:
    """A Gemm with a computed bias stays in float, and another node takes the same input."""
    nodes = [
        STEM,
        node("GlobalAveragePool", "x", "p"),
        node("Flatten", "p", "f"),
        node("ReduceMean", "f", "bias", axes=[0], keepdims=0),
        node("Gemm", "f w1 bias3", "g1"),
        node("Gemm", "f w2", "g2"),
        node("Add", "g1 g2", "y"),
    ]
    nodes[3] = node("Mul", "f3 value", "bias3")
    nodes.insert(3, node("Squeeze", "f", "f3"))
    MORE.update({"w1": weights(3, 3), "w2": weights(3, 3, seed=9)})
    check(bench, nodes[1:], ["y"], 15)
