from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from harness.quantize.recipe import Recipe
from harness.quantize.steps import colliding_names
from tests.models import make_model
from tests.quantize.steps.conftest import run
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from tests.quantize.steps.conftest import Bench

    Array = NDArray[Any]

LEAST = {"nbits": 8.0, "fp16": 40.0}  # dB
ALL = (
    '[variants]\nmethods = ["static", "dynamic", "nbits", "fp16"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\n'
    'formats = ["QDQ", "QOperator"]\nper_channel = [false, true]\n'
    '[[variant]]\nname = "asym"\nmethod = "nbits"\nsymmetric = false\n'
    '[[variant]]\nname = "s8"\nmethod = "static"\nactivation = "QInt8"\n'
    '[[variant]]\nname = "with-resize"\nmethod = "fp16"\nexclude_nodes = ["conv"]\n'
)
node = helper.make_node
# Without the step, each of these breaks a recipe of the network below.
BREAKING = (
    *("_scale", "_zero_point", "_quantized", "_scales", "_QuantizeLinear_Output", "_DequantizeLinear_Output", "_ReduceMin"),
    *("_ReduceMin_Reshape", "_output_quantized", "_output_quantized_cast_output", "_bias_reshape_shape", "_bias_reshape_output"),
    *("quant_scaled_output", "_Q4", "_DQ_Q4", "_DQ_Q4_output", "_DQ_scales", "_DQ_zero_points"),
)
SUFFIXES = (
    *BREAKING,
    *("_quantized_scale", "_quantized_zero_point", "_QuantizeLinear", "_QuantizeLinear_Input", "_DequantizeLinear"),
    *("_DequantizeLinear_Input", "_MatMul", "_cast_to_fp16", "_cast_to_fp32", "_zero_points", "_Q4G32", "_zp", "_Transposed"),
)


def network(names: dict[str, str], *, output: str = "y") -> tuple[ModelProto, dict[str, Array]]:
    """Conv, LeakyRelu, Mul, MatMul and Gemm, some of whose tensors and nodes are called otherwise."""

    def n(name: str) -> str:
        return names.get(name, name)

    weights: dict[str, Array] = {
        "w": normal(0, 6, 3, 3, 3) / 4,
        "b": normal(1, 6) / 2,
        "factor": np.abs(normal(2, 6, 1, 1)) * 3 + np.float32(0.5),
        "shape": np.array([1, -1], np.int64),
        "v": normal(3, 384, 32) / 20,
        "g": normal(4, 8, 32) / 6,
        "c": normal(5, 8),
    }
    nodes = [
        node("Conv", [n("x"), n("w"), n("b")], [n("a")], n("conv"), pads=[1] * 4),
        node("LeakyRelu", [n("a")], [n("r")], n("leaky"), alpha=0.1),
        node("Mul", [n("r"), n("factor")], [n("m")], n("scale")),
        node("Reshape", [n("m"), n("shape")], [n("f")], n("reshape")),
        node("MatMul", [n("f"), n("v")], [n("h")], n("matmul")),
        node("Gemm", [n("h"), n("g"), n("c")], [n(output)], n("gemm"), transB=1),
    ]
    return make_model(nodes, {n("x"): [1, 3, 8, 8]}, {n("y"): [1, 8]}, {n(name): each for name, each in weights.items()}), {
        n("x"): normal(9, 16, 3, 8, 8)
    }


def check(bench: Bench, model: ModelProto, data: dict[str, Array]) -> None:
    bench.save(model, **data)
    variants = bench.build(ALL)
    assert {each.state for each in variants.values()} == {"made"}, {each.name: each.reason for each in variants.values()}
    for name, found in bench.fidelity(variants).items():
        assert found > LEAST.get(variants[name].recipe.method, 25.0), (name, found)
    for variant in variants.values():
        assert not any("does not load" in note for note in variant.notes), variant.notes
        assert variant.path
        graph = onnx.load(variant.path).graph
        assert [value.name for value in graph.input] == [value.name for value in model.graph.input]
        assert [value.name for value in graph.output] == [value.name for value in model.graph.output]


@pytest.mark.parametrize("suffix", BREAKING)
def test_a_constant_beside_every_tensor_it_may_be_taken_for(bench: Bench, suffix: str) -> None:
    """The names of the tools lie on other tensors of the model: weights, activations and their takers in turn."""
    bases = ("w", "b", "a", "v", "h", "g")
    others = ("factor", "c", "r", "m", "f", "b")
    check(bench, *network({other: f"{base}{suffix}" for base, other in zip(bases, others, strict=True) if other != base}))


