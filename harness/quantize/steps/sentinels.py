"""Finds where a model puts values that only mark positions, such as -1e9, beside ordinary ones, and how far they go."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from math import isfinite, isinf, isnan
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import GraphProto, NodeProto

    Range = tuple[float, float]

SENTINEL = 9_999.0  # models mark positions with -10000, -65504, -1e9, the least float32 or minus infinity
ABSURD = 1e30  # no activation is so large
FEW_STEPS = 8  # of a scale; a tensor that spans less is lost
SANE = 64  # a tensor whose largest value is so many times smaller than the sentinel's holds none
FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE})
# Operators that put the values of several inputs beside each other, by the places of these; none means all.
MIXING: Mapping[str, tuple[int, ...]] = {
    "Add": (),
    "Sub": (),
    "Sum": (),
    "Concat": (),
    "Where": (1, 2),
    "Pad": (0, 2),
    "ScatterND": (0, 2),
    "ScatterElements": (0, 2),
}
# Operators whose output holds values of their first input, as they are or scaled; Mul and Div of either.
PASSING = frozenset(
    {
        *("Mul", "Div", "Neg", "Expand", "Tile", "Identity", "Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"),
        *("Slice", "Split", "Gather", "GatherElements", "GatherND", "Dropout", "DepthToSpace", "SpaceToDepth", "Trilu", "Min"),
    }
)


def is_absurd(low: float, high: float) -> bool:
    """Say whether no activation can have such a range."""
    return not (isfinite(low) and isfinite(high)) or max(abs(low), abs(high)) >= ABSURD


def unusable(name: str, low: float, high: float) -> str:
    """Say why no scale can be computed of a tensor's range."""
    if isnan(low) or isnan(high):
        return f"'{name}' has values that are not numbers (NaN) in the calibration data"
    if low > high:
        return f"'{name}' has no values in the calibration data"
    if isinf(low) or isinf(high):
        return f"'{name}' has infinite values in the calibration data"
    return f"the values of '{name}' range from {low:.5g} to {high:.5g}"


def only_max_pools(graph: GraphProto, name: str) -> bool:
    """Say whether MaxPools alone take a tensor."""
    takers = [node.op_type for node in graph.node if name in node.input]
    return set(takers) == {"MaxPool"} and all(value.name != name for value in graph.output)


def extremes(tensor: TensorProto) -> Range | None:
    """The smallest and the largest number of a float constant; None if its numbers are elsewhere, or there are none."""
    if tensor.data_type not in FLOATS or tensor.data_location == TensorProto.EXTERNAL:
        return None
    array = numpy_helper.to_array(tensor)
    return (float(np.min(array)), float(np.max(array))) if array.size and not np.isnan(array).any() else None


