from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.recipe import Recipe
from harness.quantize.steps import shared_constants
from tests.models import make_model
from tests.quantize.steps.conftest import Bench, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[Any]

LEAST = 25.0  # dB
ALL = (
    '[variants]\nmethods = ["static", "dynamic"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\nper_channel = [false, true]\n'
    '[[variant]]\nname = "s8"\nmethod = "static"\nactivation = "QInt8"\n'
    '[[variant]]\nname = "u8"\nmethod = "dynamic"\nweight = "QUInt8"\n'
    '[[variant]]\nname = "op-u8"\nmethod = "static"\nformat = "QOperator"\nweight = "QUInt8"\n'
)
node = helper.make_node


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def uneven(rows: int, columns: int) -> Array:
    """A weight whose rows differ in size by a thousand."""
    return (normal(1, rows, columns) / 4 * np.geomspace(0.01, 10, rows)[:, None]).astype(np.float32)


def one_head_on_levels() -> tuple[ModelProto, dict[str, Array]]:
    """A head with weight and bias on three levels of different range."""
    weights: dict[str, Array] = {"hw": normal(0, 4, 8, 3, 3) / 8, "hb": np.array([3, -2, 1, 4], np.float32)}
    nodes: list[NodeProto] = []
    for level, size in enumerate((1.0, 20.0, 0.05)):
        weights |= {
            f"w{level}": normal(level, 8, 3, 3, 3) * np.float32(size / 5),
            f"b{level}": normal(level, 8) * np.float32(size),
        }
        nodes += [
            node("Conv", ["x", f"w{level}", f"b{level}"], [f"c{level}"], f"stem{level}", pads=[1] * 4),
            node("Relu", [f"c{level}"], [f"r{level}"], f"relu{level}"),
            node("Conv", [f"r{level}", "hw", "hb"], [f"p{level}"], f"head{level}", pads=[1] * 4),
        ]
    outputs: dict[str, Sequence[int | str | None]] = {f"p{level}": [1, 4, 8, 8] for level in range(3)}
    return make_model(nodes, {"x": [1, 3, 8, 8]}, outputs, weights), {"x": normal(9, 16, 3, 8, 8)}


def bias_added_elsewhere() -> tuple[ModelProto, dict[str, Array]]:
    """A Gemm's bias that an Add and a Mul take, too."""
    weights = {"w": normal(0, 8, 8) / 3, "b": normal(1, 8), "v": normal(2, 8, 8) / 3}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["g"], "gemm"),
        node("Add", ["g", "b"], ["a"], "add"),
        node("Gemm", ["a", "v", "b"], ["h"], "other"),
        node("Mul", ["h", "b"], ["y"], "mul"),
    ]
    return make_model(nodes, {"x": [1, 8]}, {"y": [1, 8]}, weights), {"x": normal(3, 64, 8)}


