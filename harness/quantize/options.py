"""onnxruntime's ``extra_options``, as its quantizers want them: TOML has no QuantType and no numpy scalars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto

    from harness.quantize.recipe import Recipe

# Of quantize_static's options those that its calibration takes, by the name that create_calibrator knows.
OF_CALIBRATION = {
    "CalibTensorRangeSymmetric": "symmetric",
    "CalibMovingAverage": "moving_average",
    "CalibMovingAverageConstant": "averaging_constant",
    "CalibPercentile": "percentile",
}


def of_calibration(recipe: Recipe) -> dict[str, Any]:
    """Collect what a recipe says of its calibration, as ``create_calibrator(extra_options=…)`` takes it.

    ``calibration_options`` are in its words already, and win over the ``Calib…`` among the extra options.
    """
    extra = recipe.options()
    return {word: extra[name] for name, word in OF_CALIBRATION.items() if name in extra} | recipe.options("calibration")


def translated(recipe: Recipe, _: ModelProto) -> dict[str, Any]:
    """Give a recipe's extra options as the quantizers of onnxruntime take them."""
    return recipe.options()
