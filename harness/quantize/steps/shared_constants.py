"""Copies a constant that several nodes take, one copy for each way to quantize it, because a quantizer quantizes it once for all."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from onnx import TensorProto

from harness.quantize.model.graph import free_name, taken_inside, tensor_names
from harness.quantize.step import SHOWN, Changes, Step, listed
from harness.quantize.steps.roles import FLOAT, Roles

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe

INTEL = frozenset({"RTN", "k_quant", "GPTQ"})  # algorithms of nbits that come from Intel Neural Compressor
BYTES = 4  # of a float32 value


class Copy(NamedTuple):
    """A copy that is needed.

    Attributes:
        constant: what is copied.
        takers: nodes and positions of their inputs: indices of the main graph.
    """

    constant: str
    takers: tuple[tuple[int, int], ...]


def find(model: ModelProto, recipe: Recipe) -> tuple[Copy, ...]:
    """List the copies that a recipe needs."""
    if recipe.method == "nbits" and recipe.algorithm not in INTEL:
        return ()
    graph = model.graph
    stored = {tensor.name: len(tensor.dims) for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}
    roles = Roles(recipe)
    takers: dict[str, dict[Hashable, list[tuple[int, int]]]] = {}
    for index, node in enumerate(graph.node):
        for position, name in enumerate(node.input):
            if name in stored:
                role = roles.of(node, position, stored[name])
                takers.setdefault(name, {}).setdefault(role, []).append((index, position))
    # A graph's outputs, and the bodies of If, Loop and Scan, take constants as they are, under their own names.
    kept = {value.name for value in graph.output}
    kept |= {name for node in graph.node for name in taken_inside(node)}
    found = []
    for name, groups in takers.items():
        # The tools for blocks leave a constant where other nodes take it; those of Neural Compressor overlook outputs and bodies.
        as_it_is = name in kept or (FLOAT in groups and recipe.method != "nbits")
        others = [tuple(group) for role, group in groups.items() if role != FLOAT]
        found += [Copy(name, group) for group in (others if as_it_is else others[1:])]
    return tuple(found)


def rewrite(model: ModelProto, copies: Sequence[Copy]) -> Changes:
    """Make, in place, the copies."""
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    taken = tensor_names(model)
    names: dict[str, tuple[str, ...]] = {}
    told: dict[str, list[str]] = {}
    size = 0
    for constant, takers in copies:
        tensor = TensorProto()
        tensor.CopyFrom(stored[constant])
        tensor.name = free_name(f"{constant}_copy", taken)
        taken.add(tensor.name)
        graph.initializer.append(tensor)
        size += BYTES * prod(tensor.dims)
        names[constant] = (*names.get(constant, (constant,)), tensor.name)
        for index, position in takers:
            graph.node[index].input[position] = tensor.name
            told.setdefault(constant, []).append(graph.node[index].name)
    lines = [f"'{constant}' for {listed(nodes)}" for constant, nodes in list(told.items())[:SHOWN]]
    more = f" and {len(told) - SHOWN} more constants" if len(told) > SHOWN else ""
    note = (
        f"copy-shared-constants: copied, because the tool would quantize a constant once for all nodes that take it: {'; '.join(lines)}{more}; "
        f"{size:,} bytes more in float32"
    )
    return Changes((note,), tensors=names)


STEP = Step(
    key="copy-shared-constants",
    summary="A constant that several nodes take is copied for those that need another scale, axis or integer type than the first.",
    source="quantized_value_map and tensors_to_quantize in onnxruntime/quantization/onnx_quantizer.py and qdq_quantizer.py; "
    "insightface#1722, Olive#2240, onnxruntime#17760",
    cost="Each copy is stored separately, a weight as integers. No time.",
    methods=frozenset({"dynamic", "static", "nbits"}),
    find=find,
    rewrite=rewrite,
)
