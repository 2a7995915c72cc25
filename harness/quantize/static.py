"""Static quantization: weights and activations in integers, ranges from calibration data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from harness.quantize import opset, options
from harness.quantize.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe
    from harness.quantize.workshop import Workshop


def make(recipe: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Quantize the prepared model with the shared ranges of the recipe's calibration method.

    Raises:
        RecipeError: if the recipe does not suit the model, or the calibration failed.
    """
    prepared = workshop.prepared
    model = opset.raised(prepared.proto, opset.needed(recipe))
    chosen = workshop.chosen(recipe)
    excluded = workshop.excluded(recipe)
    extra = options.translated(recipe, prepared.proto)
    method = recipe.calibration or "MinMax"
    ranges = workshop.ranges(recipe)
    with quiet():
        quantize_static(
            prepared.path if model is prepared.proto else _written(model, path),
            path,
            None,
            quant_format=QuantFormat[recipe.format],
            op_types_to_quantize=list(recipe.op_types),
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            activation_type=QuantType[recipe.activation],
            weight_type=QuantType[recipe.weight],
            nodes_to_quantize=chosen,
            nodes_to_exclude=excluded,
            extra_options=extra,
            calibrate_method=CalibrationMethod[method],
            calibration_cache_path=ranges,
        )
    made = onnx.load(path, load_external_data=False)
    return (*workshop.notes(recipe), *opset.notes(prepared.proto, made), *options.notes(recipe))


def _written(model: ModelProto, path: Path) -> Path:
    """Write a model beside the one that is being made, for tools that want a file."""
    beside = path.with_name(f"{path.stem}-raised.onnx")
    onnx.save(model, beside)
    return beside
