from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.quantize import opset
from harness.quantize.reasons import RecipeError
from harness.quantize.recipe import Recipe
from tests.models import make_model

if TYPE_CHECKING:
    from pathlib import Path


def test_what_recipes_need() -> None:
    static = Recipe(name="r", method="static", format="QDQ", activation="QUInt8", weight="QInt8", per_channel=True)
    nbits = Recipe(name="r", method="nbits", format="QDQ", bits=4)
    found = [
        opset.needed(each)
        for each in (
            static,
            static.model_copy(update={"per_channel": False}),
            static.model_copy(update={"format": "QOperator"}),
            nbits,
        )
    ]
    assert found == [13, 0, 0, 21]


def test_a_new_opset_takes_a_new_file_format(cnn: Path) -> None:
    model = onnx.load(cnn)
    assert (model.ir_version, opset.raised(model, 17)) == (8, model)
    found = opset.raised(model, 21)
    assert found.ir_version == 10
    assert [node.name for node in found.graph.node] == [node.name for node in model.graph.node]
    assert opset.notes(model, found) == ("opset 17 was raised to 21",)
    assert opset.notes(model, model) == ()


def test_a_model_that_the_converter_refuses() -> None:
    # Batch statistics at inference have no place in later operator sets.
    node = helper.make_node("BatchNormalization", ["x", "a", "a", "a", "a"], ["y"], "norm", is_test=0)
    model = make_model([node], {"x": [1, 2, 4, 4]}, {"y": [1, 2, 4, 4]}, {"a": np.ones(2, np.float32)}, opset=6)
    with pytest.raises(
        RecipeError,
        match=r"needs opset 21, the model has opset 6, and ONNX's version converter can't raise node 'norm' \(BatchNormalization\); .*is_test",
    ):
        opset.raised(model, 21)
