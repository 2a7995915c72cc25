"""Rewrites a Pad, Resize or CenterCropPad that names its axes for all axes, because onnxruntime's optimizer ignores the names.

Around convolutions of 8 bits the optimizer moves channels to the last axis, and permutes the inputs of what lies between. It does not read
``axes`` there: the model fails when it is loaded or run, or gives a result with two axes exchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from harness.quantize.model.graph import MAIN_DOMAINS
from harness.quantize.model.shapes import bare
from harness.quantize.step import Changes, Decision, Step, listed
from harness.quantize.steps.writer import Constants, Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

    Sizes = Sequence[int | None]

PADS, PAD_AXES = 1, 3  # places among the inputs of Pad
ROI, SCALES, SIZES = 1, 2, 3  # of Resize
SHAPE = 1  # of CenterCropPad
STRETCH = b"stretch"
AS_MANY = frozenset({"Pad", "Resize", "CenterCropPad", "Relu"})  # operators whose output has as many axes as their first input


class Unnamed(NamedTuple):
    """A node that names its axes.

    Attributes:
        number: of the node in the main graph.
        sizes: of its first input, None for those that are open.
    """

    number: int
    sizes: tuple[int | None, ...]


def find(model: ModelProto, _: Recipe) -> tuple[Unnamed, ...]:
    """List the nodes that can be written over all axes: those whose number of axes is known."""
    named = [index for index, node in enumerate(model.graph.node) if _names_axes(node)]
    if not named:
        return ()
    sizes = _sizes(model)
    found = []
    for index in named:
        node = model.graph.node[index]
        known = sizes.get(node.input[0])
        if (
            known is None
            or _names_all(model.graph, node, len(known))
            or (node.op_type == "Resize" and not _can_resize(model.graph, node, known))
        ):
            continue
        found.append(Unnamed(index, tuple(known)))
    return tuple(found)


def rewrite(model: ModelProto, found: Sequence[Unnamed]) -> Changes:
    """Write, in place, these nodes over all axes; what the inputs say of the named ones stays, and nothing is done along the others."""
    writer = Writer(model)
    nodes = [model.graph.node[each.number] for each in found]
    for node, each in zip(nodes, found, strict=True):
        WRITE[node.op_type](writer, node, each.sizes)
    note = (
        "expand-axes: rewritten for all axes in order, because onnxruntime's optimizer ignores the axes that a node names between 8-bit "
        f"convolutions: {listed(node.name or node.output[0] for node in nodes)}"
    )
    writer.close()
    return Changes((note,))


def decide(model: ModelProto, _: Recipe, __: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Name the nodes that still name axes, in models with convolutions: nothing is known that keeps the optimizer away from them."""
    graph = model.graph
    sizes = _sizes(model) if any(map(_names_axes, graph.node)) and any(node.op_type == "Conv" for node in graph.node) else {}
    left = [
        node.name
        for node in graph.node
        if sizes and _names_axes(node) and not _names_all(graph, node, len(sizes.get(node.input[0], ())))
    ]
    if not left:
        return Decision()
    note = (
        f"expand-axes: {listed(left)} can't be rewritten for all axes, because the number of axes is not known or a Resize keeps the ratio of "
        "sizes. Between 8-bit convolutions, onnxruntime may then fail to load or run this variant at its default optimization; export "
        "the model with fixed sizes or with keep_aspect_ratio_policy = stretch, or exclude the convolutions around these nodes"
    )
    return Decision(notes=(note,))


def _names_axes(node: NodeProto) -> bool:
    if node.domain not in MAIN_DOMAINS:
        return False
    if node.op_type == "Pad":
        return len(node.input) > PAD_AXES and bool(node.input[PAD_AXES])
    return node.op_type in {"Resize", "CenterCropPad"} and any(attribute.name == "axes" for attribute in node.attribute)


def _names_all(graph: GraphProto, node: NodeProto, rank: int) -> bool:
    """Say whether a node names all axes in order, which the optimizer takes for granted."""
    axes = Constants(graph).read(node.input[PAD_AXES]) if node.op_type == "Pad" else _axes(node)
    return rank > 0 and axes is not None and [axis % rank for axis in axes] == list(range(rank))


