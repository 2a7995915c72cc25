"""Weights that are quantized each time that a file is loaded are told, however they get to their node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from harness.quantize.build import build
from harness.quantize.recipe import Recipe, spelled
from harness.quantize.verify import float_weights, precision
from tests.models import make_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.study.study import Study

W = np.arange(16, dtype=np.float32).reshape(4, 4)
SCALE, ZERO = np.array(0.1, np.float32), np.array(0, np.int8)
STATIC = Recipe(name="r", method="static", format="QDQ", weight="QInt8", activation="QUInt8")


def node(op_type: str, inputs: list[str], outputs: list[str], **attributes: Any) -> NodeProto:
    return helper.make_node(op_type, inputs, outputs, name=f"{op_type}-{outputs[0]}", **attributes)


def made(weight: list[NodeProto], constants: dict[str, Any], *, last: str = "wd") -> ModelProto:
    """A MatMul whose weight comes over some nodes, beside one whose weight is stored as int8."""
    nodes = [
        *weight,
        node("DequantizeLinear", ["stored", "scale", "zero"], ["sd"]),
        helper.make_node("MatMul", ["x", last], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "sd"], ["y"], name="second"),
    ]
    stored = {"scale": SCALE, "zero": ZERO, "stored": np.ones((4, 4), np.int8), **constants}
    return make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, stored)


PACK = [node("QuantizeLinear", ["in", "scale", "zero"], ["wq"]), node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"])]
VALUE = numpy_helper.from_array(W)


@pytest.mark.parametrize(
    ("before", "constants"),
    [
        ([], {"in": W}),
        ([node("Cast", ["w"], ["in"], to=TensorProto.FLOAT)], {"w": W.astype(np.float16)}),
        ([node("Transpose", ["w"], ["in"])], {"w": W}),
        ([node("Identity", ["w"], ["i"]), node("Reshape", ["i", "shape"], ["in"])], {"w": W, "shape": np.array([4, 4])}),
        ([node("Constant", [], ["in"], value=VALUE)], {}),
    ],
)
def test_a_float_weight_behind_a_quantize_linear(before: list[NodeProto], constants: dict[str, Any]) -> None:
    model = made([*before, *PACK], constants)
    assert float_weights.find(model) == (["first"], ["first", "second"])
    (note,) = float_weights.notes(STATIC, model)
    assert "1 of 2 nodes are not quantized in the file" in note
    assert "'first'" in note


def test_between_the_two() -> None:
    nodes = [PACK[0], node("Transpose", ["wq"], ["wt"]), node("DequantizeLinear", ["wt", "scale", "zero"], ["wd"])]
    assert float_weights.find(made(nodes, {"in": W}))[0] == ["first"]


def test_weights_that_are_stored_as_integers() -> None:
    nodes = [node("DequantizeLinear", ["w8", "scale", "zero"], ["wd"])]
    model = made(nodes, {"w8": W.astype(np.int8)})
    assert float_weights.find(model) == ([], ["first", "second"])
    assert float_weights.notes(STATIC, model) == []


def test_activations_are_no_weights() -> None:
    nodes = [node("QuantizeLinear", ["x", "scale", "zero"], ["wq"]), node("DequantizeLinear", ["wq", "scale", "zero"], ["wd"])]
    assert float_weights.find(made(nodes, {})) == ([], ["second"])


def test_an_integer_operator() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        node("QuantizeLinear", ["w", "scale", "zero"], ["wq"]),
        helper.make_node("QLinearMatMul", ["xq", *["scale", "zero"], "wq", *["scale", "zero"] * 2], ["yq"], name="mm"),
        node("DequantizeLinear", ["yq", "scale", "zero"], ["y"]),
    ]
    model = make_model(nodes, {"x": [1, 4]}, {"y": [1, 4]}, {"w": W, "scale": SCALE, "zero": ZERO})
    assert float_weights.find(model) == (["mm"], ["mm"])


def test_a_constant_that_is_quantized_dynamically() -> None:
    nodes = [
        node("DynamicQuantizeLinear", ["w"], ["wq", "ws", "wz"]),
        node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        helper.make_node("MatMulInteger", ["wq", "xq", "wz", "xz"], ["yi"], name="mm"),
        node("Cast", ["yi"], ["yf"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["ws", "xs"], ["s"], name="scales"),
        helper.make_node("Mul", ["yf", "s"], ["y"], name="scaled"),
    ]
    model = make_model(nodes, {"x": [4, 4]}, {"y": [4, 4]}, {"w": W})
    assert float_weights.find(model) == (["mm"], ["mm"])


def test_what_the_recipe_asked_for_is_no_news(write_study: Callable[[str], Study], tmp_path: Path) -> None:
    text = '[variants]\nmethods = []\n[[variant]]\nmethod = "static"\nname = "pairs"\nextra_options = { AddQDQPairToWeight = true }\n'
    (_, pairs) = build(write_study(text), tmp_path / "out")
    assert not [note for note in pairs.notes if "not quantized" in note]


def test_they_count_as_not_quantized() -> None:
    model = made(PACK, {"in": W})
    assert len(precision.read(model).weights) == 2
    assert len(precision.read(model, packed=False).weights) == 1
    asked = STATIC.model_copy(update={"weight": "QUInt8"})
    assert precision.differences(asked, model)[0] == "asked QUInt8 weights, got QInt8 in 1 of 1 (MatMul)"
    pairs = asked.model_copy(update={"extra_options": spelled({"AddQDQPairToWeight": True})})
    assert precision.differences(pairs, model)[0] == "asked QUInt8 weights, got QInt8 in 2 of 2 (MatMul)"


@pytest.mark.parametrize(
    ("size", "source", "told"), [(99, 98, False), (200_000, 200_000, False), (200_001, 200_000, True), (100, 200_000, False)]
)
def test_a_file_that_is_larger_than_its_source(size: int, source: int, *, told: bool) -> None:
    assert bool(float_weights.larger(size, source)) == told
