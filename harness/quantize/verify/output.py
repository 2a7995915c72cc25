"""How near one output of a variant is to the reference's: as a whole, by slice and by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.quantize.verify.chunk import Chunk, Range
from harness.quantize.verify.parts import Part
from harness.quantize.verify.slices import LEAST_VALUES, Slices
from harness.quantize.verify.sums import SILENT, decibels, decibels_of_parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.quantize.verify.pairing import Array

CHUNK_VALUES = 1 << 21  # computed at a time, as long as a single sample has no more


@dataclass(frozen=True)
class OutputFidelity:
    """The distances of one output, over the values that are finite on both sides, in float64.

    Attributes:
        name: of the output.
        sqnr_db: 10·log10(Σ ref² / Σ (ref - x)²); infinite without noise, -infinite if no value can be compared although fp32 has
            some; None, as all distances, for an integer output.
        mse: mean squared error.
        max_error: largest absolute error.
        cosine: Σ ref·x / √(Σ ref² · Σ x²).
        nan_count: values of the variant that are NaN.
        inf_count: values of the variant that are infinite.
        reference_nan_count: the same of the reference.
        reference_inf_count: the same of the reference.
        values: how many values the output has over all feeds.
        equal: share of an integer output's values that are the reference's; None for floating-point ones.
    """

    name: str
    sqnr_db: float | None
    mse: float | None
    max_error: float | None
    cosine: float | None
    nan_count: int
    inf_count: int
    reference_nan_count: int
    reference_inf_count: int
    values: int
    equal: float | None = None


class OutputSums:
    """One output, added up over all samples.

    Attributes:
        errors: Σ |ref - x|.
        size: Σ |ref|.
        compared: values that are finite on both sides.
        unequal: values that are not finite on one side, or not finite in another way than on the other side.
    """

    def __init__(self, name: str, *, is_float: bool, batched: bool) -> None:
        """Begin with nothing.

        Args:
            name: of the output.
            is_float: whether it is floating-point.
            batched: whether the first axis of the output's own shape is the batch.
        """
        self.name, self._is_float = name, is_float
        self._slices = Slices(name, batched=batched)
        self._samples: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]] = []
        self.signal = self.noise = self.errors = self.size = self.largest = 0.0
        self._power = self._product = 0.0
        self._range = Range.empty(())
        self.compared = self.values = self.same = self.unequal = 0
        self._nan, self._inf = [0, 0], [0, 0]

    def add(self, reference: Array, candidate: Array) -> None:
        """Add values of both models, [samples, …]."""
        step = max(1, CHUNK_VALUES // max(1, reference.size // max(1, len(reference))))
        for start in range(0, len(reference), step):
            self._add(reference[start : start + step], candidate[start : start + step])

    @property
    def identical(self) -> bool:
        """All values are equal; NaN is equal to NaN."""
        return not self.largest and not self.unequal if self._is_float else self.same == self.values

    def _add(self, reference: Array, candidate: Array) -> None:
        self.values += reference.size
        if not reference.size:
            # Such as no detections; it is a sample all the same, and the next one has the next number.
            nothing = np.zeros(len(reference))
            self._samples.append((nothing, nothing, nothing.astype(np.int64)))
            return
        with np.errstate(invalid="ignore", over="ignore"):
            chunk = Chunk.of(reference, candidate)
            if chunk.comparable is not None:
                self._count(reference, candidate, chunk.comparable)
            counts, ranges = chunk.counts(), chunk.ranges()
            self.compared += int(counts.sum())
            self._range.widen(ranges.merged())
            if self._is_float:
                self._add_up(chunk, counts)
                self._slices.add(chunk, ranges)
            else:
                self.same += int(np.sum(reference == candidate))

    def _count(self, reference: Array, candidate: Array, comparable: NDArray[np.bool_]) -> None:
        for side, values in enumerate((reference, candidate)):
            self._nan[side] += int(np.isnan(values).sum())
            self._inf[side] += int(np.isinf(values).sum())
        same = (reference == candidate) | (np.isnan(reference) & np.isnan(candidate))
        self.unequal += int(np.sum(~comparable & ~same))

    def _add_up(self, chunk: Chunk, counts: NDArray[np.int64]) -> None:
        flat = (len(chunk.ref), -1)
        signal, noise = chunk.signal.reshape(flat).sum(axis=1), chunk.noise.reshape(flat).sum(axis=1)
        self._samples.append((signal, noise, counts))
        self.signal += float(signal.sum())
        self.noise += float(noise.sum())
        self._power += _product(chunk.x, chunk.x)
        self._product += _product(chunk.ref, chunk.x)
        self.size += float(np.sum(np.abs(chunk.ref)))
        error = np.abs(chunk.error)
        self.errors += float(np.sum(error))
        self.largest = float(np.maximum(self.largest, error.max()))

    def fidelity(self) -> OutputFidelity:
        """The distances of the whole output."""
        count = {
            "nan_count": self._nan[1],
            "inf_count": self._inf[1],
            "reference_nan_count": self._nan[0],
            "reference_inf_count": self._inf[0],
            "values": self.values,
        }
        if not self._is_float:
            equal = self.same / self.values if self.values else None
            return OutputFidelity(self.name, None, None, None, None, **count, equal=equal)
        lost = not self.compared and self.unequal > 0
        length = math.sqrt(self.signal) * math.sqrt(self._power)
        return OutputFidelity(
            self.name,
            sqnr_db=-math.inf if lost else decibels(self.signal, self.noise),
            mse=self.noise / self.compared if self.compared else math.nan if lost else 0.0,
            max_error=math.nan if lost else self.largest,
            cosine=0.0 if lost else self._product / length if length else float(self.noise == 0),
            **count,
        )

    def worst_slice(self) -> Part | None:
        """The slice of the lowest SQNR; None if no slice differs."""
        return self._slices.worst(self._mean_power)

    def worst_sample(self) -> Part | None:
        """The sample of the lowest SQNR, by its position; None if there are no two, or none differs."""
        if not self._samples:
            return None
        signal, noise, values = (np.concatenate(each) for each in zip(*self._samples, strict=True))
        if len(signal) < 2:  # noqa: PLR2004 - one sample is the whole
            return None
        sqnr = decibels_of_parts(signal, noise, values, self._mean_power)
        sqnr[values < LEAST_VALUES] = np.inf
        index = int(sqnr.argmin())
        return Part(self.name, sample=index, sqnr_db=float(sqnr[index]), kind="sample") if sqnr[index] < np.inf else None

    def dead(self) -> tuple[list[Part], float]:
        """Find what is constant in the variant and varies in fp32.

        Returns:
            The whole output, or runs of slices along the axis that says most; and the share of the output's values in them.
        """
        if self.compared < LEAST_VALUES:
            return [], 0.0
        loudest, span = float(self._range.loudest), float(self._range.span)
        varies, constant = self._range.lost(loudest * SILENT)
        if varies and constant:
            return [Part(self.name, dead=True)], 1.0
        return self._slices.dead(loudest, span)

    @property
    def _mean_power(self) -> float:
        return self.signal / self.compared if self.compared else 0.0


def _product(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The inner product, in one pass and without the threads of BLAS."""
    return float(np.einsum("i,i->", one.ravel(), other.ravel()))
