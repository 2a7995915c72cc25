"""Static quantization: weights and activations in integers, ranges from calibration data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from harness.quantize.graph import opset_of
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.quantize.recipe import Recipe
    from harness.quantize.workshop import Workshop

PER_CHANNEL_OPSET = 13  # the first in which DequantizeLinear has an axis


def too_old(recipe: Recipe, opset: int) -> str | None:
    """Say why a recipe can't be made of a model with an older operator set, or None."""
    if recipe.method == "static" and recipe.format == "QDQ" and recipe.per_channel and opset < PER_CHANNEL_OPSET:
        return (
            f"per-channel QDQ needs opset {PER_CHANNEL_OPSET}, and the model has {opset}: DequantizeLinear has no axis there; "
            "export the model with a newer opset"
        )
    return None


def make(recipe: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Quantize the prepared model with the shared ranges of the recipe's calibration method.

    Raises:
        RecipeError: if the recipe does not suit the model, or the calibration failed.
    """
    prepared = workshop.prepared
    if reason := too_old(recipe, opset_of(prepared.proto) or 0):
        raise RecipeError(reason)
    excluded = workshop.excluded(recipe)
    method = recipe.calibration or "MinMax"
    ranges = workshop.ranges(method, recipe.calibration_data)
    with quiet():
        quantize_static(
            prepared.path,
            path,
            None,
            quant_format=QuantFormat[recipe.format],
            op_types_to_quantize=list(recipe.op_types),
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            activation_type=QuantType[recipe.activation],
            weight_type=QuantType[recipe.weight],
            nodes_to_exclude=excluded,
            calibrate_method=CalibrationMethod[method],
            calibration_cache_path=ranges,
            use_external_data_format=prepared.is_large,
        )
    about_data = workshop.samples[recipe.calibration_data].notes
    return (*about_data, *workshop.notes(recipe))
