"""Keeps nodes in float on the way to an operator for which values near 0 matter: a logarithm, a denominator, a negative power.

One scale has steps of equal size from 0 to the largest value. A probability of 1e-6 is 0 in 8 bits, its logarithm is minus infinity, and a
floor such as ``max(p, 1e-7)`` behind it makes the same number of all small ones. Where the smallest calibrated value before such a node is
only a few steps away from 0, it is followed back to the node that computes it, a Softmax for instance, and everything between stays in float.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, numpy_helper

from harness.quantize.model.graph import nodes_in
from harness.quantize.step import Decision, Step, listed, staying
from harness.quantize.steps.intervals import MOVING, Range, known_ranges
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

WIDE = frozenset({"QInt16", "QUInt16"})
FEW_STEPS = 4  # between 0 and the smallest value; rounding changes a reciprocal by 12 % there
SMALL = 1 << 16  # bytes of a constant that may hold bounds, epsilons or exponents; larger ones are weights
# Operators whose output has the scale of some inputs: an error of an input is one of the output. None means all inputs.
ADDING: Mapping[str, Sequence[int] | None] = {
    **dict.fromkeys(MOVING, (0,)),
    **dict.fromkeys(("Abs", "Clip", "LeakyRelu", "Neg", "Pad", "ReduceL1", "ReduceSum", "Relu", "Resize"), (0,)),
    **dict.fromkeys(("Add", "Concat", "Max", "Mean", "Min", "Sub", "Sum")),
    **dict.fromkeys(("ScatterElements", "ScatterND"), (0, 2)),
    "Where": (1, 2),
}
# Operators for whose output the relative error of some inputs counts.
SCALING: Mapping[str, Sequence[int]] = {
    **dict.fromkeys(("Div", "Mul"), (0, 1)),
    **dict.fromkeys(("Pow", "ReduceL2", "ReduceProd", "ReduceSumSquare", "Sqrt"), (0,)),
}
LINEAR = frozenset({"Conv", "Gemm", "MatMul"})
SUMS = frozenset({"ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
LOGARITHMS = frozenset({"Log", "NegativeLogLikelihoodLoss", "ReduceLogSum"})


def needed_inputs(node: NodeProto, constants: Mapping[str, NDArray[Any]]) -> tuple[int, ...]:
    """The places of the inputs whose values near 0 decide on what a node gives; none for most operators."""
    if node.op_type in LOGARITHMS or node.op_type in {"Atanh", "Reciprocal"}:
        return (0,)
    if node.op_type == "Div":
        return (1,)
    exponent = constants.get(node.input[1]) if node.op_type == "Pow" else None
    return (0,) if exponent is not None and exponent.size and exponent.min() < 0 else ()


@dataclass
class Search:
    """Follows values back from the nodes that need them exactly.

    Attributes:
        stored: the constants of the model, by name.
        constants: the numbers of the small ones.
        makers: the node that makes a tensor.
        known: the ranges of tensors, as far as they are known.
        levels: of the integers that activations become, less one.
        found: the tensors that have to stay in float.
    """

    stored: Mapping[str, TensorProto]
    constants: Mapping[str, NDArray[Any]]
    makers: Mapping[str, NodeProto]
    known: Mapping[str, Range]
    levels: int
    found: set[str] = field(default_factory=set)

    def run(self, start: str, *, logarithm: bool, pole: float = 0.0) -> None:
        """Follow a tensor back, for as long as integers would be too coarse.

        Args:
            start: the tensor whose small values matter.
            pole: the values near this number, and near its negative, are those that matter.
            logarithm: whether its logarithm is taken. To other nodes, a sum matters as a whole if its range is not known.
        """
        visited: dict[str, float] = {}
        waiting: list[tuple[str, float | None]] = [(start, None)]
        if pole and (known := self.known.get(start)):
            waiting = [(start, max(pole - max(map(abs, known)), 0.0) / FEW_STEPS)]
        while waiting:
            name, fineness = waiting.pop()
            if not name or visited.get(name, np.inf) <= (-1.0 if fineness is None else fineness):
                continue
            visited[name] = -1.0 if fineness is None else fineness
            span = self.known.get(name)
            if span is not None:
                low, high = span
                fineness = (max(low, -high, 0.0) / FEW_STEPS) if fineness is None else fineness
                if (max(high, 0.0) - min(low, 0.0)) / self.levels <= fineness:
                    continue
            if name in self.stored:
                self.found |= {name} if name == start else set()
                continue
            self.found.add(name)
            waiting += self._before(name, fineness, span, logarithm=logarithm)

    def _before(
        self, name: str, fineness: float | None, span: Range | None, *, logarithm: bool
    ) -> Iterator[tuple[str, float | None]]:
        """Yield the tensors that matter to one, and how fine their steps must be; None if that depends on their own values."""
        maker = self.makers.get(name)
        if maker is None:
            return
        kind = maker.op_type
        # Values on both sides of 0 come near it by chance, and nothing before them is more exact.
        if span is not None and span[0] < 0 < span[1] and kind not in MOVING:
            return
        if kind in SUMS and fineness is None and not logarithm:
            return
        if kind in ADDING:
            places = ADDING[kind]
            yield from ((maker.input[each], fineness) for each in _there(maker, places))
        elif kind in SCALING:
            for each in _there(maker, SCALING[kind]):
                own = self.known.get(maker.input[each])
                if logarithm or own is None or not own[0] < 0 < own[1]:
                    yield maker.input[each], None
        elif kind in LINEAR and self._adds_up(maker):
            yield maker.input[0], None

    def _adds_up(self, node: NodeProto) -> bool:
        """Whether a node gives sums of positive numbers, as a bank of filters does of a power spectrum."""
        weight, own = self.stored.get(node.input[1]), self.known.get(node.input[0])
        if weight is None or weight.data_location == TensorProto.EXTERNAL or own is None or own[0] < 0:
            return False
        numbers = numpy_helper.to_array(weight)
        return bool(numbers.size) and bool(numbers.min() >= 0)


def _there(node: NodeProto, places: Sequence[int] | None) -> list[int]:
    return [each for each in (range(len(node.input)) if places is None else places) if each < len(node.input)]


def _stored(nodes: Sequence[NodeProto], model: ModelProto) -> dict[str, TensorProto]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in nodes:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                found[node.output[0]] = attribute.t
            for graph in (attribute.g, *attribute.graphs):
                found |= {tensor.name: tensor for tensor in graph.initializer}
    return found


def _numbers(stored: Mapping[str, TensorProto]) -> dict[str, NDArray[Any]]:
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in stored.items()
        if tensor.data_location != TensorProto.EXTERNAL and tensor.ByteSize() <= SMALL
    }


def _ranges(recipe: Recipe, nodes: Sequence[NodeProto], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The calibrated ranges, with those of probabilities as the tools take them."""
    found = dict(ranges)
    for node in nodes:
        if node.op_type in {"Sigmoid", "Softmax"}:
            low, high = ranges.get(node.output[0], (0.0, 1.0))
            # Other methods than MinMax leave out small values. The range of a Softmax goes to 1, whatever was calibrated.
            exact = recipe.calibration in {None, "MinMax"}
            found[node.output[0]] = (low if exact else 0.0, 1.0 if node.op_type == "Softmax" else high)
    return found


