"""How near one output of a variant is to the reference's: as a whole, by slice and by sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.quantize.verify.divergence import is_distribution
from harness.quantize.verify.parts import Part, noun, runs_of
from harness.quantize.verify.sums import SILENT, AxisSums, Chunk, decibels, decibels_of_parts, is_constant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from harness.quantize.verify.pairing import Array, PairedOutput

SMALL_AXIS = 256  # slices; more are positions rather than kinds of things
CHUNK_VALUES = 1 << 21  # computed at a time, as long as a single sample has no more
# Fewer values are constant, or near zero, by chance.
LEAST_VALUES = 4
# Of classes whose probabilities add up to 1, those that never reach this one decide nothing.
LEAST_PROBABILITY = 0.01
# Along an axis that is not the smallest, slices are positions: a dead one counts if it varies by this share of the output's range.
TELLING_SHARE = 0.01


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

    def __init__(self, output: PairedOutput) -> None:
        self._output = output
        self._axes: dict[int, AxisSums] | None = None
        self._rank = 0
        self._samples: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]] = []
        self.signal = self.noise = self.errors = self.size = self.largest = 0.0
        self._power = self._product = 0.0
        self._low = self._ref_low = math.inf
        self._high = self._ref_high = -math.inf
        self.compared = self.values = self.same = self.unequal = 0
        self.identical = True
        self._nan, self._inf = [0, 0], [0, 0]
        for ref, x in output.samples():
            step = max(1, CHUNK_VALUES // max(1, ref.size // max(1, len(ref))))
            for start in range(0, len(ref), step):
                self._add(ref[start : start + step], x[start : start + step])

    def _add(self, reference: Array, candidate: Array) -> None:
        is_float = reference.dtype.kind == "f"
        self.values += reference.size
        if not is_float:
            self.same += int(np.sum(reference == candidate))
        self.identical = self.identical and np.array_equal(reference, candidate, equal_nan=is_float)
        with np.errstate(invalid="ignore", over="ignore"):
            chunk = self._chunk(reference.astype(np.float64), candidate.astype(np.float64))
            self._add_up(chunk)
            if is_float:
                flat = (len(chunk.ref), -1) if chunk.ref.size else (len(chunk.ref), 0)
                self._samples.append(
                    (chunk.signal.reshape(flat).sum(axis=1), chunk.noise.reshape(flat).sum(axis=1), chunk.counts())
                )
                self._slice_up(chunk)

    def _chunk(self, ref: NDArray[np.float64], x: NDArray[np.float64]) -> Chunk:
        comparable = np.isfinite(ref) & np.isfinite(x)
        if comparable.all():
            error = ref - x
            return Chunk(ref, x, ref * ref, error * error, None)
        for side, values in enumerate((ref, x)):
            self._nan[side] += int(np.isnan(values).sum())
            self._inf[side] += int(np.isinf(values).sum())
        same = (ref == x) | (np.isnan(ref) & np.isnan(x))
        self.unequal += int(np.sum(~comparable & ~same))
        ref, x = np.where(comparable, ref, 0.0), np.where(comparable, x, 0.0)
        return Chunk(ref, x, ref * ref, np.square(ref - x), comparable)

    def _add_up(self, chunk: Chunk) -> None:
        ref, x = chunk.ref, chunk.x
        self.compared += int(chunk.counts().sum())
        self.signal += float(chunk.signal.sum())
        self.noise += float(chunk.noise.sum())
        self._power += float(np.sum(x * x))
        self._product += float(np.sum(ref * x))
        self.size += float(np.sum(np.abs(ref)))
        error = np.abs(ref - x)
        self.errors += float(np.sum(error))
        self.largest = float(np.maximum(self.largest, error.max(initial=0.0)))
        self._ref_low = min(self._ref_low, float(chunk.bounded(ref, np.inf).min(initial=np.inf)))
        self._ref_high = max(self._ref_high, float(chunk.bounded(ref, -np.inf).max(initial=-np.inf)))
        self._low = min(self._low, float(chunk.bounded(x, np.inf).min(initial=np.inf)))
        self._high = max(self._high, float(chunk.bounded(x, -np.inf).max(initial=-np.inf)))

    def _slice_up(self, chunk: Chunk) -> None:
        shape = chunk.ref.shape
        small = {axis: size for axis, size in enumerate(shape) if axis and 1 < size <= SMALL_AXIS}
        if self._axes is None:
            self._axes, self._rank = {axis: AxisSums(size) for axis, size in small.items()}, len(shape) - 1
        # The slices of an axis whose size changes are not the same things in all feeds.
        self._axes = {
            axis: sums for axis, sums in self._axes.items() if small.get(axis) == sums.size and len(shape) - 1 == self._rank
        }
        if not self._axes or not chunk.ref.size:
            return
        signal, noise = chunk.signal.sum(axis=0), chunk.noise.sum(axis=0)
        values = None if chunk.comparable is None else chunk.comparable.sum(axis=0)
        ref_low, ref_high = chunk.bounded(chunk.ref, np.inf).min(axis=0), chunk.bounded(chunk.ref, -np.inf).max(axis=0)
        low, high = chunk.bounded(chunk.x, np.inf).min(axis=0), chunk.bounded(chunk.x, -np.inf).max(axis=0)
        for axis, sums in self._axes.items():
            others = tuple(each for each in range(self._rank) if each != axis - 1)
            sums.signal += signal.sum(axis=others)
            sums.noise += noise.sum(axis=others)
            sums.values += chunk.ref.size // sums.size if values is None else values.sum(axis=others)
            sums.widen(ref_low.min(axis=others), ref_high.max(axis=others), reference=True)
            sums.widen(low.min(axis=others), high.max(axis=others), reference=False)
            sums.distribution = sums.distribution and values is None and is_distribution(chunk.ref, axis)

    def fidelity(self) -> OutputFidelity:
        """The distances of the whole output."""
        count = {
            "nan_count": self._nan[1],
            "inf_count": self._inf[1],
            "reference_nan_count": self._nan[0],
            "reference_inf_count": self._inf[0],
            "values": self.values,
        }
        if not self._output.is_float:
            equal = self.same / self.values if self.values else None
            return OutputFidelity(self._output.name, None, None, None, None, **count, equal=equal)
        lost = not self.compared and self.unequal > 0
        length = math.sqrt(self.signal) * math.sqrt(self._power)
        return OutputFidelity(
            self._output.name,
            sqnr_db=-math.inf if lost else decibels(self.signal, self.noise),
            mse=self.noise / self.compared if self.compared else math.nan if lost else 0.0,
            max_error=math.nan if lost else self.largest,
            cosine=0.0 if lost else self._product / length if length else float(self.noise == 0),
            **count,
        )

    def worst_slice(self) -> Part | None:
        """The slice of the lowest SQNR; None if no slice differs."""
        found: list[Part] = []
        for axis, sums in (self._axes or {}).items():
            sqnr = decibels_of_parts(sums.signal, sums.noise, sums.values, self._mean_power)
            sqnr[(sums.values < LEAST_VALUES) | _negligible(sums)] = np.inf
            index = int(sqnr.argmin())
            if sqnr[index] < np.inf:
                found.append(self._slices(axis, index, index, float(sqnr[index])))
        return min(found, key=lambda part: part.sqnr_db or 0.0, default=None)

    def worst_sample(self) -> Part | None:
        """The sample of the lowest SQNR; None if there are no two, or none differs."""
        if not self._samples:
            return None
        signal, noise, values = (np.concatenate(each) for each in zip(*self._samples, strict=True))
        if len(signal) < 2:  # noqa: PLR2004 - one sample is the whole
            return None
        sqnr = decibels_of_parts(signal, noise, values, self._mean_power)
        sqnr[values < LEAST_VALUES] = np.inf
        index = int(sqnr.argmin())
        if sqnr[index] == np.inf:
            return None
        return Part(self._output.name, sample=self._output.sample(index), sqnr_db=float(sqnr[index]), kind="sample")

    def dead(self) -> tuple[list[Part], float]:
        """Find what is constant in the variant and varies in fp32.

        Returns:
            The whole output, or runs of slices along the axis that says most; and the share of the output's values in them.
        """
        edges = (self._ref_low, self._ref_high, self._low, self._high)
        if self.compared < LEAST_VALUES or not all(map(math.isfinite, edges)):
            return [], 0.0
        ref_low, ref_high, low, high = (np.array([edge]) for edge in edges)
        loudest = max(abs(self._ref_low), abs(self._ref_high))
        span = ref_high - ref_low
        if span[0] > loudest * SILENT and is_constant(low, high, span)[0]:
            return [Part(self._output.name, dead=True)], 1.0
        best: tuple[float, int, list[Part]] = (0.0, 0, [])
        axes = self._axes or {}
        smallest = min((size for size in self._sizes() if size > 1), default=0)
        unique = list(self._sizes()).count(smallest) == 1
        for axis, sums in axes.items():
            spans = sums.ref_high - sums.ref_low
            least = loudest * SILENT if unique and sums.size == smallest else span[0] * TELLING_SHARE
            with np.errstate(invalid="ignore"):
                found = (spans > least) & (spans > SILENT * np.maximum(abs(sums.ref_low), abs(sums.ref_high)))
                found &= is_constant(sums.low, sums.high, spans) & (sums.values >= LEAST_VALUES) & ~_negligible(sums)
            parts = [self._slices(axis, *run) for run in runs_of(np.flatnonzero(found).tolist())]
            # The same values seen along two axes: most of them, and in fewer slices.
            best = max(best, (float(found.mean()), -sums.size, parts), key=lambda each: each[:2])
        return [_as_dead(part) for part in best[2]], best[0]

    @property
    def _mean_power(self) -> float:
        return self.signal / self.compared if self.compared else 0.0

    def _sizes(self) -> Iterator[int]:
        """The sizes of the axes of one sample."""
        ref = self._output.pairs[0][0]
        yield from ref.shape[1:] if self._output.batched else ref.shape

    def _slices(self, axis: int, first: int, last: int, sqnr: float | None = None) -> Part:
        return Part(
            self._output.name,
            axis=axis if self._output.batched else axis - 1,
            first=first,
            last=last,
            sqnr_db=sqnr,
            kind="slice",
            noun=noun(self._rank, axis - 1),
        )


def _negligible(sums: AxisSums) -> NDArray[np.bool_]:
    """Classes that are never likely, where the slices are classes of probabilities."""
    return (sums.ref_high < LEAST_PROBABILITY) & sums.distribution


def _as_dead(part: Part) -> Part:
    return Part(part.output, part.axis, part.first, part.last, kind=part.kind, dead=True, noun=part.noun)
