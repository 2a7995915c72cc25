"""Gives a Gemm that transposes its weight a transposed copy, if other nodes take the weight too."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from onnx import numpy_helper

from harness.quantize.model.graph import all_inputs, free_name, graphs, tensor_names
from harness.quantize.step import Changes, Step, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

TRANSPOSED = "_transposed"


def find(model: ModelProto, _: Recipe) -> tuple[str, ...]:
    """Name the weights that a Gemm transposes and something else takes, too."""
    uses = all_inputs(model)
    stored = {tensor.name for graph in graphs(model) for tensor in graph.initializer}
    wanted = (node.input[1] for graph in graphs(model) for node in graph.node if transposes(node))
    return tuple(dict.fromkeys(name for name in wanted if uses[name] > 1 and name in stored))


def rewrite(model: ModelProto, names: Sequence[str]) -> Changes:
    """Give, in place, the Gemms that transpose one of these weights a transposed copy of it.

    The tool transposes a Gemm's weight in place, even if other nodes take it: two such Gemms transpose it twice. The result is a
    model that does not load or, if the weight is square, one that silently computes something else.
    """
    holders = {tensor.name: (graph, tensor) for graph in graphs(model) for tensor in graph.initializer}
    uses, taken = all_inputs(model), tensor_names(model)
    turned: Counter[str] = Counter()
    copies: dict[str, str] = {}
    for node in [node for graph in graphs(model) for node in graph.node if transposes(node)]:
        name = node.input[1]
        if name not in names:
            continue
        graph, tensor = holders[name]
        if name not in copies:
            copies[name] = free_name(name + TRANSPOSED, taken)
            taken.add(copies[name])
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(tensor).T.copy(), copies[name]))
        turned[name] += 1
        node.input[1] = copies[name]
        next(attribute for attribute in node.attribute if attribute.name == "transB").i = 0
    gone = [name for name, count in turned.items() if count == uses[name]]
    for name in gone:
        graph, tensor = holders[name]
        graph.initializer.remove(tensor)
    notes = (
        f"copy-transposed-weights: stored transposed as well, because a Gemm transposes them and other nodes take them too: {listed(copies)}",
    )
    return Changes(notes, tensors={name: (copy,) if name in gone else (name, copy) for name, copy in copies.items()})


def transposes(node: NodeProto) -> bool:
    """Say whether a node is a Gemm that transposes its weight."""
    return node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


STEP = Step(
    key="copy-transposed-weights",
    summary="A Gemm that transposes its weight gets a transposed copy of it if other nodes take the weight too.",
    source="replace_gemm_with_matmul in onnxruntime/quantization/onnx_model.py",
    cost="The weight is stored twice. No time.",
    methods=frozenset({"dynamic", "nbits"}),
    find=find,
    rewrite=rewrite,
)
