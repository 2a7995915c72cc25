"""Faults of onnxruntime's quantizers that are mended here, because no option goes around them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.model.graph import all_inputs, free_name, tensor_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import GraphProto, ModelProto, NodeProto, TensorProto


def give_bodies_their_weights(model: ModelProto) -> None:
    """Store, in place, the integers of a weight beside the DequantizeLinear that takes them, where they are stored outside its body.

    ``MatMulNBitsQuantizer`` stores them in the graph that held the weight. onnxruntime joins DequantizeLinear and MatMul into a
    MatMulNBits, looks for the integers in the same graph only, and refuses the model (TransposeDQWeightsForMatMulNBits in
    onnxruntime/core/optimizer/qdq_transformer/selectors_actions/qdq_actions.cc).
    """
    _give_weights(model.graph, {}, tensor_names(model))


def _give_weights(graph: GraphProto, outside: Mapping[str, TensorProto], taken: set[str]) -> None:
    """Do so in a graph, where ``outside`` are the constants that it sees and does not hold, and ``taken`` the names in the model."""
    own = {tensor.name: tensor for tensor in graph.initializer}
    renamed: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in outside.keys() - own.keys():
            renamed |= {name: "" for name in (*node.input, *node.output) if name}
    for name in renamed:
        renamed[name] = free_name(f"{name}_body", taken)
        taken.add(renamed[name])
        if name in outside:
            copied = graph.initializer.add()
            copied.CopyFrom(outside[name])
            copied.name = renamed[name]
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                names[position] = renamed.get(name, name)
        for attribute in node.attribute:
            for body in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _give_weights(body, {**outside, **own}, taken)


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
