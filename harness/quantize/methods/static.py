"""Static quantization: weights and activations in integers, ranges from calibration data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

from harness.quantize import opset, ort_options
from harness.quantize.calibration.calibration import DEFAULTS
from harness.quantize.calibration.reader import CopiedReader
from harness.quantize.method import Method, Tool, register
from harness.quantize.planning import sizes
from harness.quantize.planning.constraints import KEEP_CLAMPS, clamps
from harness.quantize.quiet import quiet
from harness.quantize.rewriting import patched
from harness.quantize.target_nodes import FIRST_OPSET, QOPERATOR_OPS, STATIC_OPS
from harness.quantize.verify import precision
from harness.study.variants import StaticSpec

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.context import BuildContext
    from harness.quantize.model.outline import Node
    from harness.quantize.recipe import Recipe

# Seen on studies/digits: 99.7 % became 12.5 %.
UNCLAMPED = (
    "Distribution gives ranges on both sides of the mean, and Relu and Clip, which would clamp, were removed: do not "
    "skip keep-clamps, set ActivationSymmetric = true, or with QDQ QDQKeepRemovableActivations = true"
)


def make(recipe: Recipe, context: BuildContext, path: Path) -> tuple[str, ...]:
    """Quantize the prepared model with the shared ranges of the recipe's calibration method.

    Raises:
        RecipeError: if the recipe does not suit the model, or the calibration failed.
    """
    prepared = context.model(recipe)
    raised = context.raised(recipe)
    chosen = context.chosen(recipe)
    excluded = context.excluded(recipe)
    extra = ort_options.translated(recipe, prepared.proto, prepared.changes)
    method = recipe.calibration or "MinMax"
    smooth = bool(extra.get("SmoothQuant"))
    # SmoothQuant moves scales between activations and weights first: the shared ranges are not those of its model.
    ranges = None if smooth else context.ranges(recipe)
    decision = context.decision(recipe, ranges)
    reader = CopiedReader(context.samples[recipe.calibration_data].feeds) if smooth else None
    with quiet(), patched(recipe) as found:
        quantize_static(
            raised.path,
            path,
            reader,
            quant_format=QuantFormat[recipe.format],
            op_types_to_quantize=list(recipe.op_types),
            per_channel=recipe.per_channel,
            reduce_range=recipe.reduce_range,
            activation_type=QuantType[recipe.activation],
            weight_type=QuantType[recipe.weight],
            nodes_to_quantize=chosen,
            nodes_to_exclude=[*excluded, *decision.float_nodes],
            extra_options=extra,
            calibrate_method=CalibrationMethod[method],
            calibration_cache_path=ranges,
            use_external_data_format=prepared.is_large,
        )
    made = onnx.load(path, load_external_data=False)
    lost = _clamping(prepared.proto) - _clamping(made)
    warning = (
        (UNCLAMPED,)
        if recipe.calibration == "Distribution" and KEEP_CLAMPS in recipe.skip_steps and lost > 0 and not clamps(recipe)
        else ()
    )
    return (
        *context.notes(recipe),
        *decision.notes,
        *found,
        *opset.notes(prepared.proto, made),
        *ort_options.notes(recipe),
        *_idle(recipe),
        *warning,
    )


def _idle(recipe: Recipe) -> list[str]:
    """Tell of the calibration's options that its method does not read."""
    method = recipe.calibration or "MinMax"
    idle = sorted(set(recipe.options("calibration")) - set(DEFAULTS[method]))
    return (
        [f"calibration_options: {method} does not read {', '.join(idle)}; it reads {', '.join(DEFAULTS[method])}"] if idle else []
    )


def _clamping(model: ModelProto) -> int:
    """Count the nodes that onnxruntime removes where it takes a range for their work."""
    return sum(node.op_type in {"Relu", "Clip"} for node in model.graph.node)


def _op_types(recipe: Recipe) -> frozenset[str]:
    wanted = frozenset(recipe.op_types) or STATIC_OPS
    return wanted & QOPERATOR_OPS if recipe.format == "QOperator" else wanted


def _works_on(recipe: Recipe, node: Node, opset: int) -> bool:
    if recipe.format == "QOperator" and node.kind in {"Conv", "Gemm"} and node.has_computed_bias:
        return False
    return opset >= FIRST_OPSET.get(node.kind, 0)


METHOD = register(
    Method(
        spec=StaticSpec,
        make=make,
        op_types=_op_types,
        works_on=_works_on,
        size=sizes.of_integers,
        differences=precision.differences,
        tool=Tool("quantize_static", lambda recipe: f"{'QOperator' if recipe.format == 'QDQ' else 'QDQ'} or dynamic"),
    )
)
