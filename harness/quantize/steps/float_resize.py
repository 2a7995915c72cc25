"""Keeps a Resize in float where onnxruntime's 8-bit kernels compute something else than the float kernel.

Cubic interpolation and antialiasing overshoot: next to an edge, a result can be larger than the largest input. The kernel for signed
integers then wraps around: 130 becomes -126. The kernel for unsigned integers saturates, and QDQ models compute a Resize in float or unsigned.

With ``tf_crop_and_resize``, pixels outside the image get the value ``extrapolation_value``. The kernels for integers write this number
itself, without scale and zero point. In the QDQ format the output has the scale of the input, whose range may not hold the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import helper

from harness.quantize.step import Decision, Step, staying
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe


def _said(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _overshoots(node: NodeProto) -> bool:
    said = _said(node)
    return said.get("mode") == b"cubic" or bool(said.get("antialias"))


def _extrapolates(node: NodeProto, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None) -> bool:
    said = _said(node)
    if said.get("coordinate_transformation_mode") != b"tf_crop_and_resize":
        return False
    value = float(said.get("extrapolation_value", 0.0))
    low, high = (ranges or {}).get(node.input[0], (0.0, 0.0))
    return recipe.format == "QOperator" or not min(low, 0.0) <= value <= max(high, 0.0)


def decide(model: ModelProto, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave these nodes in float."""
    if "Resize" not in op_types(recipe):
        return Decision()
    nodes = [node for node in model.graph.node if node.op_type == "Resize"]
    wraps = recipe.format == "QOperator" and recipe.activation == "QInt8"
    found = {
        "onnxruntime's Resize wraps around where interpolation goes beyond int8": [
            node.name for node in nodes if wraps and _overshoots(node)
        ],
        "no integer of its scale stands for its extrapolation_value": [
            node.name for node in nodes if _extrapolates(node, recipe, ranges)
        ],
    }
    told = {reason: names for reason, names in found.items() if names}
    return Decision(
        tuple(name for names in told.values() for name in names),
        tuple(f"float-resize: {staying(names)} in float, because {reason}" for reason, names in told.items()),
    )


STEP = Step(
    key="float-resize",
    summary=(
        "In QOperator models with signed 8-bit activations, a Resize that is cubic or has antialias stays in float. A Resize with "
        "tf_crop_and_resize stays in float in QOperator models, and in QDQ models if its extrapolation_value lies beyond its input's range."
    ),
    source="UpsampleBase and Upsample<int8_t> in onnxruntime/core/providers/cpu/tensor/upsample.cc",
    cost="These nodes are computed in float.",
    methods=frozenset({"static"}),
    decide=decide,
)
