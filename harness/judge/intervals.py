"""Intervals for levels and ratios, from replicates (rebuilt sessions and launches), never from pooled iterations.

Iterations of one process are alike (medians differ between processes by a few per cent, far more than the iterations of one
process suggest), so each pair of blocks, or each process, gives one value, and the interval is taken over those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95
# With two values, t has one degree of freedom and the interval spans more than it says.
LEAST = 3
# No logarithm of a time comes near it; beyond, or with NaN, sums overflow and nothing is known.
HUGEST = 1e100
# The largest argument of exp().
LARGEST_EXPONENT = 700.0
# The share of the replicates that is left out at each end; fewer than five are all kept.
TRIMMED = 0.2


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: the trimmed geometric mean of the replicates.
        low: the lower end of the 95 % interval; None where too few replicates allow none.
        high: the upper end.
        n: the number of replicates.
        processes: in how many processes they were taken; with each on its own, as many.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    processes: int = 0

    @property
    def half_width(self) -> float | None:
        """Half the interval's width relative to the value; None without an interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2 / self.value

    @property
    def direction(self) -> Literal[-1, 0, 1]:
        """1 if the interval of a ratio lies above 1, -1 if it lies below, 0 if it contains 1."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 1 else -1 if self.high < 1 else 0


def geometric(values: Sequence[float]) -> Estimate | None:
    """Estimate a geometric mean of values that each come from a separate launch; see :func:`grouped`.

    Args:
        values: one above zero from each replicate, such as a block's median in nanoseconds or a round's ratio.

    Returns:
        The estimate in the unit of the values; None for no values, or for one of zero, which a clock too coarse for what it
        timed gives; no interval for fewer than three.
    """
    if not values or min(values) <= 0:
        return None
    return grouped([[math.log(value)] for value in values])


def grouped(groups: Sequence[Sequence[float]], level: float = LEVEL) -> Estimate | None:
    """Estimate a trimmed geometric mean from logarithms, grouped by launch.

    The interval is Student's t about the trimmed mean of the logarithms, with the error and the degrees of freedom of :func:`spread`.

    Args:
        groups: logarithms of ratios or of levels, one list for each process.
        level: of the two-sided interval.

    Returns:
        The estimate; None for no values, or for NaN, infinite and huge ones; no interval for fewer than three processes.
    """
    centre, error, freedom = spread(groups)
    sizes = [len(group) for group in groups if len(group)]
    if not sizes or math.isnan(centre):
        return None
    if error is None:
        return Estimate(_exp(centre), None, None, sum(sizes), len(sizes))
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Estimate(_exp(centre), _exp(centre - reach), _exp(centre + reach), sum(sizes), len(sizes))


def _exp(value: float) -> float:
    return math.exp(value) if value <= LARGEST_EXPONENT else math.inf


def spread(groups: Sequence[Sequence[float]]) -> tuple[float, float | None, int]:
    """The trimmed mean of grouped logarithms, its standard error, and the degrees of freedom.

    The mean leaves out a fifth of the replicates at each end: on a busy machine a few are far off, and the mean of all would follow
    them. Its error comes from the winsorized replicates, in which those left out stand at the ends of the others (Tukey and
    McLaughlin 1963, Sankhya A 25:331; Yuen 1974, Biometrika 61:165).

    Replicates of one process are alike where they share a session's memory, or a spell of a busy neighbour: then the sums of its winsorized
    replicates say so (Liang and Zeger 1986, Biometrika 73:13). Of the two
    errors, over replicates and over processes, the larger counts, with its own degrees of freedom. Over simulated processes that differ
    by 0 to 0.8 of the replicates' spread this covers the truth in 93 to 98 % of cases (tests/judge/test_intervals.py); over replicates
    alone, down to 72 %. The device decides by the same formula (runners/job/precision.py).

    Returns:
        No error for fewer than three processes; a mean of NaN for no values, or for NaN, infinite and huge ones.
    """
    kept = [np.asarray(group, dtype=np.float64) for group in groups if len(group)]
    if not kept:
        return math.nan, None, 0
    flat = np.concatenate(kept)
    if not (np.abs(flat) <= HUGEST).all():
        return math.nan, None, 0
    count, cut = len(flat), int(TRIMMED * len(flat))
    ordered = np.sort(flat)
    centre = float(ordered[cut : count - cut].mean())
    if len(kept) < LEAST:
        return centre, None, 0
    low, high = ordered[cut], ordered[count - 1 - cut]
    if low == high:
        # A clock so coarse that most replicates are the same number: the others must not be taken for nothing.
        low, high, centre, cut = ordered[0], ordered[-1], float(flat.mean()), 0
    left = count - 2 * cut
    winsorized = np.clip(flat, low, high)
    winsorized -= winsorized.mean()
    sums = np.add.reduceat(winsorized, np.cumsum([0, *map(len, kept[:-1])]))
    squares = float((winsorized**2).sum())
    over_replicates = math.sqrt(squares / (left * (left - 1)))
    over_processes = math.sqrt(float((sums**2).sum()) * len(kept) / (len(kept) - 1) * (count - 1) / (count * left * (left - 1)))
    error, freedom = max((over_replicates, 1 - left), (over_processes, 1 - min(left, len(kept))))
    return centre, error, -freedom


def quotient(over: Estimate, under: Estimate) -> Estimate:
    """The ratio of two independent estimates; its interval adds the two in quadrature on the logarithms."""
    value = over.value / under.value
    ends = (over.low, over.high, under.low, under.high)
    if any(end is None or end <= 0 for end in ends):
        return Estimate(value, None, None, min(over.n, under.n))
    reach = math.hypot(*(math.log(each.high / each.low) / 2 for each in (over, under)))  # type: ignore[operator]
    return Estimate(value, value * math.exp(-reach), value * math.exp(reach), min(over.n, under.n))
