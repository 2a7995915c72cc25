"""Biases that do not fit into the 32 bits that an integer Conv or Gemm adds up in stay in float.

A bias is stored as int32 in units of the input's scale times the weight's. Where that unit is too small, the tools cut the bias, and the
variant computes something else. For int8 weights they enlarge the weight's scale until the bias just fits, and the products that are
added to it may overflow.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto
from onnxruntime.quantization.operators.base_operator import QuantOperatorBase
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import compute_data_quant_params
from onnxruntime.quantization.registry import QLinearOpsRegistry

from harness.quantize.step import Step, listed
from harness.quantize.steps.float_biases import BIAS, KINDS, WEIGHT, channel_axis, is_cut_when_loaded, keep, overflows
from harness.quantize.steps.patching import constant, entries, methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from onnx import NodeProto

    from harness.quantize.recipe import Recipe

    Array = NDArray[Any]


def _qdq(found: dict[str, None]) -> Callable[..., Any]:
    original = QDQQuantizer._quantize_bias_tensors  # noqa: SLF001 - onnxruntime has no other place for it

    def _quantize_bias_tensors(quantizer: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
        nodes = {node.name: node for node in quantizer.model.nodes()}
        for name, info in list(quantizer.bias_to_quantize.items()):
            scales = [
                quantizer._get_tensor_quantization_scale(each, info.node_name)  # noqa: SLF001 - see above
                for each in (info.input_name, info.weight_name)
            ]
            bias, node = constant(quantizer, name), nodes.get(info.node_name)
            if bias is None or node is None or any(each is None or each.ndim > 1 for each in scales):
                continue
            if overflows(bias, scales[0] * scales[1] * info.beta, _stored(quantizer, info.weight_name), channel_axis(node)):
                del quantizer.bias_to_quantize[name]
                found[info.node_name] = None
                quantizer.model.add_nodes(keep(quantizer, node, info.weight_name))
        makers = {name: node for node in nodes.values() for name in node.output}
        for node in nodes.values():
            maker = makers.get(node.input[0]) if node.op_type in KINDS else None
            scale = constant(quantizer, maker.input[1]) if maker is not None and maker.op_type == "DequantizeLinear" else None
            if node.name not in found and scale is not None and is_cut_when_loaded(quantizer, node, scale):
                found[node.name] = None
                quantizer.model.add_nodes(keep(quantizer, node, node.input[WEIGHT]))
        original(quantizer)

    return _quantize_bias_tensors


def _stored(quantizer: Any, name: str) -> Array | None:  # noqa: ANN401 - onnxruntime is not typed
    """The integers of a weight, less their zero point; None where a kernel of integers takes none of 8 bits."""
    kept = quantizer.quantized_value_map.get(name)
    if kept is None or quantizer.activation_qType not in {TensorProto.INT8, TensorProto.UINT8}:
        return None
    weight, zero = (constant(quantizer, each) for each in (kept.original.q_name, kept.original.zp_name))
    if weight is None or zero is None or weight.dtype not in {np.dtype(np.int8), np.dtype(np.uint8)}:
        return None
    if zero.ndim:
        zero = zero.reshape([-1 if axis == (kept.original.axis or 0) else 1 for axis in range(weight.ndim)])
    return np.asarray(weight.astype(np.int64) - zero.astype(np.int64))


def _qoperator(kind: str, found: dict[str, None]) -> type:
    base = QLinearOpsRegistry[kind]

    class Biased(base):  # type: ignore[misc, valid-type]  # onnxruntime is not typed
        """Conv or Gemm in the QOperator format: without int32 biases there is no integer operator."""

        def quantize(self) -> None:
            """Quantize the node, or leave it in float."""
            if self._overflows():
                found[self.node.name] = None
                QuantOperatorBase.quantize(self)
            else:
                super().quantize()

        def _overflows(self) -> bool:
            quantizer, node = self.quantizer, self.node
            weight = constant(quantizer, node.input[WEIGHT])
            bias = constant(quantizer, node.input[BIAS]) if len(node.input) > BIAS and node.input[BIAS] else None
            scale = self._input_scale()
            overridden = bool(quantizer.tensor_quant_overrides.get(node.input[WEIGHT]))
            if weight is None or bias is None or scale is None or overridden or not weight.size:
                return False
            scales, is_symmetric = self._weight_scales(weight)
            if is_symmetric:
                stored = quantizer.model.get_initializer(node.input[BIAS])
                changed, larger = quantizer._adjust_weight_scale_for_int32_bias(  # noqa: SLF001 - onnxruntime has no other place for it
                    scale, scales.copy(), node.input[WEIGHT], stored, quantizer.per_channel
                )
                scales = larger if changed else scales
            axis = channel_axis(node)
            shape = [-1 if place == axis else 1 for place in range(weight.ndim)] if scales.ndim else []
            return overflows(bias, scale * scales, np.rint(weight / scales.reshape(shape)), axis)

        def _input_scale(self) -> Array | None:
            quantizer, name = self.quantizer, self.node.input[0]
            if name in quantizer.quantized_value_map:
                return np.asarray(constant(quantizer, quantizer.quantized_value_map[name].scale_name))
            known = (quantizer.quantization_params or {}).get(name)
            return None if known is None else np.asarray(known["scale"])

        def _weight_scales(self, weight: Array) -> tuple[Array, bool]:
            """The scales that the weight gets, and whether the tool enlarges them for the bias."""
            quantizer = self.quantizer
            kind_of_weight = quantizer.weight_qType
            if quantizer.per_channel and self.node.op_type == "Conv":
                kind_of_weight = TensorProto.INT8  # as QLinearConv in onnxruntime/quantization/operators/conv.py
            axis = channel_axis(self.node)
            parts = [weight.take(each, axis) for each in range(weight.shape[axis])] if quantizer.per_channel else [weight]
            made = [
                compute_data_quant_params(
                    part.flatten(),
                    kind_of_weight,
                    quantizer.is_weight_symmetric(kind_of_weight),
                    reduce_range=quantizer.reduce_range,
                    min_real_range=quantizer.min_real_range,
                )
                for part in parts
            ]
            enlarges = quantizer.weight_qType == TensorProto.INT8 and not any(zero.any() for zero, _ in made)
            scales = np.array([scale for _, scale in made], weight.dtype)
            return (scales if quantizer.per_channel else scales.reshape(())), enlarges

    return Biased


def _float(found: dict[str, None]) -> Callable[..., Any]:
    original = QuantOperatorBase.quantize

    def quantize(operator: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
        """Leave a node in float as onnxruntime does; where it would be made one of integers when the model is loaded, its bias, too."""
        quantizer, node = operator.quantizer, operator.node
        behind: list[NodeProto] = []
        if node.op_type in KINDS and len(node.input) > BIAS:
            value = quantizer.quantized_value_map.get(node.input[0])
            scale = None if value is None else constant(quantizer, value.scale_name)
            if node.name in found or (scale is not None and is_cut_when_loaded(quantizer, node, scale)):
                found[node.name] = None
                behind = keep(quantizer, node, node.input[WEIGHT])
        original(operator)
        quantizer.new_nodes += behind

    return quantize


@contextmanager
def patch(recipe: Recipe, notes: list[str]) -> Iterator[None]:
    """Leave such biases, or their nodes, in float; a note names the nodes."""
    found: dict[str, None] = {}
    with (
        methods(QDQQuantizer, _quantize_bias_tensors=_qdq(found)),
        methods(QuantOperatorBase, quantize=_float(found)),
        entries(QLinearOpsRegistry, {kind: _qoperator(kind, found) for kind in ("Conv", "Gemm")}),
    ):
        yield
    if found:
        what = "the bias of the node" if recipe.format == "QDQ" else "the node"
        notes.append(
            f"float-large-biases: {what} stays in float, because the bias overflows int32 in units of the input's scale times the "
            f"weight's: {listed(found)}"
        )


STEP = Step(
    key="float-large-biases",
    summary=(
        "A bias stays in float if it overflows int32 in units of the input's scale times the weight's, alone or with the products that are "
        "added to it. In the QOperator format, its Conv or Gemm stays in float."
    ),
    source="quantize_bias_static_impl in onnxruntime/quantization/base_quantizer.py; microsoft/onnxruntime#21000",
    cost="These nodes are computed in float.",
    methods=frozenset({"static"}),
    patch=patch,
)