def _sizes(model: ModelProto) -> Mapping[str, Sizes]:
    """The sizes of tensors whose number of axes is known, None for those that are open."""
    try:
        graph = onnx.shape_inference.infer_shapes(bare(model), data_prop=True).graph
    except Exception:  # noqa: BLE001 - it raises its own and plain ones; what the file states is left
        graph = model.graph
    found: dict[str, Sizes] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            found[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    _told_by_convolutions(model.graph, found)
    return found


def _told_by_convolutions(graph: GraphProto, found: dict[str, Sizes]) -> None:
    """Add, in place, tensors with as many axes as the weights of the convolutions that take or give them."""
    for node in graph.node:
        if node.op_type in {"Conv", "ConvTranspose"} and node.input[1] in found:
            for name in (node.input[0], node.output[0]):
                found.setdefault(name, (None,) * len(found[node.input[1]]))
    for node in [*graph.node, *reversed(graph.node)]:
        if node.op_type in AS_MANY:
            for one, other in ((node.input[0], node.output[0]), (node.output[0], node.input[0])):
                if one in found:
                    found.setdefault(other, (None,) * len(found[one]))


def _pad(writer: Writer, node: NodeProto, sizes: Sizes) -> None:
    """Pads of 0 along the axes that are not named; the axes may be computed."""
    rank = len(sizes)
    axes = writer.constants.read(node.input[PAD_AXES])
    places: NDArray[np.int64] | str
    if axes is not None:
        places = _places(axes, rank, 2)
    else:
        # Of negative axes the remainder is the axis counted from the first one.
        count = writer.constant(np.array(rank, np.int64), f"{node.output[0]}_rank")
        wide = writer.node("Cast", [node.input[PAD_AXES]], f"{node.output[0]}_axes_int64", to=TensorProto.INT64)
        begins = writer.node("Mod", [wide, count], f"{node.output[0]}_begins")
        ends = writer.node("Add", [begins, count], f"{node.output[0]}_ends")
        places = writer.node("Concat", [begins, ends], f"{node.output[0]}_places", axis=0)
    full = writer.spread(node.input[PADS], places, np.zeros(2 * rank, np.int64), f"{node.output[0]}_all_pads")
    writer.replace(node, PADS, full)
    writer.replace(node, PAD_AXES, "")
    del node.input[PAD_AXES:]
    while not node.input[-1]:
        del node.input[-1]


def _resize(writer: Writer, node: NodeProto, sizes: Sizes) -> None:
    """The whole of the axes that are not named, in their own sizes."""
    rank, name = len(sizes), node.output[0]
    axes = _axes(node)
    places = _places(axes, rank, 1)
    policy = next((each for each in node.attribute if each.name == "keep_aspect_ratio_policy"), None)
    if _given(node, ROI) and not any(each.s == b"tf_crop_and_resize" for each in node.attribute):
        writer.replace(node, ROI, "")  # it means nothing, and may be empty
    if _given(node, ROI):
        whole = np.repeat(np.array([0, 1], np.float32), rank)
        writer.replace(node, ROI, writer.spread(node.input[ROI], _places(axes, rank, 2), whole, f"{name}_all_roi"))
    if _given(node, SCALES):
        full = writer.spread(node.input[SCALES], places, np.ones(rank, np.float32), f"{name}_all_scales")
        writer.replace(node, SCALES, full)
    if _given(node, SIZES):
        scale = None if policy is None or policy.s == STRETCH else _kept_ratio(writer.constants, node, sizes)
        if scale is not None:
            scales = np.ones(rank, np.float32)
            scales[places] = scale
            writer.replace(node, SIZES, "")
            del node.input[SIZES:]
            node.input[SCALES] = writer.constant(scales, f"{name}_all_scales")
        else:
            full = writer.spread(node.input[SIZES], places, _own(writer, node, sizes), f"{name}_all_sizes")
            writer.replace(node, SIZES, full)
    _drop(node, "axes", "keep_aspect_ratio_policy")


def _center(writer: Writer, node: NodeProto, sizes: Sizes) -> None:
    """CenterCropPad, which onnxruntime replaces by a Pad that names axes: the others keep their own sizes."""
    full = writer.spread(
        node.input[SHAPE], _places(_axes(node), len(sizes), 1), _own(writer, node, sizes), f"{node.output[0]}_all_sizes"
    )
    writer.replace(node, SHAPE, full)
    _drop(node, "axes")


def _own(writer: Writer, node: NodeProto, sizes: Sizes) -> NDArray[np.int64] | str:
    """The sizes of a node's first input: as a constant if they are known, else computed."""
    if None not in sizes:
        return np.array(sizes, np.int64)
    return writer.node("Shape", [node.input[0]], f"{node.output[0]}_own_sizes")


def _drop(node: NodeProto, *names: str) -> None:
    kept = [each for each in node.attribute if each.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


WRITE = {"Pad": _pad, "Resize": _resize, "CenterCropPad": _center}


def _can_resize(graph: GraphProto, node: NodeProto, sizes: Sizes) -> bool:
    """Say whether it can be written: one that keeps the ratio of some axes only if its result has the size that scales give."""
    policy = next((each.s for each in node.attribute if each.name == "keep_aspect_ratio_policy"), STRETCH)
    return policy == STRETCH or not _given(node, SIZES) or _kept_ratio(Constants(graph), node, sizes) is not None


def _kept_ratio(constants: Constants, node: NodeProto, sizes: Sizes) -> np.float32 | None:
    """The one scale of the named axes; None if it is not known, or if sizes are rounded up to more than it gives."""
    wanted = constants.read(node.input[SIZES])
    own = [sizes[axis] for axis in _axes(node)]
    if wanted is None or len(wanted) != len(own):
        return None
    known = np.array([size for size in own if size], np.float32)
    if len(known) < len(own):
        return None
    ratios = wanted.astype(np.float32) / known
    larger = any(each.name == "keep_aspect_ratio_policy" and each.s == b"not_smaller" for each in node.attribute)
    scale: np.float32 = ratios.max() if larger else ratios.min()
    given = known * scale
    return scale if np.array_equal(np.floor(given), np.floor(given + np.float32(0.5))) else None


def _places(axes: Sequence[int] | NDArray[np.int64], rank: int, parts: int) -> NDArray[np.int64]:
    """Where the values of these axes are in a list over all axes, which has one or two parts."""
    own = np.asarray(axes, np.int64) % rank
    return np.concatenate([own + part * rank for part in range(parts)])


def _axes(node: NodeProto) -> list[int]:
    return next(list(attribute.ints) for attribute in node.attribute if attribute.name == "axes")


def _given(node: NodeProto, place: int) -> bool:
    return len(node.input) > place and bool(node.input[place])


STEP = Step(
    key="expand-axes",
    summary="A Pad, Resize or CenterCropPad that names its axes, as it can since opset 18, is rewritten for all axes in order.",
    source="HandlePad and HandleResize in onnxruntime/core/optimizer/transpose_optimization/onnx_transpose_optimization.cc, which do not read axes",
    cost="Nothing. Where pads, scales or sizes are computed, a node of a few numbers is added.",
    methods=frozenset({"dynamic", "static", "nbits"}),
    find=find,
    rewrite=rewrite,
    decide=decide,
    on="source",
)
