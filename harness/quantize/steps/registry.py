"""The registry of preparation steps, in the order in which they work: a new one is a module and a line here."""

from __future__ import annotations

from harness.quantize.steps import (
    batch_transpose,
    beyond_range,
    block_biases,
    colliding_names,
    computed_operands,
    expand_axes,
    float16_range,
    float_resize,
    float_takers,
    float_types,
    gemm,
    keep_clamps,
    large_biases,
    lone_softmax,
    own_range,
    per_channel,
    shared_constants,
    small_values,
    transposed_weights,
)

STEPS = (
    float_types.STEP,
    expand_axes.STEP,
    gemm.STEP,
    transposed_weights.STEP,
    shared_constants.STEP,
    colliding_names.STEP,
    # The steps that look at calibrated ranges, or patch onnxruntime's quantizers.
    keep_clamps.STEP,
    own_range.STEP,
    float_takers.STEP,
    per_channel.STEP,
    block_biases.STEP,
    large_biases.STEP,
    computed_operands.STEP,
    beyond_range.STEP,
    small_values.STEP,
    lone_softmax.STEP,
    float_resize.STEP,
    float16_range.STEP,
    batch_transpose.STEP,
)
