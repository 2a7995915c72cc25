"""Weights in blocks that several nodes take."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.models import make_model
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from tests.quantize.steps.conftest import Bench

    Array = NDArray[Any]

ALL = (
    '[variants]\nmethods = ["nbits"]\nformats = ["QDQ", "QOperator"]\n'
    '[[variant]]\nmethod = "nbits"\nsymmetric = false\nname = "asym"\n'
    '[[variant]]\nmethod = "nbits"\nformat = "QOperator"\nalgorithm = "RTN"\nname = "rtn"\n'
    '[[variant]]\nmethod = "nbits"\nformat = "QOperator"\nalgorithm = "GPTQ"\nname = "gptq"\n'
)
SIZE = 32
LEAST = 12.0  # dB: what four bits give
node = helper.make_node


def layers() -> ModelProto:
    """Three layers of one weight, as ALBERT has them."""
    nodes = []
    for layer in range(3):
        nodes.append(node("MatMul", ["x" if layer == 0 else f"t{layer - 1}", "w"], [f"m{layer}"], f"matmul{layer}"))
        nodes.append(node("Tanh", [f"m{layer}"], [f"t{layer}"], f"tanh{layer}"))
    return make_model(nodes, {"x": [1, SIZE]}, {"t2": [1, SIZE]}, {"w": normal(0, SIZE, SIZE) / 6})


def body_and_main() -> ModelProto:
    """A weight that an If's bodies take, and a MatMul after it."""
    bodies = []
    for name in ("then", "else"):
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, SIZE])
        bodies.append(helper.make_graph([node("MatMul", ["x", "w"], [name], f"in {name}")], name, [], [output]))
    nodes = [
        node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["c"], "greater"),
        node("If", ["c"], ["i"], "if", then_branch=bodies[0], else_branch=bodies[1]),
        node("MatMul", ["i", "w"], ["y"], "outer"),
    ]
    weights: dict[str, Array] = {"w": normal(0, SIZE, SIZE) / 6, "zero": np.array(0, np.float32)}
    return make_model(nodes, {"x": [1, SIZE]}, {"y": [1, SIZE]}, weights)


def looked_up() -> ModelProto:
    """A table that Gathers look up before and after a MatMul takes it."""
    weights: dict[str, Array] = {"table": normal(0, SIZE, SIZE), "ids": np.array([3], np.int64)}
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "first"),
        node("Add", ["x", "e"], ["s"], "sum"),
        node("MatMul", ["s", "table"], ["h"], "matmul"),
        node("Gather", ["table", "ids"], ["f"], "second"),
        node("Add", ["h", "f"], ["y"], "add"),
    ]
    return make_model(nodes, {"x": [1, SIZE]}, {"y": [1, SIZE]}, weights)


def also_an_output() -> ModelProto:
    """A weight that is an output of the graph, too."""
    nodes = [node("MatMul", ["x", "w"], ["y"], "matmul")]
    return make_model(nodes, {"x": [1, SIZE]}, {"y": [1, SIZE], "w": [SIZE, SIZE]}, {"w": normal(0, SIZE, SIZE)})


def gemms() -> ModelProto:
    """One weight for Gemms, one of which transposes it, and a MatMul."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["a"], "gemm0"),
        node("Tanh", ["a"], ["t"], "tanh"),
        node("Gemm", ["t", "w", "b"], ["c"], "gemm1", transB=1),
        node("MatMul", ["c", "w"], ["y"], "matmul"),
    ]
    return make_model(nodes, {"x": [1, SIZE]}, {"y": [1, SIZE]}, {"w": normal(0, SIZE, SIZE) / 6, "b": normal(1, SIZE)})


@pytest.mark.parametrize("case", [layers, body_and_main, looked_up, also_an_output, gemms])
def test_each_format_and_algorithm_comes_near_fp32(bench: Bench, case: Any) -> None:
    bench.save(case(), x=normal(3, 16, SIZE))
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}, {each.name: each.reason for each in variants.values()}
    found = bench.fidelity(variants)
    assert min(found.values()) > LEAST, found
    for variant in variants.values():
        assert variant.path
        names = Counter(tensor.name for tensor in onnx.load(variant.path).graph.initializer)
        assert max(names.values()) == 1


def test_a_weight_of_several_nodes_is_stored_once(bench: Bench) -> None:
    bench.save(layers(), x=normal(3, 16, SIZE))
    found = bench.build(ALL)
    for name in ("nbits-4b32", "asym", "rtn"):
        variant = found[name]
        assert variant.path
        made = onnx.load(variant.path)
        assert sum(tensor.ByteSize() for tensor in made.graph.initializer) < 2 * SIZE * SIZE / 2
        assert Counter(each.op_type for each in made.graph.node)["DequantizeLinear"] == (0 if name == "rtn" else 1)
