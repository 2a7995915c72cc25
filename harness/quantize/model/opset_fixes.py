"""Operators that ONNX's version converter refuses, or gives another meaning, and the nodes that replace them.

The converter leaves nodes of unknown domains alone. So a node of this table is moved to such a domain while the converter works on the
others, and then becomes a node of the newer operator set with the same meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnx import TensorProto, numpy_helper

from harness.quantize.model.graph import MAIN_DOMAINS, opset_of
from harness.quantize.model.opset_nodes import Place, attribute, group_normalization, hardmax, normalization_of_all, pad, resize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

HELD = "quant-harness.held"


@dataclass(frozen=True)
class Fix:
    """One operator whose meaning the converter does not keep.

    Attributes:
        op_types: its names.
        at: the operator set that gave it its new meaning: nodes that come from below it are rebuilt.
        rebuild: gives the nodes of the newer operator set.
        fault: what the converter makes of it.
        source: where that is to be read.
        when: which of these nodes it is about.
    """

    op_types: tuple[str, ...]
    at: int
    rebuild: Callable[[NodeProto, Place], list[NodeProto]]
    fault: str
    source: str
    when: Callable[[NodeProto], bool] = lambda _: True


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
        for each in node.attribute:
            for inner in (*([each.g] if each.HasField("g") else []), *each.graphs):
                yield from _graphs(inner)
    yield graph


def _constants(graph: GraphProto) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the values of small constants."""
    stored = [(tensor.name, tensor) for tensor in graph.initializer]
    stored += [
        (node.output[0], each.t)
        for node in graph.node
        if node.op_type == "Constant"
        for each in node.attribute
        if each.HasField("t")
    ]
    for name, tensor in stored:
        if tensor.ByteSize() < SMALL and tensor.data_location != TensorProto.EXTERNAL:
            yield name, numpy_helper.to_array(tensor)


def _fix_of(node: NodeProto, old: int, new: int) -> Fix | None:
    """The row for a node, if it is crossed between two operator sets."""
    if node.domain not in MAIN_DOMAINS:
        return None
    return next((fix for fix in FIXES if node.op_type in fix.op_types and old < fix.at <= new and fix.when(node)), None)


CONVERTER = "onnx/version_converter/adapters"
SMALL = 4096  # bytes of a constant whose value decides on a form
FIXES = (
    Fix(
        ("Resize", "Upsample"),
        11,
        resize,
        "It sets `coordinate_transformation_mode` to half_pixel and, with mode nearest, rounds positions. Before opset 11 Resize meant asymmetric, and floor.",
        f"{CONVERTER}/resize_10_11.h; the shapes of Resize-10 and Resize-11 in docs/Changelog.md of onnx",
    ),
    Fix(
        ("Pad",),
        11,
        pad,
        "It refuses a Pad with an attribute `value` and a mode other than constant, in which `value` means nothing.",
        f"{CONVERTER}/pad_10_11.h",
        lambda node: attribute(node, "mode", b"constant") != b"constant",
    ),
    Fix(
        ("Hardmax",),
        13,
        hardmax,
        "It keeps `axis`. Hardmax of opset 13 works along that one axis, by default the last. Before, it worked over all axes from the given one on, by default the second.",
        "onnx/version_converter/convert.h, which takes Hardmax 12 and 13 for compatible; it converts Softmax correctly",
    ),
    Fix(
        ("GroupNormalization",),
        21,
        group_normalization,
        "It keeps one scale and one bias for each group, which onnxruntime does not run. Opset 21 has one for each channel.",
        f"{CONVERTER}/group_normalization_20_21.h, which does nothing in onnx 1.23",
    ),
    Fix(
        ("BatchNormalization",),
        9,
        normalization_of_all,
        "It refuses `spatial` = 0, where each number of a sample has statistics of its own, and not each channel.",
        "onnx/version_converter/convert.h, RemoveAttribute(kspatial, 1) from 8 to 9",
        lambda node: attribute(node, "spatial", 1) == 0 and len(node.output) == 1,
    ),
)
