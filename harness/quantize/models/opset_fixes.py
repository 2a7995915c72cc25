"""Operators that ONNX's version converter takes to another meaning, or not at all, and what is put in their place.

The converter leaves nodes of domains that it does not know alone. So a node of this table is held in such a domain while the
converter works on the others, and then becomes a node of the newer operator set that means the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from harness.quantize.models.graph import MAIN_DOMAINS, opset_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onnx import ModelProto, NodeProto, TensorProto

HELD = "quant-harness.held"


@dataclass
class Place:
    """Where a node is rebuilt.

    Attributes:
        old: the operator set that the node was written in.
        new: the one that it is to be of.
        ranks: of tensors, as far as they are known.
        constants: to be added to the initializers.
        taken: names of tensors.
    """

    old: int
    new: int
    ranks: dict[str, int]
    constants: list[TensorProto]
    taken: set[str]

    def constant(self, name: str, values: Iterable[float], dtype: type = np.float32) -> str:
        """Add a constant, under a name that is free."""
        free = self.name(name)
        self.constants.append(numpy_helper.from_array(np.asarray(list(values), dtype), free))
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


def hold(model: ModelProto, version: int) -> bool:
    """Put the nodes of the table, in place, where the converter leaves them alone.

    Returns:
        Whether there are any.
    """
    old = _version(model)
    held = [node for node in model.graph.node if _fix_of(node, old, version)]
    for node in held:
        node.domain = HELD
    if held:
        model.opset_import.add(domain=HELD, version=old)
    return bool(held)


def release(model: ModelProto) -> None:
    """Rebuild, in place, the nodes that were held, in the operator set that the model has by now."""
    old = next((entry.version for entry in model.opset_import if entry.domain == HELD), None)
    if old is None:
        return
    graph = model.graph
    values = [*graph.input, *graph.value_info, *graph.output]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values if value.type.tensor_type.HasField("shape")}
    ranks |= {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    taken = {*ranks, *(name for node in graph.node for name in (*node.input, *node.output))}
    place = Place(old, _version(model), ranks, [], taken)
    changed: list[NodeProto] = []
    for node in graph.node:
        copied = type(node).FromString(node.SerializeToString())
        if copied.domain != HELD:
            changed.append(copied)
            continue
        copied.domain = ""
        fix = _fix_of(copied, old, place.new)
        made = fix.rebuild(copied, place) if fix else [copied]
        made[-1].name = node.name
        changed += made
    del graph.node[:]
    graph.node.extend(changed)
    graph.initializer.extend(place.constants)
    kept = [entry for entry in model.opset_import if entry.domain != HELD]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _version(model: ModelProto) -> int:
    return opset_of(model) or 0


def _fix_of(node: NodeProto, old: int, new: int) -> Fix | None:
    """The row for a node, if it is crossed between two operator sets."""
    if node.domain not in MAIN_DOMAINS:
        return None
    return next((fix for fix in FIXES if node.op_type in fix.op_types and old < fix.at <= new), None)


def _attribute(node: NodeProto, name: str, usual: Any) -> Any:  # noqa: ANN401 - of any type
    found = next((each for each in node.attribute if each.name == name), None)
    return usual if found is None else helper.get_attribute_value(found)


def _resize(node: NodeProto, place: Place) -> list[NodeProto]:
    """Resize of opset 10, Upsample of opsets 7 to 9: output place x takes input place x / scale, and the one below it."""
    mode = _attribute(node, "mode", b"nearest").decode()
    scales = node.input[1] if len(node.input) > 1 else place.constant(f"{node.output[0]}_scales", _attribute(node, "scales", ()))
    given = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode == "nearest":
        given["nearest_mode"] = "floor"
    roi = "" if place.new >= ROI_IS_OPTIONAL else place.constant(f"{node.output[0]}_roi", ())
    return [helper.make_node("Resize", [node.input[0], roi, scales], list(node.output), **given)]


ROI_IS_OPTIONAL = 13
CONVERTER = "onnx/version_converter/adapters"
FIXES = (
    Fix(
        ("Resize", "Upsample"),
        11,
        _resize,
        "coordinate_transformation_mode becomes half_pixel, and of nearest the place is rounded; it was asymmetric and floor",
        f"{CONVERTER}/resize_10_11.h; the shapes of Resize-10 and Resize-11 in docs/Changelog.md of onnx",
    ),
)
