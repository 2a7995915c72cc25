"""Converts models in float16, bfloat16 or float64, and sparse constants, to what the quantizers take: dense float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.model.graph import free_name, graphs, nodes, tensor_names, tensors
from harness.quantize.model.outline import WEIGHT_INPUTS
from harness.quantize.reasons import RecipeError
from harness.quantize.step import Changes, Step, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TypeProto, ValueInfoProto

    from harness.quantize.recipe import Recipe

KINDS: Mapping[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16", TensorProto.DOUBLE: "float64"}
SPARSE = "sparse"
# Attributes that say the type of a node's result.
TYPED = frozenset({"dtype", "output_datatype", "to"})
LARGEST = float(np.finfo(np.float32).max)


def find(model: ModelProto, recipe: Recipe) -> tuple[str, ...]:
    """List what a recipe's tool can't take: the float types that the model computes in, and the word sparse.

    ``fp16`` takes float16 as it is. A type that is only used for sizes, such as float64 in the arithmetic of a Resize, is no
    reason.
    """
    found = [SPARSE] if any(True for _ in _sparse_names(model)) else []
    kinds = set(KINDS) - ({TensorProto.FLOAT16} if recipe.method == "fp16" else set())
    found += sorted(KINDS[kind] for kind in _computed_in(model) & kinds)
    return tuple(found)


def rewrite(model: ModelProto, found: Sequence[str]) -> Changes:
    """Make, in place, dense float32 of all of it; the model's inputs and outputs keep their types, by a Cast on either side.

    Raises:
        RecipeError: if a constant does not fit into float32; it is named.
    """
    notes = []
    if SPARSE in found:
        names = list(_sparse_names(model))
        _densify(model)
        notes.append(f"convert-constants: sparse constants were made dense: {listed(names)}")
    kinds = {kind for kind, name in KINDS.items() if name in found}
    if kinds:
        # Together: a model that mixes them has a Cast where they meet, which changes nothing any more.
        _convert(model, set(KINDS) if len(kinds) > 1 or TensorProto.DOUBLE not in kinds else {TensorProto.DOUBLE})
        names = [KINDS[kind] for kind in sorted(kinds)]
        notes.append(
            f"convert-constants: the model computes in {' and '.join(names)} and was converted to float32, because the tools handle nothing else"
        )
    return Changes(tuple(notes))


def _computed_in(model: ModelProto) -> set[int]:
    """The float types of what operators with weights take."""
    if not any(_mentioned(model)):
        return set()
    known = _types(model)
    made = {name: node for node in nodes(model) for name in node.output}
    found = set()
    for node in nodes(model):
        for position in (0, *WEIGHT_INPUTS.get(node.op_type, ())) if node.op_type in WEIGHT_INPUTS else ():
            name = node.input[position] if position < len(node.input) else ""
            found.add(known.get(name, 0))
            # A weight that is stored in another type and cast before it is used is no constant to the tools.
            maker = made.get(name)
            if maker is not None and maker.op_type == "Cast" and position:
                found.add(known.get(maker.input[0], 0))
    return found & set(KINDS)


def _mentioned(model: ModelProto) -> Iterator[bool]:
    """Whether one of these types is anywhere in a model; most have none, and need no shape inference."""
    yield from (value.type.tensor_type.elem_type in KINDS for value in model.graph.input)
    yield from (tensor.data_type in KINDS for tensor in tensors(model))
    yield from (attribute.i in KINDS for node in nodes(model) for attribute in node.attribute if attribute.name in TYPED)


def _types(model: ModelProto) -> dict[str, int]:
    """The element types of tensors, as far as shape inference tells."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # noqa: BLE001 - what it can't tell is not known
        inferred = model
    found: dict[str, int] = {}
    for graph in graphs(inferred):
        for value in (*graph.input, *graph.value_info, *graph.output):
            found[value.name] = value.type.tensor_type.elem_type
        found |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        found |= {sparse.values.name: sparse.values.data_type for sparse in graph.sparse_initializer}
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.HasField("t"):
                    found[node.output[0]] = attribute.t.data_type
    return found


def _sparse_names(model: ModelProto) -> Iterator[str]:
    for graph in graphs(model):
        yield from (sparse.values.name for sparse in graph.sparse_initializer)
    for node in nodes(model):
        yield from (node.output[0] for attribute in node.attribute if attribute.HasField("sparse_tensor"))


def _densify(model: ModelProto) -> None:
    for graph in graphs(model):
        graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
        del graph.sparse_initializer[:]
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor"):
                tensor = _dense(attribute.sparse_tensor)
                attribute.CopyFrom(helper.make_attribute("value", tensor))


def _dense(sparse: SparseTensorProto) -> TensorProto:
    """Write a sparse tensor out; its places are counted through, or given axis by axis: [NNZ] or [NNZ, rank]."""
    values, places = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        array.reshape(-1)[places] = values
    else:
        array[tuple(places.T)] = values
    return numpy_helper.from_array(array, sparse.values.name)