def decide(model: ModelProto, recipe: Recipe, ranges: Mapping[str, Range] | None) -> Decision:
    """Leave these nodes in float, by the calibrated ranges; without them, behind Softmax and Sigmoid."""
    nodes = [inner for node in model.graph.node for inner in nodes_in(node)]
    if not any(node.op_type in {*LOGARITHMS, "Atanh", "Reciprocal", "Div", "Pow", "Clip"} for node in nodes):
        return Decision()
    stored, kinds = _stored(nodes, model), op_types(recipe)
    constants = _numbers(stored)
    makers = {name: node for node in nodes for name in node.output}
    known = known_ranges(nodes, constants, _ranges(recipe, nodes, ranges or {}))
    levels = 65_535 if recipe.activation in WIDE else 255
    takers: defaultdict[str, list[NodeProto]] = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            takers[name].append(node)
    kept: dict[str, None] = {}
    needing: dict[str, str] = {}
    for node in nodes:
        starts = [(node.input[place], node) for place in needed_inputs(node, constants)]
        if node.op_type == "Clip" and _is_floor(node, constants, known, levels):
            # Whoever computes on outside the model, or in float, gets no 0 from such a floor.
            starts += [(node.output[0], node)] if all(each.op_type not in kinds for each in takers[node.output[0]]) else []
        for start, end in starts:
            search = Search(stored, constants, makers, known, levels)
            search.run(start, logarithm=end.op_type in {*LOGARITHMS, "Clip"}, pole=float(end.op_type == "Atanh"))
            touched = [
                each.name
                for each in model.graph.node
                if each.op_type in kinds and not search.found.isdisjoint((*each.input, *each.output))
            ]
            if touched:
                kept |= dict.fromkeys(touched)
                needing.setdefault(end.name or end.output[0], end.op_type)
    if not kept:
        return Decision()
    ordered = [node.name for node in model.graph.node if node.name in kept]
    note = (
        f"float-small-values: {staying(ordered)} in float, because the values that {listed(needing)} "
        f"({', '.join(sorted(set(needing.values())))}) {'take' if len(needing) > 1 else 'takes'} come so near "
        f"{'0, 1 or -1' if 'Atanh' in needing.values() else '0'} that integers would round them to it or change them by a large factor"
    )
    return Decision(tuple(ordered), (note,))


def _is_floor(node: NodeProto, constants: Mapping[str, NDArray[Any]], known: Mapping[str, Range], levels: int) -> bool:
    """Whether a Clip keeps numbers from 0 by less than half a step of the integers."""
    low, high = known.get(node.output[0], (0.0, 0.0))
    half = (max(high, 0.0) - min(low, 0.0)) / levels / 2
    bounds = [constants.get(name) for name in node.input[1:3]]
    least, most = [each.item() if each is not None and each.size == 1 else 0.0 for each in (*bounds, None, None)][:2]
    return bool(0 < least < half or -half < most < 0)


STEP = Step(
    key="float-small-values",
    summary=(
        "The nodes that compute values for a logarithm, a reciprocal, a denominator or a negative power, such as a Softmax or a Clip, "
        "stay in float if the smallest of these values is less than 4 quantization steps away from 0. For Atanh it is the distance from 1 and -1."
    ),
    source="compute_scale_zp in onnxruntime/quantization/quant_utils.py, which divides the range into equal steps",
    cost="These nodes are computed in float.",
    methods=frozenset({"static"}),
    decide=decide,
)
