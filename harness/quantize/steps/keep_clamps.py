"""Keeps a Relu or Clip in the model unless the quantized range clamps in the same way.

onnxruntime removes every Relu and Clip behind a quantized operator, and leaves the clamping to the integer range of the output. That is
right only if the bounds lie at the ends of that range. They don't if Clip's bounds leave out 0 (each range is widened to hold it), if the
range is that of a tensor further up (Reshape, MaxPool, Resize and others pass it on), if another node takes the input too, or if an
option has widened the range.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from onnx import helper, numpy_helper
from onnxruntime.quantization.operators.activation import QDQRemovableActivation, QLinearActivation
from onnxruntime.quantization.operators.base_operator import QuantOperatorBase
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from harness.quantize.step import Step, staying
from harness.quantize.steps.patching import captured, constant, entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import GraphProto, NodeProto

    from harness.quantize.recipe import Recipe

CLAMPS = ("Relu", "Clip")
ROUNDING = 0.51  # of a step; half of one, and what float32 loses of a scale
NARROW = {"UINT4": (0, 15), "INT4": (-8, 7)}


@dataclass(frozen=True)
class Takers:
    """Who sees the tensors of a graph.

    Attributes:
        counts: how many inputs of its nodes each tensor is.
        fixed: names that may not go: those of the graph's inputs and outputs.
        captured: what the bodies of If, Loop and Scan take.
    """

    counts: Counter[str]
    fixed: set[str]
    captured: set[str]

    @classmethod
    def of(cls, graph: GraphProto) -> Takers:
        """Count once: the tool only changes outputs while it decides on nodes."""
        counts = Counter(name for node in graph.node for name in node.input)
        return cls(counts, {value.name for value in (*graph.input, *graph.output)}, captured(graph.node))


@dataclass
class Work:
    """What is found while one model is quantized.

    Attributes:
        kept: names of the nodes that stay, though onnxruntime would have removed them.
        bounds: what removed nodes clamp to, by their output: a Clip behind a removed Relu must do the work of both.
    """

    kept: dict[str, None] = field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = field(default_factory=dict)
    _takers: dict[int, Takers] = field(default_factory=dict)

    def takers(self, quantizer: Any) -> Takers:  # noqa: ANN401 - onnxruntime is not typed
        """Tell who sees the tensors of a quantizer's graph."""
        key = id(quantizer)
        if key not in self._takers:
            self._takers[key] = Takers.of(quantizer.model.graph())
        return self._takers[key]


def bounds_of(quantizer: Any, node: NodeProto) -> tuple[float, float] | None:  # noqa: ANN401 - onnxruntime is not typed
    """Find what a Relu or Clip clamps to.

    Returns:
        The smallest and the largest value, infinite where there is no bound; None if a bound is computed.
    """
    if node.op_type == "Relu":
        return 0.0, np.inf
    found = {attribute.name: attribute.f for attribute in node.attribute if attribute.name in {"min", "max"}}
    for name, place in (("min", 1), ("max", 2)):
        if len(node.input) > place and node.input[place]:
            value = constant(quantizer, node.input[place])
            if value is None or value.size != 1:
                return None
            found[name] = float(value.ravel()[0])
    return found.get("min", -np.inf), found.get("max", np.inf)


def clamps_alike(scale: Any, zero_point: Any, limits: tuple[int, int], bounds: tuple[float, float]) -> bool:  # noqa: ANN401 - of numpy
    """Say whether quantization alone clamps every number as the node does, to within the rounding of half a step.

    Numbers beyond the integer range take its first or last integer, so both bounds must be rounded to these, or lie beyond them. A range
    of -1 to 1 has 128 steps on one side and 127 on the other, so -1 lies between two integers, as near to the first as to the second.

    Args:
        scale: a number.
        zero_point: an integer.
        limits: the smallest and the largest integer of the type.
        bounds: the smallest and the largest number after clamping.
    """
    low, high = (bound / float(scale) + int(zero_point) for bound in bounds)
    return low <= limits[0] + ROUNDING and high >= limits[1] - ROUNDING


def limits_of(data_type: int) -> tuple[int, int] | None:
    """The smallest and the largest integer of a type of ONNX, by its number; None if it is no integer type."""
    name = helper.tensor_dtype_to_string(data_type).removeprefix("TensorProto.")
    if name in NARROW:
        return NARROW[name]
    kind = helper.tensor_dtype_to_np_dtype(data_type)
    return (int(np.iinfo(kind).min), int(np.iinfo(kind).max)) if np.issubdtype(kind, np.integer) else None


