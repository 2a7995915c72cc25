"""Gives Pad and Resize values for all axes where they name the axes that their values are for.

onnxruntime computes a quantized Conv with the channels last, and moves the Transpose nodes that it adds for that through Pad and Resize.
There it takes their values as those of all axes in order. A model with other axes then fails in every run, does not load, or computes
something else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from harness.quantize.models.graph import free_name, opset_of, tensor_names
from harness.quantize.steps.step import Changes, Step, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

FIRST = 18  # the operator set that brought the axes
AXES_OF_PAD = 3  # the place of the input
# The values of a Resize by the place of the input, and what an axis has that is not named, at its beginning and at its end.
ROI, SCALES, SIZES = 1, 2, 3


def find(model: ModelProto, _: Recipe) -> tuple[str, ...]:
    """Name the nodes of the main graph whose values can be given for all axes."""
    if (opset_of(model) or 0) < FIRST:
        return ()
    ranks, constants = _ranks(model), _constants(model)
    return tuple(node.name for node in model.graph.node if _axes(node, ranks, constants) is not None)


def rewrite(model: ModelProto, names: Sequence[str]) -> Changes:
    """Rewrite these nodes in place; values that are computed get a node that puts them beside those of the other axes."""
    writer = _Writer(model)
    ranks = _ranks(model)
    for node in [each for each in model.graph.node if each.name in names]:
        axes = _axes(node, ranks, writer.constants)
        if axes is None:
            continue
        rank = ranks[node.input[0]]
        both = [*axes, *(axis + rank for axis in axes)]
        if node.op_type == "Pad":
            node.input[1] = writer.spread(node, 1, np.zeros(2 * rank, np.int64), both)
            del node.input[AXES_OF_PAD]
            continue
        if _has(node, ROI):
            kind = writer.kind(node.input[ROI])
            node.input[ROI] = writer.spread(node, ROI, np.array([0] * rank + [1] * rank, kind), both)
        if _has(node, SCALES):
            node.input[SCALES] = writer.spread(node, SCALES, np.ones(rank, np.float32), axes)
        if _has(node, SIZES):
            node.input[SIZES] = writer.spread(node, SIZES, None, axes)
        node.attribute.remove(next(each for each in node.attribute if each.name == "axes"))
    return Changes((f"expand-axes: values for all axes instead of some in {listed(names)}",))


def _has(node: NodeProto, place: int) -> bool:
    return len(node.input) > place and bool(node.input[place])


def _axes(node: NodeProto, ranks: Mapping[str, int], constants: Mapping[str, NDArray[Any]]) -> list[int] | None:
    """The axes, counted from the first, that a node names and that can be left out; None if it names none."""
    rank = ranks.get(node.input[0]) if node.input else None
    if rank is None:
        return None
    if node.op_type == "Pad" and _has(node, AXES_OF_PAD):
        named = constants.get(node.input[AXES_OF_PAD])
        return None if named is None else [int(axis) % rank for axis in named]
    if node.op_type != "Resize":
        return None
    said = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    # The other policies fit one scale to the axes that are named.
    if "axes" not in said or said.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return None
    return [int(axis) % rank for axis in said["axes"]]


def _ranks(model: ModelProto) -> dict[str, int]:
    """The number of axes of tensors: as inferred, and around convolutions that of their weights."""
    graph = model.graph
    weights = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in {"Conv", "ConvTranspose"} and node.input[1] in weights:
            found |= dict.fromkeys((node.input[0], node.output[0]), weights[node.input[1]])
    for node in [*graph.node, *reversed(graph.node)]:
        # Neither operator changes how many axes there are.
        if node.op_type in {"Pad", "Relu", "Resize"}:
            for one, other in ((node.input[0], node.output[0]), (node.output[0], node.input[0])):
                if one in found:
                    found.setdefault(other, found[one])
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.HasField("shape") and value.type.tensor_type.shape.dim:
            found[value.name] = len(value.type.tensor_type.shape.dim)
    return found


def _constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """The numbers of short constants."""
    short = 64
    found = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if len(tensor.dims) <= 1 and sum(tensor.dims) <= short
    }
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and sum(attribute.t.dims) <= short:
                found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found


class _Writer:
    """Adds constants and nodes to a model."""

    def __init__(self, model: ModelProto) -> None:
        """Look at a model.

        Args:
            model: to be changed in place.
        """
        self._model = model
        self._taken = tensor_names(model)
        self.constants = _constants(model)

    def kind(self, name: str) -> np.dtype[Any]:
        """The type of a constant's numbers; float32 of what is computed."""
        return self.constants[name].dtype if name in self.constants else np.dtype(np.float32)

    def spread(self, node: NodeProto, place: int, start: NDArray[Any] | None, indices: Iterable[int]) -> str:
        """Give the name of a tensor that has the values of an input at some places, and others elsewhere.

        Args:
            node: that takes it; what is added comes before it.
            place: of the input.
            start: what is elsewhere; None for the shape of the node's first input.
            indices: the places, one for each value.
        """
        given = node.input[place]
        wanted = np.array(list(indices), np.int64)
        if start is not None and given in self.constants:
            whole = start.copy()
            whole[wanted] = self.constants[given]
            return self._constant(whole, f"{given}_all_axes")
        name = self._free(f"{given}_all_axes")
        added = []
        if start is None:
            beginning = self._free(f"{node.input[0]}_shape")
            added.append(helper.make_node("Shape", [node.input[0]], [beginning], name=beginning))
        else:
            beginning = self._constant(start, f"{name}_start")
        where = self._constant(wanted, f"{name}_places")
        added.append(helper.make_node("ScatterElements", [beginning, where, given], [name], name=name, axis=0))
        position = list(self._model.graph.node).index(node)
        for each in reversed(added):
            self._model.graph.node.insert(position, each)
        return name

    def _constant(self, array: NDArray[Any], name: str) -> str:
        name = self._free(name)
        self._model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _free(self, name: str) -> str:
        name = free_name(name, self._taken)
        self._taken.add(name)
        return name


STEP = Step(
    key="expand-axes",
    summary="A Pad or Resize that names the axes that its values are for gets values for all axes instead.",
    source="HandlePad and HandleResize in onnxruntime/core/optimizer/transpose_optimization/onnx_transpose_optimization.cc",
    cost="Nothing. Where values are computed, one or two nodes that compute a few numbers.",
    methods=frozenset({"static"}),
    find=find,
    rewrite=rewrite,
)
