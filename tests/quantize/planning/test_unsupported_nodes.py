"""Nodes that onnxruntime breaks, where the nodes around them are quantized."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import helper

from tests.models import make_model
from tests.quantize.steps.conftest import STATIC, Bench, bench
from tests.quantize.steps.test_shared_constants import normal

__all__ = ["bench"]


@pytest.mark.parametrize(
    "between", [(), ("Transpose",), ("Relu",), ("Clip",), ("Transpose", "Unsqueeze", "Squeeze"), ("MaxPool",)], ids=str
)
def test_a_dilated_average_between_two_conv(bench: Bench, between: tuple[str, ...]) -> None:
    """Whatever stands behind it, onnxruntime must not join it with a DequantizeLinear and a QuantizeLinear."""
    said = {"Transpose": {"perm": [0, 1, 3, 2]}, "MaxPool": {"kernel_shape": [2, 2]}}
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], "before"),
        helper.make_node("AveragePool", ["a"], ["p0"], "pool", kernel_shape=[2, 2], dilations=[2, 2]),
    ]
    for index, kind in enumerate(between):
        axes = ["first"] if kind in {"Squeeze", "Unsqueeze"} else []
        made = helper.make_node(kind, [f"p{index}", *axes], [f"p{index + 1}"], f"{kind}{index}")
        made.attribute.extend(helper.make_attribute(key, value) for key, value in said.get(kind, {}).items())
        nodes.append(made)
    nodes.append(helper.make_node("Conv", [f"p{len(between)}", "w"], ["y"], "after"))
    weights = {"v": normal(0, 6, 3, 3, 3) / 5, "w": normal(1, 4, 6, 3, 3) / 7}
    model = make_model(nodes, {"x": [1, 3, 12, 12]}, {"y": list("abcd")}, weights, opset=19)
    model.graph.initializer.append(helper.make_tensor("first", 7, [1], [0]))
    bench.save(model, x=normal(2, 8, 3, 12, 12))
    variants = bench.build(STATIC)
    for variant in variants.values():
        assert variant.recipe.method != "static" or any("'pool'" in note for note in variant.notes), variant
    found = bench.fidelity(variants)
    assert len(found) == 3
    assert min(found.values()) > 28, found


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1]])
@pytest.mark.parametrize("counts", [0, 1])
def test_an_average_that_counts_what_is_padded(bench: Bench, pads: list[int], counts: int) -> None:
    """The last window reaches beyond the padding; there onnxruntime divides by another number in integers than in float."""
    pool: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": counts, "pads": pads}
    nodes = [
        helper.make_node("Conv", ["x", "v"], ["a"], "before"),
        helper.make_node("AveragePool", ["a"], ["p"], "pool", **pool),
        helper.make_node("Conv", ["p", "w"], ["y"], "after"),
    ]
    weights = {"v": normal(0, 6, 3, 3, 3) / 5, "w": normal(1, 4, 6, 2, 2) / 7}
    bench.save(make_model(nodes, {"x": [1, 3, 12, 12]}, {"y": list("abcd")}, weights), x=normal(2, 8, 3, 12, 12))
    variants = bench.build(STATIC)
    for variant in variants.values():
        stays = any("'pool' stays in float" in note for note in variant.notes)
        assert stays == (counts == 1 and variant.recipe.method == "static")
    found = bench.fidelity(variants)
    assert len(found) == 3
    assert min(found.values()) > 28, found