class QDQClamp(QDQRemovableActivation):  # type: ignore[misc]  # onnxruntime is not typed
    """Relu or Clip in the QDQ format."""

    work: ClassVar[Work]

    def quantize(self) -> None:
        """Remove the node, or keep it between the QuantizeLinear and DequantizeLinear of its tensors."""
        quantizer = self.quantizer
        if not self._is_removed():
            super().quantize()
        elif self._is_replaced():
            super().quantize()
            self.work.bounds[self.node.output[0]] = self._bounds() or (-np.inf, np.inf)
        else:
            self.work.kept[self.node.name] = None
            quantizer.qdq_keep_removable_activations = True
            super().quantize()
            quantizer.qdq_keep_removable_activations = False

    def _is_removed(self) -> bool:
        """Say whether onnxruntime removes the node: its own conditions."""
        quantizer, source, output = self.quantizer, self.node.input[0], self.node.output[0]
        known, takers = quantizer.quantization_params, self.work.takers(quantizer)
        return (
            quantizer.is_tensor_quantized(source)
            and not (quantizer.is_activation_symmetric or quantizer.qdq_keep_removable_activations)
            and output in known
            and known[output].converted is None
            and known[source].converted is None
            and takers.counts[source] == 1
            and source not in takers.fixed
        )

    def _bounds(self) -> tuple[float, float] | None:
        """The node's bounds together with those of removed nodes before it."""
        own, earlier = bounds_of(self.quantizer, self.node), self.work.bounds.get(self.node.input[0])
        if own is None or earlier is None:
            return own
        return min(max(earlier[0], own[0]), own[1]), min(max(earlier[1], own[0]), own[1])

    def _is_replaced(self) -> bool:
        """Say whether the integers of the output clamp as the node does, and nothing but the QDQ pair needs the node itself."""
        quantizer, output = self.quantizer, self.node.output[0]
        if {self.node.input[0], output} & self.work.takers(quantizer).captured:
            return False
        if self.disable_qdq_for_node_output or not quantizer._is_tensor_quantizable(output):  # noqa: SLF001 - no other way
            return False
        parameters, bounds = quantizer.quantization_params[output].original, self._bounds()
        limits = limits_of(parameters["quant_type"])
        if limits is None or bounds is None:
            return limits is None
        return clamps_alike(parameters["scale"], parameters["zero_point"], limits, bounds)


class QLinearClamp(QLinearActivation):  # type: ignore[misc]  # onnxruntime is not typed
    """Relu or Clip in the QOperator format."""

    work: ClassVar[Work]

    def QuantizeClipRelu(self) -> None:  # noqa: N802 - onnxruntime's name
        """Let the input's integers stand for the output, or keep the node in float."""
        quantizer = self.quantizer
        value = quantizer.quantized_value_map.get(self.node.input[0])
        if value is None or quantizer.is_activation_symmetric or self._clamps_alike(value):
            super().QuantizeClipRelu()
        else:
            self.work.kept[self.node.name] = None
            QuantOperatorBase.quantize(self)

    def _clamps_alike(self, value: Any) -> bool:  # noqa: ANN401 - onnxruntime is not typed
        quantizer, bounds = self.quantizer, bounds_of(self.quantizer, self.node)
        scale, zero_point = (quantizer.model.get_initializer(name) for name in (value.scale_name, value.zp_name))
        if bounds is None or scale is None or zero_point is None:
            return False
        limits = limits_of(zero_point.data_type)
        if limits is None:
            return True
        return clamps_alike(numpy_helper.to_array(scale).item(), numpy_helper.to_array(zero_point).item(), limits, bounds)


@contextmanager
def patch(_: Recipe, notes: list[str]) -> Iterator[None]:
    """Replace what onnxruntime does with Relu and Clip; afterwards a note names the nodes that stayed."""
    work = Work()
    with (
        entries(QDQRegistry, dict.fromkeys(CLAMPS, type("Clamp", (QDQClamp,), {"work": work}))),
        entries(QLinearOpsRegistry, dict.fromkeys(CLAMPS, type("Clamp", (QLinearClamp,), {"work": work}))),
    ):
        yield
    if work.kept:
        notes.append(
            f"keep-clamps: {staying(work.kept)} in the model, because the quantized range does not clamp in the same way"
        )


STEP = Step(
    key="keep-clamps",
    summary=("A Relu or Clip is removed only if the quantized range of its output clamps in the same way."),
    source="QDQRemovableActivation and QLinearActivation in onnxruntime/quantization/operators/activation.py; microsoft/onnxruntime#11225",
    cost="No size. A Relu or Clip that stays takes time; in the QOperator format it is computed in float.",
    methods=frozenset({"static"}),
    patch=patch,
)
