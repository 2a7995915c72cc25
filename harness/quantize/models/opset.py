"""The operator set that a recipe needs, and models brought up to it by ONNX's version converter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnx import helper, version_converter
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.quant_utils import update_opset_version

from harness.quantize.models import opset_fixes
from harness.quantize.models.external_data import locations
from harness.quantize.models.graph import opset_of
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, raw_text
from harness.quantize.recipes import options

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.quantize.recipe import Recipe
    from harness.quantize.steps.step import Changes

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


def raised(model: ModelProto, version: int) -> ModelProto:
    """Bring a model up to an operator set.

    Returns:
        A copy, or the model itself if it is there already.

    Raises:
        RecipeError: if the converter can't do it.
    """
    own = opset_of(model) or 0
    if own >= version:
        return model
    if locations(model):
        message = (
            f"this needs opset {version}, and the model has {own}, which is not raised above 2 GB; export it with a newer opset"
        )
        raise RecipeError(message)
    try:
        converted = _converted(model, version)
    except Exception as exc:
        message = (
            f"this needs opset {version}, the model has {own}, and ONNX's version converter can't raise it: {raw_text(exc)}; "
            "export the model with a newer opset"
        )
        raise RecipeError(message) from exc
    # The converter leaves the version of the file format as it was.
    least = helper.find_min_ir_version_for(converted.opset_import, ignore_unknown=True)
    converted.ir_version = max(converted.ir_version, least)
    return converted


def _converted(model: ModelProto, version: int) -> ModelProto:
    """Convert a model, the nodes that the converter gets wrong by the table in ``opset_fixes.py``.

    Raises:
        Exception: of the converter or the checker.
    """
    start = onnx.ModelProto()
    start.CopyFrom(model)
    opset_fixes.hold(start, version)
    converted: ModelProto = version_converter.convert_version(start, version)
    opset_fixes.release(converted)
    onnx.checker.check_model(converted)
    return converted


def quantized(recipe: Recipe, model: ModelProto, changes: Changes | None = None) -> ModelProto:
    """Bring a model to the operator set in which ``quantize_static`` calibrates and quantizes it for a recipe.

    Args:
        recipe: how it is quantized.
        model: what is quantized.
        changes: by which its names differ from the prepared model's.

    Returns:
        A copy, or the model itself if it is there already.

    Raises:
        RecipeError: if the converter can't do it.
        Exception: of onnxruntime's own conversion.
    """
    extra = options.translated(recipe, model, changes)
    with quiet():
        found: ModelProto = update_opset_version(
            raised(model, needed(recipe)),
            QuantType[recipe.weight],
            QuantType[recipe.activation],
            tensor_quant_overrides=extra.get("TensorQuantOverrides"),
            block_size=extra.get("BlockSize", 0),
        )
    return found


def notes(before: ModelProto, after: ModelProto) -> tuple[str, ...]:
    """Tell if the operator set was raised: runtimes that are older than it refuse the model."""
    old, new = opset_of(before), opset_of(after)
    return () if old == new else (f"opset {old} was raised to {new}",)
