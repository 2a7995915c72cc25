"""Decide after each launch whether a candidate is slower than its baseline by more than the limit.

Looking again and again until something is significant finds something: so each look asks for more than a single test would. Three
answers: slower by more than the limit, not slower by the limit, or not known yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from harness.judge.intervals import Estimate, grouped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.study.claims_and_gate import Metric

Verdict = Literal["slower", "passed", "open"]
# One-sided, per look; over all looks, about 1 % of the candidates that are slower by exactly the limit are called slower (docs/validity.md).
CONFIDENCE = 0.9975
# As far as the interval that each look takes: two-sided 99.5 %.
LEVEL = 2 * CONFIDENCE - 1
FIRST_LOOK = 3
# A percentile, or the time to load, gives one value for each launch where a median gives several: it takes more of them.
TAIL_LOOK = 12


@dataclass(frozen=True)
class Decision:
    """The state of a decision after some launches.

    Attributes:
        verdict: ``slower``: by more than the limit; ``passed``: by less; ``open``.
        slowdown: the candidate's latency over the baseline's, with the interval of the looks, two-sided 99.5 %; no interval for fewer
            than three processes, None for none.
        processes: how many it took.
    """

    verdict: Verdict
    slowdown: Estimate | None
    processes: int


def first_look(metric: Metric) -> int:
    """How many launches a metric takes before it is looked at."""
    return FIRST_LOOK if metric == "latency.median" else TAIL_LOOK


def side(low: float, high: float, limit: float) -> Verdict:
    """Say on which side of a limit the ratio of candidate over baseline lies.

    Args:
        low: the lower end of its interval, or the smallest ratio that was seen.
        high: the upper end, or the largest.
        limit: the increase that is allowed, such as 0.03 for 3 %.
    """
    if low > 1 + limit:
        return "slower"
    return "passed" if high <= 1 + limit else "open"


def look(groups: Sequence[Sequence[float]], limit: float, least: int = FIRST_LOOK) -> Decision:
    """Decide from the launches so far.

    Args:
        groups: the logarithms of candidate over baseline, one for each pair of blocks, one list for each process.
        limit: the slowdown that is allowed, such as 0.03 for 3 %.
        least: fewer launches decide nothing.
    """
    found = grouped(groups, LEVEL)
    if found is None or found.low is None or found.high is None or len(groups) < least:
        return Decision("open", found, len(groups))
    return Decision(side(found.low, found.high, limit), found, len(groups))


def decide(groups: Sequence[Sequence[float]], limit: float) -> Decision:
    """Decide after each launch from the third on; the first verdict counts.

    The rule is that of sequential tests with a constant boundary (Pocock 1977, Biometrika 64:191), against the limit from both
    sides (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657).
    """
    decision = Decision("open", None, 0)
    for count in range(min(FIRST_LOOK, len(groups)), len(groups) + 1):
        decision = look(groups[:count], limit)
        if decision.verdict != "open":
            break
    return decision


def smallest_effect(found: Estimate | None) -> float | None:
    """The smallest slowdown that an open decision could have detected: half the width of its interval, as a share."""
    if found is None or found.low is None or found.high is None:
        return None
    return math.sqrt(found.high / found.low) - 1
