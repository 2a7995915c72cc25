"""Dynamic quantization: integer weights, activations quantized at run time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from harness.quantize.models import repairs, storage
from harness.quantize.quiet import quiet
from harness.quantize.recipes import options

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Recipe
    from harness.quantize.workshop import Workshop

GEMM, MATMUL = "Gemm", "MatMul"
RENAMED = "_MatMul"  # what onnxruntime appends to a Gemm's name when it rewrites it


def make(recipe: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Quantize the prepared model.

    onnxruntime rewrites each Gemm as a MatMul, under another name, before it looks at op types and names of nodes. Names
    are translated here, and ``Gemm`` means these alone; ``MatMul`` means both, as it does for onnxruntime.
    """
    nodes = workshop.prepared.proto.graph.node
    chosen, excluded = set(workshop.chosen(recipe)), set(workshop.excluded(recipe))
    kinds = set(recipe.op_types)
    if GEMM in kinds and MATMUL not in kinds:
        excluded |= {node.name for node in nodes if node.op_type == MATMUL}
        kinds.add(MATMUL)
    renamed = {node.name for node in nodes if node.op_type == GEMM}
    chosen |= {name + RENAMED for name in chosen & renamed}
    excluded |= {name + RENAMED for name in excluded & renamed}
    with quiet():
        quantize_dynamic(
            _parted(workshop, path),
            path,
            op_types_to_quantize=sorted(kinds),
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            weight_type=QuantType[recipe.weight],
            nodes_to_quantize=sorted(chosen),
            nodes_to_exclude=sorted(excluded),
            extra_options=options.translated(recipe, workshop.prepared.proto),
            use_external_data_format=workshop.prepared.is_large,
        )
    return (*workshop.notes(recipe), *options.notes(recipe))


def _parted(workshop: Workshop, path: Path) -> Path:
    """Give the file that is quantized: the prepared one, or one beside the variant where that would be broken by the tool."""
    if not repairs.has_shared_transposed(workshop.prepared.proto):
        return workshop.prepared.path
    model = onnx.load(workshop.prepared.path)
    repairs.part_shared_transposed(model)
    beside = path.with_name(f"{path.stem}-parted.onnx")
    storage.write(model, beside)
    return beside
