"""What a quantized model's file holds: the types of its weights and activations, and how finely each is scaled.

The tools are not asked but the file: QLinearConv per channel is int8 whatever ``quantize_static`` is told, ConvInteger is never per
channel, and some algorithms of MatMulNBits forget what they were asked.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from onnx import TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

NAMES: Mapping[int, str] = {
    TensorProto.INT8: "QInt8",
    TensorProto.UINT8: "QUInt8",
    TensorProto.INT16: "QInt16",
    TensorProto.UINT16: "QUInt16",
    TensorProto.INT4: "QInt4",
    TensorProto.UINT4: "QUInt4",
}
# Of an operator's weight: its own position, and that of the scale or zero point that shows how finely it is scaled. Float
# operators take theirs from a DequantizeLinear, which has both.
WEIGHTS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "ConvInteger": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "DynamicQuantizeLSTM": ((1, 8), (2, 10)),
    "QAttention": ((1, 4),),
    "QGemm": ((3, 4),),
    "QLinearConv": ((3, 4),),
    "QLinearMatMul": ((3, 4),),
}
FLOAT_WEIGHTS: Mapping[str, tuple[int, ...]] = {"Conv": (1,), "ConvTranspose": (1,), "Gemm": (1,), "MatMul": (1,)}
# The zero points of what flows through an operator.
ACTIVATIONS: Mapping[str, tuple[int, ...]] = {"QLinearConv": (2, 7), "QLinearMatMul": (2, 7), "QGemm": (2, 8)}
BITS: Mapping[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.INT8: 8, TensorProto.UINT8: 8}
Granularity = Literal["tensor", "channel", "block", "any"]


class Weight(NamedTuple):
    """A stored weight.

    Attributes:
        op_type: of the operator that takes it.
        kind: its type, as onnxruntime's QuantType calls it.
        granularity: what has a scale of its own; ``any`` where there is only one channel.
    """

    op_type: str
    kind: str
    granularity: Granularity


class Blocks(NamedTuple):
    """How a MatMul's weights are held in blocks; the level is None where a file has no place for it."""

    bits: int
    size: int
    accuracy_level: int | None


@dataclass
class Precision:
    """Everything that a model's main graph holds in integers."""

    weights: list[Weight] = field(default_factory=list)
    activations: Counter[str] = field(default_factory=Counter)
    blocks: Counter[Blocks] = field(default_factory=Counter)


def read(model: ModelProto, *, packed: bool = True) -> Precision:
    """Read a model; the tensors' values are not looked at, so that those of a large one need not be there.

    Args:
        model: what was made.
        packed: count weights that are stored in float and quantized each time that the file is loaded, too.
    """
    return _Reader(model, packed=packed).read()


def differences(recipe: Recipe, model: ModelProto) -> list[str]:
    """Compare a model with its recipe: ``asked QUInt8 weights, got QInt8 in 2 of 2 (QLinearConv)``."""
    found = read(model, packed=bool(recipe.options().get("AddQDQPairToWeight")))
    # Types that are set for single tensors are no surprise.
    own = "TensorQuantOverrides" in recipe.options()
    return [*_weights(recipe, found, own=own), *_granularity(recipe, found), *([] if own else _activations(recipe, found))]


def differences_of_blocks(recipe: Recipe, model: ModelProto) -> list[str]:
    """The same for weights in blocks."""
    return _blocks(recipe, read(model, packed=False))


