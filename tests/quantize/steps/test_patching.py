"""What is replaced in onnxruntime's quantizers is put back, whatever happens meanwhile."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper
from onnxruntime.quantization.base_quantizer import BaseQuantizer
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry

from harness.quantize.recipe import Recipe
from harness.quantize.rewriting import patched
from harness.quantize.steps.patching import captured, entries, methods
from harness.quantize.steps.registry import STEPS
from tests.quantize.steps.models import node

OWNERS = (BaseQuantizer, ONNXQuantizer, QDQQuantizer)
TABLES = (IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry)


def state() -> list[dict[str, object]]:
    """All that steps may replace."""
    return [dict(vars(owner)) for owner in OWNERS] + [dict(table) for table in TABLES]


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_everything_is_put_back(method: str) -> None:
    before = state()
    recipe = Recipe.model_validate({"name": "r", "method": method})
    with patched(recipe):
        assert state() != before
    assert state() == before
    with pytest.raises(ZeroDivisionError), patched(recipe):
        _ = 1 / 0
    assert state() == before


def test_a_recipe_that_skips_them_all_replaces_nothing() -> None:
    before = state()
    keys = tuple(step.key for step in STEPS)
    with patched(Recipe.model_validate({"name": "r", "method": "static", "skip_steps": keys})):
        assert state() == before


def test_entries_and_methods() -> None:
    class Tool:
        def work(self) -> str:
            return "old"

    table: dict[str, int] = {"a": 1, "b": 2}
    with entries(table, {"a": 3}), methods(Tool, work=lambda _: "new"):
        assert (table, Tool().work()) == ({"a": 3, "b": 2}, "new")
    assert (table, Tool().work()) == ({"a": 1, "b": 2}, "old")


def test_what_bodies_take() -> None:
    value = helper.make_tensor_value_info("i", TensorProto.FLOAT, None)
    inner = helper.make_graph([node("Add", "deep x", "i")], "inner", [], [value])
    outer = node("If", "c", "i", then_branch=inner, else_branch=inner)
    middle = helper.make_graph([outer], "middle", [], [value])
    assert {"deep", "x", "c"} <= captured([node("If", "k", "y", then_branch=middle, else_branch=inner)])
    assert captured([node("Add", "a b", "c")]) == set()
