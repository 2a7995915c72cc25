"""The Kullback-Leibler divergence of a variant's classes from fp32's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from harness.quantize.verify.pairing import Array, Pair

# [batch, classes], or [batch, positions, classes] as language models and text recognizers give.
TABLE_RANKS = (2, 3)
MIN_CLASSES = 2
# How far from 1 a row of probabilities in float32 may sum, and what stands for a probability of 0, as in keras.losses.KLDivergence.
SUM_TOLERANCE, LEAST_PROBABILITY = 1e-3, 1e-7


def has_classes(output: Array) -> bool:
    """Say whether an output is a table of classes: [batch, classes] or [batch, positions, classes]."""
    return output.ndim in TABLE_RANKS and output.shape[-1] >= MIN_CLASSES


def as_classes(output: Array) -> Array:
    """Drop axes of size 1 behind the first where that leaves [batch, classes]; any other output stays as it is."""
    rest = [size for size in output.shape[1:] if size != 1]
    if has_classes(output) or len(rest) != 1:
        return output
    return output.reshape(output.shape[0], *rest)


def divergence(tables: Sequence[Pair]) -> tuple[float | None, bool]:
    """Compute the mean over rows of Σ p·ln(p / q), in nats (Kullback and Leibler 1951, Ann. Math. Stat. 22:79).

    A class that fp32 gives -infinity has p = 0 and adds nothing. Rows with NaN or +infinity on either side have no softmax and are
    left out.

    Args:
        tables: [rows, classes] or [batch, positions, classes] of the reference and of the variant.

    Returns:
        The mean, None without rows, infinite where the variant rules out a class that fp32 does not; and whether the rows are
        probabilities already.
    """
    if not any(ref.size for ref, _ in tables):
        return None, False
    probabilities = all(is_distribution(ref) for ref, _ in tables)
    logarithms = _logarithms if probabilities else _log_softmax
    total, rows = 0.0, 0
    with np.errstate(invalid="ignore", over="ignore"):
        for pair in tables:
            ref, x = (side.reshape(-1, side.shape[-1]).astype(np.float64) for side in pair)
            possible = (
                (ref.max(axis=-1) > -np.inf)
                & (x.max(axis=-1) > -np.inf)
                & (ref.max(axis=-1) < np.inf)
                & (x.max(axis=-1) < np.inf)
            )
            p, q = logarithms(ref[possible]), logarithms(x[possible])
            weights = np.exp(p)
            total += float(np.sum(np.where(weights > 0, weights * (p - q), 0.0)))
            rows += len(p)
    if not rows or math.isnan(total):
        return None, probabilities
    # Rounding can leave a mean of equal rows just below zero.
    return max(0.0, total / rows), probabilities


def is_distribution(rows: Array, axis: int = -1) -> bool:
    """Say whether values are probabilities along an axis: none negative, sums of 1."""
    with np.errstate(invalid="ignore"):
        return bool((rows >= 0).all() and (np.abs(rows.sum(axis=axis, dtype=np.float64) - 1) <= SUM_TOLERANCE).all())


def _log_softmax(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = rows - rows.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _logarithms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    possible = np.clip(rows, LEAST_PROBABILITY, 1)
    return np.asarray(np.log(possible / possible.sum(axis=-1, keepdims=True)))
