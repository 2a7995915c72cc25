from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from harness.errors import ModelError
from harness.quantize.build import build
from harness.quantize.planning.inspect import ModelFacts, inspect_model
from harness.study.study import for_model
from tests.models import make_model

DIGITS = Path(__file__).parents[3] / "studies" / "digits" / "model.onnx"


def test_describes_a_model(cnn: Path) -> None:
    facts = inspect_model(cnn)
    assert (facts.name, facts.size, facts.opset, facts.opsets) == ("cnn", cnn.stat().st_size, 17, {"ai.onnx": 17})
    assert facts.open_dims == ("batch",)
    assert facts.inputs[0].model_dump() == {"name": "x", "dtype": "float32", "shape": ("batch", 1, 8, 8)}
    assert facts.parameters == 36 + 4 + 144 + 12 + 3
    assert facts.op_histogram == {"Conv": 2, "Relu": 1, "Add": 1, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
    assert facts.quantized == {}
    last = facts.nodes[-1]
    assert (last.index, last.name, last.op_type, last.inputs) == (6, "head/gemm", "Gemm", ("f", "w3", "b3"))
    assert ModelFacts.model_validate_json(json.dumps(facts.model_dump(mode="json"))) == facts


def test_says_what_recipes_can_do(cnn: Path) -> None:
    recipes = {facts.name: facts for facts in inspect_model(cnn).recipes}
    assert recipes["fp32"].quantizes == {}
    assert recipes["dynamic-S8"].quantizes == {"Conv": 2, "Gemm": 1}
    assert recipes["dynamic-S8"].stays_float == ("Add", "Flatten", "GlobalAveragePool", "Relu")
    assert sum(recipes["static-QDQ-U8S8"].quantizes.values()) == 7
    assert sum(recipes["fp16"].quantizes.values()) == 7
    refused = recipes["static-QDQ-S8U8"]
    assert (refused.possible, refused.quantizes) == (False, {})
    assert "check_static_quant_arguments" in (refused.reason or "")


def test_formats_differ_in_what_they_know(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["c"]), helper.make_node("Erf", ["c"], ["y"])]
    proto = make_model(nodes, {"x": [1, 1, 4, 4]}, {"y": [1, 1, 4, 4]})
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [2.0]))
    onnx.save(proto, tmp_path / "m.onnx")
    recipes = {facts.name: facts for facts in inspect_model(tmp_path / "m.onnx").recipes}
    assert recipes["static-QDQ-U8S8"].quantizes == {"ConvTranspose": 1}
    assert recipes["static-QOperator-U8S8"].quantizes == {}
    assert recipes["static-QOperator-U8S8"].reason == "the main graph has no node that it works on"


def test_dynamic_needs_constant_weights(tmp_path: Path) -> None:
    proto = make_model([helper.make_node("MatMul", ["x", "x"], ["y"])], {"x": [4, 4]}, {"y": [4, 4]})
    onnx.save(proto, tmp_path / "m.onnx")
    recipes = {facts.name: facts for facts in inspect_model(tmp_path / "m.onnx").recipes}
    assert recipes["dynamic-U8"].quantizes == {}
    assert recipes["static-QDQ-U8S8"].quantizes == {"MatMul": 1}


def test_a_quantized_model_is_described(cnn: Path, tmp_path: Path) -> None:
    study = for_model(cnn, dims={"batch": [1]})
    variants = {variant.name: variant for variant in build(study, tmp_path / "out")}
    path = variants["static-QOperator-U8S8"].path
    assert path
    facts = inspect_model(path)
    assert facts.quantized["QLinearConv"] == 2
    assert all("quantized already" in (recipe.reason or "") for recipe in facts.recipes if recipe.name != "fp32")
    assert facts.recipes[0].possible


def test_branches_are_listed_with_their_place(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, [4])
        return helper.make_graph([helper.make_node("Neg", ["x"], [f"y{name}"])], name, [], [out])

    choice = helper.make_node("If", ["c"], ["y"], "choice", then_branch=branch("a"), else_branch=branch("b"))
    proto = make_model([choice], {"x": [4]}, {"y": [4]})
    proto.graph.input.append(helper.make_tensor_value_info("c", TensorProto.BOOL, []))
    onnx.save(proto, tmp_path / "m.onnx")
    facts = inspect_model(tmp_path / "m.onnx")
    assert facts.op_histogram == {"Neg": 2, "If": 1}
    assert sorted((node.op_type, node.inside) for node in facts.nodes) == [
        ("If", ""),
        ("Neg", "choice.else_branch"),
        ("Neg", "choice.then_branch"),
    ]
    assert [node.index for node in facts.nodes] == [0, 1, 2]


def test_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        inspect_model(tmp_path / "none.onnx")


def test_digits() -> None:
    facts = inspect_model(DIGITS)
    assert facts.op_histogram["Conv"] > 10
    assert {recipe.name for recipe in facts.recipes if not recipe.possible} == {"static-QDQ-S8U8", "static-QOperator-S8U8"}


def test_says_that_a_model_draws_random_numbers(tmp_path: Path) -> None:
    nodes = [helper.make_node("RandomNormalLike", ["x"], ["n"], name="noise"), helper.make_node("Add", ["x", "n"], ["y"])]
    onnx.save(make_model(nodes, {"x": [4, 16]}, {"y": [4, 16]}, {}), tmp_path / "m.onnx")
    (note,) = inspect_model(tmp_path / "m.onnx").plan.notes
    assert "RandomNormalLike 'noise'" in note


def test_nothing_is_said_of_a_model_that_draws_none(cnn: Path) -> None:
    assert inspect_model(cnn).plan.notes == ()