def _convert(model: ModelProto, kinds: set[int]) -> None:
    """Replace types everywhere: in constants, attributes and declared types, of bodies and functions too."""
    taken = tensor_names(model)
    graph = model.graph
    before = [_enter(model, value, taken) for value in graph.input if value.type.tensor_type.elem_type in kinds]
    # An output that is an input as well is passed on as it is.
    given = {value.name for value in graph.input}
    outputs = [value for value in graph.output if value.name not in given]
    behind = [_leave(model, value, taken) for value in outputs if value.type.tensor_type.elem_type in kinds]
    for each in graphs(model):
        for tensor in each.initializer:
            _retype(tensor, kinds, tensor.name)
        values = each.value_info if each is graph else (*each.input, *each.output, *each.value_info)
        for value in values:
            _retype_value(value.type, kinds)
    for function in model.functions:
        for value in function.value_info:
            _retype_value(value.type, kinds)
    for node in nodes(model):
        _retype_attributes(node, kinds)
    kept = [type(node).FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*before, *kept, *behind])


def _enter(model: ModelProto, value: ValueInfoProto, taken: set[str]) -> NodeProto:
    """Let everything that takes an input take its float32 copy."""
    inside = free_name(f"{value.name}_float32", taken)
    taken.add(inside)
    _replace(model.graph, value.name, inside, outputs=False)
    return helper.make_node("Cast", [value.name], [inside], free_name(f"{inside}_cast", taken), to=TensorProto.FLOAT)


def _leave(model: ModelProto, value: ValueInfoProto, taken: set[str]) -> NodeProto:
    """Let the node that gives an output give a float32 one, under another name."""
    graph = model.graph
    inside = free_name(f"{value.name}_float32", taken)
    taken.add(inside)
    _replace(graph, value.name, inside, outputs=True)
    for tensor in graph.initializer:
        tensor.name = inside if tensor.name == value.name else tensor.name
    return helper.make_node(
        "Cast", [inside], [value.name], free_name(f"{value.name}_float32_cast", taken), to=value.type.tensor_type.elem_type
    )


def _replace(graph: GraphProto, old: str, new: str, *, outputs: bool) -> None:
    """Rename a tensor wherever nodes, of bodies too, take it, and perhaps where one gives it."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        if outputs:
            node.output[:] = [new if name == old else name for name in node.output]
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                for value in body.output:
                    value.name = new if value.name == old else value.name
                _replace(body, old, new, outputs=outputs)
    for value in graph.value_info:
        value.name = new if value.name == old else value.name


def _retype_attributes(node: NodeProto, kinds: set[int]) -> None:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            _retype(attribute.t, kinds, node.output[0] if node.output else node.name)
        for tensor in attribute.tensors:
            _retype(tensor, kinds, node.name)
        if attribute.name in TYPED and attribute.i in kinds:
            attribute.i = TensorProto.FLOAT
        if attribute.HasField("tp"):
            _retype_value(attribute.tp, kinds)


def _retype(tensor: TensorProto, kinds: set[int], name: str) -> None:
    """Convert a stored tensor.

    Raises:
        RecipeError: if a number is too large for float32.
    """
    if tensor.data_type not in kinds:
        return
    array = numpy_helper.to_array(tensor).astype(np.float64)
    sizes = np.abs(array[np.isfinite(array)])
    if sizes.size and float(sizes.max()) > LARGEST:
        message = (
            f"constant '{name}' holds values beyond float32's range, such as {float(sizes.max()):g}, and onnxruntime's tools quantize "
            "float32 models only; scale the model so that its constants fit into float32"
        )
        raise RecipeError(message)
    converted = numpy_helper.from_array(array.astype(np.float32), tensor.name)
    tensor.CopyFrom(converted)


def _retype_value(kind: TypeProto, kinds: set[int]) -> None:
    """Replace types in a declared type: of a tensor, a sequence of them or an optional one."""
    if kind.HasField("tensor_type"):
        if kind.tensor_type.elem_type in kinds:
            kind.tensor_type.elem_type = TensorProto.FLOAT
    elif kind.HasField("sequence_type"):
        _retype_value(kind.sequence_type.elem_type, kinds)
    elif kind.HasField("optional_type"):
        _retype_value(kind.optional_type.elem_type, kinds)


STEP = Step(
    key="convert-constants",
    summary=(
        "A model that computes in float16, bfloat16 or float64 is converted to float32. Its inputs and outputs keep their types. Sparse "
        "constants are made dense."
    ),
    source="is_valid_quantize_weight and _is_tensor_quantizable in onnxruntime/quantization; onnxruntime#15341, #13358",
    cost="What stays in float has the size of float32, which is twice that of float16. A Cast is added at each input and output of the old type.",
    methods=frozenset({"dynamic", "static", "nbits", "fp16"}),
    find=find,
    rewrite=rewrite,
    on="source",
)
