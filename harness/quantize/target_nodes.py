"""Which nodes of a model a recipe works on."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

from harness.quantize.step import listed

if TYPE_CHECKING:
    from harness.quantize.model.outline import Node, Summary
    from harness.quantize.recipe import Recipe

# What onnxruntime has a quantizer for; QDQ gives any other operator that is named generic pairs of nodes.
DYNAMIC_OPS = frozenset({*IntegerOpsRegistry, "Gemm"})  # it rewrites Gemm as MatMul first
QOPERATOR_OPS = frozenset(QLinearOpsRegistry)
STATIC_OPS = frozenset({*QLinearOpsRegistry, *QDQRegistry})
CONSTANT_ONLY = frozenset({"Conv", "Gather", "Gemm", "LSTM", "MatMul"})  # of dynamic quantization
FIRST_OPSET = {"MaxPool": 12, "Resize": 11}  # below it, both formats leave the operator in float
MATRIX = 2  # axes
FOLD_GEMM = "fold-gemm"  # the preparation step


def op_types(recipe: Recipe) -> frozenset[str]:
    """The op types that a recipe's tool looks at."""
    named = frozenset(recipe.op_types)
    if recipe.method == "dynamic":
        # MatMul in a list means Gemm too: onnxruntime can't tell them apart once it has rewritten Gemm.
        return DYNAMIC_OPS & (named | ({"Gemm"} if "MatMul" in named else set()) if named else DYNAMIC_OPS)
    if recipe.method == "nbits":
        return frozenset({"Gemm", "MatMul"})
    if recipe.method != "static":
        return frozenset()
    wanted = named or STATIC_OPS
    return wanted & QOPERATOR_OPS if recipe.format == "QOperator" else wanted


def reached(recipe: Recipe, model: Summary) -> tuple[Node, ...]:
    """List the nodes of the main graph that a recipe may turn into integers, or with ``fp16`` into half precision.

    The preparation can fold some away, and an operator between float ones may be left.
    """
    kinds = op_types(recipe)
    return tuple(
        node
        for node in model.nodes
        if (_halved(recipe, node) if recipe.method == "fp16" else node.kind in kinds and _fits(recipe, node, model.opset))
        and _is_meant(recipe, node)
    )


def _halved(recipe: Recipe, node: Node) -> bool:
    return node.kind not in DEFAULT_OP_BLOCK_LIST and node.kind not in recipe.exclude_op_types


def _fits(recipe: Recipe, node: Node, opset: int) -> bool:
    if node.kind == "Gemm" and recipe.method in {"dynamic", "nbits"} and not is_matmul(recipe, node):
        return False
    if recipe.method == "nbits":
        return any(is_matrix(weight.dims) for weight in node.weights)
    if recipe.method == "dynamic":
        free = node.kind == "MatMul" and recipe.options().get("MatMulConstBOnly", True) is False
        return not (node.kind in CONSTANT_ONLY and node.lacks_weight) or free
    if recipe.format == "QOperator" and node.kind in {"Conv", "Gemm"} and node.has_computed_bias:
        return False
    return opset >= FIRST_OPSET.get(node.kind, 0)


def is_matmul(recipe: Recipe, node: Node) -> bool:
    """Say whether dynamic and nbits rewrite a Gemm as a MatMul, without which they leave it in float."""
    return node.is_plain or (bool(node.weights) and FOLD_GEMM not in recipe.skip_steps)


def has_only_special_gemms(recipe: Recipe, model: Summary) -> bool:
    """Say whether a model has Gemm nodes and no MatMul, and none of them is rewritten as one."""
    found = [node for node in model.nodes if node.kind == "Gemm"]
    others = model.kinds["MatMul"] or model.nested.get("MatMul")
    return bool(found) and not others and not any(is_matmul(recipe, node) for node in found)


def gemms(model: Summary) -> str:
    """Name the Gemm nodes of the main graph: `` 'a', 'b'``."""
    return f" {listed(node.name or node.outputs[0] for node in model.nodes if node.kind == 'Gemm')}"


def is_matrix(dims: tuple[int, ...]) -> bool:
    """Say whether a weight is a matrix, perhaps with leading axes of size 1."""
    return len(dims) >= MATRIX and all(size == 1 for size in dims[:-MATRIX])


def _is_meant(recipe: Recipe, node: Node) -> bool:
    """Apply the recipe's globs; a name that the preparation changes is not known here."""
    if recipe.nodes and not matches(node.name, recipe.nodes):
        return False
    return not matches(node.name, recipe.exclude_nodes)


def matches(name: str, globs: tuple[str, ...]) -> bool:
    """Say whether a node's name is one of these, or matches one."""
    return any(name == glob or fnmatchcase(name, glob) for glob in globs)
