"""Outputs that no comparison takes in, because they are not tensors of numbers: sequences, maps, optional values and text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

# How onnxruntime writes these types, the outer ones first.
KINDS = (
    ("seq(map(", "sequence of maps"),
    ("seq(", "sequence of tensors"),
    ("map(", "map"),
    ("optional(", "optional value"),
    ("sparse_tensor(", "sparse tensor"),
    ("tensor(string)", "text"),
)


def sentence(outputs: Mapping[str, str], compared: Collection[str]) -> str | None:
    """Name the outputs that are left out, and the way to have them compared.

    Args:
        outputs: names of a model's outputs, and their types as onnxruntime writes them.
        compared: names of those whose values are compared.

    Returns:
        A sentence for a reader of figures; None if all outputs are compared.
    """
    left_out = {name: type_ for name, type_ in outputs.items() if name not in compared}
    if not left_out:
        return None
    several = len(left_out) > 1
    named = ", ".join(f"'{name}' ({kind(type_)})" for name, type_ in left_out.items())
    maps = any("map(" in type_ for type_ in left_out.values())
    way_out = "export the model with tensors instead" + (" (skl2onnx: options={'zipmap': False})" if maps else "")
    others = "the figures are of the other outputs alone; " if compared else ""
    return f"output{'s' if several else ''} {named} {'are' if several else 'is'} not compared, because only tensors of numbers are; {others}{way_out}"


def kind(type_: str) -> str:
    """Say in words what a type of onnxruntime's is, such as ``seq(map(int64,tensor(float)))``."""
    return next((words for start, words in KINDS if type_.startswith(start)), type_)
