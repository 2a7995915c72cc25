"""The operator set that a recipe needs, and models brought up to it by ONNX's version converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper, inliner, version_converter
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.quant_utils import update_opset_version

from harness.quantize import ort_options
from harness.quantize.model import opset_fixes, validity
from harness.quantize.model.external_data import locations
from harness.quantize.model.graph import MAIN_DOMAINS, opset_of
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, raw_text

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from harness.quantize.recipe import Recipe
    from harness.quantize.step import Changes

AXIS = 13  # the first in which DequantizeLinear has an axis
BLOCKS = 21  # the first in which it has blocks and four bits


def needed(recipe: Recipe) -> int:
    """Say which operator set a recipe needs at least and its tool does not bring about itself; 0 if any will do.

    ``quantize_static`` raises it for 16 bits and for blocks; per channel in an older one it writes an attribute that is not
    there yet, and ``MatMulNBitsQuantizer`` only changes the number.
    """
    if recipe.format != "QDQ":
        return 0
    if recipe.method == "nbits":
        return BLOCKS
    return AXIS if recipe.method == "static" and recipe.per_channel else 0


def target(recipe: Recipe, model: ModelProto, changes: Changes | None = None) -> int:
    """Say to which operator set a recipe's tool, or the harness before it, brings a model; the model's own if it stays.

    Args:
        recipe: how it is quantized.
        model: what is quantized.
        changes: by which its names differ from the prepared model's.

    Raises:
        RecipeError: if the recipe names a tensor that is not there.
    """
    own = opset_of(model) or 0
    if not recipe.is_quantized:
        return own
    wanted = max(own, needed(recipe))
    if recipe.method == "nbits" or recipe.weight is None:
        return wanted
    extra = ort_options.translated(recipe, model, changes)
    # The tool's own function says what it raises a model to: on one without nodes there is nothing that it could get wrong.
    bare = helper.make_model(helper.make_graph([], "bare", [], []), opset_imports=[helper.make_opsetid("", own)])
    of_static = {
        "activation_type": QuantType[recipe.activation] if recipe.activation else None,
        "tensor_quant_overrides": extra.get("TensorQuantOverrides"),
        "block_size": extra.get("BlockSize", 0),
    }
    with quiet():
        raised = update_opset_version(bare, QuantType[recipe.weight], **(of_static if recipe.method == "static" else {}))
    return max(wanted, opset_of(raised) or 0)


def way_out(version: int) -> str:
    """What to do where a model can't be raised to an operator set."""
    export = f"export the model with opset {version} or newer"
    if version < AXIS:
        return f"{export}, or use fp16, which takes the model as it is"
    wide = "8-bit activations and weights, " if version >= BLOCKS else ""
    return f"{export}, or use {wide}QOperator or per-tensor weights, which need no newer opset"


def raised(model: ModelProto, version: int, stamped: int | None = None) -> ModelProto:
    """Bring a model up to an operator set.

    Args:
        model: stays as it is.
        version: of the operator set.
        stamped: the version of the file format becomes at least that of this operator set; None is the one above. onnxruntime's own
            conversions leave it as it was.

    Returns:
        A copy, or the model itself if it is there already.

    Raises:
        RecipeError: if the converter can't do it.
    """
    own = opset_of(model) or 0
    if own >= version:
        return model
    try:
        converted = _converted(model, version)
    except Exception as exc:
        node = _culprit(model, version)
        what = f"node '{node.name}' ({node.op_type})" if node is not None else "it"
        message = (
            f"this needs opset {version}, the model has opset {own}, and ONNX's version converter can't raise {what}; {way_out(version)} "
            f"({raw_text(exc)})"
        )
        raise RecipeError(message) from exc
    # The converter leaves the version of the file format as it was.
    known = helper.make_opsetid("", version if stamped is None else stamped)
    converted.ir_version = max(converted.ir_version, helper.find_min_ir_version_for([known], ignore_unknown=True))
    return converted


def _culprit(model: ModelProto, version: int) -> NodeProto | None:
    """Find the first node of the main graph that the converter can't raise: on its own, while it leaves the others alone."""
    tried: set[str] = set()
    for node in model.graph.node:
        # Nodes that differ in their tensors only fail alike.
        form = f"{node.op_type} {len(node.input)} {len(node.output)} {list(node.attribute)}"
        if node.domain in MAIN_DOMAINS and form not in tried:
            tried.add(form)
            alone = onnx.ModelProto()
            alone.CopyFrom(model)
            others = [each for each in alone.graph.node if each.output != node.output]
            for other in others:
                other.domain = opset_fixes.HELD
            alone.opset_import.add(domain=opset_fixes.HELD, version=1)
            try:
                version_converter.convert_version(alone, version)
            except Exception:  # noqa: BLE001 - of the converter
                found: NodeProto = node
                return found
    return None


def _converted(model: ModelProto, version: int) -> ModelProto:
    """Convert a model; the table in ``opset_fixes.py`` replaces the converter for nodes that it gets wrong.

    Raises:
        Exception: of the converter or the checker.
    """
    start = onnx.ModelProto()
    start.CopyFrom(model)
    if start.functions:
        # The converter leaves functions out, and calls of them stay.
        start = inliner.inline_local_functions(start)
    opset_fixes.hold(start, version)
    converted: ModelProto = version_converter.convert_version(start, version)
    opset_fixes.release(converted)
    if not locations(converted):
        validity.check(converted)
    return converted


def notes(before: ModelProto, after: ModelProto) -> tuple[str, ...]:
    """Tell if the operator set was raised: runtimes that are older than it refuse the model."""
    old, new = opset_of(before), opset_of(after)
    return () if old == new else (f"opset {old} was raised to {new}",)
