"""Where the middle of replicates is, how much each of them moves it, and how far off it may be: the parts of the candidates of estimators.py.

A middle gives its value, the influence of each replicate (Hampel 1974), and the degrees of freedom that are left. An error is made of influences: over replicates,
over processes, or of both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable

    Middle = Callable[[np.ndarray], tuple[float, np.ndarray, float]]

# Huber's and Tukey's constants, with 95 % of the mean's efficiency on a normal distribution; when an iteration has ended.
K, C, CLOSE = 1.345, 4.685, 1e-9


def mean(values: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The mean."""
    return float(values.mean()), values - values.mean(), len(values) - 1


def trimmed(share: float) -> Middle:
    """The mean without that share at each end (Tukey and McLaughlin 1963)."""

    def middle(values: np.ndarray) -> tuple[float, np.ndarray, float]:
        cut = int(share * len(values))
        ordered = np.sort(values)
        low, high = ordered[cut], ordered[len(values) - 1 - cut]
        kept = np.clip(values, low, high)
        left = len(values) - 2 * cut
        # So that the error over replicates is Yuen's (1974): the root of the winsorized squares over left * (left - 1).
        return (
            float(ordered[cut : len(values) - cut].mean()),
            (kept - kept.mean()) * math.sqrt(len(values) * (len(values) - 1) / left / (left - 1)),
            left - 1,
        )

    return middle


def m_estimate(
    weight: Callable[[np.ndarray], np.ndarray], psi: Callable[[np.ndarray], np.ndarray], slope: Callable[[np.ndarray], np.ndarray]
) -> Middle:
    """An M-estimate of location with the median absolute deviation as scale, by reweighting (Huber 1964)."""

    def middle(values: np.ndarray) -> tuple[float, np.ndarray, float]:
        centre = float(np.median(values))
        scale = float(np.median(np.abs(values - centre))) / 0.6745 or 1e-12
        for _ in range(30):
            weights = weight((values - centre) / scale)
            moved = float((weights * values).sum() / weights.sum())
            if abs(moved - centre) < CLOSE:
                break
            centre = moved
        standard = (values - centre) / scale
        flat = max(float(slope(standard).mean()), 0.2)
        return centre, scale * psi(standard) / flat, len(values) - 1

    return middle


huber = m_estimate(
    lambda u: np.minimum(1, K / np.maximum(np.abs(u), 1e-12)),
    lambda u: np.clip(u, -K, K),
    lambda u: (np.abs(u) <= K).astype(float),
)
tukey = m_estimate(
    lambda u: np.where(np.abs(u) < C, (1 - (u / C) ** 2) ** 2, 0),
    lambda u: np.where(np.abs(u) < C, u * (1 - (u / C) ** 2) ** 2, 0),
    lambda u: np.where(np.abs(u) < C, (1 - (u / C) ** 2) * (1 - 5 * (u / C) ** 2), 0),
)


def hodges_lehmann(values: np.ndarray) -> tuple[float, np.ndarray, float]:
    """The median of the means of two (Hodges and Lehmann 1963); its influence by ranks."""
    rows, columns = np.triu_indices(len(values))
    walsh = (values[rows] + values[columns]) / 2
    centre = float(np.median(walsh))
    # 1/2 - F(2c - x) over half the density of the means at the centre, by a difference quotient.
    ranks = np.searchsorted(np.sort(values), 2 * centre - values, side="right") / len(values)
    reach = max(1.5 * float(np.subtract(*np.percentile(walsh, [75, 25]))) / len(walsh) ** 0.2, 1e-12)
    density = max(float((np.abs(walsh - centre) < reach).mean()) / (2 * reach), 1e-9)
    return centre, 2 * (0.5 - ranks) / density, len(values) - 1


# From influences to an error.


def over_replicates(parts: np.ndarray, _groups: np.ndarray, freedom: float) -> tuple[float, float]:
    """As if all replicates were alike."""
    return math.sqrt(float((parts**2).sum()) / (len(parts) - 1) / len(parts)), freedom


def over_processes(parts: np.ndarray, groups: np.ndarray, _freedom: float) -> tuple[float, float]:
    """Robust to replicates of one process that are alike (Liang and Zeger 1986, with the factor K / (K - 1))."""
    sums = np.bincount(groups, weights=parts)
    count = len(sums)
    return math.sqrt(float((sums**2).sum()) * count / (count - 1)) / len(parts), count - 1


def larger(parts: np.ndarray, groups: np.ndarray, freedom: float) -> tuple[float, float]:
    """The larger error of the two, as today."""
    return max(over_replicates(parts, groups, freedom), over_processes(parts, groups, freedom))


def _mean_squares(parts: np.ndarray, groups: np.ndarray) -> tuple[float, float, int]:
    """Of an analysis of variance: the mean squares within and between processes, and how many processes there are."""
    count = int(groups.max()) + 1
    sizes = np.bincount(groups)
    each = np.bincount(groups, weights=parts) / sizes
    within = float(((parts - each[groups]) ** 2).sum()) / max(len(parts) - count, 1)
    return within, float((sizes * each**2).sum()) / (count - 1), count


def components(parts: np.ndarray, groups: np.ndarray, freedom: float) -> tuple[float, float]:
    """Variance components: what processes add beyond their replicates, with Satterthwaite's degrees of freedom; nothing if less than none."""
    within, between, count = _mean_squares(parts, groups)
    if between <= within:
        return over_replicates(parts, groups, freedom)
    return math.sqrt(between / len(parts)), count - 1


def blended(parts: np.ndarray, groups: np.ndarray, freedom: float) -> tuple[float, float]:
    """Over processes where they differ beyond chance (F test at 10 %), else over replicates."""
    within, between, count = _mean_squares(parts, groups)
    if within <= 0 or between / within > stats.f.ppf(0.9, count - 1, max(len(parts) - count, 1)):
        return over_processes(parts, groups, freedom)
    return over_replicates(parts, groups, freedom)


MIDDLES: dict[str, Middle] = {
    "mean": mean, "trimmed 10": trimmed(0.1), "trimmed 20": trimmed(0.2), "trimmed 25": trimmed(0.25), "trimmed 35": trimmed(0.35),
    "huber": huber, "tukey": tukey, "hodges-lehmann": hodges_lehmann,
}  # fmt: skip
ERRORS = {
    "larger": larger,
    "replicates": over_replicates,
    "processes": over_processes,
    "components": components,
    "F test": blended,
}
