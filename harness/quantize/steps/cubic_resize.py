"""Keeps a cubic Resize in float in QOperator models with signed 8-bit activations, because onnxruntime's kernel wraps around.

Cubic interpolation overshoots: next to an edge, a result can be larger than the largest input. 130 then becomes -126. With unsigned
integers the kernel saturates, and QDQ models compute a Resize in float or unsigned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.steps.step import Decision, Step, staying

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe


def decide(model: ModelProto, recipe: Recipe, _: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave these nodes in float."""
    if recipe.format != "QOperator" or recipe.activation != "QInt8":
        return Decision()
    found = [
        node.name
        for node in model.graph.node
        if node.op_type == "Resize" and any(each.name == "mode" and each.s == b"cubic" for each in node.attribute)
    ]
    note = f"float-cubic-resize: {staying(found)} in float, because onnxruntime's cubic Resize wraps around where a result goes beyond int8"
    return Decision(tuple(found), (note,)) if found else Decision()


STEP = Step(
    key="float-cubic-resize",
    summary="In QOperator models with signed 8-bit activations, a cubic Resize stays in float.",
    source="UpsampleBase and Upsample<int8_t> in onnxruntime/core/providers/cpu/tensor/upsample.cc, which wraps results that go beyond int8",
    cost="These nodes are computed in float.",
    methods=frozenset({"static"}),
    decide=decide,
)
