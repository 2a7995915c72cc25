"""Nodes that onnxruntime's tools break: they stay in float, and a note says so. A table, each row with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.quantize.models.graph import MAIN_DOMAINS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe


@dataclass(frozen=True)
class Unfit:
    """Nodes that would cost the whole variant.

    Attributes:
        recipe: says whether a recipe's tool breaks them.
        node: says whether a node is one.
        op_type: what they are.
        reason: why they stay in float.
        source: where that is written.
    """

    recipe: Callable[[Recipe], bool]
    node: Callable[[NodeProto], bool]
    op_type: str
    reason: str
    source: str


def _is_dilated(node: NodeProto) -> bool:
    return any(attribute.name == "dilations" and set(attribute.ints) != {1} for attribute in node.attribute)


UNFIT = (
    Unfit(
        lambda recipe: recipe.method == "dynamic",
        lambda node: node.domain in MAIN_DOMAINS,
        "Attention",
        "the dynamic tool takes ONNX's Attention for com.microsoft's, and writes a QAttention that nothing loads",
        "AttentionQuant in onnxruntime/quantization/operators/attention.py",
    ),
    Unfit(
        lambda recipe: recipe.format == "QOperator",
        _is_dilated,
        "AveragePool",
        "QLinearAveragePool has no dilations",
        "onnxruntime/core/graph/contrib_ops/nhwc_schema_defs.cc and docs/ContribOperators.md",
    ),
)


def nodes(recipe: Recipe, model: ModelProto) -> list[str]:
    """Name the nodes of the main graph that a recipe must leave in float."""
    return [name for _, names in _found(recipe, model) for name in names]


def notes(recipe: Recipe, model: ModelProto) -> tuple[str, ...]:
    """Tell which operators stay in float, and why; nothing of those that the recipe does not name."""
    return tuple(
        f"{len(names)} {unfit.op_type} in float: {unfit.reason}"
        for unfit, names in _found(recipe, model)
        if not recipe.op_types or unfit.op_type in recipe.op_types
    )


def _found(recipe: Recipe, model: ModelProto) -> Iterator[tuple[Unfit, list[str]]]:
    for unfit in UNFIT:
        if unfit.recipe(recipe):
            names = [node.name for node in model.graph.node if node.op_type == unfit.op_type and unfit.node(node)]
            if names:
                yield unfit, names
