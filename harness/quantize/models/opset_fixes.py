"""Operators that ONNX's version converter takes to another meaning, or not at all, and what is put in their place.

The converter leaves nodes of domains that it does not know alone. So a node of this table is held in such a domain while the
converter works on the others, and then becomes a node of the newer operator set that means the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.models.graph import MAIN_DOMAINS, opset_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

HELD = "quant-harness.held"


@dataclass
class Place:
    """Where a node is rebuilt: one graph, the main one or a body.

    Attributes:
        old: the operator set that the node was written in.
        new: the one that it is to be of.
        ranks: of tensors, as far as they are known.
        values: of constants.
        taken: names of tensors and nodes of the whole model.
        constants: to be added to the graph's initializers.
    """

    old: int
    new: int
    ranks: dict[str, int]
    values: dict[str, NDArray[Any]]
    taken: set[str]
    constants: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: Any, dtype: type = np.float32) -> str:  # noqa: ANN401 - what numpy takes
        """Add a constant, under a name that is free."""
        free = self.name(name)
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), free))
        return free

    def name(self, name: str) -> str:
        """Make a name that is free."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name


@dataclass(frozen=True)
class Fix:
    """One operator whose meaning the converter does not keep.

    Attributes:
        op_types: its names.
        at: the operator set that gave it its new meaning: nodes that come from below it are rebuilt.
        rebuild: gives the nodes of the newer operator set.
        fault: what the converter makes of it.
        source: where that is to be read.
    """

    op_types: tuple[str, ...]
    at: int
    rebuild: Callable[[NodeProto, Place], list[NodeProto]]
    fault: str
    source: str


def hold(model: ModelProto, version: int) -> None:
    """Put the nodes of the table, in place, where the converter leaves them alone: those in bodies too."""
    old = opset_of(model) or 0
    held = [node for graph in _graphs(model.graph) for node in graph.node if _fix_of(node, old, version)]
    for node in held:
        node.domain = HELD
    if held:
        model.opset_import.add(domain=HELD, version=old)


def release(model: ModelProto) -> None:
    """Rebuild, in place, the nodes that were held, in the operator set that the model has by now."""
    old = next((entry.version for entry in model.opset_import if entry.domain == HELD), None)
    if old is None:
        return
    graphs = list(_graphs(model.graph))
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for graph in graphs
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    values = dict(item for graph in graphs for item in _constants(graph))
    ranks |= {name: value.ndim for name, value in values.items()}
    taken = {name for graph in graphs for node in graph.node for name in (node.name, *node.input, *node.output)} | set(ranks)
    for graph in graphs:
        _rebuild(graph, Place(old, opset_of(model) or 0, ranks, values, taken))
    kept = [entry for entry in model.opset_import if entry.domain != HELD]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _rebuild(graph: GraphProto, place: Place) -> None:
    """Rebuild the nodes of one graph that were held."""
    if not any(node.domain == HELD for node in graph.node):
        return
    changed: list[NodeProto] = []
    for node in graph.node:
        copied = type(node).FromString(node.SerializeToString())
        if copied.domain == HELD:
            copied.domain = ""
            fix = _fix_of(copied, place.old, place.new)
            made = fix.rebuild(copied, place) if fix else [copied]
            # The node that does the work keeps the name, by which recipes exclude it.
            main = next((each for each in made if each.op_type in {node.op_type, "Resize"}), made[-1])
            main.name = node.name
            changed += made
        else:
            changed.append(copied)
    del graph.node[:]
    graph.node.extend(changed)
    graph.initializer.extend(place.constants)


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and the bodies in it, the innermost first."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)
    yield graph


