"""Keeps nodes of fp16 models in float32 if they take constants that float16 can't hold, with the nodes that take their results."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.model.graph import nodes_in
from harness.quantize.step import SHOWN, Decision, Step, staying

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

    Array = NDArray[Any]

MOST = 65504.0  # the largest number of float16
LEAST = 6e-8  # about its smallest; what is smaller becomes 0
COARSE = 5e-7  # a constant whose values are all smaller has hardly a digit left
# A limit or a filler beyond the range works as well when it is cut to the largest number.
LIMITS = frozenset({"Clip", "Min", "Max", "Pad"})
# Where each value counts for itself, and not beside larger ones: one that becomes 0 is a fault even if others are large.
EACH_COUNTS = frozenset(
    {"Mul", "Div", "Pow", "Sqrt", "Reciprocal", "Log", "PRelu", "BatchNormalization", "InstanceNormalization"}
)
# What these give is of ordinary size again, whatever they take.
BOUNDED = frozenset(
    {
        *("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "Softsign", "Erf", "Sign", "Sin", "Cos"),
        *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization", "LpNormalization", "Hardmax"),
        *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "ArgMax", "ArgMin", "IsInf", "IsNaN", "MaxPool"),
    }
)
# What takes values out of the range of float16 brings them back, as a rule; what takes others can bring them there.
RESTORING = frozenset({"Div", "Clip"})
# Nodes that pass a constant on: with those values, or with some of them.
PASSING = frozenset(
    {
        *(
            "Identity",
            "Cast",
            "Unsqueeze",
            "Squeeze",
            "Reshape",
            "Flatten",
            "Expand",
            "Transpose",
            "Neg",
            "Tile",
            "Slice",
            "Gather",
        ),
        *("Concat", "Abs", "Where"),
    }
)


class Constant(NamedTuple):
    """A constant that float16 can't hold.

    Attributes:
        name: of the tensor.
        beyond: how many of its values are larger than float16's largest.
        lost: how many of its values become 0, or lose nearly all digits.
        whole: whether nothing of the constant is left.
        makers: nodes of the main graph that give it.
    """

    name: str
    beyond: int
    lost: int
    whole: bool
    makers: tuple[str, ...] = ()


def decide(model: ModelProto, _: Recipe, __: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Name the nodes that must stay in float32."""
    constants = {constant.name: constant for constant in _constants(model)}
    if not constants:
        return Decision()
    kept: dict[str, None] = {}
    told: dict[str, list[str]] = {}
    for node in model.graph.node:
        for constant in dict.fromkeys(name for inner in nodes_in(node) for name in _harmed(inner, constants)):
            kept |= dict.fromkeys((*constants[constant].makers, node.name))
            told.setdefault(constant, []).append(node.name)
    if not told:
        return Decision()
    # A converter has one copy of a constant for all nodes.
    sharing = [node.name for node in model.graph.node if set(node.input) & set(told)]
    following = list(_following(model, {*kept, *sharing}))
    kept |= dict.fromkeys((*sharing, *following))
    lines = [f"{staying(nodes)} in float32: {_said(constants[name])}" for name, nodes in list(told.items())[:SHOWN]]
    more = f"; {len(told) - SHOWN} more constants have such values" if len(told) > SHOWN else ""
    others = len(kept) - len({name for nodes in told.values() for name in nodes})
    more_nodes = "does 1 more node, which gives or takes" if others == 1 else f"do {others} more nodes, which give or take"
    also = f"; so {more_nodes} such values" if others else ""
    return Decision(float_nodes=tuple(kept), notes=(f"float16-range: {'; '.join(lines)}{more}{also}",))


def _said(constant: Constant) -> str:
    words = []
    if constant.beyond:
        words.append(f"{_counted(constant.beyond, constant)} beyond float16's range, which ends at 65504")
    if constant.lost:
        words.append(f"{_counted(constant.lost, constant)} too small for float16 and would become 0 or lose digits")
    return " and ".join(words)


def _counted(count: int, constant: Constant) -> str:
    return f"1 value of '{constant.name}' is" if count == 1 else f"{count} values of '{constant.name}' are"


def _harmed(node: NodeProto, constants: Mapping[str, Constant]) -> Iterator[str]:
    """Name the constants that a node can't take in float16."""
    for name in node.input:
        constant = constants.get(name)
        if constant is None or node.op_type in PASSING - {"Where"}:
            continue
        beyond = constant.beyond and node.op_type not in LIMITS
        if beyond or constant.whole or (constant.lost and node.op_type in EACH_COUNTS):
            yield name


