"""Nodes that onnxruntime's tools break and that stay in float: a table, each row with its source. A note names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import helper

from harness.quantize.model.graph import MAIN_DOMAINS
from harness.quantize.step import staying
from harness.quantize.steps.takers import behind

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
        takers_too: whether the nodes that take its output stay in float as well: onnxruntime joins an operator between a
            DequantizeLinear and a QuantizeLinear into one of integers, whoever wrote them.
    """

    recipe: Callable[[Recipe], bool]
    node: Callable[[NodeProto], bool]
    op_type: str
    reason: str
    source: str
    takers_too: bool = False


def _is_dilated(node: NodeProto) -> bool:
    return any(attribute.name == "dilations" and set(attribute.ints) != {1} for attribute in node.attribute)


def _counts_beyond_padding(node: NodeProto) -> bool:
    """Whether the last window of an AveragePool may reach beyond the padding, and what is padded counts."""
    said = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    steps = any(stride > 1 for stride in said.get("strides", ()))
    return bool(
        said.get("ceil_mode") and said.get("count_include_pad") and steps and not said.get("auto_pad", b"").startswith(b"SAME")
    )


UNFIT = (
    Unfit(
        lambda recipe: recipe.method == "dynamic",
        lambda node: node.domain in MAIN_DOMAINS,
        "Attention",
        "the dynamic tool mistakes ONNX's Attention for com.microsoft's and writes a QAttention that onnxruntime can't load",
        "AttentionQuant in onnxruntime/quantization/operators/attention.py",
    ),
    Unfit(
        lambda recipe: recipe.method == "static",
        _is_dilated,
        "AveragePool",
        "QLinearAveragePool has no dilations",
        "onnxruntime/core/graph/contrib_ops/nhwc_schema_defs.cc and docs/ContribOperators.md",
        takers_too=True,
    ),
    Unfit(
        lambda recipe: recipe.method == "static",
        _counts_beyond_padding,
        "AveragePool",
        "with ceil_mode and count_include_pad, QLinearAveragePool divides by the whole window also where it reaches beyond the padding",
        "onnxruntime/contrib_ops/cpu/quantization/qlinear_pool.cc",
        takers_too=True,
    ),
)


def nodes(recipe: Recipe, model: ModelProto) -> list[str]:
    """Name the nodes of the main graph that a recipe must leave in float."""
    found = []
    for unfit, names in _found(recipe, model):
        given = [output for node in model.graph.node if node.name in names for output in node.output]
        found += [*names, *(behind(model, given) if unfit.takers_too else ())]
    return found


def notes(recipe: Recipe, model: ModelProto) -> tuple[str, ...]:
    """Tell which operators stay in float, and why; nothing of those that the recipe does not name."""
    return tuple(
        f"{staying(names)} in float{', with the nodes that take the output' if unfit.takers_too else ''}, because {unfit.reason}"
        for unfit, names in _found(recipe, model)
        if not recipe.op_types or unfit.op_type in recipe.op_types
    )


def _found(recipe: Recipe, model: ModelProto) -> Iterator[tuple[Unfit, list[str]]]:
    for unfit in UNFIT:
        if unfit.recipe(recipe):
            names = [node.name for node in model.graph.node if node.op_type == unfit.op_type and unfit.node(node)]
            if names:
                yield unfit, names
