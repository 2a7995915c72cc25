"""Nodes of old operator sets written in newer ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto, TensorProto

ROI_IS_OPTIONAL = 13


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


def attribute(node: NodeProto, name: str, usual: Any) -> Any:  # noqa: ANN401 - of any type
    """Give the value of a node's attribute, or the usual one."""
    found = next((each for each in node.attribute if each.name == name), None)
    return usual if found is None else helper.get_attribute_value(found)


def resize(node: NodeProto, place: Place) -> list[NodeProto]:
    """Resize of opset 10, Upsample of opsets 7 to 9: output place x takes input place x / scale.

    Of nearest, onnxruntime takes the place below where an axis grows and the one above where it shrinks; one node of the newer
    operator set does one of both, so an image that grows and shrinks takes two.
    """
    mode = attribute(node, "mode", b"nearest").decode()
    if len(node.input) > 1:
        known, scales = place.values.get(node.input[1]), node.input[1]
    else:
        known = np.asarray(attribute(node, "scales", ()), np.float32)
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


def pad(node: NodeProto, place: Place) -> list[NodeProto]:
    """Pad of opset 10 and less in another mode than constant: its pads are an attribute, and its value means nothing."""
    pads = place.constant(f"{node.output[0]}_pads", attribute(node, "pads", ()), np.int64)
    return [helper.make_node("Pad", [node.input[0], pads], list(node.output), mode=attribute(node, "mode", b"").decode())]


def hardmax(node: NodeProto, place: Place) -> list[NodeProto]:
    """Hardmax of opset 12 and less: over all axes from the given one on, by default from the second."""
    axis = attribute(node, "axis", 1)
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


def group_normalization(node: NodeProto, place: Place) -> list[NodeProto]:
    """GroupNormalization of opsets 18 to 20: one scale and bias for each group, and not for each channel."""
    groups = attribute(node, "num_groups", 1)
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


def normalization_of_all(node: NodeProto, place: Place) -> list[NodeProto]:
    """BatchNormalization of opset 8 and less with a scale, a bias, a mean and a variance for each number of a sample."""
    data, scale, bias, mean, variance = node.input
    name = node.output[0]
    epsilon = place.constant(f"{name}_epsilon", attribute(node, "epsilon", 1e-5))
    steps = [
        ("Add", [variance, epsilon], "sum"),
        ("Sqrt", ["sum"], "deviation"),
        ("Sub", [data, mean], "centred"),
        ("Div", ["centred", "deviation"], "normal"),
        ("Mul", ["normal", scale], "scaled"),
    ]
    names = {word: place.name(f"{name}_{word}") for _, _, word in steps}
    made = [
        helper.make_node(kind, [names.get(each, each) for each in given], [names[word]], place.name(f"{node.name}_{word}"))
        for kind, given, word in steps
    ]
    return [*made, helper.make_node("Add", [names["scaled"], bias], [name])]
