"""Keeps nodes in float whose constants the tools can't quantize: a bias or weight that is computed, is empty, or is not finite."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from harness.quantize.step import Decision, Step, staying
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

WEIGHTED = frozenset({"Attention", "Conv", "ConvTranspose", "Gather", "Gemm", "LSTM", "MatMul", "Mul"})
WEIGHT, BIAS = 1, 2  # places among the inputs of Conv, ConvTranspose and Gemm


def _has_computed_bias(node: NodeProto, constants: Mapping[str, tuple[int, ...]]) -> bool:
    return node.op_type in {"Conv", "Gemm"} and len(node.input) > BIAS and node.input[BIAS] not in constants


def _has_computed_weight(node: NodeProto, constants: Mapping[str, tuple[int, ...]]) -> bool:
    return node.op_type == "Conv" and len(node.input) > BIAS and node.input[WEIGHT] not in constants


def _takes_nothing(node: NodeProto, constants: Mapping[str, tuple[int, ...]]) -> bool:
    return any(prod(constants[name]) == 0 for name in node.input if name in constants)


def _is_finite(tensor: TensorProto) -> bool:
    """Whether all numbers of a float constant are finite; yes if they are stored elsewhere."""
    if tensor.data_type not in {TensorProto.FLOAT, TensorProto.FLOAT16} or tensor.data_location == TensorProto.EXTERNAL:
        return True
    array = numpy_helper.to_array(tensor)
    with np.errstate(all="ignore"):
        # The sum of finite numbers may be infinite, but a finite sum has no others.
        return bool(np.isfinite(array.sum()) or np.isfinite(array).all())


def decide(model: ModelProto, recipe: Recipe, _: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave these nodes in float, of the kinds that the recipe quantizes."""
    constants = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    kinds = op_types(recipe)
    nodes = [node for node in model.graph.node if node.op_type in kinds]
    found: dict[str, list[str]] = {}
    if recipe.format == "QOperator":
        found["the bias is computed, and the QOperator format takes constant biases only"] = [
            node.name for node in nodes if _has_computed_bias(node, constants)
        ]
    if recipe.method == "dynamic":
        found["the weight is computed, and onnxruntime can add no bias to a ConvInteger with a computed weight"] = [
            node.name for node in nodes if _has_computed_weight(node, constants)
        ]
    found["one of the constants is empty"] = [node.name for node in nodes if _takes_nothing(node, constants)]
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weighted = [node for node in nodes if node.op_type in WEIGHTED]
    taken = dict.fromkeys(name for node in weighted for name in node.input if name in stored)
    for name in [each for each in taken if not _is_finite(stored[each])]:
        found[f"its constant '{name}' holds NaN or infinity, for which there is no scale"] = [
            node.name for node in weighted if name in node.input
        ]
    told = {reason: names for reason, names in found.items() if names}
    return Decision(
        tuple(name for names in told.values() for name in names),
        tuple(f"float-computed-operands: {staying(names)} in float, because {reason}" for reason, names in told.items()),
    )


STEP = Step(
    key="float-computed-operands",
    summary=(
        "A node stays in float if its bias is computed (Conv and Gemm in QOperator), if it has a bias and its weight is computed (Conv in "
        "dynamic), or if one of its constants is empty or holds NaN or infinity."
    ),
    source="quantize_bias_static in onnxruntime/quantization/onnx_quantizer.py; ConvInteger.add_bias in onnxruntime/quantization/operators/conv.py",
    cost="These nodes are computed in float.",
    methods=frozenset({"dynamic", "nbits", "static"}),
    decide=decide,
)
