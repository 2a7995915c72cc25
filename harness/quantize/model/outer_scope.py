"""What the bodies of If, Loop and Scan take from outside, kept in float32 where the node itself is.

A converter that leaves such a node alone leaves its bodies alone too, but not the tensors that these take from the graph around
them: those it turns to float16 under the same name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from harness.quantize.model.graph import nodes_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import ModelProto, NodeProto


def float_tensors(model: ModelProto) -> set[str]:
    """List the tensors of the main graph that are float32, as far as shape inference tells."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    found = {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def keep(model: ModelProto, names: Collection[str], floats: Collection[str]) -> None:
    """Give, in place, the bodies of some nodes what they take from outside as float32.

    Args:
        model: as a converter made it.
        names: of the nodes that it left alone.
        floats: the tensors that were float32 before.
    """
    changed: list[NodeProto] = []
    for node in model.graph.node:
        taken = _rename(node, floats) if node.name in names else {}
        changed += [
            helper.make_node("Cast", [name], [inside], f"{inside}_cast", to=TensorProto.FLOAT) for name, inside in taken.items()
        ]
        changed.append(node)
    if len(changed) > len(model.graph.node):
        copies = [type(node).FromString(node.SerializeToString()) for node in changed]
        del model.graph.node[:]
        model.graph.node.extend(copies)


def _rename(node: NodeProto, floats: Collection[str]) -> dict[str, str]:
    """Rename, in place, what a node's bodies take from outside; returns the new names by the old ones."""
    inside = [inner for inner in nodes_in(node) if inner is not node]
    bodies = [graph for inner in nodes_in(node) for each in inner.attribute for graph in (each.g, *each.graphs)]
    own = {name for inner in inside for name in inner.output}
    own |= {value.name for graph in bodies for value in (*graph.input, *graph.initializer)}
    renamed: dict[str, str] = {}
    for inner in inside:
        for position, name in enumerate(inner.input):
            if name in floats and name not in own:
                inner.input[position] = renamed.setdefault(name, f"{name}_in_{node.name}")
    return renamed
