"""Histograms of activations, filled sample by sample: the bins of ``HistogramCollector`` and numpy's counts, to the last one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization.calibrate import HistogramCollector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Array = NDArray[Any]


LARGEST = 1e30  # of what is an activation; half of the width of float32's range is 3.4e38


@dataclass(frozen=True)
class Bins:
    """How onnxruntime cuts the range of a tensor into bins.

    Attributes:
        number: of bins.
        absolute: from the smallest to the largest absolute value, as for symmetric percentiles; else from minus the largest
            absolute value to plus it.
    """

    number: int
    absolute: bool


class Histograms:
    """One histogram for each tensor, over all samples.

    The edges are set by the extremes of all samples, so that the result is that of all samples at once, whatever their order,
    with none of them kept.
    """

    def __init__(self, bins: Bins, extremes: Mapping[str, Array]) -> None:
        """Set the edges.

        Args:
            bins: number and kind.
            extremes: for each tensor, the smallest, the largest and the smallest absolute value of all samples, see :func:`extremes_of`.

        Raises:
            ValueError: of numpy, if a tensor's range is too narrow for so many bins.
        """
        self._bins = bins
        collector = HistogramCollector(
            method="percentile",
            symmetric=bins.absolute,
            num_bins=bins.number,
            num_quantized_bins=0,
            percentile=0,
            scenario="",
        )
        # No bins fit a mask of infinities, and no scale would; those tensors have their extremes for a range.
        self.beyond: dict[str, Array] = {name: found for name, found in extremes.items() if _is_beyond(found)}
        collector.collect({name: found for name, found in extremes.items() if name not in self.beyond})
        # Per tensor counts, edges, minimum, maximum and perhaps the threshold, as the collector keeps them.
        self.found: dict[str, tuple[Any, ...]] = {
            name: (np.zeros_like(counts), *rest) for name, (counts, *rest) in collector.histogram_dict.items()
        }

    def add(self, name: str, ordered: Array) -> None:
        """Count a sample's values of a tensor; different tensors may be counted by different threads.

        Args:
            name: of the tensor.
            ordered: from :func:`in_order`.
        """
        if name in self.beyond:
            return
        counts, edges, *rest = self.found[name]
        self.found[name] = (counts + count(ordered, edges, absolute=self._bins.absolute), edges, *rest)


def _is_beyond(extremes: Array) -> bool:
    """Say whether a tensor's values are infinite, or so large that the width of their range is."""
    return bool(extremes.size) and not bool(np.all(np.abs(extremes) < LARGEST))


def extremes_of(values: Array) -> Array:
    """Find what sets the edges of a histogram: the smallest and largest value, and the smallest absolute one.

    Args:
        values: of any shape; none give none.

    Returns:
        Three numbers of the same dtype; those of several arrays can be joined and reduced by this function again.
    """
    if values.size == 0:
        return values.ravel()
    low, high = np.nanmin(values), np.nanmax(values)
    if low >= 0:
        nearest = low
    elif high <= 0:
        nearest = high
    else:
        nearest = np.nanmin(np.abs(values))
    return np.array([low, high, nearest], dtype=values.dtype)


def in_order(values: Array) -> Array:
    """Sort the values of an array of any shape; float16 as float32, for numpy 2.4 leaves some of it out of order (AVX-512)."""
    return np.sort(values.ravel().astype(np.float32, copy=False))


def count(ordered: Array, edges: Array, *, absolute: bool = False) -> NDArray[np.int64]:
    """Count how many values fall into each bin, as ``numpy.histogram`` does for bins of equal width.

    A bin holds its lower edge, the last one both; what lies outside is not counted, nor is NaN. numpy places each value by
    arithmetic and then moves it by at most one bin to where the edges say, so the edges decide; that is a search for each
    edge among sorted values, however many histograms are made of them.

    Args:
        ordered: [values], from :func:`in_order`; NaN last.
        edges: [bins + 1], increasing, as numpy made them.
        absolute: whether to count absolute values.
    """
    last = edges[-1]
    below = np.append(ordered.searchsorted(edges[:-1]), ordered.searchsorted(last, side="right"))
    if absolute:
        mirrored = -edges[::-1]
        above = np.append(ordered.searchsorted(mirrored[0]), ordered.searchsorted(mirrored[1:], side="right"))
        # Nothing lies below an edge at zero, though zeros lie on both sides of it.
        below = np.maximum(below - above[::-1], 0)
    return np.diff(below)
