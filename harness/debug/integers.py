"""Integer tensors and weights of a quantized model, as the numbers that they stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import numpy_helper
from onnxruntime.quantization.quant_utils import TENSOR_NAME_QUANT_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

    Array = NDArray[Any]

# Where operators of the QOperator format take the scale and zero point of their output (onnx's and onnxruntime's operator docs).
OUTPUT_SCALES: Mapping[str, tuple[int, int]] = {
    "QuantizeLinear": (1, 2),
    "QGemm": (7, 8),
    "QLinearAdd": (6, 7),
    "QLinearAveragePool": (3, 4),
    "QLinearConcat": (0, 1),
    "QLinearConv": (6, 7),
    "QLinearGlobalAveragePool": (3, 4),
    "QLinearLeakyRelu": (3, 4),
    "QLinearMatMul": (6, 7),
    "QLinearMul": (6, 7),
    "QLinearSigmoid": (3, 4),
    "QLinearSoftmax": (3, 4),
    "QLinearWhere": (7, 8),
}
# Those that move integers without computing keep the scale of what they move.
MOVING = frozenset({"Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Split", "Squeeze", "Transpose", "Unsqueeze"})
# A quantized tensor takes its range from one of these where it follows, and then is its output; the node itself is gone.
CLAMPS = frozenset({"Clip", "Relu"})


@dataclass(frozen=True)
class QuantizedTensor:
    """An integer tensor with a constant scale.

    Attributes:
        name: in the variant.
        reference: the tensor of the float model that it stands for.
    """

    name: str
    reference: str
    scale: Array
    zero_point: Array

    def values(self, found: Array) -> Array:
        """The numbers that integers stand for, float64."""
        return dequantized(found, self.scale, self.zero_point)


def dequantized(found: Array, scale: Array, zero_point: Array, axis: int | None = None) -> Array:
    """Return (found - zero_point)·scale in float64, so that nothing wraps around; with an axis, one scale for each index of it."""
    shape = [-1 if axis is not None and position == axis % found.ndim else 1 for position in range(found.ndim)]
    widened = [part.astype(np.float64).reshape(shape if axis is not None else ()) for part in (scale, zero_point)]
    return np.asarray((found.astype(np.float64) - widened[1]) * widened[0])


def quantized_tensors(original: ModelProto, variant: ModelProto) -> list[QuantizedTensor]:
    """List the integer activations of a variant's main graph that stand for tensors of the float model."""
    stored = {tensor.name: tensor for tensor in variant.graph.initializer}
    floats = {output for node in original.graph.node for output in node.output} | {value.name for value in original.graph.input}
    kept = {output.removesuffix(TENSOR_NAME_QUANT_SUFFIX) for node in variant.graph.node for output in node.output}
    clamps = {
        node.input[0]: node.output[0] for node in original.graph.node if node.op_type in CLAMPS and node.output[0] not in kept
    }
    scales: dict[str, tuple[str, str]] = {}
    found: list[QuantizedTensor] = []
    for node in variant.graph.node:
        names = _scale_of(node, scales)
        if names is None:
            continue
        for output in node.output:
            scales[output] = names
            base = output.removesuffix(TENSOR_NAME_QUANT_SUFFIX)
            if base not in floats or base == output or any(name not in stored for name in names):
                continue
            scale, zero_point = (numpy_helper.to_array(stored[name]) for name in names)
            if scale.size == 1:
                found.append(QuantizedTensor(output, _clamped(base, clamps), scale, zero_point))
    return found


def limits(node: NodeProto | None, model: ModelProto) -> tuple[float, float] | None:
    """The limits of a Relu or Clip: where the node is gone, the range of the integers does its work; None of other nodes."""
    if node is None or node.op_type not in CLAMPS:
        return None
    if node.op_type == "Relu":
        return 0.0, math.inf
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    given = {attribute.name: attribute.f for attribute in node.attribute}
    ends = [given.get("min", -math.inf), given.get("max", math.inf)]
    for position, name in enumerate(node.input[1:3]):
        if name in stored:
            ends[position] = float(numpy_helper.to_array(stored[name]).ravel()[0])
    return ends[0], ends[1]


def weights(original: ModelProto, variant: ModelProto) -> dict[str, tuple[Array, Array]]:
    """Pair the float weights of a model with what a variant made of them, of the same shape.

    onnxruntime's tools call what they made of ``w`` ``w_quantized``, with ``w_scale`` and ``w_zero_point``. Its own
    ``create_weight_matching`` subtracts zero points in the weights' own type, in which those of QUInt8 wrap around.
    """
    stored = {tensor.name: tensor for tensor in variant.graph.initializer}
    found: dict[str, tuple[Array, Array]] = {}
    for tensor in original.graph.initializer:
        if tensor.name in stored:
            ref, made = _array(tensor), _array(stored[tensor.name])
            if ref is not None and made is not None and ref.dtype.kind == made.dtype.kind == "f" and ref.dtype != made.dtype:
                found[tensor.name] = (ref, made)
            continue
        made_of = _integers(tensor, stored)
        if made_of is not None:
            found[tensor.name] = made_of
    return {name: pair for name, pair in found.items() if pair[0].size and pair[0].shape == pair[1].shape}


def _integers(tensor: TensorProto, stored: Mapping[str, TensorProto]) -> tuple[Array, Array] | None:
    """A float tensor, and what its integers stand for."""
    name = tensor.name + TENSOR_NAME_QUANT_SUFFIX
    # Of a bias the scale is called after its integers.
    prefix = next((each for each in (tensor.name, name) if f"{each}_scale" in stored), None)
    if name not in stored or prefix is None:
        return None
    ref, found, scale = _array(tensor), _array(stored[name]), _array(stored[f"{prefix}_scale"])
    zero = stored.get(f"{prefix}_zero_point")
    zero_point = _array(zero) if zero is not None else np.zeros(1)
    if ref is None or found is None or scale is None or zero_point is None or ref.shape != found.shape:
        return None
    if scale.size == 1:
        return ref, dequantized(found, scale, zero_point.ravel()[:1])
    if zero_point.size != scale.size:
        zero_point = np.broadcast_to(zero_point.ravel()[:1], scale.shape)
    axes = [axis for axis, size in enumerate(ref.shape) if size == scale.size] if scale.ndim == 1 else []
    # Where several axes have as many indices as there are scales, the one that was meant is the one that fits.
    tried = [dequantized(found, scale, zero_point, axis) for axis in axes]
    return min(((ref, made) for made in tried), key=lambda pair: float(np.square(pair[0] - pair[1]).sum()), default=None)


def _array(tensor: TensorProto) -> Array | None:
    """The values of a stored tensor, if they are numbers."""
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (TypeError, ValueError, RuntimeError):
        return None


def _scale_of(node: NodeProto, known: Mapping[str, tuple[str, str]]) -> tuple[str, str] | None:
    """The names of the scale and zero point of what a node gives, if it gives integers."""
    if node.op_type in MOVING:
        return known.get(node.input[0])
    scale, zero_point = OUTPUT_SCALES.get(node.op_type, (0, -1))
    return (node.input[scale], node.input[zero_point]) if 0 < zero_point < len(node.input) and node.input[zero_point] else None


def _clamped(name: str, clamps: Mapping[str, str]) -> str:
    while name in clamps:
        name = clamps[name]
    return name
