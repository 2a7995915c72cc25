"""Slices of an output along its small axes: which is the farthest from the reference's, and which are dead."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.quantize.verify.chunk import Range
from harness.quantize.verify.divergence import is_distribution
from harness.quantize.verify.parts import Part, noun, runs_of
from harness.quantize.verify.sums import SILENT, decibels_of_parts

if TYPE_CHECKING:
    from harness.quantize.verify.chunk import Chunk
    from harness.quantize.verify.sums import Mask

SMALL_AXIS = 256  # slices; more are positions rather than kinds of things
# Fewer values are constant, or near zero, by chance.
LEAST_VALUES = 4
# As many hardly ever are: that they are constant is told however little they vary in the reference.
MANY_VALUES = 16
# Of classes whose probabilities add up to 1, those that never reach this one decide nothing.
LEAST_PROBABILITY = 0.01
# A dead slice of positions, such as a row of a heat map, counts if it varies by this share of the output's range.
TELLING_SHARE = 0.01
FEW = 100  # rows or columns; a table of which both sides are longer is a map
# Of a vector with more entries than a small axis has, dead ones are told if they are at least this share.
VECTOR_SHARE = 0.05
POSITIONS = 1 << 18  # values of one sample whose ranges over all samples are kept


class AxisSums:
    """Sums for each slice along one axis, over all samples and other axes.

    Attributes:
        signal: Σ ref² of each slice, float64 [slices].
        noise: Σ (ref - x)² likewise.
        values: how many values of each slice are finite on both sides.
        range: of these values.
        distribution: the reference's values are probabilities along this axis.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.signal, self.noise = np.zeros(size), np.zeros(size)
        self.values = np.zeros(size, np.int64)
        self.range = Range.empty((size,))
        self.distribution = True

    @property
    def telling(self) -> Mask:
        """Slices with enough values; among classes of probabilities those that are likely at times."""
        return (self.values >= LEAST_VALUES) & ~((self.range.ref_high < LEAST_PROBABILITY) & self.distribution)


