"""Dynamic quantization: integer weights, activations quantized at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxruntime.quantization import QuantType, quantize_dynamic

from harness.quantize import opset, ort_options
from harness.quantize.method import Method, Tool, register
from harness.quantize.planning import sizes
from harness.quantize.quiet import quiet
from harness.quantize.rewriting import patched
from harness.quantize.target_nodes import CONSTANT_ONLY, DYNAMIC_OPS, is_matmul
from harness.quantize.verify import precision
from harness.study.variants import DynamicSpec

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.context import BuildContext
    from harness.quantize.model.outline import Node
    from harness.quantize.recipe import Recipe

GEMM, MATMUL = "Gemm", "MatMul"
RENAMED = "_MatMul"  # what onnxruntime appends to a Gemm's name when it rewrites it


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Quantize the prepared model.

    onnxruntime rewrites each Gemm as a MatMul, under another name, before it looks at op types and names of nodes. Names
    are translated here, and ``Gemm`` means these alone; ``MatMul`` means both, as it does for onnxruntime.
    """
    model = context.raised(recipe)
    nodes = model.proto.graph.node
    decision = context.decision(recipe)
    chosen, excluded = set(context.chosen(recipe)), {*context.excluded(recipe), *decision.float_nodes}
    kinds = set(recipe.op_types)
    if GEMM in kinds and MATMUL not in kinds:
        excluded |= {node.name for node in nodes if node.op_type == MATMUL}
        kinds.add(MATMUL)
    renamed = {node.name for node in nodes if node.op_type == GEMM}
    chosen |= {name + RENAMED for name in chosen & renamed}
    excluded |= {name + RENAMED for name in excluded & renamed}
    with quiet(), patched(recipe) as found:
        quantize_dynamic(
            model.path,
            path,
            op_types_to_quantize=sorted(kinds),
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            weight_type=QuantType[recipe.weight],
            nodes_to_quantize=sorted(chosen),
            nodes_to_exclude=sorted(excluded),
            extra_options=ort_options.translated(recipe, model.proto, model.changes),
            use_external_data_format=model.is_large,
        )
    raised = opset.notes(context.prepared.proto, model.proto)
    return (*context.notes(recipe), *decision.notes, *found, *raised, *ort_options.notes(recipe))


def _op_types(recipe: Recipe) -> frozenset[str]:
    """MatMul in a list means Gemm too: onnxruntime can't tell them apart once it has rewritten Gemm."""
    named = frozenset(recipe.op_types)
    return DYNAMIC_OPS & (named | ({GEMM} if MATMUL in named else set()) if named else DYNAMIC_OPS)


def _works_on(recipe: Recipe, node: Node, _: int) -> bool:
    if node.kind == GEMM and not is_matmul(recipe, node):
        return False
    free = node.kind == MATMUL and recipe.options().get("MatMulConstBOnly", True) is False
    return not (node.kind in CONSTANT_ONLY and node.lacks_weight) or free


METHOD = register(
    Method(
        spec=DynamicSpec,
        make=make,
        op_types=_op_types,
        works_on=_works_on,
        size=sizes.of_integers,
        differences=precision.differences,
        tool=Tool("quantize_dynamic", lambda _: "static"),
    )
)
