"""A made model, read back: is it valid, and is it what its recipe says?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnxruntime

from harness.quantize.method import method_of
from harness.quantize.model import external_data, validity
from harness.quantize.model.graph import import_contrib, is_quantized, nodes, sort_nodes
from harness.quantize.model.versions import refusal, stamp
from harness.quantize.quiet import quiet
from harness.quantize.reasons import reason_of
from harness.quantize.verify import bias, float_weights

if TYPE_CHECKING:
    from pathlib import Path

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe
NESTED = ": onnxruntime's tools leave the bodies of If, Loop and Scan alone (dynamic quantizes them with EnableSubgraph = true)"


def mend(path: Path, runtime: str | None = None) -> None:
    """Put right what a tool wrote: nodes in an order that ONNX does not allow, an operator set that is not imported; and stamp it.

    Args:
        path: its file.
        runtime: the oldest version of onnxruntime that is to load it, if it is known.
    """
    model = onnx.load(path, load_external_data=False)
    if sort_nodes(model) | import_contrib(model) | stamp(model, runtime):
        onnx.save(model, path)


def check(recipe: Recipe, path: Path, runtime: str | None = None) -> tuple[str, ...]:
    """Check a model that was made.

    Args:
        recipe: what it should be.
        path: its file.
        runtime: the oldest version of onnxruntime that is to load it, if it is known.

    Returns:
        Notes on what a reader would not expect.

    Raises:
        Exception: of onnx, if the model is not valid.
    """
    model = onnx.load(path, load_external_data=False)
    # By its path where tensors lie beside it: together they would be too much for one protobuf message.
    validity.check(path if external_data.locations(model) else model)
    notes = [*(_untouched(model) if recipe.is_quantized else ()), *method_of(recipe).differences(recipe, model)]
    if recipe.is_quantized:
        notes += [*float_weights.notes(recipe, model), *bias.notes(model, path.parent)]
    if reason := refusal(model, runtime):
        # fp32 and given are taken as they are; so nothing was done about it.
        notes.append(f"{reason}: it will not load there" + ("; the recipe 'prepared' may" if recipe.method == "fp32" else ""))
    return tuple(notes)


def _untouched(model: ModelProto) -> list[str]:
    """Tell if a model has no quantized node at all."""
    if any(is_quantized(node.op_type) for node in nodes(model)):
        return []
    nested = any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)
    return ["nothing was quantized" + (NESTED if nested else "")]


def refused(path: Path) -> Exception | None:
    """Tell why onnxruntime here refuses a model, if it does; other versions and devices may load it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with quiet():
            onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        return exc
    return None


def refusals(path: Path, reason: Exception | None) -> tuple[str, ...]:
    """Tell that onnxruntime here refuses a model, if it does."""
    if reason is None:
        return ()
    return (f"onnxruntime {onnxruntime.__version__} on this machine does not load it: {reason_of(reason, [path.parent])}",)
