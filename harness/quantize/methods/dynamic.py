"""Dynamic quantization: integer weights, activations quantized at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxruntime.quantization import QuantType, quantize_dynamic

from harness.quantize import opset, ort_options
from harness.quantize.quiet import quiet
from harness.quantize.rewriting import patched

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.context import Workshop
    from harness.quantize.recipe import Recipe

GEMM, MATMUL = "Gemm", "MatMul"
RENAMED = "_MatMul"  # what onnxruntime appends to a Gemm's name when it rewrites it


def make(recipe: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Quantize the prepared model.

    onnxruntime rewrites each Gemm as a MatMul, under another name, before it looks at op types and names of nodes. Names
    are translated here, and ``Gemm`` means these alone; ``MatMul`` means both, as it does for onnxruntime.
    """
    model = workshop.raised(recipe)
    nodes = model.proto.graph.node
    decision = workshop.decision(recipe)
    chosen, excluded = set(workshop.chosen(recipe)), {*workshop.excluded(recipe), *decision.float_nodes}
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
    raised = opset.notes(workshop.prepared.proto, model.proto)
    return (*workshop.notes(recipe), *decision.notes, *found, *raised, *ort_options.notes(recipe))
