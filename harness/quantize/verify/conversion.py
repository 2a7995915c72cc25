"""Whether a model that was converted to float32 still computes what it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from harness.quantize.reasons import RecipeError, reason_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from harness.quantize.verify.original import Original

    Array = NDArray[Any]

# Rounding to float16 leaves 60 dB and more of a result; a network of it, half as many.
LEAST = 25.0  # dB


def verify(original: Original | None, model: Path) -> None:
    """Hold a converted model against the user's, on one sample.

    Args:
        original: the user's; None verifies nothing.
        model: the converted one's file.

    Raises:
        RecipeError: if an output has less than 25 dB of signal to difference, or values that are not finite only in one of the two.
    """
    if original is None:
        return
    try:
        pairs = original.pairs(model)
    except Exception as exc:
        message = f"onnxruntime can't run the model after its conversion to float32: {reason_of(exc, [model.parent])}; {_ADVICE}"
        raise RecipeError(message) from exc
    for name, (before, after) in pairs.items():
        if before.dtype.kind == "f" and (said := _departure(before.astype(np.float64), after.astype(np.float64))):
            message = f"the conversion to float32 changes what the model computes: output '{name}' {said}; {_ADVICE}"
            raise RecipeError(message)


_ADVICE = 'give a float32 model, or skip the conversion with skip_steps = ["convert-constants"]'


def _departure(before: Array, after: Array) -> str:
    """Say how an output departs; nothing if it does not."""
    if before.shape != after.shape:
        return f"has the shape {list(after.shape)} instead of {list(before.shape)}"
    both = np.isfinite(before) & np.isfinite(after)
    # Where float16 overflowed, float32 does not: that is no loss.
    if np.any(np.isfinite(before) & ~np.isfinite(after)):
        return "has values that are not finite, where those of the original are finite"
    signal, noise = float(np.sum(before[both] ** 2)), float(np.sum((before - after)[both] ** 2))
    ratio = 10 * np.log10(signal / noise) if signal and noise else np.inf if not noise else -np.inf
    return f"has an SQNR of {ratio:.1f} dB against the original" if ratio < LEAST else ""
