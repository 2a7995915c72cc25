"""A weight that a Gemm transposes and other nodes take as well gets a transposed copy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from onnx import numpy_helper

from harness.quantize.models.graph import all_inputs, free_name
from harness.quantize.steps.step import Changes, Step, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

TRANSPOSED = "_transposed"


def find(model: ModelProto, _: Recipe) -> tuple[str, ...]:
    """Name the weights that a Gemm transposes and something else takes, too."""
    uses = all_inputs(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    wanted = (node.input[1] for node in model.graph.node if transposes(node))
    return tuple(dict.fromkeys(name for name in wanted if uses[name] > 1 and name in stored))


def rewrite(model: ModelProto, names: Sequence[str]) -> Changes:
    """Give, in place, the Gemms that transpose one of these weights a transposed copy of it.

    The tool transposes a Gemm's weights where they are stored, whoever takes them besides: two such Gemms turn them twice. It gives
    a model that does not load, or, where the weights are square, one that computes something else without a word.
    """
    uses = all_inputs(model)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    turned: Counter[str] = Counter()
    copies: dict[str, str] = {}
    for node in model.graph.node:
        name = node.input[1] if transposes(node) else ""
        if name in names:
            if name not in copies:
                copies[name] = free_name(name + TRANSPOSED, {*uses, *stored})
                array = numpy_helper.to_array(stored[name])
                model.graph.initializer.append(numpy_helper.from_array(array.T.copy(), copies[name]))
            turned[name] += 1
            node.input[1] = copies[name]
            next(attribute for attribute in node.attribute if attribute.name == "transB").i = 0
    gone = [name for name, count in turned.items() if count == uses[name]]
    for name in gone:
        model.graph.initializer.remove(stored[name])
    notes = (f"weights that a Gemm transposes and other nodes take were stored transposed as well: {listed(copies)}",)
    return Changes(notes, tensors={name: (copy,) if name in gone else (name, copy) for name, copy in copies.items()})


def transposes(node: NodeProto) -> bool:
    """Say whether a node is a Gemm that transposes its weight."""
    return node.op_type == "Gemm" and any(attribute.name == "transB" and attribute.i for attribute in node.attribute)


STEP = Step(
    key="copy-transposed-weights",
    summary="A weight that a Gemm transposes and other nodes take as well gets a transposed copy for the Gemm.",
    source="replace_gemm_with_matmul in onnxruntime/quantization/onnx_model.py",
    cost="the weight is stored twice; no time",
    methods=frozenset({"dynamic", "nbits"}),
    find=find,
    rewrite=rewrite,
)
