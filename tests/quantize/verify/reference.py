"""A slow and plain computation of what fidelity says of one output, to hold the fast one against."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np


def sqnr(ref: np.ndarray, x: np.ndarray, power: float | None = None, *, constant: bool = False) -> float:
    """SQNR in dB over the values that are finite on both sides; a silent or constant part counts as one of average power."""
    pairs = [(float(a), float(b)) for a, b in zip(ref.ravel(), x.ravel(), strict=True) if math.isfinite(a) and math.isfinite(b)]
    signal, noise = sum(a * a for a, _ in pairs), sum((a - b) ** 2 for a, b in pairs)
    if power is not None and (signal <= 1e-12 * power * len(pairs) or (constant and signal < power * len(pairs))):
        signal = power * len(pairs)
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def slices(ref: np.ndarray, x: np.ndarray) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Axis, index and values of each slice of [samples, …]."""
    for axis in range(1, ref.ndim):
        for index in range(ref.shape[axis]):
            if 1 < ref.shape[axis] <= 256:
                yield axis, index, ref.take(index, axis=axis), x.take(index, axis=axis)


def mean_power(ref: np.ndarray, x: np.ndarray) -> float:
    """Mean square of the reference's values that can be compared."""
    both = np.isfinite(ref) & np.isfinite(x)
    return float(np.mean(np.square(ref[both].astype(np.float64)))) if both.any() else 0.0


def is_constant(ref: np.ndarray, x: np.ndarray) -> bool:
    """Whether the reference's values that can be compared are all the same, but for rounding."""
    known = ref[np.isfinite(ref) & np.isfinite(x)].astype(np.float64)
    return not known.size or float(np.ptp(known)) <= 1e-6 * float(np.abs(known).max())


def is_dead(ref: np.ndarray, x: np.ndarray, output: np.ndarray) -> bool:
    """Whether a slice without NaN is constant in the variant and varies in the reference beside the whole output."""
    values, truth = [float(value) for value in x.ravel()], [float(value) for value in ref.ravel()]
    span, loudest = max(truth) - min(truth), max(abs(float(value)) for value in output.ravel())
    varies = span > 1e-6 * loudest and span > 1e-6 * max(map(abs, truth))
    width = max(values) - min(values)
    return varies and width <= 1e-6 * max(map(abs, values)) and width <= 1e-3 * span
