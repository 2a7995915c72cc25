"""Keeps a Softmax in float whose axis may hold a single value: onnxruntime's unsigned 8-bit Softmax gives 0 instead of 1 there.

The probability is 256/256, and 256 wraps to 0 in 8 bits. This happens in the first step of every decoder with a past, when the past is
empty and there is one token: attention then gives 0. onnxruntime replaces a float Softmax between a DequantizeLinear and a QuantizeLinear by
its 8-bit Softmax, and turns signed types into unsigned ones in the QDQ format, so the nodes that take the probabilities stay in float too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from harness.quantize.model.graph import opset_of
from harness.quantize.step import Decision, Step, staying
from harness.quantize.steps.takers import behind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

    Sizes = Mapping[str, list[int | None]]

COERCED = 13  # the operator set before which Softmax flattens all axes from its own on
AXIS = {True: 1, False: -1}  # its default before that, and since


def decide(model: ModelProto, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave such nodes in float: by the shapes, by the calibrated probabilities, and behind a past."""
    found = [node for node in model.graph.node if node.op_type == "Softmax"]
    becomes_unsigned = recipe.activation == "QUInt8" or (recipe.activation == "QInt8" and recipe.format == "QDQ")
    if not found or not becomes_unsigned:
        return Decision()
    sizes, pasts = sizes_of(model), _behind_a_past(model)
    flattens = flattens_axes(model)
    alone = []
    for node in found:
        size = size_of(node, sizes, flattens=flattens)
        # A probability of exactly 1: the others are below what float32 can hold, or there are none.
        certain = ranges is not None and ranges.get(node.output[0], (0.0, 0.0))[1] >= 1
        if size == 1 or (size is None and (certain or node.output[0] in pasts)):
            alone.append(node.name)
    if not alone:
        return Decision()
    note = (
        f"lone-softmax: {staying(alone)} in float, with the nodes that take the result: the axis may hold a single value, for which "
        "onnxruntime's 8-bit Softmax gives 0 instead of 1"
    )
    given = {name for node in found if node.name in alone for name in node.output}
    return Decision(tuple(dict.fromkeys((*alone, *behind(model, given)))), notes=(note,))


def flattens_axes(model: ModelProto) -> bool:
    """Whether a Softmax norms all values from its axis on together."""
    return (opset_of(model) or COERCED) < COERCED


def sizes_of(model: ModelProto) -> Sizes:
    """The sizes of tensors, None for those that are open."""
    graph = model.graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {
        value.name: [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
        for value in values
        if value.type.tensor_type.HasField("shape")
    }


def size_of(node: NodeProto, sizes: Sizes, *, flattens: bool) -> int | None:
    """How many values are normed together; None if that is open."""
    known = sizes.get(node.input[0]) or sizes.get(node.output[0])
    if not known:
        return None
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), AXIS[flattens])
    axis %= len(known)
    taken = known[axis:] if flattens else known[axis : axis + 1]
    if any(size is not None and size > 1 for size in taken):
        return max(size for size in taken if size is not None)
    return None if None in taken else 1


def _behind_a_past(model: ModelProto) -> set[str]:
    """Tensors computed from a Concat that takes an input of the model along an open axis."""
    given = {tensor.name for tensor in model.graph.initializer}
    opened = {
        value.name
        for value in model.graph.input
        if value.name not in given
        and value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        and any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)
    }
    found: set[str] = set()
    for node in model.graph.node:
        if (node.op_type == "Concat" and opened.intersection(node.input)) or found.intersection(node.input):
            found.update(node.output)
    return found


STEP = Step(
    key="lone-softmax",
    summary=(
        "A Softmax whose axis may hold a single value stays in float, with the nodes that take its result. That is an axis of size 1, or of "
        "an open size if it lies behind a decoder's past or if the calibrated probabilities reach exactly 1."
    ),
    source="QLinearSoftmax in onnxruntime/contrib_ops/cpu/quantization/qlinear_softmax.cc: a probability of 256/256 wraps to 0 in 8 bits",
    cost="These nodes are computed in float.",
    methods=frozenset({"static"}),
    decide=decide,
)
