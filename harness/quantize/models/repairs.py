"""Faults of onnxruntime's quantizers that are mended here, because no option goes around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.models.graph import all_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import GraphProto, ModelProto, NodeProto


def merge_repeated(model: ModelProto) -> None:
    """Remove, in place, nodes that give again what an earlier one gives, and initializers that nothing takes any more.

    ``MatMulNBitsQuantizer`` writes a DequantizeLinear of the same name and output for each MatMul that takes a weight, and some of its
    algorithms leave the weight in float beside its blocks.
    """
    merge_nodes(model)
    used = all_inputs(model)
    unused = [tensor for tensor in model.graph.initializer if tensor.name not in used]
    for tensor in unused:
        model.graph.initializer.remove(tensor)


def merge_nodes(model: ModelProto) -> None:
    """Remove, in place, nodes that give again what an earlier one gives, under the same name.

    onnxruntime's float16 converter writes a Cast of the same name for each node that stays in float32 and takes a tensor.
    """
    _merge(model.graph, {})


def _merge(graph: GraphProto, known: Mapping[str, NodeProto]) -> None:
    """Do so in a graph, where ``known`` are the nodes outside of it by their outputs."""
    own = {name: node for node in reversed(graph.node) for name in node.output if name}
    for node in list(graph.node):
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                _merge(body, {**known, **own})
        for name in node.output:
            first = known.get(name, own.get(name))
            if name and first is not None and first is not node and _alike(first, node):
                graph.node.remove(node)
                break


def _alike(one: NodeProto, other: NodeProto) -> bool:
    """Say whether nodes compute the same of the same tensors."""
    named = (list(one.input), list(one.output), one.op_type, one.domain)
    return named == (list(other.input), list(other.output), other.op_type, other.domain) and list(one.attribute) == list(
        other.attribute
    )
