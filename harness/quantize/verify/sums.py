"""Sums that distances between two arrays are made from, added up chunk by chunk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# A part whose root mean square is below this share of its output's is silent: float32 can't tell it from zero beside the rest.
SILENT = 1e-6


@dataclass(frozen=True)
class Chunk:
    """Values of some samples of one output, ready to be added up.

    Attributes:
        ref: float64 [samples, …], the reference's, with 0 where a value can't be compared.
        x: the same of the variant.
        signal: squares of ``ref``.
        noise: squares of ``ref - x``.
        comparable: bool, where both values are finite; None if all are.
    """

    ref: Floats
    x: Floats
    signal: Floats
    noise: Floats
    comparable: NDArray[np.bool_] | None

    def bounded(self, values: Floats, limit: float) -> Floats:
        """The values, with ``limit`` where they can't be compared."""
        return values if self.comparable is None else np.where(self.comparable, values, limit)

    def counts(self) -> NDArray[np.int64]:
        """How many values of each sample can be compared."""
        if self.comparable is None:
            return np.full(len(self.ref), self.ref[0].size if len(self.ref) else 0)
        return np.asarray(self.comparable.reshape(len(self.ref), -1).sum(axis=1))


class AxisSums:
    """Sums for each slice along one axis, over all samples and other axes.

    Attributes:
        signal: Σ ref² of each slice, float64 [slices].
        noise: Σ (ref - x)² likewise.
        values: how many values of each slice are finite on both sides.
        ref_low: smallest of these values in the reference; ref_high: largest; low and high: those of the variant.
        distribution: the reference's values are probabilities along this axis.
    """

    def __init__(self, size: int) -> None:
        self.signal, self.noise = np.zeros(size), np.zeros(size)
        self.values = np.zeros(size, np.int64)
        self.ref_low, self.low = np.full(size, np.inf), np.full(size, np.inf)
        self.ref_high, self.high = np.full(size, -np.inf), np.full(size, -np.inf)
        self.distribution = True

    @property
    def size(self) -> int:
        """How many slices there are."""
        return len(self.signal)

    def widen(self, low: Floats, high: Floats, *, reference: bool) -> None:
        """Take further values into the ranges."""
        if reference:
            self.ref_low, self.ref_high = np.minimum(self.ref_low, low), np.maximum(self.ref_high, high)
        else:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)


def decibels(signal: float, noise: float) -> float:
    """Return 10·log10(signal / noise) of two sums of squares: infinite without noise, NaN if one is, -infinite without signal."""
    if noise == 0:
        return math.inf
    if math.isnan(noise) or math.isnan(signal):
        return math.nan
    return 10 * (math.log10(signal) - math.log10(noise)) if signal and math.isfinite(noise) else -math.inf


def decibels_of_parts(signal: Floats, noise: Floats, values: NDArray[np.int64], power: float) -> Floats:
    """Compute the SQNR of each part of an output, in dB; infinite without noise.

    A silent part, such as a row of padding, has no signal that its noise could be compared with. It is compared with what the
    output has on average.

    Args:
        signal: Σ ref² of each part.
        noise: Σ (ref - x)² of each part.
        values: how many values each part has.
        power: mean of ref² over the whole output.
    """
    expected = values * power
    heard = np.where(signal <= expected * SILENT**2, expected, signal)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = 10 * (np.log10(heard) - np.log10(noise))
    return np.where(noise == 0, np.inf, np.where(np.isnan(found), -np.inf, found))


def is_constant(low: Floats, high: Floats, span: Floats) -> NDArray[np.bool_]:
    """Say of which parts the variant's values are the same, but for float32 rounding.

    Args:
        low: smallest value of each part.
        high: largest value of each part.
        span: the range of the same values in the reference.
    """
    width = high - low
    return np.asarray((width <= np.maximum(abs(low), abs(high)) * SILENT) & (width <= span * 1e-3))
