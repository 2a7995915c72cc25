"""Renames tensors and nodes whose names the tools would give to something that they add."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from onnx import helper

from harness.quantize.model.graph import free_name, sort_nodes, tensor_names
from harness.quantize.model.graph import nodes as all_nodes
from harness.quantize.step import Changes, Step, listed
from harness.quantize.steps.roles import BIAS, BIASED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import GraphProto, ModelProto

    from harness.quantize.recipe import Recipe

RENAMED = "_renamed"
# What the tools append to the name of a tensor, by the module that does it.
OF_TENSORS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime/quantization/base_quantizer.py": (r"_quantized(_scale|_zero_point)?", r"_(scale|zero_point)(_convert)?"),
    "onnxruntime/quantization/quant_utils.py": (r"(_convert(_clone)?)?_(Quantize|Dequantize)Linear(_Input|_Output)?(_\d+)?",),
    "onnxruntime/quantization/onnx_quantizer.py": (
        r"_Reduce(Min|Max)(_Abs)?(:0)?",
        r"_Abs_Max(:0)?",
        r"_?scale_(Div|Sub)(:0)?",
        r"_zero_point_(Sub|Div|Floor|Cast)(:0)?",
    ),
    "onnxruntime/quantization/calibrate.py": (r"_Reduce(Min|Max)(_Reshape)?",),
    "onnxruntime/quantization/operators": (
        r"_bias_(reshape_shape|reshape_output|add)",
        r"_output_quantized(_cast(_output)?)?",
        r"quant_scaled_output",
        r"quantized",
    ),
    "onnxruntime/quantization/onnx_model.py": (r"_MatMul", r"_Transposed"),
}
OF_NODES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime/quantization/operators": (r"_quant(_scales_mul(:0)?|_output_scale_mul)?",),
    "onnxruntime/quantization/onnx_model.py": (r"_(MatMul|Add|Transpose)",),
}
OF_BLOCKS = (
    *(r"(_DQ)?_Q\d(G-?\d+)?(_output(_transposed)?)?", r"(_DQ)?_(scales?|zero_points?|zp)", r"_pre_reshape"),
    *(r"_matmul_Q\d", r"_(MatMul|Add|Transpose|Transposed)"),
)
OF_HALVES = (r"_cast_to_(?!\w*_renamed)\w+", r"_(input|output)_cast_?\d+")
FIXED = re.compile(r"fixed_(quantization_range_u?int8|zero|zero_zp)|graph_(input|output)_cast_?\d+")


class Collision(NamedTuple):
    """A name of the model that a tool would give to something that it adds.

    Attributes:
        name: of a tensor or a node of the model.
        base: the tensor or node from whose name the tool makes this one; empty if the tool always uses it.
    """

    name: str
    base: str


def find(model: ModelProto, recipe: Recipe) -> tuple[Collision, ...]:
    """List the names of the model that a recipe's tool would give to something that it adds."""
    nodes = {node.name for node in all_nodes(model) if node.name}
    names = sorted((tensor_names(model) - {""}) | nodes)
    # What only an Identity takes or gives is left as it is by every tool.
    worked_on = {name for node in all_nodes(model) if node.op_type != "Identity" for name in (*node.input, *node.output)}
    on_tensors, on_nodes = _patterns(recipe.method)
    found = dict.fromkeys(_collisions(names, worked_on, nodes, on_tensors, on_nodes))
    if recipe.format == "QDQ" and recipe.method == "static":
        found |= dict.fromkeys(_numbered(model, names))
    return tuple(found)


def rewrite(model: ModelProto, found: Sequence[Collision]) -> Changes:
    """Rename, in place, what is found; inputs and outputs of the graph keep their names.

    Where a name is an input's or output's, its base is renamed; where that is one as well, an Identity parts it from the tensor
    that nodes take.
    """
    graph = model.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    taken = tensor_names(model) | {node.name for node in all_nodes(model)}
    nodes = {node.name for node in graph.node}
    names: dict[str, str] = {}
    for name, base in found:
        wanted = name if name not in fixed else base
        if not wanted or wanted in names:
            continue
        names[wanted] = free_name(wanted + RENAMED, taken)
        taken.add(names[wanted])
    inputs, outputs = ({value.name for value in values} for values in (graph.input, graph.output))
    _rename(graph, names)
    for name, new in names.items():
        if name in inputs:
            graph.node.insert(0, helper.make_node("Identity", [name], [new], free_name(f"{new}_identity", taken)))
        if name in outputs:
            graph.node.append(helper.make_node("Identity", [new], [name], free_name(f"{new}_identity", taken)))
    sort_nodes(model)
    notes = (
        f"rename-colliding-names: renamed, because the tool gives these names to tensors and nodes that it adds: {listed(names)}",
    )
    return Changes(notes, {old: new for old, new in names.items() if old in nodes}, {old: (new,) for old, new in names.items()})


def _patterns(method: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What a method's tools append to tensors, and to nodes."""
    if method == "fp16":
        both = [*OF_HALVES]
        return _any(both), _any(both)
    if method == "nbits":
        return _any([*OF_BLOCKS]), _any([*OF_BLOCKS])
    return _any([each for group in OF_TENSORS.values() for each in group]), _any(
        [each for group in OF_NODES.values() for each in group]
    )


def _any(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def _collisions(
    names: Sequence[str], tensors: set[str], nodes: set[str], on_tensors: re.Pattern[str], on_nodes: re.Pattern[str]
) -> Iterator[Collision]:
    for name in names:
        if FIXED.fullmatch(name):
            yield Collision(name, "")
            continue
        for end in range(1, len(name)):
            base = name[:end]
            by_tensor = base in tensors and on_tensors.fullmatch(name, end)
            if by_tensor or (base in nodes and on_nodes.fullmatch(name, end)):
                yield Collision(name, base)
                break


def _numbered(model: ModelProto, names: Sequence[str]) -> Iterator[Collision]:
    """Find what is called like the copies, bias1 and bias2, that QDQQuantizer makes of a bias with several takers."""
    stored = {tensor.name for tensor in model.graph.initializer}
    takers = Counter(node.input[BIAS] for node in model.graph.node if node.op_type in BIASED and len(node.input) > BIAS)
    for base in sorted(name for name, count in takers.items() if count > 1 and name in stored):
        like = re.compile(re.escape(base) + r"\d+")
        yield from (Collision(name, base) for name in names if name not in stored and like.fullmatch(name))


def _rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors and nodes in a graph and the bodies of its nodes; the main graph's inputs and outputs keep their names."""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    for annotation in graph.quantization_annotation:
        annotation.tensor_name = names.get(annotation.tensor_name, annotation.tensor_name)
    for node in graph.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                for value in (*body.input, *body.output):
                    value.name = names.get(value.name, value.name)
                _rename(body, names)


STEP = Step(
    key="rename-colliding-names",
    summary="A tensor or node is renamed if its name is one that the tool gives to something it adds, such as `w_scale` for a weight `w`.",
    source="generated names in onnxruntime/quantization and onnxruntime/transformers/float16.py; onnxruntime#17760, #8811",
    cost="Nothing. Where inputs or outputs of the graph collide with one another, an Identity is added, which the runtime removes.",
    methods=frozenset({"dynamic", "static", "nbits", "fp16"}),
    find=find,
    rewrite=rewrite,
)
