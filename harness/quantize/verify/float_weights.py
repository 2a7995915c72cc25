"""Weights that a made file still holds in float, though its operators take integers: they are quantized each time it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto

from harness.quantize.step import listed
from harness.quantize.verify.precision import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

# The first output of each is the quantized tensor.
QUANTIZE, DEQUANTIZE = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"}), "DequantizeLinear"
# What leaves the values of a tensor as they are, or only their type.
PASSING = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})
# A smaller model is mostly structure, and a variant's scales and nodes are more than what its weights save.
TELLING_BYTES = 100_000


def notes(recipe: Recipe, model: ModelProto) -> list[str]:
    """Tell which nodes take weights that the file holds in float.

    Args:
        recipe: what was asked; ``AddQDQPairToWeight`` asks for just that.
        model: what was made; its tensors' values need not be there.
    """
    if recipe.options().get("AddQDQPairToWeight"):
        return []
    loose, every = find(model)
    if not loose:
        return []
    return [
        (
            f"the weights of {len(loose)} of {len(every)} node{'s' if len(every) > 1 else ''} are not quantized in the file; they stay in "
            f"float and are quantized each time that the file is loaded: {listed(loose)}"
        )
    ]


def larger(size: int, source: int) -> tuple[str, ...]:
    """Tell if a variant's file is larger than its source, both in bytes, external data included."""
    if size <= source or source < TELLING_BYTES:
        return ()
    return (f"the file is larger than its source: {size:,} bytes instead of {source:,}",)


def find(model: ModelProto) -> tuple[list[str], list[str]]:
    """List the nodes of the main graph that take quantized weights, by name.

    Returns:
        Those whose weight is stored in float and packed by a QuantizeLinear; and all that take a stored weight as integers.
    """
    stored = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output if name}
    for node in model.graph.node:
        if node.op_type == "Constant":
            stored[node.output[0]] = next((each.t.data_type for each in node.attribute if each.name == "value"), 0)
    loose, every = [], []
    for node in model.graph.node:
        if node.op_type in {*QUANTIZE, DEQUANTIZE, *PASSING}:
            continue
        kinds = set(_kinds(node, stored, makers))
        if kinds:
            every.append(node.name or node.output[0])
        if "float" in kinds:
            loose.append(node.name or node.output[0])
    return loose, every


def _kinds(node: NodeProto, stored: dict[str, int], makers: dict[str, NodeProto]) -> Iterator[str]:
    """Say of each input that is a quantized constant how the file holds it: as ``integer`` or in ``float``."""
    weights = {position for position, _ in WEIGHTS.get(node.op_type, ())}
    for position, name in enumerate(node.input):
        passed, source = _back(name, stored, makers)
        if source is None:
            continue
        if QUANTIZE.intersection(passed) and source in FLOATS:
            yield "float"
        elif source not in FLOATS and (DEQUANTIZE in passed or position in weights):
            yield "integer"


def _back(name: str, stored: dict[str, int], makers: dict[str, NodeProto]) -> tuple[list[str], int | None]:
    """Go back from a tensor to the constant that it is made of; gives the operators passed, and the constant's type, None if there is none."""
    passed: list[str] = []
    while name not in stored:
        maker = makers.get(name)
        if (
            maker is None
            or maker.op_type not in {*QUANTIZE, DEQUANTIZE, *PASSING}
            or name != maker.output[0]
            or len(passed) > len(makers)
        ):
            return passed, None
        passed.append(maker.op_type)
        name = maker.input[0]
    return passed, stored[name]
