"""Which nodes of a model a recipe works on."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from onnxruntime.quantization.registry import IntegerOpsRegistry, QDQRegistry, QLinearOpsRegistry

from harness.quantize.method import method_of

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
    """The op types that a recipe's tool looks at; empty for one that looks at any, or at none."""
    return method_of(recipe).op_types(recipe)


def target_nodes(recipe: Recipe, model: Summary) -> tuple[Node, ...]:
    """List the nodes of the main graph that a recipe may turn into integers, or with ``fp16`` into half precision.

    The preparation can fold some away, and an operator between float ones may be left.
    """
    method = method_of(recipe)
    kinds = method.op_types(recipe)
    return tuple(
        node
        for node in model.nodes
        if (not kinds or node.kind in kinds) and method.works_on(recipe, node, model.opset) and _is_meant(recipe, node)
    )


def is_matmul(recipe: Recipe, node: Node) -> bool:
    """Say whether dynamic and nbits rewrite a Gemm as a MatMul, without which they leave it in float."""
    return node.is_plain or (bool(node.weights) and FOLD_GEMM not in recipe.skip_steps)


def has_only_special_gemms(recipe: Recipe, model: Summary) -> bool:
    """Say whether a model has Gemm nodes and no MatMul, and none of them is rewritten as one."""
    found = [node for node in model.nodes if node.kind == "Gemm"]
    others = model.kinds["MatMul"] or model.nested.get("MatMul")
    return bool(found) and not others and not any(is_matmul(recipe, node) for node in found)


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
