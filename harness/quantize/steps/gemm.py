"""Folds Gemm's alpha and beta into its constants, and reshapes its bias to a row, because the quantizers assume that form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from harness.quantize.model.graph import all_inputs, free_name, opset_of, sort_nodes, tensor_names
from harness.quantize.step import Changes, Step, listed
from harness.quantize.target_nodes import op_types

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe

A, B, C = range(3)
OPTIONAL_C = 11  # the first operator set in which Gemm may have no third input


class Fold(NamedTuple):
    """What is done to a Gemm.

    Attributes:
        place: of the node in the main graph.
        alpha: the input that it goes into; None leaves it.
        beta: whether it goes into the third input.
        bias: ``row`` makes a bias of other shapes one of shape [N], ``added`` gives it to an Add behind the Gemm.
        turned: whether a Transpose before the Gemm takes the place of its transA.
    """

    place: int
    alpha: int | None
    beta: bool
    bias: Literal["row", "added"] | None
    turned: bool = False


def find(model: ModelProto, recipe: Recipe) -> tuple[Fold, ...]:
    """List the Gemms whose attributes or bias a recipe's tool would drop or misread.

    ``quantize_static`` drops beta where the bias is constant, reads alpha into the bias' scale wrongly, and per channel takes the
    bias for a row. ``quantize_dynamic`` and ``MatMulNBitsQuantizer`` leave a Gemm with alpha, beta or transA in float.
    """
    if "Gemm" not in op_types(recipe):
        return ()
    stored = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    found = (_fold(index, node, stored, recipe) for index, node in enumerate(model.graph.node) if node.op_type == "Gemm")
    return tuple(fold for fold in found if fold is not None)


def _fold(index: int, node: NodeProto, stored: dict[str, TensorProto], recipe: Recipe) -> Fold | None:
    alpha, beta = _value(node, "alpha", 1.0), _value(node, "beta", 1.0)
    has_bias = len(node.input) > C and bool(node.input[C])
    constant = [position for position in (B, A) if node.input[position] in stored]
    bias = stored.get(node.input[C]) if has_bias else None
    if recipe.method != "static":
        # Where the Gemm would stay in float for another reason, nothing is gained.
        turned = bool(_value(node, "transA", 0))
        worth = ((alpha, beta) != (1, 1) or turned) and B in constant
        return Fold(index, B if alpha != 1 else None, has_bias and beta != 1, None, turned) if worth else None
    into = None if alpha == 1 else (constant[0] if constant else A if bias is not None else None)
    fold = Fold(
        index,
        into if bias is not None or constant else None,
        bias is not None and beta != 1,
        _shape(node, bias, stored) if bias is not None and recipe.per_channel and B in constant else None,
    )
    return None if fold[1:] == (None, False, None, False) else fold


def _shape(node: NodeProto, bias: TensorProto, stored: dict[str, TensorProto]) -> Literal["row", "added"] | None:
    """Say what becomes of a bias by its shape: one for each column, or one that differs from row to row."""
    columns = _columns(node, stored)
    if list(bias.dims) == [columns]:
        return None
    return "row" if all(size == 1 for size in bias.dims[:-1]) else "added"


def rewrite(model: ModelProto, folds: Sequence[Fold]) -> Changes:
    """Fold, in place."""
    folding = _Folding(model)
    nodes = [model.graph.node[fold.place] for fold in folds]
    for fold, node in zip(folds, nodes, strict=True):
        folding.fold(fold, node)
    model.graph.node.extend(folding.added)
    sort_nodes(model)
    folding.drop_unused()
    notes = []
    if names := [node.name for fold, node in zip(folds, nodes, strict=True) if fold.alpha is not None or fold.beta]:
        notes.append(
            f"fold-gemm: alpha and beta were folded into the constants of {listed(names)}, because the tool drops or misreads them"
        )
    if names := [node.name for fold, node in zip(folds, nodes, strict=True) if fold.bias]:
        notes.append(
            f"fold-gemm: the bias of {listed(names)} was reshaped to a row, which the tool expects, or moved to an Add behind the node"
        )
    if names := [node.name for fold, node in zip(folds, nodes, strict=True) if fold.turned]:
        notes.append(
            f"fold-gemm: a Transpose before {listed(names)} replaces transA, because the tool leaves such a Gemm in float"
        )
    tensors = {old: tuple(dict.fromkeys(new)) for old, new in folding.names.items()}
    return Changes(tuple(notes), tensors=tensors)


class _Folding:
    """Changes the Gemms of a model."""

    def __init__(self, model: ModelProto) -> None:
        self._model = model
        self._graph = model.graph
        self._stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._taken = tensor_names(model) | {node.name for node in model.graph.node}
        self._made: dict[tuple[str, float, tuple[int, ...]], str] = {}
        self._replaced: set[str] = set()
        self.added: list[NodeProto] = []
        self.names: dict[str, list[str]] = {}

    def fold(self, fold: Fold, node: NodeProto) -> None:
        columns = _columns(node, self._stored)
        if fold.turned:
            self._turn(node)
        if fold.alpha is not None:
            self._scale(node, fold.alpha, _value(node, "alpha", 1.0))
            _set(node, "alpha")
        if fold.beta:
            self._scale(node, C, _value(node, "beta", 1.0))
        if fold.beta or len(node.input) <= C:
            _set(node, "beta")
        if fold.bias == "row":
            array = self._array(node.input[C])
            node.input[C] = self._constant(node.input[C], np.broadcast_to(array.reshape(-1), (columns,)), 1.0)
        elif fold.bias == "added":
            self._add_behind(node, columns)

    def drop_unused(self) -> None:
        """Remove the constants that nothing takes any more."""
        still = all_inputs(self._model)
        for name in sorted(self._replaced - set(still)):
            self._graph.initializer.remove(self._stored[name])
            self.names[name] = [each for each in self.names[name] if each != name]

    def _scale(self, node: NodeProto, position: int, factor: float) -> None:
        """Multiply an input: a constant in advance, anything else by a node."""
        name = node.input[position]
        if name in self._stored:
            array = self._array(name)
            node.input[position] = self._constant(name, np.float32(factor) * array if factor else np.zeros_like(array), factor)
            return
        number = self._constant("", np.array(factor, np.float32), factor)
        made = self._free(f"{name}_scaled")
        self.added.append(helper.make_node("Mul", [name, number], [made], self._free(f"{node.name}_factor")))
        node.input[position] = made

    def _turn(self, node: NodeProto) -> None:
        """Give a Gemm its first input transposed."""
        made = self._free(f"{node.input[A]}_transposed")
        self.added.append(
            helper.make_node("Transpose", [node.input[A]], [made], self._free(f"{node.name}_transpose"), perm=[1, 0])
        )
        node.input[A] = made
        _set(node, "transA")

    def _add_behind(self, node: NodeProto, columns: int) -> None:
        bias, output = node.input[C], node.output[0]
        node.output[0] = self._free(f"{output}_without_bias")
        self.added.append(helper.make_node("Add", [node.output[0], bias], [output], self._free(f"{node.name}_bias")))
        if (opset_of(self._model) or 0) < OPTIONAL_C:
            node.input[C] = self._constant("", np.zeros(columns, np.float32), 0.0)
        else:
            del node.input[C]

    def _constant(self, source: str, array: NDArray[Any], factor: float) -> str:
        """Store an array that was made of a constant, once for all Gemms that need the same."""
        key = (source, factor, array.shape)
        if key not in self._made:
            self._made[key] = self._free(f"{source}_folded" if source else "gemm_constant")
            tensor = numpy_helper.from_array(np.ascontiguousarray(array, np.float32), self._made[key])
            self._graph.initializer.append(tensor)
            self._stored[tensor.name] = tensor
        if source:
            self._replaced.add(source)
            self.names.setdefault(source, [source]).append(self._made[key])
        return self._made[key]

    def _array(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._stored[name])

    def _free(self, name: str) -> str:
        found = free_name(name, self._taken)
        self._taken.add(found)
        return found


def _columns(node: NodeProto, stored: dict[str, TensorProto]) -> int:
    """N, where the second input is a constant; else 0."""
    weight = stored.get(node.input[B])
    return 0 if weight is None else int(weight.dims[0 if _value(node, "transB", 0) else 1])


def _value(node: NodeProto, name: str, default: float) -> float:
    return next((float(helper.get_attribute_value(each)) for each in node.attribute if each.name == name), default)


def _set(node: NodeProto, name: str) -> None:
    """Take an attribute off, so that it has its default value."""
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)


STEP = Step(
    key="fold-gemm",
    summary=(
        "Gemm's alpha and beta are folded into its constants. For per-channel weights, its bias is reshaped to a row. For dynamic and "
        "nbits, a Transpose replaces transA."
    ),
    source="QDQGemm and QLinearGemm in onnxruntime/quantization/operators/gemm.py, quantize_bias_static_impl in "
    "onnxruntime/quantization/base_quantizer.py, replace_gemm_with_matmul in onnxruntime/quantization/onnx_model.py; onnxruntime#28130",
    cost=(
        "A constant that other nodes take too is stored twice. Where an input is not a constant, a Mul or an Add is added, and for transA "
        "a Transpose."
    ),
    methods=frozenset({"dynamic", "static", "nbits"}),
    find=find,
    rewrite=rewrite,
)
