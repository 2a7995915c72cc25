"""How closely a ratio is known: the interval over processes that decides when enough was measured."""

from __future__ import annotations

import math
import statistics
from typing import Any

# With fewer processes there is no interval.
LEAST = 3


def replicates(line: dict[str, Any]) -> list[float]:
    """One number for each rebuild of a visit: the median over pairs of log(first median / second), or of log(median) of a case alone."""
    found = []
    for rebuild in line["rebuilds"]:
        pairs = [pair["medians"] for pair in rebuild["pairs"] if not pair["disturbed"]]
        pairs = pairs or [pair["medians"] for pair in rebuild["pairs"]]
        if all(min(medians) > 0 for medians in pairs):
            found.append(statistics.median(math.log(medians[0] / (medians[1] if len(medians) > 1 else 1)) for medians in pairs))
    return found


def half_width(groups: list[list[float]], quantiles: list[float]) -> float:
    """Half the interval of the mean, over all replicates or over the processes' means, whichever standard error is larger."""
    means = [statistics.fmean(group) for group in groups if group]
    flat = [value for group in groups for value in group]
    if len(means) < LEAST:
        return math.inf
    error, count = max((statistics.stdev(values) / math.sqrt(len(values)), -len(values)) for values in (flat, means))
    return quantiles[min(-count - 1, len(quantiles)) - 1] * error