class _Reader:
    """Looks things up in a graph."""

    def __init__(self, model: ModelProto, *, packed: bool) -> None:
        self._graph, self._packed = model.graph, packed
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._maker = {name: node for node in model.graph.node for name in node.output if name}

    def read(self) -> Precision:
        found = Precision()
        for node in self._graph.node:
            found.weights += self._weights(node)
            found.activations.update(self._activations(node))
            if (blocks := self._blocks(node)) is not None:
                found.blocks[blocks] += 1
        return found

    def _weights(self, node: NodeProto) -> Iterator[Weight]:
        for position, scale in WEIGHTS.get(node.op_type, ()):
            stored = self._initializer(node, position)
            if stored is not None and stored.data_type in NAMES:
                yield Weight(node.op_type, NAMES[stored.data_type], self._granularity(node, scale))
        for position in FLOAT_WEIGHTS.get(node.op_type, ()):
            unpack = self._maker.get(node.input[position]) if len(node.input) > position else None
            if unpack is not None and unpack.op_type == "DequantizeLinear" and (kind := self._kind(unpack)):
                blocked = _attribute(unpack, "block_size")
                yield Weight(node.op_type, kind, "block" if blocked else self._granularity(unpack, 1))

    def _kind(self, unpack: NodeProto) -> str | None:
        """The type of a weight that a DequantizeLinear unpacks; one that is packed again at each start, too."""
        stored = self._initializer(unpack, 0)
        pack = self._maker.get(unpack.input[0])
        packs = self._packed and pack is not None and pack.op_type == "QuantizeLinear"
        if stored is None and packs and pack is not None and self._initializer(pack, 0) is not None:
            stored = self._initializer(pack, 2)
        return None if stored is None else NAMES.get(stored.data_type)

    def _activations(self, node: NodeProto) -> Iterator[str]:
        positions = ACTIVATIONS.get(node.op_type, ())
        if node.op_type == "QuantizeLinear" and self._initializer(node, 0) is None:
            positions = (2,)
        for position in positions:
            zero = self._initializer(node, position)
            if zero is not None and zero.data_type in NAMES:
                yield NAMES[zero.data_type]

    def _blocks(self, node: NodeProto) -> Blocks | None:
        if node.op_type == "MatMulNBits":
            bits, size = (int(_attribute(node, key) or 0) for key in ("bits", "block_size"))
            return Blocks(bits, size, int(_attribute(node, "accuracy_level") or 0))
        stored = self._initializer(node, 0)
        if node.op_type == "DequantizeLinear" and stored is not None and (blocked := _attribute(node, "block_size")):
            return Blocks(BITS.get(stored.data_type, 0), blocked, None)
        return None

    def _granularity(self, node: NodeProto, position: int) -> Granularity:
        scale = self._initializer(node, position)
        if scale is None or not scale.dims:
            return "tensor"
        return "any" if list(scale.dims) == [1] else "channel"

    def _initializer(self, node: NodeProto, position: int) -> TensorProto | None:
        return self._stored.get(node.input[position]) if len(node.input) > position else None


def _attribute(node: NodeProto, name: str) -> int | None:
    return next((int(helper.get_attribute_value(each)) for each in node.attribute if each.name == name), None)


def _weights(recipe: Recipe, found: Precision, *, own: bool) -> list[str]:
    other = [weight for weight in found.weights if weight.kind != recipe.weight]
    if not other or own:
        return []
    return [f"asked {recipe.weight} weights, got {_listed(each.kind for each in other)} in {_share(other, found.weights)}"]


def _granularity(recipe: Recipe, found: Precision) -> list[str]:
    asked: Granularity = "block" if recipe.options().get("BlockSize") else "channel" if recipe.per_channel else "tensor"
    other = [weight for weight in found.weights if weight.granularity not in {asked, "any"}]
    if not other or (asked == "tensor" and "TensorQuantOverrides" in recipe.options()):
        return []
    return [f"asked per {asked}, got per {_listed(each.granularity for each in other)} in {_share(other, found.weights)}"]


def _activations(recipe: Recipe, found: Precision) -> list[str]:
    other = found.activations.total() - found.activations[recipe.activation or ""]
    if not recipe.has_ranges or not other:
        return []
    kinds = _listed(kind for kind in found.activations if kind != recipe.activation)
    return [f"asked {recipe.activation} activations, got {kinds} in {other} of {found.activations.total()}"]


def _blocks(recipe: Recipe, found: Precision) -> list[str]:
    lines = []
    for blocks, count in found.blocks.items():
        level = recipe.accuracy_level if blocks.accuracy_level is not None else None
        if blocks != (recipe.bits, recipe.block_size, level):
            asked, got = (
                f"{bits} bits in blocks of {size}" + (f" at accuracy level {rank}" if rank is not None else "")
                for bits, size, rank in ((recipe.bits, recipe.block_size, level), blocks)
            )
            lines.append(f"asked {asked}, got {got} in {count} of {found.blocks.total()}")
    return lines


def _listed(words: Iterator[str]) -> str:
    return " and ".join(dict.fromkeys(words))


def _share(other: list[Weight], every: list[Weight]) -> str:
    """How many, and of which operators."""
    return f"{len(other)} of {len(every)} ({', '.join(dict.fromkeys(weight.op_type for weight in other))})"
