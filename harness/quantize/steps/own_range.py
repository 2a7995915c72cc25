"""Keeps the calibrated range of a tensor that is used elsewhere than by its Relu or Clip."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization.base_quantizer import BaseQuantizer
from onnxruntime.quantization.operators.direct_q8 import QDQDirect8BitOp
from onnxruntime.quantization.registry import QDQRegistry

from harness.quantize.step import Decision, Step, listed, staying
from harness.quantize.steps import keep_clamps
from harness.quantize.steps.lone_softmax import flattens_axes, size_of, sizes_of
from harness.quantize.steps.patching import captured, entries, methods
from harness.quantize.steps.takers import behind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx import ModelProto

    from harness.quantize.recipe import Recipe

MANY = 256  # classes or positions: on average a probability is below one step of 1/255
# Measured with 600 random logits: where the largest of 64 samples is 0.45, rounding leaves 11 dB.
STEPS_OF_MANY = 160
FEW_STEPS = 16  # of an 8-bit scale; a tensor that spans less has less than four of its eight bits


def _ranges(kept: dict[str, None]) -> Any:  # noqa: ANN401 - onnxruntime is not typed
    original = BaseQuantizer.adjust_tensor_ranges

    def adjust_tensor_ranges(quantizer: Any) -> None:  # noqa: ANN401 - onnxruntime is not typed
        """Take ranges from followers as onnxruntime does, and give tensors that are seen elsewhere theirs back."""
        ranges = quantizer.tensors_range
        if ranges is None:
            original(quantizer)
            return
        nodes = quantizer.model.nodes()
        seen = captured(nodes) | {value.name for value in quantizer.model.graph().output}
        clamped = {node.input[0] for node in nodes if node.op_type in {"Relu", "Clip"}}
        before = {name: ranges[name] for name in seen & clamped if name in ranges}
        original(quantizer)
        for name, own in before.items():
            if ranges[name] is not own:
                ranges[name] = own
                kept[name] = None

    return adjust_tensor_ranges


def _average(kept: dict[str, None]) -> type:
    class AveragePool(QDQDirect8BitOp):  # type: ignore[misc]  # onnxruntime is not typed
        """AveragePool in the QDQ format: averages can be far smaller than what they are made of."""

        def quantize(self) -> None:
            """Quantize the output with the scale of the input, or with its own where the first would leave little of it."""
            quantizer, (source, *_), (output, *_) = self.quantizer, self.node.input, self.node.output
            super().quantize()
            marked = quantizer.tensors_to_quantize.get(output)
            known = quantizer.quantization_params
            if marked is None or not marked.is_shared or source not in known or output not in known:
                return
            span = max(abs(np.asarray(each)).max() for each in quantizer.tensors_range[output].range_value)
            if 0 < span < FEW_STEPS / 2 * known[source].original["scale"]:
                del quantizer.tensors_to_quantize[output]
                quantizer.quantize_activation_tensor(output)
                kept[output] = None

    return AveragePool


def decide(model: ModelProto, recipe: Recipe, ranges: Mapping[str, tuple[float, float]] | None) -> Decision:
    """Leave a Softmax in float whose largest value spans few of the 256 steps from 0 to 1, and with it what takes its output.

    The tool sets that range whatever was calibrated, and onnxruntime's kernel knows no other: between a DequantizeLinear and a
    QuantizeLinear, Softmax becomes QLinearSoftmax, so its output may not be quantized.
    """
    if ranges is None or recipe.activation not in {"QUInt8", "QInt8"}:
        return Decision()
    sizes, flattens = sizes_of(model), flattens_axes(model)
    small: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Softmax":
            many = (size_of(node, sizes, flattens=flattens) or 0) > MANY
            if 0 < ranges.get(node.output[0], (0, 1))[1] < (STEPS_OF_MANY if many else FEW_STEPS) / 255:
                small[node.output[0]] = node.name
    wanted = (*small.values(), *behind(model, small))
    note = (
        f"own-range: {staying(small.values())} in float, with the nodes that take the output, because its "
        "values are so small that 8 bits would round most of them to 0"
    )
    return Decision(wanted, (note,)) if small else Decision()


@contextmanager
def patch(recipe: Recipe, notes: list[str]) -> Iterator[None]:
    """Replace how onnxruntime takes a tensor's range from what follows or precedes; a note names the tensors that kept theirs."""
    if keep_clamps.STEP.key in recipe.skip_steps:  # without the node that it would stand for, the range has to clamp
        yield
        return
    kept: dict[str, None] = {}
    with (
        methods(BaseQuantizer, adjust_tensor_ranges=_ranges(kept)),
        entries(QDQRegistry, {"AveragePool": _average(kept)}),
    ):
        yield
    if kept:
        notes.append(
            f"own-range: these tensors keep the range that was calibrated for them, instead of that of a neighbouring tensor: {listed(kept)}"
        )


STEP = Step(
    key="own-range",
    summary=(
        "A tensor before a Relu or Clip keeps its own range if it is also a graph output, or if the body of an If, Loop or Scan takes it. "
        "The output of an AveragePool keeps its own range if its input's range would leave it fewer than 16 steps. A Softmax stays in float "
        "if its largest value spans fewer than 16 of the 255 steps from 0 to 1, or fewer than 160 over an axis of more than 256."
    ),
    source="BaseQuantizer.adjust_tensor_ranges in onnxruntime/quantization/base_quantizer.py; microsoft/onnxruntime#9425, #21573",
    cost="No size. The Relu or Clip stays in the model; the Softmax and the nodes that take its output are computed in float.",
    methods=frozenset({"static"}),
    decide=decide,
    patch=patch,
)
