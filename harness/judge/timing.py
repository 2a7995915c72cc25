"""Levels and ratios of cases, from the launches of a run.

A ratio comes from launches of two cases, both models in one process; a level from every block of a case, whatever it ran beside. In neither are
iterations pooled: a replicate is a pair of blocks, and processes are the groups.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import TYPE_CHECKING

from harness.judge.intervals import Estimate, geometric, grouped, quotient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness.measure.pairs import Pair
    from harness.records.run import LaunchRecord
    from harness.records.samples import LaunchKey

# A quantile is read off the samples only where enough lie beyond it: one in a process at the least.
NEEDED = {0: 10, 1: 100}


class Timing:
    """The launches of one device.

    Args:
        launches: of any device; those of others are left out.
        quantiles: p90 and p99 of each launch in nanoseconds.
        names: of the cases, by id, for sentences.
    """

    def __init__(
        self,
        device: str,
        launches: Iterable[LaunchRecord],
        quantiles: Mapping[LaunchKey, tuple[float, ...]],
        names: Mapping[str, str],
    ) -> None:
        self._device, self._quantiles, self._names = device, quantiles, names
        self.launches = sorted((found for found in launches if found.device == device), key=lambda found: found.round)

    def _of(self, case: str) -> list[tuple[LaunchRecord, int]]:
        return [(launch, launch.cases.index(case)) for launch in self.launches if case in launch.cases]

    def level(self, case: str) -> Estimate | None:
        """A case's median in milliseconds; None without one, or if the device's clock is too coarse."""
        groups = [_levels(launch, index) for launch, index in self._of(case)]
        found = grouped(groups) if all(groups) else None
        return found and _scaled(found, 1e-6)

    def quantile(self, case: str, index: int) -> Estimate | None:
        """A case's p90 (0) or p99 (1) in milliseconds, over launches; None unless each has enough samples."""
        values = [self.launch_quantile(launch, position, index) for launch, position in self._of(case)]
        known = [value / 1e6 for value in values if value is not None]
        return geometric(known) if len(known) == len(values) else None

    def medians(self, case: str) -> tuple[float, ...]:
        """Each launch's median in milliseconds, in the order of rounds."""
        found = [_levels(launch, index) for launch, index in self._of(case)]
        return tuple(math.exp(statistics.median(levels)) / 1e6 for levels in found if levels)

    def ratio(self, pair: Pair) -> Estimate | None:
        """How many times the first case's latency is the second's; 2 means that the second is twice as fast."""
        groups = self.groups(pair)
        return grouped(groups) if groups and all(groups) else None

    def groups(self, pair: Pair) -> list[list[float]]:
        """The logarithms of the first case's latency over the second's: one for each pair of blocks, one list for each process.

        A list is empty where a clock was too coarse to tell. Of a pair in separate processes: one number for each round that both took part in.
        """
        shared = [launch for launch in self.launches if launch.cases == pair]
        # A pair whose process died goes on in processes that alternate; then those count alone, as for the device.
        if shared and not any(launch.separate_processes == pair for launch in self.launches):
            return [[one - other for rebuild in launch.rebuilds for one, other in rebuild.log_medians()] for launch in shared]
        return self._groups_of_separate_processes(pair)

    def _groups_of_separate_processes(self, pair: Pair) -> list[list[float]]:
        levels: dict[str, dict[int, float | None]] = {name: {} for name in pair}
        for launch in self.launches:
            if len(launch.cases) == 1 and launch.cases[0] in levels and launch.separate_processes in {None, pair}:
                found = _levels(launch, 0)
                levels[launch.cases[0]][launch.round] = statistics.median(found) if found else None
        one, other = (levels[name] for name in pair)
        pairs = [(one[number], other[number]) for number in sorted(one) if number in other]
        return [[] if first is None or second is None else [first - second] for first, second in pairs]

    def launches_of(self, pair: Pair) -> list[LaunchRecord]:
        """The launches that measured a pair side by side."""
        return [launch for launch in self.launches if launch.cases == pair]

    def launch_quantile(self, launch: LaunchRecord, position: int, index: int) -> float | None:
        """A launch's p90 (0) or p99 (1) of one of its cases in nanoseconds; None with too few samples above it."""
        other = launch.beside(position)
        found = self._quantiles.get((self._device, launch.cases[position], other, launch.round))
        return None if found is None or launch.iterations[position] < NEEDED[index] else found[index]

    def conflict(self, pair: Pair, ratio: Estimate | None) -> str | None:
        """A note if the ratio side by side and the ratio of the levels differ by more than their intervals."""
        levels = [self.level(name) for name in pair]
        if ratio is None or ratio.low is None or ratio.high is None or any(level is None for level in levels):
            return None
        of_levels = quotient(levels[0], levels[1])  # type: ignore[arg-type]
        if of_levels.low is None or of_levels.high is None or (of_levels.low <= ratio.high and ratio.low <= of_levels.high):
            return None
        return (
            f"speed-up side by side {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}], but the ratio of the medians is "
            f"{of_levels.value:.3f} [{of_levels.low:.3f}, {of_levels.high:.3f}]: the model's speed depends on what runs beside it"
        )

    def disturbances(self) -> list[str]:
        """Say how many blocks were disturbed and by what."""
        pairs = [pair for launch in self.launches for rebuild in launch.rebuilds for pair in rebuild.pairs]
        causes = Counter(cause for pair in pairs for cause in pair.disturbed)
        disturbed = sum(bool(pair.disturbed) for pair in pairs)
        kept = sum(bool(pair.disturbed) and pair.used for pair in pairs)
        if not causes:
            return []
        words = ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
        count = f"All {len(pairs)}" if disturbed == len(pairs) else f"{disturbed} of {len(pairs)}"
        told = f"{count} pairs of blocks were disturbed ({words})"
        if not kept:
            return [f"{told} and are left out"]
        if kept == disturbed:
            return [f"{told}; all of these count, because no undisturbed one was left in their rebuild"]
        return [
            f"{told}; {disturbed - kept} are left out, and {kept} count, because no undisturbed one was left in their rebuild"
        ]

    def unsteady(self) -> list[str]:
        """Name the cases that were still warming up when they were measured."""
        late = Counter(
            self._names[name]
            for launch in self.launches
            for rebuild in launch.rebuilds
            for name, steady in zip(launch.cases, rebuild.steady, strict=True)
            if not steady
        )
        total = Counter(self._names[name] for launch in self.launches for _ in launch.rebuilds for name in launch.cases)
        # On a noisy machine one in some misses the rule by chance.
        often = [f"{name} ({count} of {total[name]})" for name, count in late.items() if 2 * count > total[name]]
        return [f"still warming up after measure.warmup: {', '.join(often)}"] if often else []


def _levels(launch: LaunchRecord, index: int) -> list[float]:
    """Logarithms of nanoseconds, one for each block that counts."""
    return [pair[index] for rebuild in launch.rebuilds for pair in rebuild.log_medians()]


def _scaled(found: Estimate, factor: float) -> Estimate:
    low, high = (None if end is None else end * factor for end in (found.low, found.high))
    return Estimate(found.value * factor, low, high, found.n, found.processes)


def inverse(found: Estimate) -> Estimate:
    """The ratio the other way round."""
    low, high = (None if end is None else 1 / end for end in (found.high, found.low))
    return Estimate(1 / found.value, low, high, found.n, found.processes)


def throughputs(records: Iterable[tuple[int, float]]) -> tuple[tuple[int, Estimate], ...]:
    """Inferences per second by number of sessions, over processes."""
    by_sessions: dict[int, list[float]] = {}
    for sessions, per_second in records:
        by_sessions.setdefault(sessions, []).append(per_second)
    found = [(sessions, geometric(values)) for sessions, values in sorted(by_sessions.items())]
    return tuple((sessions, estimate) for sessions, estimate in found if estimate is not None)