def _following(model: ModelProto, names: set[str]) -> Iterator[str]:
    """Name the nodes that take results of these, up to those whose own results are of ordinary size."""
    carried: set[str] = set()
    for node in model.graph.node:
        takes = any(name in carried for inner in nodes_in(node) for name in inner.input)
        if takes and node.name not in names:
            yield node.name
        restores = node.op_type in BOUNDED or (takes and node.op_type in RESTORING)
        if (takes or node.name in names) and not restores:
            carried.update(node.output)


def _constants(model: ModelProto) -> Iterator[Constant]:
    """Find the constants that float16 can't hold: stored ones, and those that nodes make of them."""
    bodies = [graph for node in model.graph.node for inner in nodes_in(node) for graph in _bodies(inner)]
    stored = [tensor for graph in (model.graph, *bodies) for tensor in graph.initializer]
    fixed = {"", *(tensor.name for tensor in stored)}
    found = {each.name: _judged(each.name, numpy_helper.to_array(each)) for each in stored if each.data_type == TensorProto.FLOAT}
    for node in model.graph.node:
        for inner in nodes_in(node):
            made = [_judged(inner.output[0], value)._replace(makers=(node.name,)) for value in _values(inner)]
            if inner.op_type in PASSING and fixed.issuperset(inner.input):
                made += [
                    found[name]._replace(name=inner.output[0], makers=(*found[name].makers, node.name))
                    for name in inner.input
                    if name in found
                ]
                fixed.update(inner.output)
            elif inner.op_type == "Constant":
                fixed.update(inner.output)
            found |= {constant.name: constant for constant in made}
    yield from (constant for constant in found.values() if constant.beyond or constant.lost)


def _bodies(node: NodeProto) -> list[GraphProto]:
    return [graph for attribute in node.attribute for graph in (attribute.g, *attribute.graphs)]


def _values(node: NodeProto) -> Iterator[Array]:
    """The numbers that a node of a constant holds."""
    if node.op_type not in {"Constant", "ConstantOfShape"}:
        return
    for attribute in node.attribute:
        if attribute.name == "value" and attribute.t.data_type in {TensorProto.FLOAT, TensorProto.DOUBLE}:
            yield numpy_helper.to_array(attribute.t)
        elif attribute.name in {"value_float", "value_floats"}:
            yield np.atleast_1d(np.array(helper.get_attribute_value(attribute), np.float32))


def _judged(name: str, array: Array) -> Constant:
    """Say what float16 would make of a constant. Infinities it has itself."""
    sizes = np.abs(array[np.isfinite(array)])
    most = float(sizes.max(initial=0))
    beyond = int(np.count_nonzero(sizes > MOST)) if most > MOST else 0
    whole = 0 < most < COARSE
    lost = int(np.count_nonzero(sizes if whole else (sizes > 0) & (sizes < LEAST)))
    return Constant(name, beyond, lost, whole)


def join_float32(model: ModelProto) -> None:
    """Let, in place, float32 nodes take the float32 results of others, where a converter put casts to float16 and back between.

    What float16 can't hold would not survive them.
    """
    made = {name: node for node in model.graph.node for name in node.output}
    outputs = {value.name for value in model.graph.output}
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.value_info)}
    renamed: dict[str, str] = {}
    for node in model.graph.node:
        before = made.get(node.input[0]) if _casts(node, TensorProto.FLOAT) else None
        if before is None or not _casts(before, TensorProto.FLOAT16) or kinds.get(before.input[0]) != TensorProto.FLOAT:
            continue
        source = renamed.get(before.input[0], before.input[0])
        if node.output[0] in outputs:
            node.op_type = "Identity"
            del node.attribute[:]
            node.input[0] = source
        else:
            renamed[node.output[0]] = source
    for node in model.graph.node:
        for inner in nodes_in(node):
            inner.input[:] = [renamed.get(name, name) for name in inner.input]
    taken = Counter(name for node in model.graph.node for inner in nodes_in(node) for name in inner.input)
    _drop(model, [name for name in renamed if not taken[name]], made)


def _drop(model: ModelProto, names: Iterable[str], made: Mapping[str, NodeProto]) -> None:
    for name in names:
        model.graph.node.remove(made[name])


def _casts(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and any(attribute.name == "to" and attribute.i == kind for attribute in node.attribute)


STEP = Step(
    key="float16-range",
    summary=(
        "A node stays in float32 if it takes a constant with values beyond 65504, or with values so small that float16 makes them 0. The "
        "nodes that take its result stay in float32 too."
    ),
    source="convert_np_to_float16 in onnxruntime/transformers/float16.py; onnxconverter-common#249, #268",
    cost="The weights of these nodes keep their size, and these nodes are computed in float32, with a Cast on either side.",
    methods=frozenset({"fp16"}),
    decide=decide,
)
