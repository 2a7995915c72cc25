"""Counts of instructions, with the observed spread instead of an interval.

An instruction count has no noise to speak of: what differs between processes is memory placement and the interpreter around the
model. So its uncertainty is stated as it was seen, largest minus smallest, and no distribution is assumed.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

MILLION = 1e6


@dataclass(frozen=True)
class Count:
    """A count per inference.

    Attributes:
        value: millions: the median over processes of each process's smallest iteration; what interrupts a process only adds.
        spread: largest minus smallest process, over the value; None for a single process.
        n: the number of processes.
    """

    value: float
    spread: float | None
    n: int


def count(values: Sequence[float]) -> Count | None:
    """Summarize the counts of several launches.

    Args:
        values: each process's smallest count per inference.

    Returns:
        The count in millions; None for no values.
    """
    if not values:
        return None
    centre = statistics.median(values)
    spread = (max(values) - min(values)) / centre if len(values) > 1 and centre > 0 else None
    return Count(centre / MILLION, spread, len(values))
