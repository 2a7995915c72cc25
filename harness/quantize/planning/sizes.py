"""How large a variant's file will be: weights by bits, and what each format writes beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.quantize.method import method_of
from harness.quantize.model.outline import BIAS_INPUT, WEIGHT_INPUTS
from harness.quantize.target_nodes import is_matrix, target_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.quantize.model.outline import Constant, Node, Summary
    from harness.quantize.recipe import Recipe

BITS = {"QInt8": 8, "QUInt8": 8, "QInt16": 16, "QUInt16": 16, "QInt4": 4, "QUInt4": 4}
# Operators whose constant operands are quantized too.
OPERANDS = frozenset({"Add", "Concat", "Div", "Max", "Min", "Mul", "Sub", "Where"})
PASSED_ON = frozenset({"Dropout", "Identity"})
CLAMPS = frozenset({"Clip", "Relu"})
SCALE = 4  # bytes; a float32
# What a pair of nodes or a quantized operator takes in the file: so many bytes, and so many times the length of its tensor's name.
PAIR, OPERATOR, DYNAMIC, TENSOR = (330, 14), (180, 6), (620, 22), (150, 9)
NODE = 40  # what a node or a tensor takes beside its names and numbers
ACCURACY = 0.1  # the share by which an estimate may be off, on models whose weights are most of the file


def file_size(recipe: Recipe, model: Summary) -> int:
    """Estimate the size of a variant's file, in bytes.

    Weights count by their bits, scales and zero points by their channels; what the preparation saves or adds is not counted.
    """
    return model.size if model.quantized else method_of(recipe).size(recipe, model)


def of_halves(recipe: Recipe, model: Summary) -> int:
    """The size with half precision: numbers that are written one by one take three bytes each, others two."""
    halved = [constant for constant in _distinct(target_nodes(recipe, model)) if constant.itemsize == SCALE]
    return model.size - sum(constant.count * (2 if constant.packed else 1) for constant in halved)


def of_blocks(recipe: Recipe, model: Summary) -> int:
    """The size with weights in blocks."""
    return model.size - sum(_saved_by_blocks(recipe, weight) for weight in _distinct_weights(recipe, model))


def of_integers(recipe: Recipe, model: Summary) -> int:
    """The size with integer weights, and the nodes and scales that the format adds."""
    model = _folded(model)
    nodes = target_nodes(recipe, model)
    return model.size - sum(_saved(recipe, nodes)) + sum(_written(recipe, nodes))


def _folded(model: Summary) -> Summary:
    """The model without what the preparation takes away: normalizations after convolutions, and what passes its input on."""
    makers = {name: node.kind for node in model.nodes for name in node.outputs}
    gone = {
        node.outputs
        for node in model.nodes
        if node.kind in PASSED_ON or (node.kind == "BatchNormalization" and makers.get(node.inputs[0]) == "Conv")
    }
    folded = [node for node in model.nodes if node.outputs in gone]
    saved = sum(NODE + len(node.name) + sum(map(len, (*node.inputs, *node.outputs))) for node in folded)
    saved += sum(constant.count * constant.itemsize + len(constant.name) + NODE for constant in _distinct(tuple(folded)))
    return replace(model, nodes=tuple(node for node in model.nodes if node.outputs not in gone), size=model.size - saved)


def _distinct(nodes: tuple[Node, ...]) -> list[Constant]:
    return list({constant.name: constant for node in nodes for constant in node.constants.values()}.values())


def _distinct_weights(recipe: Recipe, model: Summary) -> list[Constant]:
    found = {weight.name: weight for node in target_nodes(recipe, model) for weight in node.weights if is_matrix(weight.dims)}
    return list(found.values())


def _saved_by_blocks(recipe: Recipe, weight: Constant) -> int:
    rows, columns = weight.dims[-2:]
    bits, block = recipe.bits or 4, recipe.block_size or 32
    blocks = -(-rows // block) * columns
    padded = blocks * block if recipe.format == "QOperator" else rows * columns
    zeros = 0 if recipe.symmetric else blocks * bits // 8
    return weight.count * weight.itemsize - (padded * bits // 8 + blocks * weight.itemsize + zeros) - sum(TENSOR)


def _saved(recipe: Recipe, nodes: tuple[Node, ...]) -> Iterator[int]:
    """Yield, for each distinct weight and operand, the bytes that its fewer bits save."""
    seen: set[str] = set()
    for node in nodes:
        for place, constant in node.constants.items():
            bits = _bits(recipe, node, place)
            if bits is None or constant.name in seen:
                continue
            seen.add(constant.name)
            channels = _channels(node, constant) if recipe.per_channel else 1
            # Dynamic convolutions keep one scale; biases take scales of their own in QDQ alone.
            bias = place == BIAS_INPUT.get(node.kind)
            single = (not recipe.has_ranges and node.kind == "Conv") or (bias and recipe.format == "QOperator")
            extra = 0 if single else channels * (SCALE + bits // 8)
            yield constant.count * constant.itemsize - constant.count * bits // 8 - extra


def _bits(recipe: Recipe, node: Node, place: int) -> int | None:
    """Bits of a constant's numbers once it is quantized; None if it stays float."""
    if place in WEIGHT_INPUTS.get(node.kind, ()):
        eight = recipe.format == "QOperator" and recipe.per_channel and node.kind == "Conv"
        return 8 if eight else BITS[recipe.weight or "QInt8"]
    if recipe.has_ranges and place == BIAS_INPUT.get(node.kind):
        return 32 if recipe.options().get("QuantizeBias", True) or recipe.format == "QOperator" else None
    if recipe.has_ranges and node.kind in OPERANDS:
        return BITS[recipe.activation or "QUInt8"]
    return None


def _channels(node: Node, constant: Constant) -> int:
    if not constant.dims:
        return 1
    return constant.dims[0] if node.kind == "Conv" else constant.dims[-1]


def _written(recipe: Recipe, nodes: tuple[Node, ...]) -> Iterator[int]:
    """Yield the bytes of the nodes, scales and names that a format adds."""
    if not recipe.has_ranges:
        yield from (DYNAMIC[0] + DYNAMIC[1] * len(node.outputs[0]) for node in nodes if node.outputs)
    else:
        plain, factor = PAIR if recipe.format == "QDQ" else OPERATOR
        removed = not recipe.options().get("ActivationSymmetric")
        tensors = {name for node in nodes if not (removed and node.kind in CLAMPS) for name in node.outputs}
        yield from (plain + factor * len(name) for name in tensors)
    weights = {constant.name for node in nodes for constant in node.constants.values()}
    yield from (TENSOR[0] + TENSOR[1] * len(name) for name in weights)
