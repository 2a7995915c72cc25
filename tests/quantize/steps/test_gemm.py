from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize.recipe import Recipe
from harness.quantize.steps import gemm
from tests.models import make_model
from tests.quantize.steps.conftest import Bench, run
from tests.quantize.steps.test_shared_constants import normal

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    Array = NDArray[Any]

ALL = '[variants]\nmethods = ["static", "dynamic", "nbits"]\nactivations = ["QUInt8"]\nweights = ["QInt8"]\nper_channel = [false, true]\n'
SIZE = 16
node = helper.make_node


def network(
    shape: tuple[int, ...] | None = (SIZE,),
    *,
    fixed: str = "BC",
    opset: int = 17,
    twice: bool = False,
    **attributes: Any,
) -> tuple[ModelProto, dict[str, Array]]:
    """A Gemm whose inputs are computed but for those that are named; ``twice``: another one takes the same constants."""
    weights, nodes, inputs, data = {}, [], {}, {}
    for seed, name in enumerate("ABC"):
        dims = (SIZE, SIZE) if name != "C" else shape
        if dims is None:
            continue
        if name in fixed:
            weights[name] = np.asarray(normal(seed, *dims) * 3, np.float32)
            continue
        inputs[f"x{name}"], data[f"x{name}"] = list(dims), normal(seed, 16, *dims)
        nodes.append(node("Tanh", [f"x{name}"], [name], f"make{name}"))
    taken = ["A", "B", *(["C"] if shape is not None else [])]
    nodes.append(node("Gemm", taken, ["g"], "gemm", **attributes))
    last = "g"
    if twice:
        nodes.append(node("Gemm", ["g", *taken[1:]], ["h"], "other", alpha=0.1, beta=2.0))
        last = "h"
    nodes.append(node("Relu", [last], ["y"], "relu"))
    return make_model(nodes, dict(inputs), {"y": [SIZE, SIZE]}, weights, opset=opset), data


CASES: dict[str, tuple[ModelProto, dict[str, Array]]] = {
    "beta": network(beta=3.0),
    "alpha": network(alpha=0.25),
    "both": network(alpha=-2.0, beta=-0.5),
    "alpha is zero": network(alpha=0.0),
    "beta is zero": network(beta=0.0),
    "no bias": network(None, alpha=0.25),
    "number": network((), beta=3.0),
    "one number": network((1,)),
    "one by one": network((1, 1), alpha=0.5),
    "row of two axes": network((1, SIZE)),
    "column": network((SIZE, 1), beta=2.0),
    "matrix": network((SIZE, SIZE), alpha=0.5),
    "computed bias": network(fixed="B", alpha=0.25, beta=3.0),
    "computed bias that counts for nothing": network(fixed="B", beta=0.0),
    "computed weight": network(fixed="C", alpha=0.25, beta=3.0),
    "computed weight and bias": network(fixed="A", alpha=0.25, beta=3.0),
    "constant left side": network((SIZE, 1), fixed="AC", alpha=0.25, beta=3.0),
    "transposed": network(transA=1, transB=1, alpha=0.25, beta=3.0),
    "left side transposed": network(transA=1),
    "both sides transposed": network(transA=1, transB=1),
    "left side transposed, opset 9": network((1, SIZE), transA=1, opset=9),
    "constant left side transposed": network(fixed="AC", transA=1),
    "two Gemms": network(twice=True, alpha=0.5, beta=3.0),
    "opset 9": network((1, SIZE), opset=9, alpha=0.5, beta=3.0),
    "opset 9, matrix": network((SIZE, SIZE), opset=9, beta=3.0),
}
RECIPES = [
    Recipe(name="r", method="static", format="QDQ", activation="QUInt8", weight="QInt8", per_channel=True),
    Recipe(name="r", method="static", format="QOperator", activation="QUInt8", weight="QInt8"),
    Recipe(name="r", method="dynamic", weight="QInt8"),
    Recipe(name="r", method="nbits", format="QDQ"),
]


@pytest.mark.parametrize("case", CASES)
def test_each_recipe_comes_near_fp32(bench: Bench, case: str) -> None:
    model, data = CASES[case]
    bench.save(model, **data)
    variants = bench.build(ALL)
    for variant in variants.values():
        nothing = variant.recipe.method == "nbits" and "no MatMul" in (variant.reason or "")
        assert variant.state == "made" or nothing, variant.reason
        assert not any(
            "does not load" in note or ("stays in float" in note and "computed-operands" not in note) for note in variant.notes
        ), variant.notes
    for name, found in bench.fidelity(variants).items():
        assert found > (15 if variants[name].recipe.method == "nbits" else 30), (name, found)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: f"{recipe.method}-{recipe.format}")
