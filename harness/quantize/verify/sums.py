"""Signal-to-quantization-noise ratios, and what has no signal."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
# A part whose root mean square is below this share of its output's is silent: float32 can't tell it from zero beside the rest.
SILENT = 1e-6


def decibels(signal: float, noise: float) -> float:
    """Return 10·log10(signal / noise) of two sums of squares: infinite without noise, NaN if one is, -infinite without signal."""
    if noise == 0:
        return math.inf
    if math.isnan(noise) or math.isnan(signal):
        return math.nan
    return 10 * (math.log10(signal) - math.log10(noise)) if signal and math.isfinite(noise) else -math.inf


def decibels_of_parts(
    signal: Floats, noise: Floats, values: NDArray[np.int64], power: float, constant: Mask | None = None
) -> Floats:
    """Compute the SQNR of each part of an output, in dB; infinite without noise.

    A part that is silent or constant in the reference, such as a row of padding, has no signal that its noise could be compared
    with. It is compared with what the output has on average.

    Args:
        signal: Σ ref² of each part.
        noise: Σ (ref - x)² of each part.
        values: how many values each part has.
        power: mean of ref² over the whole output.
        constant: parts that are constant in the reference.
    """
    # Squares of values beyond 1e154 are infinite.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        expected = values * power
        silent = signal <= expected * SILENT**2
        heard = np.where(silent if constant is None else silent | (constant & (signal < expected)), expected, signal)
        found = 10 * (np.log10(heard) - np.log10(noise))
    return np.where(noise == 0, np.inf, np.where(np.isnan(found), -np.inf, found))


def is_constant(low: Floats, high: Floats, span: Floats) -> Mask:
    """Say of which parts the variant's values are the same, but for float32 rounding.

    Args:
        low: smallest value of each part.
        high: largest value of each part.
        span: the range of the same values in the reference.
    """
    width = high - low
    return np.asarray((width <= np.maximum(abs(low), abs(high)) * SILENT) & (width <= span * 1e-3))
