"""Outputs that hang on a choice: an index that TopK, ArgMax or NonMaxSuppression finds.

Where two scores are nearly equal, the smallest rounding exchanges them, and whole rows of what is gathered by the index are others. Such a
variant is judged by the outputs that hang on no choice, the scores among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

CHOOSING = frozenset(
    {
        "ArgMax",
        "ArgMin",
        "NonMaxSuppression",
        "NonZero",
        "TopK",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "Equal",
        "If",
    }
)


def chosen(model: onnx.ModelProto) -> frozenset[str]:
    """Name the outputs behind a node that chooses by values that were computed."""
    float_side = {each.name for each in model.graph.input}
    for node in model.graph.node:
        if node.op_type not in {"Constant", "Shape"} and float_side & set(node.input):
            float_side |= set(node.output)
    behind: set[str] = set()
    for node in model.graph.node:
        if (node.op_type in CHOOSING and float_side & set(node.input)) or behind & set(node.input):
            behind |= set(node.output)
    return frozenset(each.name for each in model.graph.output if each.name in behind)
