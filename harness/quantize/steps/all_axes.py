"""Pad and Resize state their sizes for all axes in order, because onnxruntime's optimizer takes them so.

Around a Conv of integers the optimizer turns images to channels last. It turns the paddings, scales and sizes of these operators by their
place, whatever axes they are said to be of: the model computes something else, fails when it runs, or does not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import helper, numpy_helper

from harness.quantize.models.graph import free_name, sort_nodes, tensor_names
from harness.quantize.models.shapes import ranks
from harness.quantize.steps.step import Changes, Step, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

    from harness.quantize.recipe import Recipe

PADS, PAD_AXES = 1, 3
ROI, SCALES, SIZES = 1, 2, 3


class Node(NamedTuple):
    """A node that is rewritten.

    Attributes:
        place: in the main graph.
        axes: those that it names, each from 0 to ``rank`` - 1.
        rank: axes of the tensor.
    """

    place: int
    axes: tuple[int, ...]
    rank: int


def find(model: ModelProto, _: Recipe) -> tuple[Node, ...]:
    """List the Pad and Resize nodes that name some axes, or all in another order, and whose axes and rank are known."""
    named = {
        place: axes for place, node in enumerate(model.graph.node) if (axes := _axes(node, model.graph.initializer)) is not None
    }
    if not named:
        return ()
    known = ranks(model)
    found = []
    for place, axes in named.items():
        node = model.graph.node[place]
        rank = known.get(node.input[0], known.get(node.output[0]))
        if rank is not None and all(-rank <= axis < rank for axis in axes):
            absolute = tuple(axis % rank for axis in axes)
            if absolute != tuple(range(rank)):
                found.append(Node(place, absolute, rank))
    return tuple(found)


def _axes(node: NodeProto, stored: Sequence[TensorProto]) -> tuple[int, ...] | None:
    """The axes that a Pad or Resize names, if they are constant."""
    if node.op_type == "Pad" and len(node.input) > PAD_AXES and node.input[PAD_AXES]:
        tensor = next((each for each in stored if each.name == node.input[PAD_AXES]), None)
        return None if tensor is None else tuple(int(axis) for axis in numpy_helper.to_array(tensor).ravel())
    if node.op_type == "Resize":
        attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        # Other policies look at the axes that are named alone.
        stretches = attributes.get("keep_aspect_ratio_policy", b"stretch") == b"stretch" or not _given(node, SIZES)
        return tuple(attributes["axes"]) if "axes" in attributes and stretches else None
    return None


def _given(node: NodeProto, position: int) -> str:
    return node.input[position] if len(node.input) > position else ""


def rewrite(model: ModelProto, nodes: Sequence[Node]) -> Changes:
    """Write, in place, paddings, scales, sizes and regions of all axes in order."""
    spreading = _Spreading(model)
    changed = [model.graph.node[each.place] for each in nodes]
    for found, node in zip(nodes, changed, strict=True):
        both = (*found.axes, *(axis + found.rank for axis in found.axes))
        if node.op_type == "Pad":
            node.input[PADS] = spreading.spread(node.input[PADS], np.zeros(2 * found.rank, np.int64), both)
            del node.input[PAD_AXES:]
            while not node.input[-1]:
                del node.input[-1]
            continue
        if _given(node, ROI):
            whole = np.repeat(np.array([0, 1], np.float32), found.rank)
            node.input[ROI] = spreading.spread(node.input[ROI], whole, both)
        if _given(node, SCALES):
            node.input[SCALES] = spreading.spread(node.input[SCALES], np.ones(found.rank, np.float32), found.axes)
        if _given(node, SIZES):
            node.input[SIZES] = spreading.spread(node.input[SIZES], spreading.shape(node), found.axes)
        kept = [attribute for attribute in node.attribute if attribute.name != "axes"]
        del node.attribute[:]
        node.attribute.extend(kept)
    model.graph.node.extend(spreading.added)
    sort_nodes(model)
    names = listed(node.name for node in changed)
    return Changes((f"all-axes: sizes of all axes were written into {names}, because onnxruntime's optimizer takes them so",))


class _Spreading:
    """Makes numbers of some axes numbers of all."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._taken = tensor_names(model) | {node.name for node in model.graph.node}
        self.added: list[NodeProto] = []

    def spread(self, name: str, whole: NDArray[np.generic] | str, places: Sequence[int]) -> str:
        """Give the tensor ``whole`` with the numbers of another at some places."""
        if name in self._stored and not isinstance(whole, str):
            values = numpy_helper.to_array(self._stored[name]).ravel()
            if not values.size:  # an empty tensor stands for none
                return name
            full = whole.astype(values.dtype)
            full[list(places)] = values
            return self._constant(f"{name}_of_all_axes", full)
        base = whole if isinstance(whole, str) else self._constant(f"{name}_of_other_axes", whole)
        where = self._constant(f"{name}_places", np.array(places, np.int64))
        made = self._free(f"{name}_of_all_axes")
        self.added.append(helper.make_node("ScatterElements", [base, where, name], [made], self._free(f"{made}_node")))
        return made

    def shape(self, node: NodeProto) -> str:
        """The sizes of a node's first input, computed."""
        made = self._free(f"{node.input[0]}_sizes")
        self.added.append(helper.make_node("Shape", [node.input[0]], [made], self._free(f"{made}_node")))
        return made

    def _constant(self, name: str, array: NDArray[np.generic]) -> str:
        made = self._free(name)
        self._graph.initializer.append(numpy_helper.from_array(array, made))
        return made

    def _free(self, name: str) -> str:
        found = free_name(name, self._taken)
        self._taken.add(found)
        return found


STEP = Step(
    key="all-axes",
    summary="The sizes of a Pad or Resize that names some of the axes are written for all axes in order.",
    source="HandlePad and HandleResize in onnxruntime/core/optimizer/transpose_optimization",
    cost="A few numbers. Where sizes are computed, a Shape and a ScatterElements.",
    methods=frozenset({"static"}),
    find=find,
    rewrite=rewrite,
)
