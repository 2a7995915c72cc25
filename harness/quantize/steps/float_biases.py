"""Biases in float of a Conv or Gemm between quantized nodes: whether they would fit into int32, and how they stay in float.

When it loads a model, onnxruntime makes int32 of a bias of one axis, and int8 of a float weight, where the input comes from a
DequantizeLinear (weight_bias_quantization.cc in onnxruntime/core/optimizer/qdq_transformer), and joins Conv and Add to a Conv with a bias.
So the bias of a Gemm gets a second axis here, and that of a Conv is subtracted, negative, behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from harness.quantize.steps.patching import constant

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    Array = NDArray[Any]

KINDS = frozenset({"Conv", "ConvTranspose", "Gemm"})
WEIGHT, BIAS = 1, 2  # places among the inputs
MOST = 2**31 - 1
LARGE = 2**30  # a smaller bias leaves products room, but for layers of 32,768 inputs and more
REACH = 255  # the farthest that an input of 8 bits lies from its zero point
INT8 = 127


def overflows(bias: Array, unit: Array, integers: Array | None, axis: int) -> bool:
    """Say whether a bias does not fit into int32, or may not after the products are added to it.

    Args:
        bias: float, of any shape; one number for each channel, or for all.
        unit: the input's scale times the weight's; one for each channel, or one.
        integers: the weight's distances to its zero point; None leaves the products out of account.
        axis: that of the weight's channels.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.abs(np.asarray(bias, np.float64).ravel()) / np.abs(np.asarray(unit, np.float64).ravel())
    steps = np.rint(np.nan_to_num(steps, nan=0.0, posinf=np.inf))
    if not (steps > LARGE).any():
        return False
    if integers is None or (steps > MOST).any():
        return bool((steps > MOST).any())
    others = tuple(place for place in range(integers.ndim) if place != axis)
    products = np.abs(integers.astype(np.int64)).sum(axis=others) * REACH
    sums = steps + (products if products.size == steps.size else products.max())
    return bool((sums > MOST)[steps > LARGE].any())


def channel_axis(node: NodeProto) -> int:
    """The axis of a weight that runs over the channels of the output."""
    if node.op_type == "Gemm":
        return int(not any(attribute.name == "transB" and attribute.i for attribute in node.attribute))
    return int(node.op_type == "ConvTranspose")


def is_cut_when_loaded(quantizer: Any, node: NodeProto, scale: Array) -> bool:  # noqa: ANN401 - onnxruntime is not typed
    """Say whether a float node's bias would not fit into int32 when onnxruntime loads the model.

    Args:
        quantizer: onnxruntime's, at work on the model.
        node: a Conv, ConvTranspose or Gemm.
        scale: of its first input.
    """
    given = [constant(quantizer, name) if name else None for name in node.input[WEIGHT : BIAS + 1]]
    if len(given) < BIAS or scale.size != 1:
        return False
    weight, bias = given
    if weight is None or bias is None or weight.dtype != np.float32 or bias.ndim != 1 or not weight.size:
        return False
    unit = np.abs(weight).max() / INT8
    return overflows(bias, scale * unit, np.rint(weight / unit) if unit else None, channel_axis(node))


def keep(quantizer: Any, node: NodeProto, weight: str) -> list[NodeProto]:  # noqa: ANN401 - onnxruntime is not typed
    """Give a node its bias, in place, in a form that onnxruntime leaves in float.

    Args:
        quantizer: onnxruntime's, at work on the model.
        node: a Conv, ConvTranspose or Gemm with a constant bias.
        weight: the name that its weight had in float.

    Returns:
        Nodes that have to be added.
    """
    bias, rank = constant(quantizer, node.input[BIAS]), _rank(quantizer, weight)
    name = f"{node.name or node.output[0]}_bias_in_float"
    if bias is None or rank is None:
        return []
    if node.op_type == "Gemm":
        if bias.ndim == 1:
            quantizer.model.add_initializer(numpy_helper.from_array(bias.reshape(1, -1), name))
            node.input[BIAS] = name
        return []
    quantizer.model.add_initializer(numpy_helper.from_array(-bias.reshape(-1, *(1,) * (rank - 2)), name))
    output = node.output[0]
    del node.input[BIAS]
    node.output[0] = f"{output}_without_bias"
    return [helper.make_node("Sub", [node.output[0], name], [output], f"{name}_node")]


def _rank(quantizer: Any, name: str) -> int | None:  # noqa: ANN401 - onnxruntime is not typed
    """Count the axes of a weight, whether it is stored as floats or integers."""
    kept = quantizer.quantized_value_map.get(name)
    names = (name, getattr(getattr(kept, "original", kept), "q_name", ""))
    return next((len(tensor.dims) for each in names if (tensor := quantizer.model.get_initializer(each)) is not None), None)
