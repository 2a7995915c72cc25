"""How onnxruntime's quantizers treat the constants of a node; nodes for which they treat a constant alike can share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.target_nodes import matches, op_types

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from onnx import NodeProto

    from harness.quantize.recipe import Recipe

FLOAT = "float"  # the node takes the constant as it is
# Static quantizers make int32 of the third input, by the scales of the first two.
BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
NORMALIZATIONS = frozenset({"InstanceNormalization", "LayerNormalization", "BatchNormalization"})
# Of these only the first input is quantized; the others, such as limits and scales, stay in float.
FIRST_ONLY = frozenset(
    {
        *("Clip", "Relu", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Resize", "MaxPool", "AveragePool", "Slice"),
        *(
            "Split",
            "Gather",
            "GatherElements",
            "TopK",
            "CumSum",
            "Softmax",
            "LeakyRelu",
            "Sigmoid",
            "GlobalAveragePool",
            "ArgMax",
        ),
    }
)
BIAS, WEIGHT = 2, 1  # positions of inputs
MATRIX = 2


class Roles:
    """What becomes of the constants of a recipe's nodes."""

    def __init__(self, recipe: Recipe) -> None:
        """Read the recipe.

        Args:
            recipe: of a method that quantizes by onnxruntime's tools.
        """
        self._recipe = recipe
        self._kinds = op_types(recipe)
        self._options = recipe.options()
        # The formats come from two classes of onnxruntime: QDQQuantizer and ONNXQuantizer, which dynamic quantization uses as well.
        self._is_qdq = recipe.method == "static" and recipe.format == "QDQ"

    def of(self, node: NodeProto, position: int, rank: int) -> Hashable:
        """Say how a constant is treated that a node takes.

        Args:
            node: of the main graph.
            position: of the input.
            rank: number of axes of the constant.

        Returns:
            The same answer for nodes that can share the constant.
        """
        if node.op_type not in self._kinds or (not self._is_qdq and self._is_left_out(node)):
            return FLOAT
        if self._recipe.method == "nbits":
            return "blocks" if position == WEIGHT else FLOAT
        if self._recipe.method == "dynamic":
            return self._dynamic(node, position, rank)
        return self._static(node, position, rank)

    def _static(self, node: NodeProto, position: int, rank: int) -> Hashable:
        kind = node.op_type
        if position and (kind in FIRST_ONLY or (kind == "Where" and not self._options.get("ForceQuantizeNoInputCheck"))):
            return FLOAT
        if position and kind == "Pad":
            # QPad replaces the value by a quantized one of its own and removes it.
            return (kind, node.name)
        if position and kind in BIASED:
            return self._of_biased(node, position, rank)
        if kind == "MatMul" and (self._is_qdq or position == WEIGHT):
            return self._weight(self._axis_of(kind) if self._is_qdq else rank - 1, rank)
        if kind in NORMALIZATIONS and self._is_qdq and position:
            return {WEIGHT: self._weight(self._axis_of(kind), rank), BIAS: "bias"}.get(position, FLOAT)
        return self._activation()

    def _of_biased(self, node: NodeProto, position: int, rank: int) -> Hashable:
        if position == BIAS:
            # QDQQuantizer copies a bias for each node that takes it as a bias; ONNXQuantizer keeps the first node's scale.
            return "bias" if self._is_qdq else ("bias", node.name)
        axis = {"Conv": 0, "ConvTranspose": 1}.get(node.op_type, int(not _transposes(node)))
        return self._weight(axis, rank, conv=node.op_type == "Conv")

    def _dynamic(self, node: NodeProto, position: int, rank: int) -> Hashable:
        kind = node.op_type
        if kind == "LSTM" and position in {WEIGHT, WEIGHT + 1}:
            # LSTMQuant changes the shape of the weight, and transposes what it made of it.
            return (kind, node.name, position)
        if kind == "EmbedLayerNormalization" or (position == 0 and kind in {"Gather", "MatMul", "Gemm", "Conv", "Attention"}):
            return self._activation()
        if position == WEIGHT and kind in {"MatMul", "Gemm", "Attention"}:
            return self._weight(rank - 1, rank)
        if position == WEIGHT and kind == "Conv":
            return self._weight(None, rank)
        return FLOAT

    def _activation(self) -> Hashable:
        return (self._recipe.activation or "QUInt8", None, False)

    def _weight(self, axis: int | None, rank: int, *, conv: bool = False) -> Hashable:
        if not self._recipe.per_channel or axis is None or not -rank <= axis < rank:
            return (self._recipe.weight, None, self._recipe.reduce_range)
        # QLinearConv per channel is always int8.
        kind = "QInt8" if conv and not self._is_qdq else self._recipe.weight
        return (kind, axis % rank, self._recipe.reduce_range)

    def _axis_of(self, kind: str) -> int:
        axes: dict[str, int] = self._options.get("QDQOpTypePerChannelSupportToAxis", {})
        return axes.get(kind, 1)

    def _is_left_out(self, node: NodeProto) -> bool:
        """Whether the recipe's names leave a node in float; those that the preparation changes are not known here."""
        chosen: Sequence[str] = self._recipe.nodes
        return matches(node.name, self._recipe.exclude_nodes) or bool(chosen and not matches(node.name, self._recipe.nodes))


def _transposes(node: NodeProto) -> bool:
    return any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