@dataclass
class Search:
    """Goes over a graph once, in its order.

    Attributes:
        graph: of nodes in order.
        ranges: the calibrated smallest and largest value of tensors, by name.
        levels: of the integers that activations become, less one.
        saturates: whether a Pad has its input's scale, so that the smallest integer does for a MaxPool what a sentinel does.
        pure: tensors that hold 0 and a sentinel, or a sentinel alone, and its magnitude.
        mixed: tensors that hold a sentinel beside ordinary values, and its magnitude.
        nodes: the nodes that must stay in float, and why.
        origins: those of them at which a sentinel comes in.
    """

    graph: GraphProto
    ranges: Mapping[str, Range]
    levels: int
    saturates: bool = False
    pure: dict[str, float] = field(default_factory=dict)
    mixed: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    origins: set[str] = field(default_factory=set)
    _constants: dict[str, Range | None] = field(default_factory=dict)
    _stored: dict[str, TensorProto] = field(default_factory=dict)

    def run(self) -> None:
        """Find the nodes that must stay in float."""
        self._stored = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.graph.node:
            for attribute in node.attribute:
                if node.op_type in {"Constant", "ConstantOfShape"} and attribute.name == "value":
                    self._stored[node.output[0]] = attribute.t
        self._pools = {node.output[0] for node in self.graph.node if node.op_type == "Pad"} if self.saturates else set()
        takers: defaultdict[str, set[str]] = defaultdict(set)
        for node in self.graph.node:
            for name in node.input:
                takers[name].add(node.op_type)
        seen = {value.name for value in self.graph.output}
        self._pools = {name for name in self._pools if takers[name] == {"MaxPool"} and name not in seen}
        for node in self.graph.node:
            self._visit(node)

    def constant(self, name: str) -> Range | None:
        """The extremes of a constant, read when they are first needed."""
        if name not in self._constants:
            self._constants[name] = extremes(self._stored[name]) if name in self._stored else None
        return self._constants[name]

    def _visit(self, node: NodeProto) -> None:
        taken = max((self.mixed[name] for name in node.input if name in self.mixed), default=0.0)
        if node.op_type in MIXING and not taken and node.output[0] not in self._pools:
            self._mix(node)
        elif not taken:
            self._pass_pure(node)
        if taken:
            self.nodes[node.name] = f"it takes values as large as {taken:.5g}"
            for name in node.output:
                if self._is_carried(node, name, taken):
                    self.mixed[name] = taken
        self._absurd(node)

    def _absurd(self, node: NodeProto) -> None:
        """Leave nodes in float that take or give a tensor whose range no scale can have."""
        for name in (*node.input, *node.output):
            known = self.ranges.get(name)
            if known is not None and is_absurd(*known) and name not in self._pools:
                if node.name not in self.nodes:
                    self.nodes[node.name] = unusable(name, *known)
                    self.origins.add(node.name)
                if name in node.output:
                    self.mixed.setdefault(name, max(map(abs, known)))

    def _operands(self, node: NodeProto) -> list[str]:
        places = MIXING[node.op_type] or range(len(node.input))
        return [node.input[place] for place in places if place < len(node.input) and node.input[place]]

    def _mix(self, node: NodeProto) -> None:
        """Decide on a node that puts operands beside each other."""
        operands = self._operands(node)
        marks = {name: value for name in operands if (value := self._sentinel(node, name))}
        if not marks:
            return
        value = max(marks.values(), key=abs)
        others = [name for name in operands if name not in marks]
        output = node.output[0]
        if all(name in self._stored for name in others):
            self._give(node, abs(value))
            return
        known = [self.ranges[name] for name in others if name in self.ranges]
        lost = any(0 < high - low < FEW_STEPS * (abs(value) + max(abs(low), abs(high))) / self.levels for low, high in known)
        reach = self.ranges.get(output)
        unseen = reach is not None and max(map(abs, reach)) < abs(value) / 2
        if lost or unseen or not isfinite(value):
            beside = known[0] if known else reach
            where = f" and values from {beside[0]:.5g} to {beside[1]:.5g}" if beside else ""
            self.nodes[node.name] = f"its output must hold {value:.5g}{where}"
            self.origins.add(node.name)
            self.mixed[output] = abs(value)

    def _sentinel(self, node: NodeProto, name: str) -> float:
        """The value with which an operand marks positions, or 0."""
        if name in self.pure:
            return -self.pure[name]
        if name in self._stored:
            low, high = self.constant(name) or (0.0, 0.0)
            extreme = low if abs(low) >= abs(high) else high
            # A bias may be large; a mask has zeros beside its sentinels.
            usual = (
                node.op_type in {"Add", "Sub", "Sum"} and not low < high == 0 and not low == 0 < high and not is_absurd(low, high)
            )
            return extreme if abs(extreme) >= SENTINEL and not usual else 0.0
        low, high = self.ranges.get(name, (0.0, 0.0))
        return low if low <= -SENTINEL and high == 0 else 0.0

    def _pass_pure(self, node: NodeProto) -> None:
        """Follow a mask before it meets ordinary values."""
        operands = list(node.input) if node.op_type in {"Mul", "Div", "Min"} else list(node.input[:1])
        if node.op_type == "ConstantOfShape":
            known = self.constant(node.output[0])
            if known is not None and max(map(abs, known)) >= SENTINEL:
                self.pure[node.output[0]] = max(map(abs, known))
            return
        if node.op_type not in PASSING:
            return
        if node.op_type == "Mul":
            for name, other in (operands, operands[::-1]):
                known, beside = self.constant(name), self.ranges.get(other)
                largest = max(map(abs, known)) if known else 0.0
                if largest >= SENTINEL and beside is not None and max(map(abs, beside)) <= 1:
                    self._give(node, largest)
                    return
        for name in operands:
            known = self.constant(name) if node.op_type in {"Expand", "Cast", "Tile", "Trilu"} else None
            if name in self.pure or (known is not None and max(map(abs, known)) >= SENTINEL):
                self._give(node, self.pure.get(name) or max(map(abs, known or (0.0,))))
                return

    def _give(self, node: NodeProto, magnitude: float) -> None:
        """Take a node's output for a mask; what the calibrated range does not hold stays in float."""
        for name in node.output:
            self.pure[name] = magnitude
        known = self.ranges.get(node.output[0])
        if known is not None and max(map(abs, known)) < magnitude / 2:
            self.nodes[node.name] = (
                f"its output must hold {-magnitude:.5g}, and the calibrated range ends at {max(map(abs, known)):.5g}"
            )
            self.origins.add(node.name)

    def _is_carried(self, node: NodeProto, output: str, magnitude: float) -> bool:
        """Say whether an output holds the sentinels that a node takes."""
        known = self.ranges.get(output)
        evident = any(max(map(abs, self.ranges[name])) >= magnitude / 2 for name in node.input if name in self.ranges)
        if evident and known is not None:
            return max(map(abs, known)) >= magnitude / SANE or is_absurd(*known)
        return node.op_type in PASSING or node.op_type in MIXING