def test_folding_changes_no_output(case: str, recipe: Recipe) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(CASES[case][0])
    feed = {name: values[0] for name, values in CASES[case][1].items()}
    before = run(model.SerializeToString(), feed, optimized=False)[0]
    if wanted := gemm.find(model, recipe):
        assert gemm.rewrite(model, wanted).notes
    assert not gemm.find(model, recipe)
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_allclose(run(model.SerializeToString(), feed, optimized=False)[0], before, rtol=1e-4, atol=1e-4)


def test_a_gemm_that_needs_nothing_is_left(bench: Bench) -> None:
    model, data = network()
    bench.save(model, **data)
    assert not any(gemm.find(bench.prepared().proto, recipe) for recipe in RECIPES)
    model, _ = network(fixed="B", beta=3.0)
    assert not any(gemm.find(model, recipe) for recipe in RECIPES if recipe.method == "static"), "computed biases stay in float"
    model, _ = network(fixed="A", transA=1, beta=3.0)
    assert not any(gemm.find(model, recipe) for recipe in RECIPES if recipe.method != "static"), "it would stay in float anyway"
    model, _ = network(transA=1)
    assert not any(gemm.find(model, recipe) for recipe in RECIPES if recipe.method == "static"), (
        "static has integer kernels for it"
    )


def test_constants_are_stored_once_more_only_for_others(bench: Bench) -> None:
    model, data = network(twice=True, beta=3.0)
    bench.save(model, **data)
    variants = bench.build(ALL)
    assert variants["static-QDQ-U8S8"].notes[0] == (
        "fold-gemm: alpha and beta were folded into the constants of 'gemm', 'other', because the tool drops or misreads them"
    )
    proto = onnx.load(bench.folder / "m.onnx")
    gemm.rewrite(proto, gemm.find(proto, RECIPES[0]))
    assert sorted(tensor.name for tensor in proto.graph.initializer) == ["B", "B_folded", "C_folded", "C_folded_"]


def test_overrides_follow_a_folded_constant(bench: Bench) -> None:
    model, data = network(alpha=0.5)
    bench.save(model, **data)
    found = bench.build(
        '[variants]\nmethods = []\n[[variant]]\nname = "v"\nmethod = "static"\n'
        '[variant.extra_options.TensorQuantOverrides]\nB = { quant_type = "QUInt8", symmetric = false }\n'
    )["v"]
    assert found.path, found.reason
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load(found.path).graph.initializer}
    assert kinds["B_folded_quantized"] == onnx.TensorProto.UINT8


def body_gemms() -> list[NodeProto]:
    """An If whose bodies transpose a weight of the main graph, and a Gemm beside it that does, too."""
    bodies = []
    for name in ("then", "else"):
        output = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, SIZE])
        made = node("Gemm", ["x", "w"], [name], f"in {name}", transB=1)
        bodies.append(helper.make_graph([made], name, [], [output]))
    return [
        node("ReduceSum", ["x"], ["sum"], "sum", keepdims=0),
        node("Greater", ["sum", "zero"], ["c"], "greater"),
        node("If", ["c"], ["i"], "if", then_branch=bodies[0], else_branch=bodies[1]),
        node("Gemm", ["i", "w"], ["g"], "outer", transB=1),
        node("MatMul", ["g", "w"], ["y"], "last"),
    ]


def test_weights_that_bodies_transpose(bench: Bench) -> None:
    """The tools transpose the weight of every Gemm where it is stored: three times here."""
    weights: dict[str, Array] = {"w": normal(0, SIZE, SIZE) / 4, "zero": np.array(0, np.float32)}
    bench.save(make_model(body_gemms(), {"x": [1, SIZE]}, {"y": [1, SIZE]}, weights), x=normal(1, 16, 1, SIZE))
    variants = bench.build(ALL + '[[variant]]\nname = "sub"\nmethod = "dynamic"\nextra_options = { EnableSubgraph = true }\n')
    assert {each.state for each in variants.values()} == {"made"}, {each.name: each.reason for each in variants.values()}
    for name, found in bench.fidelity(variants).items():
        assert found > (15 if variants[name].recipe.method == "nbits" else 25), (name, found)