def _constants(graph: GraphProto) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the values of small constants."""
    stored = [(tensor.name, tensor) for tensor in graph.initializer]
    stored += [(node.output[0], attribute.t) for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    for name, tensor in stored:
        if tensor.ByteSize() < SMALL and tensor.data_location != TensorProto.EXTERNAL:
            yield name, numpy_helper.to_array(tensor)


def _fix_of(node: NodeProto, old: int, new: int) -> Fix | None:
    """The row for a node, if it is crossed between two operator sets."""
    if node.domain not in MAIN_DOMAINS:
        return None
    return next((fix for fix in FIXES if node.op_type in fix.op_types and old < fix.at <= new), None)


def _attribute(node: NodeProto, name: str, usual: Any) -> Any:  # noqa: ANN401 - of any type
    found = next((each for each in node.attribute if each.name == name), None)
    return usual if found is None else helper.get_attribute_value(found)


def _resize(node: NodeProto, place: Place) -> list[NodeProto]:
    """Resize of opset 10, Upsample of opsets 7 to 9: output place x takes input place x / scale.

    Of nearest, onnxruntime takes the place below where an axis grows and the one above where it shrinks; one node of the newer
    operator set does one of both, so an image that grows and shrinks takes two.
    """
    mode = _attribute(node, "mode", b"nearest").decode()
    if len(node.input) > 1:
        known, scales = place.values.get(node.input[1]), node.input[1]
    else:
        known = np.asarray(_attribute(node, "scales", ()), np.float32)
        scales = place.constant(f"{node.output[0]}_scales", known)
    given = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    name = node.output[0]
    roi = "" if place.new >= ROI_IS_OPTIONAL else place.constant(f"{name}_roi", ())
    if mode != "nearest":
        return [helper.make_node("Resize", [node.input[0], roi, scales], [name], **given)]
    shrinks = known is not None and bool((known < 1).any())
    if not shrinks or known is None or not (known > 1).any():
        nearest = "ceil" if shrinks else "floor"
        return [helper.make_node("Resize", [node.input[0], roi, scales], [name], nearest_mode=nearest, **given)]
    grown = place.name(f"{name}_grown")
    up, down = (place.constant(f"{name}_{word}", part) for word, part in (("up", known.clip(1)), ("down", known.clip(None, 1))))
    return [
        helper.make_node(
            "Resize", [node.input[0], roi, up], [grown], place.name(f"{node.name}_up"), nearest_mode="floor", **given
        ),
        helper.make_node("Resize", [grown, roi, down], [name], nearest_mode="ceil", **given),
    ]


def _hardmax(node: NodeProto, place: Place) -> list[NodeProto]:
    """Hardmax of opset 12 and less: over all axes from the given one on, by default from the second."""
    axis = _attribute(node, "axis", 1)
    rank = place.ranks.get(node.input[0])
    if rank is not None and axis in {rank - 1, -1}:
        return [helper.make_node("Hardmax", list(node.input), list(node.output), axis=-1)]
    (given,), (name,) = node.input, node.output
    shape, flat, found = (place.name(f"{name}_{word}") for word in ("shape", "flat", "found"))
    return [
        helper.make_node("Shape", [given], [shape], place.name(f"{node.name}_shape")),
        helper.make_node("Flatten", [given], [flat], place.name(f"{node.name}_flat"), axis=axis),
        helper.make_node("Hardmax", [flat], [found], axis=-1),
        helper.make_node("Reshape", [found, shape], [name], place.name(f"{node.name}_reshape")),
    ]


def _group_normalization(node: NodeProto, place: Place) -> list[NodeProto]:
    """GroupNormalization of opsets 18 to 20: one scale and bias for each group, and not for each channel."""
    groups = _attribute(node, "num_groups", 1)
    data, name = node.input[0], node.output[0]
    made: list[NodeProto] = []

    def add(kind: str, inputs: list[str], word: str, **attributes: Any) -> str:  # noqa: ANN401 - of the operator
        output = place.name(f"{name}_{word}")
        made.append(helper.make_node(kind, inputs, [output], place.name(f"{node.name}_{word}"), **attributes))
        return output

    def ints(word: str, values: list[int]) -> str:
        return place.constant(f"{name}_{word}", values, np.int64)

    column, row = ints("column", [-1, 1]), ints("row", [-1])
    channels = add("Shape", [data], "channels", start=1, end=2)
    each = add("Div", [channels, ints("groups", [groups])], "each")
    repeated = add("Concat", [ints("one", [1]), each], "repeated", axis=0)
    wide = []
    for word, values in zip(("scale", "bias"), node.input[1:3], strict=True):
        standing = add("Reshape", [values, column], f"{word}_column")
        wide.append(add("Reshape", [add("Expand", [standing, repeated], f"{word}_wide"), row], word))
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return [*made, helper.make_node("GroupNormalization", [data, *wide], [name], **given)]


ROI_IS_OPTIONAL = 13
CONVERTER = "onnx/version_converter/adapters"
SMALL = 4096  # bytes of a constant whose value decides on a form
FIXES = (
    Fix(
        ("Resize", "Upsample"),
        11,
        _resize,
        "coordinate_transformation_mode becomes half_pixel, and of nearest the place is rounded; it was asymmetric and floor",
        f"{CONVERTER}/resize_10_11.h; the shapes of Resize-10 and Resize-11 in docs/Changelog.md of onnx",
    ),
    Fix(
        ("Hardmax",),
        13,
        _hardmax,
        "it is over the one axis, by default the last; it was over all axes from the given one on, by default the second",
        "onnx/version_converter/convert.h, which takes Hardmax 12 to 13 as compatible; Softmax it converts as it should",
    ),
    Fix(
        ("GroupNormalization",),
        21,
        _group_normalization,
        "scale and bias stay one for each group, and onnxruntime does not run it; they are one for each channel since",
        f"{CONVERTER}/group_normalization_20_21.h, which does nothing in onnx 1.23",
    ),
)
