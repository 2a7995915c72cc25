"""Half precision: weights and arithmetic in float16, inputs and outputs in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnxruntime
from onnxruntime.transformers.float16 import convert_float_to_float16

from harness.quantize import storage
from harness.quantize.quiet import quiet
from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe
    from harness.quantize.workshop import Workshop


def make(_: Recipe, workshop: Workshop, path: Path) -> tuple[str, ...]:
    """Convert the source model by onnxruntime's converter, or else by onnxconverter-common's.

    Both sometimes give models that no runtime loads, so the result is loaded before it counts.

    Raises:
        RecipeError: if neither gives a model that loads.
    """
    failures: list[str] = []
    for name, convert in (("onnxruntime", _by_onnxruntime), ("onnxconverter-common", _by_common)):
        try:
            with quiet():
                storage.write(convert(workshop.source.content(), inferred=workshop.source.is_large), path)
                onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as exc:  # noqa: BLE001 - the converters raise anything
            failures.append(f"{name}: {reason_of(exc, [workshop.folder])}")
            continue
        return () if not failures else (f"converted by {name}, because by {failures[0]}",)
    raise RecipeError("; ".join(failures))


def _by_onnxruntime(model: ModelProto, *, inferred: bool) -> ModelProto:
    converted: ModelProto = convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=inferred)
    return converted


def _by_common(model: ModelProto, *, inferred: bool) -> ModelProto:
    from onnxconverter_common import float16  # noqa: PLC0415 - only needed when the first converter fails

    converted: ModelProto = float16.convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=inferred)
    return converted
