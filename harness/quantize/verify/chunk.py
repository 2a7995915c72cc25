"""Some samples of one output, of which sums and ranges are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.quantize.verify.sums import SILENT, is_constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.quantize.verify.pairing import Array
    from harness.quantize.verify.sums import Floats, Mask


@dataclass(frozen=True)
class Chunk:
    """Values of some samples of one output, ready to be added up.

    Attributes:
        ref: float64 [samples, …], the reference's, with 0 where a value can't be compared.
        x: the same of the variant.
        error: ``ref - x``.
        signal: squares of ``ref``.
        noise: squares of ``error``.
        comparable: where both values are finite, bool [samples, …]; None if all are.
    """

    ref: Floats
    x: Floats
    error: Floats
    signal: Floats
    noise: Floats
    comparable: Mask | None

    @classmethod
    def of(cls, reference: Array, candidate: Array) -> Chunk:
        """Prepare numbers of any type."""
        ref, x = reference.astype(np.float64), candidate.astype(np.float64)
        error = ref - x
        noise = error * error
        # A value that is not finite makes the sum so; the opposite is not sure.
        if math.isfinite(float(noise.sum())):
            return cls(ref, x, error, ref * ref, noise, None)
        comparable = np.isfinite(ref) & np.isfinite(x)
        if comparable.all():
            return cls(ref, x, error, ref * ref, noise, None)
        ref, x = np.where(comparable, ref, 0.0), np.where(comparable, x, 0.0)
        error = ref - x
        return cls(ref, x, error, ref * ref, error * error, comparable)

    def counts(self) -> NDArray[np.int64]:
        """How many values of each sample can be compared."""
        if self.comparable is None:
            return np.full(len(self.ref), self.ref[0].size if len(self.ref) else 0)
        return np.asarray(self.comparable.reshape(len(self.ref), -1).sum(axis=1))

    def ranges(self) -> Range:
        """The ranges of each value over the samples, of which there must be one."""
        return Range(*self._edges(self.ref), *self._edges(self.x))

    def _edges(self, values: Floats) -> tuple[Floats, Floats]:
        if self.comparable is None:
            return (values[0], values[0]) if len(values) == 1 else (values.min(axis=0), values.max(axis=0))
        low, high = (np.where(self.comparable, values, limit) for limit in (np.inf, -np.inf))
        return low.min(axis=0), high.max(axis=0)


class Range:
    """The smallest and the largest values of the reference and of the variant, for each of several parts."""

    def __init__(self, ref_low: Floats, ref_high: Floats, low: Floats, high: Floats) -> None:
        self.ref_low, self.ref_high, self.low, self.high = ref_low, ref_high, low, high

    @classmethod
    def empty(cls, shape: tuple[int, ...]) -> Range:
        """Ranges of nothing yet."""
        return cls(np.full(shape, np.inf), np.full(shape, -np.inf), np.full(shape, np.inf), np.full(shape, -np.inf))

    def widen(self, other: Range, axes: tuple[int, ...] = ()) -> None:
        """Take in other ranges, merged along some axes."""
        self.ref_low = np.minimum(self.ref_low, other.ref_low.min(axis=axes))
        self.ref_high = np.maximum(self.ref_high, other.ref_high.max(axis=axes))
        self.low = np.minimum(self.low, other.low.min(axis=axes))
        self.high = np.maximum(self.high, other.high.max(axis=axes))

    def merged(self) -> Range:
        """The range of all parts together, of shape []."""
        found = Range.empty(())
        found.widen(self, tuple(range(self.low.ndim)))
        return found

    @property
    def span(self) -> Floats:
        """The width in the reference; NaN or -infinite where there is nothing."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(self.ref_high - self.ref_low)

    @property
    def loudest(self) -> Floats:
        """The largest absolute value in the reference."""
        return np.maximum(abs(self.ref_low), abs(self.ref_high))

    def lost(self, least: float | Floats) -> tuple[Mask, Mask]:
        """Say which parts vary in the reference, by more than ``least`` and than rounding, and which are constant in the variant."""
        with np.errstate(invalid="ignore", over="ignore"):
            varies = (self.span > least) & (self.span > SILENT * self.loudest)
            return np.asarray(varies), is_constant(self.low, self.high, self.span)
