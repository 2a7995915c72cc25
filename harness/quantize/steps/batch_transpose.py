"""Keeps a Transpose of fp16 models in float32 if it moves the batch axis and a MatMul takes its result: onnxruntime dies of it.

The CPU provider casts MatMul to float32, moves the Transpose behind the Cast and joins the two in one node (MatmulTransposeFusion). Where the
Transpose moves the first axis behind the others, the next optimizer (NchwcTransformer) then ends the process with SIGSEGV. The cause is
the order of Transpose and Cast, so a MatMul that stays in float32 dies as well, and a Transpose in float32 does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.quantize.step import Decision, Step, staying

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

LEAST = 3  # axes: with two there is no batch
# onnxruntime removes these before if they do nothing.
PASSING = frozenset(
    {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Dropout", "Expand", "Slice", "Concat", "Pad"}
)


def decide(model: ModelProto, _: Recipe, __: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Name such nodes."""
    moved: dict[str, set[str]] = {}
    for node in model.graph.node:
        if node.op_type == "Transpose" and moves_batch(node):
            moved.setdefault(node.output[0], set()).add(node.name)
    if not moved:
        return Decision()
    before = -1
    # Nodes need not be in order; the sets only grow.
    while before != (before := sum(map(len, moved.values()))):
        for node in model.graph.node:
            if node.op_type in PASSING:
                for name in filter(None, node.output):
                    moved.setdefault(name, set()).update(_taken(node, moved))
    found = {name for node in model.graph.node if node.op_type == "MatMul" for name in _taken(node, moved)}
    if not found:
        return Decision()
    names = [node.name for node in model.graph.node if node.name in found]
    note = (
        f"batch-transpose: {staying(names)} in float32: onnxruntime ends the process when it joins a float16 Transpose that moves the "
        "batch axis with a MatMul"
    )
    return Decision(tuple(names), (note,))


def _taken(node: NodeProto, moved: Mapping[str, set[str]]) -> set[str]:
    """Name the Transposes whose results a node takes."""
    return {name for taken in node.input for name in moved.get(taken, ())}


def moves_batch(node: NodeProto) -> bool:
    """Whether a Transpose moves the first axis behind all others, or behind all but the last."""
    axes: Sequence[int] = next((attribute.ints for attribute in node.attribute if attribute.name == "perm"), ())
    rank = len(axes)
    shifted = [*range(1, rank - 1), 0, rank - 1]
    return rank >= LEAST and list(axes) in (shifted, [*range(1, rank), 0])


STEP = Step(
    key="batch-transpose",
    summary="A Transpose that moves the first axis behind the others stays in float32 if a MatMul takes its result.",
    source=(
        "MatmulTransposeFusion in onnxruntime/core/optimizer/matmul_transpose_fusion.cc and NchwcTransformer in nchwc_transformer.cc: "
        "the process ends with SIGSEGV"
    ),
    cost="The node takes and gives float32, with a Cast on either side.",
    methods=frozenset({"fp16"}),
    decide=decide,
)
