"""Intervals for levels and ratios, from replicates that are processes, never from pooled iterations.

Iterations of one process are alike (their medians differ between processes by a few per cent, far more than the iterations of one
process suggest), so each process's block gives one value and Student's t is taken over those.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

LEVEL = 0.95
# With two values, t has one degree of freedom and the interval spans more than it says.
LEAST = 3


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: the geometric mean of the replicates.
        low: the lower end of the 95 % interval; None where too few replicates allow none.
        high: the upper end.
        n: the number of replicates.
    """

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the interval's width relative to the value; None where there is no interval."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2 / self.value


def geometric(values: Sequence[float]) -> Estimate | None:
    """Estimate the geometric mean with Student's t on the logarithms (ISO 16269; Kirkwood 1979, Biometrics 35:908).

    Args:
        values: one above zero from each replicate, such as a block's median in nanoseconds or a round's ratio.

    Returns:
        The estimate in the unit of the values; None for no values, or for one of zero, which a clock too coarse for what it
        timed gives; no interval for fewer than three.
    """
    if not values or min(values) <= 0:
        return None
    logs = np.log(np.asarray(values, dtype=np.float64))
    centre = float(logs.mean())
    if len(values) < LEAST:
        return Estimate(math.exp(centre), None, None, len(values))
    error = float(logs.std(ddof=1)) / math.sqrt(len(values))
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * error
    return Estimate(math.exp(centre), math.exp(centre - reach), math.exp(centre + reach), len(values))
