"""Whether two runs gave the same outputs, but for the order in which numbers were added."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Two runs may add the same numbers in another order. That stays above 100 dB in float32; 8-bit quantization lies at 20 to 50 dB.
SAME_DB = 80.0
# float16 has 11 significant bits: one unit in the last place of every value is 66 dB.
SAME_DB_HALF, HALF_BYTES = 50.0, 2


def same(first: Any, second: Any) -> bool:  # noqa: ANN401 - whatever onnxruntime gives
    """Say whether two outputs are equal: floats to 80 dB (float16: to 50 dB), all others exactly.

    NaN equals NaN, and infinity the infinity of the same sign. Sequences and maps are compared member by member.
    """
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, dict):
        return bool(first.keys() == second.keys()) and all(same(value, second[key]) for key, value in first.items())
    if not isinstance(first, np.ndarray):
        return bool(first == second) or (isinstance(first, float) and math.isnan(first) and math.isnan(second))
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    if first.dtype.kind != "f":
        return bool(np.array_equal(first, second))
    return ratio(first, second) >= (SAME_DB_HALF if first.dtype.itemsize <= HALF_BYTES else SAME_DB)


def ratio(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    """Return 10·log10(Σ first² / Σ (first - second)²) of two floating-point arrays of one shape, in dB.

    Infinite if they are equal; minus infinite where only one of them has a NaN or an infinity.
    """
    if np.array_equal(first, second, equal_nan=True):
        return math.inf
    finite = np.isfinite(first)
    if not np.array_equal(finite, np.isfinite(second)) or not np.array_equal(first[~finite], second[~finite], equal_nan=True):
        return -math.inf
    one, other = (side[finite].astype(np.float64) for side in (first, second))
    largest = max(float(np.abs(one).max()), float(np.abs(other).max()))  # squares of what is below 1e-162 would vanish
    power, noise = float(np.sum((one / largest) ** 2)), float(np.sum(((one - other) / largest) ** 2))
    if noise == 0:
        return math.inf
    return 10 * math.log10(power / noise) if power else -math.inf
