"""How precisely a ratio is known: the interval that decides when enough was measured."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol_runner import LaunchResult

# With fewer processes there is no interval.
LEAST = 3
# The share of the replicates that is left out at each end.
TRIMMED = 0.2
# Beyond this, or with NaN, sums overflow and nothing is known.
HUGEST = 1e100


def replicates(line: LaunchResult) -> list[float]:
    """One number for each pair of blocks of a launch that counts: log(first median / second), or log(median) of a case alone."""
    found = []
    for rebuild in line["rebuilds"]:
        pairs = [pair["medians"] for pair in rebuild["pairs"] if not pair["disturbed"]]
        pairs = pairs or [pair["medians"] for pair in rebuild["pairs"]]
        if all(min(medians) > 0 for medians in pairs):
            found += [math.log(medians[0] / (medians[1] if len(medians) > 1 else 1)) for medians in pairs]
    return found


def half_width(groups: list[list[float]], quantiles: list[float]) -> float:
    """Half the interval about the trimmed mean; quantiles are Student's t for 1, 2, … degrees of freedom."""
    _, error, freedom = spread(groups)
    return math.inf if error is None else quantiles[min(freedom, len(quantiles)) - 1] * error


def spread(groups: list[list[float]]) -> tuple[float, float | None, int]:
    """The trimmed mean of grouped replicates, its standard error and degrees of freedom: the formula of harness/judge/intervals.py."""
    kept = [group for group in groups if group]
    ordered = sorted(value for group in kept for value in group)
    if not ordered or not all(abs(value) <= HUGEST for value in ordered):
        return math.nan, None, 0
    count, cut = len(ordered), int(TRIMMED * len(ordered))
    centre = statistics.fmean(ordered[cut : count - cut])
    if len(kept) < LEAST:
        return centre, None, 0
    low, high = ordered[cut], ordered[count - 1 - cut]
    if low == high:
        low, high, centre, cut = ordered[0], ordered[-1], statistics.fmean(ordered), 0
    left = count - 2 * cut
    clipped = [[min(max(value, low), high) for value in group] for group in kept]
    middle = statistics.fmean(value for group in clipped for value in group)
    squares = math.fsum((value - middle) ** 2 for group in clipped for value in group)
    sums = math.fsum(math.fsum(value - middle for value in group) ** 2 for group in clipped)
    over_replicates = math.sqrt(squares / (left * (left - 1)))
    over_processes = math.sqrt(sums * len(kept) / (len(kept) - 1) * (count - 1) / (count * left * (left - 1)))
    error, freedom = max((over_replicates, 1 - left), (over_processes, 1 - min(left, len(kept))))
    return centre, error, -freedom