@pytest.mark.parametrize(
    "names",
    [
        {"leaky": "x_QuantizeLinear", "scale": "a_DequantizeLinear"},
        {"leaky": "conv_quant", "gemm": "matmul_quant", "r": "conv_quant_scales_mul:0"},
        {"scale": "gemm_MatMul", "reshape": "gemm_Add", "r": "y_MatMul"},
        {"leaky": "conv_output_cast_0", "r": "conv_output_cast_0", "a": "conv_input_cast_0"},
        {"factor": "fixed_zero", "r": "fixed_quantization_range_uint8"},
        {"r": "graph_input_cast_0", "m": "graph_output_cast_0"},
        {"factor": "matmul_Q4", "leaky": "matmul_DQ_Q4", "scale": "gemm_MatMul_Q4"},
        {"factor": "w_scale_renamed", "c": "w_scale"},
    ],
)
def test_nodes_and_tensors_that_are_called_like_the_tools_own(bench: Bench, names: dict[str, str]) -> None:
    check(bench, *network(names))


@pytest.mark.parametrize(
    "names",
    [
        {"x": "w_scale"},
        {"y": "w_scale"},
        {"y": "x_quantized"},
        {"y": "x_scale"},
        {"x": "y_QuantizeLinear_Input"},
        {"x": "y_quantized"},
        {"y": "x_cast_to_fp16"},
        {"y": "w_Q4"},
        {"y": "g_scales"},
    ],
)
def test_inputs_and_outputs_keep_their_names(bench: Bench, names: dict[str, str]) -> None:
    check(bench, *network(names))


def test_names_in_bodies(bench: Bench) -> None:
    bodies = []
    for name in ("w_scale", "x_quantized"):
        made = [node("Neg", ["x"], ["w_zero_point"], "conv_quant"), node("Abs", ["w_zero_point"], [name], "inner")]
        bodies.append(helper.make_graph(made, "body", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 32])]))
    nodes = [
        node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["condition"], "greater"),
        node("If", ["condition"], ["i"], "if", then_branch=bodies[0], else_branch=bodies[1]),
        node("MatMul", ["i", "w"], ["y"], "conv"),
    ]
    weights = {"w": normal(0, 32, 8), "zero": np.array(0, np.float32)}
    check(bench, make_model(nodes, {"x": [1, 32]}, {"y": [1, 8]}, weights), {"x": normal(1, 16, 32)})


def test_copies_of_a_shared_bias(bench: Bench) -> None:
    """QDQ calls the copies of a bias b0, b1 and so on, whatever else is called so."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["b0"], "conv"),
        node("Relu", ["b0"], ["b1"], "relu"),
        node("Gemm", ["b1", "v", "b"], ["b2"], "second"),
        node("Tanh", ["b2"], ["t"], "tanh"),
        node("Gemm", ["t", "v", "b"], ["b3"], "third"),
    ]
    weights = {"w": normal(0, 32, 32) / 5, "v": normal(1, 32, 32) / 5, "b": normal(2, 32)}
    check(bench, make_model(nodes, {"x": [1, 32]}, {"b3": [1, 32]}, weights), {"x": normal(1, 16, 32)})


@pytest.mark.parametrize("method", ["static", "dynamic", "nbits", "fp16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_nothing_else_changes(method: Any, suffix: str) -> None:
    model, data = network({"factor": f"w{suffix}", "r": f"a{suffix}", "scale": "conv_quant", "y": f"x{suffix}"})
    recipe = Recipe(name="r", method=method, format="QDQ")
    before = _run(model, data)
    if wanted := colliding_names.find(model, recipe):
        changes = colliding_names.rewrite(model, wanted)
        assert changes.notes[0].startswith(
            "rename-colliding-names: renamed, because the tool gives these names to tensors and nodes that it adds: '"
        )
        onnx.checker.check_model(model, full_check=True)
    assert not colliding_names.find(model, recipe)
    np.testing.assert_array_equal(before, _run(model, data))


def _run(model: ModelProto, data: dict[str, Array]) -> Array:
    (name,) = data
    return run(model.SerializeToString(), {name: data[name][:1]}, optimized=False)[0]


def test_names_that_no_tool_gives_stay() -> None:
    model, _ = network({"factor": "u_scale", "r": "a_out", "m": "scale_a", "conv": "block/conv_1"})
    for method in ("static", "dynamic", "nbits", "fp16"):
        assert not colliding_names.find(model, Recipe(name="r", method=method, format="QDQ"))
