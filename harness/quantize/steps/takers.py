"""The nodes that have to stay in float behind a node in float, so that onnxruntime does not join it with their quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import ModelProto

# onnxruntime moves a QuantizeLinear from behind these to before them (qdq_propagation.cc in core/optimizer/qdq_transformer), or
# drops the node where the integers clamp as it does (relu_quantizelinear.cc and clip_quantizelinear.cc there).
MOVERS = frozenset({"Flatten", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze", "Clip", "Relu"})


def behind(model: ModelProto, tensors: Iterable[str]) -> tuple[str, ...]:
    """Name the nodes of the main graph that take one of these tensors, as it is or through nodes that only move its values."""
    taken, found = set(tensors), []
    for node in model.graph.node:
        if not taken.isdisjoint(node.input):
            found.append(node.name)
            if node.op_type in MOVERS:
                taken.update(node.output)
    return tuple(found)
