"""The registry of preparation steps, in the order in which they work: a new one is a module and a line here."""

from __future__ import annotations

from harness.quantize.steps import shared_constants, transposed_weights

STEPS = (transposed_weights.STEP, shared_constants.STEP)
