"""Walks over an ONNX model: its nodes and tensors, in subgraphs and functions too."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

MAIN_DOMAINS = ("", "ai.onnx")
CONTRIB = "com.microsoft"
CONSTANTS_ARE_NO_INPUTS = 4  # the first IR version that allows initializers that are no inputs

# Operators that work on quantized numbers: the ONNX standard's, then onnxruntime's own (docs/ContribOperators.md).
QUANTIZED_PREFIXES = ("QLinear", "QOrdered")
QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "GatherBlockQuantized",
        "MatMulBnb4",
        "MatMulFpQ4",
        "MatMulInteger16",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QMoE",
        "QuantizeBFP",
        "DequantizeBFP",
    }
)


def is_quantized(op_type: str) -> bool:
    """Say whether an operator works on quantized numbers."""
    return op_type in QUANTIZED_OPS or op_type.startswith(QUANTIZED_PREFIXES)


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yield every node: the graph's, those of the bodies of If, Loop and Scan, and those of the model's functions."""
    yield from _nested(model.graph.node)
    for function in model.functions:
        yield from _nested(function.node)


def inside(node: NodeProto) -> Iterator[NodeProto]:
    """Yield every node in the bodies of an If, Loop or Scan, and in those of the nodes there."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from _nested(graph.node)


def graphs(model: ModelProto) -> Iterator[GraphProto]:
    """Yield the main graph, and those of the bodies of If, Loop and Scan."""
    yield model.graph
    for node in _nested(model.graph.node):
        for attribute in node.attribute:
            yield from ([attribute.g] if attribute.HasField("g") else [])
            yield from attribute.graphs


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every stored tensor: initializers, sparse ones and attributes, of subgraphs and functions too."""
    yield from _initializers(model.graph)
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _initializers(graph)


def is_garbled(message: Any) -> bool:  # noqa: ANN401 - protobuf's messages have no typed base
    """Say whether a text field of a message, or of one inside it, is not UTF-8; protobuf gives it as bytes where it is read."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            if any(isinstance(text, bytes) for text in ([value] if isinstance(value, str | bytes) else value)):
                return True
        elif field.type == field.TYPE_MESSAGE and any(map(is_garbled, [value] if hasattr(value, "ListFields") else value)):
            return True
    return False


def opset_of(model: ModelProto) -> int | None:
    """Find the version of the standard operator set, or None if the model imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in MAIN_DOMAINS), None)


def strip_unused_opsets(model: ModelProto) -> None:
    """Drop, in place, the operator sets that no node uses; the standard one stays.

    onnxruntime's optimizer stamps every set it knows, and an older runtime refuses a model for a set that is too new for it
    even when nothing uses it (microsoft/onnxruntime#16584).
    """
    used = {node.domain for node in nodes(model)} | {function.domain for function in model.functions} | set(MAIN_DOMAINS)
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def all_inputs(model: ModelProto) -> Counter[str]:
    """Count who takes each tensor: nodes, those of subgraphs too, and the graph's outputs."""
    taken = Counter(name for node in model.graph.node for name in _taken(node))
    return taken + Counter(value.name for value in model.graph.output)


def free_name(name: str, taken: Collection[str]) -> str:
    """Give a name that is not taken: this one, or this one with underscores."""
    while name in taken:
        name += "_"
    return name


def tensor_names(model: ModelProto) -> set[str]:
    """Collect the names of all tensors, those of the bodies of If, Loop and Scan included."""
    found = {value.name for value in (*model.graph.input, *model.graph.output)}
    found |= {tensor.name for tensor in _initializers(model.graph)}
    for node in _nested(model.graph.node):
        found.update((*node.input, *node.output))
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found |= {value.name for value in (*graph.input, *graph.output)}
                found |= {tensor.name for tensor in _initializers(graph)}
    return found


def fix_initializers(model: ModelProto) -> None:
    """Make, in place, every initializer of the main graph a constant that says its shape itself.

    Up to IR version 3 each had to be an input too, which could change it: tools that add initializers break such a model, and
    onnxruntime folds and fuses nothing into an input. And where the shape of a constant is said a second time, as is left over when
    the node that made it was folded, onnxruntime's dynamic tool forgets it when it transposes a Gemm's weights.
    """
    fixed = {tensor.name for tensor in model.graph.initializer}
    fixed |= {tensor.values.name for tensor in model.graph.sparse_initializer}
    for said in (model.graph.input, model.graph.value_info):
        kept = [type(value).FromString(value.SerializeToString()) for value in said if value.name not in fixed]
        if len(kept) < len(said):
            del said[:]
            said.extend(kept)
    model.ir_version = max(model.ir_version, CONSTANTS_ARE_NO_INPUTS)


def import_contrib(model: ModelProto) -> bool:
    """Import, in place, onnxruntime's own operator set if a node uses it: its tools forget that for bodies and some algorithms.

    Returns:
        Whether it was missing.
    """
    used = any(node.domain == CONTRIB for node in nodes(model))
    if not used or any(entry.domain == CONTRIB for entry in model.opset_import):
        return False
    model.opset_import.add(domain=CONTRIB, version=1)
    return True


def sort_nodes(model: ModelProto) -> bool:
    """Put, in place, each node of the main graph after those that it needs; others keep their order.

    onnxruntime's tools sort too, but overlook what the bodies of If, Loop and Scan take from outside, and so give files that
    break the ONNX rules.

    Returns:
        Whether anything had to move.
    """
    listed = list(model.graph.node)
    maker = {name: index for index, node in enumerate(listed) for name in node.output if name}
    needed = [{maker[name] for name in _taken(node) if name in maker} - {index} for index, node in enumerate(listed)]
    takers: dict[int, list[int]] = {}
    for index, makers in enumerate(needed):
        for other in makers:
            takers.setdefault(other, []).append(index)
    ready = [index for index, makers in enumerate(needed) if not makers]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for taker in takers.get(index, ()):
            needed[taker].discard(index)
            if not needed[taker]:
                heapq.heappush(ready, taker)
    if order == list(range(len(listed))) or len(order) < len(listed):  # a cycle is the checker's to report
        return False
    copies = [type(node).FromString(node.SerializeToString()) for node in listed]
    del model.graph.node[:]
    model.graph.node.extend(copies[index] for index in order)
    return True


def name_nodes(model: ModelProto) -> None:
    """Give, in place, each unnamed node of the main graph the name ``OPTYPE_INDEX``, so that it can be excluded by name."""
    taken = {node.name for node in model.graph.node}
    for index, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{index}"
            node.name = name if name not in taken else f"{name}_unnamed"


def nodes_in(node: NodeProto) -> Iterator[NodeProto]:
    """Yield a node and those of its bodies, at any depth."""
    yield from _nested([node])


def taken_inside(node: NodeProto) -> Iterator[str]:
    """Yield the names that the bodies of an If, Loop or Scan take, their own tensors included."""
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _taken(inner)


def _taken(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node takes, those that its bodies take from outside included."""
    for inner in _nested([node]):
        yield from inner.input
        for attribute in inner.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from (value.name for value in graph.output)


def _nested(listed: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in listed:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nested(graph.node)


def _initializers(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
