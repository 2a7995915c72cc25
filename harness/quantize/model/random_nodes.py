"""The nodes of a model that draw random numbers: found by operator, in bodies and functions too."""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import AttributeProto, numpy_helper

from harness.quantize.model.graph import nodes_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence

    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto
    from onnx.onnx_ml_pb2 import TensorProto

    Constants = MutableMapping[str, TensorProto]
    Functions = Mapping[tuple[str, str], FunctionProto]

# ONNX's operators, and onnxruntime's Sampling (docs/ContribOperators.md). All take a seed, and still give something else on each
# call: https://onnx.ai/onnx/operators/ and onnxruntime/core/providers/cpu/generator/random.h.
RANDOM = frozenset({"Bernoulli", "Multinomial", "Sampling"})
RANDOM_PREFIX = "Random"  # RandomNormal, RandomNormalLike, RandomUniform, RandomUniformLike
# Dropout drops values only where its input training_mode is true, and its ratio is not 0: the positions of these two inputs.
DROPOUT = {"Dropout": (1, 2), "BitmaskDropout": (1, 2), "BiasDropout": (3, 4), "BitmaskBiasDropout": (3, 4)}
# BatchNormalization up to opset 13 is in training mode if it has more outputs than opset 14 knows.
INFERRED_MEAN = 3


@dataclass(frozen=True)
class RandomNode:
    """A node that draws random numbers.

    Attributes:
        op_type: its operator.
        name: its name, or that of its first output where it has none.
        inside: the If, Loop, Scan or function that it is in; empty for the main graph.
        certain: False for a Dropout whose training_mode is computed while the model runs, and for a BatchNormalization in training
            mode, which updates its running mean and variance on each call.
    """

    op_type: str
    name: str
    inside: str = ""
    certain: bool = True

    @property
    def text(self) -> str:
        """The node as messages name it: ``RandomNormalLike 'noise'``."""
        return f"{self.op_type} '{self.name}'" + (f" in {self.inside}" if self.inside else "")


def find(model: ModelProto) -> tuple[RandomNode, ...]:
    """List the random nodes that an output of the model depends on, in the order of the file.

    A body counts as a part of its node: what is random in one branch of an If is listed if the If matters to an output.
    """
    functions = {(each.domain, each.name): each for each in model.functions}
    return tuple(dict.fromkeys(_in_nodes(_live(model.graph), _constants(model.graph, {}), functions, "", ())))


def sentence(found: Sequence[RandomNode]) -> str | None:
    """Say what random nodes do to a model's outputs; for a model that was looked at and not run. None where there are none."""
    certain = [node for node in found if node.certain]
    if not found:
        return None
    what = f"draws random numbers ({listed(certain)})" if certain else f"may be in training mode ({listed(found)})"
    return (
        f"the model {what}: outputs that depend on {'them' if certain else 'it'} differ from run to run, so that a variant can't be compared "
        "with fp32, and calibrated ranges are those of one draw; export the model in inference mode, or make its random numbers an input"
    )


def listed(found: Sequence[RandomNode], most: int = 4) -> str:
    """Name the first few nodes."""
    names = [each.text for each in found[:most]]
    return ", ".join(names) + (f" and {len(found) - most} more" if len(found) > most else "")


def _live(graph: GraphProto) -> list[NodeProto]:
    """The nodes of the main graph that an output depends on."""
    needed = {value.name for value in graph.output}
    live: list[NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            live.append(node)
            for inner in nodes_in(node):
                needed.update(inner.input)
                for body in _bodies(inner):
                    needed.update(value.name for value in body.output)
    return live[::-1]


def _in_nodes(
    nodes: Iterable[NodeProto], constants: Constants, functions: Functions, inside: str, calls: tuple[tuple[str, str], ...]
) -> Iterator[RandomNode]:
    for node in nodes:
        called = (node.domain, node.op_type)
        if called in functions:
            if called not in calls:  # a function that calls itself is the checker's to report
                body = functions[called]
                yield from _in_nodes(body.node, _constants(body, {}), functions, f"function {body.name}", (*calls, called))
            continue
        certain = _is_random(node, constants)
        if certain is not None:
            yield RandomNode(node.op_type, node.name or next(filter(None, node.output), ""), inside, certain)
        for body_graph in _bodies(node):
            within = f"{node.op_type} '{node.name or next(filter(None, node.output), '')}'"
            yield from _in_nodes(body_graph.node, _constants(body_graph, constants), functions, within, calls)


def _is_random(node: NodeProto, constants: Mapping[str, TensorProto]) -> bool | None:
    """Whether a node draws random numbers for certain; False where that is decided while it runs, None where it never does."""
    if node.op_type in RANDOM or node.op_type.startswith(RANDOM_PREFIX):
        return True
    if node.op_type == "BatchNormalization":
        set_so = any(each.name == "training_mode" and each.i for each in node.attribute)
        return False if set_so or len(node.output) > INFERRED_MEAN else None
    if node.op_type not in DROPOUT:
        return None
    ratio, training = (_value(node, position, constants) for position in DROPOUT[node.op_type])
    if training is None or training is False or ratio == 0:
        return None
    return training is not ...


def _value(node: NodeProto, position: int, constants: Mapping[str, TensorProto]) -> object:
    """A scalar input's value: None where it is left out, an ellipsis where it is computed."""
    name = node.input[position] if len(node.input) > position else ""
    if not name:
        return None
    stored = constants.get(name)
    if stored is None or stored.external_data:
        return ...
    values = numpy_helper.to_array(stored).ravel()
    return values[0].item() if len(values) == 1 else ...


def _constants(graph: GraphProto | FunctionProto, outer: Constants) -> Constants:
    """The tensors that a graph stores, and those around it that it does not hide."""
    own = {tensor.name: tensor for tensor in getattr(graph, "initializer", ())}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                own[node.output[0]] = attribute.t
            elif node.op_type == "Constant" and attribute.name in {"value_float", "value_int"}:
                value = attribute.f if attribute.type == AttributeProto.FLOAT else attribute.i
                own[node.output[0]] = numpy_helper.from_array(np.asarray(value))
    # An initializer that is an input as well has a default that a caller may replace.
    for value_info in getattr(graph, "input", ()):
        if not isinstance(value_info, str):
            own.pop(value_info.name, None)
    return ChainMap(own, outer)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs
