"""Which recipes can't exist, and why: rules as data, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.quantize.recipe import Recipe

# What onnxruntime 1.31.1 has a quantizer for; QDQ gives any other operator generic pairs of nodes.
DYNAMIC_OPS = frozenset({"Attention", "Conv", "EmbedLayerNormalization", "Gather", "Gemm", "LSTM", "MatMul", "Transpose"})
QOPERATOR_OPS = frozenset(
    {
        *("Add", "ArgMax", "AveragePool", "Clip", "Concat", "Conv", "EmbedLayerNormalization", "Flatten", "Gather", "Gemm"),
        *("GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Sigmoid", "Softmax"),
        *("Split", "Squeeze", "Transpose", "Unsqueeze", "Where"),
    }
)


@dataclass(frozen=True)
class Rule:
    """A combination that can't exist.

    Attributes:
        applies: says whether a recipe is one.
        reason: why it can't.
        source: where that is written.
    """

    applies: Callable[[Recipe], bool]
    reason: str
    source: str

    def __str__(self) -> str:
        return f"{self.reason} ({self.source})"


RULES = (
    Rule(
        lambda r: r.method == "static" and r.activation == "QInt8" and r.weight == "QUInt8",
        "onnxruntime quantization doesn't support activations QInt8 with weights QUInt8",
        "check_static_quant_arguments in onnxruntime/quantization/quantize.py",
    ),
    Rule(
        lambda r: r.method == "dynamic" and bool(r.op_types) and DYNAMIC_OPS.isdisjoint(r.op_types),
        "dynamic quantization has no integer operator for any of the op types",
        "IntegerOpsRegistry in onnxruntime/quantization/registry.py",
    ),
    Rule(
        lambda r: r.format == "QOperator" and bool(r.op_types) and QOPERATOR_OPS.isdisjoint(r.op_types),
        "the QOperator format has no quantized operator for any of the op types; QDQ can wrap them",
        "QLinearOpsRegistry in onnxruntime/quantization/registry.py",
    ),
)


def impossible(recipe: Recipe) -> str | None:
    """Say why a recipe can't exist.

    Returns:
        The rule and its source, or None if nothing is known against it.
    """
    return next((str(rule) for rule in RULES if rule.applies(recipe)), None)
