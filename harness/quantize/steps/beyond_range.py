"""Keeps nodes in float whose tensors hold a value far beyond all others: padding with -3.4e38, attention masks, infinities.

One scale can't hold both -10000 and numbers of about 1: the latter become 0. And if the calibration data have no masked position, the
calibrated range does not contain the mask's value at all. Such tensors stay in float from the node that brings the value in to the node
that removes it, such as a Softmax or a MaxPool.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization.base_quantizer import BaseQuantizer
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.operators.base_operator import QuantOperatorBase
from onnxruntime.quantization.registry import QLinearOpsRegistry

from harness.quantize.step import SHOWN, Decision, Step, listed
from harness.quantize.steps.keep_clamps import limits_of
from harness.quantize.steps.patching import constant, entries, methods
from harness.quantize.steps.sentinels import ABSURD, Search, is_absurd, only_max_pools
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe

WIDE = frozenset({"QInt16", "QUInt16"})
VALUE = 2  # the place of a Pad's value among its inputs


def decide(model: ModelProto, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave these nodes in float, by the calibrated ranges and the constants of the model."""
    if ranges is None:
        return Decision()
    levels = 65_535 if recipe.activation in WIDE else 255
    # With ForceQuantizeNoInputCheck a MaxPool behind a Pad in float would be quantized by a range of its own.
    saturates = recipe.format == "QOperator" and not recipe.options().get("ForceQuantizeNoInputCheck")
    search = Search(model.graph, ranges, levels, saturates=saturates)
    search.run()
    kinds = op_types(recipe)
    reasons = {
        node.name: search.nodes[node.name] for node in model.graph.node if node.name in search.nodes and node.op_type in kinds
    }
    first = [name for name in reasons if name in search.origins] or list(reasons)[:1]
    notes = [f"float-beyond-range: '{name}' stays in float: {reasons[name]}" for name in first[:SHOWN]]
    if others := [name for name in reasons if name not in first[:SHOWN]]:
        notes.append(
            f"float-beyond-range: these nodes also stay in float, for the same reason or because they take such values: {listed(others)}"
        )
    return Decision(tuple(search.nodes), tuple(notes))


def _ranges() -> Any:  # noqa: ANN401 - onnxruntime is not typed
    original = BaseQuantizer.adjust_tensor_ranges

    def adjust_tensor_ranges(quantizer: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
        """Replace infinite ranges by a finite one: no scale can be computed from them, and their tensors stay in float anyway."""
        original(quantizer)
        ranges = quantizer.tensors_range
        for name in list(ranges or ()):
            if is_absurd(*(float(np.max(each)) for each in ranges[name].range_value)):
                kind = np.asarray(ranges[name].range_value[0]).dtype.type
                ranges[name] = TensorData(lowest=kind(0), highest=kind(1))

    return adjust_tensor_ranges


def _padding(kept: dict[str, str]) -> type:
    base = QLinearOpsRegistry["Pad"]

    class Pad(base):  # type: ignore[misc, valid-type]  # onnxruntime is not typed
        """Pad in QOperator models: has the scale of its input, which may not hold the padding value."""

        def quantize(self) -> None:
            """Quantize the node, or leave it in float."""
            quantizer, node = self.quantizer, self.node
            value = quantizer.quantized_value_map.get(node.input[0])
            is_said = len(node.input) > VALUE and bool(node.input[VALUE])
            padding = constant(quantizer, node.input[VALUE]) if is_said else None
            if value is None or not is_said:
                super().quantize()
            elif padding is None or padding.size != 1:
                # Two such nodes would quantize one value twice, under one name.
                kept[node.name] = "a computed value, which may lie beyond its input's range"
                QuantOperatorBase.quantize(self)
            elif self._fits(value, float(padding.ravel()[0])):
                super().quantize()
            else:
                kept[node.name] = f"{float(padding.ravel()[0]):.5g}, which lies beyond its input's range"
                QuantOperatorBase.quantize(self)

        def _fits(self, value: Any, padding: float) -> bool:  # noqa: ANN401 - onnxruntime is not typed
            model = self.quantizer.model
            scale, zero_point = (constant(self.quantizer, name) for name in (value.scale_name, value.zp_name))
            tensor = model.get_initializer(value.zp_name)
            limits = limits_of(tensor.data_type) if tensor is not None else None
            if limits is None or scale is None:
                return True
            if padding <= -ABSURD and only_max_pools(model.graph(), self.node.output[0]):
                return True  # the smallest integer is never the largest of a window
            integer = padding / scale.item() + zero_point.item()
            return bool(limits[0] - 1 <= integer <= limits[1] + 1)

    return Pad


@contextmanager
def patch(_: Recipe, notes: list[str]) -> Iterator[None]:
    """Replace how onnxruntime reads ranges that are not finite, and how it quantizes padding."""
    kept: dict[str, str] = {}
    with methods(BaseQuantizer, adjust_tensor_ranges=_ranges()), entries(QLinearOpsRegistry, {"Pad": _padding(kept)}):
        yield
    notes += [f"float-beyond-range: '{name}' stays in float: it pads with {value}" for name, value in kept.items()]


STEP = Step(
    key="float-beyond-range",
    summary=(
        "A node stays in float if a mask, a padding value or an infinity would leave the values beside it no steps of the scale, or lies "
        "outside the calibrated range. The nodes that take its output stay in float too, up to the first one whose output holds no such "
        "values."
    ),
    source="compute_scale_zp in onnxruntime/quantization/quant_utils.py, QPad in operators/pad.py; microsoft/onnxruntime#17760",
    cost="These nodes are computed in float.",
    methods=frozenset({"static"}),
    decide=decide,
    patch=patch,
)