class Slices:
    """What is known of the slices of one output. Axes count in [samples, …] here, and in the output's own shape in parts."""

    def __init__(self, output: str, *, batched: bool) -> None:
        self._output, self._batched = output, batched
        self._shape: tuple[int, ...] | None = None
        self._axes: dict[int, AxisSums] = {}
        self._positions: Range | None = None
        self._samples = 0

    def add(self, chunk: Chunk, ranges: Range) -> None:
        """Add samples, and the ranges of their values over these samples."""
        shape = chunk.ref.shape[1:]
        if self._shape is None:
            size = math.prod(shape)
            is_vector = size == max(shape, default=0) <= POSITIONS
            self._axes = {
                axis: AxisSums(size) for axis, size in enumerate(shape, 1) if size > 1 and (size <= SMALL_AXIS or is_vector)
            }
            self._positions = Range.empty(shape) if 1 < size <= POSITIONS else None
            self._shape = shape
        if shape != self._shape:
            self._positions = None
            # The slices of an axis whose size changes are not the same things in all feeds.
            same = len(shape) == len(self._shape)
            self._axes = {axis: sums for axis, sums in self._axes.items() if same and shape[axis - 1] == sums.size}
        self._samples += len(chunk.ref)
        signal, noise = (each[0] if len(each) == 1 else each.sum(axis=0) for each in (chunk.signal, chunk.noise))
        values = None if chunk.comparable is None else chunk.comparable.sum(axis=0)
        if self._positions is not None:
            self._positions.widen(ranges)
        for axis, sums in self._axes.items():
            others = self._others(axis)
            sums.signal += signal.sum(axis=others)
            sums.noise += noise.sum(axis=others)
            sums.values += chunk.ref.size // sums.size if values is None else values.sum(axis=others)
            sums.range.widen(ranges, others)
            sums.distribution = sums.distribution and values is None and is_distribution(chunk.ref, axis)

    def worst(self, power: float) -> Part | None:
        """Find the slice of the lowest SQNR; None if no slice differs.

        Args:
            power: mean of ref² over the whole output.
        """
        found: list[tuple[float, Part]] = []
        for axis, sums in self._axes.items():
            if sums.size > SMALL_AXIS:
                continue
            constant = ~sums.range.lost(0.0)[0]
            sqnr = decibels_of_parts(sums.signal, sums.noise, sums.values, power, constant)
            sqnr[~sums.telling] = np.inf
            index = int(sqnr.argmin())
            if sqnr[index] < np.inf:
                found.append((float(sqnr[index]), replace(self._part(axis, index, index), sqnr_db=float(sqnr[index]))))
        return min(found, key=lambda each: each[0])[1] if found else None

    def dead(self, loudest: float, span: float) -> tuple[list[Part], float]:
        """Find slices that are constant in the variant, over all samples and positions or over all samples, and vary in the reference.

        The same values are seen along each axis. The axis that says most is the one along which most are dead, in fewest slices.

        Args:
            loudest: largest absolute value of the output in the reference.
            span: range of the output's values in the reference.

        Returns:
            Runs of slices, and the share of the output's values in them.
        """
        if self._is_fixed(loudest * SILENT):
            return [Part(self._output, dead=True, fixed=True)], 1.0
        best: tuple[float, int, list[Part]] = (0.0, 0, [])
        kinds = kind_axes(self._shape or ())
        for axis, sums in self._axes.items():
            by_kind = axis - 1 in kinds
            least = np.where(by_kind & (sums.values >= MANY_VALUES), loudest * SILENT, span * TELLING_SHARE)
            varies, constant = sums.range.lost(least)
            dead = varies & constant & sums.telling
            fixed = self._fixed(axis, loudest * SILENT if by_kind else span * TELLING_SHARE) & sums.telling & ~dead
            if sums.size > SMALL_AXIS and (dead | fixed).mean() < VECTOR_SHARE:
                continue
            parts = [
                replace(self._part(axis, *run), dead=True, fixed=mask is fixed)
                for mask in (dead, fixed)
                for run in runs_of(np.flatnonzero(mask).tolist())
            ]
            best = max(best, (float((dead | fixed).mean()), -sums.size, parts), key=lambda each: each[:2])
        return best[2], best[0]

    def _fixed(self, axis: int, least: float) -> Mask:
        """Slices of which no value changes from sample to sample in the variant, while most values do in the reference."""
        if self._positions is None or self._samples < LEAST_VALUES:
            return np.zeros(self._axes[axis].size, bool)
        varies, constant = self._positions.lost(least)
        others = self._others(axis)
        return np.asarray((varies.mean(axis=others) > 1 / 2) & constant.all(axis=others))

    def _is_fixed(self, least: float) -> bool:
        """The same of the whole output."""
        if self._positions is None or self._samples < LEAST_VALUES:
            return False
        varies, constant = self._positions.lost(least)
        return bool(varies.mean() > 1 / 2 and constant.all())

    def _others(self, axis: int) -> tuple[int, ...]:
        return tuple(each for each in range(len(self._shape or ())) if each != axis - 1)

    def _part(self, axis: int, first: int, last: int) -> Part:
        own = axis if self._batched else axis - 1
        return Part(self._output, axis=own, first=first, last=last, kind="slice", noun=noun(len(self._shape or ()), axis - 1))


def kind_axes(shape: tuple[int, ...]) -> frozenset[int]:
    """Tell along which axes of one sample the slices are kinds of things, such as classes and coordinates, rather than positions.

    Two axes of the same size beside each other are the height and the width of a map. Of other shapes it is the first axis, as the
    channels of [channels, height, width], and the last one where it is the shortest; of two axes both, unless both are long.
    """
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    sizes = [shape[axis] for axis in axes]
    if len(axes) < 2:  # noqa: PLR2004 - a vector
        return frozenset(axes)
    if len(axes) == 2:  # noqa: PLR2004 - a table
        if min(sizes) <= FEW:
            return frozenset(axes)
        return frozenset() if sizes[0] == sizes[1] else frozenset({axes[sizes.index(min(sizes))]})
    maps = {place for at in range(len(sizes) - 1) if sizes[at] == sizes[at + 1] for place in (at, at + 1)}
    if maps and len(maps) < len(axes):
        return frozenset(axis for place, axis in enumerate(axes) if place not in maps)
    return frozenset({axes[0], *([axes[-1]] if sizes[-1] == min(sizes) else [])})