def two_axes() -> tuple[ModelProto, dict[str, Array]]:
    """A square weight for MatMul, and for a Gemm that transposes it."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"], "matmul"),
        node("Tanh", ["a"], ["t"], "tanh"),
        node("Gemm", ["t", "w", "b"], ["y"], "gemm", transB=1),
    ]
    return make_model(nodes, {"x": [1, 16]}, {"y": [1, 16]}, {"w": uneven(16, 16), "b": normal(2, 16)}), {"x": normal(3, 64, 16)}


def tied_embeddings() -> tuple[ModelProto, dict[str, Array]]:
    """A table that a Gather looks up, and a Gemm multiplies by."""
    table = uneven(16, 16) + np.float32(0.05)
    nodes = [
        node("Gather", ["table", "ids"], ["e"], "embed"),
        node("Tanh", ["e"], ["t"], "tanh"),
        node("MatMul", ["t", "w"], ["h"], "middle"),
        node("Gemm", ["h", "table"], ["y"], "logits", transB=1),
    ]
    model = make_model(nodes, {}, {"y": [4, 16]}, {"table": table, "w": normal(4, 16, 16) / 4})
    model.graph.input.append(helper.make_tensor_value_info("ids", TensorProto.INT64, [4]))
    return model, {"ids": np.random.default_rng(3).integers(0, 16, (64, 4))}


def conv_and_transposed() -> tuple[ModelProto, dict[str, Array]]:
    """One kernel for a Conv and a ConvTranspose."""
    kernel = (normal(0, 4, 4, 3, 3) / 4 * np.geomspace(0.01, 10, 4)[:, None, None, None]).astype(np.float32)
    nodes = [
        node("Conv", ["x", "k"], ["c"], "down", pads=[1] * 4),
        node("Tanh", ["c"], ["t"], "tanh"),
        node("ConvTranspose", ["t", "k"], ["y"], "up", pads=[1] * 4),
    ]
    return make_model(nodes, {"x": [1, 4, 6, 6]}, {"y": [1, 4, 6, 6]}, {"k": kernel}), {"x": normal(3, 32, 4, 6, 6)}


def kernel_is_an_output() -> tuple[ModelProto, dict[str, Array]]:
    """A weight that is an output of the graph, too."""
    nodes = [node("MatMul", ["x", "w"], ["y"], "matmul"), node("Gemm", ["y", "w"], ["z"], "gemm", transB=1)]
    return make_model(nodes, {"x": [1, 8]}, {"z": [1, 8], "w": [8, 8]}, {"w": normal(0, 8, 8)}), {"x": normal(3, 64, 8)}


def weight_and_float_node() -> tuple[ModelProto, dict[str, Array]]:
    """A weight that nodes take which are never quantized, before and after the one that is."""
    nodes = [
        node("Cos", ["w"], ["c"], "cos"),
        node("Where", ["m", "x", "w"], ["u"], "where"),
        node("MatMul", ["u", "w"], ["a"], "matmul"),
        node("Sub", ["a", "w"], ["s"], "sub"),
        node("PRelu", ["s", "w"], ["p"], "prelu"),
        node("Add", ["p", "c"], ["y"], "add"),
    ]
    weights: dict[str, Array] = {"w": normal(0, 8, 8), "m": np.eye(8, dtype=bool)}
    return make_model(nodes, {"x": [8, 8]}, {"y": [8, 8]}, weights), {"x": normal(3, 32, 8, 8)}


def pads_that_share_a_value() -> tuple[ModelProto, dict[str, Array]]:
    """Two Pads, a Clip and a Mul that share one number."""
    weights: dict[str, Array] = {"w0": normal(0, 8, 3, 3, 3) / 5, "w1": normal(1, 8, 8, 3, 3) / 8, "v": np.array(1.5, np.float32)}
    weights["p"] = np.array([0, 0, 1, 1] * 2, np.int64)
    nodes = [
        node("Conv", ["x", "w0"], ["a"], "conv0"),
        node("Pad", ["a", "p", "v"], ["ap"], "pad0"),
        node("Conv", ["ap", "w1"], ["b"], "conv1"),
        node("Clip", ["b", "", "v"], ["k"], "clip"),
        node("Pad", ["k", "p", "v"], ["q"], "pad1"),
        node("Mul", ["q", "v"], ["y"], "mul"),
    ]
    return make_model(nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 8, 8, 8]}, weights), {"x": normal(3, 32, 3, 8, 8)}


def used_in_a_body() -> tuple[ModelProto, dict[str, Array]]:
    """A weight that a MatMul, and the bodies of an If and a Loop, take."""
    then = helper.make_graph([node("MatMul", ["x", "w"], ["t"])], "then", [], [helper.make_tensor_value_info("t", 1, [1, 8])])
    other = helper.make_graph([node("Add", ["x", "b"], ["e"])], "else", [], [helper.make_tensor_value_info("e", 1, [1, 8])])
    nodes = [
        node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["c"], "greater"),
        node("If", ["c"], ["i"], "if", then_branch=then, else_branch=other),
        node("Gemm", ["i", "w", "b"], ["y"], "gemm", transB=1),
    ]
    weights = {"w": uneven(8, 8), "b": normal(1, 8), "zero": np.array(0, np.float32)}
    return make_model(nodes, {"x": [1, 8]}, {"y": [1, 8]}, weights), {"x": normal(3, 64, 8)}


def lstms_of_one_weight() -> tuple[ModelProto, dict[str, Array]]:
    """Two layers with the same recurrent weights."""
    weights = {"w": normal(0, 1, 32, 8) / 3, "r": normal(1, 1, 32, 8) / 3}
    nodes: list[NodeProto] = []
    last = "x"
    for layer in range(2):
        nodes.append(node("LSTM", [last, "w", "r"], [f"h{layer}"], f"lstm{layer}", hidden_size=8))
        nodes.append(node("Squeeze", [f"h{layer}", "one"], [f"s{layer}"], f"squeeze{layer}"))
        last = f"s{layer}"
    model = make_model(nodes, {"x": [3, 1, 8]}, {last: [3, 1, 8]}, {**weights, "one": np.array([1], np.int64)})
    return model, {"x": normal(3, 16, 3, 1, 8)}


CASES = (
    *(one_head_on_levels, bias_added_elsewhere, two_axes, tied_embeddings, conv_and_transposed, kernel_is_an_output),
    *(weight_and_float_node, pads_that_share_a_value, used_in_a_body, lstms_of_one_weight),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_each_recipe_comes_near_fp32(bench: Bench, case: Any) -> None:
    model, data = case()
    bench.save(model, **data)
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}, {each.name: each.reason for each in variants.values()}
    found = bench.fidelity(variants)
    assert min(found.values()) > LEAST, found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(name="r", method="static", format="QOperator", activation="QUInt8", weight="QInt8", per_channel=True),
        Recipe(name="r", method="static", format="QDQ", activation="QInt8", weight="QInt8"),
        Recipe(name="r", method="dynamic", weight="QInt8", per_channel=True),
    ],
    ids=lambda recipe: f"{recipe.method}-{recipe.format}",
)
def test_copies_change_no_output(case: Any, recipe: Recipe) -> None:
    model, data = case()
    feed = {name: values[0].reshape(_shape(model, name)) for name, values in data.items()}
    before = run(model.SerializeToString(), feed, optimized=False)
    shared_constants.rewrite(model, shared_constants.find(model, recipe))
    onnx.checker.check_model(model, full_check=True)
    assert not shared_constants.find(model, recipe)
    for one, other in zip(before, run(model.SerializeToString(), feed, optimized=False), strict=True):
        np.testing.assert_array_equal(one, other)


def _shape(model: ModelProto, name: str) -> list[int]:
    value = next(value for value in model.graph.input if value.name == name)
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def test_the_note_names_constants_nodes_and_bytes(bench: Bench) -> None:
    model, data = one_head_on_levels()
    bench.save(model, **data)
    found = bench.build()["static-QOperator-U8S8"]
    assert found.notes[0] == (
        "copy-shared-constants: copied, because the tool would quantize a constant once for all nodes that take it: 'hb' for 'head1', 'head2'; 32 bytes more in float32"
    )


def test_what_the_tool_treats_alike_is_not_copied() -> None:
    weights = {"w": normal(0, 8, 8), "b": normal(1, 8)}
    nodes = [node("MatMul", ["x", "w"], ["a"], "a"), node("MatMul", ["a", "w"], ["c"], "c"), node("Add", ["c", "b"], ["y"], "y")]
    model = make_model(nodes, {"x": [1, 8]}, {"y": [1, 8]}, weights)
    for method, form in (("static", "QDQ"), ("static", "QOperator"), ("dynamic", None)):
        recipe = Recipe(name="r", method=method, format=form, activation="QUInt8", weight="QInt8", per_channel=True)
        assert not shared_constants.find(model, recipe)


def test_what_is_said_of_a_constant_is_said_of_its_copies(bench: Bench) -> None:
    model, data = two_axes()
    bench.save(model, **data)
    found = bench.build(
        '[variants]\nmethods = []\n[[variant]]\nname = "v"\nmethod = "static"\nper_channel = true\n'
        '[variant.extra_options.TensorQuantOverrides]\nw = { quant_type = "QUInt8", symmetric = false }\n'
    )["v"]
    assert found.path, found.reason
    made = onnx.load(found.path)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    kinds = {numpy_helper.to_array(tensor).dtype.name for name, tensor in stored.items() if list(tensor.dims) == [16, 16]}
    assert kinds == {"uint8"}
    assert {"w_quantized", "w_copy_quantized"} <= set(stored)
