"""Ranges of tensors that were not calibrated, from those of the tensors that they are computed of: interval arithmetic."""

from __future__ import annotations

from math import inf, isfinite, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from onnx import NodeProto

Range = tuple[float, float]
# Operators whose output holds values of their first input as they are.
MOVING = frozenset(
    {
        *("Cast", "DepthToSpace", "Dropout", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool"),
        *("ReduceMax", "ReduceMin", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "TopK", "Transpose", "Trilu"),
        *("Unsqueeze", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"),
    }
)


def _product(a: Range, b: Range) -> Range:
    every = [one * other for one in a for other in b]
    return min(every), max(every)


def _abs(a: Range) -> Range:
    nearest = 0.0 if a[0] <= 0 <= a[1] else min(map(abs, a))
    return nearest, max(map(abs, a))


TWO: Mapping[str, Callable[[Range, Range], Range]] = {
    "Add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "Sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "Mul": _product,
    "Max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "Min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
}
ONE: Mapping[str, Callable[[Range], Range]] = {
    "Sqrt": lambda a: (sqrt(max(a[0], 0)), sqrt(max(a[1], 0))),
    "Neg": lambda a: (-a[1], -a[0]),
    "Abs": _abs,
    "Relu": lambda a: (max(a[0], 0), max(a[1], 0)),
}


def known_ranges(
    nodes: Iterable[NodeProto], constants: Mapping[str, NDArray[np.generic]], ranges: Mapping[str, Range]
) -> dict[str, Range]:
    """Add to calibrated ranges those of constants, and of what is computed of tensors whose ranges are known.

    Args:
        nodes: in an order in which each comes after those that it takes from.
        constants: by name; only those of numbers count.
        ranges: smallest and largest value of tensors, by name.

    Returns:
        Finite ranges. A computed one holds all values, and may be wider.
    """
    known = {
        name: (float(array.min()), float(array.max()))
        for name, array in constants.items()
        if array.size and array.dtype.kind in "fiu"
    }
    known |= {name: each for name, each in ranges.items() if each[0] <= each[1] and all(map(isfinite, each))}
    for node in nodes:
        if not node.output or node.output[0] in known:
            continue
        taken = [known.get(name) for name in node.input]
        found = _computed(node.op_type, taken)
        if found is not None and all(map(isfinite, found)):
            # Split gives several parts of its input, TopK indices beside values.
            known |= dict.fromkeys(node.output if node.op_type == "Split" else node.output[:1], found)
    return known


def _computed(kind: str, taken: list[Range | None]) -> Range | None:
    first = taken[0] if taken else None
    if first is None:
        return None
    if kind in MOVING:
        return first
    if kind in ONE:
        return ONE[kind](first)
    if kind == "Clip":
        low, high = ([*taken, None, None])[1:3]
        least, most = low[0] if low else -inf, high[1] if high else inf
        return min(max(first[0], least), most), min(max(first[1], least), most)
    if kind in TWO and len(taken) == 2 and taken[1] is not None:  # noqa: PLR2004 - operands
        return TWO[kind](first, taken[1])
    return None
